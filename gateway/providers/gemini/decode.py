"""Gemini's answers as OpenAI's: a whole answer and each event of a stream have the same form.

https://ai.google.dev/api/generate-content#generatecontentresponse, read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway import jsonio
from gateway.errors import UpstreamError, UpstreamGarbled, UpstreamModelFailed, UpstreamRefusedContent
from gateway.providers.base import Chunk
from gateway.providers.driver import Decoder, read_object
from gateway.upstream.shape import new_call_id, new_id
from gateway.upstream.sse import Event

Remember = Callable[[str, str], None]  # a tool call's id, and the signature of the thoughts that led to it

# Every other reason is a failure of the model: MALFORMED_FUNCTION_CALL, UNEXPECTED_TOOL_CALL, TOO_MANY_TOOL_CALLS,
# MALFORMED_RESPONSE, MISSING_THOUGHT_SIGNATURE, NO_IMAGE, OTHER, and what may be added.
_FINISH_REASONS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}


@dataclass(slots=True)
class _Choice:
    """How far one candidate of the answer is."""

    begun: bool = False
    calls: int = 0


class AnswerReader:
    """Reads the responses of one answer into chunks. `model` and `created` stand in each of them."""

    def __init__(self, model: str, created: int, remember: Remember) -> None:
        self._head = {"id": "", "object": "chat.completion.chunk", "created": created, "model": model}
        self._remember = remember
        self._choices: dict[int, _Choice] = {}
        self._call_ids: set[str] = set()

    def read(self, response: Mapping[str, Any]) -> list[Chunk]:
        """Return one chunk, or none where the response holds nothing.

        :raises UpstreamRefusedContent: the prompt was blocked. :raises UpstreamModelFailed: the model gave up.
        """
        candidates = [item for item in response.get("candidates") or () if isinstance(item, Mapping)]
        feedback = response.get("promptFeedback")
        if not candidates and isinstance(feedback, Mapping) and feedback.get("blockReason"):
            reason = _word(feedback["blockReason"])
            raise UpstreamRefusedContent(f"The provider blocked the prompt ({reason}). Change the prompt.", upstream_status=200)
        self._head["id"] = self._head["id"] or str(response.get("responseId") or "") or new_id("chatcmpl-")
        choices = [choice for item in candidates if (choice := self._read_candidate(item)) is not None]
        usage = read_usage(response.get("usageMetadata"))
        if not choices and not usage:
            return []
        return [{**self._head, "choices": choices} | ({"usage": usage} if usage else {})]

    def _read_candidate(self, candidate: Mapping[str, Any]) -> dict[str, Any] | None:
        index = candidate.get("index") or 0
        choice = self._choices.setdefault(index, _Choice())
        delta = self._read_parts((candidate.get("content") or {}).get("parts") or (), choice)
        reason = _finish_reason(candidate.get("finishReason"), choice)
        if not delta and not reason:
            return None
        if not choice.begun:
            delta = {"role": "assistant", **delta}
            choice.begun = True
        return {"index": index, "delta": delta, "finish_reason": reason}

    def _read_parts(self, parts: Iterable[Mapping[str, Any]], choice: _Choice) -> dict[str, Any]:
        delta: dict[str, Any] = {}
        for part in parts:
            if isinstance(call := part.get("functionCall"), Mapping):
                delta.setdefault("tool_calls", []).append(self._read_call(call, part.get("thoughtSignature"), choice))
            elif text := part.get("text"):
                name = "reasoning_content" if part.get("thought") else "content"
                delta[name] = delta.get(name, "") + text
        return delta

    def _read_call(self, call: Mapping[str, Any], signature: Any, choice: _Choice) -> dict[str, Any]:
        call_id = call.get("id")
        if not isinstance(call_id, str) or not call_id or call_id in self._call_ids:
            call_id = new_call_id()
        self._call_ids.add(call_id)
        arguments = jsonio.dumps(call.get("args") or {}).decode()
        read: dict[str, Any] = {
            "index": choice.calls,
            "id": call_id,
            "type": "function",
            "function": {"name": call.get("name") or "", "arguments": arguments},
        }
        choice.calls += 1
        if isinstance(signature, str) and signature:
            # Few clients send back what they do not know, so it is kept here too.
            read["extra_content"] = {"google": {"thought_signature": signature}}
            self._remember(call_id, signature)
        return read


def _finish_reason(reason: Any, choice: _Choice) -> str | None:
    """Return OpenAI's reason, None while the answer goes on."""
    if not reason or reason == "FINISH_REASON_UNSPECIFIED":
        return None
    known = _FINISH_REASONS.get(reason)
    if known is None:
        raise UpstreamModelFailed(f"The provider's model failed to answer ({_word(reason)}).", upstream_status=200)
    return "tool_calls" if known == "stop" and choice.calls else known


def _word(reason: Any) -> str:
    return "".join(letter for letter in str(reason)[:64] if letter.isalnum() or letter == "_")


def read_usage(metadata: Any) -> dict[str, Any] | None:
    """Return OpenAI's usage, None where nothing was counted. Counts of zero are left out by the API."""
    if not isinstance(metadata, Mapping) or not metadata.get("promptTokenCount"):
        return None
    prompt = metadata["promptTokenCount"] + (metadata.get("toolUsePromptTokenCount") or 0)
    thoughts = metadata.get("thoughtsTokenCount") or 0
    completion = (metadata.get("candidatesTokenCount") or 0) + thoughts  # theirs does not count thoughts
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": max(metadata.get("totalTokenCount") or 0, prompt + completion),
        "prompt_tokens_details": {"cached_tokens": metadata.get("cachedContentTokenCount") or 0},
        "completion_tokens_details": {"reasoning_tokens": thoughts},
    }


# --- whole answers ---------------------------------------------------------------------------------------------------


def build_completion(reader: AnswerReader, payload: Any) -> dict[str, Any]:
    """Return a chat.completion of one response, or of a list of them (a stream that was not asked for as events).

    :raises UpstreamError: it was refused, failed, or is not whole.
    """
    chunks = [chunk for response in _responses(payload) for chunk in reader.read(response)]
    choices: dict[int, dict[str, Any]] = {}
    completion: dict[str, Any] = {}
    for chunk in chunks:
        completion |= {**chunk, "object": "chat.completion"}
        for piece in chunk["choices"]:
            _merge(choices.setdefault(piece["index"], _new_choice(piece["index"])), piece)
    if not choices or any(choice["finish_reason"] is None for choice in choices.values()):
        raise UpstreamGarbled("The provider's answer was empty or cut short.", upstream_status=200)
    for choice in choices.values():
        message = choice["message"]
        message["content"] = message["content"] or (None if "tool_calls" in message else "")
    return completion | {"choices": [choices[index] for index in sorted(choices)]}


def _responses(payload: Any) -> list[Mapping[str, Any]]:
    return [item for item in (payload if isinstance(payload, list) else [payload]) if isinstance(item, Mapping)]


def _new_choice(index: int) -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}


def _merge(choice: dict[str, Any], piece: Mapping[str, Any]) -> None:
    message, delta = choice["message"], piece["delta"]
    for name in ("content", "reasoning_content"):
        if name in delta:
            message[name] = message.get(name, "") + delta[name]
    for call in delta.get("tool_calls") or ():
        message.setdefault("tool_calls", []).append({name: value for name, value in call.items() if name != "index"})
    choice["finish_reason"] = piece["finish_reason"] or choice["finish_reason"]


# --- streams ---------------------------------------------------------------------------------------------------------


class EventDecoder(Decoder):
    """Reads the events of a stream; each is a whole response, and the last has no mark but its finish reason."""

    def __init__(self, reader: AnswerReader, classify: Callable[[Any], UpstreamError]) -> None:
        self._reader = reader
        self._classify = classify

    def decode(self, event: Event) -> Iterable[Chunk]:
        payload = read_object(event)
        if payload is None:
            return ()
        if payload.get("error"):
            raise self._classify(payload)
        return self._reader.read(payload)
