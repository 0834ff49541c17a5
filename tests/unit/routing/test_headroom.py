import math
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain import QuotaReading, Usage
from gateway.routing.headroom import (
    DAY_S,
    Demand,
    Quota,
    build_adjustments,
    build_charges,
    build_readings,
    counts_until,
    exhausted_at,
    full_until,
    in_window_units,
    quotas_of,
    share_left,
    slot_s,
    spent_until,
    split_by_scarcity,
)
from gateway.state.base import CORRECTION, LearnedLimit, Reservation, Slot
from gateway.state.memory import MemoryStore
from tests.unit.routing.conftest import Clock, candidate

NOW = 1_800_000_000.0


def at(year, month, day, hour=0, minute=0):
    return datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "clock", "now", "until"),
    [
        ("rpm", "utc", NOW + 0.4, NOW + 61.4),
        ("tpm", "pacific", NOW, NOW + 61),
        ("rpd", "rolling", NOW + 7, NOW + 7 + DAY_S),
        ("rpd", "utc", at(2026, 11, 25, 23, 59), at(2026, 11, 26)),
        ("neurons", "utc", at(2026, 11, 25), at(2026, 11, 26)),
        ("tpd", "pacific", at(2026, 11, 25, 7, 59), at(2026, 11, 25, 8)),  # winter: UTC-8
        ("rpd", "pacific", at(2026, 7, 1, 7, 0), at(2026, 7, 2, 7)),  # summer: UTC-7
        ("rpd", "pacific", at(2026, 11, 1, 7, 30), at(2026, 11, 2, 8)),  # the day that has 25 hours
    ],
)
def test_what_is_taken_counts_until_the_windows_own_end(window, clock, now, until):
    assert counts_until(window, clock, now) == until


@pytest.mark.parametrize(
    ("window", "limit", "seconds"),
    [("rpm", 30, 0.01), ("rpm", 2000, 0.5), ("tpm", 8000, 0.1), ("tpm", 3_000_000, 0.5), ("rpd", 50, 900.0)],
)
def test_small_minutes_are_counted_finely(window, limit, seconds):
    assert slot_s(window, limit) == seconds


def test_a_request_takes_from_each_of_its_quotas_and_from_its_accounts():
    one = candidate("a/m", limits={"rpm": 5, "tpd": 100}, account_limits={"rpd": 50})
    quotas = quotas_of(one, {}, {}, NOW)
    charges = build_charges(one, quotas, Demand(7, 3, calls=2), NOW)
    assert {(c.counter, c.amount, c.limit) for c in charges} == {
        (f"{one.credential.id}|rpd", 2, 50),
        (f"{one.id}|rpm", 2, 5),
        (f"{one.id}|tpd", 10, 100),
    }


def test_neurons_are_counted_by_the_rows_price():
    one = candidate("a/m", account_limits={"neurons": 1000}, neurons_per_mtok=(10_000.0, 100_000.0))
    (charge,) = build_charges(one, quotas_of(one, {}, {}, NOW), Demand(1000, 100), NOW)
    assert (charge.amount, charge.limit) == (20_000, 1_000_000)
    (adjustment,) = build_adjustments([charge], Usage(1000, 200), one.model)
    assert adjustment.change == 10_000


def test_small_answers_take_parts_of_a_neuron():
    clock = Clock(NOW)
    store, one = MemoryStore(clock), candidate("a/m", account_limits={"neurons": 2}, neurons_per_mtok=(5000.0, 30_000.0))

    def quota():
        (found,) = quotas_of(one, store.snapshot().counts, {}, clock.now)
        return found

    served = 0
    while isinstance(store.reserve(build_charges(one, [quota()], Demand(5, 2), clock.now)), Reservation):  # 0.085 neurons
        served += 1
        assert in_window_units(quota(), quota().used) == math.ceil(served * 0.085)
    assert served == 23 and in_window_units(quota(), quota().limit) == 2


def test_settling_replaces_tokens_and_leaves_requests():
    one = candidate("a/m", limits={"rpm": 5, "tpm": 100})
    charges = build_charges(one, quotas_of(one, {}, {}, NOW), Demand(10, 20), NOW)
    assert [(a.counter, a.change) for a in build_adjustments(charges, Usage(8, 2), one.model)] == [(f"{one.id}|tpm", -20)]


def test_an_estimate_above_a_whole_quota_can_be_capped():
    one = candidate("a/m", limits={"tpm": 100})
    quotas = quotas_of(one, {}, {}, NOW)
    assert build_charges(one, quotas, Demand(500), NOW)[0].amount == 500
    assert build_charges(one, quotas, Demand(500), NOW, capped=True)[0].amount == 100


def test_only_what_is_scarce_must_be_reserved():
    one = candidate("a/m", limits={"rpm": 30, "rpd": 14_400, "tpd": 1_000_000})
    quotas = quotas_of(one, {f"{one.id}|rpd": [Slot(1, 9399, NOW + 100)]}, {}, NOW)
    scarce, ample = split_by_scarcity(build_charges(one, quotas, Demand(100, 99), NOW), quotas)
    assert {charge.counter for charge in scarce} == {f"{one.id}|rpm"}  # 5001 requests left, and 5025 times the tokens
    scarce, ample = split_by_scarcity(build_charges(one, quotas, Demand(100, 100, calls=2), NOW), quotas)
    assert len(scarce) == 3 and not ample


def learned(one, window, limit):
    return {f"{one.id}|{window}": LearnedLimit(limit, NOW + 100)}


def test_the_providers_own_limit_goes_before_the_built_in_catalogs():
    one = candidate("a/m", limits={"rpd": 20}, builtin=True)
    (quota,) = quotas_of(one, {}, learned(one, "rpd", 1000), NOW)
    assert quota.limit == 1000 and quota.learned


def test_a_limit_that_the_operator_wrote_is_only_lowered():
    one = candidate("a/m", limits={"rpd": 20})
    assert [quotas_of(one, {}, learned(one, "rpd", limit), NOW)[0].limit for limit in (1000, 5)] == [20, 5]


def test_a_limit_of_zero_stays():
    one = candidate("a/m", limits={"rpd": 0}, builtin=True)
    (quota,) = quotas_of(one, {}, learned(one, "rpd", 1000), NOW)
    assert quota.limit == 0 and full_until([quota]) == float("inf")


def test_a_window_that_only_the_provider_knows_counts_too():
    one = candidate("a/m", builtin=True)
    assert [(q.window, q.limit) for q in quotas_of(one, {}, learned(one, "tpm", 9), NOW)] == [("tpm", 9)]


def test_where_the_operator_wrote_that_there_are_no_limits_none_of_the_providers_counts():
    one = candidate("a/m", unlimited=True, account_limits={"rpd": 50})
    told = [QuotaReading("tpm", 9, 4, 30.0), QuotaReading("rpd", 50, 40, 30.0)]
    assert [quota.window for quota in quotas_of(one, {}, learned(one, "tpm", 9), NOW)] == ["rpd"]
    assert [reading.counter for reading in build_readings(one, told, {}, NOW)] == [f"{one.credential.id}|rpd"]


def test_a_provider_that_has_nothing_left_rests_though_the_operator_wrote_that_there_are_no_limits():
    one = candidate("a/m", unlimited=True)
    assert spent_until(one, [QuotaReading("rpm", 9, 0, 30.0)], {}, NOW) == NOW + 30


def test_readings_say_what_is_used_and_until_when():
    one = candidate("a/m", limits={"rpd": 100})
    told = [QuotaReading("rpd", None, 40, 30.0), QuotaReading("tpm", 8000, 0, None), QuotaReading("rpm", 5, None, None)]
    assert [(r.counter.rpartition("|")[2], r.limit, r.used, r.until) for r in build_readings(one, told, {}, NOW)] == [
        ("rpd", None, 60, NOW + 30),
        ("tpm", 8000, 8000, NOW + 61),
        ("rpm", 5, None, NOW + 61),
    ]


def quota(limit, used, window="rpm"):
    return Quota("c", window, limit, used, NOW + 9 if used else None)


def test_the_tightest_quota_tells_what_is_left():
    assert share_left([]) == 1.0
    assert share_left([quota(10, 5), quota(100, 99)]) == 0.01
    assert full_until([quota(10, 5)]) is None
    assert full_until([quota(10, 10), quota(5, 7)]) == NOW + 9


def test_a_quota_runs_out_at_its_present_rate_or_never():
    slots = [Slot(int((NOW - 30 + s) / 0.01), 1, NOW + 30 + s) for s in range(0, 30, 3)]  # 10 in 30 s
    fast = exhausted_at(quota(12, 10), slots, NOW)
    assert fast is not None and 5 < fast - NOW < 7
    assert exhausted_at(quota(100, 10), slots, NOW) is None
    assert exhausted_at(quota(10, 10), slots, NOW) == NOW
    assert exhausted_at(quota(10, 0), [], NOW) is None


@pytest.mark.parametrize("correction", [(), (Slot(CORRECTION, 0, at(2026, 11, 26) + 0.2),)], ids=["", "corrected"])
def test_a_day_that_ends_at_midnight_runs_out_before_it_at_a_rate_that_is_too_high(correction):
    now, midnight = at(2026, 11, 25, 15), at(2026, 11, 26)
    hour = [Slot(int((now - 3600 + 900 * n) / 900), 25, midnight) for n in range(4)]
    runs_out = exhausted_at(quota(1000, 700, "rpd"), (*hour, Slot(5, 600, midnight), *correction), now)
    assert runs_out == pytest.approx(now + 3 * 3600, abs=60)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.4), st.integers(1, 5)), max_size=300), st.integers(1, 20))
def test_no_minute_ever_holds_more_than_its_limit(steps, limit):
    """Whatever is asked and when: reservations of any 60 seconds stay within the limit, and nothing falls below zero."""
    clock = Clock(NOW)
    store = MemoryStore(clock)
    one = candidate("a/m", limits={"tpm": limit})
    granted = []
    for step, tokens in steps:
        clock.now += step
        quotas = quotas_of(one, store.snapshot().counts, {}, clock.now)
        assert all(0 <= q.left <= q.limit and 0.0 <= share_left([q]) <= 1.0 for q in quotas)
        if isinstance(store.reserve(build_charges(one, quotas, Demand(tokens), clock.now)), Reservation):
            granted.append((clock.now, tokens))
    for start, _ in granted:
        assert sum(tokens for moment, tokens in granted if start <= moment < start + 60) <= limit


def test_a_limit_of_nothing_in_a_header_is_not_believed():
    one = candidate("a/m", limits={"rpm": 30})
    (reading,) = build_readings(one, [QuotaReading("rpm", 0, 0, 1.0)], {}, NOW)
    assert (reading.limit, reading.used) == (None, 30)


def test_what_remains_is_reckoned_from_the_limit_that_was_learned():
    one = candidate("a/m", limits={"rpd": 1000}, builtin=True)
    (reading,) = build_readings(one, [QuotaReading("rpd", None, 449, None)], learned(one, "rpd", 500), NOW)
    assert reading.used == 51


def test_a_quota_that_is_overdrawn_has_room_when_enough_came_back():
    one = candidate("a/m", limits={"tpm": 6000})
    counts = {f"{one.id}|tpm": (Slot(1, 10, NOW + 5), Slot(2, 8990, NOW + 50))}
    assert full_until(quotas_of(one, counts, {}, NOW)) == NOW + 50


@pytest.mark.parametrize(("a_minute", "runs_out"), [(20, False), (40, False), (59, False)])
def test_a_steady_rate_within_the_limit_never_runs_out(a_minute, runs_out):
    moments = [NOW - 60 + 60 * (n + 0.5) / a_minute for n in range(a_minute)]
    slots = [Slot(int(moment / 0.01), 1, moment + 60) for moment in moments]
    assert (exhausted_at(quota(60, a_minute), slots, NOW) is not None) is runs_out


# --- accounts ----------------------------------------------------------------------------------------------------------

ACCOUNT = {"rpd": 50, "neurons": 1000}


def test_a_word_on_a_window_that_only_the_account_has_is_about_the_account():
    one = candidate("a/m", account_limits=ACCOUNT, limits={"rpm": 5})
    told = [QuotaReading("rpd", 50, 10, 60.0), QuotaReading("neurons", None, 0, 60.0), QuotaReading("rpm", 5, 1, 60.0)]
    assert [(r.counter, r.used) for r in build_readings(one, told, {}, NOW)] == [
        (f"{one.credential.id}|rpd", 40),
        (f"{one.credential.id}|neurons", 1_000_000),
        (f"{one.id}|rpm", 4),
    ]


def test_a_window_that_both_have_is_the_models():
    one = candidate("a/m", account_limits=ACCOUNT, limits={"rpd": 20})
    (reading,) = build_readings(one, [QuotaReading("rpd", None, 5, 60.0)], {}, NOW)
    assert (reading.counter, reading.used) == (f"{one.id}|rpd", 15)


@pytest.mark.parametrize(("named", "limit"), [(30, 30), (1000, 50)])
def test_an_accounts_limit_is_only_lowered_by_what_the_provider_names(named, limit):
    one = candidate("a/m", account_limits={"rpd": 50}, builtin=True)
    (quota,) = quotas_of(one, {}, {f"{one.credential.id}|rpd": LearnedLimit(named, NOW + 100)}, NOW)
    assert (quota.limit, quota.learned) == (limit, True)


def test_what_is_left_of_a_larger_limit_leaves_the_operators_own_part_of_it():
    one = candidate("a/m", limits={"rpd": 40})
    (reading,) = build_readings(one, [QuotaReading("rpd", 1000, 500, None)], {}, NOW)
    assert (reading.limit, reading.used) == (1000, 0)


@pytest.mark.parametrize(
    ("told", "until"),
    [
        ([QuotaReading("rpm", None, 0, 7.0)], NOW + 7),
        ([QuotaReading("rpm", None, 0, None)], NOW + 61),
        ([QuotaReading("rpm", None, 0, 7.0), QuotaReading("tpd", None, 0, 50.0)], NOW + 50),
        ([QuotaReading("rpm", None, 1, 7.0)], None),
        ([QuotaReading("rpm", 0, 0, 7.0)], None),  # so say hosts that limit nothing
        ([QuotaReading("rpm", 30, 0, 7.0)], None),  # the quota tells
        ([QuotaReading("rpd", None, 0, 7.0)], None),
        ([QuotaReading("tpm", None, 0, 7.0)], None),
        ([], None),
    ],
)
def test_nothing_left_of_a_limit_that_nobody_knows(told, until):
    one = candidate("a/m", limits={"rpd": 100})
    assert spent_until(one, told, learned(one, "tpm", 9), NOW) == until
