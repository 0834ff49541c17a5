"""What dispatch needs of a provider, which translates between the gateway's canonical form (OpenAI's) and one protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.domain import (
    Candidate,
    ChatRequest,
    Credential,
    EmbeddingRequest,
    Model,
    ProviderRow,
    QuotaReading,
    RerankRequest,
    Scored,
)
from gateway.upstream.transport import CallLimits, Transport
from gateway.upstream.watch import Handle

Chunk = dict[str, Any]  # one OpenAI chat.completion.chunk object, or a piece of one
Headers = Mapping[str, str]  # of an answer; names in any case


class Notes(Protocol):
    """Small facts kept for later requests (the state store's `remember` and `recall`). Neither raises or blocks long."""

    def remember(self, key: str, value: str, ttl_s: float) -> None: ...

    def recall(self, keys: Sequence[str]) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A whole answer: an OpenAI chat.completion, not yet repaired (see upstream/shape.py)."""

    body: dict[str, Any]
    dropped: tuple[str, ...] = ()
    quota: Sequence[QuotaReading] = ()


@dataclass(frozen=True, slots=True)
class EmbeddingAnswer:
    vectors: list[list[float]]
    prompt_tokens: int | None = None
    dropped: tuple[str, ...] = ()
    quota: Sequence[QuotaReading] = ()


@dataclass(frozen=True, slots=True)
class RerankAnswer:
    """The best documents, the best first. `total_tokens` None: the provider did not count."""

    results: list[Scored]
    total_tokens: int | None = None
    dropped: tuple[str, ...] = ()
    quota: Sequence[QuotaReading] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """A provider's own list of models, as the provider spells them (upstream ids).

    `ids` are of every kind; `free` are those of them that a free account could use and the gateway could serve.
    """

    ids: frozenset[str]
    free: tuple[str, ...] = ()


class ChatStream(ABC):
    """A running streamed answer. Use from one thread; close it exactly once.

    `is_whole`: all of it is here already, however long that took. It has no first token to be late.
    """

    is_whole = False
    dropped: tuple[str, ...] = ()
    quota: Sequence[QuotaReading] = ()

    def wait(self, wait_s: float) -> bool:
        """Wait at most that long until there is something to read, and tell whether there is; reads nothing."""
        return True

    @abstractmethod
    def next_chunks(self, wait_s: float) -> list[Chunk] | None:
        """Return what arrived, waiting at most `wait_s` for the next bytes: [] when they held no chunk, None at the end.

        :raises UpstreamError: silence, a break, an error in the stream, or bytes that are no event stream.
        :raises ClientGone: nobody waits for it any more. :raises Draining: the worker stops.
        """

    @abstractmethod
    def close(self) -> None:
        """Let the upstream go; it stops generating if it was not done. Does not block for long, never raises."""


class Provider(ABC):
    """One provider of the catalog, ready to be called. Shared by all threads: no state of a request in it."""

    def __init__(self, row: ProviderRow, transport: Transport, notes: Notes) -> None:
        self.row = row
        self.transport = transport
        self.notes = notes

    def cannot_serve(self, request: ChatRequest, model: Model) -> str | None:
        """Return why this protocol cannot carry the request, None if it can. The model's capabilities are checked before."""
        return None

    @abstractmethod
    def complete(self, request: ChatRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> ChatAnswer:
        """Ask for a whole answer. Blocks until it is here, at most until `limits.deadline_mono`.

        :raises UpstreamError: the attempt failed; its class tells what rests and who is next.
        :raises ClientGone: the client left. :raises Draining: the worker stops.
        """

    @abstractmethod
    def open_stream(self, request: ChatRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> ChatStream:
        """Ask for a streamed answer. Blocks until its headers are here. Errors as for `complete`."""

    @abstractmethod
    def embed(self, request: EmbeddingRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> EmbeddingAnswer:
        """Embed all inputs, in as many calls as the model's `batch` needs. Errors as for `complete`."""

    @abstractmethod
    def rerank(self, request: RerankRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> RerankAnswer:
        """Score all documents, in as many calls as the model's `batch` needs. Errors as for `complete`."""

    def list_models(self, credential: Credential, limits: CallLimits, handle: Handle) -> Listing | None:
        """Return which models the provider has now, None where it has no such list. Blocks until `limits.deadline_mono`.

        A failure says nothing of the models, nor of the credential: some may call models and not list them.

        :raises UpstreamError: it failed, or its answer was no list (an empty one included).
        :raises Draining: the worker stops.
        """
        return None

    def try_credential(self, credential: Credential, limits: CallLimits, handle: Handle) -> bool:
        """Make a call that costs nothing and that a wrong credential fails; return whether there is such a call.

        Blocks until `limits.deadline_mono`.

        :raises UpstreamError: it failed. :raises Draining: the worker stops.
        """
        return False
