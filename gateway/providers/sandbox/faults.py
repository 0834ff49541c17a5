"""What happens in which order while somebody waits: arrivals, silences and failures, by the model that was asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway.errors import (
    GatewayError,
    TimeoutPhase,
    UpstreamError,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamReset,
    UpstreamTimeout,
)
from gateway.providers.base import Chunk
from gateway.upstream.transport import CallLimits, interruption
from gateway.upstream.watch import Handle

SLOW = "sandbox/slow-first-token"
CUT = "sandbox/cut"
STALL = "sandbox/stall"
RATE_LIMITED = "sandbox/rate-limited"
ERROR = "sandbox/error"

FIRST_TOKEN_DELAY_S = 8.0  # slow enough to try a client's patience, within the default limit of 10 s
RETRY_AFTER_S = 7.0  # beyond the default patience of 3 s, so that the client sees it
ARRIVALS_BEFORE_FAULT = 2


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing comes for `seconds`; whoever does not wait as long has a time-out of `phase`."""

    seconds: float
    phase: TimeoutPhase


Step = list[Chunk] | Silence | UpstreamError  # of an answer: an arrival, a pause, a failure


def build_steps(model_id: str, arrivals: Sequence[list[Chunk]]) -> list[Step]:
    """Return the arrivals of a reply with the faults that the model stands for; a whole answer has no arrivals.

    :raises UpstreamError: the model refuses before it answers.
    """
    if model_id == RATE_LIMITED:
        raise UpstreamRateLimited("The provider's rate limit is reached.", upstream_status=429, retry_after_s=RETRY_AFTER_S)
    if model_id == ERROR:
        raise UpstreamFailed("The provider failed.", upstream_status=500)
    before = arrivals[:-1][:ARRIVALS_BEFORE_FAULT]  # never the end
    if model_id == CUT:
        return [*before, UpstreamReset("The provider's connection broke off.")]
    if model_id == STALL:
        return [*before, Silence(math.inf, "idle")]
    if model_id == SLOW:
        return [Silence(FIRST_TOKEN_DELAY_S, "first_token"), *arrivals]
    return list(arrivals)


class Player:
    """Goes through the steps of one answer while somebody waits for it, until the deadline that the handle is armed with.

    :raises ClientGone: the client left. :raises Draining: the worker stops. :raises UpstreamTimeout: it is too late already.
    """

    def __init__(self, steps: Sequence[Step], limits: CallLimits, handle: Handle, monotonic: Callable[[], float]) -> None:
        self._steps: Iterator[Step] = iter(steps)
        self._handle = handle
        self._monotonic = monotonic
        handle.arm(limits.deadline_mono)
        try:
            self._left_s()
        except GatewayError:
            handle.disarm()
            raise

    def next_arrival(self, first_token_s: float, idle_s: float) -> list[Chunk] | None:
        """Return what comes next, None at the end; silence is borne as long as its phase's limit and the deadline allow.

        :raises UpstreamError: the step is a failure. :raises ClientGone: the client left. :raises Draining: the worker stops.
        """
        self._left_s()
        for step in self._steps:
            if isinstance(step, UpstreamError):
                raise step
            if isinstance(step, list):
                return step
            self._bear(step, first_token_s if step.phase == "first_token" else idle_s)
        return None

    def close(self) -> None:
        self._handle.disarm()

    def _bear(self, silence: Silence, wait_s: float) -> None:
        left_s = self._left_s()
        if self._handle.wait(min(silence.seconds, wait_s, left_s)):
            raise interruption(self._handle)
        if silence.seconds > left_s and wait_s >= left_s:
            raise UpstreamTimeout("The provider did not finish in time.", phase="total")
        if silence.seconds > wait_s:
            raise UpstreamTimeout("The provider was silent for too long.", phase=silence.phase)

    def _left_s(self) -> float:
        """Return the seconds until the deadline, which the relay lifts once the answer has begun."""
        deadline_mono = self._handle.deadline_mono  # read first: the watch lifts it, too, when it sets `expired`
        if self._handle.ended or self._handle.expired:
            raise interruption(self._handle)
        if deadline_mono <= self._monotonic():
            raise UpstreamTimeout("The provider did not finish in time.", phase="total")
        return deadline_mono - self._monotonic()
