"""How often clients may ask."""

import threading

import pytest

from gateway import ratelimit
from gateway.errors import StateError
from gateway.ratelimit import AddressLimit, Allowance, KeyLimit, refusal, subscriber_of
from gateway.state.guard import Guard
from gateway.state.memory import MemoryStore
from tests.conftest import RecordingTelemetry
from tests.state.conftest import Clock


@pytest.fixture
def clock():
    return Clock()


def granted(limit, who, times):
    return sum(limit.take(who).granted for _ in range(times))


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5, 60, 61, 600])
def test_no_more_pass_than_the_limit_and_each_window_lets_as_many_in(clock, count):
    limit = KeyLimit((count, 60), MemoryStore(clock))
    for _ in range(3):
        assert granted(limit, "ann", count + 7) == count
        clock.pass_(60)


def test_a_window_slides_so_that_no_two_halves_add_up(clock):
    limit = KeyLimit((600, 60), MemoryStore(clock))
    clock.pass_(59.9 - clock.now % 60)
    assert granted(limit, "ann", 700) == 600
    clock.pass_(0.2)  # a minute of the wall clock has begun
    assert granted(limit, "ann", 700) == 0


def test_who_keeps_to_the_pace_is_not_refused_but_for_a_sixtieth(clock):
    limit = KeyLimit((600, 60), MemoryStore(clock))
    passed = 0
    for _ in range(3000):
        clock.pass_(0.1)
        passed += granted(limit, "ann", 1)
    assert passed >= 3000 * 59 / 60 - 1


def test_an_answer_tells_what_is_left_and_when_there_is_more(clock):
    limit = KeyLimit((3, 60), MemoryStore(clock))
    assert limit.take("ann") == Allowance((3, 60), 2, 60)
    clock.pass_(10)
    assert [limit.take("ann") for _ in range(3)] == [
        Allowance((3, 60), 1, 50),
        Allowance((3, 60), 0, 50),
        Allowance((3, 60), 0, 50, granted=False),
    ]
    clock.pass_(50)
    assert limit.take("ann") == Allowance((3, 60), 0, 10)


def test_of_few_each_comes_back_when_it_can(clock):
    limit = KeyLimit((2, 60), MemoryStore(clock))
    for _ in range(2):
        assert granted(limit, "ann", 1)
        clock.pass_(0.1)
    clock.pass_(59.85)
    assert granted(limit, "ann", 2) == 1  # the first is a minute old, the second a tenth of a second less


def test_each_key_has_a_limit_of_its_own_and_each_window_too(clock):
    store = MemoryStore(clock)
    assert granted(KeyLimit((2, 60), store), "ann", 3) == granted(KeyLimit((2, 60), store), "bob", 3) == 2
    assert granted(KeyLimit((2, 60), store), "ann", 1) == 0  # another worker
    assert granted(KeyLimit((2, 3600), store), "ann", 3) == 2


def test_a_store_that_is_down_refuses_nobody(clock):
    class Down(MemoryStore):
        def count(self, charge):
            raise StateError("down")

    telemetry = RecordingTelemetry()
    limit = KeyLimit((1, 60), Guard(lambda on_trouble: Down(clock), telemetry))
    assert [limit.take("ann") for _ in range(3)] == [None] * 3 and telemetry.failed_verbs == ["count"] * 3


# --- addresses -------------------------------------------------------------------------------------------------------


def test_a_window_begins_with_the_first_request_of_an_address(clock):
    limit = AddressLimit((2, 60), clock)
    assert limit.take("192.0.2.1") == Allowance((2, 60), 1, 60)
    clock.pass_(40)
    assert limit.take("192.0.2.2") == Allowance((2, 60), 1, 60)
    assert limit.take("192.0.2.1") == Allowance((2, 60), 0, 20)
    assert limit.take("192.0.2.1") == Allowance((2, 60), 0, 20, granted=False)
    clock.pass_(20)
    assert limit.take("192.0.2.1") == Allowance((2, 60), 1, 60)
    assert limit.take("192.0.2.2") == Allowance((2, 60), 0, 40)


def test_memory_is_bounded_whoever_comes(clock, monkeypatch):
    monkeypatch.setattr(ratelimit, "MOST_ADDRESSES", 3)
    limit = AddressLimit((1, 60), clock)
    for number in range(10):
        assert limit.take(f"192.0.2.{number}").granted
        assert len(limit._windows) <= 3
    assert not limit.take("192.0.2.9").granted and limit.take("192.0.2.1").granted
    clock.pass_(60)
    limit.take("192.0.2.1")
    assert len(limit._windows) == 1


def test_of_many_threads_no_more_pass_than_the_limit(clock):
    limit = AddressLimit((50, 60), clock)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(granted(limit, "192.0.2.1", 20))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 50


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "", True),
        ("unknown", "192.0.2.1", False),
    ],
)
def test_addresses_of_one_subscriber_count_together(one, other, same):
    assert (subscriber_of(one) == subscriber_of(other)) is same


# --- the refusal -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "retry_after", "long"), [(0.01, 1, False), (59.2, 60, False), (60.1, 61, True)])
def test_a_refusal_tells_when_to_come_again_and_keeps_sdks_from_sleeping_for_hours(seconds, retry_after, long):
    error = refusal(Allowance((600, 60), 0, seconds, granted=False), "This key")
    assert error.message == f"This key may send 600 requests a minute. Try again in {retry_after} seconds."
    assert (error.status, error.code, error.retry_after_s) == (429, "rate_limit_exceeded", retry_after)
    assert (error.should_retry is False, error.retry_at is not None) == (long, long)
