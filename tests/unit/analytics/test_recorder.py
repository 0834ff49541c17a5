from typing import Any

import pytest

from gateway.analytics.reader import Reader
from gateway.analytics.recorder import Recorder
from gateway.analytics.series import ATTEMPTS, DAYS, JOURNAL_LENGTH, MINUTES, MOST_PROJECTS, PROJECT_MINUTES, ttft_field
from gateway.domain import Attempt, Usage
from gateway.state.base import OTHERS, Entries, Tally
from gateway.state.memory import MemoryStore
from gateway.telemetry import RequestRecord
from tests.unit.routing.conftest import Clock, candidate

DAY, MINUTE = 20_000, 20_000 * 24 * 60 + 600  # ten o'clock


class Store(MemoryStore):
    """Keeps what it was told to write."""

    def __init__(self, clock):
        super().__init__(clock)
        self.batches = []

    def write(self, changes):
        self.batches.append(list(changes))
        super().write(changes)


@pytest.fixture
def clock():
    clock = Clock()
    clock.now = MINUTE * 60.0
    return clock


@pytest.fixture
def store(clock):
    return Store(clock)


@pytest.fixture
def recorder(store):
    return Recorder(store)


def record(**fields):
    usual: dict[str, Any] = {
        "for_models": True,
        "key": "alice",
        "status": 200,
        "served_by": "groq/llama",
        "usage": Usage(10, 5),
        "ended_at": MINUTE * 60.0,
    }
    return RequestRecord("req_1", **(usual | fields))


def everything(recorder, series, project=None):
    recorder.flush()
    return recorder._store.figures(series.name, 0, 1 << 40, group=project)


def last_requests(recorder, count):
    return Reader(recorder._store, catch_up=recorder.flush).last_requests(count)


def test_a_request_counts_for_its_day_and_its_minute(recorder):
    recorder.request_ended(record(ttft_ms=120.0))
    amounts = {"requests": 1, "successful": 1, "prompt": 10, "completion": 5}
    assert everything(recorder, DAYS) == {(DAY, "", "alice groq/llama"): amounts}
    assert everything(recorder, MINUTES) == {(MINUTE, "", "groq"): {**amounts, ttft_field(120.0): 1}}
    assert everything(recorder, PROJECT_MINUTES) == {}


def test_a_request_of_a_project_counts_for_it(recorder):
    recorder.request_ended(record(project_id="p"))
    recorder.request_ended(record())
    assert everything(recorder, DAYS, project="p")[DAY, "p", "alice groq/llama"]["requests"] == 1
    assert everything(recorder, PROJECT_MINUTES) == {
        (MINUTE, "p", "groq"): {"requests": 1, "successful": 1, "prompt": 10, "completion": 5}
    }
    assert everything(recorder, MINUTES)[MINUTE, "", "groq"]["requests"] == 2


FAILED = {
    "that nobody served": record(status=404, served_by=None, usage=None),
    "that failed at a provider": record(status=502, served_by=None, usage=None, attempts=[Attempt("groq", "llama", "500")]),
    "whose stream broke": record(error="upstream_error", usage=None),
    "whose client left": record(status=499, usage=None),
}


@pytest.mark.parametrize("failed", FAILED.values(), ids=list(FAILED))
def test_a_request_that_failed_is_no_successful_one(recorder, failed):
    recorder.request_ended(failed)
    key = f"alice {failed.upstream or ''}"
    assert everything(recorder, DAYS) == {(DAY, "", key): {"requests": 1}}


def test_what_is_not_for_models_is_not_counted(recorder, store):
    recorder.request_ended(record(for_models=False))
    recorder.flush()
    assert store.batches == []


def test_each_request_counts_for_the_time_at_which_it_ended(recorder):
    for later_s in (0, 60, 14 * 3600 - 1, 14 * 3600):
        recorder.request_ended(record(ended_at=MINUTE * 60.0 + later_s))
    assert {place.slot for place in everything(recorder, MINUTES)} == {MINUTE, MINUTE + 1, MINUTE + 839, MINUTE + 840}
    assert {place.slot: amounts["requests"] for place, amounts in everything(recorder, DAYS).items()} == {DAY: 3, DAY + 1: 1}


def test_many_requests_are_one_batch_of_few_changes(recorder, store):
    for _ in range(500):
        recorder.request_ended(record(project_id="p", ttft_ms=100.0))
        recorder.attempt_ended(candidate("groq/llama"), "ok", 20.0)
    recorder.flush()
    (batch,) = store.batches
    assert [type(change) for change in batch] == [Tally] * 4 + [Entries]
    assert all(change.amounts.get("requests", 500) == 500 for change in batch if isinstance(change, Tally))
    recorder.flush()
    assert len(store.batches) == 1


def test_attempts_are_counted_by_model_and_how_they_ended(recorder):
    one = candidate("a/one")
    recorder.attempt_ended(one, "ok", 20.0)
    recorder.attempt_ended(one, "ok", 30.0)
    recorder.attempt_ended(one, "failed:timeout", 9.0, rested=True)
    recorder.attempt_ended(one, "abandoned", 9.0)
    assert everything(recorder, ATTEMPTS) == {
        (DAY, "", "a/one"): {"attempts": 3, "ok": 2, "ok_ms": 50.0, "failed:timeout": 1, "cooldowns": 1}
    }


def test_projects_beyond_the_most_are_counted_together(recorder):
    for number in range(MOST_PROJECTS + 10):
        recorder.request_ended(record(project_id=f"p{number}"))
    for series, slot in ((DAYS, DAY), (PROJECT_MINUTES, MINUTE)):
        figures = everything(recorder, series)
        assert len(figures) == MOST_PROJECTS + 1
        assert sum(amounts["requests"] for place, amounts in figures.items() if place.group == OTHERS) == 10
        assert {place.slot for place in figures} == {slot}


def test_the_last_requests_tell_who_asked_who_served_and_how_it_ended(recorder):
    attempts = [Attempt("a", "x", "429"), Attempt("groq", "llama", "ok")]
    recorder.request_ended(record(project_id="p", model="auto", ttft_ms=12.34, duration_ms=56.78, attempts=attempts))
    unserved = record(model="nob\ud83d", status=404, error="x", served_by=None, usage=None, ended_at=MINUTE * 60 + 1.0)
    recorder.request_ended(unserved)
    later, earlier = last_requests(recorder, 9)
    assert earlier == {
        "id": "req_1",
        "t": "2024-10-04T10:00:00Z",
        "key": "alice",
        "project_id": "p",
        "model": "auto",
        "served_by": "groq/llama",
        "status": 200,
        "attempts": 2,
        "trail": "a/x:429 groq/llama:ok",
        "ttft_ms": 12.3,
        "duration_ms": 56.8,
        "tokens": {"prompt": 10, "completion": 5, "total": 15},
    }
    assert (later["model"], later["status"], later["tokens"], later["trail"]) == ("nob\ud83d", 404, None, "")
    assert last_requests(recorder, 1) == [later]


def test_the_last_requests_are_so_many_and_no_more(recorder):
    for number in range(JOURNAL_LENGTH + 5):
        recorder.request_ended(record(model=str(number), ended_at=MINUTE * 60.0 + number))
        if number % 400 == 0:
            recorder.flush()
    found = last_requests(recorder, JOURNAL_LENGTH + 5)
    assert [entry["model"] for entry in found] == [str(number) for number in range(JOURNAL_LENGTH + 4, 4, -1)]
