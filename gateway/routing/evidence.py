"""What calls teach about a model: how often it answers, how soon and how fast, and how it counts tokens. Pure.

Evidence is a list of sums that fade together, so that recent calls weigh more and the store can add to them atomically.
Logarithms of times are summed too: times are spread like a log-normal, whose 95th percentile follows from two sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from gateway.domain import Usage
from gateway.state.base import Evidence, Lesson

HALF_LIFE_S = 600.0  # ten minutes: an outage is over for the score when it is over for the users
PRIOR_SUCCESS = 0.98  # of a model that nobody knows: near enough to those seen working to get its share
PRIOR_WEIGHT = 2.0  # calls that the prior is worth: two failures must already tell
PRIOR_PROMPT_TOKENS = 500.0  # of a prompt that the estimate counted right, before the provider counted one
PRIOR_ANSWER_TOKENS, PRIOR_ANSWERS = 300.0, 2.0  # the length of an answer, and how many such the guess is worth
LEAST_USUAL_S, UNKNOWN_USUAL_S = 1.0, 5.0  # what an answer may take at least, and of a model that nobody has timed
LEAST_TIMES = 3.0  # calls before a percentile means anything
LEAST_TRIAL = 0.5  # of one that was passed: within the half-life it counts
LEAST_KEPT = 0.01  # of what faded: less is noise
P95 = 1.645  # standard deviations above the mean
RATIO_LIMITS = (0.5, 3.0)  # between the provider's tokens and ours; beyond that somebody counts something else


class Sum(IntEnum):
    """Positions in `Evidence.values`."""

    CALLS = 0
    SUCCESSES = 1
    TTFT_N = 2
    TTFT_S = 3
    TTFT_LN = 4
    TTFT_LN2 = 5
    WHOLE_N = 6
    WHOLE_S = 7
    WHOLE_LN = 8
    WHOLE_LN2 = 9
    SPEED_S = 10
    SPEED_TOKENS = 11
    PROMPT_ESTIMATED = 12
    PROMPT_COUNTED = 13
    ANSWERS = 14
    ANSWER_TOKENS = 15
    TRIALS = 16


RECORD = (Sum.CALLS, Sum.SUCCESSES, Sum.TRIALS)  # what is begun anew once failures are over


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one model now. Times in seconds, None where too little is known.

    `success`: the share of calls that were answered, drawn towards the prior while calls are few. `success_rate`: the
    same without the prior. `prompt_ratio`: the provider's tokens for one of ours. `answered_before`: at least once,
    within what is remembered. `passed_trial`: lately, and nothing failed since.
    """

    success: float = PRIOR_SUCCESS
    success_rate: float | None = None
    ttft_s: float | None = None
    ttft_p95_s: float | None = None
    whole_s: float | None = None
    whole_p95_s: float | None = None
    tokens_per_s: float | None = None
    prompt_ratio: float = 1.0
    answer_tokens: float = PRIOR_ANSWER_TOKENS
    answered_before: bool = False
    passed_trial: bool = False


UNKNOWN = Health()
_SUMS = len(Sum)


def health_of(evidence: Evidence | None, now: float) -> Health:
    """Return what the sums say at `now`."""
    if evidence is None or len(evidence.values) < len(Sum):
        return UNKNOWN
    # In the order of Sum. Quotients of sums that fade together do not fade.
    calls, successes, ttft_n, ttft, ttft_ln, ttft_ln2, whole_n, whole, whole_ln, whole_ln2, *others = evidence.values
    speed_s, speed_tokens, estimated, counted, answers, answer_tokens, trials, *_ = others
    keep = 0.5 ** (max(0.0, now - evidence.at) / HALF_LIFE_S)
    return Health(
        success=(successes * keep + PRIOR_SUCCESS * PRIOR_WEIGHT) / (calls * keep + PRIOR_WEIGHT),
        success_rate=successes / calls if calls * keep > LEAST_KEPT else None,
        ttft_s=ttft / ttft_n if ttft_n * keep > LEAST_KEPT else None,
        ttft_p95_s=_p95(ttft_n, ttft_ln, ttft_ln2, keep),
        whole_s=whole / whole_n if whole_n * keep > LEAST_KEPT else None,
        whole_p95_s=_p95(whole_n, whole_ln, whole_ln2, keep),
        tokens_per_s=speed_tokens / speed_s if speed_s * keep > LEAST_KEPT else None,
        prompt_ratio=_ratio(counted * keep, estimated * keep),
        answer_tokens=(answer_tokens * keep + PRIOR_ANSWER_TOKENS * PRIOR_ANSWERS) / (answers * keep + PRIOR_ANSWERS),
        answered_before=successes > 0.0,
        passed_trial=trials * keep > LEAST_TRIAL,
    )


def usual_s(health: Health, *, streams: bool) -> float:
    """Return how long an answer takes to come, or a stream to begin, but for one call in twenty."""
    p95_s = health.ttft_p95_s if streams else health.whole_p95_s
    return max(LEAST_USUAL_S, UNKNOWN_USUAL_S if p95_s is None else p95_s)


def _p95(count: float, ln: float, ln2: float, keep: float) -> float | None:
    if count * keep < LEAST_TIMES:
        return None
    mean = ln / count
    return math.exp(mean + P95 * math.sqrt(max(0.0, ln2 / count - mean * mean)))


def _ratio(counted: float, estimated: float) -> float:
    least, most = RATIO_LIMITS
    return min(most, max(least, (counted + PRIOR_PROMPT_TOKENS) / (estimated + PRIOR_PROMPT_TOKENS)))


# --- lessons ---------------------------------------------------------------------------------------------------------


def lesson_of_failure(model: str) -> Lesson:
    """Return what a failed call teaches."""
    return _lesson(model, {Sum.CALLS: 1.0}, forget=(Sum.TRIALS,))


def lesson_of_success(model: str, *, ttft_s: float | None, closes: bool) -> Lesson:
    """Return what an answer teaches when it is here, or its first token is.

    `ttft_s` None: it was not streamed. `closes`: it ends a rest, so that what went wrong before is over.
    """
    values = {Sum.CALLS: 1.0, Sum.SUCCESSES: 1.0}
    if ttft_s is not None:
        values |= _times(Sum.TTFT_N, ttft_s)
    return _lesson(model, values, forget=RECORD if closes else ())


def lesson_of_end(
    model: str,
    usage: Usage,
    estimated_tokens: int,
    *,
    answers: int = 1,
    whole_s: float | None,
    speaking_s: float,
    closes: bool = False,
    is_trial: bool = False,
) -> Lesson:
    """Return what a finished answer teaches of time and tokens.

    `whole_s`: how long it took where it came in one piece, else None. `speaking_s`: how long its tokens took to come.
    Several `answers` were asked for at once: they tell nothing of how long and how fast one is. `closes`: what went wrong
    before is over, and this answer is all that is known. `is_trial`: it is one of those that are to show it.
    """
    values: dict[Sum, float] = {Sum.CALLS: 1.0, Sum.SUCCESSES: 1.0} if closes else {Sum.TRIALS: 1.0} if is_trial else {}
    if whole_s is not None:
        values |= _times(Sum.WHOLE_N, whole_s)
    if not usage.estimated:
        values |= {Sum.PROMPT_ESTIMATED: float(estimated_tokens), Sum.PROMPT_COUNTED: float(usage.prompt_tokens)}
    if not usage.estimated and answers == 1:
        values |= {Sum.ANSWERS: 1.0, Sum.ANSWER_TOKENS: float(usage.completion_tokens)}
        if usage.completion_tokens and speaking_s > 0:
            values |= {Sum.SPEED_S: speaking_s, Sum.SPEED_TOKENS: float(usage.completion_tokens)}
    return _lesson(model, values, forget=RECORD if closes else ())


def _times(first: Sum, seconds: float) -> dict[Sum, float]:
    """Return the four sums of a time, which stand behind one another: its number, sum, and sums of its logarithms."""
    ln = math.log(max(0.001, seconds))
    return {first: 1.0, Sum(first + 1): seconds, Sum(first + 2): ln, Sum(first + 3): ln * ln}


def _lesson(model: str, values: Mapping[Sum, float], forget: tuple[int, ...] = ()) -> Lesson:
    sums = [0.0] * _SUMS
    for position, value in values.items():
        sums[position] = value
    return Lesson(model, tuple(sums), HALF_LIFE_S, forget)
