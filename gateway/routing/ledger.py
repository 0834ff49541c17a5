"""What attempts mean for the state that all workers share: reservations, settlements, rests and readings."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from gateway.domain import Candidate, QuotaReading, Usage
from gateway.errors import UpstreamError
from gateway.routing import cooldown, headroom
from gateway.state.base import Charge, Reservation, Rest, Snapshot, StateStore


class Ledger:
    """The store's verbs in terms of candidates. Thread-safe; blocks as the store does. `clock`: epoch seconds."""

    def __init__(self, store: StateStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self.clock = clock

    def snapshot(self, candidates: Sequence[Candidate]) -> Snapshot:
        """Return what is known of these candidates, in one round trip."""
        scopes = {scope for candidate in candidates for scope in cooldown.scopes_over(candidate)}
        return self._store.snapshot((), tuple(scopes))

    def reserve(self, candidate: Candidate, tokens: int) -> Reservation | Charge:
        """Take headroom for one request of about `tokens`, or return the quota that has none left."""
        charges = headroom.build_charges(candidate, tokens, self.clock())
        return self._store.reserve(charges) if charges else Reservation()

    def settle(self, candidate: Candidate, reservation: Reservation, usage: Usage) -> None:
        """Replace what was reserved by what was used; the request itself stays counted, as providers count it."""
        if reservation.charges:
            self._store.settle(reservation, headroom.settled_amounts(reservation.charges, usage, candidate.model))

    def rest(self, candidate: Candidate, error: UpstreamError) -> tuple[str, bool]:
        """Note a failure against what it speaks about; return that scope ("": nothing), and whether it rests now."""
        scope = cooldown.scope_of(error, candidate)
        if not scope:
            return "", False
        known = self._store.snapshot((), (scope,)).rests.get(scope)
        failures = (known.failures if known else 0) + 1
        seconds = cooldown.rest_s(error, failures)
        self._store.rest(Rest(scope, self.clock() + seconds if seconds else 0.0, failures, error.reason))
        return scope, seconds > 0

    def recover(self, candidate: Candidate, failed_scopes: Collection[str]) -> None:
        """Forget the failures of those scopes that this candidate's success speaks for."""
        scopes = [scope for scope in cooldown.scopes_over(candidate) if scope in failed_scopes]
        if scopes:
            self._store.recover(scopes)

    def observe_quota(self, candidate: Candidate, readings: Sequence[QuotaReading]) -> None:
        """Correct our counters by what the provider says of them."""
        now = self.clock()
        for reading in readings:
            limit = candidate.model.limits.get(reading.window)
            if limit is not None and reading.remaining is not None:
                bucket, resets_at = headroom.bucket_of(reading.window, candidate.provider.clock, now)
                counter = headroom.counter_name(candidate.id, reading.window)
                self._store.observe_quota(counter, bucket, max(0, limit - reading.remaining), resets_at)
