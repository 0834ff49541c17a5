"""The embedded store: one SQLite file for all workers of a machine, in WAL mode.

SQLite's own waiting between processes sleeps up to 100 ms at a time, so writers queue up at an `flock` on a file
beside the database instead (measured 2026-11: 99th percentile 12-68 ms with it, 95-690 ms without). Readers do not
queue. `flock` knows processes, not threads, so a process's threads queue up among themselves first.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.errors import StateError
from gateway.state.base import KEEP_S, Charge, Reservation, Rest, Snapshot, StateStore

QUEUE_S = 0.08  # for all queues of one verb together
BUSY_S = 0.02  # for SQLite itself, where another program holds the file
POLL_S = 0.0005  # between two looks at the lock file: a transaction takes about as long
PRUNE_EVERY = 1000  # writes of this process between two clean-ups
VERSION = 1

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS counters (
    counter TEXT NOT NULL, bucket INTEGER NOT NULL, used INTEGER NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (counter, bucket)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rests (
    scope TEXT PRIMARY KEY, until REAL NOT NULL, failures INTEGER NOT NULL, reason TEXT NOT NULL, noted_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at REAL NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
COMMIT;
"""
_USED = "SELECT used FROM counters WHERE counter = ? AND bucket = ?"
_ADD = """
INSERT INTO counters (counter, bucket, used, expires_at) VALUES (?, ?, max(0, ?), ?)
ON CONFLICT DO UPDATE SET used = max(0, used + ?)
"""
_RAISE = """
INSERT INTO counters (counter, bucket, used, expires_at) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET used = max(used, excluded.used)
"""
_RESTS = "SELECT scope, until, failures, reason FROM rests WHERE max(until, noted_at) > ? AND scope IN ({})"
_REST = """
INSERT INTO rests (scope, until, failures, reason, noted_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    until = max(until, excluded.until), failures = excluded.failures, reason = excluded.reason, noted_at = excluded.noted_at
"""


class SqliteStore(StateStore):
    """Opened by each process at its first verb, so after the fork, and again by the first verb after an error.

    `clock` tells epoch seconds. The file's folder is made, for its owner alone, where it is missing.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._file = _File(Path(path))
        self._writes = 0

    def snapshot(self, counters: Sequence[tuple[str, int]], scopes: Sequence[str]) -> Snapshot:
        with self._reading() as database:
            used = {key: _used(database, *key) for key in counters}
            oldest = self._clock() - KEEP_S
            rows = database.execute(_RESTS.format(",".join("?" * len(scopes))), (oldest, *scopes)) if scopes else ()
            rests = {row[0]: Rest(*row) for row in rows}
        return Snapshot({key: value for key, value in used.items() if value is not None}, rests)

    def reserve(self, charges: Sequence[Charge]) -> Reservation | Charge:
        if not charges:
            return Reservation()
        with self._writing() as database:
            for charge in charges:
                if (_used(database, charge.counter, charge.bucket) or 0) + charge.amount > charge.limit:
                    return charge
            for charge in charges:
                _add(database, charge, charge.amount)
        return Reservation(tuple(charges))

    def settle(self, reservation: Reservation, amounts: Mapping[str, int]) -> None:
        changes = [(charge, amounts.get(charge.counter, charge.amount) - charge.amount) for charge in reservation.charges]
        if not any(change for _, change in changes):
            return
        with self._writing() as database:
            for charge, change in changes:
                _add(database, charge, change)

    def observe_quota(self, counter: str, bucket: int, used: int, resets_at: float) -> None:
        with self._writing() as database:
            database.execute(_RAISE, (counter, bucket, used, resets_at + KEEP_S))

    def rest(self, rest: Rest) -> None:
        with self._writing() as database:
            database.execute(_REST, (rest.scope, rest.until, rest.failures, rest.reason, self._clock()))

    def recover(self, scopes: Sequence[str]) -> None:
        if scopes:
            with self._writing() as database:
                database.executemany("DELETE FROM rests WHERE scope = ?", [(scope,) for scope in scopes])

    def remember(self, key: str, value: str, ttl_s: float) -> None:
        with self._writing() as database:
            database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (key, value, self._clock() + ttl_s))

    def recall(self, keys: Sequence[str]) -> dict[str, str]:
        if not keys:
            return {}
        query = f"SELECT key, value FROM notes WHERE expires_at > ? AND key IN ({','.join('?' * len(keys))})"
        with self._reading() as database:
            return dict(database.execute(query, (self._clock(), *keys)).fetchall())

    def ping(self) -> None:
        with self._reading() as database:
            database.execute("SELECT 1 FROM counters LIMIT 1").fetchone()

    def close(self) -> None:
        with _mapped_errors():
            self._own_file().close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with _mapped_errors(), self._own_file().database(time.monotonic() + QUEUE_S) as database:
            yield database

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        until_mono = time.monotonic() + QUEUE_S
        with _mapped_errors(), self._own_file().transaction(until_mono) as database:
            yield database
            self._prune(database)

    def _own_file(self) -> _File:
        if self._file.pid != os.getpid():
            self._file = self._file.after_fork()
        return self._file

    def _prune(self, database: sqlite3.Connection) -> None:
        """Forget, now and then, what nobody will ask for again."""
        self._writes += 1
        if self._writes % PRUNE_EVERY == 0:
            now = self._clock()
            database.execute("DELETE FROM counters WHERE expires_at <= ?", (now,))
            database.execute("DELETE FROM notes WHERE expires_at <= ?", (now,))
            database.execute("DELETE FROM rests WHERE max(until, noted_at) <= ?", (now - KEEP_S,))


class _File:
    """One process's access to the file: one connection, used by one thread at a time, and the queue for writing.

    Whoever takes both locks takes `_turn` first. `until_mono` (monotonic seconds) ends all waiting for them.
    """

    def __init__(self, path: Path, inherited: _File | None = None) -> None:
        self.pid = os.getpid()
        self._path = path
        self._inherited = inherited
        self._turn = threading.Lock()  # of this process's writers
        self._use = threading.Lock()  # of the connection
        self._lock_fd = -1
        self._connection: sqlite3.Connection | None = None

    def after_fork(self) -> _File:
        """Return a file of the child's own.

        The inherited connection is kept and never closed: SQLite forbids both its use and its end across a fork
        (https://www.sqlite.org/howtocorrupt.html §2.6). The lock file is closed, lest it stays locked by the child
        where the parent dies with it.
        """
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        return _File(self._path, inherited=self)

    @contextmanager
    def database(self, until_mono: float) -> Iterator[sqlite3.Connection]:
        """Lend the connection for reading."""
        if self._connection is None:
            with self._turn_to_write(until_mono), self._in_use(until_mono):
                self._open()
        with self._in_use(until_mono):
            yield self._open_connection()

    @contextmanager
    def transaction(self, until_mono: float) -> Iterator[sqlite3.Connection]:
        with self._turn_to_write(until_mono), self._in_use(until_mono):
            self._open()
            database = self._open_connection()
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                raise
            finally:
                if database.in_transaction:  # left early by `return` is committed too; see `_end`
                    database.execute("COMMIT")
