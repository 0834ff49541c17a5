"""What was asked of real workers is what they say that they were asked: over kills and reloads, on SQLite and on Redis."""

import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.analytics.deferred import DEFER_S
from gateway.state.base import WRITE_BEHIND_S
from tests.unit.test_metrics import samples_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
ASK = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hello"}]}
KINDS = [  # path, fields, status
    (CHAT, ASK, 200),
    (CHAT, {**ASK, "project_id": "p", "stream": True}, 200),
    (EMBEDDINGS, {"model": "sandbox/embed", "input": "hello", "project_id": "q"}, 200),
    (CHAT, {**ASK, "model": "nobody's"}, 404),
    (CHAT, {**ASK, "messages": []}, 400),
]
THREADS = 16
KEPT_S = 0.5  # after which nothing is lost any more (contract: half a second)
PATIENCE_S = 8.0  # a machine that is busy with other things


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def state(request):
    return {} if request.param == "sqlite" else {"STATE_URL": request.getfixturevalue("empty_redis_url")}


@pytest.fixture
def gateway(start_gateway, state):
    with start_gateway(state, threads=THREADS) as gateway:
        yield gateway


def send(gateways, times):
    """Send so many requests of each kind, eight at a time, in turn to each gateway."""

    def ask(number):
        path, body, status = KINDS[number % len(KINDS)]
        assert gateways[number % len(gateways)].post(path, body).status == status

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(times * len(KINDS))))


def analytics(gateway, query=""):
    answer = gateway.get(f"/v1/analytics{query}")
    assert answer.status == 200, answer.body
    return answer.json


def metrics(gateway):
    """Return what each of a few scrapes found, some by this worker and some by that, when all have counted all."""
    time.sleep(KEPT_S)
    return [samples_of(gateway.get("/metrics").body.decode()) for _ in range(4)]


def in_the_end(check):
    """Call until it does not fail, for PATIENCE_S at most."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return check()
        except (AssertionError, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def workers_of(gateway):
    return [int(child) for child in Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()]


def folders_of(pid):
    """Return where a worker counts for /metrics."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {Path(line.split()[-1]).parent for line in lines if "/gateway-metrics-" in line}


def test_half_a_second_is_enough():
    assert DEFER_S + WRITE_BEHIND_S < KEPT_S


def test_figures_of_two_workers_are_what_was_sent(gateway):
    send([gateway], 40)
    refused = gateway.post(CHAT, ASK, {"Authorization": "Bearer wrong"})
    assert refused.status == 401

    def everything_is_counted():
        body = analytics(gateway, "?minutes=10")
        assert (body["total_requests"], body["successful_requests"], body["failed_requests"]) == (200, 120, 80)
        assert {name: entry["requests"] for name, entry in body["projects"].items()} == {"p": 40, "q": 40}
        assert {name: entry["requests"] for name, entry in body["models"].items()} == {"sandbox/echo": 80, "sandbox/embed": 40}
        assert body["providers"]["sandbox"]["successful"] == 120 and body["keys"]["default"]["requests"] == 200
        assert sum(minute["requests"] for minute in body["minutes"]) == 200
        assert sum(minute["providers"].get("sandbox", 0) for minute in body["minutes"]) == 120
        of_p = analytics(gateway, "?project_id=p&minutes=10")
        assert of_p["total_requests"] == sum(minute["requests"] for minute in of_p["minutes"]) == 40

    in_the_end(everything_is_counted)
    requests = gateway.get("/v1/requests?limit=500").json["data"]
    assert Counter(entry["status"] for entry in requests) == {200: 120, 404: 40, 400: 40}
    assert len({entry["id"] for entry in requests}) == 200
    moments = [entry["t"] for entry in requests]
    assert moments == sorted(moments, reverse=True)


def test_metrics_are_those_of_both_workers_whoever_is_asked(gateway):
    send([gateway], 20)
    assert len({frozenset(folders_of(worker)) for worker in workers_of(gateway)}) == 1
    for found in metrics(gateway):
        assert found["requests_total", "", "200", "chat"] == 40 and found["requests_total", "", "200", "embeddings"] == 20
        assert found["requests_total", "model_not_found", "404", "chat"] == 20
        assert found["attempts_total", "sandbox/echo", "ok", "sandbox"] == 40
        assert found["ttft_seconds_count", "sandbox"] == 20 and found["request_duration_seconds_count", "chat"] == 80
        assert (found["threads",], found["threads_busy",], found["streams_open",]) == (2 * THREADS, 0, 0)


def test_a_worker_that_is_killed_takes_nothing_with_it_that_ended_half_a_second_ago(gateway):
    send([gateway], 20)
    time.sleep(KEPT_S)
    killed = set(workers_of(gateway))
    with gateway.stream(CHAT, {**ASK, "model": "sandbox/stall", "stream": True}):  # one of them has it, and never ends it
        for worker in killed:
            os.kill(worker, signal.SIGKILL)

    def others_serve():
        assert len(workers_of(gateway)) == 2 and not killed & set(workers_of(gateway))
        assert metrics(gateway)[0]["threads",] == 2 * THREADS

    in_the_end(others_serve)
    for found in metrics(gateway):
        assert found["requests_total", "", "200", "chat"] == 40
        assert (found["threads_busy",], found["streams_open",]) == (0, 0)
    assert analytics(gateway)["total_requests"] == 100
    send([gateway], 1)
    assert metrics(gateway)[0]["requests_total", "", "200", "chat"] == 42
    in_the_end(lambda: check_total(gateway, 105))


def check_total(gateway, requests):
    assert analytics(gateway)["total_requests"] == requests


def test_a_reload_keeps_the_counters(gateway):
    (folder,) = folders_of(workers_of(gateway)[0])
    for reload in (1, 2, 3):
        send([gateway], 4)
        before = set(workers_of(gateway))
        os.kill(gateway.pid, signal.SIGHUP)

        def others_serve(before=before):
            assert len(workers_of(gateway)) == 2 and not before & set(workers_of(gateway))
            assert metrics(gateway)[0]["threads",] == 2 * THREADS

        in_the_end(others_serve)
        assert all(found["requests_total", "", "200", "chat"] == 8 * reload for found in metrics(gateway))
        assert folders_of(workers_of(gateway)[0]) == {folder}
    assert len(list(folder.glob("counter_*"))) <= 4  # old and new workers live at the same time
    in_the_end(lambda: check_total(gateway, 60))
    assert gateway.stop(grace_s=20) == 0 and not folder.exists()


@pytest.mark.redis
def test_two_gateways_on_one_redis_have_one_analytics_and_metrics_of_their_own(start_gateway, empty_redis_url):
    gateways = [start_gateway({"STATE_URL": empty_redis_url}, threads=THREADS) for _ in range(2)]
    send(gateways, 20)
    for gateway in gateways:
        in_the_end(lambda gateway=gateway: check_total(gateway, 100))
        assert len(gateway.get("/v1/requests?limit=500").json["data"]) == 100
    counts = [sum(value for name, value in metrics(one)[0].items() if name[0] == "attempts_total") for one in gateways]
    assert sum(counts) == 60 and all(counts)
