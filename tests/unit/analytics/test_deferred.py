import threading
import time

import pytest

from gateway.analytics import deferred as module
from gateway.analytics.deferred import Deferred
from gateway.telemetry import Counting, RequestRecord
from tests.conftest import RecordingTelemetry
from tests.unit.routing.conftest import candidate

RECORD = RequestRecord("req_1")


class Part(RecordingTelemetry, Counting):
    """Keeps what it is told, and how many requests that were whenever it was flushed."""

    def __init__(self):
        super().__init__()
        self.flushed: list[int] = []

    def flush(self):
        self.flushed.append(len(self.requests))


class Bench:
    def __init__(self):
        self.part = Part()
        self.deferred = Deferred(self.part)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(module, "DEFER_S", 60.0)  # nothing is told by itself
    return Bench()


def test_nothing_is_told_at_once_and_all_of_it_later(bench):
    deferred, part = bench.deferred, bench.part
    deferred.request_admitted()
    deferred.stream_began()
    deferred.attempt_ended(candidate("a/one"), "ok", 1.0)
    deferred.state_failed("write")
    deferred.request_ended(RECORD)
    assert (part.admitted, part.streams, part.requests, part.attempts, part.failed_verbs) == (0, 0, [], [], [])
    deferred.tell()
    assert (part.admitted, part.streams, part.requests) == (1, 1, [RECORD])
    assert (part.attempts, part.failed_verbs) == ([("a/one", "ok")], ["write"])
    assert bench.part.flushed == [1]


def test_it_is_told_by_itself_soon(monkeypatch):
    monkeypatch.setattr(module, "DEFER_S", 0.01)
    bench = Bench()
    for number in (1, 2, 3):
        bench.deferred.request_ended(RECORD)
        until = time.monotonic() + 5
        while len(bench.part.flushed) < number and time.monotonic() < until:
            time.sleep(0.005)
        assert bench.part.flushed == [1, 2, 3][:number]


def test_one_thread_waits_for_many_news(bench):
    before = threading.active_count()
    for _ in range(100):
        bench.deferred.request_ended(RECORD)
    assert threading.active_count() == before + 1


def test_without_a_thread_it_is_told_at_once(bench, monkeypatch):
    class Unstartable(threading.Timer):
        def start(self):
            raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading, "Timer", Unstartable)
        bench.deferred.request_ended(RECORD)
    assert bench.part.flushed == [1]
    bench.deferred.request_ended(RECORD)
    assert bench.part.flushed == [1]  # the next one finds a thread again


def test_threads_that_have_news_together_lose_none(bench):
    def work():
        for _ in range(300):
            bench.deferred.request_ended(RECORD)
            bench.deferred.tell()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bench.part.requests) == 1200
