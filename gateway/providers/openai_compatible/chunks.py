"""Streams of chat.completion.chunk objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gateway.domain import Candidate
from gateway.errors import UpstreamError, UpstreamGarbled
from gateway.providers.base import Chunk
from gateway.providers.driver import Decoder, read_object
from gateway.providers.openai_compatible.failures import has_error, read_error, status_of
from gateway.upstream.sse import Event

if TYPE_CHECKING:
    from gateway.providers.openai_compatible import Adapter


class ChunkDecoder(Decoder):
    """Reads chat.completion.chunk objects, and the errors that providers put among them."""

    def __init__(self, adapter: Adapter, candidate: Candidate) -> None:
        self.adapter = adapter
        self.candidate = candidate

    def decode(self, event: Event) -> Iterable[Chunk]:
        payload = read_object(event)
        if payload is None:
            return ()
        if self.is_failure(payload) or (event.name == "error" and "choices" not in payload):
            raise self.failure(payload)
        choices = payload.get("choices")
        if not isinstance(choices, list):
            return ({**payload, "choices": []},) if payload.get("usage") else ()
        if not all(map(_is_piece, choices)):
            raise UpstreamGarbled("The provider sent a piece of the answer that is none.", upstream_status=200)
        self.adapter.check_ends(choices, self.candidate)
        return (payload,)

    def is_failure(self, payload: Mapping[str, Any]) -> bool:
        return has_error(payload)

    def failure(self, payload: Mapping[str, Any]) -> UpstreamError:
        return self.adapter.error_of(status_of(read_error(payload)), {}, payload, self.candidate)


def has_object(choice: Any, name: str) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get(name), dict)


def _is_piece(choice: Any) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("delta"), dict | None)
