"""Whatever the state is: nobody who is out is tried, and everybody else is."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.evidence import Sum
from gateway.routing.ledger import Asked, Booking
from gateway.routing.outlook import Out
from gateway.state.base import Charge, Failure, Lesson
from gateway.state.memory import MemoryStore
from tests.unit.routing.conftest import Clock, PatientHandle, Pool, candidate

POOL = tuple(
    candidate(f"{p}/{m}", limits={"rpm": 5}, reasoning_tier=tier) for p in "ab" for m, tier in (("x", None), ("y", "high"))
)
SCOPES = sorted({scope for c in POOL for scope in (c.id, c.model_scope, c.credential.id, c.provider_scope)})

rests = st.lists(st.tuples(st.sampled_from(SCOPES), st.sampled_from([0.0, 1.0, 30.0])), max_size=6)
taken = st.lists(st.integers(0, 5), min_size=len(POOL), max_size=len(POOL))
lessons = st.lists(st.tuples(st.sampled_from(POOL), st.floats(0, 5), st.floats(0, 5)), max_size=4)
leases = st.lists(st.sampled_from(SCOPES), max_size=3, unique=True)


def build_pool(rests, taken, lessons, leases):
    clock = Clock()
    pool = Pool(clock, MemoryStore(clock), PatientHandle(clock))
    for scope, seconds in rests:
        pool.store.fail(Failure(scope, "failed", clock.now, (seconds,)))
    clock.now += 2
    for one, used in zip(POOL, taken, strict=True):
        if used:
            pool.store.reserve([Charge(f"{one.id}|rpm", 1, used, 5, clock.now + 60)])
    for one, calls, successes in lessons:
        values = (calls, min(calls, successes), *[0.0] * (len(Sum) - 2))
        pool.store.write([Lesson(one.model.name, values, 600.0)])
    pool.store.lease(leases, 60)
    return pool


@settings(deadline=None)
@given(rests, taken, lessons, leases, st.sampled_from([None, "none", "low", "high"]))
def test_nobody_who_is_out_is_tried_and_everybody_else_is(rests, taken, lessons, leases, effort):
    pool = build_pool(rests, taken, lessons, leases)
    loop = pool.loop_over(POOL, effort=effort)
    resting = {scope for scope, rest in pool.store.snapshot().rests.items() if rest.until > pool.clock.now}
    probed = {scope for scope, rest in pool.store.snapshot().rests.items() if 0 < rest.until <= pool.clock.now} & set(leases)
    expected = {
        c.id
        for c, used in zip(POOL, taken, strict=True)
        if used < 5 and not (resting | probed) & {c.id, c.model_scope, c.credential.id, c.provider_scope}
    }
    assert {c.id for c in loop.lineup.waiting} == expected and len(loop.lineup.waiting) == len(expected)
    assert set(loop.lineup.outs) == {c.id for c in POOL} - expected
    for one in loop.lineup.waiting:
        begun = pool.ledger.begin(one, Asked(1))
        assert isinstance(begun, Booking) or begun.because == "probing"  # of a scope that the one before has leased
    for one, out in loop.lineup.outs.values():
        assert isinstance(out, Out) and out.until > pool.clock.now
        assert isinstance(pool.ledger.begin(one, Asked(1)), Out)
