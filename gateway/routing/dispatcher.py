"""Serve a request from whoever can: plan, attempts, and what the client is told of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Any

from gateway.domain import Candidate, ChatRequest, EmbeddingRequest, ReasoningEffort, RerankRequest, Scored, Usage
from gateway.providers.base import Provider, RerankAnswer
from gateway.routing.attempts import AttemptLoop, Caller, Policy, Yield
from gateway.routing.candidates import Plan
from gateway.routing.commit import Begun, begin_stream
from gateway.routing.evidence import Health
from gateway.routing.ledger import Asked, Ledger
from gateway.routing.limits import AttemptClock, idle_s
from gateway.routing.roster import Roster
from gateway.routing.route import Route
from gateway.routing.serving import Serving
from gateway.routing.status import routing_status
from gateway.settings import Settings
from gateway.state.base import StateStore
from gateway.telemetry import Telemetry
from gateway.upstream import shape
from gateway.upstream.relay import Form, Relay, RelayLimits, StreamEnd

WAITING_PART = 4  # at most a quarter of the threads hold requests that wait for quota (contract §3)


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


@dataclass(frozen=True, slots=True)
class Ranking:
    results: list[Scored]
    route: Route
    usage: Usage


class Dispatcher:
    """Serves requests from whoever is on the roster. Thread-safe; one a process."""

    def __init__(
        self,
        *,
        roster: Roster,
        providers: Mapping[str, Provider],
        store: StateStore,
        settings: Settings,
        telemetry: Telemetry,
    ) -> None:
        self.roster = roster
        self.providers = providers
        self.settings = settings
        self.ledger = Ledger(store, telemetry=telemetry)
        seats = BoundedSemaphore(max(1, settings.threads // WAITING_PART))
        self.policy = Policy(retry_after_patience_s=settings.retry_after_patience_s, seats=seats)

    def complete(self, request: ChatRequest, caller: Caller) -> Completion:
        """Return a whole answer. Blocks at most REQUEST_DEADLINE_S.

        :raises GatewayError: nobody could serve it; `attempts` tells why.
        """
        loop = self._chat_loop(request, caller, self.settings.request_deadline_s)
        clock = AttemptClock(self.settings, loop.ends_at_mono, stream=False)

        def call(candidate: Candidate) -> Yield[tuple[dict[str, Any], Usage]]:
            limits = clock.chat_limits(request, candidate.model, self._health(candidate))
            answer = self.providers[candidate.provider.key].complete(request, candidate, limits, caller.handle)
            body = shape.repair_completion(answer.body, model=candidate.model.id, splits_thoughts=candidate.model.reasons)
            estimated = body["usage"] is None
            body["usage"] = body["usage"] or shape.estimate_usage(request.prompt_tokens, shape.answer_chars(body))
            usage = shape.usage_of(body["usage"], estimated=estimated)
            return Yield((body, usage), answer, usage, empty=shape.is_empty_stop(body))

        won = loop.attempt_all(call)
        body, usage = won.value
        route = loop.route_of(won)
        body["x_gateway"] = route.x_gateway() | ({"estimated": True} if usage.estimated else {})
        return Completion(body, route, usage)

    def open_stream(
        self, request: ChatRequest, caller: Caller, on_close: Callable[[StreamEnd, Route], None], form: Form | None = None
    ) -> OpenedStream:
        """Return a stream that has begun to answer. Blocks at most COMMIT_BUDGET_S. Errors as for `complete`.

        `on_close` is called once, when the relay is closed, after everything was settled, with who served it in the end.
        `form` writes it for another surface than chat completions.
        """
        loop = self._chat_loop(request, caller, self.settings.commit_budget_s)

        def call(candidate: Candidate) -> Yield[Begun]:
            clock = AttemptClock(self.settings, loop.ends_at_mono, stream=True)  # a rescue has an end of its own
            limits = clock.chat_limits(request, candidate.model, self._health(candidate))
            asked_at = time.monotonic()
            begun = begin_stream(self.providers[candidate.provider.key], request, candidate, limits, caller.handle)
            ttft_s = time.monotonic() - asked_at
            return Yield(begun, begun.stream, None, empty=begun.is_empty, ttft_s=ttft_s, discard=begun.stream.close)

        won = loop.attempt_all(call)
        with loop.taking_over(won):
            serving = Serving(loop, call, won, on_close)
            relay = Relay(
                won.value.stream,
                won.value.shaper,
                won.value.first,
                limits=RelayLimits(
                    idle_s=idle_s(self.settings, request), ends_at_mono=time.monotonic() + self.settings.stream_max_s
                ),
                include_usage=request.include_usage,
                prompt_tokens=request.prompt_tokens,
                x_gateway=serving.route.x_gateway(),
                on_close=serving.ended,
                handle=caller.handle,
                rescue=serving.rescue if self.settings.stream_rescue and caller.rescues else None,
                form=form,
            )
            return OpenedStream(relay, serving.route)

    def embed(self, request: EmbeddingRequest, caller: Caller) -> Embeddings:
        """Return one vector for each input, from the very model that was asked for. Errors as for `complete`."""
        plan = self.roster.planner.plan_embeddings(request)
        asked = Asked(request.prompt_tokens, inputs=len(request.inputs))
        ends_at = _budget_end(caller, self.settings.request_deadline_s)
        clock = AttemptClock(self.settings, ends_at, stream=False)

        def call(candidate: Candidate) -> Yield[tuple[list[list[float]], Usage]]:
            limits = clock.embedding_limits()
            answer = self.providers[candidate.provider.key].embed(request, candidate, limits, caller.handle)
            usage = _usage_of(answer.prompt_tokens, request.prompt_tokens)
            return Yield((answer.vectors, usage), answer, usage)

        loop = AttemptLoop(self.ledger, self.policy, plan=plan, asked=asked, caller=caller, ends_at_mono=ends_at)
        won = loop.attempt_all(call)
        vectors, usage = won.value
        return Embeddings(vectors, loop.route_of(won), usage)

    def rerank(self, request: RerankRequest, caller: Caller) -> Ranking:
        """Return the documents that answer a query best, by the very model that was asked for. Errors as for `complete`."""
        plan = self.roster.planner.plan_rerank(request)
        asked = Asked(request.prompt_tokens, inputs=len(request.documents))
        ends_at = _budget_end(caller, self.settings.request_deadline_s)
        clock = AttemptClock(self.settings, ends_at, stream=False)

        def call(candidate: Candidate) -> Yield[tuple[RerankAnswer, Usage]]:
            answer = self.providers[candidate.provider.key].rerank(request, candidate, clock.embedding_limits(), caller.handle)
            usage = _usage_of(answer.total_tokens, request.prompt_tokens)
            return Yield((answer, usage), answer, usage)

        loop = AttemptLoop(self.ledger, self.policy, plan=plan, asked=asked, caller=caller, ends_at_mono=ends_at)
        won = loop.attempt_all(call)
        answer, usage = won.value
        return Ranking(answer.results, loop.route_of(won), usage)

    def explain_chat(self, request: ChatRequest) -> dict[str, Any]:
        """Return who would serve a chat request, in which order, and why not the others. Nobody is asked.

        :raises GatewayError: as planning it would.
        """
        return self._explain(",".join(request.choice.names), self.roster.planner.plan_chat(request), request.reasoning_effort)

    def explain_embeddings(self, request: EmbeddingRequest) -> dict[str, Any]:
        """The same for embeddings."""
        return self._explain(request.choice.names[0], self.roster.planner.plan_embeddings(request), None)

    def explain_rerank(self, request: RerankRequest) -> dict[str, Any]:
        """The same for a reranking."""
        return self._explain(request.choice.names[0], self.roster.planner.plan_rerank(request), None)

    def explain_name(self, name: str) -> dict[str, Any]:
        """The same for any request that names a model. :raises ModelNotFound: nobody has that name."""
        return self._explain(name, self.roster.planner.plan_name(name), None)

    def _explain(self, asked: str, plan: Plan, effort: ReasoningEffort | None) -> dict[str, Any]:
        return routing_status(asked, plan, self.ledger, effort, self.roster.unknown_models)

    def _health(self, candidate: Candidate) -> Health:
        return self.ledger.standing(candidate).health

    def _chat_loop(self, request: ChatRequest, caller: Caller, budget_s: float) -> AttemptLoop:
        plan = self.roster.planner.plan_chat(request)
        asked = Asked(request.prompt_tokens, request.max_output_tokens, request.body.get("n") or 1, streams=request.stream)
        return AttemptLoop(
            self.ledger,
            self.policy,
            plan=plan,
            asked=asked,
            effort=request.reasoning_effort,
            dropped=request.dropped,
            caller=caller,
            ends_at_mono=_budget_end(caller, budget_s),
            budget_s=budget_s,
        )


def _budget_end(caller: Caller, budget_s: float) -> float:
    return min(caller.asked_mono + budget_s, caller.gives_up_at_mono)


def _usage_of(told: int | None, estimate: int) -> Usage:
    """Return the tokens of an answer that writes none itself. `told` None: the provider did not count."""
    return Usage(estimate if told is None else told, estimated=told is None)
