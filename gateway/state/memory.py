"""The store in one process's memory: the reference for the contract suite, and for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from gateway.state.base import Charge, Reservation, Rest, Snapshot, StateStore


class MemoryStore(StateStore):
    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._used: dict[tuple[str, int], int] = {}
        self._rests: dict[str, Rest] = {}
        self._notes: dict[str, tuple[str, float]] = {}

    def snapshot(self, counters: Sequence[tuple[str, int]], scopes: Sequence[str]) -> Snapshot:
        with self._lock:
            used = {key: self._used[key] for key in counters if key in self._used}
            return Snapshot(used, {scope: self._rests[scope] for scope in scopes if scope in self._rests})

    def reserve(self, charges: Sequence[Charge]) -> Reservation | Charge:
        with self._lock:
            for charge in charges:
                if self._used.get((charge.counter, charge.bucket), 0) + charge.amount > charge.limit:
                    return charge
            for charge in charges:
                self._add(charge, charge.amount)
        return Reservation(tuple(charges))

    def settle(self, reservation: Reservation, amounts: Mapping[str, int]) -> None:
        with self._lock:
            for charge in reservation.charges:
                self._add(charge, amounts.get(charge.counter, charge.amount) - charge.amount)

    def _add(self, charge: Charge, amount: int) -> None:
        key = (charge.counter, charge.bucket)
        self._used[key] = max(0, self._used.get(key, 0) + amount)

    def observe_quota(self, counter: str, bucket: int, used: int, resets_at: float) -> None:
        with self._lock:
            self._used[counter, bucket] = max(used, self._used.get((counter, bucket), 0))

    def rest(self, rest: Rest) -> None:
        with self._lock:
            known = self._rests.get(rest.scope)
            until = max(rest.until, known.until) if known else rest.until
            self._rests[rest.scope] = Rest(rest.scope, until, rest.failures, rest.reason)

    def recover(self, scopes: Sequence[str]) -> None:
        with self._lock:
            for scope in scopes:
                self._rests.pop(scope, None)

    def remember(self, key: str, value: str, ttl_s: float) -> None:
        with self._lock:
            self._notes[key] = (value, self._clock() + ttl_s)

    def recall(self, keys: Sequence[str]) -> dict[str, str]:
        now = self._clock()
        with self._lock:
            found = {key: self._notes[key] for key in keys if key in self._notes}
        return {key: value for key, (value, until) in found.items() if until > now}

    def ping(self) -> None:
        pass

    def close(self) -> None:
        pass
