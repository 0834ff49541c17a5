"""What is particular to Redis: the way to it, its clock, its scripts, its keys that expire."""

import socket
import time

import pytest
import redis

from gateway.errors import StateError
from gateway.state.base import Adjustment, Charge, Entries, Failure, Lesson, Note, Reading, Recovery, Reservation, Tally
from gateway.state.redis import SWEEP_S, RedisStore
from tests.state.conftest import eventually, written

pytestmark = pytest.mark.redis
T0 = 1_800_000_000.25


def charge(counter="a", amount=1, limit=1000):
    return Charge(counter, 1, amount, limit, T0 + 60)


@pytest.fixture
def client(empty_redis_url):
    opened = redis.Redis.from_url(empty_redis_url, decode_responses=True)
    yield opened
    opened.close()


@pytest.fixture
def store(empty_redis_url, clock, lost, patience):
    opened = RedisStore(empty_redis_url, clock, lost.append)
    yield opened
    opened.close()


def all_fail_within(seconds, store):
    verbs = (
        store.ping,
        store.snapshot,
        lambda: store.reserve([charge()]),
        lambda: store.fail(Failure("m", "x", T0, (9.0,))),
        lambda: store.lease(["m"], 9),
        lambda: store.recall(["a"]),
        lambda: store.figures("s", 0, 9),
        lambda: store.newest("j", 9),
    )
    for verb in verbs:
        began = time.monotonic()
        with pytest.raises(StateError):
            verb()
        assert time.monotonic() - began < seconds


@pytest.mark.quiet
@pytest.mark.parametrize("clocked", [True, False])
def test_a_dead_redis_is_a_state_error_at_once(clock, lost, clocked):
    store = RedisStore("redis://127.0.0.1:1/0", clock if clocked else None, lost.append)
    all_fail_within(0.1, store)
    store.now()
    store.write([Note("a", "b", 9)] * 3)
    eventually(lambda: set(lost), {0})
    store.close()
    assert sum(lost) == 3


@pytest.mark.quiet
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_redis_that_hangs_is_a_state_error_soon(lost, scheme):
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        store = RedisStore(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/0", None, lost.append)
        all_fail_within(0.3, store)
        store.write([Note("a", "b", 9)] * 3)
        eventually(lambda: set(lost), {0})
        store.close()
        assert sum(lost) == 3


@pytest.mark.quiet
def test_time_outs_in_the_url_change_nothing(lost):
    with socket.create_server(("127.0.0.1", 0)) as server:
        store = RedisStore(f"redis://127.0.0.1:{server.getsockname()[1]}/0?socket_timeout=9&decode_responses=no")
        began = time.monotonic()
        with pytest.raises(StateError):
            store.ping()
        assert time.monotonic() - began < 0.3


def test_each_verb_is_one_round_trip(store, client):
    store.snapshot()
    store.reserve([charge()])
    before = client.info("stats")["total_commands_processed"], client.info("commandstats")["cmdstat_evalsha"]["calls"]
    store.snapshot()
    store.reserve([charge(), charge("b")])
    after = client.info("stats")["total_commands_processed"], client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert after[1] - before[1] == 2
    sent = [row for row in client.info("commandstats") if row.startswith(("cmdstat_eval", "cmdstat_script"))]
    assert "cmdstat_eval" not in sent


def test_scripts_come_back_after_the_server_was_emptied(store, client, lost):
    store.reserve([charge()])
    client.script_flush()
    written(store, Adjustment("a", 1, 2, T0 + 60), Note("n", "x", 60), Adjustment("a", 1, 3, T0 + 60))
    eventually(lambda: store.snapshot().counts["a"][0].used, 6)  # what met no script is sent once more, behind the rest
    client.script_flush()
    assert isinstance(store.reserve([charge()]), Reservation)
    assert store.snapshot().counts["a"][0].used == 7 and not lost


def test_a_connection_that_the_server_closed_is_made_anew(store, client):
    store.ping()
    client.client_kill_filter(_type="normal", skipme=True)
    store.reserve([charge()])


@pytest.mark.parametrize(
    "bad",
    [
        Adjustment("\ud800", 1, 1, T0 + 60),
        Note("key", "\ud800", 60),
        Note("key", None, 60),  # type: ignore[arg-type]
        Recovery("\udfff", T0),
        Lesson("m", (1.0, "x"), 9.0),  # type: ignore[arg-type]
        Tally("s", 1, "k", {"n": float("nan")}, T0 + 60),
        "no change at all",
    ],
)
def test_what_redis_cannot_hold_is_lost_alone(store, lost, bad):
    fine = Adjustment("fine", 1, 1, T0 + 60)
    store.write([fine, bad, fine])
    written(store, fine)
    assert store.snapshot().counts["fine"][0].used == 3
    eventually(lambda: sum(lost), 1)


def test_what_cannot_be_asked_is_a_state_error(store):
    for verb in (
        lambda: store.reserve([charge("\ud800")]),
        lambda: store.recall(["\ud800"]),
        lambda: store.lease([None], 9),
    ):
        with pytest.raises(StateError):
            verb()


def test_time_comes_from_the_server(empty_redis_url, monkeypatch):
    store = RedisStore(empty_redis_url)
    truly = time.time
    monkeypatch.setattr(store, "_clock", lambda: truly() - 5000)
    assert store.lease(["m"], 60)
    assert abs(store.now() - truly()) < 1
    assert abs(store.snapshot().leases["m"] - truly() - 60) < 1
    monkeypatch.setattr(store, "_clock", lambda: truly() + 300)  # our clock was set
    store.snapshot()
    assert abs(store.now() - truly()) < 1
    store.close()


def test_every_key_expires_or_is_pruned(store, client, clock):
    store.reserve([charge(), charge("b")])
    store.fail(Failure("m", "x", T0, (9.0,)))
    store.lease(["m"], 9)
    written(
        store,
        Reading("a", 9, 5, T0 + 60, T0 + 60),
        Lesson("m", (1.0,), 9.0),
        Tally("s", 1, "k", {"n": 1}, T0 + 90, "group", 9),
        Tally("s", 1, "k", {"n": 1}, T0 + 30),
        Entries("j", ((T0, "entry"),), 9),
    )
    store.snapshot()
    keys = set(client.keys())
    pruned = {"gw:counters", "gw:limits", "gw:rests", "gw:leases", "gw:evidence"}
    assert pruned < keys and {"gw:groups:s\x1f1", "gw:journal:j"} < keys
    assert all(client.ttl(key) > 0 for key in keys - pruned)
    assert client.zscore("gw:series:s", "1") == T0 + 90  # the later one
    assert 80 < client.ttl("gw:figures:s\x1f1") <= 91
    clock.pass_(31 * 86400)
    store.snapshot()
    assert not pruned & set(client.keys())


def test_what_is_none_of_ours_is_a_state_error(store, client):
    client.hset("gw:limits", "c", f"{T0 + 99} many")
    with pytest.raises(StateError):
        store.snapshot()


def test_a_clock_of_this_machine_that_is_set_changes_nothing(empty_redis_url, monkeypatch):
    store, truly = RedisStore(empty_redis_url), time.time
    monkeypatch.setattr(time, "time", lambda: truly() - 7200)
    assert abs(store.now() - truly()) < 1  # before the server was asked, by the clock at the start
    store.ping()
    store.lease(["m"], 60)
    assert abs(store.now() - truly()) < 1
    store.close()


def test_slots_of_what_is_ample_are_dropped_though_nobody_reserves(store, client, clock):
    for _ in range(200):
        clock.pass_(1)
        written(store, Adjustment("a", int(clock.now), 1, clock.now + 60))
        store.snapshot()
    assert sum(slot.used for slot in store.snapshot().counts["a"]) == 60 <= client.hlen("gw:count:a") <= 60 + SWEEP_S


def test_slots_that_are_over_are_dropped_where_a_counter_is_used(store, client, clock):
    store.reserve([charge()])
    clock.pass_(60)
    store.reserve([Charge("a", 2, 1, 9, T0 + 120)])
    assert list(client.hgetall("gw:count:a")) == ["2"]
