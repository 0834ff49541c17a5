"""What is particular to the SQLite file: its lock, its damages, its growth."""

import fcntl
import os
import sqlite3
import time

import pytest

from gateway.errors import StateError
from gateway.state import figures, tables
from gateway.state.base import Adjustment, Charge, Failure, Lesson, Note, Reading, Recovery, Reservation, Tally
from gateway.state.sqlite import SqliteStore
from tests.state.conftest import eventually, written

T0 = 1_800_000_000.25


def charge(counter="a", amount=1, limit=1000):
    return Charge(counter, 1, amount, limit, T0 + 60)


def used(store, counter="a"):
    return sum(slot.used for slot in store.snapshot().counts.get(counter, ()))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.sqlite3"


@pytest.fixture
def hasty(path, clock, lost):
    """The store as it is."""
    opened = SqliteStore(path, clock, lost.append)
    yield opened
    opened.close()


@pytest.fixture
def store(patience, hasty):
    return hasty


@pytest.fixture
def rows(path):
    def count(table):
        database = sqlite3.connect(path)
        try:
            return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        finally:
            database.close()

    return count


def failing(*verbs):
    """Call each; each is a StateError, within 0.3 s."""
    for verb in verbs:
        began = time.monotonic()
        with pytest.raises(StateError):
            verb()
        assert time.monotonic() - began < 0.3


@pytest.mark.quiet
def test_a_locked_file_is_unknown_is_not_waited_for_and_nothing_is_done_later(hasty, path):
    hasty.reserve([charge()])
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        failing(
            lambda: hasty.reserve([charge()]),
            lambda: hasty.fail(Failure("m", "x", T0, (9.0,))),
            lambda: hasty.lease(["m"], 9),
        )
        hasty.write([Adjustment("a", 1, 10, T0 + 60)])
        assert used(hasty) == 1  # who only reads does not care
    assert isinstance(hasty.reserve([charge("b")]), Reservation)
    assert used(hasty) == 11
    assert not hasty.snapshot().rests and not hasty.snapshot().leases


@pytest.mark.quiet
def test_a_file_locked_by_another_program_is_unknown_and_its_changes_are_lost(hasty, path, lost):
    hasty.reserve([charge()])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    hasty.write([Adjustment("a", 1, 10, T0 + 60)] * 2)
    eventually(lambda: lost, [2])
    failing(lambda: hasty.reserve([charge()]))
    other.execute("ROLLBACK")
    other.close()
    eventually(lambda: isinstance(hasty.reserve([charge("b")]), Reservation))
    assert used(hasty) == 1


def test_a_file_that_is_no_database_is_a_state_error_and_left_alone(store, path):
    path.write_bytes(b"not a database" * 100)
    failing(store.ping, store.snapshot, lambda: store.reserve([charge()]), lambda: store.recall(["a"]))
    store.close()
    assert path.read_bytes() == b"not a database" * 100


def test_a_database_of_another_program_is_left_alone(store, path):
    other = sqlite3.connect(path)
    other.executescript("CREATE TABLE notes (mine); CREATE TABLE orders (id)")
    other.close()
    failing(store.ping)
    other = sqlite3.connect(path)
    assert {name for (name,) in other.execute("SELECT name FROM sqlite_master")} == {"notes", "orders"}
    other.close()


@pytest.mark.parametrize("version", [0, 1, tables.VERSION + 1])
def test_tables_of_another_version_are_dropped(store, path, version):
    old = sqlite3.connect(path)
    old.executescript(f"CREATE TABLE counters (x); CREATE TABLE rests (y); PRAGMA user_version = {version}")
    old.close()
    store.fail(Failure("m", "x", T0, (9.0,)))
    assert set(store.snapshot().rests) == {"m"}
    store.close()
    database = sqlite3.connect(path)
    assert {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} == tables.TABLES
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


@pytest.mark.parametrize("parts", [("",), ("", "-wal", "-shm"), ("", "-wal", "-shm", ".lock")])
def test_a_file_deleted_while_open_is_begun_anew(store, path, parts, lost):
    store.reserve([charge()])
    store.ping()
    for part in parts:
        os.unlink(f"{path}{part}")
    assert used(store) == 0
    store.reserve([charge(amount=3)])
    assert used(store) == 3 and path.exists() and not lost
    second = SqliteStore(path, store._clock)
    assert used(second) == 3
    second.reserve([charge()])
    assert used(store) == 4
    second.close()


def test_a_folder_deleted_while_open_is_made_anew(tmp_path, clock, patience):
    folder = tmp_path / "deep" / "er"
    store = SqliteStore(folder / "state.sqlite3", clock)
    store.reserve([charge()])
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    store.reserve([charge()])
    assert used(store) == 1
    store.close()


def test_a_file_replaced_while_open_is_opened_anew(store, path, tmp_path, clock):
    store.reserve([charge()])
    other = SqliteStore(tmp_path / "other.sqlite3", clock)
    other.reserve([charge(amount=7)])
    other.close()
    for part in ("-wal", "-shm"):
        os.unlink(f"{path}{part}")
    os.replace(tmp_path / "other.sqlite3", path)
    assert used(store) == 7


def test_damaged_pages_are_a_state_error_until_the_file_is_gone(store, path):
    written(store, *[Note(f"key {number}", "x" * 500, 60) for number in range(200)])
    store.close()
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    failing(lambda: store.reserve([charge()]), lambda: store.recall(["key 1"]))
    path.unlink()
    assert isinstance(store.reserve([charge()]), Reservation)


def test_a_full_disk_is_a_state_error_and_passes(store, lost):
    store.reserve([charge()])
    database = store._writing._connection
    database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0]}")
    store.write([Note("big", "x" * 100_000, 60)])
    eventually(lambda: lost, [1])
    written(store, Note("big", "x" * 100_000, 60))  # a new connection has no such limit
    assert used(store) == 1


@pytest.mark.parametrize(
    "bad",
    [
        Adjustment("\ud800", 1, 1, T0 + 60),
        Adjustment("a", 1, 1, float("inf")),
        Reading("a", 9, None, T0, float("nan")),
        Note("key", "\ud800", 60),
        Note("key", "x", float("nan")),
        Recovery("\udfff", T0),
        Lesson("m", (1.0,), 0.0),
        Tally("s", 1, "k", {"n": float("nan")}, T0 + 60),
        Tally("s", 1, "k", {"n": None}, T0 + 60),  # type: ignore[dict-item]
        Tally("\ud800", 1, "k", {"n": 1}, T0 + 60),
        "no change at all",
    ],
)
def test_what_sqlite_cannot_hold_is_lost_alone(store, lost, bad):
    fine = Adjustment("fine", 1, 1, T0 + 60)
    store.write([fine, bad, fine])
    written(store, fine)
    assert used(store, "fine") == 3 and lost == [1]


def test_what_cannot_be_asked_is_a_state_error(store):
    failing(
        lambda: store.reserve([Charge("a", 1, 1, 9, float("nan"))]),
        lambda: store.reserve([charge("\ud800")]),
        lambda: store.lease(["\ud800"], 9),
        lambda: store.fail(Failure("m", "x", T0, ())),
        lambda: store.recall(["\ud800"]),
        lambda: store.figures("s", 0, 2**64),
        lambda: store.newest("\ud800", 1),
    )
    assert isinstance(store.reserve([charge()]), Reservation)


def test_what_is_over_is_dropped_now_and_then(store, clock, rows, monkeypatch):
    def prune_now():
        store._prune_mono = 0.0

    monkeypatch.setattr(tables, "PRUNE_ROWS", 3)
    store.fail(Failure("m", "x", T0, (9.0,)))
    store.lease(["m", "n"], 9)
    written(
        store,
        *[Adjustment("a", slot, 1, T0 + 60) for slot in range(8)],
        *[Adjustment(f"b{counter}", 1, 1, T0 + 60) for counter in range(3)],
        Reading("a", 9, None, T0 + 60, T0 + 60),
        Lesson("m", (1.0,), 9.0),
        *[Tally("s", 1, key, {"n": 1, "o": 2}, T0 + 60) for key in "abck"],
        Tally("s", 2, "k", {"n": 1, "o": 2}, T0 + 1e9),
    )
    written(store, Tally("s", 1, "k", {"n": 1}, T0 + 3))
    clock.pass_(8)
    prune_now()
    store.lease([], 1)
    assert (rows("facts"), rows("notes"), rows("figures"), rows("periods")) == (9, 2, 5, 2)
    clock.pass_(31 * 86400)
    prune_now()  # once: where that is not all, the next transaction goes on
    for left in (6, 3, 0):
        store.lease([], 1)
        assert rows("facts") == left
    assert (rows("notes"), rows("figures"), rows("periods")) == (0, 1, 1)
    assert store.figures("s", 0, 9) == {(2, "", "k"): {"n": 1, "o": 2}}


def test_slots_that_are_over_are_dropped_where_a_counter_is_used(store, clock, path):
    written(store, *[Adjustment("a", slot, 1, T0 + 60) for slot in range(8)])
    clock.pass_(60)
    store.reserve([Charge("a", 9, 1, 9, T0 + 120)])
    database = sqlite3.connect(path)
    assert database.execute("SELECT value FROM facts").fetchall() == [(f"[[9,1,{T0 + 120}]]",)]
    database.close()


def test_a_clean_up_is_rare(store, clock, rows):
    written(store, Adjustment("a", 1, 1, T0 + 1))
    clock.pass_(2)
    store.lease([], 1)
    assert rows("facts") == 1


@pytest.mark.parametrize(
    "query",
    [
        f"{tables.FACTS} (kind, name) IN ({tables.LISTED})",
        f"DELETE FROM facts WHERE (kind, name) IN ({tables.LISTED})",
        figures.ROWS,
        figures.FIGURES.replace("?", "1"),
        figures.GROUPS.replace("?", "1"),
        figures.NEWEST.replace("?", "1"),
        figures.TRIM.replace("?", "1"),
        figures.PRUNE.replace("?", "1"),
        figures.PRUNE_PERIODS.replace("?", "1"),
        "DELETE FROM notes WHERE (key) IN (SELECT key FROM notes WHERE keep_until < 1)",
    ],
)
def test_no_statement_reads_a_whole_table(store, path, query):
    store.ping()
    database = sqlite3.connect(path)
    plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {query}", ("[]",) if "?" in query else ())]
    database.close()
    whole = [step for step in plan if step.startswith("SCAN") and "VIRTUAL TABLE" not in step and "(subquery" not in step]
    assert not whole, plan


def test_a_lock_file_deleted_while_open_is_made_anew(store, path):
    store.reserve([charge()])
    os.unlink(f"{path}.lock")
    store.reserve([charge()])
    assert os.path.exists(f"{path}.lock")
    assert used(store) == 2


def test_the_files_are_for_us_alone(store, path):
    store.reserve([charge()])
    for part in ("", "-wal", "-shm", ".lock"):
        assert os.stat(f"{path}{part}").st_mode & 0o777 == 0o600
