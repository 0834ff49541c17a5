"""The store in one process's memory: the reference for the contract suite, for tests, and while the shared one is down."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add

from gateway.state.base import (
    CORRECTION,
    FORGET_S,
    NOTHING,
    OTHERS,
    Adjustment,
    Change,
    Charge,
    Entries,
    Evidence,
    Extension,
    Failure,
    Figures,
    LearnedLimit,
    Lesson,
    Note,
    Place,
    Reading,
    Recovery,
    Refusal,
    Release,
    Reservation,
    Rest,
    Room,
    Slot,
    Snapshot,
    StateStore,
    Tally,
)

MOST_NOTES = 2000  # the oldest go first


@dataclass
class Period:
    """The figures of one slot of a series, by group and key."""

    keep_until: float = 0.0
    sums: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)


class MemoryStore(StateStore):
    """`known`: what it begins with, but for counters. No more than MOST_NOTES are kept."""

    def __init__(self, clock: Callable[[], float] = time.time, known: Snapshot = NOTHING) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._slots: dict[str, dict[int, Slot]] = {}
        self._unseen: dict[str, dict[int, Slot]] = {}  # of `count`
        self._limits = dict(known.limits)
        self._rests = dict(known.rests)
        self._leases = {name: (until, "") for name, until in known.leases.items()}  # when it ends, and its token
        self._evidence = dict(known.evidence)
        self._notes: dict[str, tuple[str, float]] = {}
        self._periods: dict[tuple[str, int], Period] = {}
        self._journals: dict[str, list[tuple[float, str]]] = {}

    def now(self) -> float:
        return self._clock()

    def snapshot(self) -> Snapshot:
        now = self.now()
        with self._lock:
            counts = {counter: tuple(self._counting(counter, now)) for counter in self._slots}
            return Snapshot(
                now,
                {counter: slots for counter, slots in counts.items() if slots},
                {counter: limit for counter, limit in self._limits.items() if limit.until > now},
                {scope: rest for scope, rest in self._rests.items() if not is_forgotten(rest, now)},
                {name: until for name, (until, _) in self._leases.items() if until > now},
                dict(self._evidence),
            )

    def reserve(self, charges: Sequence[Charge]) -> Reservation | Refusal:
        now = self.now()
        with self._lock:
            for charge in charges:
                slots = self._counting(charge.counter, now)
                if sum(slot.used for slot in slots) + charge.amount > charge.limit:
                    return Refusal(charge, fits_at(charge, slots))
            for charge in charges:
                self._add(charge.counter, charge.slot, charge.amount, charge.counts_until)
        return Reservation(tuple(charges))

    def count(self, charge: Charge) -> Room | Refusal:
        now = self.now()
        with self._lock:
            slots = self._unseen.setdefault(charge.counter, {})
            drop_what_is_over(slots, now)
            if sum(slot.used for slot in slots.values()) + charge.amount > charge.limit:
                return Refusal(charge, fits_at(charge, slots.values()))
            add_to(slots, charge.slot, charge.amount, charge.counts_until)
            return room_after(charge, slots.values())

    def fail(self, failure: Failure) -> Rest:
        with self._lock:
            rest = after_failure(self._rests.get(failure.scope), failure, self.now())
            self._rests[failure.scope] = rest
            return rest

    def lease(self, names: Sequence[str], seconds: float) -> str | None:
        now, token = self.now(), new_token()
        with self._lock:
            if any(name in self._leases and self._leases[name][0] > now for name in names):
                return None
            self._leases.update(dict.fromkeys(names, (now + seconds, token)))
            return token

    def write(self, changes: Sequence[Change]) -> None:
        with self._lock:
            for change in changes:
                self._apply(change)

    def recall(self, keys: Sequence[str]) -> dict[str, str]:
        now = self.now()
        with self._lock:
            found = {key: self._notes[key] for key in keys if key in self._notes}
        return {key: value for key, (value, until) in found.items() if until > now}

    def figures(self, series: str, first_slot: int, last_slot: int, *, group: str | None = None) -> Figures:
        with self._lock:
            return {
                Place(slot, of, key): dict(amounts)
                for (known, slot), period in self._periods.items()
                if known == series and first_slot <= slot <= last_slot
                for (of, key), amounts in period.sums.items()
                if group in (None, of)
            }

    def newest(self, journal: str, count: int) -> list[str]:
        with self._lock:
            return [text for _, text in reversed(self._journals.get(journal, []))][:count]

    def ping(self) -> None:
        pass

    def close(self) -> None:
        pass

    # --- changes -----------------------------------------------------------------------------------------------------

    def _apply(self, change: Change) -> None:
        match change:
            case Adjustment(counter, slot, amount, counts_until):
                self._add(counter, slot, amount, counts_until)
            case Reading():
                self._correct(change)
            case Recovery(scope, began_at):
                known = self._rests.get(scope)
                if known and known.since <= began_at:
                    del self._rests[scope]
            case Lesson():
                self._learn(change)
            case Release(name, token):
                if self._holds(name, token):
                    del self._leases[name]
            case Extension(name, token, seconds):
                if self._holds(name, token):
                    self._leases[name] = self.now() + seconds, token
            case Note(key, value, ttl_s):
                self._notes.pop(key, None)
                self._notes[key] = (value, self.now() + ttl_s)
                while len(self._notes) > MOST_NOTES:
                    del self._notes[next(iter(self._notes))]
            case Tally():
                self._tally(change)
            case Entries(journal, entries, most):
                kept = sorted([*self._journals.get(journal, []), *entries], key=lambda entry: entry[0])
                self._journals[journal] = kept[-most:]

    def _counting(self, counter: str, now: float) -> list[Slot]:
        slots = self._slots.get(counter, {})
        drop_what_is_over(slots, now)
        return list(slots.values())

    def _add(self, counter: str, number: int, amount: int, counts_until: float) -> None:
        add_to(self._slots.setdefault(counter, {}), number, amount, counts_until)

    def _correct(self, reading: Reading) -> None:
        if reading.limit is not None:
            self._limits[reading.counter] = LearnedLimit(reading.limit, reading.limit_until)
        if reading.used is not None:
            slots = self._slots.setdefault(reading.counter, {})
            own = sum(slot.used for slot in self._counting(reading.counter, self.now()) if slot.number != CORRECTION)
            slots[CORRECTION] = Slot(CORRECTION, max(0, reading.used - own), reading.until)

    def _tally(self, tally: Tally) -> None:
        now = self.now()
        for place in [place for place, period in self._periods.items() if period.keep_until < now]:
            del self._periods[place]
        period = self._periods.setdefault((tally.series, tally.slot), Period())
        period.keep_until = max(period.keep_until, tally.keep_until)
        group = group_of(tally, {of for of, _ in period.sums})
        add_amounts(period.sums.setdefault((group, tally.key), {}), tally.amounts)

    def _holds(self, name: str, token: str) -> bool:
        until, holder = self._leases.get(name, (0.0, ""))
        return holder == token and until > self.now()

    def _learn(self, lesson: Lesson) -> None:
        now = self.now()
        known = self._evidence.get(lesson.model, Evidence((0.0,) * len(lesson.values), now))
        self._evidence[lesson.model] = Evidence(after_lesson(known, lesson, now), now)


# --- what every store computes the same way where its data is in Python's hands ----------------------------------------


def new_token() -> str:
    """Return a name that nobody else has."""
    return uuid.uuid4().hex


def has_notes(changes: Iterable[Change]) -> bool:
    """Return whether there are notes among changes: a client may ask for them in its next request, of another process."""
    return any(isinstance(change, Note) for change in changes)


def drop_what_is_over(slots: dict[int, Slot], now: float) -> None:
    for number in [slot.number for slot in slots.values() if slot.counts_until <= now]:
        del slots[number]


def add_to(slots: dict[int, Slot], number: int, amount: int, counts_until: float) -> None:
    known = slots.get(number, Slot(number, 0, counts_until))
    ends = max(known.counts_until, counts_until) if amount > 0 else known.counts_until
    slots[number] = Slot(number, max(0, known.used + amount), ends)


def fits_at(charge: Charge, slots: Iterable[Slot]) -> float | None:
    """Return when enough of these slots have left the window for the charge to fit, None if it never will."""
    room = charge.limit - charge.amount
    if room < 0:
        return None
    used = 0
    for slot in sorted(slots, key=lambda slot: -slot.counts_until):
        used += slot.used
        if used > room:
            return slot.counts_until
    return 0.0


def room_after(charge: Charge, slots: Collection[Slot]) -> Room:
    """Return what a charge left, whose counter holds these slots now."""
    return Room(charge.limit - sum(slot.used for slot in slots), min(slot.counts_until for slot in slots))


def after_failure(known: Rest | None, failure: Failure, now: float) -> Rest:
    """Return the state of a scope after one more failure."""
    if known is None or is_forgotten(known, now):
        known = Rest(failure.scope)
    if known.until and known.since > failure.began_at:
        return known
    failures = known.failures + 1
    seconds = failure.rests_s[min(failures, len(failure.rests_s)) - 1]
    if not seconds:
        return Rest(failure.scope, known.until, known.since, failures, failure.reason, now)
    return Rest(failure.scope, max(known.until, now + seconds), now, failures, failure.reason, now)


def is_forgotten(rest: Rest, now: float) -> bool:
    return max(rest.until, rest.failed_at) + FORGET_S < now


def after_lesson(known: Evidence, lesson: Lesson, now: float) -> tuple[float, ...]:
    """Return a model's sums after a lesson."""
    keep = 0.5 ** (max(0.0, now - known.at) / lesson.half_life_s)
    if keep == 1.0 and not lesson.forget and len(known.values) == len(lesson.values):  # most often: of the same transaction
        return tuple(map(add, known.values, lesson.values))
    kept = [0.0 if position in lesson.forget else value * keep for position, value in enumerate(known.values)]
    kept += [0.0] * (len(lesson.values) - len(kept))
    return tuple(old + new for old, new in zip(kept, lesson.values, strict=False))


def group_of(tally: Tally, groups: Collection[str]) -> str:
    """Return the group that a tally counts for, where its slot has figures of these."""
    if tally.most_groups is None or tally.group in ("", OTHERS) or tally.group in groups:
        return tally.group
    named = len(groups) - ("" in groups) - (OTHERS in groups)
    return tally.group if named < tally.most_groups else OTHERS


def add_amounts(sums: dict[str, float], amounts: Mapping[str, float]) -> None:
    for name, amount in amounts.items():
        sums[name] = sums.get(name, 0) + amount
