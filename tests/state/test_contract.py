"""What every store does, whatever it keeps its numbers in."""

import threading
import time

import pytest

from gateway.state import writer as writer_module
from gateway.state.base import (
    CORRECTION,
    FORGET_S,
    OTHERS,
    WAIT_S,
    Adjustment,
    Charge,
    Entries,
    Evidence,
    Extension,
    Failure,
    LearnedLimit,
    Lesson,
    Note,
    Reading,
    Recovery,
    Refusal,
    Release,
    Reservation,
    Rest,
    Room,
    Slot,
    Snapshot,
    Tally,
)
from tests.state.conftest import eventually, patiently, written

T0 = 1_800_000_000.25  # the clock's first moment
TEXT = "a|b c:d/e\n%\x1f\u00fc\U0001f600'\""  # names may hold anything


def charge(counter="a|rpm", amount=1, limit=5, slot=1, ends=T0 + 60):
    return Charge(counter, slot, amount, limit, ends)


def used(store, counter="a|rpm"):
    return sum(slot.used for slot in store.snapshot().counts.get(counter, ()))


# --- quotas ------------------------------------------------------------------------------------------------------------


def test_an_empty_store_knows_nothing_but_the_time(store):
    assert store.snapshot() == Snapshot(T0)
    assert store.recall(["a"]) == store.recall([]) == {}
    assert store.figures("s", 0, 9) == {} and store.newest("j", 9) == []
    store.ping()


def test_the_time_is_the_clock_s(store, clock):
    assert store.now() == T0
    clock.pass_(1.5)
    assert (store.now(), store.snapshot().now) == (T0 + 1.5, T0 + 1.5)


def test_a_reservation_is_written_whole_or_not_at_all(store):
    both = (charge(), charge("a|tpm", 7, 10))
    assert store.reserve(both) == Reservation(both)
    assert store.reserve(list(both)) == Refusal(both[1], T0 + 60)
    assert (used(store), used(store, "a|tpm")) == (1, 7)
    assert store.reserve([]) == Reservation(())


def test_a_counter_is_the_sum_of_its_slots_that_still_count(store, clock):
    for slot in range(3):
        store.reserve([charge(limit=3, slot=slot, ends=T0 + 10 * (slot + 1) + 0.125)])
    refused = charge(limit=3, slot=3, ends=T0 + 70)
    assert store.reserve([refused]) == Refusal(refused, T0 + 10.125)
    clock.pass_(10.124)
    assert isinstance(store.reserve([refused]), Refusal)
    clock.pass_(0.001)  # a slot counts until its moment, no longer
    assert used(store) == 2
    assert isinstance(store.reserve([refused]), Reservation)
    assert sorted(store.snapshot().counts["a|rpm"], key=lambda slot: slot.number) == [
        Slot(1, 1, T0 + 20.125),
        Slot(2, 1, T0 + 30.125),
        Slot(3, 1, T0 + 70),
    ]
    clock.pass_(15)
    assert used(store) == 2


def test_a_counter_whose_slots_are_over_is_unknown(store, clock):
    store.reserve([charge(ends=T0 + 1), charge("b", ends=T0 + 2)])
    clock.pass_(1)
    assert set(store.snapshot().counts) == {"b"}
    clock.pass_(1)
    assert not store.snapshot().counts
    assert isinstance(store.reserve([charge(limit=1, slot=2, ends=T0 + 62)]), Reservation)


@pytest.mark.parametrize(
    ("amount", "limit", "fits_at"),
    [
        (1, 9, T0 + 10),  # the first slot to go is enough
        (3, 9, T0 + 20),  # two have to go
        (7, 9, T0 + 30),  # the large one has to go
        (9, 9, T0 + 40),  # all of them
        (10, 9, None),  # larger than the limit
    ],
)
def test_a_refusal_tells_exactly_when_it_would_fit(store, clock, amount, limit, fits_at):
    for slot, taken in enumerate((2, 2, 3, 2)):
        store.reserve([charge(amount=taken, limit=9, slot=slot, ends=T0 + 10 * (slot + 1))])
    asked = charge(amount=amount, limit=limit, slot=9, ends=T0 + 200)
    assert store.reserve([asked]) == Refusal(asked, fits_at)
    if fits_at:
        clock.now = fits_at - 0.001
        assert isinstance(store.reserve([asked]), Refusal)
        clock.now = fits_at
        assert store.reserve([asked]) == Reservation((asked,))


def test_a_counted_charge_tells_what_it_left_and_when_there_is_more(store, clock):
    def count(amount=1, slot=1, ends=60.0):
        return store.count(charge(amount=amount, limit=9, slot=slot, ends=T0 + ends))

    assert count(ends=10) == Room(8, T0 + 10)
    assert count(ends=20.5) == Room(7, T0 + 20.5)  # a slot comes back with the last of what it holds
    assert count(2, slot=2, ends=60.125) == Room(5, T0 + 20.5)
    assert count(slot=1, ends=15) == Room(4, T0 + 20.5)
    assert count(5) == Refusal(charge(amount=5, limit=9), T0 + 20.5)
    assert count(10) == Refusal(charge(amount=10, limit=9), None)
    clock.pass_(20.5)
    assert count(7, slot=3, ends=90) == Room(0, T0 + 60.125)
    clock.pass_(100)
    assert count(9, ends=200) == Room(0, T0 + 200)


def test_what_is_counted_is_in_no_snapshot_and_in_no_quota(store):
    assert store.count(charge(TEXT, 5)) == Room(0, T0 + 60)
    assert not store.snapshot().counts
    assert isinstance(store.reserve([charge(TEXT, 5)]), Reservation)
    assert isinstance(store.count(charge(TEXT)), Refusal)


def test_of_a_hundred_threads_as_many_are_counted_as_fit(store):
    store.ping()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(store.count(charge(limit=40)))) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.left for answer in answers if isinstance(answer, Room)) == list(range(40))
    assert len(answers) == 100


def test_the_first_charge_that_does_not_fit_is_told(store):
    full = [charge("b", 2, 1), charge("c", 3, 1)]
    assert store.reserve([charge(), *full]) == Refusal(full[0], None)
    assert not store.snapshot().counts


def test_names_may_hold_anything(store):
    store.reserve([charge(TEXT)])
    assert isinstance(store.reserve([charge(TEXT, limit=1)]), Refusal)
    store.lease([TEXT], 9)
    rest = store.fail(Failure(TEXT + "!", TEXT, T0, (5.0,)))
    written(
        store,
        Note(TEXT, TEXT, 60),
        Lesson(TEXT, (1.0,), 9),
        Tally(TEXT, 1, TEXT, {TEXT: 1}, T0 + 99, TEXT, 1),
        Entries(TEXT, ((T0, TEXT),), 1),
    )
    written(store, Reading(TEXT, 7, None, T0 + 9, T0 + 9))
    known = store.snapshot()
    assert set(known.counts) == set(known.leases) == set(known.evidence) == set(known.limits) == {TEXT}
    assert known.rests == {TEXT + "!": rest} and rest.reason == TEXT
    assert store.recall([TEXT]) == {TEXT: TEXT}
    assert store.figures(TEXT, 1, 1) == store.figures(TEXT, 1, 1, group=TEXT) == {(1, TEXT, TEXT): {TEXT: 1}}
    assert store.newest(TEXT, 1) == [TEXT]


@pytest.mark.parametrize(("change", "left"), [(-7, 3), (-10, 0), (-99, 0), (15, 25)])
def test_an_adjustment_settles_what_was_reserved_and_never_below_zero(store, change, left):
    store.reserve([charge("a|tpm", 10, 100), charge()])
    written(store, Adjustment("a|tpm", 1, change, T0 + 60))
    assert (used(store, "a|tpm"), used(store)) == (left, 1)
    written(store, Adjustment("a|tpm", 1, 4, T0 + 60))
    assert used(store, "a|tpm") == left + 4


def test_an_adjustment_of_a_counter_that_nobody_charged_counts(store):
    written(store, Adjustment("a", 3, 2, T0 + 60), Adjustment("b", 3, -2, T0 + 60))
    assert store.snapshot().counts["a"] == (Slot(3, 2, T0 + 60),)
    assert used(store, "b") == 0


def test_large_numbers_stay_exact(store):
    amount = 2**53 - 4  # Lua counts in doubles
    store.reserve([charge(amount=amount, limit=2**53)])
    written(store, Adjustment("a|rpm", 1, 1, T0 + 60))
    assert used(store) == amount + 1
    assert isinstance(store.reserve([charge(amount=3, limit=2**53 - 1)]), Refusal)


def test_numbers_keep_their_precision(store):
    ends = T0 + 59.123456
    store.reserve([charge(ends=ends)])
    written(store, Lesson("m", (1 / 3, 1e-17, 2e17), 9.0))
    assert store.snapshot().counts["a|rpm"] == (Slot(1, 1, ends),)
    assert store.snapshot().evidence["m"].values == (1 / 3, 1e-17, 2e17)


@pytest.mark.quiet
def test_a_hundred_threads_against_a_limit_of_five_are_five(store):
    store.ping()
    answers, took = [], []
    ready = threading.Barrier(100)

    def reserve():
        ready.wait()
        began = time.monotonic()
        answers.append(store.reserve([charge(), charge("b", 1, 1000)]))
        took.append(time.monotonic() - began)

    threads = [threading.Thread(target=reserve) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 100 and sum(isinstance(answer, Reservation) for answer in answers) == 5
    assert used(store) == used(store, "b") == 5
    assert sorted(took)[50] < WAIT_S


# --- what providers say --------------------------------------------------------------------------------------------------


def test_a_reading_raises_a_counter_is_replaced_and_never_lowers_it(store):
    store.reserve([charge(amount=3)])
    for seen, expected in ((10, 10), (5, 5), (2, 3), (0, 3), (9, 9)):
        written(store, Reading("a|rpm", None, seen, T0 + 30, T0 + 30))
        assert used(store) == expected
    assert Slot(CORRECTION, 6, T0 + 30) in store.snapshot().counts["a|rpm"]
    refused = charge(amount=2, limit=10)
    assert store.reserve([refused]) == Refusal(refused, T0 + 30)


def test_a_correction_ends_at_its_moment(store, clock):
    store.reserve([charge(amount=3, limit=9)])
    written(store, Reading("a|rpm", None, 9, T0 + 30, T0 + 40))
    clock.pass_(30)
    assert used(store) == 3


def test_a_correction_is_reckoned_without_slots_that_are_over(store, clock):
    store.reserve([charge(amount=4, ends=T0 + 10)])
    clock.pass_(10)
    written(store, Reading("a|rpm", None, 6, T0 + 30, T0 + 30))
    assert used(store) == 6


def test_what_was_reserved_after_a_reading_comes_on_top(store):
    written(store, Reading("a|rpm", None, 3, T0 + 30, T0 + 30))
    store.reserve([charge(amount=1)])
    assert used(store) == 4


def test_a_learned_limit_is_good_until_its_moment(store, clock):
    written(store, Reading("a", 30, None, T0 + 60, T0 + 20.5))
    assert store.snapshot().limits == {"a": LearnedLimit(30, T0 + 20.5)}
    assert not store.snapshot().counts
    written(store, Reading("a", 40, None, T0 + 60, T0 + 10), Reading("a", None, 1, T0 + 60, T0 + 99))
    assert store.snapshot().limits == {"a": LearnedLimit(40, T0 + 10)}
    clock.pass_(10)
    assert not store.snapshot().limits


# --- cooldowns -----------------------------------------------------------------------------------------------------------


def test_a_streak_of_failures_rests_longer_and_longer(store, clock):
    growth = (0.0, 0.0, 2.0, 8.5)
    expected = [(0.0, 0.0), (0.0, 0.0), (T0 + 12.0, T0 + 10), (T0 + 23.5, T0 + 15), (T0 + 28.5, T0 + 20)]
    for count, (until, since) in enumerate(expected, 1):
        rest = store.fail(Failure("m", f"reason {count}", store.now(), growth))
        assert rest == Rest("m", until, since, count, f"reason {count}", store.now())
        assert store.snapshot().rests == {"m": rest}
        clock.pass_(5)


def test_a_failure_of_an_attempt_from_before_the_rest_adds_nothing(store, clock):
    first = store.fail(Failure("m", "first", T0 - 1, (30.0, 60.0)))
    clock.pass_(1)
    assert store.fail(Failure("m", "late", T0 - 0.5, (30.0, 60.0))) == first
    assert store.snapshot().rests == {"m": first}
    assert store.fail(Failure("m", "new", T0 + 0.5, (30.0, 60.0))) == Rest("m", T0 + 61, T0 + 1, 2, "new", T0 + 1)


def test_a_shorter_rest_does_not_end_the_present_one(store, clock):
    store.fail(Failure("m", "long", T0, (30.0,)))
    clock.pass_(1)
    assert store.fail(Failure("m", "short", T0 + 1, (3.0,))) == Rest("m", T0 + 30, T0 + 1, 2, "short", T0 + 1)
    assert store.fail(Failure("m", "none", T0 + 1, (0.0,))) == Rest("m", T0 + 30, T0 + 1, 3, "none", T0 + 1)


def test_failures_that_nobody_met_again_are_forgotten(store, clock):
    store.fail(Failure("m", "x", T0, (30.0, 60.0)))
    clock.pass_(30 + FORGET_S)
    assert store.snapshot().rests["m"].failures == 1  # half-open: still known
    clock.pass_(0.5)
    assert not store.snapshot().rests
    assert store.fail(Failure("m", "y", store.now(), (30.0, 60.0))).failures == 1


def test_a_streak_that_does_not_rest_is_forgotten_as_well(store, clock):
    store.fail(Failure("m", "x", T0, (0.0, 60.0)))
    clock.pass_(FORGET_S + 0.5)
    assert store.fail(Failure("m", "y", store.now(), (0.0, 60.0))) == Rest("m", 0.0, 0.0, 1, "y", store.now())


def test_a_recovery_forgets_failures_and_rest(store, clock):
    store.fail(Failure("m", "x", T0, (30.0,)))
    store.fail(Failure("streak", "x", T0, (0.0,)))
    store.fail(Failure("n", "x", T0, (30.0,)))
    written(store, Recovery("m", T0), Recovery("streak", T0), Recovery("unknown", T0))
    assert set(store.snapshot().rests) == {"n"}


def test_a_recovery_of_an_attempt_from_before_the_rest_keeps_it(store):
    rest = store.fail(Failure("m", "x", T0 - 1, (30.0,)))
    written(store, Recovery("m", T0 - 0.5))
    assert store.snapshot().rests == {"m": rest}


# --- leases ----------------------------------------------------------------------------------------------------------------


def test_leases_are_taken_all_or_none(store):
    assert store.lease(["a", "b"], 10)
    assert not store.lease(["c", "b"], 10)
    assert store.snapshot().leases == {"a": T0 + 10, "b": T0 + 10}
    assert store.lease(["c"], 10)
    assert store.lease([], 10)


def test_leases_end_by_themselves(store, clock):
    store.lease(["a"], 10)
    clock.pass_(9.999)
    assert not store.lease(["a"], 10)
    clock.pass_(0.001)
    assert not store.snapshot().leases
    assert store.lease(["a"], 10)
    assert store.snapshot().leases == {"a": T0 + 20}


def test_a_lease_is_ended_by_its_holder_alone(store, clock):
    token = store.lease(["a", "b", "c"], 10)
    written(store, Release("a", "other"), Release("a", ""), Release("b", token), Release("unknown", token))
    store.fail(Failure("a", "x", T0, (30.0,)))  # of a call that began before the probe
    written(store, Recovery("a", T0 - 1), Recovery("c", T0))
    assert set(store.snapshot().leases) == {"a", "c"}
    clock.pass_(10)
    again = store.lease(["a", "b"], 10)
    assert again and again != token
    written(store, Release("a", token), Extension("b", token, 60))  # they are another's now
    assert store.snapshot().leases == {"a": T0 + 20, "b": T0 + 20}
    written(store, Release("a", again))
    assert store.lease(["a"], 10) and not store.lease(["b"], 10)


def test_a_lease_goes_on_while_its_holder_extends_it(store, clock):
    token = store.lease(["a", "b"], 10)
    clock.pass_(9)
    written(store, Extension("a", token, 10), Extension("a", "other", 99), Extension("unknown", token, 10))
    assert store.snapshot().leases == {"a": T0 + 19, "b": T0 + 10}
    clock.pass_(5)
    assert store.lease(["b"], 10) and not store.lease(["a"], 10)
    clock.pass_(5)
    written(store, Extension("a", token, 10))  # too late
    assert "a" not in store.snapshot().leases and store.lease(["a"], 10)


def test_of_a_hundred_threads_one_has_the_lease(store):
    store.ping()
    taken = []
    threads = [threading.Thread(target=lambda: taken.append(bool(store.lease(["m", "n"], 10)))) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 100 and sum(taken) == 1


# --- evidence, notes, figures ------------------------------------------------------------------------------------------------


def test_evidence_fades_by_half_and_lessons_add(store, clock):
    written(store, Lesson("m", (4.0, 1.0, 0.1), 100.0))
    assert store.snapshot().evidence == {"m": Evidence((4.0, 1.0, 0.1), T0)}
    clock.pass_(100)
    assert store.snapshot().evidence == {"m": Evidence((4.0, 1.0, 0.1), T0)}  # as it was at its moment
    written(store, Lesson("m", (1.0, 0.0, 0.2), 100.0))
    assert store.snapshot().evidence == {"m": Evidence((3.0, 0.5, 0.25), T0 + 100)}
    clock.pass_(50)
    written(store, Lesson("m", (0.0, 0.0, 1.0), 100.0, forget=(0, 2)))
    values = store.snapshot().evidence["m"].values
    assert values == pytest.approx((0.0, 0.5 * 0.5**0.5, 1.0), rel=1e-14)


def test_lessons_of_one_moment_add_up(store):
    written(store, *[Lesson(model, (1.0, 0.125), 100.0) for model in ("m", "n", "m")])
    assert store.snapshot().evidence == {"m": Evidence((2.0, 0.25), T0), "n": Evidence((1.0, 0.125), T0)}


def test_evidence_grows_by_a_position_that_is_new(store):
    written(store, Lesson("m", (1.0,), 100.0), Lesson("m", (1.0, 2.0), 100.0))
    assert store.snapshot().evidence["m"].values == (2.0, 2.0)


def test_notes_are_recalled_until_they_expire(store, clock):
    written(store, Note("a", "one", 60), Note("b", "tw\u00f6", 60), Note("b", "three", 60), Note("short", "x", 0.05))
    assert store.recall(["a", "b", "never"]) == {"a": "one", "b": "three"}
    clock.pass_(0.05)
    eventually(lambda: store.recall(["short"]), {})  # Redis lets go of them by its own clock


def test_a_note_is_not_gathered_with_others_since_the_next_request_may_ask_for_it(store, monkeypatch):
    monkeypatch.setattr(writer_module, "WRITE_BEHIND_S", 600.0)
    store.write([Adjustment("a", 1, 2, T0 + 60)])
    store.remember("a", "one", 60)
    eventually(lambda: patiently(store.recall, ["a"]), {"a": "one"})
    assert used(store, "a") == 2


def test_long_notes_come_back_whole(store):
    text = "signature\u00df" * 20_000
    written(store, Note("a", text, 60))
    assert store.recall(["a"]) == {"a": text}


def test_figures_add_up_by_field_key_slot_and_series(store):
    keep = T0 + 1000
    written(
        store,
        Tally("day", 7, "m", {"requests": 1, "seconds": 0.25}, keep),
        Tally("day", 7, "m", {"requests": 1, "seconds": 0.5, "errors": 1}, keep),
        Tally("day", 7, "n", {"requests": 5}, keep),
        Tally("day", 8, "m", {"requests": 3}, keep),
        Tally("day", 10, "m", {"requests": 4}, keep),
        Tally("hour", 7, "m", {"requests": 9}, keep),
    )
    written(store, Tally("day", 7, "n", {"requests": 5, "errors": 2}, keep))
    assert store.figures("day", 7, 8) == {
        (7, "", "m"): {"requests": 2, "seconds": 0.75, "errors": 1},
        (7, "", "n"): {"requests": 10, "errors": 2},
        (8, "", "m"): {"requests": 3},
    }
    assert set(store.figures("day", 8, 10)) == {(8, "", "m"), (10, "", "m")}
    assert store.figures("hour", 7, 7) == {(7, "", "m"): {"requests": 9}}


def test_large_sums_stay_exact(store):
    written(store, *[Tally("s", 1, "k", {"n": 10**12 + 1, "ms": 0.5}, T0 + 9)] * 3)
    written(store, Tally("s", 1, "k", {"n": 1}, T0 + 9))
    assert store.figures("s", 1, 1) == {(1, "", "k"): {"n": 3 * 10**12 + 4, "ms": 1.5}}


def tally(group, *, key="k", slot=1, most=2):
    return Tally("s", slot, key, {"n": 1}, T0 + 99, group, most)


def test_groups_have_figures_of_their_own(store):
    written(store, tally("a"), tally("b"), tally(""), tally("b", key="l"))
    written(store, tally("b"))
    assert store.figures("s", 1, 1) == {
        (1, "a", "k"): {"n": 1},
        (1, "b", "k"): {"n": 2},
        (1, "", "k"): {"n": 1},
        (1, "b", "l"): {"n": 1},
    }
    assert store.figures("s", 1, 1, group="b") == {(1, "b", "k"): {"n": 2}, (1, "b", "l"): {"n": 1}}
    assert store.figures("s", 1, 1, group="") == {(1, "", "k"): {"n": 1}}
    assert store.figures("s", 1, 1, group="c") == {}


def test_groups_for_which_a_slot_has_no_room_are_counted_together(store):
    written(store, tally("a"), tally(""), tally("b"), tally("c"), tally("d", key="l"), tally("a", key="l"))
    written(store, tally("c"), tally("b"), tally(OTHERS), tally("c", slot=2))
    assert store.figures("s", 1, 2) == {
        (1, "a", "k"): {"n": 1},
        (1, "", "k"): {"n": 1},
        (1, "b", "k"): {"n": 2},
        (1, OTHERS, "k"): {"n": 3},
        (1, OTHERS, "l"): {"n": 1},
        (1, "a", "l"): {"n": 1},
        (2, "c", "k"): {"n": 1},
    }


def test_figures_without_a_limit_have_as_many_groups_as_come(store):
    written(store, *[tally(str(number), most=None) for number in range(50)])
    assert len(store.figures("s", 1, 1)) == 50


def test_a_journal_keeps_the_newest_entries_in_the_order_of_their_moments(store):
    written(store, Entries("j", ((T0 + 3, "three"), (T0 + 1, "one")), 3), Entries("other", ((T0, "x"),), 3))
    assert store.newest("j", 9) == ["three", "one"]
    written(store, Entries("j", ((T0 + 4, "four"), (T0 + 2, "two"), (T0, "nought")), 3))
    assert store.newest("j", 9) == ["four", "three", "two"]
    assert store.newest("j", 2) == ["four", "three"] and store.newest("j", 0) == []
    assert store.newest("other", 9) == ["x"]


def test_a_journal_takes_more_at_once_than_it_keeps(store):
    written(store, Entries("j", tuple((T0 + number, f"{number:05}") for number in range(3000)), 1000))
    assert store.newest("j", 5000) == [f"{number:05}" for number in range(2999, 1999, -1)]


# --- writing behind ------------------------------------------------------------------------------------------------------


def test_changes_are_kept_in_the_order_given(store):
    rests = (30.0,)
    store.fail(Failure("m", "x", T0, rests))
    store.write([Recovery("m", T0)])
    token = store.lease(["m"], 5)  # asked in the meantime
    written(store, Release("m", token), Note("a", "1", 60), Note("a", "2", 60))
    assert not store.snapshot().rests and not store.snapshot().leases
    assert store.recall(["a"]) == {"a": "2"}


def test_closing_writes_what_is_pending_and_the_next_use_opens_again(store):
    store.write([Adjustment("a", 1, 2, T0 + 60)])
    store.close()
    store.close()
    assert used(store, "a") == 2
    assert isinstance(store.reserve([charge("a")]), Reservation)


def test_many_changes_at_once_are_all_kept(store, lost):
    store.write([Adjustment(f"c{number % 7}", number % 3, 1, T0 + 60) for number in range(2100)])
    eventually(lambda: {used(store, f"c{number}") for number in range(7)}, {300})
    assert not lost


def test_a_slot_counts_until_the_latest_of_what_it_holds(store, clock):
    for counts_until in (clock.now + 10, clock.now + 20):
        assert isinstance(store.reserve([Charge("c", 1, 1, 9, counts_until)]), Reservation)
    written(store, Adjustment("c", 1, 3, clock.now + 10))
    clock.pass_(15)
    assert [(slot.used, slot.counts_until) for slot in store.snapshot().counts["c"]] == [(5, clock.now + 5)]
    clock.pass_(5)
    assert "c" not in store.snapshot().counts
