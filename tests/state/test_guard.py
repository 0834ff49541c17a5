import pytest

from gateway.errors import StateError
from gateway.state.base import Charge, Failure, Note, Refusal, Reservation, Snapshot
from gateway.state.guard import MOST_KEYS, PAUSE_S, Guard
from gateway.state.memory import MemoryStore
from tests.state.conftest import Clock


class Fragile(MemoryStore):
    """Down while it is told to be; counts how often it is asked."""

    down = False
    asked = 0

    def _ask(self):
        self.asked += 1
        if self.down:
            raise StateError("down")

    def snapshot(self):
        self._ask()
        return super().snapshot()

    def reserve(self, charges):
        self._ask()
        return super().reserve(charges)

    def count(self, charge):
        self._ask()
        return super().count(charge)

    def fail(self, failure):
        self._ask()
        return super().fail(failure)

    def lease(self, names, seconds):
        self._ask()
        return super().lease(names, seconds)

    def recall(self, keys):
        self._ask()
        for key in keys:
            key.encode()
        return super().recall(keys)

    def figures(self, series, first_slot, last_slot, *, group=None):
        self._ask()
        return super().figures(series, first_slot, last_slot, group=group)

    def newest(self, journal, count):
        self._ask()
        return super().newest(journal, count)

    def ping(self):
        self._ask()


@pytest.fixture
def monotonic():
    return Clock()


@pytest.fixture
def failed():
    return []


@pytest.fixture
def store(clock):
    return Fragile(clock)


@pytest.fixture
def guard(store, failed, monotonic):
    return Guard(store, failed.append, monotonic)


CHARGE = Charge("c", 1, 1, 0, 2e9)  # that never fits


def test_a_store_that_answers_is_asked(guard, store, failed):
    assert isinstance(guard.reserve([CHARGE]), Refusal) and store.asked == 1 and not failed


def test_quotas_of_a_store_that_is_down_refuse_nobody_and_it_is_counted(guard, store, failed):
    store.down = True
    assert guard.reserve([CHARGE]) == Reservation() and failed == ["reserve"]


def test_what_a_client_may_ask_is_unknown_while_the_store_is_down(guard, store, failed):
    assert isinstance(guard.count(CHARGE), Refusal)
    store.down = True
    assert guard.count(CHARGE) is None and failed == ["count"]


def test_a_store_that_is_down_is_left_alone_for_a_moment(guard, store, failed, monotonic):
    store.down = True
    for _ in range(5):
        guard.reserve([CHARGE])
    assert store.asked == 1 and failed == ["reserve"] * 5
    store.down = False
    monotonic.pass_(PAUSE_S)
    assert isinstance(guard.reserve([CHARGE]), Refusal) and store.asked == 2


def test_meanwhile_this_process_remembers_failures_and_probes_by_itself(guard, store, clock):
    store.down = True
    rest = guard.fail(Failure("p", "unreachable", clock.now - 1, (10.0,)))
    assert guard.snapshot().rests == {"p": rest} and rest.until == clock.now + 10
    assert guard.lease(["p"], 5) and not guard.lease(["p"], 5)
    guard.write([Note("k", "v", 9)])
    assert guard.recall(["k"]) == {"k": "v"}


def test_what_is_written_while_the_store_is_left_alone_is_kept_if_it_can_be(guard, store, monotonic):
    store.down = True
    guard.snapshot()
    store.down = False  # it was only slow
    guard.write([Note("k", "v", 9)])
    assert store.recall(["k"]) == {"k": "v"} == guard.recall(["k"])
    monotonic.pass_(PAUSE_S)
    assert guard.recall(["k"]) == {"k": "v"}


def test_figures_of_a_store_that_is_down_are_not_none(guard, store):
    store.down = True
    for ask in (lambda: guard.figures("s", 1, 2), lambda: guard.newest("j", 1)):
        with pytest.raises(StateError):
            ask()


def test_what_clients_made_up_is_not_the_stores_failure(guard, failed):
    guard.write([Note("k", "v", 9)])
    assert guard.recall(["k", "call_\ud83d", "call_\x00"]) == {"k": "v"} and not failed
    assert guard.recall([str(n) for n in range(MOST_KEYS * 3)]) == {} and not failed


def test_whoever_asks_whether_it_answers_is_told(guard, store):
    store.down = True
    with pytest.raises(StateError):
        guard.ping()
    assert isinstance(guard.snapshot(), Snapshot)


def test_what_the_store_said_last_is_not_forgotten_while_it_is_down(guard, store, clock):
    rest = guard.fail(Failure("known", "credential", clock.now - 1, (3600.0,)))
    guard.reserve([Charge("c", 1, 1, 9, clock.now + 60)])
    assert guard.snapshot().counts
    store.down = True
    new = guard.fail(Failure("new", "unreachable", clock.now - 1, (10.0,)))
    assert guard.snapshot().rests == {"known": rest, "new": new} and not guard.snapshot().counts
