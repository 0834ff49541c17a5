"""The tables of the SQLite store, and what is read of them.

Each step of a statement gives up the interpreter's lock, and among busy threads it takes milliseconds to get it back: with a
row for each of 2,000 slots a snapshot took 80 ms beside four such threads, in one row of JSON it takes 4 (measured 2026-11).
JSON also keeps numbers as they were given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from gateway.state.base import Evidence, LearnedLimit, Rest, Slot, Snapshot

VERSION = 3
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
LEASE = "lease"  # until
EVIDENCE = "evidence"  # [[sum, ...], learned_at]

LISTED = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)"
FACTS = "SELECT json_group_array(json_array(kind, name, json(value))) FROM facts WHERE"


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


def read_snapshot(database: Database, now: float) -> Snapshot:
    counts, limits, rests, leases, evidence = {}, {}, {}, {}, {}
    known = database.execute(f"{FACTS} kind != '{UNSEEN}' AND keep_until >= ?", (now,)).fetchone()[0]
    for kind, name, value in json.loads(known):
        if kind == COUNT:
            if slots := tuple(Slot(*slot) for slot in value if slot[2] > now):
                counts[name] = slots
        elif kind == LIMIT and value[1] > now:
            limits[name] = LearnedLimit(*value)
        elif kind == REST:
            rests[name] = Rest(name, *value)
        elif kind == LEASE and value > now:
            leases[name] = value
        elif kind == EVIDENCE:
            evidence[name] = Evidence(tuple(value[0]), value[1])
    return Snapshot(now, counts, limits, rests, leases, evidence)


def read_notes(database: Database, keys: Sequence[str], now: float) -> dict[str, str]:
    marks = ", ".join("?" * len(keys))
    query = f"SELECT json_group_object(key, value) FROM notes WHERE key IN ({marks}) AND keep_until > ?"
    notes: dict[str, str] = json.loads(database.execute(query, (*keys, now)).fetchone()[0])
    return notes


def to_json(value: Any) -> str:
    # As it is, and not escaped: SQLite has to refuse what is not Unicode, instead of writing what it cannot read again.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
