"""A store that never fails its caller: what cannot be asked is unknown, and counted (contract §5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from gateway.errors import StateError
from gateway.state.base import Charge, Reservation, Rest, Snapshot, StateStore

T = TypeVar("T")


class Guard(StateStore):
    """The same verbs without StateError. `on_failure` is called with the name of each verb that failed."""

    def __init__(self, store: StateStore, on_failure: Callable[[str], None]) -> None:
        self._store = store
        self._on_failure = on_failure

    def _try(self, verb: str, call: Callable[[], T], unknown: T) -> T:
        try:
            return call()
        except StateError:
            self._on_failure(verb)
            return unknown

    def snapshot(self, counters: Sequence[tuple[str, int]], scopes: Sequence[str]) -> Snapshot:
        return self._try("snapshot", lambda: self._store.snapshot(counters, scopes), Snapshot())

    def reserve(self, charges: Sequence[Charge]) -> Reservation | Charge:
        unknown: Reservation | Charge = Reservation()
        return self._try("reserve", lambda: self._store.reserve(charges), unknown)

    def settle(self, reservation: Reservation, amounts: Mapping[str, int]) -> None:
        self._try("settle", lambda: self._store.settle(reservation, amounts), None)

    def observe_quota(self, counter: str, bucket: int, used: int, resets_at: float) -> None:
        self._try("observe_quota", lambda: self._store.observe_quota(counter, bucket, used, resets_at), None)

    def rest(self, rest: Rest) -> None:
        self._try("rest", lambda: self._store.rest(rest), None)

    def recover(self, scopes: Sequence[str]) -> None:
        self._try("recover", lambda: self._store.recover(scopes), None)

    def remember(self, key: str, value: str, ttl_s: float) -> None:
        self._try("remember", lambda: self._store.remember(key, value, ttl_s), None)

    def recall(self, keys: Sequence[str]) -> dict[str, str]:
        return self._try("recall", lambda: self._store.recall(keys), {})

    def ping(self) -> None:
        """Ask the store itself. :raises StateError: it does not answer."""
        self._store.ping()

    def close(self) -> None:
        self._try("close", self._store.close, None)
