"""The one interface to what all workers and machines share. Stores know I/O and no policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request takes from one counter.

    `counter` names it (credential, model, window), `bucket` the period it counts in: both together are one number in
    the store, which starts at 0. The period ends at `resets_at` (epoch seconds); the number is kept a little longer.
    """

    counter: str
    bucket: int
    amount: int
    limit: int
    resets_at: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """Headroom taken in advance, to be settled once. `charges` are those that were written."""

    charges: tuple[Charge, ...] = ()


@dataclass(frozen=True, slots=True)
class Rest:
    """A cooldown of one scope (a candidate's, a credential's or a provider's id). `failures` in a row led to it."""

    scope: str
    until: float = 0.0
    failures: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the store knows of some counters and scopes at one moment; what it does not know is missing."""

    used: Mapping[tuple[str, int], int] = field(default_factory=dict)  # (counter, bucket): amount
    rests: Mapping[str, Rest] = field(default_factory=dict)  # by scope


class StateStore(ABC):
    """Counters, cooldowns and notes. Thread-safe. Every verb blocks at most 100 ms and raises StateError beyond it.

    Callers treat StateError as "unknown", never as "refused".
    """

    @abstractmethod
    def snapshot(self, counters: Sequence[tuple[str, int]], scopes: Sequence[str]) -> Snapshot:
        """Return these counters and rests, in one round trip."""

    @abstractmethod
    def reserve(self, charges: Sequence[Charge]) -> Reservation | Charge:
        """Add every charge, atomically, or none: then the first charge that does not fit is returned."""

    @abstractmethod
    def settle(self, reservation: Reservation, amounts: Mapping[str, int]) -> None:
        """Replace what was reserved on each counter by its actual amount (by counter; missing: as reserved)."""

    @abstractmethod
    def observe_quota(self, counter: str, bucket: int, used: int, resets_at: float) -> None:
        """Raise a counter to what the provider says is used; never lower it: others may have reserved since."""

    @abstractmethod
    def rest(self, rest: Rest) -> None:
        """Record a failure streak and its cooldown; a later `until` already there stays."""

    @abstractmethod
    def recover(self, scopes: Sequence[str]) -> None:
        """Forget the rests of these scopes: a call succeeded."""

    @abstractmethod
    def remember(self, key: str, value: str, ttl_s: float) -> None:
        """Keep a note for `ttl_s` seconds."""

    @abstractmethod
    def recall(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the notes that are still there, by key."""

    @abstractmethod
    def ping(self) -> None:
        """Return if the store answers."""

    @abstractmethod
    def close(self) -> None:
        """Write what is pending and let go. Idempotent."""
