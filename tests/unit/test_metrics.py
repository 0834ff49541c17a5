"""What is counted for Prometheus, in one process and where several take turns."""

import os
import stat
from typing import Any

import pytest
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families

from gateway.domain import Usage
from gateway.metrics import PrometheusTelemetry, Shared, WorkerNumbers, count_as_worker
from gateway.telemetry import RequestRecord
from tests.unit.routing.conftest import candidate

NOTHING = Shared((), ())
THREADS = 8


def samples_of(text):
    """Return the samples of an exposition: by name and the values of the labels in the order of the labels' names."""
    return {
        (sample.name.removeprefix("gateway_"), *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def counted(telemetry, shared=NOTHING):
    telemetry.flush()
    body, content_type = telemetry.expose("", shared)
    assert content_type.startswith("text/plain; version=0.0.4")
    return {name: value for name, value in samples_of(body.decode()).items() if value}


def record(**fields):
    usual: dict[str, Any] = {"surface": "chat", "status": 200}
    return RequestRecord("req_1", **(usual | fields))


@pytest.fixture
def telemetry():
    return PrometheusTelemetry(THREADS)


THREADS_OF_ONE = {("threads",): THREADS}


def test_requests_are_counted_by_surface_status_and_error(telemetry):
    for fields in ({}, {}, {"error": "upstream_error"}, {"status": 499}, {"surface": "unknown", "status": 404}):
        telemetry.request_ended(record(**fields))
    found = counted(telemetry)
    assert {name: value for name, value in found.items() if name[0] == "requests_total"} == {
        ("requests_total", "", "200", "chat"): 2,
        ("requests_total", "upstream_error", "200", "chat"): 1,
        ("requests_total", "", "499", "chat"): 1,
        ("requests_total", "", "404", "unknown"): 1,
    }


def test_times_fall_into_buckets(telemetry):
    for ttft_ms in (40, 2500):
        telemetry.request_ended(record(served_by="groq/llama", ttft_ms=ttft_ms, duration_ms=ttft_ms * 2))
    telemetry.request_ended(record(duration_ms=4.0))  # in one piece
    found = counted(telemetry)
    assert found["ttft_seconds_count", "groq"] == 2 and found["ttft_seconds_sum", "groq"] == pytest.approx(2.54)
    assert (found["ttft_seconds_bucket", "0.05", "groq"], found["ttft_seconds_bucket", "3.0", "groq"]) == (1, 2)
    assert found["request_duration_seconds_count", "chat"] == 3
    assert found["request_duration_seconds_bucket", "0.1", "chat"] == 2


def test_tokens_are_those_of_who_served(telemetry):
    telemetry.request_ended(record(served_by="groq/a/b", usage=Usage(10, 5)))
    telemetry.request_ended(record(served_by="groq/a/b", usage=Usage(-1, 5)))  # a provider that counts oddly
    found = counted(telemetry)
    assert (found["tokens_total", "prompt", "a/b", "groq"], found["tokens_total", "completion", "a/b", "groq"]) == (10, 10)


def test_attempts_are_counted_by_how_they_ended(telemetry):
    one = candidate("a/one")
    for outcome in ("ok", "ok", "failed:empty", "abandoned", "failed:timeout"):
        telemetry.attempt_ended(one, outcome, 1.0, rested=outcome == "failed:timeout")
    assert counted(telemetry) == THREADS_OF_ONE | {
        ("attempts_total", "one", "ok", "a"): 2,
        ("attempts_total", "one", "empty", "a"): 1,
        ("attempts_total", "one", "abandoned", "a"): 1,
        ("attempts_total", "one", "timeout", "a"): 1,
        ("cooldowns_total", "one", "a"): 1,
    }


def test_what_is_under_way_comes_and_goes(telemetry):
    telemetry.request_admitted()
    telemetry.request_admitted()
    telemetry.stream_began()
    found = counted(telemetry)
    assert (found["threads_busy",], found["streams_open",]) == (2, 1)
    telemetry.request_ended(record(admitted=True, streamed=True))
    telemetry.request_ended(record(admitted=False, for_models=True, status=503, error="gateway_busy"))
    found = counted(telemetry)
    assert (found["threads_busy",], found.get(("streams_open",)), found["sheds_total",]) == (1, None, 1)


def test_what_the_state_store_did_not_answer_is_counted(telemetry):
    telemetry.state_failed("reserve")
    assert counted(telemetry)["state_errors_total", "reserve"] == 1


def test_what_all_workers_see_alike(telemetry):
    quota = {"provider": "a", "model": "m", "credential": 1, "window": "rpm", "limit": 30, "remaining": 12}
    shared = Shared([quota, {**quota, "model": None, "window": "rpd"}], [("a", "m", 1, 9.5)])
    assert counted(telemetry, shared) == THREADS_OF_ONE | {
        ("quota_limit", "1", "m", "a", "rpm"): 30,
        ("quota_remaining", "1", "m", "a", "rpm"): 12,
        ("quota_limit", "1", "", "a", "rpd"): 30,
        ("quota_remaining", "1", "", "a", "rpd"): 12,
        ("cooldown_seconds", "1", "m", "a"): 9.5,
    }


def test_whoever_prefers_openmetrics_gets_it(telemetry):
    body, content_type = telemetry.expose("application/openmetrics-text; version=1.0.0", NOTHING)
    assert content_type.startswith("application/openmetrics-text") and body.endswith(b"# EOF\n")


# --- several workers -------------------------------------------------------------------------------------------------


@pytest.fixture
def numbers(monkeypatch):
    numbers = WorkerNumbers()
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)  # put back afterwards
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", numbers.folder)
    yield numbers
    numbers.close()


def worker(numbers):
    """Begin to count as another worker does; what counted before in this process is not asked any more."""
    number = numbers.take()
    count_as_worker(number)
    return number, PrometheusTelemetry(THREADS)


def test_workers_that_live_have_numbers_of_their_own_and_the_next_takes_the_lowest(numbers):
    assert [numbers.take() for _ in range(3)] == [0, 1, 2]
    numbers.give_back(1)
    assert [numbers.take() for _ in range(2)] == [1, 3]


def test_what_workers_count_is_summed_up(numbers):
    for _ in range(2):
        _, telemetry = worker(numbers)
        telemetry.request_admitted()
        telemetry.request_ended(record(duration_ms=20.0))
        telemetry.flush()
    found = counted(telemetry)
    assert found["requests_total", "", "200", "chat"] == 2
    assert found["request_duration_seconds_bucket", "0.025", "chat"] == 2
    assert (found["threads_busy",], found["threads",]) == (2, 2 * THREADS)


def test_a_worker_goes_on_with_the_counters_of_a_dead_one_and_not_with_what_it_had_open(numbers):
    number, telemetry = worker(numbers)
    telemetry.request_admitted()
    telemetry.stream_began()
    telemetry.request_ended(record())
    telemetry.flush()
    numbers.give_back(number)
    found = counted(telemetry)
    assert found["requests_total", "", "200", "chat"] == 1
    assert not {("threads_busy",), ("streams_open",), ("threads",)} & set(found)
    again, telemetry = worker(numbers)
    telemetry.request_ended(record())
    found = counted(telemetry)
    assert again == number and found["requests_total", "", "200", "chat"] == 2 and found["threads",] == THREADS


def test_files_do_not_pile_up(numbers):
    for _ in range(5):
        number, telemetry = worker(numbers)
        telemetry.request_ended(record())
        telemetry.flush()
        numbers.give_back(number)
    assert sorted(os.listdir(numbers.folder)) == ["counter_0.db", "histogram_0.db"]


def test_the_folder_is_the_master_s_alone_and_goes_with_it(numbers):
    assert stat.S_IMODE(os.stat(numbers.folder).st_mode) == 0o700
    numbers.close()
    assert not os.path.exists(numbers.folder)
    numbers.close()
