"""The SQLite file: a connection to it, the lock between processes, and what is done with one that is not fit for use.

State is worth less than that it can be kept: a file that is damaged is set aside, under the lock, and a new one begun. One
that an older gateway wrote is emptied. One of a newer gateway, which may be at work on it, or of another program is left
alone, and the store is down.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from gateway.errors import StateError
from gateway.state import tables
from gateway.state.base import WAIT_S

log = logging.getLogger("gateway")

MOST_ASIDE = 3  # files that were set aside: the oldest go, so that a broken disk is not filled with them
BAD_VALUE = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
DAMAGES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
PARTS = ("-wal", "", "-shm")  # in the order to rename them: what is written ahead must never meet another file


class Damaged(StateError):
    """The file holds what cannot be read."""


class File:
    """A connection to the database file, for one thread at a time. It is opened anew when it broke or the file is another.

    `wait_s`: how long its users wait for it, and again for another program that has locked it.
    """

    def __init__(self, path: Path, wait_s: float) -> None:
        self._path = path
        self._wait_s = wait_s
        self._lock_path = Path(f"{path}.lock")
        self._lock_file = -1
        self._in_use = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None  # of the file that the connection has open

    def is_open(self) -> bool:
        """Return whether there is a connection to the file that is there now."""
        return self._connection is not None and self._identity == identity(self._path)

    @contextmanager
    def guarded(self, prepare: Callable[[sqlite3.Connection], None] = lambda database: None) -> Iterator[sqlite3.Connection]:
        """Hold the connection; a new one is prepared first.

        :raises Damaged: it may have to be set aside.
        :raises StateError: the file cannot be used. What SQLite cannot hold raises other exceptions.
        """
        if not self._in_use.acquire(timeout=self._wait_s):
            raise StateError("the SQLite file is busy")
        try:
            yield self._opened(prepare)
        except BAD_VALUE:
            raise
        except (sqlite3.Error, OSError, StateError) as error:
            self._disconnect()
            kind = Damaged if is_damage(error) else StateError
            raise kind(f"the SQLite file cannot be used: {error}") from error
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
        """Let go of the file, unless it is in use for too long."""
        if self._in_use.acquire(timeout=self._wait_s):
            self._disconnect()
            self._unlock()
            self._in_use.release()

    def set_aside_if_damaged(self) -> None:
        """Look at the file that is there now, and rename it where it is damaged: the next use begins a new one.

        Only within `locked`: two processes that met the damage do it once, and never to the new file. Blocks as long as it
        takes to read all of it.

        :raises StateError: that cannot be told, or done.
        """
        self._disconnect()
        try:
            if is_damaged(self._path):
                self._set_aside()
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"the SQLite file cannot be used: {error}") from error

    def _set_aside(self) -> None:
        before = f"{self._path.name}.corrupt-"
        kept = self._path.with_name(before + datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ"))
        for part in PARTS:
            with suppress(FileNotFoundError):
                os.rename(f"{self._path}{part}", f"{kept}{part}")
        message = "the state file was damaged: it is set aside, and quotas and rests begin anew"
        log.error(message, extra={"fields": {"kept_as": str(kept)}})
        names = [path.name for path in self._path.parent.iterdir()]
        aside = sorted(name for name in names if name.startswith(before) and name.endswith("Z"))
        for name in aside[:-MOST_ASIDE]:
            for part in PARTS:
                self._path.with_name(name + part).unlink(missing_ok=True)

    def _opened(self, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
        if self._connection is not None and self._identity == identity(self._path):
            return self._connection
        self._disconnect()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.touch(mode=0o600)  # an empty file is an empty database
        opened = identity(self._path)  # before the connection: of a file replaced meanwhile, it is not taken for the new one
        database = sqlite3.connect(self._path, timeout=self._wait_s, isolation_level=None, check_same_thread=False)
        try:
            prepare(database)
        except BaseException:
            database.close()
            raise
        self._connection, self._identity = database, opened
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
    """Make a file ready for writing. :raises StateError: it is not ours."""
    names = table_names(database)
    if not names <= tables.OURS:
        raise StateError("it belongs to another program")
    version = version_of(database)
    if version > tables.VERSION:
        raise StateError("a newer gateway wrote it")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    if version < tables.VERSION or not names >= tables.TABLES:
        if names:
            log.warning("the state file is of an earlier version: quotas and rests begin anew")
        database.execute("BEGIN IMMEDIATE")
        tables.create(database)
        database.execute("COMMIT")


def version_of(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version


def table_names(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def is_damage(error: Exception) -> bool:
    """Return whether an error says that what is in the file cannot be read."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGES or "malformed JSON" in str(error)
    return isinstance(error, Damaged)


def is_damaged(path: Path) -> bool:
    """Return whether a file of ours is damaged. Reads all of it."""
    database = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
    try:
        if not table_names(database) <= tables.OURS:
            return False
        if database.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            return True
        return version_of(database) == tables.VERSION and not tables.can_be_read(database)
    except sqlite3.Error as error:
        if is_damage(error):
            return True
        raise
    finally:
        database.close()
