import pytest

from gateway.routing.tokens import (
    IMAGE_TOKENS,
    MESSAGE_TOKENS,
    PIECE,
    PIECES,
    PROMPT_TOKENS,
    estimate_messages,
    estimate_text,
    estimate_texts,
)

# What the vocabularies named in gateway/routing/tokens.py make of a text, the median of six (2026-11).
COUNTED = {
    "The gateway knows which provider is healthy and has quota left, sends each request there, and moves on to the next when one "
    "fails, so that the caller sees one reliable API.": 36,
    'for name, value in settings.items():\n    if value is None:\n        raise ValueError(f"{name} must be set")\n    '
    "result[name.upper()] = int(value)\n": 35,
    '{"id": 17, "user": {"name": "Ana", "email": "ana@example.com"}, "tags": ["red", "green"], "score": 4.25}': 40,
    "2026-11-25T13:12:08.114Z INFO [worker-3] GET /v1/models/17 200 51ms\n" * 10: 340,
    "17,23.2900,289\n18,24.6600,324\n" * 10: 180,
    "b3c1f0e2-5a94-4b7e-9d36-0f8a7c21e4d5 " * 10: 331,
    "qT3xZk9LwB0vYh7RfJ2mNcP8sUe5GdA1" * 10: 320,
    "        return value\n" * 20: 80,
    "La libertad, la justicia y la paz en el mundo tienen por base el reconocimiento de la dignidad de todos los miembros de la "
    "familia humana.": 30,
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i sumieniem.": 40,
    "Люди рождаются свободными и равными в достоинстве и правах, наделены разумом и совестью.": 30,
    "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا": 27,
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।": 36,
    "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。": 37,
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。": 28,
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.": 24,
    "Great job 🎉🎉 see you tomorrow 👍 that is so funny 😂😂😂": 21,
}


@pytest.mark.parametrize("text", COUNTED, ids=lambda text: text[:20])
def test_a_text_is_estimated_near_what_tokenizers_make_of_it(text):
    assert estimate_text(text) == pytest.approx(COUNTED[text], rel=0.25)


def test_digits_are_estimated_between_those_that_count_each_and_those_that_count_three_as_one():
    assert 107 < estimate_text("31415926535897932384626433832795" * 10) < 320


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), (" ", 1), ("  ", 1), (".." * 5, 5), ("AA" * 5, 2), ("ạ" * 10, 2), ("\ud83d", 1)]
)
def test_nothing_is_less_than_nothing(text, tokens):
    assert estimate_text(text) == tokens


def test_a_long_text_is_estimated_from_pieces_of_all_of_it():
    prose, table = "The boat sails far out on the sea. " * 2000, "17,23.2900,289\n" * 9000
    assert len(prose) > PIECES * PIECE
    together = estimate_text(prose + table)
    in_parts = sum(estimate_text(text[at : at + 1000]) for text in (prose, table) for at in range(0, len(text), 1000))
    assert together == pytest.approx(in_parts, rel=0.03)


def test_no_more_of_a_text_is_read_than_tells_of_it():
    class Watched(str):
        read = 0

        def __getitem__(self, key):
            piece = super().__getitem__(key)
            Watched.read += len(piece)
            return piece

    assert estimate_text(Watched("word " * 2_000_000)) > 1_000_000 and 0 < Watched.read <= PIECES * PIECE


def test_texts_have_together_what_they_have_one_by_one():
    texts = [f"Number {n} of the texts that somebody wants to embed." for n in range(500)]
    assert estimate_texts(texts) == pytest.approx(sum(map(estimate_text, texts)), rel=0.1)
    assert estimate_texts(["a"] * 500) >= 500 and estimate_texts([]) == 0


def test_code_is_denser_than_prose_of_the_same_length():
    assert estimate_text("f(x)[0]={a:b};" * 50) > 1.5 * estimate_text("once more upon" * 50)


def test_each_message_adds_what_surrounds_it():
    one = estimate_messages([{"role": "user", "content": ""}])
    three = estimate_messages([{"role": "user", "content": ""}] * 3)
    assert (one, three) == (PROMPT_TOKENS + MESSAGE_TOKENS + 0, PROMPT_TOKENS + 3 * MESSAGE_TOKENS + 1)


def test_an_image_counts_by_its_number_and_not_by_its_bytes():
    def with_image(url):
        image = {"type": "image_url", "image_url": {"url": url}}
        return estimate_messages([{"role": "user", "content": [{"type": "text", "text": "what is it"}, image]}])

    small, large = with_image("data:image/png;base64,AAAA"), with_image("data:image/png;base64," + "A" * 1_000_000)
    assert small == large
    assert IMAGE_TOKENS <= small <= IMAGE_TOKENS + 20


def test_tool_calls_and_definitions_count():
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}' * 20}}
    tool = {"type": "function", "function": {"name": "weather", "description": "Tell the weather. " * 20}}
    plain = [{"role": "assistant", "content": None}]
    assert estimate_messages([{"role": "assistant", "content": None, "tool_calls": [call]}]) > estimate_messages(plain) + 100
    assert estimate_messages(plain, [tool]) > estimate_messages(plain) + 80
