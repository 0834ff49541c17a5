"""The attempt loop: one client request, as many candidates as it takes."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import BoundedSemaphore
from typing import Any, Generic, Protocol, TypeVar

from gateway.domain import Attempt, Candidate, QuotaReading, ReasoningEffort, Usage
from gateway.errors import (
    CandidatesExhausted,
    GatewayError,
    UpstreamContextTooLong,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from gateway.routing import cooldown
from gateway.routing.candidates import Plan
from gateway.routing.ledger import Asked, Booking, Ledger
from gateway.routing.outlook import Moment, Out
from gateway.routing.ranking import rank, scorer_for
from gateway.state.base import Rest
from gateway.telemetry import Telemetry
from gateway.upstream.transport import interruption
from gateway.upstream.watch import Handle

T = TypeVar("T")

MAX_ATTEMPTS = 6  # of one request, whatever its budget (contract §5)
FAILURES_OF_A_PROVIDER = 2  # then `auto` tries another provider first
SECOND_TRY_PAUSE_S = (0.2, 0.5)  # shortest and longest: long enough for a restart, jittered against herds
LONG_RETRY_AFTER_S = 60  # SDKs sleep through Retry-After silently: beyond this they are told not to
AFTER_RESET_S = 0.02  # a wait ends this much after the reset, when it is surely over


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What dispatch knows of the client beside the request.

    `time_limit_s` is the SDK's own, None where it sends none. `max_wait_s`: how long it will wait for quota. `rescues`:
    whether a stream that breaks may go on from another provider.
    """

    request_id: str
    handle: Handle
    started_mono: float
    time_limit_s: float | None = None
    max_wait_s: float = 0.0
    rescues: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What loops have in common: how long a pinned candidate is waited for, where waiting callers sit, and chance.

    `jitter(least, most)` and `draw()` (from 0 to 1) are random; `seats` bounds how many requests wait for quota at a time.
    """

    retry_after_patience_s: float
    seats: BoundedSemaphore
    jitter: Callable[[float, float], float] = random.uniform
    draw: Callable[[], float] = random.random


class Result(Protocol):
    """What a provider returned, as far as the loop looks at it."""

    @property
    def dropped(self) -> tuple[str, ...]: ...

    @property
    def quota(self) -> Sequence[QuotaReading]: ...


@dataclass(frozen=True, slots=True)
class Yield(Generic[T]):
    """A successful attempt. `empty`: a `stop` with nothing in it, good enough only if nobody is left.

    `ttft_s`: how long its first token took, None where it came in one piece.
    """

    value: T
    result: Result
    empty: bool = False
    ttft_s: float | None = None
    discard: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Won(Generic[T]):
    """The attempt that served the request, its booking still open."""

    value: T
    booking: Booking
    dropped: tuple[str, ...]
    ttft_s: float | None

    @property
    def candidate(self) -> Candidate:
        return self.booking.candidate


class AttemptLoop:
    """One dispatch in progress: what was tried, and who is still worth trying."""

    def __init__(
        self,
        ledger: Ledger,
        telemetry: Telemetry,
        policy: Policy,
        *,
        plan: Plan,
        asked: Asked,
        effort: ReasoningEffort | None = None,
        caller: Caller,
        ends_at_mono: float,
    ) -> None:
        self.ledger = ledger
        self.telemetry = telemetry
        self.policy = policy
        self.plan = plan
        self.asked = asked
        self.effort = effort
        self.caller = caller
        self.ends_at_mono = ends_at_mono
        self.attempts: list[Attempt] = []
        self.errors: list[UpstreamError] = []
        self.failures: Counter[str] = Counter()
        self.second_tries: set[str] = set()
        self.refusal: UpstreamRejected | None = None
        self.waited_s = 0.0
        self.line_up()

    def line_up(self) -> None:
        """Decide from what is known now who is tried, in which order, and who is out."""
        moment, now = self.ledger.moment(), self.ledger.now()
        self.insisted: set[str] = set()  # candidates to try although they rest, since this very request failed on them
        self.out: dict[str, tuple[Candidate, Out]] = {}
        self.oversized: list[Candidate] = []  # whose quota seems smaller than this request: only where nobody else answers
        self.waiting = [candidate for group in self.plan.choices for candidate in self._ranked(group, moment, now)]

    def _ranked(self, group: Iterable[Candidate], moment: Moment, now: float) -> list[Candidate]:
        """Return a group in the order to try it. One that may be back goes first, a single one; others like it go last."""
        scorer = scorer_for(self.plan.profile, self.effort)
        healthy: list[tuple[Candidate, float]] = []
        probes: list[tuple[Candidate, float]] = []
        for candidate in group:
            standing = moment.standing(candidate, now)
            if standing.out:
                self.out[candidate.id] = (candidate, standing.out)
                continue
            score = scorer.score(candidate.model, standing.merits, self.ledger.calls_in_flight(candidate))
            (probes if standing.probes else healthy).append((candidate, score))
        back = rank(probes, self.policy.draw)
        return [*back[:1], *rank(healthy, self.policy.draw), *back[1:]]

    def attempt_all(self, call: Callable[[Candidate], Yield[T]]) -> Won[T]:
        """Try one candidate after the other until one answers, waiting for quota where the caller consented.

        :raises GatewayError: none did, the caller is at fault, or the client left.
        """
        while True:
            won = self._attempt_those_waiting(call)
            if won is not None:
                return won
            if not self._wait_for_room():
                raise self._with_attempts(self._failure())

    def go_on(self, call: Callable[[Candidate], Yield[T]], error: UpstreamError, ends_at_mono: float) -> Won[T] | None:
        """Try whoever is left after the stream that was won broke; None where nobody is, or none answers in time.

        :raises GatewayError: somebody refused, or the client left.
        """
        self.attempts[-1] = replace(self.attempts[-1], outcome=error.reason)
        self.ends_at_mono = ends_at_mono
        return self._attempt_those_waiting(call)

    def give_up(self, won: Won[Any], outcome: str) -> None:
        """Let an attempt go whose answer is of no use, by nobody's fault."""
        self.attempts[-1] = replace(self.attempts[-1], outcome=outcome)
        self.ledger.abandoned(won.booking, Usage(self.asked.prompt_tokens))

    def _attempt_those_waiting(self, call: Callable[[Candidate], Yield[T]]) -> Won[T] | None:
        while len(self.attempts) < MAX_ATTEMPTS and time.monotonic() < self.ends_at_mono:
            booking = self._book_next()
            if booking is None:
                return None
            won = self._attempt(booking, call)
            if won is not None:
                return won
        return None

    def _book_next(self) -> Booking | None:
        """Begin with the next candidate that can be had; None where nobody is left."""
        while self.waiting or self.oversized:
            capped = not self.waiting
            candidate = self.oversized.pop(0) if capped else self._take_next()
            begun = self.ledger.begin(candidate, self.asked, insist=candidate.id in self.insisted, capped=capped)
            if isinstance(begun, Booking):
                return begun
            self.out[candidate.id] = (candidate, begun)
            if begun.because == "quota_too_small" and not capped:
                self.oversized.append(candidate)
        return None

    def _take_next(self) -> Candidate:
        """Take the next in order; without a pinned order, a provider that failed twice comes after the others."""
        position = 0
        if not self.plan.pinned:
            good = (n for n, c in enumerate(self.waiting) if self.failures[c.provider.key] < FAILURES_OF_A_PROVIDER)
            position = next(good, 0)
        return self.waiting.pop(position)

    def _attempt(self, booking: Booking, call: Callable[[Candidate], Yield[T]]) -> Won[T] | None:
        candidate = booking.candidate
        self.out.pop(candidate.id, None)
        try:
            result = call(candidate)
        except UpstreamError as error:
            self._failed(booking, error)
            return None
        except GatewayError as error:  # the client left, or the worker stops: the prompt was sent all the same
            self._record(booking, error.code, None)
            self.ledger.abandoned(booking, Usage(self.asked.prompt_tokens))
            raise self._with_attempts(error) from None
        except BaseException:
            self.ledger.abandoned(booking, Usage(self.asked.prompt_tokens))
            raise
        if result.empty and (self.waiting or self.oversized):
            result.discard()
            self.ledger.empty(booking)
            self._record(booking, "empty", 200)
            return None
        self._record(booking, "ok", 200)
        self.ledger.answered(booking, result.result.quota, ttft_s=result.ttft_s)
        return Won(result.value, booking, result.result.dropped, result.ttft_s)

    def _failed(self, booking: Booking, error: UpstreamError) -> None:
        candidate = booking.candidate
        error.provider, error.model = candidate.provider.key, candidate.model.id
        self._record(booking, error.outcome, error.upstream_status)
        self.errors.append(error)
        self.failures[candidate.provider.key] += 1
        rest = self.ledger.failed(booking, error)
        if error.failover == "no" or self.refusal is not None:
            raise self._with_attempts(self.refusal or error) from error
        if rest and rest.until > self.ledger.now():
            self._leave_resting(candidate, rest, error)
        if self._waits_for_second_try(candidate, error):
            self.waiting.insert(0, candidate)
            self.insisted.add(candidate.id)
        elif error.failover == "larger":
            self._keep(lambda c: c.model.context_window > candidate.model.context_window)
        elif error.failover == "once" and isinstance(error, UpstreamRejected):
            self.refusal = error
            self._keep(lambda c: c.provider.key != candidate.provider.key)
            self.waiting = [*self.waiting, *self.oversized][:1]
            self.oversized = []

    def _keep(self, fits: Callable[[Candidate], bool]) -> None:
        self.waiting, self.oversized = list(filter(fits, self.waiting)), list(filter(fits, self.oversized))

    def _leave_resting(self, failed: Candidate, rest: Rest, error: UpstreamError) -> None:
        """Leave out everybody whom this failure rests too."""
        out = Out("cooldown", rest.until, isinstance(error, UpstreamRateLimited))
        for candidate in [failed, *self.waiting, *self.oversized]:
            if rest.scope in cooldown.scopes_over(candidate):
                self.out[candidate.id] = (candidate, out)
        self._keep(lambda c: rest.scope not in cooldown.scopes_over(c))

    def _waits_for_second_try(self, candidate: Candidate, error: UpstreamError) -> bool:
        """Wait, if a pinned candidate may do better in a moment; return whether it is to be tried again."""
        if not self.plan.pinned or candidate.id in self.second_tries:
            return False
        pause_s = error.retry_after_s
        if pause_s is None and error.worth_second_try:
            pause_s = self.policy.jitter(*SECOND_TRY_PAUSE_S)
        may_wait = isinstance(error, UpstreamRateLimited) or error.worth_second_try
        patience_s = min(self.policy.retry_after_patience_s, self.ends_at_mono - time.monotonic())
        if pause_s is None or not may_wait or error.cooldown_scope == "none" or pause_s > patience_s:
            return False
        self.second_tries.add(candidate.id)
        self._wait(pause_s)
        return True

    # --- waiting for quota -------------------------------------------------------------------------------------------

    def _wait_for_room(self) -> bool:
        """Wait for the soonest reset, where the caller consented to as much; return whether to go on trying.

        Blocks at most as long as the caller consented to, in all, and within the budget.
        """
        now = self.ledger.now()
        soonest = min((out.until for _, out in self.out.values()), default=float("inf"))
        wait_s = max(0.0, soonest - now) + AFTER_RESET_S
        left_s = min(self.caller.max_wait_s - self.waited_s, self.ends_at_mono - time.monotonic())
        if wait_s > left_s or len(self.attempts) >= MAX_ATTEMPTS or not self._is_exhausted():
            return False
        if not self.policy.seats.acquire(blocking=False):
            return False
        try:
            self._wait(wait_s)
        finally:
            self.policy.seats.release()
        self.waited_s += wait_s
        self.ledger.moment(fresh=True)
        self.line_up()
        return True

    def _wait(self, seconds: float) -> None:
        if self.caller.handle.wait(seconds):
            raise self._with_attempts(interruption(self.caller.handle))

    # --- records -----------------------------------------------------------------------------------------------------

    def _record(self, booking: Booking, outcome: str, status: int | None) -> None:
        ms = (time.monotonic() - booking.began_mono) * 1000
        attempt = Attempt(booking.candidate.provider.key, booking.candidate.model.id, outcome, status, ms)
        self.attempts.append(attempt)
        self.telemetry.attempt_ended(attempt)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _with_attempts(self, error: GatewayError) -> GatewayError:
        tried = {(attempt.provider, attempt.model) for attempt in self.attempts}
        left_out = [Attempt(c.provider.key, c.model.id, out.because) for c, out in self.out.values()]
        error.attempts = (*self.attempts, *(entry for entry in left_out if (entry.provider, entry.model) not in tried))
        error.tried = len(self.attempts)
        return error

    def _is_exhausted(self) -> bool:
        """Whether nobody was tried, or all that were tried ended in quota or rate limits."""
        return all(isinstance(error, UpstreamRateLimited) for error in self.errors)

    def _failure(self) -> GatewayError:
        """Return what the client is told when nobody answered (contract §5, the final status)."""
        if self.refusal is not None:
            return self.refusal
        if self.errors and isinstance(self.errors[-1], UpstreamContextTooLong):
            return self._context_error(self.errors[-1])
        if time.monotonic() >= self.ends_at_mono:
            return UpstreamTimeout("No provider answered within the time a request may take.", phase="total")
        if self._is_exhausted():
            return self._exhausted()
        last = self.errors[-1]
        if isinstance(last, UpstreamRateLimited):  # among other failures: no wait would surely help
            return UpstreamError(last.message, upstream_status=last.upstream_status)
        return last

    def _context_error(self, error: UpstreamContextTooLong) -> UpstreamContextTooLong:
        """Return the error in OpenAI's own words, which clients parse."""
        largest = max(candidate.model.context_window for candidate in self.plan.candidates)
        limit = error.limit_tokens or largest
        prompt = max(error.prompt_tokens or self.asked.prompt_tokens, limit + 1)
        return UpstreamContextTooLong(
            f"This model's maximum context length is {limit} tokens. However, your messages resulted in {prompt} tokens. "
            "Please reduce the length of the messages.",
            upstream_status=error.upstream_status,
            limit_tokens=limit,
            prompt_tokens=prompt,
        )

    def _exhausted(self) -> CandidatesExhausted:
        """Return the refusal when quotas, rate limits and cooldowns left nobody."""
        now = self.ledger.now()
        outs = [out for _, out in self.out.values()]
        soonest = min((out.until for out in outs), default=float("inf"))
        if self.waiting:  # there was no attempt left for them
            soonest = now
        retry_after_s = max(1.0, soonest - now) if soonest < float("inf") else None
        quota_only = bool(outs or self.errors) and all(out.for_quota for out in outs)
        why = "has used up its quota or is rate limited" if quota_only else "is resting after failures or out of quota"
        when = f" Try again after {_iso(now + retry_after_s)}." if retry_after_s is not None else ""
        error = CandidatesExhausted(
            f"Every model that could serve this request {why}.{when}", quota_only=quota_only, retry_after_s=retry_after_s
        )
        if retry_after_s is None:
            error.should_retry = False
        elif retry_after_s > LONG_RETRY_AFTER_S:
            error.should_retry = False
            error.retry_at = _iso(now + retry_after_s)
        return error


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
