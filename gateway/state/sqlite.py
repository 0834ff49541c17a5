"""The embedded store: one SQLite file for all workers of a machine, in WAL mode, on a local disk.

Everything that writes goes through one thread a process (writer.py), and the processes queue up at an `flock` on a file
beside the database: SQLite's own waiting sleeps up to 100 ms at a time. Reads have a connection of their own.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
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
from gateway.state.batch import Batch, Count, Lease, Nothing, Reserve
from gateway.state.writer import Do, Writer

PRUNE_S = 60.0  # between two clean-ups of a process
BAD_VALUE = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError)


class SqliteStore(StateStore):
    """Opened at first use. `on_lost` is told how many written changes could not be kept."""

    def __init__(
        self,
        path: str | Path,
        clock: Callable[[], float] = time.time,
        on_lost: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._clock = clock
        self._writing = File(Path(path))
        self._reading = File(Path(path))
        self._prune_mono = 0.0
        self._writer = Writer(self._transaction, on_lost, self._writing.close)

    def now(self) -> float:
        return self._clock()

    def snapshot(self) -> Snapshot:
        with self._reader() as database:
            return tables.read_snapshot(database, self._clock())

    def reserve(self, charges: Sequence[Charge]) -> Reservation | Refusal:
        answer: Reservation | Refusal = self._writer.ask(Reserve(tuple(charges)))
        return answer

    def count(self, charge: Charge) -> Room | Refusal:
        answer: Room | Refusal = self._writer.ask(Count(charge))
        return answer

    def fail(self, failure: Failure) -> Rest:
        answer: Rest = self._writer.ask(failure)
        return answer

    def lease(self, names: Sequence[str], seconds: float) -> bool:
        answer: bool = self._writer.ask(Lease(tuple(names), seconds))
        return answer

    def write(self, changes: Sequence[Change]) -> None:
        self._writer.submit(changes)

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
        with self._reader() as database:
            database.execute("SELECT 1 FROM facts LIMIT 1").fetchone()

    def close(self) -> None:
        self._writer.close()
        self._reading.close()

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Hold the reading connection, for one statement."""
        try:
            with self._reading.guarded(self._wait_for_tables) as database:
                yield database
        except (*BAD_VALUE, OverflowError, UnicodeError) as error:
            raise StateError(f"SQLite cannot hold what is asked for: {type(error).__name__}") from error

    @contextmanager
    def _transaction(self) -> Iterator[Do]:
        """What the writer's thread does a batch in: all of it is kept when the block ends, nothing when it raises."""
        with self._writing.locked(), self._writing.guarded(prepare) as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield lambda operations: Batch(database, self._clock(), operations).run()
                self._prune(database)
                database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                raise

    def _wait_for_tables(self, database: sqlite3.Connection) -> None:
        if version_of(database) != tables.VERSION:
            self._writer.ask(Nothing())

    def _prune(self, database: sqlite3.Connection) -> None:
        if time.monotonic() >= self._prune_mono:
            now = self._clock()
            if all([tables.prune(database, now), figures.prune(database, now)]):
                self._prune_mono = time.monotonic() + PRUNE_S


class File:
    """A connection to the database file, for one thread at a time. It is opened anew when it broke or the file is another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_path = Path(f"{path}.lock")
        self._lock_file = -1
        self._in_use = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None  # of the file that the connection has open

    @contextmanager
    def guarded(self, prepare: Callable[[sqlite3.Connection], None]) -> Iterator[sqlite3.Connection]:
        """Hold the connection; a new one is prepared first.

        Blocks for at most WAIT_S until it is free.

        :raises StateError: the file cannot be used. What SQLite cannot hold raises other exceptions.
        """
        if not self._in_use.acquire(timeout=WAIT_S):
            raise StateError("the SQLite file is busy")
        try:
            yield self._opened(prepare)
        except BAD_VALUE:
            raise
        except (sqlite3.Error, OSError, StateError) as error:
            self._disconnect()
            raise StateError(f"the SQLite file cannot be used: {error}") from error
        finally:
            self._in_use.release()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock between processes. Blocks until it is free: only for a thread that nobody has to wait for."""
        try:
            if self._lock_file < 0 or identity(self._lock_file) != identity(self._lock_path):
                self._unlock()
                self._lock_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._lock_file = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        except OSError as error:
            raise StateError(f"the SQLite store cannot be locked: {error}") from error
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file, unless it is in use for longer than WAIT_S."""
        if self._in_use.acquire(timeout=WAIT_S):
            self._disconnect()
            self._unlock()
            self._in_use.release()

    def _opened(self, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
        if self._connection is not None and self._identity == identity(self._path):
            return self._connection
        self._disconnect()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.touch(mode=0o600)  # an empty file is an empty database
        database = sqlite3.connect(self._path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            prepare(database)
        except BaseException:
            database.close()
            raise
        self._connection, self._identity = database, identity(self._path)
        return database

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def _unlock(self) -> None:
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1


def identity(file: Path | int) -> tuple[int, int] | None:
    """Return which file this is, None where there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def prepare(database: sqlite3.Connection) -> None:
    """Make a file ready for writing; state of another version is not worth keeping."""
    names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not names <= tables.OURS:
        raise StateError("it belongs to another program")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    if version_of(database) != tables.VERSION:
        database.execute("BEGIN IMMEDIATE")
        tables.create(database)
        database.execute("COMMIT")


def version_of(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version
