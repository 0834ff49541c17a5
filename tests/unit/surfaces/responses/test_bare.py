"""Calls of custom tools in a chat's answer: whole, and in chunks however they are cut."""

import json

import pytest

from gateway.surfaces.responses.bare import BareChunks, bare_completion

CUSTOMS = frozenset({"patch"})
TEXT = '*** Begin Patch\n+print("42")\n'
ARGUMENTS = json.dumps({"input": TEXT})
OTHER = json.dumps({"input": "a.py"})


def call(name, arguments, **more):
    return {"id": f"call_{name}", "type": "function", **more, "function": {"name": name, "arguments": arguments}}


def completion(*calls):
    message = {"role": "assistant", "content": None, **({"tool_calls": list(calls)} if calls else {})}
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def chunk(*calls, finish_reason=None, index=0):
    delta = {"tool_calls": list(calls)} if calls else {}
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}]}


def pieces(index, arguments, size):
    return [
        chunk({"index": index, "function": {"arguments": arguments[at : at + size]}}) for at in range(0, len(arguments), size)
    ]


def put_together(chunks):
    """Return the arguments of each call, by choice and index."""
    told: dict[tuple[int, int], str] = {}
    for one in chunks:
        for choice in one["choices"]:
            for piece in choice["delta"].get("tool_calls", ()):
                key = choice["index"], piece["index"]
                told[key] = told.get(key, "") + piece["function"]["arguments"]
    return told


def test_a_whole_call_has_its_text_as_arguments():
    told = bare_completion(completion(call("patch", ARGUMENTS), call("read", OTHER)), CUSTOMS)
    assert told == completion(call("patch", TEXT), call("read", OTHER))


def test_an_answer_without_calls_is_left_as_it_is():
    assert bare_completion(completion(), CUSTOMS) == completion()


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_pieces_of_a_call_come_to_its_text(size):
    begun = [chunk(call("patch", "", index=0)), chunk(call("read", "", index=1))]
    sent = [*begun, *pieces(0, ARGUMENTS, size), *pieces(1, OTHER, size), chunk(finish_reason="tool_calls")]
    assert put_together(map(BareChunks(CUSTOMS).bare, sent)) == {(0, 0): TEXT, (0, 1): OTHER}


def test_each_choice_has_calls_of_its_own():
    begun = [chunk(call("read", "", index=0)), chunk(call("patch", "", index=0), index=1)]
    ends = [chunk(finish_reason="tool_calls"), chunk(finish_reason="tool_calls", index=1)]
    mine = chunk({"index": 0, "function": {"arguments": ARGUMENTS}}, index=1)
    assert put_together(map(BareChunks(CUSTOMS).bare, [*begun, *pieces(0, OTHER, 5), mine, *ends])) == {
        (0, 0): OTHER,
        (1, 0): TEXT,
    }


def test_what_is_no_json_comes_with_the_end():
    sent = [chunk(call("patch", "*** Begin", index=0)), chunk(finish_reason="tool_calls")]
    told = list(map(BareChunks(CUSTOMS).bare, sent))
    assert put_together(told[:1]) == {(0, 0): ""} and put_together(told) == {(0, 0): "*** Begin"}
    assert told[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_text_passes_unchanged():
    text = {"choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": None}]}
    assert BareChunks(CUSTOMS).bare(text) == text
