import pytest

from gateway.surfaces.responses.request import BELOW, Called, Returned, Said, compose_messages

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}


def call(call_id, function="f", arguments="{}"):
    return {"id": call_id, "type": "function", "function": {"name": function, "arguments": arguments}}


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ([Said(0, "user", "hi")], [(0, {"role": "user", "content": "hi"})]),
        (
            [Said(0, "user", "hi"), Said(1, "assistant", "Well."), Called(3, "a", "f", "{}"), Called(4, "b", "g", "[]")],
            [
                (0, {"role": "user", "content": "hi"}),
                (1, {"role": "assistant", "content": "Well.", "tool_calls": [call("a"), call("b", "g", "[]")]}),
            ],
        ),
        (
            [Called(0, "a", "f", "{}"), Returned(1, "a", "1"), Called(2, "b", "f", "{}"), Returned(3, "b", "2")],
            [
                (0, {"role": "assistant", "content": None, "tool_calls": [call("a")]}),
                (1, {"role": "tool", "tool_call_id": "a", "content": "1"}),
                (2, {"role": "assistant", "content": None, "tool_calls": [call("b")]}),
                (3, {"role": "tool", "tool_call_id": "b", "content": "2"}),
            ],
        ),
        (
            [Returned(4, "a", "", (IMAGE,)), Returned(5, "b", "seen"), Said(6, "user", "what is it?")],
            [
                (4, {"role": "tool", "tool_call_id": "a", "content": BELOW}),
                (5, {"role": "tool", "tool_call_id": "b", "content": "seen"}),
                (4, {"role": "user", "content": [{"type": "text", "text": "What a returned:"}, IMAGE]}),
                (6, {"role": "user", "content": "what is it?"}),
            ],
        ),
        (
            [Returned(0, "a", "x", (IMAGE,))],
            [
                (0, {"role": "tool", "tool_call_id": "a", "content": "x"}),
                (0, {"role": "user", "content": [{"type": "text", "text": "What a returned:"}, IMAGE]}),
            ],
        ),
        (
            [Said(0, "assistant", "a"), Said(1, "assistant", "b"), Called(2, "a", "f", "{}")],
            [(0, {"role": "assistant", "content": "a"}), (1, {"role": "assistant", "content": "b", "tool_calls": [call("a")]})],
        ),
    ],
    ids=["one", "text and calls are one message", "one call after the other", "images behind the results", "at the end", "texts"],
)
def test_items_become_messages(items, messages):
    assert compose_messages(items) == messages
