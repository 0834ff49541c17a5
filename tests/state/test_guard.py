import threading

import pytest

from gateway.errors import StateError
from gateway.state import guard as module
from gateway.state.base import (
    Adjustment,
    Charge,
    Failure,
    Lesson,
    Note,
    Recovery,
    Refusal,
    Release,
    Reservation,
    Slot,
    Snapshot,
)
from gateway.state.guard import MOST_KEYS, Guard
from gateway.state.memory import MemoryStore
from tests.state.conftest import Clock, eventually


class Fragile(MemoryStore):
    """Down while `down`, takes nothing while `full`; `late` verbs fail once. Counts how often it is asked, pings apart."""

    down = False
    full = False
    late = 0
    asked = 0
    pings = 0
    closed = False

    def _ask(self, *, writes=True):
        self.asked += 1
        self.late -= 1
        if self.down or (self.full and writes) or self.late >= 0:
            raise StateError("no space left")

    def snapshot(self):
        self._ask(writes=False)
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
        self._ask(writes=False)
        for key in keys:
            key.encode()
        return super().recall(keys)

    def figures(self, series, first_slot, last_slot, *, group=None):
        self._ask(writes=False)
        return super().figures(series, first_slot, last_slot, group=group)

    def newest(self, journal, count):
        self._ask(writes=False)
        return super().newest(journal, count)

    def ping(self):
        self.pings += 1
        if self.down or self.full:
            raise StateError("no space left")

    def close(self):
        self.closed = True


class Witness:
    """Keeps what it was told."""

    def __init__(self):
        self.failed = []
        self.told = []

    def state_failed(self, verb):
        self.failed.append(verb)

    def state_went_down(self, why):
        self.told.append(why)

    def state_came_back(self, lasted_s, calls):
        self.told.append((lasted_s, calls))


@pytest.fixture
def monotonic():
    return Clock()


@pytest.fixture
def witness():
    return Witness()


@pytest.fixture
def store(clock):
    return Fragile(clock)


@pytest.fixture
def guard(store, witness, monotonic, monkeypatch):
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.005)
    opened = Guard(lambda on_trouble: store, witness, monotonic)
    yield opened
    opened.close()
    eventually(lambda: opened._looking, False)


CHARGE = Charge("c", 1, 1, 0, 2e9)  # that never fits


def is_asked(guard, store):
    """Whether verbs reach the store again."""
    asked = store.asked
    guard.reserve([CHARGE])
    return store.asked > asked


def go_down(guard, store, witness):
    store.down = True
    guard.reserve([CHARGE])
    eventually(lambda: len(witness.told) % 2, 1)


def come_back(guard, store, witness):
    store.down = store.full = False
    eventually(lambda: len(witness.told) % 2, 0)


def test_a_store_that_answers_is_asked(guard, store, witness):
    assert isinstance(guard.reserve([CHARGE]), Refusal) and store.asked == 1 and not witness.failed and not store.pings


def test_quotas_of_a_store_that_is_down_refuse_nobody_and_it_is_counted(guard, store, witness):
    store.down = True
    assert guard.reserve([CHARGE]) == Reservation() and witness.failed == ["reserve"]


def test_what_a_client_may_ask_is_unknown_while_the_store_is_down(guard, store, witness):
    assert isinstance(guard.count(CHARGE), Refusal)
    store.down = True
    assert guard.count(CHARGE) is None and witness.failed == ["count"]


def test_a_store_that_is_down_is_not_asked_by_requests_until_it_is_back(guard, store, witness):
    go_down(guard, store, witness)
    for _ in range(5):
        guard.reserve([CHARGE])
    guard.snapshot()
    assert store.asked == 1 and witness.failed == ["reserve"] * 6 + ["snapshot"]
    come_back(guard, store, witness)
    assert isinstance(guard.reserve([CHARGE]), Refusal) and store.asked == 2


def test_each_outage_is_told_once_and_so_is_its_end(guard, store, witness, monotonic):
    for seconds in (90.0, 5.0):
        go_down(guard, store, witness)
        monotonic.pass_(seconds)
        for _ in range(3):
            guard.lease(["p"], 5)
        come_back(guard, store, witness)
    assert witness.told == ["no space left", (90.0, 4), "no space left", (5.0, 4)]


def test_an_outage_at_the_start_is_told_before_anybody_asks(guard, store, witness):
    store.down = True
    guard.begin()
    eventually(lambda: witness.told, ["no space left"])
    come_back(guard, store, witness)
    assert not witness.failed and store.asked == 0


def test_a_verb_that_was_late_once_is_no_outage(guard, store, witness):
    store.late = 1
    assert guard.reserve([CHARGE]) == Reservation() and witness.failed == ["reserve"]
    eventually(lambda: is_asked(guard, store))
    assert not witness.told and store.pings == 1


def test_a_store_that_can_be_read_but_keeps_nothing_is_down(guard, store, witness):
    store.full = True
    with pytest.raises(StateError):
        guard.ping()
    eventually(lambda: witness.told, ["no space left"])
    assert not is_asked(guard, store)
    come_back(guard, store, witness)
    guard.ping()
    assert is_asked(guard, store)


@pytest.mark.parametrize("lost", [0, 3])
def test_changes_that_cannot_be_written_show_that_it_is_down(store, witness, monkeypatch, lost):
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.005)
    given = []

    def open_store(on_trouble):
        given.append(on_trouble)
        return store

    guard = Guard(open_store, witness)
    given[0](lost)
    eventually(lambda: guard._looking, False)  # it was no fault of the store
    assert witness.failed == ["write"] * bool(lost) and not witness.told and is_asked(guard, store)
    store.full = True
    given[0](lost)
    eventually(lambda: witness.told, ["no space left"])
    guard.close()


def test_what_is_written_meanwhile_reaches_the_store_which_may_keep_it_later(guard, store, witness):
    go_down(guard, store, witness)
    guard.write([Note("k", "v", 9)])
    assert MemoryStore.recall(store, ["k"]) == {"k": "v"} and witness.failed == ["reserve"]


def test_what_is_taken_while_the_store_is_down_counts_when_it_is_back(guard, store, witness, clock):
    charge = Charge("day", 1, 4, 5, clock.now + 86400)
    go_down(guard, store, witness)
    taken = guard.reserve([charge])
    assert taken == guard.reserve([charge]) == Reservation((charge,))
    guard.write([Adjustment("day", 1, -3, clock.now + 86400)])  # what it really took
    come_back(guard, store, witness)
    assert guard.snapshot().counts["day"] == (Slot(1, 5, clock.now + 86400),)


def test_closing_closes_the_store_even_while_it_is_left_alone(guard, store, witness):
    go_down(guard, store, witness)
    guard.close()
    assert store.closed
    eventually(lambda: guard._looking, False)


def test_where_no_thread_can_be_had_the_next_call_asks_again(guard, store, witness, monkeypatch):
    store.late = 1
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("can't start new thread")))
        assert guard.reserve([CHARGE]) == Reservation()
    assert isinstance(guard.reserve([CHARGE]), Refusal) and witness.failed == ["reserve"]


# --- what stands in for it -------------------------------------------------------------------------------------------


def test_meanwhile_this_process_remembers_failures_probes_and_notes_by_itself(guard, store, witness, clock):
    go_down(guard, store, witness)
    rest = guard.fail(Failure("p", "unreachable", clock.now - 1, (10.0,)))
    assert guard.snapshot().rests == {"p": rest} and rest.until == clock.now + 10
    token = guard.lease(["p"], 5)
    assert token and not guard.lease(["p"], 5)
    guard.write([Note("k", "v", 9), Release("p", token)])
    assert guard.recall(["k"]) == {"k": "v"} and guard.lease(["p"], 5)


def test_figures_of_a_store_that_is_down_are_not_none(guard, store):
    store.down = True
    for ask in (lambda: guard.figures("s", 1, 2), lambda: guard.newest("j", 1)):
        with pytest.raises(StateError):
            ask()


def test_what_the_store_said_last_is_not_forgotten_while_it_is_down(guard, store, witness, clock):
    rest = guard.fail(Failure("known", "credential", clock.now - 1, (3600.0,)))
    guard.reserve([Charge("c", 1, 1, 9, clock.now + 60)])
    guard.write([Lesson("m", (4.0,), 100.0)])
    guard.lease(["known"], 60)
    before = guard.snapshot()
    assert before.counts and before.evidence and before.leases
    go_down(guard, store, witness)
    new = guard.fail(Failure("new", "unreachable", clock.now - 1, (10.0,)))
    now = guard.snapshot()
    assert now.rests == {"known": rest, "new": new} and not now.counts
    assert (now.evidence, now.leases) == (before.evidence, before.leases) and not guard.lease(["known"], 60)


def test_what_is_learned_meanwhile_changes_what_was_known(guard, store, witness, clock):
    guard.fail(Failure("p", "unreachable", clock.now - 1, (10.0, 20.0)))
    guard.fail(Failure("q", "unreachable", clock.now - 1, (10.0, 20.0)))
    guard.snapshot()
    go_down(guard, store, witness)
    clock.pass_(11)
    guard.write([Recovery("p", clock.now), Lesson("m", (1.0,), 100.0), Adjustment("c", 1, 5, clock.now + 60)])
    assert guard.fail(Failure("q", "unreachable", clock.now, (10.0, 20.0))).until == clock.now + 20  # the second in a row
    now = guard.snapshot()
    assert set(now.rests) == {"q"} and set(now.evidence) == {"m"} and not now.counts


def test_the_next_outage_begins_with_what_was_known_before_it(guard, store, witness, clock):
    go_down(guard, store, witness)
    guard.fail(Failure("p", "unreachable", clock.now - 1, (10.0,)))
    come_back(guard, store, witness)
    assert not guard.snapshot().rests
    go_down(guard, store, witness)
    assert not guard.snapshot().rests


def test_what_clients_made_up_is_not_the_stores_failure(guard, witness):
    guard.write([Note("k", "v", 9)])
    assert guard.recall(["k", "call_\ud83d", "call_\x00"]) == {"k": "v"} and not witness.failed
    assert guard.recall([str(n) for n in range(MOST_KEYS * 3)]) == {} and not witness.failed


def test_whoever_asks_whether_it_answers_is_told(guard, store):
    store.down = True
    with pytest.raises(StateError):
        guard.ping()
    assert isinstance(guard.snapshot(), Snapshot)
