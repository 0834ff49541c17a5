"""The forms that an answer may have, on either API: Cloudflare's envelope, the classic `response`, and completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway import jsonio
from gateway.upstream.shape import arguments_of

_THOUGHTS = ("reasoning_content", "reasoning")  # in which field depends on the model


def unwrap(payload: Any) -> Any:
    """Return what stands in Cloudflare's envelope, the payload itself where there is none."""
    if isinstance(payload, dict) and "choices" not in payload and isinstance(payload.get("result"), dict):
        return payload["result"]
    return payload


def is_failure(payload: Any) -> bool:
    """Whether an envelope says that the call failed, whatever its HTTP status."""
    if not isinstance(payload, dict):
        return False
    return payload.get("success") is False or (bool(payload.get("errors")) and payload.get("success") is not True)


def is_classic(answer: Any) -> bool:
    return isinstance(answer, dict) and "choices" not in answer and ("response" in answer or "tool_calls" in answer)


def completion_of(answer: Mapping[str, Any], limit_tokens: int) -> dict[str, Any]:
    """Return a classic answer as a chat.completion."""
    calls = calls_of(answer)
    message: dict[str, Any] = {"role": "assistant", "content": as_text(answer.get("response"))}
    if calls:
        message["tool_calls"] = calls
    reason = finish_reason_of(len(calls), answer.get("usage"), limit_tokens)
    completion: dict[str, Any] = {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}
    return {**completion, "usage": answer["usage"]} if answer.get("usage") else completion


def calls_of(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [open_call(call) for call in answer.get("tool_calls") or () if isinstance(call, dict)]


def open_call(call: dict[str, Any]) -> dict[str, Any]:
    """Return a tool call in OpenAI's form; a flat one has its arguments as an object, and no id."""
    if "function" in call:
        return call
    kept = {name: call[name] for name in ("index", "id") if call.get(name) is not None}
    function = {"name": call.get("name"), "arguments": arguments_of(call.get("arguments"))}
    return {**kept, "type": "function", "function": function}


def finish_reason_of(calls: int, usage: Any, limit_tokens: int) -> str:
    """Return why a classic answer ended, which it does not say: one that used all it was allowed was cut."""
    used = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if isinstance(used, int) and used >= limit_tokens:
        return "length"
    return "tool_calls" if calls else "stop"


def as_text(value: Any) -> str:
    """Return a piece of an answer as text: JSON mode parses it, and a lone digit or `true` comes as what JSON reads in it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else jsonio.dumps(value).decode()


def mend(message: Any, *, hides_thoughts: bool) -> None:
    """Give a message or delta strings where it has numbers, and its tool calls OpenAI's form.

    Some models cannot do without thoughts, and the API has no way to keep them to itself: unwanted ones end here.
    """
    if not isinstance(message, dict):
        return
    if hides_thoughts:
        for name in _THOUGHTS:
            message.pop(name, None)
    for name in ("content", *_THOUGHTS):
        if not isinstance(message.get(name), (str, list, type(None))):
            message[name] = as_text(message[name])
    if message.get("tool_calls"):
        message["tool_calls"] = calls_of(message)
