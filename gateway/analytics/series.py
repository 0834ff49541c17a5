"""What is counted, over which periods, for how long it is kept, and how its keys are put together. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

MINUTE_S = 60.0
DAY_S = 86400.0  # of UTC
MOST_PROJECTS = 500  # by name in a day or a minute; those that come later are counted together
JOURNAL_LENGTH = 1000  # requests
REQUESTS = "requests"  # the journal of the last ones

TTFT_GROWTH = 1.1  # each of the buckets is so much wider than the one before: a median is right within 5%
_TTFT = "ttft:"  # and the number of a bucket: a field


@dataclass(frozen=True, slots=True)
class Series:
    """Figures by period, of which the last `kept` are kept, the present one included."""

    name: str
    period_s: float
    kept: int

    def slot_of(self, at: float) -> int:
        """Return the number of the period that a moment (epoch seconds) is in."""
        return int(at / self.period_s)

    def keep_until(self, slot: int) -> float:
        return (slot + self.kept) * self.period_s


ATTEMPTS = Series("attempts", DAY_S, 31)  # by `provider/id`
DAYS = Series("days", DAY_S, 90)  # in groups by project; by client's key and upstream
MINUTES = Series("minutes", MINUTE_S, 120)  # by provider
PROJECT_MINUTES = Series("project-minutes", MINUTE_S, 120)  # the same in groups by project
ALL = {series.name: series for series in (ATTEMPTS, DAYS, MINUTES, PROJECT_MINUTES)}


def day_key(client_key: str, upstream: str) -> str:
    """`upstream`: the `provider/id` that served a request, or was tried last; "": nobody was."""
    return f"{client_key} {upstream}"


def from_day_key(key: str) -> tuple[str, str]:
    """Return the client's key and the upstream."""
    client_key, _, upstream = key.partition(" ")
    return client_key, upstream


# --- times to the first token: how many fell into which bucket -------------------------------------------------------


def ttft_field(ttft_ms: float) -> str:
    """Return the field that counts a time."""
    return f"{_TTFT}{math.ceil(math.log(max(1.0, ttft_ms), TTFT_GROWTH))}"


def without_times(amounts: Mapping[str, float]) -> dict[str, float]:
    return {name: amount for name, amount in amounts.items() if not name.startswith(_TTFT)}


def ttft_median(amounts: Mapping[str, float]) -> float | None:
    """Return the median of the times that these amounts hold, in milliseconds, None where there are none."""
    buckets = sorted((int(name.removeprefix(_TTFT)), count) for name, count in amounts.items() if name.startswith(_TTFT))
    half = sum(count for _, count in buckets) / 2
    for bucket, count in buckets:
        half -= count
        if half <= 0:
            return round(math.pow(TTFT_GROWTH, bucket - 0.5), 1)
    return None
