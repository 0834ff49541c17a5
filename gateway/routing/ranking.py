"""The order in which candidates are tried. Pure: the same inputs give the same order."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.domain import Candidate
from gateway.routing.cooldown import scopes_over
from gateway.state.base import Snapshot


def rank_candidates(candidates: Sequence[Candidate], snapshot: Snapshot, now: float) -> list[Candidate]:
    """Return those that do not rest, the ones without recent failures first, else in the catalog's order."""
    awake = [candidate for candidate in candidates if resting_until(candidate, snapshot) <= now]
    return sorted(awake, key=lambda candidate: recent_failures(candidate, snapshot))


def resting_until(candidate: Candidate, snapshot: Snapshot) -> float:
    """Return when the candidate's longest rest ends (epoch seconds), 0 where it has none."""
    rests = (snapshot.rests.get(scope) for scope in scopes_over(candidate))
    return max((rest.until for rest in rests if rest), default=0.0)


def recent_failures(candidate: Candidate, snapshot: Snapshot) -> int:
    rests = (snapshot.rests.get(scope) for scope in scopes_over(candidate))
    return sum(rest.failures for rest in rests if rest)
