"""The order in which candidates are tried: the score of each, and every constant of it. Pure.

    score = success² x (speed, headroom, load, fit and quality, each from 0 to 1, by the weights of the profile)

`success` multiplies, and twice: whatever a model is good at, it is worth nothing while it does not answer. The README
explains the formula, and GET /v1/routing/status shows every term.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from gateway.domain import REASONING_LEVELS, Candidate, Model, ReasoningEffort, ReasoningLevel
from gateway.routing.evidence import PRIOR_SUCCESS, Health

USUAL_TTFT_S = 1.0  # a first token after this long is worth half
USUAL_TOKENS_PER_S = 60.0  # and so is this speed: a fast reader's
BUSY_CALLS = 8.0  # calls in flight, of one worker, at which a candidate is worth half
UNKNOWN_SPEED = 0.75  # of what nobody measured lately: good enough to be tried, and then it is measured
USUAL_QUALITY = 50  # of a model whose row names none
NEAR = 0.1  # scores that differ by less than this part share the load: no herd on one provider
# Requests that first ask a model which only its failures keep behind: nobody would learn that they are over, else, and half
# an hour might pass until they are forgotten. At two requests a second it is asked within half a minute, most likely.
TRIAL_PART = 0.05


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each term counts; together 1."""

    speed: float
    headroom: float
    load: float
    fit: float
    quality: float


FAIR_GAIN = PRIOR_SUCCESS**2  # of a model that nobody knows

PROFILES: Mapping[str, Weights] = {
    # Headroom leads: what has much left is used first, so that no quota runs out while others lie idle.
    "auto": Weights(speed=0.25, headroom=0.35, load=0.15, fit=0.25, quality=0.0),
    "auto:fast": Weights(speed=0.7, headroom=0.1, load=0.1, fit=0.1, quality=0.0),
    "auto:smart": Weights(speed=0.05, headroom=0.1, load=0.05, fit=0.1, quality=0.7),
}


@dataclass(frozen=True, slots=True)
class Merits:
    """What a candidate brings to every request alike, each from 0 to 1. `gain` is the factor before all other terms."""

    success: float
    speed: float
    headroom: float
    quality: float
    gain: float


def merits_of(model: Model, health: Health, headroom: float) -> Merits:
    quality = (USUAL_QUALITY if model.quality is None else model.quality) / 100
    return Merits(health.success, speed_of(health), headroom, quality, gain=health.success * health.success)


def speed_of(health: Health) -> float:
    """Return how soon a model begins and how fast it goes on, from 0 to 1."""
    begins = UNKNOWN_SPEED if health.ttft_s is None else USUAL_TTFT_S / (USUAL_TTFT_S + health.ttft_s)
    rate = health.tokens_per_s
    goes_on = UNKNOWN_SPEED if rate is None else rate / (USUAL_TOKENS_PER_S + rate)
    return (begins + goes_on) / 2


def load_of(calls_in_flight: int) -> float:
    return BUSY_CALLS / (BUSY_CALLS + calls_in_flight)


def fit_of(tier: ReasoningLevel | None, effort: ReasoningEffort | None) -> float:
    """Return how near a model's reasoning tier is to the effort asked for, from 0 to 1; 1 for all where none was."""
    if effort is None:
        return 1.0
    has = 0 if tier is None else REASONING_LEVELS.index(tier) + 1
    wanted = _WANTED_TIER[effort]
    distance = abs(has - wanted) + (1 if wanted and not has else 0)  # who cannot think is further away than who thinks less
    return 1.0 - distance / 4


_WANTED_TIER: Mapping[ReasoningEffort, int] = {"none": 0, "minimal": 0, "low": 1, "medium": 2, "high": 3}


class Scorer:
    """The score by one profile for requests of one reasoning effort. What follows from a model alone is worked out once."""

    def __init__(self, profile: str, effort: ReasoningEffort | None) -> None:
        self._weights = PROFILES[profile]
        self._fits = {tier: fit_of(tier, effort) for tier in (None, *REASONING_LEVELS)}

    def score(self, model: Model, merits: Merits, calls_in_flight: int) -> float:
        """Return the score of a candidate, from 0 to 1."""
        weights = self._weights
        varying = weights.fit * self._fits[model.reasoning_tier] + weights.load * load_of(calls_in_flight)
        return merits.gain * (
            weights.speed * merits.speed + weights.headroom * merits.headroom + weights.quality * merits.quality + varying
        )

    def terms(self, model: Model, merits: Merits, calls_in_flight: int) -> dict[str, float]:
        """Return what that score is made of, each from 0 to 1."""
        return {
            "success": merits.success,
            "speed": merits.speed,
            "headroom": merits.headroom,
            "load": load_of(calls_in_flight),
            "fit": self._fits[model.reasoning_tier],
            "quality": merits.quality,
        }


@lru_cache(maxsize=32)
def scorer_for(profile: str, effort: ReasoningEffort | None) -> Scorer:
    return Scorer(profile, effort)


def rank(scored: Iterable[tuple[Candidate, float]], draw: Callable[[], float]) -> list[Candidate]:
    """Return candidates, the best first; near-equals in an order that `draw` (from 0 to 1) decides each time."""
    drawn = [(score * (NEAR * draw() - 1.0), number, candidate) for number, (candidate, score) in enumerate(scored)]
    drawn.sort()  # the number is unique: candidates are never compared
    return [candidate for _, _, candidate in drawn]


def left_behind(scored: Iterable[tuple[Candidate, float, Merits]]) -> list[tuple[Candidate, float]]:
    """Return who would be near the best but for its failures, and hardly gets a turn, with the score that it would have."""
    entries = list(scored)
    best = max((score for _, score, _ in entries), default=0.0)
    behind = ((candidate, score, merits) for candidate, score, merits in entries if score < best * (1.0 - NEAR / 2))
    fair = ((candidate, score * FAIR_GAIN / merits.gain) for candidate, score, merits in behind)
    return [(candidate, score) for candidate, score in fair if score >= best * (1.0 - NEAR)]
