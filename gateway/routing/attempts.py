"""The attempt loop: one client request, as many candidates as it takes."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

from gateway.domain import Attempt, Candidate, QuotaReading, Usage
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
from gateway.routing.ledger import Ledger
from gateway.routing.ranking import rank_candidates, resting_until
from gateway.state.base import Charge, Reservation, Snapshot
from gateway.telemetry import Telemetry
from gateway.upstream.transport import interruption
from gateway.upstream.watch import Handle

T = TypeVar("T")

MAX_ATTEMPTS = 6  # of one request, whatever its budget (contract §5)
FAILURES_OF_A_PROVIDER = 2  # then `auto` tries another provider first
SECOND_TRY_PAUSE_S = (0.2, 0.5)  # shortest and longest: long enough for a restart, jittered against herds
LONG_RETRY_AFTER_S = 60  # SDKs sleep through Retry-After silently: beyond this they are told not to

_QUOTA_REASONS = frozenset({"rate_limited", "quota", "quota_too_small"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What dispatch knows of the client beside the request. `time_limit_s` is the SDK's own, None where it sends none."""

    request_id: str
    handle: Handle
    started_mono: float
    time_limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a pinned candidate is waited for: `retry_after_s` at most, or a pause drawn by `jitter(least, most)`."""

    retry_after_s: float
    jitter: Callable[[float, float], float] = random.uniform


class Result(Protocol):
    """What a provider returned, as far as the loop looks at it."""

    @property
    def dropped(self) -> tuple[str, ...]: ...

    @property
    def quota(self) -> Sequence[QuotaReading]: ...


@dataclass(frozen=True, slots=True)
class Yield(Generic[T]):
    """A successful attempt. `empty`: a `stop` with nothing in it, good enough only if nobody is left."""

    value: T
    result: Result
    empty: bool = False
    discard: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Won(Generic[T]):
    """The attempt that served the request, its reservation not yet settled."""

    value: T
    candidate: Candidate
    reservation: Reservation
    dropped: tuple[str, ...]


class AttemptLoop:
    """One dispatch in progress: what was tried, and who is still worth trying. `tokens`: the estimate to reserve."""

    def __init__(
        self,
        ledger: Ledger,
        telemetry: Telemetry,
        patience: Patience,
        *,
        plan: Plan,
        tokens: int,
        caller: Caller,
        ends_at_mono: float,
    ) -> None:
        self.ledger = ledger
        self.telemetry = telemetry
        self.patience = patience
        self.plan = plan
        self.tokens = tokens
        self.caller = caller
        self.ends_at_mono = ends_at_mono
        self.attempts: list[Attempt] = []
        now = ledger.clock()
        self.snapshot: Snapshot = ledger.snapshot(plan.candidates)
        self.waiting = [c for group in self.plan.choices for c in rank_candidates(group, self.snapshot, now)]
        self.out: dict[str, tuple[Attempt, float, bool]] = {}  # not tried: (why, until, for its quota)
        for candidate in self.plan.candidates:
            until = resting_until(candidate, self.snapshot)
            if until > now:
                self._leave_out(candidate, "cooldown", until, for_quota=self._rests_for_quota(candidate))
        self.failures: Counter[str] = Counter()
        self.errors: list[UpstreamError] = []
        self.second_tries: set[str] = set()
        self.failed_scopes = set(self.snapshot.rests)  # those with failures that a success takes back
        self.refusal: UpstreamRejected | None = None

    def attempt_all(self, call: Callable[[Candidate], Yield[T]]) -> Won[T]:
        """Try one candidate after the other until one answers.

        :raises GatewayError: none did, the caller is at fault, or the client left.
        """
        while self.waiting and len(self.attempts) < MAX_ATTEMPTS and time.monotonic() < self.ends_at_mono:
            candidate = self._take_next()
            reservation = self._reserve(candidate)
            if reservation is None:
                continue
            won = self._attempt(candidate, reservation, call)
            if won is not None:
                return won
        raise self._with_attempts(self._failure())

    def _take_next(self) -> Candidate:
        """Take the next in order; without a pinned order, a provider that failed twice comes after the others."""
        position = 0
        if not self.plan.pinned:
            good = (n for n, c in enumerate(self.waiting) if self.failures[c.provider.key] < FAILURES_OF_A_PROVIDER)
            position = next(good, 0)
        return self.waiting.pop(position)

    def _reserve(self, candidate: Candidate) -> Reservation | None:
        taken = self.ledger.reserve(candidate, self.tokens)
        if isinstance(taken, Charge):
            self._leave_out(candidate, "quota", taken.resets_at, for_quota=True)
            return None
        return taken

    def _attempt(self, candidate: Candidate, reservation: Reservation, call: Callable[[Candidate], Yield[T]]) -> Won[T] | None:
        began = time.monotonic()
        try:
            result = call(candidate)
        except UpstreamError as error:
            self.ledger.settle(candidate, reservation, Usage())
            self._failed(candidate, error, began)
            return None
        except GatewayError as error:
            self.ledger.settle(candidate, reservation, Usage())
            raise self._with_attempts(error) from None
        self.ledger.observe_quota(candidate, result.result.quota)
        if result.empty and self.waiting:
            result.discard()
            self.ledger.settle(candidate, reservation, Usage())
            self._record(candidate, "empty", 200, began)
            return None
        self._record(candidate, "ok", 200, began)
        self.ledger.recover(candidate, self.failed_scopes)
        return Won(result.value, candidate, reservation, result.result.dropped)

    def _failed(self, candidate: Candidate, error: UpstreamError, began: float) -> None:
        error.provider, error.model = candidate.provider.key, candidate.model.id
        self._record(candidate, error.outcome, error.upstream_status, began)
        self.errors.append(error)
        self.failures[candidate.provider.key] += 1
        self.ledger.observe_quota(candidate, error.quota)
        scope, rests = self.ledger.rest(candidate, error)
        self.failed_scopes.add(scope)
        if error.failover == "no" or self.refusal is not None:
            raise self._with_attempts(self.refusal or error) from error
        if self._waits_for_second_try(candidate, error):
            self.waiting.insert(0, candidate)
            return
        if rests:
            self.waiting = [c for c in self.waiting if scope not in cooldown.scopes_over(c)]
        if error.failover == "larger":
            self.waiting = [c for c in self.waiting if c.model.context_window > candidate.model.context_window]
        elif error.failover == "once" and isinstance(error, UpstreamRejected):
            self.refusal = error
            self.waiting = [c for c in self.waiting if c.provider.key != candidate.provider.key][:1]

    def _waits_for_second_try(self, candidate: Candidate, error: UpstreamError) -> bool:
        """Wait, if a pinned candidate may do better in a moment; return whether it is to be tried again."""
        if not self.plan.pinned or candidate.id in self.second_tries:
            return False
        pause_s = error.retry_after_s
        if pause_s is None and error.worth_second_try:
            pause_s = self.patience.jitter(*SECOND_TRY_PAUSE_S)
        may_wait = isinstance(error, UpstreamRateLimited) or error.worth_second_try
        patience_s = min(self.patience.retry_after_s, self.ends_at_mono - time.monotonic())
        if pause_s is None or not may_wait or error.cooldown_scope == "none" or pause_s > patience_s:
            return False
        self.second_tries.add(candidate.id)
        if self.caller.handle.wait(pause_s):
            raise self._with_attempts(interruption(self.caller.handle))
        return True

    # --- records ---------------------------------------------------------------------------------------------------

    def _record(self, candidate: Candidate, outcome: str, status: int | None, began: float) -> None:
        ms = (time.monotonic() - began) * 1000
        attempt = Attempt(candidate.provider.key, candidate.model.id, outcome, status, ms)
        self.attempts.append(attempt)
        self.telemetry.attempt_ended(attempt)

    def _leave_out(self, candidate: Candidate, why: str, until: float, *, for_quota: bool) -> None:
        attempt = Attempt(candidate.provider.key, candidate.model.id, why)
        self.out[candidate.id] = (attempt, until, for_quota)

    def _rests_for_quota(self, candidate: Candidate) -> bool:
        rests = (self.snapshot.rests.get(scope) for scope in cooldown.scopes_over(candidate))
        now = self.ledger.clock()
        return all(rest.reason in _QUOTA_REASONS for rest in rests if rest and rest.until > now)

    # --- the end ---------------------------------------------------------------------------------------------------

    def _with_attempts(self, error: GatewayError) -> GatewayError:
        error.attempts = (*self.attempts, *(attempt for attempt, _, _ in self.out.values()))
        error.tried = len(self.attempts)
        return error

    def _failure(self) -> GatewayError:
        """Return what the client is told when nobody answered (contract §5, the final status)."""
        if self.refusal is not None:
            return self.refusal
        if self.errors and isinstance(self.errors[-1], UpstreamContextTooLong):
            return self._context_error(self.errors[-1])
        if time.monotonic() >= self.ends_at_mono:
            return UpstreamTimeout("No provider answered within the time a request may take.", phase="total")
        if all(isinstance(error, UpstreamRateLimited) for error in self.errors):
            return self._exhausted()
        last = self.errors[-1]
        if isinstance(last, UpstreamRateLimited):  # among other failures: no wait would surely help
            return UpstreamError(last.message, upstream_status=last.upstream_status)
        return last

    def _context_error(self, error: UpstreamContextTooLong) -> UpstreamContextTooLong:
        """Return the error in OpenAI's own words, which clients parse."""
        largest = max(candidate.model.context_window for candidate in self.plan.candidates)
        limit = error.limit_tokens or largest
        prompt = max(error.prompt_tokens or self.tokens, limit + 1)
        return UpstreamContextTooLong(
            f"This model's maximum context length is {limit} tokens. However, your messages resulted in {prompt} tokens. "
            "Please reduce the length of the messages.",
            upstream_status=error.upstream_status,
            limit_tokens=limit,
            prompt_tokens=prompt,
        )

    def _exhausted(self) -> CandidatesExhausted:
        """Return the refusal when quotas, rate limits and cooldowns left nobody."""
        now = self.ledger.clock()
        resets = [until for _, until, _ in self.out.values()]
        resets += [now + error.retry_after_s for error in self.errors if error.retry_after_s is not None]
        retry_after_s = max(1.0, min(resets) - now) if resets else None
        quota_only = bool(self.out or self.errors) and all(for_quota for _, _, for_quota in self.out.values())
        why = "has used up its quota or is rate limited" if quota_only else "is resting after failures or out of quota"
        when = f" Try again after {_iso(now + retry_after_s)}." if retry_after_s is not None else ""
        error = CandidatesExhausted(
            f"Every model that could serve this request {why}.{when}", quota_only=quota_only, retry_after_s=retry_after_s
        )
        if retry_after_s is not None and retry_after_s > LONG_RETRY_AFTER_S:
            error.should_retry = False
            error.retry_at = _iso(now + retry_after_s)
        return error


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
