"""A chat's answer as a message: whole and in events, which must come to the same. The package's types are the judge."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import (
    Draining,
    GatewayError,
    InvalidRequest,
    StreamBroken,
    UpstreamContextTooLong,
    UpstreamGarbled,
    UpstreamTimeout,
)
from gateway.surfaces.messages import MessageForm, Terms, error_body, message_of
from gateway.upstream.shape import ChunkShaper, repair_completion
from tests.anthropic_sdk import check_error, check_message, put_together, read_events

X_GATEWAY = {"provider": "p", "model": "m", "attempts": 1, "reasoning_effort": "auto", "request_id": "req_1"}
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
TERMS = Terms(prompt_tokens=9)
SHOWN = Terms(prompt_tokens=9, shows_thoughts=True)


def call(arguments: Any, call_id: str = "call_1", name: str = "weather") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def whole(terms: Terms = TERMS, *, reason: str = "stop", usage: Any = USAGE, notes: Any = None, **message: Any):
    """Return the message of a provider's completion, checked against the package's types."""
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": reason, **(notes or {})}
    body = {"id": "chatcmpl-1", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    completion = repair_completion(body, model="m", splits_thoughts=False)
    return check_message(message_of({**completion, "x_gateway": X_GATEWAY}, terms))


def stream(deltas, terms: Terms = TERMS, *, reason: str = "stop", usage: Any = USAGE, notes: Any = None, cut: int = 1):
    """Return the events of a provider's deltas, of which `cut` come in one read; checked against the package's types."""
    shaper, form = ChunkShaper(model="m", splits_thoughts=False), MessageForm(terms, "req_1")
    raws = [{"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    end = {"index": 0, "delta": {}, "finish_reason": reason, **(notes or {})}
    raws.append({"id": "chatcmpl-1", "model": "m", "choices": [end], "usage": usage})
    sent = []
    for start in range(0, len(raws), cut):
        if shaped := shaper.feed_all(raws[start : start + cut]):
            sent.append(form.chunks(shaped))
    sent.append(form.chunks(shaper.finish(X_GATEWAY, include_usage=True, prompt_tokens=9)) + form.end())
    return read_events(b"".join(sent))


def call_delta(index: int, arguments: str, **begin: Any) -> dict[str, Any]:
    head = {"id": f"call_{index}", "type": "function"} if begin else {}
    return {"tool_calls": [{"index": index, **head, "function": {"arguments": arguments, **begin}}]}


# --- whole ---------------------------------------------------------------------------------------------------------


def test_a_text_answer_is_a_message_with_one_block():
    assert whole(content="hello") == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 12, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 5},
        "x_gateway": X_GATEWAY,
    }


TEXT = {"type": "text", "text": "t"}
THOUGHTS = {"type": "thinking", "thinking": "hm", "signature": "unsigned"}
USE = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}}


@pytest.mark.parametrize(
    ("terms", "message", "content"),
    [
        (TERMS, {"content": ""}, []),
        (TERMS, {"content": "t", "reasoning_content": "hm"}, [TEXT]),
        (SHOWN, {"content": "t", "reasoning_content": "hm"}, [THOUGHTS, TEXT]),
        (SHOWN, {"content": "t"}, [TEXT]),
        (TERMS, {"tool_calls": [call('{"city":"Paris"}')]}, [USE]),
        (TERMS, {"tool_calls": [call({"city": "Paris"})]}, [USE]),
        (TERMS, {"tool_calls": [call("")]}, [{**USE, "input": {}}]),
        (SHOWN, {"content": "t", "reasoning_content": "hm", "tool_calls": [call('{"city":"Paris"}')]}, [THOUGHTS, TEXT, USE]),
        (TERMS, {"content": None, "refusal": "t"}, [TEXT]),
        (Terms(prefill="The answer is "), {"content": "The answer is t"}, [TEXT]),
        (Terms(prefill="The answer is "), {"content": "t"}, [TEXT]),
        (Terms(prefill="The answer is "), {"content": "The"}, [{"type": "text", "text": "The"}]),
        (Terms(prefill="The"), {"content": "The"}, []),
    ],
)
def test_each_kind_of_content_is_a_block(terms, message, content):
    assert whole(terms, **message)["content"] == content


@pytest.mark.parametrize(
    ("reason", "message", "stop_reason"),
    [
        ("stop", {"content": "t"}, "end_turn"),
        ("length", {"content": "t"}, "max_tokens"),
        ("tool_calls", {"tool_calls": [call("{}")]}, "tool_use"),
        ("stop", {"tool_calls": [call("{}")]}, "tool_use"),
        ("tool_calls", {"content": "t"}, "end_turn"),
        ("content_filter", {"content": "t"}, "refusal"),
        ("stop", {"refusal": "no"}, "refusal"),
        ("length", {"tool_calls": [call('{"city":')]}, "max_tokens"),
    ],
)
def test_the_end_has_anthropics_word(reason, message, stop_reason):
    assert whole(reason=reason, **message)["stop_reason"] == stop_reason
    assert put_together(stream([message_delta(message)], reason=reason))["stop_reason"] == stop_reason


def message_delta(message: dict[str, Any]) -> dict[str, Any]:
    calls = [{**call, "index": index} for index, call in enumerate(message.get("tool_calls") or ())]
    return {**message, "tool_calls": calls} if calls else message


@pytest.mark.parametrize(
    ("stops", "notes", "stop"),
    [
        (("END", "X"), {"stop_reason": "X"}, ("stop_sequence", "X")),  # vLLM
        (("END", "X"), {"matched_stop": "END"}, ("stop_sequence", "END")),  # SGLang
        (("END", "X"), {"matched_stop": 151645}, ("end_turn", None)),
        (("END", "X"), {"stop_reason": "<|eot|>"}, ("end_turn", None)),
        (("END",), {"native_finish_reason": "stop_sequence"}, ("stop_sequence", "END")),
        (("END", "X"), {"native_finish_reason": "stop_sequence"}, ("end_turn", None)),
        (("END",), {}, ("end_turn", None)),
        ((), {"stop_reason": "X"}, ("end_turn", None)),
    ],
)
def test_the_stop_sequence_is_told_where_the_provider_tells_it(stops, notes, stop):
    terms = Terms(stop_sequences=stops)
    for message in (whole(terms, content="t", notes=notes), put_together(stream([{"content": "t"}], terms, notes=notes))):
        assert (message["stop_reason"], message["stop_sequence"]) == stop


def test_an_answer_that_was_cut_did_not_end_at_a_stop_sequence():
    cut_off = whole(Terms(stop_sequences=("X",)), content="t", reason="length", notes={"stop_reason": "X"})
    assert (cut_off["stop_reason"], cut_off["stop_sequence"]) == ("max_tokens", None)


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 4}, (10, 0, 4)),
        ({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 34}, (10, 0, 24)),  # thoughts in the total alone
        ({"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}, (2, 8, 4)),
        ({"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 80}}, (0, 10, 4)),
        ({"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": None}, (10, 0, 4)),
        ({"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": None}}, (10, 0, 4)),
    ],
)
def test_what_was_read_from_a_cache_is_no_input(usage, told):
    for message in (whole(content="t", usage=usage), put_together(stream([{"content": "t"}], usage=usage))):
        counts = message["usage"]
        assert (counts["input_tokens"], counts["cache_read_input_tokens"], counts["output_tokens"]) == told
        assert counts["cache_creation_input_tokens"] == 0


def test_the_tokens_of_thoughts_are_told():
    usage = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 3}}
    assert whole(content="t", usage=usage)["usage"]["output_tokens_details"] == {"thinking_tokens": 3}


@pytest.mark.parametrize("arguments", ["[1]", "null", '"{}"', '{"city":', "}"])
def test_input_that_is_no_object_is_a_failure_of_the_model(arguments):
    with pytest.raises(UpstreamGarbled):
        whole(tool_calls=[call(arguments)])
    with pytest.raises(UpstreamGarbled):
        stream([call_delta(0, arguments, name="weather")])
    with pytest.raises(UpstreamGarbled):
        stream([call_delta(0, arguments, name="weather"), call_delta(1, "{}", name="weather")])


def test_input_that_goes_on_behind_its_end_is_not_lost_silently():
    with pytest.raises(UpstreamGarbled):
        stream([call_delta(0, "{}", name="a"), call_delta(1, "{}", name="b"), call_delta(0, '{"x":1}')])


def test_a_call_that_was_cut_has_no_input():
    assert whole(reason="length", tool_calls=[call('{"city":"Par')])["content"] == [{**USE, "input": {}}]


# --- streamed ------------------------------------------------------------------------------------------------------


def kinds(events):
    return [event["type"] for event in events]


def test_a_text_streams_in_the_order_of_the_api():
    events = stream([{"content": "hel"}, {"content": "lo"}])
    assert kinds(events) == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start = events[0]["message"]
    assert (start["id"], start["content"], start["stop_reason"]) == ("msg_1", [], None)
    assert start["usage"]["input_tokens"] == 9 and start["usage"]["output_tokens"] == 0
    assert events[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"input_tokens": 12, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 5},
        "x_gateway": X_GATEWAY,
    }


def test_each_piece_leaves_with_its_chunk():
    shaper, form = ChunkShaper(model="m", splits_thoughts=False), MessageForm(TERMS, "req_1")
    sent = [
        read_events(form.chunks(shaper.feed({"id": "1", "choices": [{"index": 0, "delta": {"content": text}}]})))
        for text in ("a", "b")
    ]
    assert [[e["delta"]["text"] for e in events if e["type"] == "content_block_delta"] for events in sent] == [["a"], ["b"]]


def test_a_chunk_of_several_blocks_leaves_as_a_whole():
    shaper, form = ChunkShaper(model="m", splits_thoughts=False), MessageForm(SHOWN, "req_1")
    delta = {"reasoning_content": "hm", "content": "t", **call_delta(0, "{", name="a")}
    sent = read_events(form.chunks(shaper.feed({"id": "1", "choices": [{"index": 0, "delta": delta}]})))
    assert [event["content_block"]["type"] for event in sent if event["type"] == "content_block_start"] == [
        "thinking",
        "text",
        "tool_use",
    ]
    assert sent[-1]["delta"] == {"type": "input_json_delta", "partial_json": "{"}


def test_a_stop_that_is_told_beside_the_last_words_counts():
    shaper, form = ChunkShaper(model="m", splits_thoughts=False), MessageForm(Terms(stop_sequences=("X",)), "req_1")
    last = {"index": 0, "delta": {"content": "t"}, "finish_reason": "stop", "stop_reason": "X"}
    sent = form.chunks(shaper.feed({"id": "1", "choices": [last]}))
    sent += form.chunks(shaper.finish(X_GATEWAY, include_usage=True, prompt_tokens=1)) + form.end()
    assert put_together(read_events(sent))["stop_sequence"] == "X"


def test_thoughts_that_nobody_asked_for_begin_the_message_and_are_not_told():
    assert kinds(stream([{"reasoning_content": "hm"}]))[:3] == ["message_start", "ping", "message_delta"]


def test_thoughts_are_signed_before_their_block_ends():
    events = stream([{"reasoning_content": "h"}, {"reasoning_content": "m"}, {"content": "t"}], SHOWN)
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert deltas == [
        {"type": "thinking_delta", "thinking": "h"},
        {"type": "thinking_delta", "thinking": "m"},
        {"type": "signature_delta", "signature": "unsigned"},
        {"type": "text_delta", "text": "t"},
    ]


def test_calls_whose_pieces_come_in_turn_stream_one_after_the_other():
    deltas = [
        call_delta(0, "", name="a"),
        call_delta(1, "", name="b"),
        call_delta(0, '{"x":'),
        call_delta(1, '{"y":'),
        call_delta(0, "1}"),
        call_delta(1, "2}"),
    ]
    message = put_together(stream(deltas))
    assert [(block["name"], block["input"]) for block in message["content"]] == [("a", {"x": 1}), ("b", {"y": 2})]


def test_calls_without_arguments_have_an_empty_input():
    message = put_together(stream([call_delta(0, "", name="a"), call_delta(1, "", name="b")]))
    assert [(block["name"], block["input"]) for block in message["content"]] == [("a", {}), ("b", {})]


def test_a_prefill_is_cut_in_whatever_pieces_it_comes():
    terms = Terms(prefill='{"a"')
    for text in ('{"a": 1}', "{", '{"b": 1}', ""):
        expected = text.removeprefix('{"a"')
        content = put_together(stream([{"content": char} for char in text], terms))["content"]
        assert "".join(block["text"] for block in content) == expected


def test_what_a_prefill_held_back_stands_before_what_follows():
    terms = Terms(prefill="The answer is")
    refused = put_together(stream([{"content": "The"}, {"refusal": " no"}], terms))
    assert refused["content"] == whole(terms, content="The", refusal=" no")["content"] == [{"type": "text", "text": "The no"}]
    events = stream([{"content": "The"}, call_delta(0, "{}", name="a")], terms)
    assert put_together(events)["content"] == whole(terms, content="The", tool_calls=[call("{}", "call_0", "a")])["content"]


def test_only_the_first_answer_of_several_is_told():
    shaper, form = ChunkShaper(model="m", splits_thoughts=False, choices=2), MessageForm(TERMS, "req_1")
    chunks = shaper.feed_all(
        {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": "stop"}]}
        for index, text in ((0, "a"), (1, "b"))
    )
    sent = form.chunks(chunks) + form.chunks(shaper.finish(X_GATEWAY, include_usage=True, prompt_tokens=1)) + form.end()
    assert put_together(read_events(sent))["content"] == [{"type": "text", "text": "a"}]


ERRORS: list[tuple[GatewayError, str]] = [
    (StreamBroken("The answer broke off."), "api_error"),
    (UpstreamTimeout("x", phase="idle"), "timeout_error"),
    (Draining("x"), "overloaded_error"),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS, ids=[kind for _, kind in ERRORS])
def test_a_break_is_an_error_event_with_the_envelope(error, kind):
    form = MessageForm(TERMS, "req_1")
    (event,) = read_events(form.failure(error))
    assert event == {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": "req_1"}


def test_the_heartbeat_is_a_ping():
    assert kinds(read_events(MessageForm.heartbeat)) == ["ping"]


# --- both --------------------------------------------------------------------------------------------------------------


JSON = st.dictionaries(st.text(max_size=3), st.one_of(st.integers(), st.text(max_size=5), st.none()), max_size=3)
ANSWERS = st.fixed_dictionaries(
    {
        "reasoning_content": st.text(max_size=12),
        "content": st.text(max_size=20),
        "tool_calls": st.lists(JSON, max_size=3),
        "reason": st.sampled_from(["stop", "length", "content_filter"]),
        "shows": st.booleans(),
        "prefill": st.text(max_size=3),
    }
)


def test_whole_numbers_in_arguments_stay_whole():
    (block,) = whole(tool_calls=[call('{"n": -9223372036854775809}')])["content"]
    assert block["input"] == {"n": -(2**63) - 1} and isinstance(block["input"]["n"], int)


@settings(max_examples=300, deadline=None)
@given(answer=ANSWERS, data=st.data())
def test_a_stream_comes_to_the_same_message_as_the_whole_answer(answer, data):
    terms = Terms(shows_thoughts=answer["shows"], prefill=answer["prefill"], prompt_tokens=9)
    calls = [call(json.dumps(given), f"call_{index}", f"f{index}") for index, given in enumerate(answer["tool_calls"])]
    texts = {"reasoning_content": answer["reasoning_content"], "content": answer["content"]}
    deltas = [{name: text} for name in texts for text in cut(texts[name], data)]
    for index, made in enumerate(calls):
        deltas.append(call_delta(index, "", name=made["function"]["name"]))
        deltas += [call_delta(index, piece) for piece in cut(made["function"]["arguments"], data)]
    reads = data.draw(st.integers(1, 4))
    expected = whole(terms, reason=answer["reason"], **texts, tool_calls=calls)
    got = put_together(stream(deltas, terms, reason=answer["reason"], cut=reads))
    assert got.pop("stop_details") is None  # the package's own
    assert {**got, "x_gateway": X_GATEWAY} == expected


def cut(text: str, data: st.DataObject) -> list[str]:
    places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=4)))
    return [piece for start, end in zip([0, *places], [*places, len(text)], strict=True) if (piece := text[start:end])]


# --- errors ------------------------------------------------------------------------------------------------------------


TOLD: list[tuple[GatewayError, str, str]] = [
    (
        UpstreamContextTooLong("words of OpenAI's", limit_tokens=8192, prompt_tokens=9000),
        "invalid_request_error",
        "prompt is too long: 9000 tokens > 8192 maximum",
    ),
    (UpstreamContextTooLong("It is too long."), "invalid_request_error", "It is too long."),
    (
        InvalidRequest("`messages[0].content[1].type` must be text.", param="messages[0].content[1].type"),
        "invalid_request_error",
        "messages.0.content.1.type: must be text.",
    ),
    (InvalidRequest("Send a number.", param="x-gateway-max-wait"), "invalid_request_error", "Send a number."),
    (UpstreamTimeout("It took too long.", phase="total"), "timeout_error", "It took too long."),
]


@pytest.mark.parametrize(("error", "kind", "message"), TOLD, ids=[case[2][:30] for case in TOLD])
def test_an_error_names_the_place_as_the_api_does(error, kind, message):
    body = check_error(error_body(error, "req_1"))
    assert body == {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
