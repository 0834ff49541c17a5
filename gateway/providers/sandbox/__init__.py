"""The provider in the process: answers without a network, and fails on demand, so that clients can be tested.

Its own models each have one behaviour (contract §9). Any other model is one that the sandbox stands in for: it says
so, and calls tools where the request has some. The misbehaving models do what a provider does; what the client sees
of it is the gateway's doing. All answers to one request have the same text, as the rescue of streams needs.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable

from gateway.domain import Candidate, ChatRequest, EmbeddingRequest, Model, ProviderRow, RerankRequest, Scored
from gateway.providers.base import ChatAnswer, ChatStream, Chunk, EmbeddingAnswer, Notes, Provider, RerankAnswer
from gateway.providers.sandbox.answer import Reply, build_answer, split_tokens, text_of
from gateway.providers.sandbox.faults import Player, build_steps
from gateway.providers.sandbox.vectors import build_vector, likeness
from gateway.upstream.transport import CallLimits, Transport
from gateway.upstream.watch import Handle

MAX_CHOICES = 128
DIMENSIONS = 256


class Adapter(Provider):
    """See the module. `clock` gives epoch seconds, `monotonic` those of the limits."""

    def __init__(
        self,
        row: ProviderRow,
        transport: Transport,
        notes: Notes,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(row, transport, notes)
        self._clock = clock
        self._monotonic = monotonic

    def complete(self, request: ChatRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> ChatAnswer:
        player = Player(build_steps(candidate.model.id, []), limits, handle, self._monotonic)
        try:
            player.next_arrival(limits.first_token_s, math.inf)  # the faults: a whole answer has no arrivals
        finally:
            player.close()
        return ChatAnswer(self._build_reply(request, candidate.model).completion())

    def open_stream(self, request: ChatRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> ChatStream:
        model = candidate.model
        steps = build_steps(model.id, self._build_reply(request, model).arrivals())
        return SandboxStream(Player(steps, limits, handle, self._monotonic))

    def embed(self, request: EmbeddingRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> EmbeddingAnswer:
        Player([], limits, handle, self._monotonic).close()
        size = request.dimensions or next(iter(candidate.model.dimensions), DIMENSIONS)
        tokens = sum(len(split_tokens(text)) for text in request.inputs)
        return EmbeddingAnswer([build_vector(text, size) for text in request.inputs], tokens)

    def rerank(self, request: RerankRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> RerankAnswer:
        Player([], limits, handle, self._monotonic).close()
        query = build_vector(request.query, DIMENSIONS)
        scores = [likeness(query, build_vector(text, DIMENSIONS)) for text in request.documents]
        results = sorted((Scored(index, score) for index, score in enumerate(scores)), key=lambda result: -result.score)
        per_document = len(split_tokens(request.query))
        tokens = sum(per_document + len(split_tokens(text)) for text in request.documents)
        return RerankAnswer(results[: request.top_n], tokens)

    def _build_reply(self, request: ChatRequest, model: Model) -> Reply:
        number = request.body.get("n")
        number = min(max(number, 1), MAX_CHOICES) if isinstance(number, int) else 1
        return Reply(
            model=model.id,
            id=f"chatcmpl-{secrets.token_hex(12)}",
            created=int(self._clock()),
            prompt_tokens=sum(len(split_tokens(text_of(message))) for message in request.messages),
            answers=tuple(build_answer(request, model) for _ in range(number)),
        )


class SandboxStream(ChatStream):
    """A reply in small pieces, with the faults of its model."""

    def __init__(self, player: Player) -> None:
        self._player = player

    def next_chunks(self, wait_s: float) -> list[Chunk] | None:
        return self._player.next_arrival(wait_s, wait_s)

    def close(self) -> None:
        self._player.close()
