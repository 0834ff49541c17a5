"""The attempt loop: one client request, as many candidates as it takes."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from threading import BoundedSemaphore
from typing import Any, Generic, Protocol, TypeVar

from gateway.domain import Attempt, Candidate, QuotaReading, ReasoningEffort, Usage
from gateway.errors import GatewayError, UpstreamError, UpstreamRateLimited, UpstreamRejected, UpstreamTimeout
from gateway.routing.candidates import Plan
from gateway.routing.ledger import Asked, Booking, Ledger
from gateway.routing.lineup import Lineup, Turn
from gateway.routing.route import Route
from gateway.routing.verdict import Defeat, is_exhausted, verdict_on
from gateway.state.base import Rest
from gateway.upstream.transport import interruption
from gateway.upstream.watch import Handle

T = TypeVar("T")

MAX_ATTEMPTS = 6  # of one request, whatever its budget (contract §5)
SECOND_TRY_PAUSE_S = (0.2, 0.5)  # shortest and longest: long enough for a restart, jittered against herds
WHOLE_PART = 0.9  # of the gateway's own budget: an attempt that had so much of it has nobody else to thank for its end
AFTER_RESET_S = 0.02  # a wait ends this much after the reset, when it is surely over


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What dispatch knows of the client beside the request.

    `asked_mono`: when all of the request was here, since when the gateway's own budgets count. `gives_up_at_mono`: when the
    SDK's own limit is over. `max_wait_s`: how long it will wait for quota. `rescues`: whether a stream that breaks may go
    on from another provider.
    """

    request_id: str
    handle: Handle
    asked_mono: float
    gives_up_at_mono: float = math.inf
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

    `usage` None: the answer has only begun, and `discard` lets it go. `ttft_s`: how long its first token took, None where
    it came in one piece.
    """

    value: T
    result: Result
    usage: Usage | None
    empty: bool = False
    ttft_s: float | None = None
    discard: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Won(Generic[T]):
    """The attempt that serves the request. Its booking is open while the answer has only begun (`AttemptLoop.taking_over`)."""

    value: T
    booking: Booking
    dropped: tuple[str, ...]
    ttft_s: float | None
    discard: Callable[[], None]

    @property
    def candidate(self) -> Candidate:
        return self.booking.candidate


class AttemptLoop:
    """One dispatch in progress: what was tried, and what came of it.

    `dropped`: what no candidate is told of the request. `budget_s`: what the gateway gives all attempts of a request, of
    which this one may have less.
    """

    def __init__(
        self,
        ledger: Ledger,
        policy: Policy,
        *,
        plan: Plan,
        asked: Asked,
        effort: ReasoningEffort | None = None,
        dropped: tuple[str, ...] = (),
        caller: Caller,
        ends_at_mono: float,
        budget_s: float = math.inf,
    ) -> None:
        self.ledger = ledger
        self.policy = policy
        self.plan = plan
        self.asked = asked
        self.effort = effort
        self.dropped = dropped
        self.caller = caller
        self.ends_at_mono = ends_at_mono
        self.budget_s = budget_s
        self.lineup = Lineup(plan, ledger, effort, policy.draw)
        self.attempts: list[Attempt] = []
        self.errors: list[UpstreamError] = []
        self.failed_last: Candidate | None = None
        self.served: Candidate | None = None  # who answered last
        self.empties: list[Candidate] = []  # who answered with nothing
        self.refusal: UpstreamRejected | None = None
        self.tried_twice: set[str] = set()
        self.waited_s = 0.0

    def attempt_all(self, call: Callable[[Candidate], Yield[T]]) -> Won[T]:
        """Try one candidate after the other until one answers, waiting for quota where the caller consented.

        :raises GatewayError: none did, the caller is at fault, or the client left.
        """
        while True:
            won = self._attempt_in_turn(call)
            if won is not None:
                return won
            if not self._wait_for_room():
                raise self._told(self.refusal or verdict_on(self._defeat()))

    def go_on(self, call: Callable[[Candidate], Yield[T]], error: UpstreamError, ends_at_mono: float) -> Won[T] | None:
        """Try whoever is left after the stream that was won last broke; None where nobody is, or none answers in time.

        :raises GatewayError: somebody refused, or the client left.
        """
        self.note_break(error)
        if self.served:
            self.lineup.broke(self.served, error)
        self.ends_at_mono = ends_at_mono
        return self._attempt_in_turn(call)

    def note_break(self, error: UpstreamError) -> None:
        """Take note that the stream that was won last broke."""
        self.attempts[-1] = replace(self.attempts[-1], outcome=error.reason)

    def taking_over(self, won: Won[Any]) -> AbstractContextManager[None]:
        """Let an answer that has only begun go, where the block fails that hands it to whoever ends it."""
        return self._or_let_go(won.booking, won.discard)

    def give_up(self, won: Won[Any], outcome: str) -> None:
        """Let an answer go that is of no use, by nobody's fault."""
        self.attempts[-1] = replace(self.attempts[-1], outcome=outcome)
        self.ledger.abandoned(won.booking, Usage(self.asked.prompt_tokens))
        won.discard()

    def route_of(self, won: Won[Any]) -> Route:
        """Return how the request is served by `won`, as far as it has come."""
        passed_on = self.effort is not None and "reasoning_effort" not in won.dropped
        return Route(
            candidate=won.candidate,
            attempts=tuple(self.attempts),
            dropped=(*self.dropped, *won.dropped),
            reasoning_effort=self.effort if self.effort and passed_on else "auto",
            request_id=self.caller.request_id,
        )

    # --- attempts ----------------------------------------------------------------------------------------------------

    def _attempt_in_turn(self, call: Callable[[Candidate], Yield[T]]) -> Won[T] | None:
        while self._may_attempt() and (turn := self.lineup.next_turn()):
            begun = self.ledger.begin(turn.candidate, self.asked, insist=turn.insist, capped=turn.capped, trial=turn.trial)
            if not isinstance(begun, Booking):
                self.lineup.refused(turn, begun)
                continue
            self.lineup.asked(turn)
            won = self._attempt(turn, begun, call)
            if won is not None:
                return won
        return None

    def _may_attempt(self) -> bool:
        return len(self.attempts) < MAX_ATTEMPTS and time.monotonic() < self.ends_at_mono

    def _attempt(self, turn: Turn, booking: Booking, call: Callable[[Candidate], Yield[T]]) -> Won[T] | None:
        with self._or_let_go(booking):
            try:
                result = call(turn.candidate)
            except UpstreamError as error:
                self._failed(turn, booking, error)
                return None
            except GatewayError as error:  # the client left, or the worker stops
                self._record(booking, error.code, None)
                raise self._told(error) from None
        with self._or_let_go(booking, result.discard):
            return self._take(booking, result)

    @contextmanager
    def _or_let_go(self, booking: Booking, discard: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Leave nothing open where the block fails. The prompt was sent all the same."""
        try:
            yield
        except BaseException:
            try:
                self.ledger.abandoned(booking, Usage(self.asked.prompt_tokens))
            finally:
                discard()
            raise

    def _take(self, booking: Booking, result: Yield[T]) -> Won[T] | None:
        """Return the answer, None where it is not good enough while others are left."""
        if result.empty and not self.lineup.is_over and self.refusal is None:
            result.discard()
            self.ledger.empty(booking)
            self.empties.append(booking.candidate)
            self._record(booking, "empty", 200)
            return None
        if self.empties and not result.empty:
            self.ledger.should_have_spoken(self.empties)
            self.empties = []
        self._record(booking, "ok", 200)
        self.served = booking.candidate
        self.ledger.answered(booking, result.result.quota, ttft_s=result.ttft_s)
        if result.usage is not None:
            self.ledger.ended(booking, result.usage, ttft_s=result.ttft_s)
        return Won(result.value, booking, result.result.dropped, result.ttft_s, result.discard)

    def _failed(self, turn: Turn, booking: Booking, error: UpstreamError) -> None:
        error.provider, error.model = turn.candidate.provider.key, turn.candidate.model.id
        self._record(booking, error.outcome, error.upstream_status)
        self.errors.append(error)
        self.failed_last = turn.candidate
        rest = self._close_failed(booking, error)
        if error.failover == "no" or self.refusal is not None:  # a refusal is put to one other provider only
            raise self._told(self.refusal or error) from error
        self.lineup.failed(turn, error, rest)
        if self._waits_for_second_try(turn.candidate, error):
            self.lineup.try_again(turn)
        elif error.failover == "larger":
            self.lineup.keep_larger(turn)
        elif error.failover == "once" and isinstance(error, UpstreamRejected):
            self.refusal = error
            self.lineup.keep_elsewhere(turn)

    def _close_failed(self, booking: Booking, error: UpstreamError) -> Rest | None:
        """Have the candidate answer for its failure, but not for a request that was over before its own time was."""
        if self._was_cut_short(booking, error):
            self.ledger.abandoned(booking, Usage(self.asked.prompt_tokens))
            return None
        return self.ledger.failed(booking, error)

    def _was_cut_short(self, booking: Booking, error: UpstreamError) -> bool:
        now_mono = time.monotonic()
        had_all = now_mono - booking.began_mono >= self.budget_s * WHOLE_PART
        return isinstance(error, UpstreamTimeout) and now_mono >= self.ends_at_mono and not had_all

    def _record(self, booking: Booking, outcome: str, status: int | None) -> None:
        ms = (time.monotonic() - booking.began_mono) * 1000
        self.attempts.append(Attempt(booking.candidate.provider.key, booking.candidate.model.id, outcome, status, ms))

    # --- waiting -----------------------------------------------------------------------------------------------------

    def _waits_for_second_try(self, candidate: Candidate, error: UpstreamError) -> bool:
        """Wait, if a pinned candidate may do better in a moment; return whether it is to be tried again."""
        pause_s = self._pause_s(error)
        if pause_s is None or candidate.id not in self.plan.pinned or candidate.id in self.tried_twice or not self._may_attempt():
            return False
        if pause_s > self.ends_at_mono - time.monotonic():
            return False
        self.tried_twice.add(candidate.id)
        self._wait(pause_s)
        return True

    def _pause_s(self, error: UpstreamError) -> float | None:
        """Return how long to wait before the same candidate is asked again, None where it would hardly do better."""
        told_s = error.retry_after_s
        limited = isinstance(error, UpstreamRateLimited)
        hopeless = error.cooldown_scope == "none" or (told_s is None if limited else not error.worth_second_try)
        if hopeless or (told_s or 0.0) > self.policy.retry_after_patience_s:
            return None
        return max(told_s or 0.0, self.policy.jitter(*SECOND_TRY_PAUSE_S))

    def _wait_for_room(self) -> bool:
        """Wait for the soonest reset, where the caller consented to as much; return whether to go on trying.

        Blocks at most as long as the caller consented to, in all, and within the budget.
        """
        wait_s = max(0.0, self.lineup.soonest - self.ledger.now()) + AFTER_RESET_S
        left_s = min(self.caller.max_wait_s - self.waited_s, self.ends_at_mono - time.monotonic())
        if wait_s > left_s or not self._may_attempt() or not is_exhausted(self.errors):
            return False
        if not self.policy.seats.acquire(blocking=False):
            return False
        try:
            self._wait(wait_s)
        finally:
            self.policy.seats.release()
        self.waited_s += wait_s
        self.ledger.moment(fresh=True)
        self.lineup.form()
        return True

    def _wait(self, seconds: float) -> None:
        if self.caller.handle.wait(seconds):
            raise self._told(interruption(self.caller.handle))

    # --- the end -----------------------------------------------------------------------------------------------------

    def _told(self, error: GatewayError) -> GatewayError:
        """Return the error with what was tried, and behind it who was left out and why."""
        tried = {(attempt.provider, attempt.model) for attempt in self.attempts}
        left_out = [Attempt(c.provider.key, c.model.id, out.because) for c, out in self.lineup.outs.values()]
        error.attempts = (*self.attempts, *(entry for entry in left_out if (entry.provider, entry.model) not in tried))
        error.tried = len(self.attempts)
        return error

    def _defeat(self) -> Defeat:
        return Defeat(
            errors=self.errors,
            outs=[*self.lineup.outs.values()],
            untried=len(self.lineup.waiting),
            spent=time.monotonic() >= self.ends_at_mono,
            prompt_tokens=self.asked.prompt_tokens,
            largest_window=max((candidate.model.context_window for candidate in self.plan.candidates), default=0),
            now=self.ledger.now(),
            last=self.failed_last,
        )
