"""Limit arithmetic: what a request takes from each quota, what is left, and when it comes back. Pure.

Every window slides: what is taken counts for a whole minute or day from then on, so that a minute of ours never overlaps
two of the provider's, whether it counts fixed minutes, sliding ones or a bucket that refills. Only a day that ends at the
provider's midnight does so here too. What is taken within one slot is counted together, until the last of it is over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway.domain import Candidate, Clock, Model, QuotaReading, Usage, Window
from gateway.state.base import CORRECTION, Adjustment, Charge, LearnedLimit, Reading, Slot

# A second longer than it is: of two calls a minute apart the first may be long on its way and the second short, and to a
# provider that looks back over sixty seconds they are one minute's. Of its quota that costs a sixtieth.
MINUTE_S = 61.0
DAY_S = 86400.0
# A minute with few requests has fine slots, so that each comes back when it can; of many, nobody notices half a second.
# By window: (up to which limit, how fine), so that no counter has more than some hundred slots.
FINE_SLOTS_S = {"rpm": (120, 0.01), "tpm": (100_000, 0.1)}
COARSE_SLOT_S = 0.5
DAY_SLOT_S = 900.0  # midnight is a multiple of it everywhere
RATE_S = 3600.0  # a day's present rate is that of the last hour
LEAST_RATE_S = 10.0  # and no rate is told by less than this: two calls in a second are no trend
# So many requests like this one fit in besides: more than all workers begin before the next snapshot tells of them.
AMPLE = 5000
LEARNED_S = DAY_S  # a limit that the provider named is believed for so long

COUNTED = {"neurons": 1000}  # how much counts as one of a window: a short answer takes a small part of a neuron

_PACIFIC = ZoneInfo("America/Los_Angeles")
_MINUTES = ("rpm", "tpm")
_TOKENS = ("tpm", "tpd")
_OF_MODELS: tuple[Window, ...] = ("rpm", "rpd", "tpm", "tpd")


# --- windows ---------------------------------------------------------------------------------------------------------


def slot_s(window: Window, limit: int) -> float:
    """Return how many seconds a slot of a window holds."""
    if window not in _MINUTES:
        return DAY_SLOT_S
    few, fine_s = FINE_SLOTS_S[window]
    return fine_s if limit <= few else COARSE_SLOT_S


def counts_until(window: Window, clock: Clock, now: float) -> float:
    """Return when what is taken now stops counting."""
    if window in _MINUTES:
        return now + MINUTE_S
    return now + DAY_S if clock == "rolling" else _next_midnight(clock, int(now / DAY_SLOT_S))


@lru_cache(maxsize=64)
def _next_midnight(clock: Clock, slot: int) -> float:
    begins = slot * DAY_SLOT_S
    if clock == "utc":
        return (begins // DAY_S + 1) * DAY_S
    midnight = datetime.fromtimestamp(begins, _PACIFIC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight + timedelta(days=1)).timestamp()  # wall-clock arithmetic: right across clock changes


# --- quotas of a candidate -------------------------------------------------------------------------------------------


class Quota(NamedTuple):
    """One limit of one candidate, and how much of it is taken. `learned`: the provider named the limit itself.

    All amounts are in counting units: see `COUNTED`.
    """

    counter: str
    window: Window
    limit: int
    used: int = 0
    resets_at: float | None = None  # when the first of what is taken comes back; of a full one, when it has room again
    learned: bool = False

    @property
    def left(self) -> int:
        return max(0, self.limit - self.used)


def in_window_units(quota: Quota, amount: int) -> int:
    """Return an amount of a quota in its window's own unit, rounded up."""
    return -(-amount // COUNTED.get(quota.window, 1))


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request is expected to take of one candidate: upstream calls, and tokens as the gateway guesses them."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    calls: int = 1


def counter_name(scope: str, window: Window) -> str:
    return f"{scope}|{window}"


def quotas_of(
    candidate: Candidate, counts: Mapping[str, Sequence[Slot]], limits: Mapping[str, LearnedLimit], now: float
) -> tuple[Quota, ...]:
    """Return every quota that a call of the candidate takes from, its account's included.

    `counts` and `limits` are those of a snapshot. A limit that the provider named goes before the built-in catalog's;
    one that an operator may have written down (an account's always may) is only lowered by it, a 0 stays, and where the
    operator wrote that there are none (`limits = {}`) none is.
    """
    quotas = []
    for window, known in candidate.provider.account_limits.items():
        counter = counter_name(candidate.credential.id, window)
        limit = known * COUNTED.get(window, 1)
        quotas.append(_quota(counter, window, limit, limits.get(counter), counts, now, builtin=False))
    own = candidate.model.limits
    for window in _OF_MODELS if not candidate.model.unlimited else ():
        counter = counter_name(candidate.id, window)
        if window in own or counter in limits:
            named = limits.get(counter)
            quotas.append(_quota(counter, window, own.get(window), named, counts, now, builtin=candidate.model.builtin))
    return tuple(quotas)


def _quota(
    counter: str,
    window: Window,
    known: int | None,
    named: LearnedLimit | None,
    counts: Mapping[str, Sequence[Slot]],
    now: float,
    *,
    builtin: bool,
) -> Quota:
    learned = named is not None and known != 0
    limit = _believed(known, named.limit if named else None, builtin=builtin) or 0
    slots = counts.get(counter)
    if not slots:
        return Quota(counter, window, limit, learned=learned)
    slots = [slot for slot in slots if slot.counts_until > now]
    used = sum([slot.used for slot in slots])
    return Quota(counter, window, limit, used, _resets_at(slots, limit, used), learned)


def _believed(known: int | None, named: int | None, *, builtin: bool) -> int | None:
    """Return the limit to keep to: the catalog's is `known`, the provider's own word `named`."""
    if known is None or named is None:
        return named if known is None else known
    return named if builtin and known else min(known, named)


def _resets_at(slots: Sequence[Slot], limit: int, used: int) -> float | None:
    if used < limit:
        return min([slot.counts_until for slot in slots if slot.used], default=None)
    held = 0
    for slot in sorted(slots, key=lambda slot: -slot.counts_until):
        held += slot.used
        if held >= limit:
            return slot.counts_until
    return None


def amount_of(window: Window, demand: Demand, model: Model) -> int:
    """Return how much of a window a request takes before its real usage is known."""
    if window in _TOKENS:
        return demand.prompt_tokens + demand.output_tokens
    if window == "neurons":
        return neurons_for(Usage(demand.prompt_tokens, demand.output_tokens), model)
    return demand.calls


def build_charges(
    candidate: Candidate, quotas: Iterable[Quota], demand: Demand, now: float, *, capped: bool = False
) -> tuple[Charge, ...]:
    """Return what one request takes from each quota. `capped`: never more than all of it, so that an estimate which is
    larger than a whole window does not refuse by itself."""
    charges = []
    for quota in quotas:
        slot = int(now / slot_s(quota.window, quota.limit))
        amount = amount_of(quota.window, demand, candidate.model)
        until = counts_until(quota.window, candidate.provider.clock, now)
        charges.append(Charge(quota.counter, slot, min(amount, quota.limit) if capped else amount, quota.limit, until))
    return tuple(charges)


def split_by_scarcity(charges: Iterable[Charge], quotas: Iterable[Quota]) -> tuple[list[Charge], list[Charge]]:
    """Return the charges that must be reserved, and those of which there is so much that counting them afterwards will do.

    `quotas` are those that the charges were built from, in their order.
    """
    scarce: list[Charge] = []
    ample: list[Charge] = []
    for charge, quota in zip(charges, quotas, strict=True):
        (ample if quota.left > AMPLE * charge.amount else scarce).append(charge)
    return scarce, ample


def build_counts(charges: Iterable[Charge]) -> list[Adjustment]:
    """Return what counts charges that nobody reserved."""
    return [Adjustment(charge.counter, charge.slot, charge.amount, charge.counts_until) for charge in charges]


def build_adjustments(charges: Iterable[Charge], usage: Usage, model: Model) -> list[Adjustment]:
    """Return what replaces the estimates of a reservation by what was used; requests stay as they were reserved."""
    adjustments = []
    for charge in charges:
        window = charge.counter.rpartition("|")[2]
        if window in _TOKENS:
            actual = usage.total_tokens
        elif window == "neurons":
            actual = neurons_for(usage, model)
        else:
            continue
        if actual != charge.amount:
            adjustments.append(Adjustment(charge.counter, charge.slot, actual - charge.amount, charge.counts_until))
    return adjustments


def build_readings(
    candidate: Candidate, readings: Iterable[QuotaReading], limits: Mapping[str, LearnedLimit], now: float
) -> list[Reading]:
    """Return what a provider's headers say of a candidate's quotas, or of its account's. `limits`: those learned before.

    One without a reset is good until the window's end. A limit of 0 is not believed: who has none refuses in words of
    its own.
    """
    built = []
    for reading in readings:
        if candidate.model.unlimited and not _is_of_account(candidate, reading.window):
            continue
        counter, limit = _told_of(candidate, reading, limits)
        unit, left = COUNTED.get(reading.window, 1), reading.remaining
        used = max(0, limit - left * unit) if limit is not None and left is not None else None
        named = reading.limit * unit if reading.limit else None
        built.append(Reading(counter, named, used, _good_until(candidate, reading, now), now + LEARNED_S))
    return built


def spent_until(
    candidate: Candidate, readings: Iterable[QuotaReading], limits: Mapping[str, LearnedLimit], now: float
) -> float | None:
    """Return until when a window has nothing left whose limit nobody knows, so that no quota tells; None where none is so."""
    spent = [
        _good_until(candidate, reading, now)
        for reading in readings
        if reading.remaining == 0 and reading.limit != 0 and _told_of(candidate, reading, limits)[1] is None
    ]
    return max(spent, default=None)


def _told_of(candidate: Candidate, reading: QuotaReading, limits: Mapping[str, LearnedLimit]) -> tuple[str, int | None]:
    """Return the counter that a reading is about, and its limit with that: its account's, where only that has such a one."""
    window, own, account = reading.window, candidate.model.limits, candidate.provider.account_limits
    of_account = _is_of_account(candidate, window)
    counter = counter_name(candidate.credential.id if of_account else candidate.id, window)
    if candidate.model.unlimited and not of_account:
        return counter, None
    learned, unit = limits.get(counter), COUNTED.get(window, 1)
    named = reading.limit * unit if reading.limit else learned.limit if learned else None
    known = account[window] * unit if of_account else own.get(window)
    return counter, _believed(known, named, builtin=candidate.model.builtin and not of_account)


def _is_of_account(candidate: Candidate, window: Window) -> bool:
    return window in candidate.provider.account_limits and window not in candidate.model.limits


def _good_until(candidate: Candidate, reading: QuotaReading, now: float) -> float:
    if reading.resets_in_s is not None:
        return now + reading.resets_in_s
    return counts_until(reading.window, candidate.provider.clock, now)


def neurons_for(usage: Usage, model: Model) -> int:
    """Return thousandths of Workers AI's neurons for a number of tokens, rounded up.

    0 where the row has no price: its 429 will tell.
    """
    prompt, completion = model.neurons_per_mtok or (0.0, 0.0)
    return math.ceil((usage.prompt_tokens * prompt + usage.completion_tokens * completion) * COUNTED["neurons"] / 1_000_000)


# --- what is left ----------------------------------------------------------------------------------------------------


def share_left(quotas: Iterable[Quota]) -> float:
    """Return how much of the tightest quota is left, from 0 to 1; 1 where nothing is limited."""
    return min([(q.limit - q.used) / q.limit if q.used < q.limit else 0.0 for q in quotas], default=1.0)


def full_until(quotas: Iterable[Quota]) -> float | None:
    """Return until when a quota that has nothing left keeps its candidate out, None where all have some.

    Infinity: a limit of 0 never has any.
    """
    full = [quota for quota in quotas if quota.used >= quota.limit]
    return max([q.resets_at if q.limit and q.resets_at else math.inf for q in full]) if full else None


def exhausted_at(quota: Quota, slots: Iterable[Slot], now: float) -> float | None:
    """Return when the quota runs out at its present rate, None where what comes back in time keeps up with it."""
    if not quota.left:
        return now
    span_s, size_s = MINUTE_S if quota.window in _MINUTES else RATE_S, slot_s(quota.window, quota.limit)
    recent = [slot for slot in slots if slot.number != CORRECTION and (slot.number + 1) * size_s > now - span_s]
    taken = sum(slot.used for slot in recent)
    if not taken:
        return None
    began = max(now - span_s, min(slot.number for slot in recent) * size_s)
    rate, ends = taken / max(LEAST_RATE_S, now - began), max(slot.counts_until for slot in recent)
    own = (slot for slot in slots if slot.number != CORRECTION)  # a provider's midnight is never quite ours
    if any(slot.counts_until != ends for slot in own) and rate * (ends - now) <= quota.limit:
        return None  # it slides: as much comes back as is taken
    runs_out = now + quota.left / rate
    return runs_out if runs_out < ends else None
