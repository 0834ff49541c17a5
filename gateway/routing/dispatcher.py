"""Serve a request from whoever can: plan, attempts, and what the client is told of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.catalog import Inventory
from gateway.domain import Attempt, Candidate, ChatRequest, EmbeddingRequest, Usage
from gateway.errors import UpstreamError
from gateway.providers.base import Provider
from gateway.routing.attempts import AttemptLoop, Caller, Patience, Won, Yield
from gateway.routing.candidates import Plan, plan_chat, plan_embeddings
from gateway.routing.commit import Begun, begin_stream
from gateway.routing.ledger import Ledger
from gateway.routing.limits import AttemptClock
from gateway.settings import Settings
from gateway.state.base import StateStore
from gateway.telemetry import Telemetry
from gateway.upstream import shape
from gateway.upstream.relay import Relay, RelayLimits, StreamEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How a request was served: what headers and `x_gateway` tell."""

    candidate: Candidate
    attempts: Sequence[Attempt]
    dropped: tuple[str, ...]
    reasoning_effort: str
    request_id: str

    def x_gateway(self) -> dict[str, Any]:
        return {
            "provider": self.candidate.provider.key,
            "model": self.candidate.model.id,
            "attempts": len(self.attempts),
            "reasoning_effort": self.reasoning_effort,
            "request_id": self.request_id,
        }


@dataclass(frozen=True, slots=True)
class Completion:
    body: dict[str, Any]
    route: Route
    usage: Usage


@dataclass(frozen=True, slots=True)
class OpenedStream:
    """A stream at its commit point: iterate and close `relay`."""

    relay: Relay
    route: Route


@dataclass(frozen=True, slots=True)
class Embeddings:
    vectors: list[list[float]]
    route: Route
    usage: Usage


class Dispatcher:
    """Serves requests from the candidates of an inventory. Thread-safe; one a process."""

    def __init__(
        self,
        *,
        inventory: Inventory,
        providers: Mapping[str, Provider],
        store: StateStore,
        settings: Settings,
        telemetry: Telemetry,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.inventory = inventory
        self.providers = providers
        self.settings = settings
        self.telemetry = telemetry
        self.ledger = Ledger(store, clock)
        self.patience = Patience(settings.retry_after_patience_s, jitter)

    def complete(self, request: ChatRequest, caller: Caller) -> Completion:
        """Return a whole answer. Blocks at most REQUEST_DEADLINE_S.

        :raises GatewayError: nobody could serve it; `attempts` tells why.
        """
        plan = plan_chat(request, self.inventory, self.providers)
        ends_at = _budget_end(caller, self.settings.request_deadline_s)
        clock = AttemptClock(self.settings, ends_at, stream=False)

        def call(candidate: Candidate) -> Yield[dict[str, Any]]:
            limits = clock.chat_limits(request, candidate.model)
            answer = self.providers[candidate.provider.key].complete(request, candidate, limits, caller.handle)
            body = shape.repair_completion(answer.body, model=candidate.model.id, splits_thoughts=candidate.model.reasons)
            return Yield(body, answer, empty=shape.is_empty_stop(body))

        loop = self._loop(plan, request.prompt_tokens, caller, ends_at)
        won = loop.attempt_all(call)
        body = won.value
        estimated = body["usage"] is None
        body["usage"] = body["usage"] or shape.estimate_usage(request.prompt_tokens, shape.answer_chars(body))
        usage = shape.usage_of(body["usage"], estimated=estimated)
        self.ledger.settle(won.candidate, won.reservation, usage)
        route = self._route(won, loop, request)
        body["x_gateway"] = route.x_gateway() | ({"estimated": True} if estimated else {})
        return Completion(body, route, usage)

    def open_stream(self, request: ChatRequest, caller: Caller, on_close: Callable[[StreamEnd], None]) -> OpenedStream:
        """Return a stream that has begun to answer. Blocks at most COMMIT_BUDGET_S. Errors as for `complete`.

        `on_close` is called once, when the relay is closed, after everything was settled.
        """
        plan = plan_chat(request, self.inventory, self.providers)
        ends_at = _budget_end(caller, self.settings.commit_budget_s)
        clock = AttemptClock(self.settings, ends_at, stream=True)

        def call(candidate: Candidate) -> Yield[Begun]:
            limits = clock.chat_limits(request, candidate.model)
            begun = begin_stream(self.providers[candidate.provider.key], request, candidate, limits, caller.handle)
            return Yield(begun, begun.stream, empty=begun.is_empty, discard=begun.stream.close)

        loop = self._loop(plan, request.prompt_tokens, caller, ends_at)
        won = loop.attempt_all(call)
        route = self._route(won, loop, request)

        def settle_and_tell(end: StreamEnd) -> None:
            self.ledger.settle(won.candidate, won.reservation, end.usage)
            if isinstance(end.error, UpstreamError) and end.outcome == "broken":
                self.ledger.rest(won.candidate, end.error)
            on_close(end)

        relay = Relay(
            won.value.stream,
            won.value.shaper,
            won.value.first,
            limits=RelayLimits(idle_s=clock.idle_s(request), ends_at_mono=time.monotonic() + self.settings.stream_max_s),
            include_usage=request.include_usage,
            prompt_tokens=request.prompt_tokens,
            x_gateway=route.x_gateway(),
            on_close=settle_and_tell,
        )
        return OpenedStream(relay, route)

    def embed(self, request: EmbeddingRequest, caller: Caller) -> Embeddings:
        """Return one vector for each input, from the very model that was asked for. Errors as for `complete`."""
        plan = plan_embeddings(request, self.inventory)
        ends_at = _budget_end(caller, self.settings.request_deadline_s)
        clock = AttemptClock(self.settings, ends_at, stream=False)

        def call(candidate: Candidate) -> Yield[tuple[list[list[float]], int | None]]:
            limits = clock.embedding_limits()
            answer = self.providers[candidate.provider.key].embed(request, candidate, limits, caller.handle)
            return Yield((answer.vectors, answer.prompt_tokens), answer)

        loop = self._loop(plan, request.prompt_tokens, caller, ends_at)
        won = loop.attempt_all(call)
        vectors, tokens = won.value
        usage = Usage(request.prompt_tokens if tokens is None else tokens, estimated=tokens is None)
        self.ledger.settle(won.candidate, won.reservation, usage)
        return Embeddings(vectors, self._route(won, loop, None), usage)

    def _loop(self, plan: Plan, tokens: int, caller: Caller, ends_at_mono: float) -> AttemptLoop:
        return AttemptLoop(
            self.ledger, self.telemetry, self.patience, plan=plan, tokens=tokens, caller=caller, ends_at_mono=ends_at_mono
        )

    def _route(self, won: Won[Any], loop: AttemptLoop, request: ChatRequest | None) -> Route:
        asked = request.reasoning_effort if request else None
        passed_on = asked is not None and "reasoning_effort" not in won.dropped
        return Route(
            candidate=won.candidate,
            attempts=tuple(loop.attempts),
            dropped=won.dropped,
            reasoning_effort=asked if asked and passed_on else "auto",
            request_id=loop.caller.request_id,
        )


def _budget_end(caller: Caller, budget_s: float) -> float:
    own = caller.started_mono + budget_s
    return own if caller.time_limit_s is None else min(own, caller.started_mono + caller.time_limit_s)
