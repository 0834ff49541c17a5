import gc
import threading
from contextlib import contextmanager

import pytest

from gateway.routing.outlook import BEHIND_S, RARELY_S, REFRESH_S, STALE_S, Moment, Out, Outlook
from gateway.state.base import Failure, Recovery, Snapshot
from gateway.state.memory import MemoryStore
from tests.unit.routing.conftest import Clock, candidate

ONE = candidate("a/one")


class Counted(MemoryStore):
    """Counts how often it is read; `costs` is called each time, `slow` holds a reader until it is set."""

    def __init__(self, clock):
        super().__init__(clock)
        self.reads = 0
        self.slow = None
        self.costs = lambda: None

    def snapshot(self) -> Snapshot:
        self.reads += 1
        self.costs()
        snapshot = super().snapshot()
        if self.slow:
            self.slow.wait(5)
        return snapshot


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return Counted(clock)


def test_requests_share_one_picture_for_a_moment(store, clock):
    outlook = Outlook(store, clock)
    first = outlook.current()
    clock.now += REFRESH_S / 2
    assert outlook.current() is first and store.reads == 1
    clock.now += REFRESH_S
    assert outlook.current() is not first and store.reads == 2


@pytest.mark.parametrize(("cost_s", "good_for_s"), [(0.001, REFRESH_S), (0.01, 0.5), (0.5, RARELY_S)])
def test_a_state_that_is_large_is_read_less_often(store, clock, cost_s, good_for_s):
    busy = Clock(0.0)
    outlook = Outlook(store, clock, busy)
    store.costs = lambda: setattr(busy, "now", busy.now + cost_s)
    outlook.current()
    clock.now += REFRESH_S
    second = outlook.current()  # one slow reading alone is no habit
    assert store.reads == 2
    clock.now += good_for_s * 0.99
    assert outlook.current() is second
    clock.now += good_for_s * 0.02
    assert outlook.current() is not second


def test_a_fresh_picture_is_read_at_once(store, clock):
    outlook = Outlook(store, clock)
    assert outlook.current() is not outlook.current(fresh=True) and store.reads == 2


@pytest.mark.parametrize(("age_s", "waits"), [(REFRESH_S, False), (STALE_S + 0.1, True)])
def test_while_somebody_reads_others_go_on_with_what_is_not_too_old(store, clock, age_s, waits):
    outlook = Outlook(store, clock)
    old = outlook.current()
    clock.now += age_s
    store.slow = threading.Event()
    reader = threading.Thread(target=outlook.current)
    reader.start()
    while store.reads < 2:
        pass
    if waits:
        threading.Timer(0.05, store.slow.set).start()
        assert outlook.current() is not old
    else:
        assert outlook.current() is old
        store.slow.set()
    reader.join()


def test_a_rest_that_is_over_is_seen_without_a_new_picture(store, clock):
    store.fail(Failure("provider:a", "unreachable", clock.now, (0.1,)))
    moment = Outlook(store, clock).current()
    assert moment.standing(ONE, clock.now).out == Out("cooldown", clock.now + 0.1, False, "unreachable")
    clock.now += 0.1
    standing = moment.standing(ONE, clock.now)
    assert standing.out is None and standing.probes == ("provider:a",)


def test_what_is_noted_holds_before_the_next_picture(store, clock):
    moment = Outlook(store, clock).current()
    assert moment.standing(ONE, clock.now).out is None
    moment.note_rest(store.fail(Failure(ONE.id, "rate_limited", clock.now, (5.0,))))
    assert moment.standing(ONE, clock.now).out == Out("cooldown", clock.now + 5, True, "rate_limited")
    moment.note_recoveries([Recovery(ONE.id, clock.now - 1)])  # of an attempt from before the rest
    assert moment.standing(ONE, clock.now).out is not None
    moment.note_recoveries([Recovery(ONE.id, clock.now)])
    assert moment.standing(ONE, clock.now).out is None


@contextmanager
def read_meanwhile(store, outlook):
    """Let another thread ask for a picture, and get it only after the block."""
    store.slow = threading.Event()
    reader = threading.Thread(target=outlook.current, kwargs={"fresh": True})
    reads = store.reads
    reader.start()
    while store.reads == reads:
        pass
    yield
    store.slow.set()
    reader.join()
    store.slow = None


def test_what_is_noted_while_the_next_picture_is_read_stands_in_that_too(store, clock):
    outlook = Outlook(store, clock)
    old = outlook.current()
    with read_meanwhile(store, outlook):
        rest = store.fail(Failure(ONE.id, "rate_limited", clock.now, (5.0,)))
        outlook.note(lambda moment: moment.note_rest(rest))
        outlook.note(lambda moment: moment.note_lease(["provider:a"], clock.now + 9))
        assert old.rests == {ONE.id: rest}
    assert outlook.current() is not old
    assert outlook.current().rests == {ONE.id: rest} and set(outlook.current().leases) == {"provider:a"}


def test_what_is_written_behind_stands_in_pictures_that_may_still_miss_it(store, clock):
    rest = store.fail(Failure(ONE.id, "rate_limited", clock.now, (5.0,)))  # and the store never hears of its end
    token = store.lease([ONE.id], 30)
    outlook = Outlook(store, clock)
    assert token and outlook.current().rests == {ONE.id: rest}
    outlook.note(lambda moment: moment.note_recoveries([Recovery(ONE.id, clock.now)]), behind_s=BEHIND_S)
    outlook.note(lambda moment: moment.note_release([ONE.id]), behind_s=BEHIND_S)
    for age_s, known in ((0.0, False), (BEHIND_S * 0.9, False), (BEHIND_S * 0.2, True)):
        clock.now += age_s
        moment = outlook.current(fresh=True)
        assert (ONE.id in moment.rests, ONE.id in moment.leases) == (known, known)


def test_a_later_failure_is_not_undone_by_one_that_is_noted_late(store, clock):
    outlook = Outlook(store, clock)
    first = store.fail(Failure(ONE.id, "failed", clock.now, (5.0,)))
    clock.now += 1
    second = store.fail(Failure(ONE.id, "failed", clock.now, (9.0,)))
    moment = outlook.current()
    outlook.note(lambda moment: moment.note_rest(first))
    assert moment.rests == {ONE.id: second}


def test_a_rest_after_failures_beside_one_for_quota_is_not_told_as_quota(store, clock):
    store.fail(Failure(ONE.id, "rate_limited", clock.now, (5.0,)))
    limited = Out("cooldown", clock.now + 5, True, "rate_limited")
    assert Outlook(store, clock).current().standing(ONE, clock.now).out == limited
    store.fail(Failure("provider:a", "unreachable", clock.now, (9.0,)))
    unreachable = Out("cooldown", clock.now + 9, False, "unreachable")
    assert Outlook(store, clock).current().standing(ONE, clock.now).out == unreachable


def test_what_is_noted_of_one_leaves_what_is_worked_out_of_others(store, clock):
    other, sibling = candidate("b/one"), candidate("a/two")
    moment = Outlook(store, clock).current()
    before = {one.id: moment.standing(one, clock.now) for one in (ONE, sibling, other)}
    moment.note_rest(store.fail(Failure(ONE.model_scope, "failed", clock.now, (5.0,))))
    after = {one.id: moment.standing(one, clock.now) for one in (ONE, sibling, other)}
    assert after[ONE.id].out and after[sibling.id] is before[sibling.id] and after[other.id] is before[other.id]
    moment.note_rest(store.fail(Failure(ONE.provider_scope, "unreachable", clock.now, (5.0,))))
    assert moment.standing(sibling, clock.now).out and moment.standing(other, clock.now) is before[other.id]


def test_a_note_is_taken_while_another_thread_works_out_how_somebody_stands(clock):
    """Python may let another thread in wherever it makes a container, when it collects garbage: here that one always is."""
    moment = Moment(Snapshot(clock.now))
    for number in range(20):
        moment.standing(candidate(f"a/known-{number}"), clock.now)
    others = iter([candidate(f"b/{number}") for number in range(20)])

    def step_in(phase, info):
        if other := next(others, None):
            moment.standing(other, clock.now)

    held = [(number, number) for number in range(5000)]  # so that Python has no tuples left over, and makes new ones
    thresholds = gc.get_threshold()
    gc.callbacks.append(step_in)
    gc.set_threshold(1)
    try:
        moment.note_lease([ONE.id], clock.now + 1)
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(step_in)
    assert next(others, None) is None and held  # they did step in
