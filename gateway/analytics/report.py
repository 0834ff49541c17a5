"""The bodies of `/v1/analytics` and `/v1/requests` (contract §8). Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from gateway.analytics.series import DAYS, MINUTES, from_day_key, ttft_median
from gateway.state.base import Figures
from gateway.telemetry import RequestRecord


@dataclass(slots=True)
class Count:
    """Requests, those of them that were answered to the end, and their tokens."""

    requests: float = 0
    successful: float = 0
    prompt: float = 0
    completion: float = 0

    def add(self, amounts: Mapping[str, float]) -> None:
        self.requests += amounts.get("requests", 0)
        self.successful += amounts.get("successful", 0)
        self.prompt += amounts.get("prompt", 0)
        self.completion += amounts.get("completion", 0)

    def include(self, other: Count) -> None:
        self.requests += other.requests
        self.successful += other.successful
        self.prompt += other.prompt
        self.completion += other.completion

    @property
    def failed(self) -> int:
        return int(self.requests - self.successful)

    @property
    def tokens(self) -> dict[str, int]:
        return _tokens(self.prompt, self.completion)

    def to_body(self) -> dict[str, Any]:
        return {
            "requests": int(self.requests),
            "successful": int(self.successful),
            "failed": self.failed,
            "tokens": self.tokens,
        }


class Analytics:
    """Adds up the figures of days. What nobody served, or belongs to no project, counts in the totals alone."""

    def __init__(self) -> None:
        self._days: defaultdict[int, Count] = defaultdict(Count)
        self._rows: defaultdict[tuple[str, str], Count] = defaultdict(Count)  # by project and key, over all days

    def add(self, figures: Figures) -> None:
        """Add figures of the series DAYS."""
        for place, amounts in figures.items():
            self._days[place.slot].add(amounts)
            self._rows[place.group, place.key].add(amounts)

    def to_body(self, first_day: int, last_day: int) -> dict[str, Any]:
        """Return the body, with an entry for each of these days."""
        total, parts = Count(), {part: defaultdict[str, Count](Count) for part in ("providers", "models", "projects", "keys")}
        for (project, key), count in self._rows.items():
            total.include(count)
            client_key, upstream = from_day_key(key)
            provider, _, model = upstream.partition("/")
            for part, name in (("providers", provider), ("models", model), ("projects", project), ("keys", client_key)):
                if name:
                    parts[part][name].include(count)
        return {
            "total_requests": int(total.requests),
            "successful_requests": int(total.successful),
            "failed_requests": total.failed,
            "success_rate": round(total.successful / total.requests, 4) if total.requests else None,
            "tokens": total.tokens,
            **{part: _bodies(counts) for part, counts in parts.items()},
            "days": [{"date": _date(day), **self._days[day].to_body()} for day in range(first_day, last_day + 1)],
        }


def minutes_body(figures: Figures, first: int, last: int) -> list[dict[str, Any]]:
    """Return an entry for each of these minutes. `figures` are by provider, of MINUTES or PROJECT_MINUTES."""
    by_minute: defaultdict[int, dict[str, Mapping[str, float]]] = defaultdict(dict)
    for place, amounts in figures.items():
        by_minute[place.slot][place.key] = amounts
    return [_minute(minute, by_minute[minute]) for minute in range(first, last + 1)]


def _minute(minute: int, by_provider: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    count, sums = Count(), defaultdict[str, float](float)
    for amounts in by_provider.values():
        count.add(amounts)
        for name, amount in amounts.items():
            sums[name] += amount
    return {
        "t": _moment(int(minute * MINUTES.period_s)),
        "requests": int(count.requests),
        "successful": int(count.successful),
        "ttft_ms_p50": ttft_median(sums),
        "tokens": count.tokens,
        "providers": {provider: int(amounts.get("requests", 0)) for provider, amounts in by_provider.items() if provider},
    }


def request_body(record: RequestRecord) -> dict[str, Any]:
    """Return one request: when it ended and how, who asked, who served it, and nothing of its content."""
    return {
        "id": record.id,
        "t": _moment(int(record.ended_at)),
        "key": record.key,
        "project_id": record.project_id,
        "model": record.model,
        "served_by": record.served_by,
        "status": record.status,
        "attempts": len(record.attempts),
        "trail": " ".join(attempt.trail for attempt in record.attempts),
        "ttft_ms": None if record.ttft_ms is None else round(record.ttft_ms, 1),
        "duration_ms": round(record.duration_ms, 1),
        "tokens": _tokens(record.usage.prompt_tokens, record.usage.completion_tokens) if record.usage else None,
    }


def _tokens(prompt: float, completion: float) -> dict[str, int]:
    return {"prompt": int(prompt), "completion": int(completion), "total": int(prompt + completion)}


def _bodies(counts: Mapping[str, Count]) -> dict[str, Any]:
    """Return the entries by name, those with the most requests first."""
    return {name: counts[name].to_body() for name in sorted(counts, key=lambda name: (-counts[name].requests, name))}


def _date(day: int) -> str:
    return _moment(int(day * DAYS.period_s))[:10]


@lru_cache(maxsize=256)
def _moment(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
