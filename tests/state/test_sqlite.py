"""What is particular to the SQLite file: its lock, its damages, its growth."""

import fcntl
import json
import logging
import os
import sqlite3
import time

import pytest

from gateway.errors import StateError
from gateway.state import figures, tables
from gateway.state.base import Adjustment, Charge, Failure, Lesson, Note, Reading, Recovery, Reservation, Tally
from gateway.state.sqlite import SqliteStore
from tests.state.conftest import eventually, patiently, written

T0 = 1_800_000_000.25


def charge(counter="a", amount=1, limit=1000):
    return Charge(counter, 1, amount, limit, T0 + 60)


def used(store, counter="a"):
    return sum(slot.used for slot in patiently(store.snapshot).counts.get(counter, ()))


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
    patiently(hasty.reserve, [charge()])
    assert used(hasty) == 1
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        failing(
            lambda: hasty.reserve([charge()]),
            lambda: hasty.fail(Failure("m", "x", T0, (9.0,))),
            lambda: hasty.lease(["m"], 9),
            hasty.ping,
        )
        hasty.write([Adjustment("a", 1, 10, T0 + 60)])
        assert used(hasty) == 1  # who only reads does not care
    assert isinstance(patiently(hasty.reserve, [charge("b")]), Reservation)
    assert used(hasty) == 11
    assert not hasty.snapshot().rests and not hasty.snapshot().leases


@pytest.mark.quiet
def test_a_file_locked_by_another_program_is_unknown_and_its_changes_wait(hasty, path, lost):
    patiently(hasty.reserve, [charge()])
    assert used(hasty) == 1
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    hasty.write([Adjustment("a", 1, 10, T0 + 60)] * 2)
    eventually(lambda: set(lost), {0})
    failing(lambda: hasty.reserve([charge()]), hasty.ping)
    assert used(hasty) == 1
    other.execute("ROLLBACK")
    other.close()
    eventually(lambda: used(hasty), 21)
    assert set(lost) == {0}


def aside(path):
    """The files that were set aside."""
    return sorted(
        file for file in path.parent.iterdir() if file.name.startswith(f"{path.name}.corrupt-") and file.name.endswith("Z")
    )


def spoil_table(path, name):
    database = sqlite3.connect(path)
    (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    database.close()
    with open(path, "r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)


def spoil(path, begin=4096):
    with open(path, "r+b") as file:
        file.seek(begin)
        file.write(b"\xff" * (path.stat().st_size - begin))


def test_a_file_that_is_no_database_is_set_aside_and_a_new_one_begun(store, path, caplog, monkeypatch):
    monkeypatch.setattr("gateway.state.file.log", logging.getLogger("damage"))  # that no other test has set up
    path.write_bytes(b"not a database" * 100)
    failing(lambda: store.reserve([charge()]))
    store.reserve([charge()])
    assert used(store) == 1
    assert [file.read_bytes() for file in aside(path)] == [b"not a database" * 100]
    said = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.fields for record in said] == [{"kept_as": str(aside(path)[0])}]  # loudly, once


def test_what_waits_to_be_written_outlives_a_damaged_file(store, path, lost):
    path.write_bytes(b"not a database" * 100)
    written(store, Adjustment("a", 1, 7, T0 + 60))
    assert used(store) == 7 and len(aside(path)) == 1 and set(lost) == {0}


def test_pages_that_only_readers_meet_are_found_as_well(store, path):
    written(store, *[Note(f"key {number}", "x" * 500, 60) for number in range(200)])
    store.reserve([charge()])
    store.close()
    spoil_table(path, "notes")
    assert used(store) == 1
    failing(lambda: store.recall(["key 1"]))
    eventually(lambda: len(aside(path)), 1)
    assert store.recall(["key 1"]) == {} and used(store) == 0
    written(store, Note("key 1", "x", 60))


@pytest.mark.parametrize("value", ["[[1", "[[1, 2]]", "7"])
def test_a_fact_that_cannot_be_read_is_damage_too(store, path, value):
    store.reserve([charge()])
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE facts SET value = ? WHERE kind = 'count'", (value,))
    database.close()
    failing(store.snapshot)
    eventually(lambda: len(aside(path)), 1)
    assert isinstance(store.reserve([charge()]), Reservation) and used(store) == 1


def test_a_healthy_file_is_not_set_aside_by_mistake(store, path):
    store.reserve([charge()])
    store._suspected = True
    store.reserve([charge()])
    assert used(store) == 2 and not aside(path) and not store._suspected


def test_another_process_that_has_the_old_file_open_harms_neither(store, path, clock):
    written(store, *[Note(f"key {number}", "x" * 500, 60) for number in range(50)])
    store.close()
    spoil_table(path, "notes")
    store.reserve([charge()])
    other = sqlite3.connect(path)
    other.execute("SELECT * FROM facts").fetchall()
    ahead = os.stat(f"{path}-wal").st_ino
    failing(lambda: store.recall(["key 1"]))
    eventually(lambda: len(aside(path)), 1)
    assert os.stat(f"{aside(path)[0]}-wal").st_ino == ahead  # what was written ahead goes with it
    store.reserve([charge(amount=3)])
    other.close()  # the last connection to a file removes what is written ahead, by its name
    assert os.stat(f"{path}-wal").st_ino != ahead
    third = SqliteStore(path, clock)
    assert used(third) == used(store) == 3
    third.close()


def test_no_more_than_three_files_are_kept_aside(store, path):
    for number in range(5):
        store.close()
        path.write_bytes(b"%d" % number * 3000)
        failing(store.ping)
        store.ping()
    assert [file.read_bytes()[:1] for file in aside(path)] == [b"2", b"3", b"4"]


def test_a_table_that_is_missing_is_made_anew(store, path):
    store.ping()
    store.close()
    database = sqlite3.connect(path)
    database.execute("DROP TABLE notes")
    database.close()
    written(store, Note("a", "b", 60))
    assert store.recall(["a"]) == {"a": "b"}


def test_a_database_of_another_program_is_left_alone(store, path):
    other = sqlite3.connect(path)
    other.executescript("CREATE TABLE notes (mine); CREATE TABLE orders (id)")
    other.close()
    failing(store.ping)
    other = sqlite3.connect(path)
    assert {name for (name,) in other.execute("SELECT name FROM sqlite_master")} == {"notes", "orders"}
    other.close()


@pytest.mark.parametrize("open_already", [False, True])
def test_a_file_of_a_newer_gateway_is_left_alone(store, path, open_already):
    if open_already:
        store.reserve([charge()])
        assert used(store) == 1
    newer = sqlite3.connect(path)
    newer.executescript(f"CREATE TABLE IF NOT EXISTS facts (x); PRAGMA user_version = {tables.VERSION + 1}")
    newer.close()
    failing(store.ping, lambda: store.reserve([charge()]), store.snapshot)
    assert not aside(path)
    newer = sqlite3.connect(path)
    assert newer.execute("PRAGMA user_version").fetchone() == (tables.VERSION + 1,)
    newer.close()


@pytest.mark.parametrize("version", [0, 1, tables.VERSION - 1])
def test_tables_of_an_earlier_version_are_dropped(store, path, version):
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


def test_damaged_pages_are_a_state_error_and_the_file_is_set_aside(store, path):
    written(store, *[Note(f"key {number}", "x" * 500, 60) for number in range(200)])
    store.close()
    spoil(path)
    failing(lambda: store.reserve([charge()]))
    assert isinstance(store.reserve([charge()]), Reservation) and len(aside(path)) == 1


def test_a_change_that_met_a_full_disk_waits(store, lost):
    store.reserve([charge()])
    database = store._writing._connection
    database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0]}")
    store.write([Note("big", "x" * 100_000, 60)])
    eventually(lambda: lost, [0])
    eventually(lambda: len(store.recall(["big"])), 1)  # a new connection has no such limit
    assert used(store) == 1 and lost == [0]


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
    assert used(store, "fine") == 3 and sum(lost) == 1


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
    assert (rows("facts"), rows("notes"), rows("figures"), rows("periods")) == (10, 2, 5, 2)
    clock.pass_(31 * 86400)
    prune_now()  # once: where that is not all, the next transaction goes on
    for left in (7, 4, 1):  # the clock's stays
        store.lease([], 1)
        assert rows("facts") == left
    assert (rows("notes"), rows("figures"), rows("periods")) == (0, 1, 1)
    assert store.figures("s", 0, 9) == {(2, "", "k"): {"n": 1, "o": 2}}


def test_a_year_of_use_leaves_a_small_file(store, clock, path, rows):
    def a_day(day):
        for model in range(4):
            store.reserve([Charge(f"{model}|rpd", day, 1, 9, clock.now + 86400)])
            store.fail(Failure(f"scope {day} {model}", "x", clock.now - 1, (9.0,)))
            tally = Tally("attempts", day, f"m{model}", {"attempts": 1, "ok": 1}, clock.now + 31 * 86400)
            store.write([Lesson(f"m{model}", (1.0,) * 16, 600.0), tally, Note(f"{day} {model}", "x" * 500, 86400)])
        written(store)
        clock.pass_(86400)
        store._prune_mono = 0.0

    for day in range(60):
        a_day(day)
    counts, size = (rows("facts"), rows("notes"), rows("figures")), path.stat().st_size
    for day in range(60, 365):
        a_day(day)
    assert (rows("facts"), rows("notes"), rows("figures")) == counts and path.stat().st_size <= size * 1.1
    assert os.stat(f"{path}-wal").st_size < 10_000_000


def test_slots_that_are_over_are_dropped_where_a_counter_is_used(store, clock, path):
    written(store, *[Adjustment("a", slot, 1, T0 + 60) for slot in range(8)])
    clock.pass_(60)
    store.reserve([Charge("a", 9, 1, 9, T0 + 120)])
    database = sqlite3.connect(path)
    assert database.execute("SELECT value FROM facts WHERE kind = 'count'").fetchall() == [(f"[[9,1,{T0 + 120}]]",)]
    database.close()


def test_a_clean_up_is_rare(store, clock, rows):
    written(store, Adjustment("a", 1, 1, T0 + 1))
    clock.pass_(2)
    store.lease([], 1)
    assert rows("facts") == 2  # and the clock's


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


# --- a clock that is set back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latest", "now", "seconds"),
    [(None, 100.0, 0), (100.0, 100.0, 0), (100.0, 160.0, 0), (100.0, 100.0 - tables.STEP_S, 0), (3700.0, 100.0, 3600.0)],
)
def test_a_clock_was_set_back_if_it_shows_less_than_the_file(latest, now, seconds):
    assert tables.went_back_s(latest, now) == seconds


@pytest.mark.parametrize(
    ("kind", "value", "moved"),
    [
        (tables.COUNT, [[7, 3, 160.0], [8, 1, 165.0]], [[7, 3, 60.0], [8, 1, 65.0]]),
        (tables.LIMIT, [30, 900.0], [30, 800.0]),
        (tables.REST, [130.0, 100.0, 2, "failed", 100.0], [30.0, 0.0, 2, "failed", 0.0]),
        (tables.REST, [0.0, 0.0, 1, "failed", 150.0], [0.0, 0.0, 1, "failed", 50.0]),
        (tables.LEASE, [130.0, "token"], [30.0, "token"]),
        (tables.EVIDENCE, [[1.0, 2.0], 150.0], [[1.0, 2.0], 50.0]),
        (tables.CLOCK, 150.0, 50.0),
        ("of a later version", "x", "x"),
    ],
)
def test_all_moments_of_a_fact_move_back(kind, value, moved):
    assert tables.moved_back(kind, value, 100.0) == moved


def leave_marks(store):
    """Take something of every kind that ends within a minute."""
    store.reserve([charge(limit=5, amount=5), Charge("day", 1, 2, 9, T0 + 7200)])
    store.fail(Failure("m", "x", T0 - 1, (30.0,)))
    store.lease(["n"], 30)
    written(store, Reading("a", 5, None, T0 + 60, T0 + 90), Lesson("m", (1.0,), 9.0))


@pytest.mark.parametrize("reads_first", [True, False])
def test_a_clock_that_is_set_back_makes_nothing_last_longer(store, clock, reads_first):
    leave_marks(store)
    clock.pass_(10)
    store.lease(["other"], 1)
    clock.pass_(-3600)
    if reads_first:
        before = store.snapshot()
        assert before.rests["m"].until == clock.now + 20 and before.rests["m"].since == clock.now - 10
        assert (before.leases["n"], before.limits["a"].until) == (clock.now + 20, clock.now + 80)
    else:
        assert not store.lease(["n"], 30)
    assert store.reserve([charge(limit=5)]).fits_at == clock.now + 50
    clock.pass_(20)
    assert store.lease(["n"], 30)
    assert store.snapshot().rests["m"].until == clock.now  # half-open
    clock.pass_(30)
    assert used(store) == 0 and used(store, "day") == 2
    assert isinstance(store.reserve([Charge("a", 2, 5, 5, clock.now + 60)]), Reservation)


def test_who_only_reads_after_the_clock_was_set_back_does_not_wait_for_ever(store, clock):
    leave_marks(store)
    clock.pass_(-3600)
    store.snapshot()
    eventually(lambda: tables_of(store, "clock"), clock.now)
    clock.pass_(60)
    assert not store.snapshot().counts.get("a") and store.snapshot().rests["m"].until < clock.now


def test_a_settlement_from_before_the_step_does_not_prolong_its_slot(store, clock):
    store.reserve([charge(amount=5)])
    clock.pass_(-3600)
    written(store, Adjustment("a", 1, -2, T0 + 60))
    assert [(slot.used, slot.counts_until) for slot in store.snapshot().counts["a"]] == [(3, clock.now + 60)]


def test_small_steps_change_nothing(store, clock):
    leave_marks(store)
    before = store.snapshot()
    clock.pass_(-tables.STEP_S / 2)
    store.lease(["other"], 1)
    assert (store.snapshot().rests, store.snapshot().counts) == (before.rests, before.counts)


def tables_of(store, kind):
    with store._reader() as database:
        return json.loads(database.execute("SELECT value FROM facts WHERE kind = ?", (kind,)).fetchone()[0])
