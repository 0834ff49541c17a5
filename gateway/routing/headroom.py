"""Limit arithmetic: which counters a request takes from, and when they start anew. Pure.

A counter and its bucket name one number in the state store; buckets are fixed windows of the provider's own clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.domain import Candidate, Clock, Model, Usage, Window
from gateway.state.base import Charge

MINUTE_S = 60
DAY_S = 86400

_PACIFIC = ZoneInfo("America/Los_Angeles")
_TOKEN_WINDOWS = ("tpm", "tpd")


def bucket_of(window: Window, clock: Clock, now: float) -> tuple[int, float]:
    """Return (number of the window's current period, when it ends in epoch seconds).

    A rolling day is counted as a UTC day: the provider's own headers correct it.
    """
    if window in ("rpm", "tpm"):
        return int(now // MINUTE_S), (now // MINUTE_S + 1) * MINUTE_S
    if clock == "pacific":
        midnight = datetime.fromtimestamp(now, _PACIFIC).replace(hour=0, minute=0, second=0, microsecond=0)
        next_midnight = (midnight + timedelta(days=1)).timestamp()  # wall-clock arithmetic: right across clock changes
        return midnight.toordinal(), next_midnight
    return int(now // DAY_S), (now // DAY_S + 1) * DAY_S


def build_charges(candidate: Candidate, tokens: int, now: float) -> tuple[Charge, ...]:
    """Return what one request of about `tokens` takes from each quota of the candidate, its account's included."""
    charges = []
    for scope, limits in ((candidate.id, candidate.model.limits), (candidate.credential.id, candidate.provider.account_limits)):
        for window, limit in limits.items():
            bucket, resets_at = bucket_of(window, candidate.provider.clock, now)
            amount = amount_for(window, tokens, candidate.model)
            charges.append(Charge(counter_name(scope, window), bucket, amount, limit, resets_at))
    return tuple(charges)


def counter_name(scope: str, window: Window) -> str:
    return f"{scope}|{window}"


def amount_for(window: Window, tokens: int, model: Model) -> int:
    """Return how much of a window a request of so many tokens takes, before its real usage is known."""
    if window in _TOKEN_WINDOWS:
        return tokens
    return neurons_for(Usage(prompt_tokens=tokens), model) if window == "neurons" else 1


def settled_amounts(charges: tuple[Charge, ...], usage: Usage, model: Model) -> dict[str, int]:
    """Return by counter what the answer really took; requests stay as they were reserved."""
    amounts = {}
    for charge in charges:
        window = charge.counter.rpartition("|")[2]
        if window in _TOKEN_WINDOWS:
            amounts[charge.counter] = usage.total_tokens
        elif window == "neurons":
            amounts[charge.counter] = neurons_for(usage, model)
    return amounts


def neurons_for(usage: Usage, model: Model) -> int:
    """Return Workers AI's neurons for a number of tokens; 0 where the row has no price: its 429 will tell."""
    prompt, completion = model.neurons_per_mtok or (0.0, 0.0)
    return round((usage.prompt_tokens * prompt + usage.completion_tokens * completion) / 1_000_000)
