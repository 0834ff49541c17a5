"""The embedded store: one SQLite file for all workers of a machine, in WAL mode, on a local disk.

Everything that writes goes through one thread a process (writer.py), and the processes queue up at an `flock` on a file
beside the database: SQLite's own waiting sleeps up to 100 ms at a time. Reads have a connection of their own.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.errors import StateError
from gateway.state import figures, tables
from gateway.state.base import (
    WAIT_S,
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
from gateway.state.batch import Batch, Count, Lease, Mark, Reserve
from gateway.state.file import BAD_VALUE, Damaged, File, prepare
from gateway.state.memory import has_notes, new_token
from gateway.state.writer import Do, Writer

PRUNE_S = 60.0  # between two clean-ups of a process


class SqliteStore(StateStore):
    """Opened at first use. `on_trouble`: see `store_from_url`."""

    def __init__(
        self,
        path: str | Path,
        clock: Callable[[], float] = time.time,
        on_trouble: Callable[[int], None] = lambda lost: None,
    ) -> None:
        self._clock = clock
        # A verb may wait for a connection, and then for another program; and is to hear of that before its time is up.
        self._writing = File(Path(path), WAIT_S / 2)
        self._reading = File(Path(path), WAIT_S / 2)
        self._suspected = False  # a reader met what it could not read
        self._prune_mono = 0.0
        self._writer = Writer(self._transaction, on_trouble, self._writing.close)

    def now(self) -> float:
        return self._clock()

    def snapshot(self) -> Snapshot:
        with self._reader() as database:
            snapshot, back_s = tables.read_snapshot(database, self._clock())
        if back_s:
            self._writer.submit([Mark()])  # the file follows the clock with the next transaction
        return snapshot

    def reserve(self, charges: Sequence[Charge]) -> Reservation | Refusal:
        answer: Reservation | Refusal = self._writer.ask(Reserve(tuple(charges)))
        return answer

    def count(self, charge: Charge) -> Room | Refusal:
        answer: Room | Refusal = self._writer.ask(Count(charge))
        return answer

    def fail(self, failure: Failure) -> Rest:
        answer: Rest = self._writer.ask(failure)
        return answer

    def lease(self, names: Sequence[str], seconds: float) -> str | None:
        token = new_token()
        return token if self._writer.ask(Lease(tuple(names), seconds, token)) else None

    def write(self, changes: Sequence[Change]) -> None:
        self._writer.submit(changes, at_once=has_notes(changes))

    def recall(self, keys: Sequence[str]) -> dict[str, str]:
        if not keys:
            return {}
        with self._reader() as database:
            return tables.read_notes(database, keys, self._clock())

    def figures(self, series: str, first_slot: int, last_slot: int, *, group: str | None = None) -> Figures:
        with self._reader() as database:
            found = figures.read_figures(database, series, first_slot, last_slot, group)
        return figures.figures_of(found)

    def newest(self, journal: str, count: int) -> list[str]:
        with self._reader() as database:
            return figures.read_newest(database, journal, count)

    def ping(self) -> None:
        self._writer.ask(Mark())

    def close(self) -> None:
        self._writer.close()
        self._reading.close()

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Hold the reading connection, for one statement and what is made of its answer."""
        if not self._reading.is_open():
            self._writer.ask(Mark())  # so that the file is there, and fit
        try:
            with self._reading.guarded() as database:
                yield database
        except (*BAD_VALUE, OverflowError, UnicodeError) as error:
            raise StateError(f"SQLite cannot hold what is asked for: {type(error).__name__}") from error
        except (Damaged, TypeError, ValueError, LookupError) as error:
            self._suspected = True
            self._writer.submit([Mark()])  # the next transaction looks at it
            raise StateError(f"the SQLite file cannot be read: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[Do]:
        """What the writer's thread does a batch in: all of it is kept when the block ends, nothing when it raises."""
        with self._writing.locked():
            if self._suspected:
                self._suspected = False
                self._writing.set_aside_if_damaged()
            try:
                with self._writing.guarded(prepare) as database, atomically(database):
                    yield lambda operations: Batch(database, self._clock(), operations).run()
                    self._prune(database)
            except Damaged:
                self._writing.set_aside_if_damaged()
                raise

    def _prune(self, database: sqlite3.Connection) -> None:
        if time.monotonic() >= self._prune_mono:
            now = self._clock()
            if all([tables.prune(database, now), figures.prune(database, now)]):
                self._prune_mono = time.monotonic() + PRUNE_S


@contextmanager
def atomically(database: sqlite3.Connection) -> Iterator[None]:
    """Keep all of what is done to the database in the block, or nothing where it raises."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise
