import pytest

from gateway.routing.tokens import IMAGE_TOKENS, MESSAGE_TOKENS, PROMPT_TOKENS, estimate_messages, estimate_text


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("a", 1, 1),
        ("The quick brown fox jumps over the lazy dog and runs away from the hunter", 15, 22),
        ('{"name": "value", "size": 12, "tags": ["a", "b"]}', 18, 36),
        ("for i in range(10):\n    print(i)\n", 9, 16),
        ("今天天气很好我们去公园散步吧" * 10, 100, 140),
        ("Съешь ещё этих мягких французских булок" * 10, 120, 230),
        ("😀" * 10, 10, 30),
        ("\ud83d lone surrogate", 4, 8),
        ("2026-11-25T13:12:08.114Z INFO [worker-3] GET /v1/models/17 200 51ms\n" * 10, 300, 380),  # o200k: 340
        ("17,23.2900,289\n18,24.6600,324\n" * 10, 150, 220),  # o200k: 180
        ("b3c1f0e2-5a94-4b7e-9d36-0f8a7c21e4d5 " * 10, 150, 350),  # o200k: 331
        ("qT3xZk9LwB0vYh7RfJ2mNcP8sUe5GdA1" * 10, 140, 320),  # o200k: 300
    ],
)
def test_a_text_is_estimated_near_what_tokenizers_make_of_it(text, least, most):
    assert least <= estimate_text(text) <= most


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
