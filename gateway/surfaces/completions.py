"""OpenAI's legacy completions, as far as answers go: a chat's answer becomes a text. Pure.

Format: https://platform.openai.com/docs/api-reference/completions/object, the same for whole answers and chunks of streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway import jsonio
from gateway.errors import GatewayError
from gateway.upstream.sse import DONE, format_data

_ENDS = ("stop", "length", "content_filter")  # there are no calls


def completion_of(completion: Mapping[str, Any], echo: str) -> dict[str, Any]:
    """Return a repaired chat completion as a text completion. `echo` is the prompt, where it is to stand before the text."""
    choices = [
        {
            "index": choice["index"],
            "text": echo + _text_of(choice["message"]),
            "logprobs": _logprobs(choice.get("logprobs"), len(echo)),
            "finish_reason": _end(choice["finish_reason"]),
        }
        for choice in completion["choices"]
    ]
    return {**completion, **_head(completion), "choices": choices}


class CompletionForm:
    """The chunks of one stream (a relay's `Form`)."""

    heartbeat = b": hb\n"

    def __init__(self, echo: str) -> None:
        self._echo = echo
        self._lengths: dict[int, int] = {}  # of each choice's text, as far as it was sent

    def chunks(self, chunks: list[dict[str, Any]]) -> bytes:
        told = [jsonio.dumps(shaped) for chunk in chunks if (shaped := self._shape(chunk))]
        return format_data(*told) if told else b""

    def end(self) -> bytes:
        return DONE

    def failure(self, error: GatewayError) -> bytes:
        return format_data(jsonio.dumps(error.to_body())) + DONE

    def _shape(self, chunk: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return a chat's chunk as one of a text, None where it has neither text nor an end nor usage: thoughts are no text."""
        choices = [shaped for choice in chunk["choices"] if (shaped := self._shape_choice(choice))]
        return {**chunk, **_head(chunk), "choices": choices} if choices or not chunk["choices"] else None

    def _shape_choice(self, choice: Mapping[str, Any]) -> dict[str, Any] | None:
        index, text, end = choice["index"], _text_of(choice["delta"]), choice["finish_reason"]
        if not text and not end:
            return None
        offset = self._lengths.get(index, len(self._echo))
        logprobs = _logprobs(choice.get("logprobs"), offset)
        if index not in self._lengths:
            text = self._echo + text
        self._lengths[index] = offset + len(_text_of(choice["delta"]))
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": _end(end)}


def _head(source: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "cmpl-" + source["id"].removeprefix("chatcmpl-"), "object": "text_completion"}


def _text_of(message: Mapping[str, Any]) -> str:
    return (message.get("content") or "") + (message.get("refusal") or "")


def _end(reason: str | None) -> str | None:
    return reason if reason is None or reason in _ENDS else "stop"


def _logprobs(logprobs: Any, offset: int) -> dict[str, Any] | None:
    """Return a chat's probabilities in the older form, None where there are none. `offset`: where their text begins."""
    entries = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not entries:
        return None
    tokens = [entry["token"] for entry in entries]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": tokens,
        "token_logprobs": [entry["logprob"] for entry in entries],
        "top_logprobs": [{top["token"]: top["logprob"] for top in entry.get("top_logprobs") or ()} for entry in entries],
        "text_offset": offsets,
    }
