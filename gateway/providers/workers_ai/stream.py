"""Streams, whose events may have either form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gateway.domain import Candidate
from gateway.errors import UpstreamFailed
from gateway.providers.base import Chunk
from gateway.providers.driver import read_object
from gateway.providers.openai_compatible.chunks import ChunkDecoder
from gateway.providers.workers_ai.forms import as_text, calls_of, finish_reason_of, is_classic, is_failure, mend, unwrap
from gateway.upstream.sse import Event

if TYPE_CHECKING:
    from gateway.providers.workers_ai import Adapter


class StreamDecoder(ChunkDecoder):
    """Reads classic events and chunks, also mixed in one stream.

    A classic stream has no finish reason: its [DONE] is the end, and becomes one. A stream of chunks has one, so a
    [DONE] without it is a break and stays one.
    """

    def __init__(self, adapter: Adapter, candidate: Candidate, limit_tokens: int, *, hides_thoughts: bool) -> None:
        super().__init__(adapter, candidate)
        self._hides_thoughts = hides_thoughts
        self._limit_tokens = limit_tokens
        self._unfinished = False  # a classic answer has begun, and nothing else
        self._has_chunks = False
        self._calls = 0
        self._usage: Any = None

    def is_last(self, event: Event) -> bool:
        # 2026-07: 9router issue 1645 has streams with two [DONE], and with words after the first finish reason.
        return False

    def decode(self, event: Event) -> Iterable[Chunk]:
        if event.data.strip() == b"[DONE]":
            return self._end()
        payload = read_object(event)
        if payload is None:
            return ()
        if is_failure(payload) or payload.get("error") or event.name == "error":
            raise self.failure(payload)
        answer = unwrap(payload)
        return self._decode_classic(answer) if is_classic(answer) else self._decode_chunk(answer)

    def _decode_chunk(self, chunk: Chunk) -> Iterable[Chunk]:
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            return ({**chunk, "choices": []},) if chunk.get("usage") else ()
        self._has_chunks = self._has_chunks or bool(choices)
        for choice in choices:
            if choice.get("finish_reason") == "error":
                raise UpstreamFailed("The provider's model failed while it answered.", upstream_status=200)
            mend(choice.get("delta"), hides_thoughts=self._hides_thoughts)
        return (chunk,)

    def _decode_classic(self, answer: Mapping[str, Any]) -> Iterable[Chunk]:
        self._unfinished = True
        delta: dict[str, Any] = {"content": as_text(answer.get("response"))}
        calls = calls_of(answer)
        if calls:
            delta["tool_calls"] = [{**call, "index": self._calls + number} for number, call in enumerate(calls)]
            self._calls += len(calls)
        chunk: Chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        if answer.get("usage"):
            chunk["usage"] = self._usage = answer["usage"]
        return (chunk,)

    def _end(self) -> Iterable[Chunk]:
        if not self._unfinished or self._has_chunks:
            return ()
        self._unfinished = False
        reason = finish_reason_of(self._calls, self._usage, self._limit_tokens)
        return ({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},)
