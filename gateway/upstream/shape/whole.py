"""Whole answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from gateway.errors import UpstreamGarbled
from gateway.upstream.shape.pieces import (
    OTHER_SUBSTANCE,
    REASONING_NAMES,
    arguments_of,
    count_of,
    name_of,
    new_call_id,
    new_id,
    read_end,
    reading,
    reasoning_of,
    settle_end,
    text_of,
)
from gateway.upstream.shape.thoughts import ThoughtSplitter
from gateway.upstream.shape.usage import read_usage


def repair_completion(body: Mapping[str, Any], *, model: str, splits_thoughts: bool) -> dict[str, Any]:
    """Return a chat.completion with everything that OpenAI's has, and the provider's further fields left in place.

    `model` stands in where the provider names none. `splits_thoughts`: text in `<think>` tags at the beginning
    is the model's reasoning. `usage` is None where nobody counted.

    :raises UpstreamGarbled: it is no answer that could be read. :raises UpstreamFailed: it says itself that it broke off.
    """
    with reading():
        own_id, own_model = body.get("id"), body.get("model")
        return {
            **body,
            "id": own_id if own_id and isinstance(own_id, str) else new_id("chatcmpl-"),
            "object": "chat.completion",
            "created": count_of(body.get("created")) or int(time.time()),
            "model": own_model if own_model and isinstance(own_model, str) else model,
            "choices": [_repair_choice(choice, number, splits_thoughts) for number, choice in enumerate(body["choices"])],
            "usage": read_usage(body.get("usage")),
        }


def _repair_choice(choice: Mapping[str, Any], number: int, splits_thoughts: bool) -> dict[str, Any]:
    raw = choice.get("message") or {}
    message = {name: value for name, value in raw.items() if name not in ("tool_calls", *REASONING_NAMES)}
    content, reasoning = text_of(raw.get("content")), reasoning_of(raw)
    if splits_thoughts and content and not reasoning:
        splitter = ThoughtSplitter()
        parts = [splitter.feed(content), splitter.finish()]
        reasoning, content = "".join(part[0] for part in parts), "".join(part[1] for part in parts)
    message |= {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    calls = [_repair_call(call) for call in raw.get("tool_calls") or () if call is not None]
    if calls:
        message["tool_calls"] = calls
    elif content is None:
        message["content"] = ""
    reason = read_end(choice.get("finish_reason")) or "stop"
    reason = settle_end(reason, calls=bool(calls), legacy_call=bool(raw.get("function_call")))
    index = choice.get("index")
    return {**choice, "index": index if isinstance(index, int) else number, "message": message, "finish_reason": reason}


def _repair_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or call
    name = name_of(function.get("name"))
    if not name:
        raise UpstreamGarbled("The provider's model called a tool without naming it.", upstream_status=200)
    kept = {name: value for name, value in call.items() if name == "extra_content"}
    return {
        "id": name_of(call.get("id")) or new_call_id(),
        "type": "function",
        "function": {"name": name, "arguments": arguments_of(function.get("arguments")) or "{}"},
        **kept,
    }


def answer_chars(completion: Mapping[str, Any]) -> int:
    """Return the size of everything the model wrote, for an estimate of its tokens."""
    messages = [choice["message"] for choice in completion["choices"]]
    texts = sum(len(message.get("content") or "") + len(message.get("reasoning_content") or "") for message in messages)
    calls = [call["function"] for message in messages for call in message.get("tool_calls") or ()]
    return texts + sum(len(call["name"]) + len(call["arguments"]) for call in calls)


def is_empty_stop(completion: Mapping[str, Any]) -> bool:
    """Whether a repaired answer is a `stop` with nothing in it."""
    return answer_chars(completion) == 0 and all(
        choice["finish_reason"] == "stop" and not any(choice["message"].get(name) for name in OTHER_SUBSTANCE)
        for choice in completion["choices"]
    )
