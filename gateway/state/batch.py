"""What one transaction does to the SQLite file.

It reads the facts that it touches in one statement, works on them in Python, and writes what changed in one a table
(tables.py says why).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.state.base import (
    CORRECTION,
    FORGET_S,
    Adjustment,
    Change,
    Charge,
    Entries,
    Evidence,
    Extension,
    Failure,
    Lesson,
    Note,
    Reading,
    Recovery,
    Refusal,
    Release,
    Reservation,
    Rest,
    Room,
    Slot,
    Tally,
)
from gateway.state.figures import Sums, keep_entries
from gateway.state.memory import add_to, after_failure, after_lesson, fits_at, room_after
from gateway.state.tables import (
    CLOCK,
    COUNT,
    EVIDENCE,
    KEEP_FACTS,
    LEASE,
    LIMIT,
    LISTED,
    REST,
    TICK_S,
    UNSEEN,
    Database,
    move_back,
    read_facts,
    to_json,
    went_back_s,
)

KEEP_EVIDENCE_S = 30 * 86400.0  # a model that nobody used for so long is learned anew


@dataclass(frozen=True, slots=True)
class Reserve:
    charges: tuple[Charge, ...]


@dataclass(frozen=True, slots=True)
class Count:
    charge: Charge


@dataclass(frozen=True, slots=True)
class Lease:
    names: tuple[str, ...]
    seconds: float
    token: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Asks for the file and its tables to be there, and to take something."""


Operation = Change | Reserve | Count | Failure | Lease | Mark
Name = tuple[str, str]  # of a fact: its kind and name


class Facts:
    """The facts that a transaction touches."""

    def __init__(self, database: Database, names: Iterable[Name]) -> None:
        self._database = database
        self._values: dict[Name, Any] = {}
        self._changed: dict[Name, float] = {}  # and until when to keep them
        if wanted := list(set(names)):
            found = read_facts(database, f"(kind, name) IN ({LISTED})", (to_json(wanted),))
            self._values = {(kind, name): value for kind, name, value in found}

    def get(self, kind: str, name: str) -> Any:
        """Return a value, None where there is none; a value is not to be changed in place."""
        return self._values.get((kind, name))

    def put(self, kind: str, name: str, value: Any, keep_until: float) -> None:
        self._values[kind, name] = value
        self._changed[kind, name] = keep_until

    def drop(self, kind: str, name: str) -> None:
        if self.get(kind, name) is not None:
            self.put(kind, name, None, 0.0)

    def save(self) -> None:
        changed = [(*name, self._values[name], keep_until) for name, keep_until in self._changed.items()]
        if kept := [(kind, name, to_json(value), end) for kind, name, value, end in changed if value is not None]:
            self._database.execute(KEEP_FACTS, (to_json(kept),))
        if gone := [(kind, name) for kind, name, value, _ in changed if value is None]:
            self._database.execute(f"DELETE FROM facts WHERE (kind, name) IN ({LISTED})", (to_json(gone),))


class Batch:
    """What one transaction does. `now`: epoch seconds, for all of it."""

    def __init__(self, database: Database, now: float, operations: Sequence[Operation]) -> None:
        self._database = database
        self._now = now
        self._operations = operations
        self._facts = self._read_facts()
        self._notes: dict[str, tuple[str, float]] = {}
        self._sums = Sums(database)

    def run(self) -> list[Any]:
        """Do all of it, in this order, and return the answers."""
        self._follow_clock()
        answers = [self._HOW[type(operation)](self, operation) for operation in self._operations]
        self._facts.save()
        if self._notes:
            rows = [(key, *note) for key, note in self._notes.items()]
            self._database.executemany("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", rows)
        self._sums.save()
        return answers

    def _read_facts(self) -> Facts:
        names = (name for operation in self._operations for name in touched(operation))
        return Facts(self._database, [(CLOCK, ""), *names])

    def _follow_clock(self) -> None:
        latest = self._facts.get(CLOCK, "")
        if back_s := went_back_s(latest, self._now):
            move_back(self._database, back_s)
            self._facts = self._read_facts()
        if latest is None or not latest <= self._now < latest + TICK_S:
            self._mark()

    # --- what is asked ---------------------------------------------------------------------------------------------------

    def _mark(self, mark: Mark | None = None) -> None:
        self._facts.put(CLOCK, "", self._now, self._now + KEEP_EVIDENCE_S)

    def _reserve(self, operation: Reserve) -> Reservation | Refusal:
        for charge in operation.charges:
            slots = self._slots(charge.counter).values()
            if sum(slot.used for slot in slots) + charge.amount > charge.limit:
                return Refusal(charge, fits_at(charge, slots))
        for charge in operation.charges:
            self._add(charge.counter, charge.slot, charge.amount, charge.counts_until)
        return Reservation(operation.charges)

    def _count(self, operation: Count) -> Room | Refusal:
        charge = operation.charge
        slots = self._slots(charge.counter, UNSEEN)
        if sum(slot.used for slot in slots.values()) + charge.amount > charge.limit:
            return Refusal(charge, fits_at(charge, slots.values()))
        add_to(slots, charge.slot, charge.amount, charge.counts_until)
        self._put(charge.counter, slots, UNSEEN)
        return room_after(charge, slots.values())

    def _fail(self, failure: Failure) -> Rest:
        value = self._facts.get(REST, failure.scope)
        rest = after_failure(Rest(failure.scope, *value) if value else None, failure, self._now)
        value = (rest.until, rest.since, rest.failures, rest.reason, rest.failed_at)
        self._facts.put(REST, failure.scope, value, max(rest.until, rest.failed_at) + FORGET_S)
        return rest

    def _lease(self, lease: Lease) -> bool:
        if any(self._holder(name) for name in lease.names):
            return False
        for name in lease.names:
            self._hold(name, lease.token, lease.seconds)
        return True

    # --- what is written -------------------------------------------------------------------------------------------------

    def _adjust(self, change: Adjustment) -> None:
        self._add(change.counter, change.slot, change.change, change.counts_until)

    def _correct(self, reading: Reading) -> None:
        if reading.limit is not None:
            self._facts.put(LIMIT, reading.counter, (reading.limit, reading.limit_until), reading.limit_until)
        if reading.used is not None:
            slots = self._slots(reading.counter)
            own = sum(slot.used for slot in slots.values() if slot.number != CORRECTION)
            slots[CORRECTION] = Slot(CORRECTION, max(0, reading.used - own), reading.until)
            self._put(reading.counter, slots)

    def _recover(self, recovery: Recovery) -> None:
        value = self._facts.get(REST, recovery.scope)
        if value and Rest(recovery.scope, *value).since <= recovery.began_at:
            self._facts.drop(REST, recovery.scope)

    def _learn(self, lesson: Lesson) -> None:
        value = self._facts.get(EVIDENCE, lesson.model) or ((0.0,) * len(lesson.values), self._now)
        sums = after_lesson(Evidence(tuple(value[0]), value[1]), lesson, self._now)
        self._facts.put(EVIDENCE, lesson.model, (sums, self._now), self._now + KEEP_EVIDENCE_S)

    def _release(self, release: Release) -> None:
        if self._holder(release.name) == release.token:
            self._facts.drop(LEASE, release.name)

    def _extend(self, extension: Extension) -> None:
        if self._holder(extension.name) == extension.token:
            self._hold(extension.name, extension.token, extension.seconds)

    def _note(self, note: Note) -> None:
        self._notes[note.key] = (note.value, self._now + note.ttl_s)

    def _tally(self, tally: Tally) -> None:
        self._sums.add(tally)

    def _enter(self, entries: Entries) -> None:
        keep_entries(self._database, entries)

    # --- leases ----------------------------------------------------------------------------------------------------------

    def _holder(self, name: str) -> str | None:
        """Return the token that holds a lease now, None where it is free."""
        until, token = self._facts.get(LEASE, name) or (0.0, None)
        return token if until > self._now else None

    def _hold(self, name: str, token: str, seconds: float) -> None:
        until = self._now + seconds
        self._facts.put(LEASE, name, (until, token), until)

    # --- counters --------------------------------------------------------------------------------------------------------

    def _slots(self, counter: str, kind: str = COUNT) -> dict[int, Slot]:
        """Return the slots that still count."""
        return {slot[0]: Slot(*slot) for slot in self._facts.get(kind, counter) or () if slot[2] > self._now}

    def _put(self, counter: str, slots: Mapping[int, Slot], kind: str = COUNT) -> None:
        value = [(slot.number, slot.used, slot.counts_until) for slot in slots.values()]
        self._facts.put(kind, counter, value, max(slot.counts_until for slot in slots.values()))

    def _add(self, counter: str, number: int, amount: int, counts_until: float) -> None:
        slots = self._slots(counter)
        add_to(slots, number, amount, counts_until)
        self._put(counter, slots)

    _HOW: dict[type, Callable[[Batch, Any], Any]] = {
        Mark: _mark,
        Reserve: _reserve,
        Count: _count,
        Failure: _fail,
        Lease: _lease,
        Adjustment: _adjust,
        Reading: _correct,
        Recovery: _recover,
        Lesson: _learn,
        Release: _release,
        Extension: _extend,
        Note: _note,
        Tally: _tally,
        Entries: _enter,
    }


def touched(operation: Operation) -> Iterator[Name]:
    """Yield the names of the facts that an operation reads or drops."""
    match operation:
        case Reserve(charges):
            yield from ((COUNT, charge.counter) for charge in charges)
        case Count(charge):
            yield UNSEEN, charge.counter
        case Adjustment(counter=counter) | Reading(counter=counter):
            yield COUNT, counter
        case Failure(scope=scope) | Recovery(scope=scope):
            yield REST, scope
        case Lease(names):
            yield from ((LEASE, name) for name in names)
        case Release(name) | Extension(name):
            yield LEASE, name
        case Lesson(model=model):
            yield EVIDENCE, model
