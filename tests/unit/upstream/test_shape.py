import pytest

from gateway.upstream.shape import ChunkShaper, ThoughtSplitter, is_empty_stop, read_usage, repair_completion


def shaper(**options):
    return ChunkShaper(**{"model": "m", "splits_thoughts": False, **options})


def chunk(delta=None, finish=None, **fields):
    return {
        "id": "c1",
        "created": 5,
        "model": "up",
        "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}],
        **fields,
    }


def run(*raws, include_usage=False, **options):
    shaping = shaper(**options)
    sent = [shaped for raw in raws for shaped in shaping.feed(raw)]
    return sent + shaping.finish({"provider": "p"}, include_usage=include_usage, prompt_tokens=8)


def deltas(chunks):
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


def test_the_role_stands_once_in_the_first_delta_with_content():
    repeated = {"role": "assistant", "content": ""}
    chunks = run(
        chunk(repeated), chunk({**repeated, "content": "Hi"}), chunk({**repeated, "content": "!"}), chunk(repeated, "stop")
    )
    assert deltas(chunks) == [{"role": "assistant", "content": "Hi"}, {"content": "!"}, {}]


def test_every_chunk_has_the_head_of_the_first():
    chunks = run({"choices": [{"delta": {"content": "a"}}]}, chunk({"content": "b"}, "stop", id="other", model="other"))
    assert len({part["id"] for part in chunks}) == 1
    for part in chunks:
        assert part["object"] == "chat.completion.chunk" and part["model"] == "m" and part["created"] > 0
        assert [choice["index"] for choice in part["choices"]] == [0]


def test_a_finish_reason_comes_once_at_the_end_with_x_gateway():
    chunks = run(chunk({"content": "a"}, "stop"), chunk({"content": "b"}), chunk({}, "length"))
    assert [choice["finish_reason"] for part in chunks for choice in part["choices"]] == [None, None, "length"]
    assert [part.get("x_gateway") for part in chunks] == [None, None, {"provider": "p"}]


def test_a_null_finish_reason_does_not_undo_an_earlier_one():
    assert run(chunk({"content": "a"}), chunk({}, "stop"), chunk({}, None))[-1]["choices"][0]["finish_reason"] == "stop"


USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@pytest.mark.parametrize(
    "raw",
    [chunk({}, "stop", usage=USAGE), chunk({}, "stop", x_groq={"usage": USAGE}), {"choices": [], "usage": USAGE}],
    ids=["with the finish", "in x_groq", "of its own"],
)
def test_usage_is_moved_to_one_last_chunk_where_it_was_asked_for(raw):
    chunks = run(chunk({"content": "a"}, "stop", usage={"total_tokens": 1}), raw, include_usage=True)
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"] == USAGE
    assert all("usage" not in part and "x_groq" not in part for part in chunks[:-1])
    assert "x_gateway" not in chunks[-1]


def test_usage_is_left_out_where_nobody_asked():
    assert all("usage" not in part for part in run(chunk({"content": "a"}, "stop", usage=USAGE)))


def test_usage_that_nobody_counted_is_estimated_and_says_so():
    last = run(chunk({"content": "abcdefgh"}, "stop"), include_usage=True)[-1]
    assert last["usage"] == {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
    assert last["x_gateway"]["estimated"] is True


def call(index=0, id="call_1", name="f", arguments="", **more):
    return {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def bare(**function):
    """A piece under index 0, without what is not given."""
    own = {"id": function.pop("id")} if "id" in function else {}
    return {"index": 0, **own, "function": function}


class AnyId:
    """Equal to every id that the gateway makes."""

    def __eq__(self, other):
        return isinstance(other, str) and other.startswith("call_")

    def __hash__(self):
        return 0


ID = AnyId()

CALLS = [
    ("whole", [[call(arguments="{}")]], [(0, "call_1", "f", "{}")]),
    (
        "in pieces",
        [[call()], [{"index": 0, "function": {"arguments": '{"a"'}}], [{"index": 0, "function": {"arguments": ":1}"}}]],
        [(0, "call_1", "f", ""), (0, None, None, '{"a"'), (0, None, None, ":1}")],
    ),
    (
        "without index",
        [
            [{"id": "x", "function": {"name": "f", "arguments": "{}"}}],
            [{"id": "y", "function": {"name": "g", "arguments": "{}"}}],
        ],
        [(0, "x", "f", "{}"), (1, "y", "g", "{}")],
    ),
    (
        "without index in pieces",
        [[{"id": "x", "function": {"name": "f", "arguments": ""}}], [{"function": {"arguments": "{}"}}]],
        [(0, "x", "f", ""), (0, None, None, "{}")],
    ),
    (
        "all numbered 0",
        [[call(id="x")], [call(id="y", name="g")], [{"index": 0, "function": {"arguments": "{}"}}]],
        [(0, "x", "f", ""), (1, "y", "g", ""), (1, None, None, "{}"), (0, None, None, "{}")],
    ),
    (
        "counted from 1",
        [[call(index=1, id="x", arguments="{}")], [call(index=2, id="y", arguments="{}")]],
        [(0, "x", "f", "{}"), (1, "y", "f", "{}")],
    ),
    (
        "all numbered 0, without ids",
        [[bare(name="f", arguments="{}")], [bare(name="g")], [bare(arguments="{")], [bare(arguments="}")]],
        [(0, ID, "f", "{}"), (1, ID, "g", ""), (1, None, None, "{"), (1, None, None, "}")],
    ),
    (
        "all numbered 0, without ids, the same tool",
        [[bare(name="f", arguments='{"a":1}')], [bare(name="f", arguments='{"a":2}')]],
        [(0, ID, "f", '{"a":1}'), (1, ID, "f", '{"a":2}')],
    ),
    (
        "all numbered 0, without ids, in one delta",
        [[bare(name="f"), bare(name="f"), bare(arguments="{}")]],
        [(0, ID, "f", ""), (1, ID, "f", ""), (1, None, None, "{}"), (0, None, None, "{}")],
    ),
    (
        "the name repeated with each piece",
        [[bare(name="f", arguments='{"a"')], [bare(name="f", arguments=":1}")]],
        [(0, ID, "f", '{"a"'), (0, None, None, ":1}")],
    ),
    (
        "an id that comes late",
        [[bare(name="f", arguments='{"a"')], [bare(id="x", name="f", arguments=":1}")]],
        [(0, ID, "f", '{"a"'), (0, None, None, ":1}")],
    ),
    (
        "another id with each piece",
        [[bare(id="x", name="f")], [bare(id="y", arguments="{}")]],
        [(0, "x", "f", ""), (0, None, None, "{}")],
    ),
    ("without arguments", [[call()]], [(0, "call_1", "f", ""), (0, None, None, "{}")]),
    ("with null arguments", [[call(arguments=None)]], [(0, "call_1", "f", ""), (0, None, None, "{}")]),
    ("flat", [[{"index": 0, "id": "x", "name": "f", "arguments": {}}]], [(0, "x", "f", "{}")]),
    ("a null among them", [[None, call(arguments="{}")]], [(0, "call_1", "f", "{}")]),
    ("id and name repeated", [[call()], [call(arguments="{}")]], [(0, "call_1", "f", ""), (0, None, None, "{}")]),
    (
        "name after the arguments",
        [[{"index": 0, "id": "x", "function": {"arguments": "{"}}], [{"index": 0, "function": {"name": "f", "arguments": "}"}}]],
        [(0, "x", "f", "{}")],
    ),
    (
        "an element of nulls at the end",
        [[call(arguments="{}")], [{"index": 1, "id": None, "function": {"name": None, "arguments": ""}}]],
        [(0, "call_1", "f", "{}")],
    ),
    ("arguments as an object", [[call(arguments={"a": 1})]], [(0, "call_1", "f", '{"a":1}')]),
]


@pytest.mark.parametrize(("pieces", "expected"), [case[1:] for case in CALLS], ids=[case[0] for case in CALLS])
def test_tool_calls_are_numbered_and_told_apart(pieces, expected):
    chunks = run(*(chunk({"tool_calls": piece}) for piece in pieces), chunk({}, "stop"))
    seen = [
        (part["index"], part.get("id"), part["function"].get("name"), part["function"]["arguments"])
        for delta in deltas(chunks)
        for part in delta.get("tool_calls", [])
    ]
    assert seen == expected
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "tool_calls"}


def test_a_tool_call_without_an_id_gets_one():
    delta = deltas(run(chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]})))[0]
    assert delta["tool_calls"][0]["id"].startswith("call_") and delta["tool_calls"][0]["type"] == "function"


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thoughts_come_as_reasoning_content(name):
    assert deltas(run(chunk({name: "hm", "channel": "analysis"})))[0] == {"role": "assistant", "reasoning_content": "hm"}


def test_a_number_as_content_is_a_string():
    assert deltas(run(chunk({"content": 1})))[0]["content"] == "1"


def test_empty_chunks_do_not_begin_the_answer():
    shaping = shaper()
    for raw in (chunk({"role": "assistant", "content": ""}), chunk({"content": None}), chunk({"annotations": []})):
        assert shaping.feed(raw) == []
    assert not shaping.begun
    shaping.feed(chunk({}, "stop"))
    assert shaping.finished and not shaping.begun


def test_an_empty_stop_still_has_a_role_and_content():
    assert run(chunk({}, "stop"))[0]["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop"}
    ]


def test_choices_are_kept_apart_and_finish_together():
    raws = [{"choices": [{"index": n, "delta": {"content": str(n)}, "finish_reason": None}]} for n in (1, 0)]
    ends: list = [{"choices": [{"index": n, "delta": {}, "finish_reason": "stop"}]} for n in (0, 1)]
    shaping = shaper()
    for raw in [*raws, ends[0]]:
        shaping.feed(raw)
    assert not shaping.finished
    shaping.feed(ends[1])
    assert shaping.finished
    last = shaping.finish({}, include_usage=False, prompt_tokens=0)[0]
    assert [(choice["index"], choice["finish_reason"]) for choice in last["choices"]] == [(0, "stop"), (1, "stop")]


THOUGHTS = [
    ("<think>hm</think>yes", "hm", "yes"),
    ("\n<think>\nhm\n</think>\n\nyes", "hm", "yes"),
    ("<think>never closed", "never closed", ""),
    ("<thin", "", "<thin"),
    ("no <think>tags</think> here", "", "no <think>tags</think> here"),
    ("<think></think>yes", "", "yes"),
    ("<think>a </thinker> b</think>c", "a </thinker> b", "c"),
    ("", "", ""),
]


@pytest.mark.parametrize(("text", "thoughts", "answer"), THOUGHTS)
def test_think_tags_are_split_off_wherever_the_text_is_cut(text, thoughts, answer):
    for size in range(1, max(2, len(text))):
        splitter = ThoughtSplitter()
        parts = [splitter.feed(text[start : start + size]) for start in range(0, len(text), size)] + [splitter.finish()]
        assert "".join(part[0] for part in parts).strip("\n") == thoughts, size
        assert "".join(part[1] for part in parts) == answer, size


def completion(message=None, finish="stop", **fields):
    return {"choices": [{"message": {"content": "Hi"} if message is None else message, "finish_reason": finish}], **fields}


def repair(body, **options):
    return repair_completion(body, **{"model": "m", "splits_thoughts": False, **options})


def test_a_whole_answer_gets_what_openai_s_has():
    body = repair(completion(finish=None))
    assert body["id"] and body["object"] == "chat.completion" and body["created"] > 0 and body["model"] == "m"
    assert body["choices"] == [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]


def test_a_whole_answer_keeps_what_the_provider_said():
    body = repair(completion(id="x", model="up", created=7, system_fingerprint="fp", time_info={"a": 1}))
    assert (body["id"], body["model"], body["created"], body["system_fingerprint"], body["time_info"]) == (
        "x",
        "up",
        7,
        "fp",
        {"a": 1},
    )


def test_whole_tool_calls_are_repaired():
    calls = [{"name": "f", "arguments": {"a": 1}}, {"id": "", "index": 3, "function": {"name": "g", "arguments": None}}]
    choice = repair(completion({"tool_calls": calls}))["choices"][0]
    assert [part["function"] for part in choice["message"]["tool_calls"]] == [
        {"name": "f", "arguments": '{"a":1}'},
        {"name": "g", "arguments": "{}"},
    ]
    assert all(part["id"] and part["type"] == "function" and "index" not in part for part in choice["message"]["tool_calls"])
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None


@pytest.mark.parametrize(
    ("message", "content", "reasoning"),
    [
        ({"content": "a", "reasoning": "b"}, "a", "b"),
        ({"content": "<think>b</think>a"}, "a", "b"),
        ({"content": [{"type": "text", "text": "a"}]}, "a", None),
        ({"content": 4}, "4", None),
        ({}, "", None),
    ],
)
def test_whole_content_is_a_string_and_thoughts_stand_apart(message, content, reasoning):
    repaired = repair(completion(message), splits_thoughts=True)["choices"][0]["message"]
    assert repaired["content"] == content and repaired.get("reasoning_content") == reasoning and "reasoning" not in repaired


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, None),
        ({}, None),
        ("7", None),
        ({"total_tokens": 7}, (0, 7, 7)),
        ({"prompt_tokens": 3, "completion_tokens": 4}, (3, 4, 7)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 99}, (3, 4, 99)),
        ({"prompt_tokens": 3, "total_tokens": 9}, (3, 6, 9)),
    ],
)
def test_usage_has_its_three_numbers(raw, expected):
    usage = read_usage(raw)
    assert (usage and (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])) == expected


@pytest.mark.parametrize(
    ("message", "finish", "empty"),
    [
        ({"content": ""}, "stop", True),
        ({"content": ""}, "length", False),
        ({"content": "a"}, "stop", False),
        ({"content": "", "reasoning": "b"}, "stop", False),
        ({"content": None, "refusal": "no"}, "stop", False),
    ],
)
def test_only_a_stop_with_nothing_in_it_is_empty(message, finish, empty):
    assert is_empty_stop(repair(completion(message, finish))) is empty
