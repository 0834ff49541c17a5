"""A store that never fails its caller: what cannot be asked is unknown, and counted (contract §5).

While the shared store is down, what it said last and this process's own memory stand in for failures, leases, evidence and
notes, so that a dead provider is not asked all the time; quotas are unknown and refuse nobody, but what is taken counts when
the store is back. A thread looks whether it is, so that no request waits for one that is not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, TypeVar

from gateway.errors import StateError
from gateway.state.base import (
    NOTHING,
    Adjustment,
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
LOOK_EVERY_S = 1.0  # how often a store that is down is asked whether it is back


class Observer(Protocol):
    """Who is told of it, from any thread."""

    def state_failed(self, verb: str) -> None: ...
    def state_went_down(self, why: str) -> None: ...
    def state_came_back(self, lasted_s: float, calls: int) -> None: ...


class Guard(StateStore):
    """The verbs that requests need without StateError.

    `open_store` returns the store; it is given what that has to call as its `on_trouble`. After one verb that failed, no
    other is tried until the store answers a ping; only if it does not at once is it down.
    """

    def __init__(
        self,
        open_store: Callable[[Callable[[int], None]], StateStore],
        observer: Observer,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observer = observer
        self._monotonic = monotonic
        self._known = NOTHING
        self._spare: MemoryStore | None = None  # what stands in, while the store is not asked
        self._calls = 0  # that went without the store
        self._looking = False
        self._closed = False
        self._lock = threading.Lock()
        self._store = open_store(self._on_trouble)

    def begin(self) -> None:
        """Look at the store in the background: an outage is told before a request meets it, and the first finds it open."""
        with self._lock:
            self._look()

    def now(self) -> float:
        return self._store.now()

    def snapshot(self) -> Snapshot:
        return self._try("snapshot", self._read, lambda spare: replace(spare.snapshot(), counts={}, knows_counts=False))

    def reserve(self, charges: Sequence[Charge]) -> Reservation | Refusal:
        asked = self._spare is None
        return self._try("reserve", lambda: self._store.reserve(charges), lambda spare: self._let_pass(charges, asked=asked))

    def count(self, charge: Charge) -> Room | Refusal | None:
        return self._try("count", lambda: self._store.count(charge), lambda spare: None)

    def fail(self, failure: Failure) -> Rest:
        return self._try("fail", lambda: self._store.fail(failure), lambda spare: spare.fail(failure))

    def lease(self, names: Sequence[str], seconds: float) -> str | None:
        return self._try("lease", lambda: self._store.lease(names, seconds), lambda spare: spare.lease(names, seconds))

    def write(self, changes: Sequence[Change]) -> None:
        with suppress(StateError):
            self._store.write(changes)  # does not wait, but they may
        if (spare := self._spare) is not None:
            spare.write(changes)

    def recall(self, keys: Sequence[str]) -> dict[str, str]:
        # Keys hold what clients sent: what no store can hold was never noted, and must not count as the store's failure.
        keys = [key for key in keys[-MOST_KEYS:] if key.isprintable()]
        return self._try("recall", lambda: self._store.recall(keys), lambda spare: spare.recall(keys))

    # --- no request to a model asks these: whoever does is told if the store does not answer -------------------------------

    def figures(self, series: str, first_slot: int, last_slot: int, *, group: str | None = None) -> Figures:
        return self._store.figures(series, first_slot, last_slot, group=group)

    def newest(self, journal: str, count: int) -> list[str]:
        return self._store.newest(journal, count)

    def ping(self) -> None:
        """Ask the store itself. :raises StateError: it does not answer, or keeps nothing."""
        try:
            self._store.ping()
        except StateError:
            self._stand_in()
            raise

    def close(self) -> None:
        self._closed = True
        with suppress(StateError):
            self._store.close()

    # --- while it is down --------------------------------------------------------------------------------------------

    def _try(self, verb: str, call: Callable[[], T], stand_in: Callable[[MemoryStore], T]) -> T:
        spare = self._spare
        if spare is None:
            try:
                return call()
            except StateError:
                spare = self._stand_in()
        with self._lock:
            self._calls += 1
        self._observer.state_failed(verb)
        return stand_in(spare)

    def _let_pass(self, charges: Sequence[Charge], *, asked: bool) -> Reservation:
        if asked:  # it was late, and may have kept them all the same: they must not count twice
            return Reservation()
        self.write([Adjustment(charge.counter, charge.slot, charge.amount, charge.counts_until) for charge in charges])
        return Reservation(tuple(charges))

    def _read(self) -> Snapshot:
        self._known = self._store.snapshot()
        return self._known

    def _on_trouble(self, lost: int) -> None:
        """Hear that changes could not be written: only a look tells whether it was the store's fault."""
        if lost:
            self._observer.state_failed("write")
        with self._lock:
            self._look()

    def _stand_in(self) -> MemoryStore:
        """Let nobody ask the store until it was seen to answer; return what stands in for it."""
        with self._lock:
            spare = self._spare or MemoryStore(self._store.now, self._known)
            if self._look():
                self._spare = spare
        return spare

    def _look(self) -> bool:
        """Have the thread running, and return whether it is; not if no thread can be had."""
        if not self._looking:
            with suppress(RuntimeError):
                threading.Thread(target=self._look_until_it_answers, name="state-guard", daemon=True).start()
                self._looking = True
        return self._looking

    def _look_until_it_answers(self) -> None:
        began_mono, is_down = self._monotonic(), False
        while (why := self._ask()) and not self._closed:
            with self._lock:
                self._spare = self._spare or MemoryStore(self._store.now, self._known)
            if not is_down:
                self._observer.state_went_down(why)
            is_down = True
            time.sleep(LOOK_EVERY_S)
        with self._lock:
            self._spare, self._looking = None, False
            calls, self._calls = self._calls, 0
        if is_down and not why:
            self._observer.state_came_back(self._monotonic() - began_mono, calls)

    def _ask(self) -> str:
        """Return why the store does not answer, "" if it does."""
        try:
            self._store.ping()
        except Exception as error:  # a look that ended with one would leave the store alone for ever
            return str(error) if isinstance(error, StateError) else type(error).__name__
        return ""
