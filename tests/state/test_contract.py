"""What every store does, whatever it keeps its numbers in."""

import fcntl
import subprocess
import sys
import threading
import time

import pytest

from gateway.errors import StateError
from gateway.state import store_from_url
from gateway.state.base import Charge, Reservation, Rest, StateStore
from gateway.state.guard import Guard
from gateway.state.memory import MemoryStore
from gateway.state.redis import RedisStore
from gateway.state.sqlite import SqliteStore

SOON = time.time() + 600


def charge(counter="a|rpm", amount=1, limit=5, bucket=1):
    return Charge(counter, bucket, amount, limit, SOON)


def used(store, counter="a|rpm", bucket=1):
    return store.snapshot([(counter, bucket)], []).used.get((counter, bucket), 0)


def test_a_reservation_is_written_whole_or_not_at_all(store):
    assert store.reserve([charge(), charge("a|tpm", 7, 10)]) == Reservation((charge(), charge("a|tpm", 7, 10)))
    assert store.reserve([charge(), charge("a|tpm", 7, 10)]) == charge("a|tpm", 7, 10)
    assert (used(store), used(store, "a|tpm")) == (1, 7)


def test_another_bucket_begins_at_zero(store):
    store.reserve([charge(limit=1)])
    assert isinstance(store.reserve([charge(limit=1)]), Charge)
    assert isinstance(store.reserve([charge(limit=1, bucket=2)]), Reservation)


def test_a_hundred_threads_against_a_limit_of_five_are_five(store):
    granted = []

    def reserve():
        for _ in range(50):  # a store may be busy for a moment, but never grants too many
            try:
                taken = store.reserve([charge()])
                return granted.append(isinstance(taken, Reservation))
            except StateError:
                time.sleep(0.01)

    threads = [threading.Thread(target=reserve) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 100 and sum(granted) == 5 == used(store)


@pytest.mark.parametrize(("actual", "left"), [(3, 3), (0, 0), (25, 25)])
def test_settling_replaces_the_estimate(store, actual, left):
    reservation = store.reserve([charge("a|tpm", 10, 100), charge()])
    store.settle(reservation, {"a|tpm": actual})
    assert (used(store, "a|tpm"), used(store)) == (left, 1)


def test_a_counter_never_falls_below_zero(store):
    store.settle(Reservation((charge("a|tpm", 10, 100),)), {"a|tpm": 0})
    assert used(store, "a|tpm") == 0
    store.reserve([charge("a|tpm", 4, 100)])
    assert used(store, "a|tpm") == 4


def test_a_reading_raises_a_counter_and_never_lowers_it(store):
    for seen, expected in ((4, 4), (2, 4), (9, 9)):
        store.observe_quota("a|rpd", 1, seen, SOON)
        assert used(store, "a|rpd") == expected


def test_a_rest_keeps_its_later_end(store):
    for rest in (Rest("m", SOON + 9, 1, "first"), Rest("m", SOON, 2, "second")):
        store.rest(rest)
    known = store.snapshot([], ["m", "n"]).rests
    assert known == {"m": Rest("m", SOON + 9, 2, "second")}


def test_a_success_takes_rests_back(store):
    store.rest(Rest("m", SOON, 1, "x"))
    store.rest(Rest("n", SOON, 1, "x"))
    store.recover(["m", "unknown"])
    assert set(store.snapshot([], ["m", "n"]).rests) == {"n"}


def test_notes_are_recalled_until_they_expire(store):
    store.remember("a", "one", 60)
    store.remember("b", "tw\u00f6", 60)
    store.remember("b", "three", 60)
    store.remember("gone", "x", 0.001)
    time.sleep(0.01)
    assert store.recall(["a", "b", "gone", "never"]) == {"a": "one", "b": "three"}
    assert store.recall([]) == {}


def test_an_empty_snapshot_knows_nothing(store):
    snapshot = store.snapshot([], [])
    assert not snapshot.used and not snapshot.rests
    store.ping()


RESERVE = """
import sys, time
from gateway.state import store_from_url
from gateway.state.base import Charge, Reservation
from gateway.errors import StateError
store = store_from_url(sys.argv[1])
granted = 0
for _ in range(40):
    for _ in range(100):
        try:
            granted += isinstance(store.reserve([Charge("a|rpm", 1, 1, 50, time.time() + 600)]), Reservation)
            break
        except StateError:
            time.sleep(0.01)
print(granted, flush=True)
if len(sys.argv) > 2:
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def test_processes_keep_one_limit_together(kind, request, tmp_path):
    url = request.getfixturevalue("redis_url") if kind == "redis" else f"sqlite:///{tmp_path}/shared.sqlite3"
    if kind == "redis":
        RedisStore(url)._redis.flushall()
    command = [sys.executable, "-c", RESERVE, url]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(worker.communicate(timeout=30)[0]) for worker in workers) == 50


def test_a_killed_process_loses_nothing_that_it_wrote(tmp_path):
    url = f"sqlite:///{tmp_path}/killed.sqlite3"
    with subprocess.Popen([sys.executable, "-c", RESERVE, url, "wait"], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        granted = int(worker.stdout.readline())
        worker.kill()
    store = store_from_url(url)
    assert used(store) == granted == 40
    store.close()


def test_a_locked_file_is_unknown_and_not_waited_for(tmp_path):
    store = SqliteStore(tmp_path / "state.sqlite3")
    store.ping()
    with open(f"{tmp_path}/state.sqlite3.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        began = time.monotonic()
        with pytest.raises(StateError):
            store.reserve([charge()])
        assert time.monotonic() - began < 0.3
    assert isinstance(store.reserve([charge()]), Reservation)
    store.close()


def test_a_file_that_is_no_database_is_a_state_error(tmp_path):
    (tmp_path / "bad.sqlite3").write_bytes(b"not a database" * 100)
    store = SqliteStore(tmp_path / "bad.sqlite3")
    with pytest.raises(StateError):
        store.ping()
    store.close()


def test_a_dead_redis_is_a_state_error_at_once():
    store = store_from_url("redis://127.0.0.1:1/0")
    began = time.monotonic()
    with pytest.raises(StateError):
        store.ping()
    assert time.monotonic() - began < 0.3
    store.close()


class DeadStore(MemoryStore):
    def __getattribute__(self, name):
        if name in StateStore.__abstractmethods__:
            raise StateError("down")
        return super().__getattribute__(name)


def test_a_guarded_store_answers_unknown_and_counts():
    failed: list[str] = []
    guard = Guard(DeadStore(), failed.append)
    assert guard.reserve([charge()]) == Reservation()
    assert not guard.snapshot([("a", 1)], ["m"]).rests and guard.recall(["a"]) == {}
    guard.settle(Reservation(), {})
    guard.rest(Rest("m"))
    guard.recover(["m"])
    guard.remember("a", "b", 1)
    guard.observe_quota("a", 1, 1, SOON)
    assert failed == ["reserve", "snapshot", "recall", "settle", "rest", "recover", "remember", "observe_quota"]
    with pytest.raises(StateError):
        guard.ping()
