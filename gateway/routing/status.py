"""What would be tried next and why not the others; what is left of each quota; how each model is doing. Pure.

The bodies of `/v1/routing/status`, `/v1/quota`, `/health` and `/v1/stats/providers` (contract §8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from gateway.domain import Candidate, Model, ReasoningEffort
from gateway.errors import StateError
from gateway.inventory import Inventory
from gateway.routing import headroom
from gateway.routing.candidates import Plan
from gateway.routing.headroom import Quota
from gateway.routing.ledger import Ledger
from gateway.routing.outlook import Moment, Standing, iso
from gateway.routing.ranking import scorer_for
from gateway.state.base import Figures

Figure = Mapping[str, float]


# --- routing -----------------------------------------------------------------------------------------------------------


def routing_status(
    model: str, plan: Plan, ledger: Ledger, effort: ReasoningEffort | None, unknown: Mapping[str, Iterable[str]]
) -> dict[str, Any]:
    """Return every candidate of a request in the order of its score: near-equals change places from call to call."""
    moment = ledger.moment(fresh=True)
    entries = [_entry(candidate, plan, ledger, moment, effort) for candidate in plan.candidates]
    ranks = _ranks(plan, {entry["_id"]: entry for entry in entries if entry["out_because"] is None}, ledger.silent_models())
    for entry in entries:
        entry["rank"] = ranks.get(entry.pop("_id"))
    entries.sort(key=lambda entry: (entry["rank"] is None, entry["rank"] or 0, -(entry["score"] or 0.0)))
    entries += [_left_out(candidate, why) for candidate, why in plan.left_out]
    return {
        "object": "routing_status",
        "model": model,
        "candidates": entries,
        "unknown_upstream_models": {provider: list(ids) for provider, ids in unknown.items()},
    }


def _entry(candidate: Candidate, plan: Plan, ledger: Ledger, moment: Moment, effort: ReasoningEffort | None) -> dict[str, Any]:
    standing, calls = moment.standing(candidate, moment.snapshot.now), ledger.calls_in_flight(candidate)
    scorer = scorer_for(plan.profile, effort)
    out = standing.out
    return {
        "_id": candidate.id,
        "provider": candidate.provider.key,
        "model": candidate.model.id,
        "credential": candidate.credential.number,
        "rank": None,
        "score": round(scorer.score(candidate.model, standing.merits, calls), 4),
        "terms": {name: round(term, 4) for name, term in scorer.terms(candidate.model, standing.merits, calls).items()},
        "out_because": out.because if out else None,
        "until": iso(out.until) if out else None,
        "probe": bool(standing.probes) and out is None,
    }


def _ranks(plan: Plan, entries: Mapping[str, Mapping[str, Any]], silent: Set[str]) -> dict[str, int]:
    """Return the place of each candidate that is not out: the caller's choices in order, within each by score.

    As in the attempt loop, the best of those that may be back goes first, and others like it last, behind those whose model
    is silent.
    """
    order: list[str] = []
    for choice in plan.choices:
        there = [candidate for candidate in choice if candidate.id in entries]
        there.sort(key=lambda c: (c.model.name in silent, -entries[c.id]["score"]))
        by_score = [candidate.id for candidate in there]
        back = [id_ for id_ in by_score if entries[id_]["probe"]]
        order += [*back[:1], *(id_ for id_ in by_score if id_ not in back), *back[1:]]
    return {id_: place for place, id_ in enumerate(order, start=1)}


def _left_out(candidate: Candidate, why: str) -> dict[str, Any]:
    return {
        "provider": candidate.provider.key,
        "model": candidate.model.id,
        "credential": candidate.credential.number,
        "rank": None,
        "score": None,
        "terms": {},
        "out_because": why,
        "until": None,
        "probe": False,
    }


# --- quotas ------------------------------------------------------------------------------------------------------------


def quota_status(inventory: Inventory, ledger: Ledger) -> dict[str, Any]:
    """Return every quota of every model that can be called, an account's once.

    :raises StateError: the store does not answer, so that nobody knows what is left.
    """
    moment = ledger.moment(fresh=True)
    if not moment.snapshot.knows_counts:
        raise StateError("what is taken of quotas is not known")
    entries: dict[str, dict[str, Any]] = {}
    for candidate in _candidates(inventory):
        for quota in moment.standing(candidate, moment.snapshot.now).quotas:
            if quota.counter not in entries:
                entries[quota.counter] = _quota_entry(candidate, quota, moment)
    return {"object": "quota", "data": list(entries.values())}


def _quota_entry(candidate: Candidate, quota: Quota, moment: Moment) -> dict[str, Any]:
    slots = moment.snapshot.counts.get(quota.counter, ())
    of_model = quota.counter.startswith(candidate.id)
    limit, used = headroom.in_window_units(quota, quota.limit), headroom.in_window_units(quota, quota.used)
    return {
        "provider": candidate.provider.key,
        "model": candidate.model.id if of_model else None,
        "credential": candidate.credential.number,
        "window": quota.window,
        "limit": limit,
        "used": used,
        "remaining": max(0, limit - used),
        "resets_at": iso(quota.resets_at),
        "exhausted_at": iso(headroom.exhausted_at(quota, slots, moment.snapshot.now)),
        "source": "provider" if quota.learned else "catalog",
    }


# --- rests -------------------------------------------------------------------------------------------------------------


def resting(inventory: Inventory, ledger: Ledger) -> list[tuple[str, str, int, float]]:
    """Return provider, model and credential's number of everybody who rests, and for how many seconds more."""
    moment, now = ledger.moment(), ledger.now()
    outs = ((candidate, moment.standing(candidate, now).out) for candidate in _candidates(inventory))
    return [
        (candidate.provider.key, candidate.model.id, candidate.credential.number, out.until - now)
        for candidate, out in outs
        if out and out.because == "cooldown"
    ]


# --- health ------------------------------------------------------------------------------------------------------------


def health_status(inventory: Inventory, ledger: Ledger, today: Figures) -> dict[str, Any]:
    """Return how each model is doing. `today`: the figures of attempts of this UTC day.

    A model is healthy while one of its candidates can be tried. "degraded": a model that `auto` could use is not. It is
    what requests share (`Ledger.moment`), so that asking often costs the store nothing.
    """
    moment, now = ledger.moment(), ledger.now()
    attempts = {place.key: amounts.get("attempts", 0.0) for place, amounts in today.items()}
    shared = _shared_ids(inventory)
    models = {
        model.name if model.id in shared else model.id: _health_entry(
            model, inventory, moment, now, attempts.get(model.name, 0.0)
        )
        for model in inventory.listed
    }
    matter = {model.name if model.id in shared else model.id for model in inventory.auto_models}
    well = all(entry["healthy"] for name, entry in models.items() if name in matter)
    return {"status": "ok" if well else "degraded", "models": models}


def model_health(model: Model, inventory: Inventory, ledger: Ledger, today: Figures) -> dict[str, Any]:
    """Return how one model is doing, as `health_status` has it."""
    attempts = sum(amounts.get("attempts", 0.0) for place, amounts in today.items() if place.key == model.name)
    return _health_entry(model, inventory, ledger.moment(), ledger.now(), attempts)


def _health_entry(model: Model, inventory: Inventory, moment: Moment, now: float, attempts_today: float) -> dict[str, Any]:
    candidates = inventory.candidates(model)
    outs = [moment.standing(candidate, now).out for candidate in candidates]
    resting = [out for out in outs if out and out.because == "cooldown"]
    health = moment.health(model.name)
    days = [quota for candidate in candidates for quota in _own_days(candidate, moment.standing(candidate, now))]
    return {
        "provider": candidates[0].provider.key,
        "healthy": any(out is None for out in outs),
        "success_rate": _rounded(health.success_rate, 4),
        "avg_latency_ms": _rounded(health.whole_s, 1, 1000),
        "ttft_ms": _rounded(health.ttft_s, 1, 1000),
        "in_cooldown": len(resting) == len(outs),
        "cooldown_until": iso(min(out.until for out in resting)) if resting and len(resting) == len(outs) else None,
        "daily_requests": sum(quota.used for quota in days) if days else int(attempts_today),
        "daily_limit": sum(quota.limit for quota in days) if days else None,
    }


def _own_days(candidate: Candidate, standing: Standing) -> list[Quota]:
    """Return the quota of requests a day that is this model's alone, if it has one: as `/v1/quota` tells it."""
    return [quota for quota in standing.quotas if quota.window == "rpd" and quota.counter.startswith(candidate.id)]


def _shared_ids(inventory: Inventory) -> set[str]:
    seen: set[str] = set()
    return {model.id for model in inventory.listed if model.id in seen or seen.add(model.id)}  # type: ignore[func-returns-value]


# --- figures by provider -----------------------------------------------------------------------------------------------


def provider_stats(inventory: Inventory, ledger: Ledger, figures: Figures) -> dict[str, Any]:
    """Return the figures of each provider over the days that `figures` holds."""
    moment = ledger.moment(fresh=True)
    by_model: dict[str, dict[str, float]] = {}
    for place, amounts in figures.items():
        sums = by_model.setdefault(place.key, {})
        for field, amount in amounts.items():
            sums[field] = sums.get(field, 0.0) + amount
    providers: dict[str, list[Model]] = {}
    for model in inventory.listed:
        providers.setdefault(inventory.candidates(model)[0].provider.key, []).append(model)
    return {"stats": [_stats_entry(key, models, inventory, moment, by_model) for key, models in providers.items()]}


def _stats_entry(
    provider: str, models: list[Model], inventory: Inventory, moment: Moment, by_model: Mapping[str, Figure]
) -> dict[str, Any]:
    sums: dict[str, float] = {}
    for model in models:
        for field, amount in by_model.get(model.name, {}).items():
            sums[field] = sums.get(field, 0.0) + amount
    attempts, answered = sums.get("attempts", 0.0), sums.get("ok", 0.0)
    throttled = sums.get("failed:rate_limited", 0.0) + sums.get("failed:quota", 0.0)
    failures = {field.removeprefix("failed:"): int(n) for field, n in sums.items() if field.startswith("failed:")}
    outs = [
        [moment.standing(candidate, moment.snapshot.now).out for candidate in inventory.candidates(model)] for model in models
    ]
    return {
        "provider": provider,
        "total_models": len(models),
        "active_models": sum(any(out is None for out in of_model) for of_model in outs),
        "total_attempts": int(attempts),
        "success_rate": round(answered / attempts, 4) if attempts else None,
        "throttle_count": int(throttled),
        "throttle_rate": round(throttled / attempts, 4) if attempts else 0.0,
        "avg_latency_ms": round(sums.get("ok_ms", 0.0) / answered, 1) if answered else None,
        "cooldown_events": int(sums.get("cooldowns", 0.0)),
        "models_in_cooldown": sum(all(out and out.because == "cooldown" for out in of_model) for of_model in outs),
        "failure_breakdown": failures,
    }


# --- pieces ------------------------------------------------------------------------------------------------------------


def _candidates(inventory: Inventory) -> Iterable[Candidate]:
    return (candidate for model in inventory.listed for candidate in inventory.candidates(model))


def _rounded(value: float | None, digits: int, factor: float = 1.0) -> float | None:
    return None if value is None else round(value * factor, digits)
