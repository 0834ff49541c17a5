"""The Response object and its output items.

Formats: https://platform.openai.com/docs/api-reference/responses/object
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gateway.surfaces.responses.request import ResponseRequest
from gateway.surfaces.responses.tools import ToolName

Body = dict[str, Any]
Status = Literal["in_progress", "completed", "incomplete", "failed"]

# Why an answer is no whole one, by a chat's finish reason; all others are.
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}


@dataclass(frozen=True, slots=True)
class Head:
    """What a response is called, from its first event on. `created_at` in Unix seconds."""

    id: str
    created_at: int
    model: str


def response_body(request: ResponseRequest, head: Head, status: Status, output: Sequence[Body], **more: Any) -> Body:
    """Return a response; `more` replaces the nulls of what it has not yet or not at all."""
    return {
        "id": head.id,
        "object": "response",
        "created_at": head.created_at,
        "status": status,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": head.model,
        "output": list(output),
        "usage": None,
        **request.echo,
        **more,
    }


def end_of(finish_reason: str | None) -> tuple[Status, Body]:
    """Return the status of an answer that a model ended, and the fields that tell why."""
    cut = _CUT.get(finish_reason or "")
    return ("incomplete", {"incomplete_details": {"reason": cut}}) if cut else ("completed", {})


def usage_body(usage: Mapping[str, Any]) -> Body:
    """Return a chat's usage as that of a response: thoughts are output, also where a provider has them in the total alone."""
    prompt, total = usage["prompt_tokens"], usage["total_tokens"]
    read, written = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    untold = total - prompt - usage["completion_tokens"]
    thoughts = _count(written, "reasoning_tokens") or max(0, untold)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": _count(read, "cached_tokens"), "cache_write_tokens": 0},
        "output_tokens": total - prompt,
        "output_tokens_details": {"reasoning_tokens": min(thoughts, total - prompt)},
        "total_tokens": total,
    }


def _count(details: Any, name: str) -> int:
    value = details.get(name) if isinstance(details, Mapping) else None
    return int(value) if isinstance(value, (int, float)) and value > 0 else 0


# --- items -------------------------------------------------------------------------------------------------------------


def text_part(text: str, logprobs: Sequence[Body] = ()) -> Body:
    return {"type": "output_text", "annotations": [], "logprobs": list(logprobs), "text": text}


def refusal_part(refusal: str) -> Body:
    return {"type": "refusal", "refusal": refusal}


def summary_part(text: str) -> Body:
    return {"type": "summary_text", "text": text}


def message_item(id_: str, status: Status, parts: Sequence[Body]) -> Body:
    return {"id": id_, "type": "message", "status": status, "role": "assistant", "content": list(parts)}


def reasoning_item(id_: str, thoughts: Sequence[str]) -> Body:
    """Return a model's thoughts, as a summary: that is where clients look for what they may show."""
    return {"id": id_, "type": "reasoning", "summary": [summary_part(text) for text in thoughts]}


def call_item(id_: str, status: Status, tool: ToolName, call_id: str, given: str) -> Body:
    """Return a call; `given` is its arguments, or a custom tool's input."""
    kind, field = ("custom_tool_call", "input") if tool.kind == "custom" else ("function_call", "arguments")
    group = {} if tool.namespace is None else {"namespace": tool.namespace}
    return {"id": id_, "type": kind, "status": status, "call_id": call_id, "name": tool.name, **group, field: given}


def carried_call(tool: ToolName, call_id: str, given: str) -> Body:
    """Return a call as a client would send it back, to be carried in its id."""
    sent = call_item("", "completed", tool, call_id, given)
    return {name: value for name, value in sent.items() if name not in ("id", "status")}


def read_logprobs(logprobs: Any) -> list[Body]:
    """Return the probabilities of a text's tokens from those of a chat's choice."""
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    return [
        {**_logprob(token), "top_logprobs": [_logprob(other) for other in token.get("top_logprobs") or ()]}
        for token in tokens or ()
        if isinstance(token, Mapping)
    ]


def _logprob(token: Mapping[str, Any]) -> Body:
    text = str(token.get("token") or "")
    return {
        "token": text,
        "bytes": token.get("bytes") or list(text.encode("utf-8", "surrogatepass")),
        "logprob": token.get("logprob") or 0.0,
    }


def without_bytes(logprobs: Sequence[Body]) -> list[Body]:
    """Return the probabilities as events tell them."""
    return [
        {"token": token["token"], "logprob": token["logprob"]}
        | ({"top_logprobs": without_bytes(token["top_logprobs"])} if "top_logprobs" in token else {})
        for token in logprobs
    ]
