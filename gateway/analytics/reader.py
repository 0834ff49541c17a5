"""Reads what all workers and machines counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway import jsonio
from gateway.analytics.report import Analytics, minutes_body
from gateway.analytics.series import ATTEMPTS, DAYS, MINUTES, PROJECT_MINUTES, REQUESTS
from gateway.state.base import Figures, StateStore

DAYS_AT_A_TIME = 7  # read together: what other requests wait for at most


class Reader:
    """Every method blocks as the store does, and raises StateError where that does not answer: nothing is not none.

    `catch_up` is called before: it has this process's own news written.
    """

    def __init__(self, store: StateStore, catch_up: Callable[[], None]) -> None:
        self._store = store
        self._catch_up = catch_up

    def analytics(self, *, project: str | None, days: int, minutes: int) -> dict[str, Any]:
        """Return the body of `/v1/analytics`: of one project or of all, over so many days and of so many minutes."""
        self._catch_up()
        now, sums = self._store.now(), Analytics()
        today = DAYS.slot_of(now)
        first_day = today - days + 1
        for first in range(first_day, today + 1, DAYS_AT_A_TIME):
            sums.add(self._store.figures(DAYS.name, first, min(first + DAYS_AT_A_TIME - 1, today), group=project))
        body = sums.to_body(first_day, today)
        if minutes:
            series, last = PROJECT_MINUTES if project else MINUTES, MINUTES.slot_of(now)
            figures = self._store.figures(series.name, last - minutes + 1, last, group=project)
            body["minutes"] = minutes_body(figures, last - minutes + 1, last)
        return body

    def last_requests(self, count: int) -> list[dict[str, Any]]:
        """Return at most so many of the last requests, the newest first."""
        self._catch_up()
        return [jsonio.loads(entry) for entry in self._store.newest(REQUESTS, count)]

    def attempts(self, days: int) -> Figures:
        """Return the attempts of the last days, today included, by day and by model's name."""
        self._catch_up()
        today = ATTEMPTS.slot_of(self._store.now())
        return self._store.figures(ATTEMPTS.name, today - days + 1, today)
