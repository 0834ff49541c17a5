"""The tables of the SQLite store, and what is read of them.

Each step of a statement gives up the interpreter's lock, and among busy threads it takes milliseconds to get it back: with a
row for each of 2,000 slots a snapshot took 80 ms beside four such threads, in one row of JSON it takes 4 (measured 2026-11).
JSON also keeps numbers as they were given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from gateway.errors import StateError
from gateway.state.base import Evidence, LearnedLimit, Rest, Slot, Snapshot

VERSION = 4
TICK_S = 1.0
STEP_S = 2.0  # a clock that shows so much less than the file's latest moment was set back
PRUNE_ROWS = 1000  # of a table at a time, so that nobody waits long

# `keep_until`: from this moment on (epoch seconds) a row says nothing any more.
SCHEMA = """
CREATE TABLE facts (
    kind TEXT, name TEXT, value TEXT NOT NULL, keep_until REAL NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL, keep_until REAL NOT NULL);
CREATE TABLE periods (series TEXT, slot INTEGER, keep_until REAL NOT NULL, PRIMARY KEY (series, slot)) WITHOUT ROWID;
CREATE TABLE figures (
    series TEXT, slot INTEGER, grp TEXT, key TEXT, amounts TEXT NOT NULL, PRIMARY KEY (series, slot, grp, key)
) WITHOUT ROWID;
CREATE TABLE entries (journal TEXT, at REAL, entry TEXT, PRIMARY KEY (journal, at, entry)) WITHOUT ROWID;
CREATE INDEX notes_by_end ON notes (keep_until);
CREATE INDEX periods_by_end ON periods (keep_until);
"""
KEYS = {"facts": "kind, name", "notes": "key"}
TABLES = {*KEYS, "periods", "figures", "entries"}
OURS = {*TABLES, "counters", "rests"}  # and those of earlier versions

# Kinds of facts, and what their values hold.
COUNT = "count"  # [[slot, used, counts_until], ...]
UNSEEN = "unseen"  # as COUNT, in no snapshot
LIMIT = "limit"  # [limit, until]
REST = "rest"  # [until, since, failures, reason, failed_at]
LEASE = "lease"  # [until, token]
EVIDENCE = "evidence"  # [[sum, ...], learned_at]
CLOCK = "clock"  # the latest moment of the file, under the name "", to within TICK_S

LISTED = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)"
KEEP_FACTS = """
INSERT OR REPLACE INTO facts SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]') FROM json_each(?)
"""
FACTS = "SELECT json_group_array(json_array(kind, name, json(value))), (SELECT * FROM pragma_user_version) FROM facts WHERE"

BROKEN = """
SELECT (SELECT count(*) FROM facts WHERE NOT json_valid(value)) + (SELECT count(*) FROM figures WHERE NOT json_valid(amounts))
"""


class Database(Protocol):
    """What is used of a connection here."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any: ...
    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any: ...


def create(database: Database) -> None:
    """Have empty tables of this version, within a transaction."""
    for name in OURS:
        database.execute(f"DROP TABLE IF EXISTS {name}")
    for statement in SCHEMA.split(";")[:-1]:
        database.execute(statement)
    database.execute(f"PRAGMA user_version = {VERSION}")


def prune(database: Database, now: float) -> bool:
    """Drop what is over, at most PRUNE_ROWS a table; return whether that was all."""
    dropped = 0
    for table, key in KEYS.items():
        over = f"SELECT {key} FROM {table} WHERE keep_until < ? LIMIT {PRUNE_ROWS}"
        dropped = max(dropped, database.execute(f"DELETE FROM {table} WHERE ({key}) IN ({over})", (now,)).rowcount)
    return dropped < PRUNE_ROWS


# --- a clock that was set back ---------------------------------------------------------------------------------------
#
# What was written an hour later than it is now would last an hour longer than it was meant to: all of it is moved back by
# as much, so that nothing lasts longer from now on than it would have from the latest moment of the file.


def went_back_s(latest: float | None, now: float) -> float:
    """Return by how many seconds the clock was set back since the file's latest moment, 0 where it was not."""
    return latest - now if latest is not None and latest - now > STEP_S else 0.0


def moved_back(kind: str, value: Any, seconds: float) -> Any:
    """Return what a fact says as if it had happened so much earlier. Moments of 0 stay: they stand for never."""
    if kind in (COUNT, UNSEEN):
        return [[number, used, counts_until - seconds] for number, used, counts_until in value]
    if kind == REST:
        until, since, failures, reason, failed_at = value
        return [max(0.0, until - seconds), max(0.0, since - seconds), failures, reason, failed_at - seconds]
    if kind == LEASE:
        return [value[0] - seconds, value[1]]
    if kind in (LIMIT, EVIDENCE):
        return [value[0], value[1] - seconds]
    return value - seconds if kind == CLOCK else value


def move_back(database: Database, seconds: float) -> None:
    """Move all facts back, within a transaction."""
    every = "SELECT json_group_array(json_array(kind, name, json(value), keep_until)) FROM facts"
    moved = [
        (kind, name, to_json(moved_back(kind, value, seconds)), keep_until - seconds)
        for kind, name, value, keep_until in json.loads(database.execute(every).fetchone()[0])
    ]
    database.execute(KEEP_FACTS, (to_json(moved),))


# --- reading ---------------------------------------------------------------------------------------------------------


def read_facts(database: Database, condition: str, parameters: Sequence[Any]) -> list[tuple[str, str, Any]]:
    """Return kind, name and value of the facts that meet a condition.

    :raises StateError: the tables are of another version: a newer gateway may have begun its own in the same file
    """
    found, version = database.execute(f"{FACTS} {condition}", parameters).fetchone()
    if version != VERSION:
        raise StateError(f"its version is {version}, and not {VERSION}")
    facts: list[tuple[str, str, Any]] = json.loads(found)
    return facts


def read_snapshot(database: Database, now: float) -> tuple[Snapshot, float]:
    """Return what is known, and by how many seconds the clock was set back without the file knowing of it yet."""
    counts, limits, rests, leases, evidence = {}, {}, {}, {}, {}
    facts = read_facts(database, f"kind != '{UNSEEN}' AND keep_until >= ?", (now,))
    back_s = went_back_s(next((value for kind, _, value in facts if kind == CLOCK), None), now)
    for kind, name, value in facts:
        if back_s:
            value = moved_back(kind, value, back_s)
        if kind == COUNT:
            if slots := tuple(Slot(*slot) for slot in value if slot[2] > now):
                counts[name] = slots
        elif kind == LIMIT and value[1] > now:
            limits[name] = LearnedLimit(*value)
        elif kind == REST:
            rests[name] = Rest(name, *value)
        elif kind == LEASE and value[0] > now:
            leases[name] = value[0]
        elif kind == EVIDENCE:
            evidence[name] = Evidence(tuple(value[0]), value[1])
    return Snapshot(now, counts, limits, rests, leases, evidence), back_s


def can_be_read(database: Database) -> bool:
    """Return whether all facts are what they should be: whole pages can hold a flipped bit."""
    try:
        read_snapshot(database, 0.0)
    except (TypeError, ValueError, LookupError):
        return False
    (broken,) = database.execute(BROKEN).fetchone()
    return not broken


def read_notes(database: Database, keys: Sequence[str], now: float) -> dict[str, str]:
    marks = ", ".join("?" * len(keys))
    query = f"SELECT json_group_object(key, value) FROM notes WHERE key IN ({marks}) AND keep_until > ?"
    notes: dict[str, str] = json.loads(database.execute(query, (*keys, now)).fetchone()[0])
    return notes


def to_json(value: Any) -> str:
    # As it is, and not escaped: SQLite has to refuse what is not Unicode, instead of writing what it cannot read again.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
