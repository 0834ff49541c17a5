"""What is particular to memory: it may stand in for a store that is down for days, and must not fill up."""

from gateway.state.base import Evidence, LearnedLimit, Note, Rest, Slot, Snapshot, Tally
from gateway.state.memory import MOST_NOTES, MemoryStore


def test_it_begins_with_what_another_store_knew_but_for_counters(clock):
    known = Snapshot(
        clock.now - 1,
        {"c": (Slot(1, 5, clock.now + 60),)},
        {"c": LearnedLimit(30, clock.now + 60)},
        {"p": Rest("p", clock.now + 9, clock.now - 1, 1, "failed", clock.now - 1)},
        {"p": clock.now + 5},
        {"m": Evidence((1.0,), clock.now)},
    )
    store = MemoryStore(clock, known)
    now = store.snapshot()
    assert (now.limits, now.rests, now.leases, now.evidence) == (known.limits, known.rests, known.leases, known.evidence)
    assert not now.counts and not store.lease(["p"], 9)


def test_the_oldest_notes_go(clock):
    store = MemoryStore(clock)
    store.write([Note(str(number), "x", 86400) for number in range(MOST_NOTES)])
    store.write([Note("0", "again", 86400), Note("new", "x", 86400)])
    assert store.recall(["0", "1", "2", "new"]) == {"0": "again", "2": "x", "new": "x"}
    assert len(store._notes) == MOST_NOTES


def test_figures_go_when_they_need_not_be_kept_any_more(clock):
    store = MemoryStore(clock)
    for day in range(400):
        store.write([Tally("attempts", day, "m", {"n": 1}, clock.now + 31 * 86400)])
        clock.pass_(86400)
    assert len(store._periods) <= 33
    assert set(store.figures("attempts", 0, 400)) == {(day, "", "m") for day in range(400 - len(store._periods), 400)}
