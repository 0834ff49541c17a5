"""Groups of hundreds: whoever is best stands in front before long, and nobody is forgotten."""

import pytest

from gateway.routing.evidence import Sum
from gateway.routing.outlook import REFRESH_S, Moment
from gateway.routing.ranking import scorer_for
from gateway.routing.shortlist import PART, SLICES, WHOLE, Shortlist, Shortlists
from gateway.state.base import Failure, Lesson, Snapshot
from gateway.state.memory import MemoryStore
from tests.unit.routing.conftest import Clock, PatientHandle, Pool, candidate

MANY = tuple(candidate(f"p{n}/m") for n in range(WHOLE + 200))
SCORER = scorer_for("auto", None)
LAST = MANY[-1]


@pytest.fixture
def pool():
    clock = Clock()
    return Pool(clock, MemoryStore(clock), PatientHandle(clock))


class Counted(Moment):
    """Counts who was worked out."""

    worked_out = 0

    def _work_out(self, candidate, now):
        self.worked_out += 1
        return super()._work_out(candidate, now)


def look(shortlist, store, times=1, moment=Moment):
    for _ in range(times):
        seen = moment(store.snapshot())
        order = shortlist.order(seen, store.now())
    return order, seen


def learn(store, which, answered):
    """Let a model have been called ten times."""
    store.write([Lesson(which.model.name, (10.0, 10.0 * answered, *[0.0] * (len(Sum) - 2)), 600.0)])


def test_a_small_group_is_ranked_whole_and_a_large_one_in_parts():
    moment, now = Moment(Snapshot()), 0.0
    assert list(Shortlists().parts(MANY[:WHOLE], SCORER, moment, now)) == [MANY[:WHOLE]]
    parts = list(Shortlists().parts(MANY, SCORER, moment, now))
    assert {len(part) for part in parts[:-1]} == {PART}
    assert sorted(one.id for part in parts for one in part) == sorted(one.id for one in MANY)


def test_each_picture_looks_at_a_part_of_them_and_some_pictures_at_all(pool):
    shortlist = Shortlist(MANY, SCORER)
    seen = 0
    for _ in range(SLICES):
        _, moment = look(shortlist, pool.store, moment=Counted)
        assert moment.worked_out <= PART + len(MANY) // SLICES + 1
        seen += moment.worked_out
    assert seen >= len(MANY)


def test_the_same_picture_is_looked_at_once(pool):
    shortlist, moment = Shortlist(MANY, SCORER), Counted(pool.store.snapshot())
    shortlist.order(moment, pool.clock.now)
    seen = moment.worked_out
    shortlist.order(moment, pool.clock.now)
    assert moment.worked_out == seen > 0


def test_the_best_stand_in_front_when_all_were_looked_at(pool):
    for one in MANY[:-PART]:
        learn(pool.store, one, answered=0.5)
    order, _ = look(Shortlist(MANY, SCORER), pool.store, times=SLICES)
    assert {one.id for one in order[:PART]} == {one.id for one in MANY[-PART:]}


def test_who_rests_stands_behind_and_who_may_be_back_in_front(pool):
    shortlist = Shortlist(MANY, SCORER)
    pool.store.fail(Failure(LAST.id, "rate_limited", pool.clock.now, (30.0,)))
    order, _ = look(shortlist, pool.store, times=SLICES)
    assert order[-1] is LAST
    pool.clock.now += 30
    order, _ = look(shortlist, pool.store)
    assert order[0] is LAST


def test_who_stands_in_front_is_looked_at_in_each_picture(pool):
    shortlist = Shortlist(MANY, SCORER)
    order, _ = look(shortlist, pool.store, times=SLICES)
    front = order[:PART]
    for one in front:
        pool.store.fail(Failure(one.id, "rate_limited", pool.clock.now, (30.0,)))
    order, _ = look(shortlist, pool.store)
    assert {one.id for one in order[-PART:]} == {one.id for one in front}


def test_the_group_and_the_ranking_tell_orders_apart(pool):
    shortlists, moment = Shortlists(), Moment(pool.store.snapshot())
    first = next(shortlists.parts(MANY, SCORER, moment, 0.0))
    assert next(shortlists.parts(MANY, SCORER, moment, 0.0)) == first
    assert next(shortlists.parts(MANY[::-1], SCORER, moment, 0.0)) != first


# --- with the loop -----------------------------------------------------------------------------------------------------


def test_a_request_goes_to_the_best_of_hundreds(pool):
    for one in MANY[:-1]:
        learn(pool.store, one, answered=0.5)
    for _ in range(SLICES):
        pool.dispatch(MANY, {one.model.name: "ok" for one in MANY})
        pool.clock.now += REFRESH_S
    assert pool.dispatch(MANY, {LAST.model.name: "ok"}).value == LAST.model.name


def test_nobody_is_out_of_reach(pool):
    for one in MANY[:-1]:
        pool.store.fail(Failure(one.id, "rate_limited", pool.clock.now, (30.0,)))
    assert pool.dispatch(MANY, {LAST.model.name: "ok"}).value == LAST.model.name
    pool.store.fail(Failure(LAST.id, "rate_limited", pool.clock.now, (7.0,)))
    lineup = pool.loop_over(MANY).lineup
    assert lineup.is_over and len(lineup.outs) == len(MANY) and lineup.soonest == pool.clock.now + 7
