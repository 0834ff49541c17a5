"""Streams that break in the middle, and go on from another provider where it says the same."""

import json
from dataclasses import replace

import pytest

from tests.e2e.simulator import cut_after, stall_after, stream

pytestmark = pytest.mark.e2e

ASK = {"models": ["a/m", "b/m", "c/m"], "messages": [{"role": "user", "content": "hello"}], "stream": True}
WORDS = ["The ", "boat ", "sails ", "far."]
TEXT = "".join(WORDS)


def chunk(delta, end=None):
    return {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}


def says(*words, thinks=(), end="stop"):
    """A whole stream of these words, after these thoughts."""
    deltas = [chunk({"role": "assistant", "content": ""})]
    deltas += [chunk({"reasoning_content": thought}) for thought in thinks]
    deltas += [chunk({"content": word}) for word in words]
    usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    return stream([*deltas, {**chunk({}, end), "usage": usage}])


CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":'}}
BROKEN = cut_after(n_events=3, answer=says(*WORDS))  # "The boat "


@pytest.fixture(scope="module")
def start(simulator, start_gateway, tmp_path_factory):
    path = tmp_path_factory.mktemp("catalog") / "three.toml"
    base_url = simulator.base_url("plain")
    rows = "".join(
        f'[[providers]]\nkey = "{key}"\nbase_url = "{base_url}"\n'
        f'[[models]]\nprovider = "{key}"\nid = "m"\nupstream_id = "m-{key}"\nlimits = {{}}\n'
        for key in "abc"
    )
    path.write_text(rows)
    env = {"GATEWAY_CATALOG": str(path), "GATEWAY_SANDBOX": "off", "IDLE_TIMEOUT_S": "0.5"}
    return lambda **more: start_gateway(env | more, workers=1)


@pytest.fixture(scope="module")
def gateway(start):
    return start()


def ask(gateway, simulator, scripts, headers=None, **fields):
    """Script each provider, ask, and return (text, data objects, whether it ended in [DONE], who was called)."""
    gateway.forget_failures()
    simulator.reset()
    for key, behaviour in scripts.items():
        simulator.always("plain", behaviour, model=f"m-{key}")
    with gateway.stream("/v1/chat/completions", {**ASK, **fields}, headers) as answer:
        assert answer.status == 200
        lines = [line.data for line in answer if line.data.startswith(b"data: ")]
    data = [json.loads(line[6:]) for line in lines if line != b"data: [DONE]\n"]
    text = "".join(choice["delta"].get("content") or "" for item in data for choice in item.get("choices", []))
    assert lines[-1] == b"data: [DONE]\n"
    return text, data, [call.model for call in simulator.calls("plain")]


@pytest.mark.parametrize(
    "second",
    [says(*WORDS), says(TEXT), says("The boat", " sails far."), says(*WORDS, thinks=["Hm.", "A boat."])],
    ids=["in the same pieces", "in one", "in others", "after thoughts"],
)
@pytest.mark.parametrize("first", [BROKEN, stall_after(n_events=3, answer=says(*WORDS))], ids=["cut", "silent"])
def test_a_broken_stream_goes_on_as_if_nothing_had_happened(gateway, simulator, first, second):
    text, data, called = ask(gateway, simulator, {"a": first, "b": second})
    assert text == TEXT and called == ["m-a", "m-b"]
    assert {item["id"] for item in data} == {"1"} and not any("error" in item for item in data)
    assert sum("role" in item["choices"][0]["delta"] for item in data) == 1
    last = data[-1]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["x_gateway"]["rescued"] is True and last["x_gateway"]["provider"] == "b"
    assert last["x_gateway"]["trail"].startswith("a/m:") and last["x_gateway"]["trail"].endswith(" b/m:ok")


@pytest.mark.parametrize(
    "second",
    [says("The ", "ship ", "sinks."), says("The ")],
    ids=["says something else", "says less"],
)
def test_where_the_other_says_something_else_the_break_is_told(gateway, simulator, second):
    text, data, called = ask(gateway, simulator, {"a": BROKEN, "b": second})
    assert text == "The boat " and list(data[-1]) == ["error"] and called == ["m-a", "m-b"]


@pytest.mark.parametrize("second", [says(*WORDS), says(*WORDS, thinks=["A boat."])], ids=["without", "with others"])
def test_a_stream_that_broke_while_it_thought_goes_on_too(gateway, simulator, second):
    first = cut_after(n_events=2, answer=says(*WORDS, thinks=["Hm.", "Hm."]))
    text, data, called = ask(gateway, simulator, {"a": first, "b": second})
    assert text == TEXT and called == ["m-a", "m-b"] and data[-1]["x_gateway"]["rescued"] is True
    assert [item["choices"][0]["delta"].get("role") for item in data].count("assistant") == 1


@pytest.mark.parametrize("n_events", [0, 2], ids=["does not begin", "breaks before it is as far"])
def test_a_second_one_that_fails_too_is_followed_by_a_third(gateway, simulator, n_events):
    second = cut_after(n_events=n_events, answer=says(*WORDS))
    text, _, called = ask(gateway, simulator, {"a": BROKEN, "b": second, "c": says(*WORDS)})
    assert text == TEXT and called[0] == "m-a" and called[-1] == "m-c"


def test_a_stream_that_breaks_after_the_time_it_had_to_begin_in_is_rescued_too(start, simulator):
    late = cut_after(n_events=4, answer=replace(says(*WORDS), pause_s=0.35))
    gateway = start(COMMIT_BUDGET_S="1")
    text, _, called = ask(gateway, simulator, {"a": late, "b": says(*WORDS)})
    assert text == TEXT and called == ["m-a", "m-b"]


def test_a_stream_that_breaks_again_goes_on_again(gateway, simulator):
    second = cut_after(n_events=4, answer=says(*WORDS))
    text, data, called = ask(gateway, simulator, {"a": BROKEN, "b": second, "c": says(*WORDS)})
    assert text == TEXT and called == ["m-a", "m-b", "m-c"]
    assert [attempt.split(":")[0] for attempt in data[-1]["x_gateway"]["trail"].split()] == ["a/m", "b/m", "c/m"]
    assert data[-1]["x_gateway"]["provider"] == "c" and data[-1]["x_gateway"]["trail"].endswith("c/m:ok")


def test_a_stream_that_nobody_is_left_for_breaks(gateway, simulator):
    second = cut_after(n_events=4, answer=says(*WORDS))
    text, data, called = ask(gateway, simulator, {"a": BROKEN, "b": second, "c": second})
    assert text == "The boat sails " and list(data[-1]) == ["error"] and called == ["m-a", "m-b", "m-c"]


def test_calls_are_never_spliced(gateway, simulator):
    first = cut_after(
        n_events=3, answer=stream([chunk({"role": "assistant", "content": "Well. "}), chunk({"tool_calls": [CALL]})] * 3)
    )
    _, data, called = ask(gateway, simulator, {"a": first, "b": says(*WORDS)})
    assert list(data[-1]) == ["error"] and called == ["m-a"]


def test_a_note_of_the_provider_s_own_is_no_hindrance(gateway, simulator):
    noted = stream(
        [chunk({"role": "assistant", "content": "The ", "reasoning_details": [{"type": "x"}]}), chunk({"content": "boat "})]
    )
    text, _, called = ask(gateway, simulator, {"a": cut_after(n_events=2, answer=noted), "b": says(*WORDS)})
    assert text == TEXT and called == ["m-a", "m-b"]


def test_a_client_can_do_without(gateway, simulator):
    _, data, called = ask(gateway, simulator, {"a": BROKEN, "b": says(*WORDS)}, {"x-gateway-rescue": "0"})
    assert list(data[-1]) == ["error"] and called == ["m-a"]


def test_usage_is_told_of_a_rescued_stream_too(gateway, simulator):
    _, data, _ = ask(gateway, simulator, {"a": BROKEN, "b": says(*WORDS)}, stream_options={"include_usage": True})
    assert data[-1]["choices"] == [] and data[-1]["usage"]["total_tokens"] == 9
