"""The one interface to what all workers and machines share. Stores know I/O and no policy.

Every moment is epoch seconds of the store's own clock (`now`), so that machines whose clocks disagree share one time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

WAIT_S = 0.1  # what a verb may block: longer, and the state is unknown
WRITE_BEHIND_S = 0.05  # how long a write may be gathered with others before it is kept
FORGET_S = 3600.0  # failures that nobody met again for so long are forgotten


# --- quotas ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request takes from one quota.

    `counter` names the quota. What is taken lands in one of its slots, which stand for short stretches of time, and
    counts until `counts_until`; a slot as a whole counts until the latest of what it holds. A new slot begins at 0.
    """

    counter: str
    slot: int
    amount: int
    limit: int
    counts_until: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """Headroom taken in advance. `charges` are those that were written."""

    charges: tuple[Charge, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A charge that did not fit. `fits_at`: when it will if nobody else comes, None where its limit is too small for it."""

    charge: Charge
    fits_at: float | None


@dataclass(frozen=True, slots=True)
class Room:
    """How much of its limit a charge left, and when the first of what is taken comes back."""

    left: int
    more_at: float


class Slot(NamedTuple):
    """A part of a counter, as a snapshot has it."""  # a tuple: a snapshot holds thousands

    number: int
    used: int
    counts_until: float


CORRECTION = -1  # the number of the slot that holds what the provider counted and we did not


@dataclass(frozen=True, slots=True)
class LearnedLimit:
    """What the provider says a quota's limit is, good until `until`."""

    limit: int
    until: float


# --- cooldowns -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rest:
    """The failures of one scope. `until` 0: it failed `failures` times in a row, but does not rest yet.

    A rest whose `until` has passed is half-open: one call at a time may probe, until one succeeds.
    """

    scope: str
    until: float = 0.0
    since: float = 0.0  # when the present rest began
    failures: int = 0
    reason: str = ""
    failed_at: float = 0.0  # the last failure


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt, against the scope that it speaks about.

    `rests_s`: for how long the scope rests at the first, the second, … failure in a row, the last one for every further;
    0: it goes on; at least one. An attempt that began before the scope's present rest did says nothing new and is not counted.
    """

    scope: str
    reason: str
    began_at: float
    rests_s: tuple[float, ...]


# --- what is learned of models ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Evidence:
    """Sums about one model that fade: `values` as they were at `at`. What each means is the routing's affair."""

    values: tuple[float, ...]
    at: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the store knows at one moment; what it does not know is missing. Leases: name to when it ends."""

    now: float = 0.0
    counts: Mapping[str, tuple[Slot, ...]] = field(default_factory=dict)  # by counter, only slots that still count
    limits: Mapping[str, LearnedLimit] = field(default_factory=dict)  # by counter
    rests: Mapping[str, Rest] = field(default_factory=dict)  # by scope
    leases: Mapping[str, float] = field(default_factory=dict)
    evidence: Mapping[str, Evidence] = field(default_factory=dict)  # by model
    knows_counts: bool = True  # whether what is missing of them is nothing: see `Guard`


NOTHING = Snapshot()


# --- changes: written behind, in the order given ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Add `change` to a slot of a counter, whose sum in the slot never falls below 0: a reservation is settled.

    What is given back (a negative change) does not make its slot count for longer.
    """

    counter: str
    slot: int
    change: int
    counts_until: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What a provider said of a quota, good until `until`: its limit, and how much of it is used. None: not said.

    A counter that is below `used` is raised to it, by a correction that this reading's successor replaces; it is never
    lowered below our own count, since others may have reserved what the provider has not seen yet.
    """

    counter: str
    limit: int | None
    used: int | None
    until: float
    limit_until: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """A success of an attempt that began at `began_at`: forget the scope's failures, and its rest if it began before."""

    scope: str
    began_at: float


@dataclass(frozen=True, slots=True)
class Lesson:
    """Let a model's evidence fade by half every `half_life_s`, then add `values`. `forget`: positions to set to 0 before."""

    model: str
    values: tuple[float, ...]
    half_life_s: float
    forget: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Release:
    """Give a lease back before it ends. Only its holder, who has the token, can."""

    name: str
    token: str


@dataclass(frozen=True, slots=True)
class Extension:
    """Let a lease that has not ended yet go on until `seconds` from now. As `Release`."""

    name: str
    token: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Note:
    key: str
    value: str
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Tally:
    """Add to figures that never fade: `amounts` by field, under `key` of a group of a series, in its period `slot`.

    Where a slot has figures of `most_groups` groups already, those of a further one count for the group OTHERS, under the
    same key. The group "" always has its own. None: as many groups as there are.
    """

    series: str
    slot: int
    key: str
    amounts: Mapping[str, float]
    keep_until: float
    group: str = ""
    most_groups: int | None = None


OTHERS = "(others)"  # the group of those for which there was no room


@dataclass(frozen=True, slots=True)
class Entries:
    """Put texts, each with its moment (epoch seconds), into a journal, which keeps the `most` newest. No two are alike."""

    journal: str
    entries: tuple[tuple[float, str], ...]
    most: int


Change = Adjustment | Reading | Recovery | Lesson | Release | Extension | Note | Tally | Entries


class Place(NamedTuple):
    """Where figures stand within their series."""

    slot: int
    group: str
    key: str


Figures = Mapping[Place, Mapping[str, float]]  # amounts by field


class StateStore(ABC):
    """Quotas, cooldowns, evidence, figures, journals and notes. Thread-safe; whoever forks closes it before.

    Every verb blocks at most WAIT_S and raises StateError beyond it. Callers treat that as "unknown", never as "refused":
    what had just begun may still be kept. Moments and amounts are finite numbers.
    """

    @abstractmethod
    def now(self) -> float:
        """Return the store's time. Does not block."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Return all that is known and not yet over, in one round trip."""

    @abstractmethod
    def reserve(self, charges: Sequence[Charge]) -> Reservation | Refusal:
        """Add every charge, atomically, or none: then the first charge that does not fit is returned."""

    @abstractmethod
    def count(self, charge: Charge) -> Room | Refusal | None:
        """Add a charge, atomically, if it fits. Its counter is in no snapshot: nobody's order depends on it.

        None: nobody knows (see `Guard`).
        """

    @abstractmethod
    def fail(self, failure: Failure) -> Rest:
        """Count a failure, atomically; return the scope's failures and rest as they are now."""

    @abstractmethod
    def lease(self, names: Sequence[str], seconds: float) -> str | None:
        """Take every lease, atomically, or none; return the token that holds them, None where one was not free.

        They end by themselves.
        """

    @abstractmethod
    def write(self, changes: Sequence[Change]) -> None:
        """Keep these changes, within WRITE_BEHIND_S or a moment more, and notes at once: does not wait for it.

        While the store is down the latest of them wait for its return, for as long as the process lives. `on_trouble` of
        the store is told how many are lost for good, 0 where they only wait.
        """

    def remember(self, key: str, value: str, ttl_s: float) -> None:
        """Keep a note for `ttl_s` seconds. As `write`."""
        self.write([Note(key, value, ttl_s)])

    @abstractmethod
    def recall(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the notes that are still there, by key."""

    @abstractmethod
    def figures(self, series: str, first_slot: int, last_slot: int, *, group: str | None = None) -> Figures:
        """Return the figures of a series in these periods, both included; of one group, or of all."""

    @abstractmethod
    def newest(self, journal: str, count: int) -> list[str]:
        """Return at most so many entries of a journal, the newest first."""

    @abstractmethod
    def ping(self) -> None:
        """Return if the store answers and keeps what is written."""

    @abstractmethod
    def close(self) -> None:
        """Write what is pending, for at most a second, and let go. Idempotent."""
