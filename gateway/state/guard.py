"""A store that never fails its caller: what cannot be asked is unknown, and counted (contract §5).

While the shared store is down, what it said last and this process's own memory stand in for failures, leases and evidence,
so that a dead provider is not asked all the time; quotas are unknown and refuse nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from gateway.errors import StateError
from gateway.state.base import (
    Change,
    Charge,
    Failure,
    Figures,
    Refusal,
    Reservation,
    Rest,
    Room,
    Snapshot,
    StateStore,
)
from gateway.state.memory import MemoryStore

T = TypeVar("T")

MOST_KEYS = 500  # of one question: more tool calls than a conversation that still fits has
PAUSE_S = 1.0  # after a failure the store is left alone for so long: a dead one must not cost every verb its time limit


class Guard(StateStore):
    """The verbs that requests need without StateError. `on_failure` hears the name of each that the store did not answer."""

    def __init__(
        self, store: StateStore, on_failure: Callable[[str], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._spare = MemoryStore(store.now)
        self._on_failure = on_failure
        self._monotonic = monotonic
        self._resumes_mono = 0.0
        self._known = Snapshot()

    def _try(self, verb: str, call: Callable[[], T], stand_in: Callable[[], T]) -> T:
        if self._monotonic() >= self._resumes_mono:
            try:
                return call()
            except StateError:
                self._resumes_mono = self._monotonic() + PAUSE_S
        self._on_failure(verb)
        return stand_in()

    def now(self) -> float:
        return self._store.now()

    def snapshot(self) -> Snapshot:
        self._known, snapshot = self._try("snapshot", self._read, self._remembered)
        return snapshot

    def _read(self) -> tuple[Snapshot, Snapshot]:
        snapshot = self._store.snapshot()
        return snapshot, snapshot

    def _remembered(self) -> tuple[Snapshot, Snapshot]:
        """Return what the store said last, and with it what this process learned since; of quotas nothing is known."""
        spare = self._spare.snapshot()
        rests = {**self._known.rests, **spare.rests}
        leases = {**self._known.leases, **spare.leases}
        return self._known, replace(self._known, now=spare.now, counts={}, rests=rests, leases=leases)

    def reserve(self, charges: Sequence[Charge]) -> Reservation | Refusal:
        return self._try("reserve", lambda: self._store.reserve(charges), Reservation)

    def count(self, charge: Charge) -> Room | Refusal | None:
        return self._try("count", lambda: self._store.count(charge), lambda: None)

    def fail(self, failure: Failure) -> Rest:
        return self._try("fail", lambda: self._store.fail(failure), lambda: self._spare.fail(failure))

    def lease(self, names: Sequence[str], seconds: float) -> bool:
        return self._try("lease", lambda: self._store.lease(names, seconds), lambda: self._spare.lease(names, seconds))

    def write(self, changes: Sequence[Change]) -> None:
        # Also while the store is left alone: nobody waits for it, and one that was only slow keeps what was written then.
        if self._monotonic() < self._resumes_mono:
            self._spare.write(changes)
        self._store.write(changes)

    def recall(self, keys: Sequence[str]) -> dict[str, str]:
        # Keys hold what clients sent: what no store can hold was never noted, and must not count as the store's failure.
        keys = [key for key in keys[-MOST_KEYS:] if key.isprintable()]
        return self._try("recall", lambda: self._store.recall(keys), lambda: self._spare.recall(keys))

    # --- no request to a model asks these: whoever does is told if the store does not answer -------------------------------

    def figures(self, series: str, first_slot: int, last_slot: int, *, group: str | None = None) -> Figures:
        return self._store.figures(series, first_slot, last_slot, group=group)

    def newest(self, journal: str, count: int) -> list[str]:
        return self._store.newest(journal, count)

    def ping(self) -> None:
        self._store.ping()

    def close(self) -> None:
        self._try("close", self._store.close, lambda: None)
