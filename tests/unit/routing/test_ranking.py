import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.evidence import UNKNOWN, Health
from gateway.routing.ranking import NEAR, PROFILES, Scorer, fit_of, left_behind, merits_of, rank, scorer_for
from tests.unit.routing.conftest import candidate

ONE = candidate("a/m")


def score(health=UNKNOWN, headroom=1.0, calls=0, profile="auto", effort=None, **model):
    row = candidate("a/m", **model).model
    return Scorer(profile, effort).score(row, merits_of(row, health, headroom), calls)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"health": Health(success=0.95)}, {"health": Health(success=0.7)}),
        ({"health": Health(ttft_s=0.2)}, {"health": Health(ttft_s=2.0)}),
        ({"health": Health(tokens_per_s=200)}, {"health": Health(tokens_per_s=20)}),
        ({"headroom": 0.9}, {"headroom": 0.2}),
        ({"calls": 0}, {"calls": 10}),
        ({"effort": "high", "reasoning_tier": "high"}, {"effort": "high", "reasoning_tier": "low"}),
        ({"effort": "low", "reasoning_tier": "medium"}, {"effort": "low"}),
        ({"effort": "none"}, {"effort": "none", "reasoning_tier": "high"}),
        ({"profile": "auto:smart", "quality": 90}, {"profile": "auto:smart", "quality": 40, "headroom": 1.0}),
    ],
)
def test_each_term_tells(better, worse):
    assert score(**better) > score(**worse)


def test_what_does_not_answer_is_worth_nothing_however_fast_it_is():
    assert score(health=Health(success=0.3, ttft_s=0.01, tokens_per_s=5000)) < score(
        health=Health(success=0.95, ttft_s=5.0), headroom=0.3
    )


def test_auto_fast_prefers_the_quick_and_auto_smart_the_able():
    quick = {"health": Health(ttft_s=0.1, tokens_per_s=900), "quality": 20}
    able = {"health": Health(ttft_s=3.0, tokens_per_s=30), "quality": 95}
    assert score(profile="auto:fast", **quick) > score(profile="auto:fast", **able)
    assert score(profile="auto:smart", **quick) < score(profile="auto:smart", **able)


def test_without_an_effort_no_tier_is_preferred():
    assert {fit_of(tier, None) for tier in (None, "low", "medium", "high")} == {1.0}


def test_near_equals_share_the_load_and_others_do_not():
    chance = random.Random(1)
    pool = [candidate(f"{p}/m") for p in "abcd"]
    scored = [(pool[0], 0.80), (pool[1], 0.79), (pool[2], 0.78), (pool[3], 0.80 * (1 - NEAR) - 0.001)]
    first = [rank(scored, chance.random)[0].provider.key for _ in range(900)]
    assert min(first.count(p) for p in "abc") > 120 and first.count("d") == 0


def test_the_same_draw_gives_the_same_order():
    scored = [(candidate(f"{n}/m"), 0.5) for n in range(10)]
    assert rank(scored, random.Random(7).random) == rank(scored, random.Random(7).random)


def test_weights_are_shares():
    for weights in PROFILES.values():
        assert weights.speed + weights.headroom + weights.load + weights.fit + weights.quality == pytest.approx(1.0)


shares = st.floats(0, 1)
healths = st.builds(
    Health,
    success=shares,
    ttft_s=st.none() | st.floats(0.001, 1000),
    tokens_per_s=st.none() | st.floats(0, 1e6),
)
tiers = st.sampled_from([None, "low", "medium", "high"])
efforts = st.sampled_from([None, "none", "minimal", "low", "medium", "high"])


@settings(deadline=None)
@given(healths, shares, shares, st.integers(0, 1000), tiers, efforts, st.sampled_from(sorted(PROFILES)))
def test_a_score_lies_between_zero_and_one_and_rises_with_success(health, more, headroom, calls, tier, effort, profile):
    model = replace(ONE.model, reasoning_tier=tier)
    low, high = sorted((health.success, more))
    scorer = scorer_for(profile, effort)
    scores = [scorer.score(model, merits_of(model, replace(health, success=success), headroom), calls) for success in (low, high)]
    assert 0.0 <= scores[0] <= scores[1] <= 1.0
    assert all(0.0 <= term <= 1.0 for term in scorer.terms(model, merits_of(model, health, headroom), calls).values())


def test_success_counts_twice():
    half, full = (score(health=Health(success=success)) for success in (0.5, 1.0))
    assert half == pytest.approx(full / 4)


@pytest.mark.parametrize(
    ("other", "behind"),
    [
        ({"health": Health(success=0.7)}, True),
        ({"health": Health(success=0.9)}, True),  # near, and yet it hardly gets a turn
        ({"health": Health(success=0.97)}, False),
        ({"headroom": 0.2}, False),  # that is no failure
        ({"health": Health(success=0.7), "headroom": 0.2}, False),
    ],
)
def test_who_is_left_behind_for_its_failures_alone(other, behind):
    facts = {"health": UNKNOWN, "headroom": 1.0} | other
    merits = [merits_of(ONE.model, UNKNOWN, 1.0), merits_of(ONE.model, facts["health"], facts["headroom"])]
    pool = [candidate("a/best"), candidate("b/other")]
    scored = [(c, Scorer("auto", None).score(c.model, m, 0), m) for c, m in zip(pool, merits, strict=True)]
    found = left_behind(scored)
    assert [c.id for c, _ in found] == ([pool[1].id] if behind else [])
    assert all(fair == pytest.approx(scored[0][1]) for _, fair in found)


def test_nobody_is_left_behind_by_nobody():
    assert left_behind([]) == []
