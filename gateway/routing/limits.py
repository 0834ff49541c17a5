"""Time limits of one attempt (contract §5). Pure but for the monotonic clock it is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from gateway.domain import ChatRequest, Model
from gateway.routing.evidence import Health
from gateway.settings import Settings
from gateway.upstream.transport import CallLimits

REASONING_FIRST_TOKEN_S = 30.0  # models with a reasoning tier think before they speak
PROMPT_TOKENS_PER_S = 5000.0  # how fast a prompt is read, at least: a large one may delay the first token
WHOLE_ANSWER_S = 20.0  # the least that a whole answer is given
MOST_TOKENS = 8192  # of an answer of a model whose row does not say: clients ask for 64,000
BEYOND_USUAL = 3.0  # times a model's own 95th percentile: later than that, it will hardly come
TOOLS_IDLE_S = 120.0  # providers send a large tool call in one piece, after a long silence


def idle_s(settings: Settings, request: ChatRequest) -> float:
    """Return how long a stream may be silent."""
    return max(settings.idle_timeout_s, TOOLS_IDLE_S) if "tools" in request.needs else settings.idle_timeout_s


class AttemptClock:
    """The limits of attempts within one request that ends at `ends_at_mono`."""

    def __init__(
        self, settings: Settings, ends_at_mono: float, *, stream: bool, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._ends_at_mono = ends_at_mono
        self._stream = stream
        self._now = now

    def chat_limits(self, request: ChatRequest, model: Model, health: Health) -> CallLimits:
        """Return the limits of one call, by what is known of the model."""
        if not self._stream:
            usual_s = BEYOND_USUAL * (health.whole_p95_s or 0.0)
            return self._whole_limits(max(WHOLE_ANSWER_S, usual_s, self._answer_s(request, model, health)))
        return CallLimits(
            connect_s=self._settings.connect_timeout_s,
            first_token_s=self.first_token_s(request, model, health),
            idle_s=idle_s(self._settings, request),
            deadline_mono=self._ends_at_mono,
        )

    def embedding_limits(self) -> CallLimits:
        """Return the limits of one request's calls: `first_token_s` is that of each, since a batch takes several."""
        return replace(self._whole_limits(WHOLE_ANSWER_S), deadline_mono=self._ends_at_mono)

    def first_token_s(self, request: ChatRequest, model: Model, health: Health) -> float:
        """Return how long a first token may take; what the row says holds as it stands."""
        if model.first_token_timeout_s is not None:
            return model.first_token_timeout_s
        usual_s = max(self._settings.first_token_timeout_s, BEYOND_USUAL * (health.ttft_p95_s or 0.0))
        if model.reasoning_tier is not None:
            usual_s = max(usual_s, REASONING_FIRST_TOKEN_S)
        return usual_s + request.prompt_tokens / PROMPT_TOKENS_PER_S

    def _answer_s(self, request: ChatRequest, model: Model, health: Health) -> float:
        """Return how long an answer of the length that was asked for may take; its speed counts once somebody measured it."""
        begins_s = self.first_token_s(request, model, health)
        if not (request.max_output_tokens and health.tokens_per_s):
            return begins_s
        return begins_s + min(request.max_output_tokens, model.max_output_tokens or MOST_TOKENS) / health.tokens_per_s

    def _whole_limits(self, seconds: float) -> CallLimits:
        return CallLimits(
            connect_s=self._settings.connect_timeout_s,
            first_token_s=seconds,
            idle_s=seconds,
            deadline_mono=min(self._ends_at_mono, self._now() + seconds),
        )
