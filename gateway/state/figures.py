"""The figures and journals of the SQLite store.

What one transaction adds to figures is summed up first, so that each row is read and written once; in JSON, for the reason
that tables.py gives.
"""

from __future__ import annotations

import json
from dataclasses import replace

from gateway.state.base import Entries, Place, Tally
from gateway.state.memory import add_amounts, group_of
from gateway.state.tables import PRUNE_ROWS, Database, to_json

Period = tuple[str, int]  # series and slot
Row = tuple[str, int, str, str]  # and group and key

_PLACES = ", ".join(f"json_extract(value, '$[{position}]')" for position in range(4))
ROWS = f"""
SELECT json_group_array(json_array(series, slot, grp, key, json(amounts))) FROM figures
WHERE (series, slot, grp, key) IN (SELECT {_PLACES} FROM json_each(?))
"""
GROUPS = "SELECT json_group_array(grp) FROM (SELECT DISTINCT grp FROM figures WHERE series = ? AND slot = ?)"
FIGURES = """
SELECT json_group_array(json_array(slot, grp, key, json(amounts))) FROM figures
WHERE series = ? AND slot BETWEEN ? AND ?
"""
NEWEST = "SELECT json_group_array(entry) FROM (SELECT entry FROM entries WHERE journal = ? ORDER BY at DESC, entry DESC LIMIT ?)"
PRUNE = """
DELETE FROM figures WHERE (series, slot, grp, key) IN (
    SELECT series, slot, grp, key FROM periods CROSS JOIN figures USING (series, slot) WHERE periods.keep_until < ? LIMIT ?
)
"""
PRUNE_PERIODS = """
DELETE FROM periods WHERE keep_until < ?
AND NOT EXISTS (SELECT 1 FROM figures WHERE figures.series = periods.series AND figures.slot = periods.slot)
"""
TRIM = """
DELETE FROM entries WHERE journal = ? AND (at, entry) <= (
    SELECT at, entry FROM entries WHERE journal = ? ORDER BY at DESC, entry DESC LIMIT 1 OFFSET ?
)
"""
_KEEP_ROWS = f"INSERT OR REPLACE INTO figures SELECT {_PLACES}, json_extract(value, '$[4]') FROM json_each(?)"
_KEEP_PERIOD = """
INSERT INTO periods VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET keep_until = max(keep_until, excluded.keep_until)
"""
_KEEP_ENTRIES = """
INSERT OR IGNORE INTO entries SELECT ?, json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
"""


class Sums:
    """What one transaction adds to figures."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tallies: dict[Row, Tally] = {}

    def add(self, tally: Tally) -> None:
        row = (tally.series, tally.slot, tally.group, tally.key)
        known = self._tallies.get(row)
        amounts = dict(known.amounts) if known else {}
        add_amounts(amounts, tally.amounts)
        keep_until = max(known.keep_until, tally.keep_until) if known else tally.keep_until
        self._tallies[row] = replace(tally, amounts=amounts, keep_until=keep_until)

    def save(self) -> None:
        if self._tallies:
            self._keep_periods()
            self._keep_rows(self._in_their_groups())

    def _keep_periods(self) -> None:
        ends: dict[Period, float] = {}
        for tally in self._tallies.values():
            period = tally.series, tally.slot
            ends[period] = max(ends.get(period, tally.keep_until), tally.keep_until)
        self._database.executemany(_KEEP_PERIOD, [(*period, keep_until) for period, keep_until in ends.items()])

    def _in_their_groups(self) -> dict[Row, dict[str, float]]:
        """Return what to add to which row, when each tally has found a group that has room."""
        groups: dict[Period, set[str]] = {}
        rows: dict[Row, dict[str, float]] = {}
        for (series, slot, group, key), tally in self._tallies.items():
            if group and tally.most_groups is not None:
                if (series, slot) not in groups:
                    groups[series, slot] = set(json.loads(self._database.execute(GROUPS, (series, slot)).fetchone()[0]))
                group = group_of(tally, groups[series, slot])
                groups[series, slot].add(group)
            add_amounts(rows.setdefault((series, slot, group, key), {}), tally.amounts)
        return rows

    def _keep_rows(self, rows: dict[Row, dict[str, float]]) -> None:
        for *row, amounts in json.loads(self._database.execute(ROWS, (to_json(list(rows)),)).fetchone()[0]):
            add_amounts(rows[tuple(row)], amounts)
        self._database.execute(_KEEP_ROWS, (to_json([(*row, to_json(amounts)) for row, amounts in rows.items()]),))


def keep_entries(database: Database, entries: Entries) -> None:
    database.execute(_KEEP_ENTRIES, (entries.journal, to_json(entries.entries)))
    database.execute(TRIM, (entries.journal, entries.journal, entries.most))


def prune(database: Database, now: float) -> bool:
    """Drop figures that are over, at most PRUNE_ROWS; return whether that was all."""
    dropped: int = database.execute(PRUNE, (now, PRUNE_ROWS)).rowcount
    database.execute(PRUNE_PERIODS, (now,))
    return dropped < PRUNE_ROWS


def read_figures(database: Database, series: str, first_slot: int, last_slot: int, group: str | None) -> str:
    """Return what `figures_of` takes: many can wait for the connection, nobody for what is made of it."""
    of_group = "" if group is None else "AND grp = ?"
    places = (series, first_slot, last_slot) if group is None else (series, first_slot, last_slot, group)
    found: str = database.execute(f"{FIGURES} {of_group}", places).fetchone()[0]
    return found


def figures_of(found: str) -> dict[Place, dict[str, float]]:
    return {Place(slot, group, key): amounts for slot, group, key, amounts in json.loads(found)}


def read_newest(database: Database, journal: str, count: int) -> list[str]:
    entries: list[str] = json.loads(database.execute(NEWEST, (journal, count)).fetchone()[0])
    return entries
