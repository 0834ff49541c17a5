"""A chat's answer as a text completion: whole, and in chunks that come to the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import Completion

from gateway.errors import StreamBroken
from gateway.surfaces.completions import CompletionForm, completion_of
from gateway.upstream.shape import ChunkShaper, repair_completion

X_GATEWAY = {"provider": "p", "model": "m", "attempts": 1, "reasoning_effort": "auto", "request_id": "req_1"}
USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
LOGPROBS = {
    "content": [
        {"token": "he", "logprob": -0.1, "top_logprobs": [{"token": "he", "logprob": -0.1}, {"token": "I", "logprob": -2.0}]},
        {"token": "llo", "logprob": -0.2},
    ]
}


def whole(*messages: Any, echo: str = "", reason: str = "stop", **more: Any) -> dict[str, Any]:
    choices = [{"index": i, "message": message, "finish_reason": reason, **more} for i, message in enumerate(messages)]
    body = {"id": "chatcmpl-1", "created": 7, "model": "m", "choices": choices, "usage": USAGE}
    completion = repair_completion(body, model="m", splits_thoughts=False)
    told = completion_of({**completion, "x_gateway": X_GATEWAY}, echo)
    assert set(Completion.model_validate(told, strict=True).model_extra or ()) == {"x_gateway"}
    return told


def stream(*deltas: tuple[int, Any], echo: str = "", reason: str = "stop", usage: bool = True, **more: Any) -> list[Any]:
    """Return the chunks of deltas, each of a choice."""
    count = 1 + max(index for index, _ in deltas)
    shaper, form = ChunkShaper(model="m", splits_thoughts=False, choices=count), CompletionForm(echo)
    raws: list[dict[str, Any]] = [
        {"id": "chatcmpl-1", "created": 7, "model": "m", "choices": [{"index": index, "delta": delta, **more}]}
        for index, delta in deltas
    ]
    ends = [{"index": index, "delta": {}, "finish_reason": reason} for index in range(count)]
    raws.append({"choices": ends, "usage": USAGE})
    sent = b"".join(form.chunks(shaper.feed_all([raw])) for raw in raws)
    sent += form.chunks(shaper.finish(X_GATEWAY, include_usage=usage, prompt_tokens=2)) + form.end()
    *events, done, empty = sent.decode().split("\n\n")
    assert (done, empty) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def texts_of(chunks: list[Any]) -> list[str]:
    texts: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    return [text for _, text in sorted(texts.items())]


def test_a_whole_answer_has_the_shape_of_the_api():
    assert whole({"content": "hello", "reasoning_content": "hm"}) == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "text": "hello", "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE,
        "x_gateway": X_GATEWAY,
    }


@pytest.mark.parametrize(
    ("reason", "told"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("function_call", "stop")],
)
def test_the_end_is_one_of_a_texts(reason, told):
    assert whole({"content": "x"}, reason=reason)["choices"][0]["finish_reason"] == told
    ends = [choice["finish_reason"] for chunk in stream((0, {"content": "x"}), reason=reason) for choice in chunk["choices"]]
    assert ends == [None, told]


def test_a_call_is_no_end_of_a_text():
    called = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert whole({"content": "x", "tool_calls": called}, reason="tool_calls")["choices"][0]["finish_reason"] == "stop"


def test_a_stream_is_chunks_of_the_same_shape():
    first, end, usage = stream((0, {"content": "hello"}))
    head = {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m"}
    assert first == {**head, "choices": [{"index": 0, "text": "hello", "logprobs": None, "finish_reason": None}]}
    assert (
        end["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}] and end["x_gateway"] == X_GATEWAY
    )
    assert usage == {**head, "choices": [], "usage": USAGE}
    assert len(stream((0, {"content": "hello"}), usage=False)) == 2


@pytest.mark.parametrize(
    ("deltas", "messages"),
    [
        ([(0, {"content": "a"}), (0, {"content": "b"})], [{"content": "ab"}]),
        ([(0, {"reasoning_content": "hm"}), (0, {"content": "a"})], [{"content": "a"}]),
        ([(0, {"content": "a"}), (1, {"content": "b"}), (0, {"content": "c"})], [{"content": "ac"}, {"content": "b"}]),
        ([(0, {"refusal": "no"})], [{"content": None, "refusal": "no"}]),
        ([(0, {"reasoning_content": "hm"})], [{"content": ""}]),
    ],
)
@pytest.mark.parametrize("echo", ["", "Say: "])
def test_a_stream_comes_to_the_same_texts_as_the_whole(deltas, messages, echo):
    assert texts_of(stream(*deltas, echo=echo)) == [choice["text"] for choice in whole(*messages, echo=echo)["choices"]]


def test_thoughts_are_not_told():
    shaper, form = ChunkShaper(model="m", splits_thoughts=False), CompletionForm("")
    assert form.chunks(shaper.feed({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]})) == b""


def test_probabilities_take_the_older_form():
    expected = {
        "tokens": ["he", "llo"],
        "token_logprobs": [-0.1, -0.2],
        "top_logprobs": [{"he": -0.1, "I": -2.0}, {}],
        "text_offset": [3, 5],
    }
    assert whole({"content": "hello"}, echo=">> ", logprobs=LOGPROBS)["choices"][0]["logprobs"] == expected
    chunks = stream((0, {"content": "hello"}), (0, {"content": "hello"}), echo=">> ", logprobs=LOGPROBS)
    assert [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in chunks[:2]] == [[3, 5], [8, 10]]


def test_a_break_is_an_error_in_band():
    failure, done, _ = CompletionForm("").failure(StreamBroken("It broke.")).decode().split("\n\n")
    assert json.loads(failure.removeprefix("data: "))["error"]["message"] == "It broke." and done == "data: [DONE]"
