"""Counts requests and attempts where all workers and machines count together."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping

from gateway import jsonio
from gateway.analytics.report import request_body
from gateway.analytics.series import (
    ALL,
    ATTEMPTS,
    DAYS,
    JOURNAL_LENGTH,
    MINUTES,
    MOST_PROJECTS,
    PROJECT_MINUTES,
    REQUESTS,
    day_key,
    ttft_field,
    without_times,
)
from gateway.domain import Candidate
from gateway.state.base import Entries, StateStore, Tally
from gateway.telemetry import Counting, RequestRecord

Row = tuple[str, int, str, str]  # series, slot, group and key
Sums = dict[str, float]


class Recorder(Counting):
    """Writes few changes, however many requests there were."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._requests: defaultdict[tuple[int, str, str, str], Sums] = defaultdict(dict)  # by minute, project, key and upstream
        self._attempts: defaultdict[str, Sums] = defaultdict(dict)  # by model's name
        self._ended: deque[RequestRecord] = deque(maxlen=JOURNAL_LENGTH)

    def request_ended(self, record: RequestRecord) -> None:
        if not record.for_models or record.key is None:
            return
        minute = MINUTES.slot_of(record.ended_at)
        sums = self._requests[minute, record.project_id or "", record.key, record.upstream or ""]
        add(sums, "requests", 1)
        if record.successful:
            add(sums, "successful", 1)
        if record.usage:
            add(sums, "prompt", record.usage.prompt_tokens)
            add(sums, "completion", record.usage.completion_tokens)
        if record.ttft_ms is not None:
            add(sums, ttft_field(record.ttft_ms), 1)
        self._ended.append(record)

    def attempt_ended(self, candidate: Candidate, outcome: str, ms: float, *, rested: bool = False) -> None:
        if outcome == "abandoned":
            return
        sums = self._attempts[candidate.model.name]
        add(sums, "attempts", 1)
        add(sums, outcome, 1)
        if outcome == "ok":
            add(sums, "ok_ms", ms)
        if rested:
            add(sums, "cooldowns", 1)

    def flush(self) -> None:
        """Have it kept: does not block."""
        changes: list[Tally | Entries] = [tally_of(row, sums) for row, sums in self._rows().items()]
        if self._ended:
            entries = tuple((record.ended_at, jsonio.dumps(request_body(record)).decode()) for record in self._ended)
            changes.append(Entries(REQUESTS, entries, JOURNAL_LENGTH))
        if changes:
            self._store.write(changes)
        self._requests.clear()
        self._attempts.clear()
        self._ended.clear()

    def _rows(self) -> Mapping[Row, Sums]:
        rows: defaultdict[Row, Sums] = defaultdict(dict)
        today = ATTEMPTS.slot_of(self._store.now())
        for model, sums in self._attempts.items():
            rows[ATTEMPTS.name, today, "", model] = dict(sums)
        for (minute, project, key, upstream), sums in self._requests.items():
            day, provider = DAYS.slot_of(minute * MINUTES.period_s), upstream.partition("/")[0]
            add_all(rows[DAYS.name, day, project, day_key(key, upstream)], without_times(sums))
            add_all(rows[MINUTES.name, minute, "", provider], sums)
            if project:
                add_all(rows[PROJECT_MINUTES.name, minute, project, provider], sums)
        return rows


def add(sums: Sums, field: str, amount: float) -> None:
    sums[field] = sums.get(field, 0) + amount


def add_all(sums: Sums, amounts: Mapping[str, float]) -> None:
    for field, amount in amounts.items():
        add(sums, field, amount)


def tally_of(row: Row, sums: Sums) -> Tally:
    series, slot, group, key = row
    return Tally(series, slot, key, sums, ALL[series].keep_until(slot), group, MOST_PROJECTS)
