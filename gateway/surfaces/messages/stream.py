"""Streams: chunks become the events of a message, its content blocks one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway import jsonio
from gateway.errors import GatewayError
from gateway.surfaces.messages.errors import error_body
from gateway.surfaces.messages.parts import (
    SIGNATURE,
    PrefillCutter,
    build_message,
    build_usage,
    is_object,
    read_input,
    read_stop,
    read_usage,
)
from gateway.surfaces.messages.terms import Terms
from gateway.upstream.sse import format_event

_CHOICE_FIELDS = 3  # index, delta and finish_reason; what is more are the provider's notes, some of how it ended


def _event(kind: str, **fields: Any) -> bytes:
    return format_event(kind, jsonio.dumps({"type": kind, **fields}))


PING = _event("ping")


class _Block:
    """One content block. Its pieces wait here until the blocks before it are complete."""

    delta_type = "text_delta"
    key = "text"

    def __init__(self) -> None:
        self.begun = False
        self.waiting: list[str] = []

    def start(self) -> dict[str, Any]:
        return {"type": "text", "text": ""}

    @property
    def is_complete(self) -> bool:
        """Whether nothing more can come, once another block has begun."""
        return True

    def write(self, index: int) -> list[bytes]:
        """Return the events of what waits."""
        events = []
        if not self.begun:
            self.begun = True
            events.append(_event("content_block_start", index=index, content_block=self.start()))
        if piece := "".join(self.waiting):
            self.waiting.clear()
            events.append(self._delta(index, self.delta_type, self.key, piece))
        return events

    def stop(self, index: int) -> list[bytes]:
        return [_event("content_block_stop", index=index)]

    def _delta(self, index: int, type_: str, key: str, piece: str) -> bytes:
        return _event("content_block_delta", index=index, delta={"type": type_, key: piece})


class _Thoughts(_Block):
    delta_type = "thinking_delta"
    key = "thinking"

    def start(self) -> dict[str, Any]:
        return {"type": "thinking", "thinking": "", "signature": ""}

    def stop(self, index: int) -> list[bytes]:
        return [self._delta(index, "signature_delta", "signature", SIGNATURE), *super().stop(index)]


class _Call(_Block):
    """A tool's call. Providers may send pieces of several in turn, so that its input alone tells when it is complete."""

    delta_type = "input_json_delta"
    key = "partial_json"

    def __init__(self, call_id: str, name: str) -> None:
        super().__init__()
        self._id, self._name = call_id, name
        self._pieces: list[str] = []

    def start(self) -> dict[str, Any]:
        return {"type": "tool_use", "id": self._id, "name": self._name, "input": {}}

    def add(self, piece: str) -> None:
        self.waiting.append(piece)
        self._pieces.append(piece)

    @property
    def arguments(self) -> str:
        return "".join(self._pieces)

    @property
    def is_complete(self) -> bool:
        return is_object(self.arguments)


class MessageForm:
    """The events of one message (a relay's `Form`)."""

    heartbeat = PING

    def __init__(self, terms: Terms, request_id: str) -> None:
        self._terms = terms
        self._request_id = request_id
        self._begun = False
        self._blocks: list[_Block] = []
        self._calls: dict[int, _Call] = {}
        self._live = 0  # the first block that is not complete: what belongs to later ones waits
        self._cutter = PrefillCutter(terms.prefill)
        self._refused = False
        self._ending: dict[str, Any] = {}
        self._usage = build_usage(terms.prompt_tokens, 0)
        self._x_gateway: Mapping[str, Any] = {}

    def chunks(self, chunks: list[dict[str, Any]]) -> bytes:
        events = [] if self._begun else self._begin(chunks[0])
        for chunk in chunks:
            self._take(chunk)
        return b"".join([*events, *self._write()])

    def end(self) -> bytes:
        """Return the rest of the message.

        :raises UpstreamGarbled: a tool was called with something else than an object.
        """
        self._add(_Block, self._cutter.finish())
        for call in self._calls.values():
            read_input(call.arguments, cut=self._ending["finish_reason"] == "length")
        events = []
        for index, block in enumerate(self._blocks[self._live :], start=self._live):
            events += [*block.write(index), *block.stop(index)]
        stop = read_stop(self._ending, self._terms, refused=self._refused)
        events.append(_event("message_delta", delta=stop, usage=self._usage, x_gateway=self._x_gateway))
        events.append(_event("message_stop"))
        return b"".join(events)

    def failure(self, error: GatewayError) -> bytes:
        return format_event("error", jsonio.dumps(error_body(error, self._request_id)))

    def _begin(self, chunk: Mapping[str, Any]) -> list[bytes]:
        self._begun = True
        return [_event("message_start", message=build_message(chunk, self._usage)), PING]

    def _take(self, chunk: Mapping[str, Any]) -> None:
        if chunk.get("usage"):
            self._usage = read_usage(chunk["usage"])
        if "x_gateway" in chunk:
            self._x_gateway = chunk["x_gateway"]
        for choice in chunk["choices"]:
            if choice["index"] == 0:  # a message is one answer
                self._take_choice(choice)

    def _take_choice(self, choice: Mapping[str, Any]) -> None:
        delta = choice["delta"]
        if self._terms.shows_thoughts:
            self._add(_Thoughts, delta.get("reasoning_content"))
        if content := delta.get("content"):
            self._add(_Block, self._cutter.feed(content))
        if refusal := delta.get("refusal"):
            self._refused = True
            self._add(_Block, self._cutter.finish() + refusal)
        for call in delta.get("tool_calls") or ():
            self._take_call(call)
        if choice["finish_reason"] or len(choice) > _CHOICE_FIELDS:
            self._ending.update(choice)

    def _add(self, kind: type[_Block], piece: str | None) -> None:
        if not piece:
            return
        if not self._blocks or type(self._blocks[-1]) is not kind:
            self._blocks.append(kind())
        self._blocks[-1].waiting.append(piece)

    def _take_call(self, call: Mapping[str, Any]) -> None:
        function = call["function"]
        block = self._calls.get(call["index"])
        if block is None:
            self._add(_Block, self._cutter.finish())
            block = self._calls[call["index"]] = _Call(call["id"], function["name"])
            self._blocks.append(block)
        block.add(function["arguments"])

    def _write(self) -> list[bytes]:
        """Return what can be sent now: everything but blocks that wait for one before them."""
        events: list[bytes] = []
        while self._live < len(self._blocks):
            block = self._blocks[self._live]
            events += block.write(self._live)
            if self._live == len(self._blocks) - 1 or not block.is_complete:
                break
            events += block.stop(self._live)
            self._live += 1
        return events
