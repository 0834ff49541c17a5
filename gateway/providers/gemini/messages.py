"""OpenAI's messages as Gemini's `contents`: roles `user` and `model` in turn, made of parts that are never empty.

https://ai.google.dev/api/caching#Content, read 2026-11-22
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from urllib.parse import unquote_to_bytes

from gateway import jsonio
from gateway.errors import UpstreamModelFailed
from gateway.providers.gemini.family import Family

Part = dict[str, Any]
Message = Mapping[str, Any]

# Google's own stand-in where no signature is known: the call came from another provider, or was kept for too long.
# 2026-11: https://ai.google.dev/gemini-api/docs/thought-signatures (FAQ)
NO_SIGNATURE = "skip_thought_signature_validator"

BLANK: Part = {"text": " "}  # for a turn that must be there though nobody said anything: empty parts are refused


def unservable_part(message: Message) -> str | None:
    """Return why a message cannot be sent, None if it can."""
    for part in _listed(message.get("content")):
        kind = part.get("type", "text")
        if kind not in _ENCODERS:
            return f"takes no content of type {kind}"
        if kind in ("image_url", "file") and not _url_of(part).startswith("data:"):
            return "takes images and files as data URLs only"
    return None


def unsigned_call_ids(messages: Sequence[Message]) -> list[str]:
    """Return the ids of all calls in the history that came back without a signature."""
    return [call["id"] for message in messages for call in _calls(message) if call.get("id") and not sent_signature(call)]


def sent_signature(call: Message) -> str | None:
    """Return the signature that a client sent back, nested as Google's compatible endpoint does it."""
    found: Any = call
    for name in ("extra_content", "google", "thought_signature"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) and found else None


@dataclass(slots=True)
class Conversation:
    """The messages in Gemini's form: `system` has the parts of the system instruction, `contents` the rest."""

    family: Family
    signatures: Mapping[str, str]  # by tool call id
    system: list[Part] = field(default_factory=list)
    contents: list[dict[str, Any]] = field(default_factory=list)
    _calls: dict[str, tuple[int, str]] = field(default_factory=dict)  # by id: place in the history, function

    @classmethod
    def of(cls, messages: Sequence[Message], family: Family, signatures: Mapping[str, str]) -> Conversation:
        conversation = cls(family, signatures)
        for role, group in groupby(messages, key=lambda message: str(message["role"])):
            conversation._add_all(role, list(group))
        conversation._complete()
        return conversation

    def _add_all(self, role: str, messages: list[Message]) -> None:
        if role == "tool":
            # In the order of the calls: models before Gemini 3 match parallel results by their place.
            messages.sort(key=self._place)
        for message in messages:
            if role in ("system", "developer"):
                self.system += _encode_content(message.get("content"))
            elif role == "assistant":
                self._add("model", _encode_content(message.get("content")) + list(self._encode_calls(message)))
            elif role == "tool":
                self._add("user", self._encode_result(message))
            else:
                self._add("user", _encode_content(message.get("content")) or [BLANK])

    def _place(self, result: Message) -> int:
        place, _ = self._calls.get(result.get("tool_call_id") or "", (len(self._calls), ""))
        return place

    def _add(self, role: str, parts: list[Part]) -> None:
        if not parts:
            return
        if self.contents and self.contents[-1]["role"] == role:
            self.contents[-1]["parts"] += parts
        else:
            self.contents.append({"role": role, "parts": list(parts)})

    def _complete(self) -> None:
        """Fulfil what the API demands of the whole: a first turn, which is the user's."""
        folded = self.system if not self.contents or not self.family.takes_system else []
        if folded:
            self.system = []
        if not self.contents or self.contents[0]["role"] == "model":
            self.contents.insert(0, {"role": "user", "parts": folded or [BLANK]})
        elif folded:
            self.contents[0]["parts"][:0] = folded

    def _encode_calls(self, message: Message) -> Iterator[Part]:
        for number, call in enumerate(_calls(message)):
            function = call.get("function") or {}
            call_id, name = call.get("id") or "", function.get("name") or ""
            self._calls[call_id] = (len(self._calls), name)
            encoded: Part = {"name": name, "args": _arguments(function.get("arguments"))}
            if call_id and self.family.names_calls:
                encoded["id"] = call_id
            signature = self._signature(call, call_id, first=number == 0)
            yield {"functionCall": encoded} | ({"thoughtSignature": signature} if signature else {})

    def _signature(self, call: Message, call_id: str, *, first: bool) -> str | None:
        if not self.family.signs:
            return None
        known = sent_signature(call) or self.signatures.get(call_id)
        return known or (NO_SIGNATURE if first and self.family.wants_signatures else None)

    def _encode_result(self, message: Message) -> list[Part]:
        call_id = message.get("tool_call_id") or ""
        _, name = self._calls.get(call_id, (0, message.get("name") or "unknown"))
        parts = _encode_content(message.get("content"))
        text = "".join(part.get("text", "") for part in parts)
        encoded: Part = {"name": name, "response": _result(text)}
        if call_id and self.family.names_calls:
            encoded["id"] = call_id
        return [{"functionResponse": encoded}, *(part for part in parts if "text" not in part)]


def _arguments(arguments: Any) -> dict[str, Any]:
    """Return a call's arguments as the object that the API demands."""
    value = arguments
    if isinstance(arguments, str):
        try:
            value = jsonio.loads_exactly(arguments) if arguments.strip() else {}
        except ValueError:
            value = arguments  # a model's broken JSON: it may well be told what it wrote
    return value if isinstance(value, dict) else {"arguments": value}


def _result(text: str) -> dict[str, Any]:
    """Return a tool's result as the object that the API demands."""
    try:
        value = jsonio.loads(text) if text.lstrip().startswith("{") else None
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"result": text}


def _calls(message: Message) -> list[Message]:
    return [call for call in message.get("tool_calls") or () if isinstance(call, Mapping)]


# --- content ---------------------------------------------------------------------------------------------------------


def _encode_content(content: Any) -> list[Part]:
    """Return the parts of a message's content, without those that hold nothing."""
    if isinstance(content, str):
        return [{"text": content}] if content else []
    return [encoded for part in _listed(content) if (encoded := _encode_part(part)) is not None]


def _listed(content: Any) -> list[Mapping[str, Any]]:
    return [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []


def _encode_part(part: Mapping[str, Any]) -> Part | None:
    encode = _ENCODERS.get(part.get("type", "text"))
    if encode is None:
        raise UpstreamModelFailed("The provider does not take this type of content.")
    return encode(part)


def _encode_text(part: Mapping[str, Any]) -> Part | None:
    text = part.get("text") or part.get("refusal")
    return {"text": text} if text else None


def _encode_url(part: Mapping[str, Any]) -> Part:
    head, comma, data = _url_of(part).partition(",")
    if not comma or not head.startswith("data:"):
        raise UpstreamModelFailed("The provider takes images and files as data URLs only.")
    media_type, *options = head.removeprefix("data:").split(";")
    if "base64" not in options:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return {"inlineData": {"mimeType": media_type or "image/png", "data": data}}


def _encode_audio(part: Mapping[str, Any]) -> Part:
    audio = part.get("input_audio") or {}
    return {"inlineData": {"mimeType": f"audio/{audio.get('format') or 'wav'}", "data": audio.get("data") or ""}}


def _url_of(part: Mapping[str, Any]) -> str:
    value = part.get("image_url") or part.get("file") or ""
    if isinstance(value, Mapping):
        value = value.get("url") or value.get("file_data") or ""
    return str(value)


_ENCODERS = {
    "text": _encode_text,
    "refusal": _encode_text,
    "image_url": _encode_url,
    "file": _encode_url,
    "input_audio": _encode_audio,
}
