import math

import pytest

from gateway.domain import Usage
from gateway.routing.evidence import (
    HALF_LIFE_S,
    PRIOR_SUCCESS,
    UNKNOWN,
    health_of,
    lesson_of_end,
    lesson_of_failure,
    lesson_of_success,
)
from gateway.state.memory import MemoryStore
from tests.unit.routing.conftest import Clock


class Learner:
    def __init__(self):
        self.clock = Clock()
        self.store = MemoryStore(self.clock)

    def learn(self, *lessons):
        self.store.write(lessons)

    @property
    def health(self):
        return health_of(self.store.snapshot().evidence.get("a/m"), self.clock.now)


@pytest.fixture
def learner():
    return Learner()


def test_a_model_that_nobody_knows_has_a_fair_prior(learner):
    assert learner.health == UNKNOWN and UNKNOWN.success == PRIOR_SUCCESS and not UNKNOWN.answered_before


def test_success_rises_and_falls_with_what_is_seen(learner):
    learner.learn(lesson_of_success("a/m", ttft_s=None, closes=False))
    worked = learner.health
    learner.learn(lesson_of_failure("a/m"))
    failed = learner.health
    assert worked.success > PRIOR_SUCCESS > failed.success
    assert (worked.success_rate, failed.success_rate) == (1.0, 0.5) and failed.answered_before


def test_recent_calls_weigh_more(learner):
    for _ in range(10):
        learner.learn(lesson_of_failure("a/m"))
    learner.clock.now += 4 * HALF_LIFE_S
    long_ago = learner.health.success
    learner.learn(lesson_of_success("a/m", ttft_s=None, closes=False))
    assert 0.5 < long_ago < learner.health.success


def test_a_success_that_ends_a_rest_makes_up_for_what_went_before(learner):
    for _ in range(5):
        learner.learn(lesson_of_failure("a/m"))
    learner.learn(lesson_of_success("a/m", ttft_s=0.2, closes=True))
    assert learner.health.success > PRIOR_SUCCESS and learner.health.success_rate == 1.0


def test_the_95th_percentile_follows_from_the_sums(learner):
    for ttft_s in (0.5, 1.0, 2.0):
        learner.learn(lesson_of_success("a/m", ttft_s=ttft_s, closes=False))
    health = learner.health
    assert health.ttft_s == pytest.approx(3.5 / 3)
    assert health.ttft_p95_s == pytest.approx(math.exp(1.645 * math.sqrt(2 / 3) * math.log(2)))


def test_two_times_are_too_few_for_a_percentile(learner):
    for _ in range(2):
        learner.learn(lesson_of_success("a/m", ttft_s=1.0, closes=False))
    assert learner.health.ttft_p95_s is None


def test_speed_and_the_count_of_tokens_are_learned_from_what_providers_report(learner):
    for _ in range(50):
        learner.learn(lesson_of_end("a/m", Usage(1200, 100), 1000, whole_s=2.0, speaking_s=2.0))
    health = learner.health
    assert health.tokens_per_s == pytest.approx(50) and health.whole_s == pytest.approx(2.0)
    assert 1.15 < health.prompt_ratio < 1.2 and 100 < health.answer_tokens < 115


def test_several_answers_at_once_tell_nothing_of_how_long_and_how_fast_one_is(learner):
    learner.learn(lesson_of_end("a/m", Usage(1200, 5000), 1000, answers=5, whole_s=2.0, speaking_s=2.0))
    health = learner.health
    assert (health.answer_tokens, health.tokens_per_s) == (UNKNOWN.answer_tokens, None) and health.prompt_ratio > 1


def test_estimated_usage_teaches_nothing_of_tokens(learner):
    learner.learn(lesson_of_end("a/m", Usage(9000, 9000, estimated=True), 10, whole_s=None, speaking_s=1.0))
    assert learner.health.prompt_ratio == 1.0 and learner.health.tokens_per_s is None


def test_one_mad_count_of_tokens_does_not_run_away_with_the_estimate(learner):
    learner.learn(lesson_of_end("a/m", Usage(10_000_000, 1), 10, whole_s=1.0, speaking_s=1.0))
    assert learner.health.prompt_ratio == 3.0
