"""Quotas over real workers, kills and restarts, on SQLite and on a real redis-server; and callers who wait for them."""

import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.simulator import reply
from tests.state.conftest import eventually

pytestmark = pytest.mark.e2e

LIMIT = 7
ASK = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
PATIENT = "tests.e2e.patient:app"  # a store that is late refuses nobody
POOL = tuple(f"pool-{n}" for n in range(4))
POOL_LIMIT = 25


def catalog(simulator, models):
    """Return a catalog of one plain provider for each (key, model, limits)."""
    base_url = simulator.base_url("plain")
    rows = [f'[[providers]]\nkey = "{key}"\nbase_url = "{base_url}"\n' for key in {key for key, _, _ in models}]
    rows += [f'[[models]]\nprovider = "{key}"\nid = "{model}"\nlimits = {limits}\n' for key, model, limits in models]
    return "\n".join(rows)


@pytest.fixture
def limited(simulator, tmp_path):
    """The variables of a gateway with one model, and a limit a minute."""
    path = tmp_path / "limited.toml"
    path.write_text(catalog(simulator, [("limited", "m", f"{{ rpm = {LIMIT} }}")]))
    return {"GATEWAY_CATALOG": str(path), "GATEWAY_SANDBOX": "off"}


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def state(request):
    return {} if request.param == "sqlite" else {"STATE_URL": request.getfixturevalue("empty_redis_url")}


def ask_at_once(gateways, times, body=ASK):
    """Send so many requests at the same moment, in turn to each gateway; return the answers."""
    ready = threading.Barrier(times)

    def ask(number):
        ready.wait(30)
        return gateways[number % len(gateways)].post("/v1/chat/completions", body)

    with ThreadPoolExecutor(times) as threads:
        return list(threads.map(ask, range(times)))


def test_a_hundred_at_once_are_as_many_calls_as_the_limit_allows(simulator, start_gateway, limited, state, tmp_path):
    gateway = start_gateway({**limited, **state}, threads=64, data_dir=tmp_path / "state", app=PATIENT)
    answers = ask_at_once([gateway], 100)
    assert Counter(answer.status for answer in answers) == {200: LIMIT, 429: 100 - LIMIT}
    assert len(simulator.calls("plain")) == LIMIT
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.json["error"]["code"] == "quota_exhausted" and 1 <= int(refused.headers["retry-after"]) <= 60

    os.killpg(gateway.pid, signal.SIGKILL)
    gateway.process.wait(5)
    restarted = start_gateway({**limited, **state}, threads=64, data_dir=tmp_path / "state", app=PATIENT)
    assert {answer.status for answer in ask_at_once([restarted], 10)} == {429}
    assert len(simulator.calls("plain")) == LIMIT
    restarted.stop()


@pytest.mark.redis
def test_two_gateways_on_one_redis_keep_one_limit(simulator, start_gateway, limited, empty_redis_url):
    gateways = [start_gateway({**limited, "STATE_URL": empty_redis_url}, threads=32, app=PATIENT) for _ in range(2)]
    answers = ask_at_once(gateways, 60)
    assert Counter(answer.status for answer in answers) == {200: LIMIT, 429: 60 - LIMIT}
    assert len(simulator.calls("plain")) == LIMIT
    for gateway in gateways:
        assert gateway.get("/v1/quota").json["data"][0]["used"] == LIMIT
        gateway.stop()


@pytest.mark.quiet  # a store that is late refuses nobody
def test_a_pool_over_real_workers_is_used_to_the_full_and_not_beyond(simulator, start_gateway, state, tmp_path, record_property):
    path = tmp_path / "pool.toml"
    path.write_text(catalog(simulator, [(key, key, f"{{ rpd = {POOL_LIMIT} }}") for key in POOL]))
    gateway = start_gateway({"GATEWAY_CATALOG": str(path), "GATEWAY_SANDBOX": "off", **state}, threads=32)
    for key in POOL:
        simulator.always("plain", enforce(POOL_LIMIT), model=key)
    with ThreadPoolExecutor(16) as threads:
        offered = 3 * POOL_LIMIT
        within = list(threads.map(lambda _: gateway.post("/v1/chat/completions", {**ASK, "model": "auto"}), range(offered)))
        beyond = list(threads.map(lambda _: gateway.post("/v1/chat/completions", {**ASK, "model": "auto"}), range(offered)))
    served = sum(answer.status == 200 for answer in within + beyond)
    calls = simulator.calls("plain")
    throttled = sum(answer.headers.get("x-gateway-trail", "").count(":429") for answer in within + beyond)
    record_property("figures", f"{served} of {4 * POOL_LIMIT} allowed were served, {throttled} of {len(calls)} calls throttled")
    assert {answer.status for answer in within} == {200}  # nobody was refused while a candidate had room
    assert served == 4 * POOL_LIMIT and throttled < 0.02 * len(calls)
    assert {answer.status for answer in beyond} == {200, 429}
    gateway.stop()


def enforce(limit):
    """Answer so many requests, and 429 after that: as a provider does that counts by itself."""
    left = iter(range(limit))

    def answer(connection):
        if next(left, None) is None:
            reply(429, {"error": {"message": "slow down"}}, headers={"retry-after": "60"})(connection)
        else:
            message = {"role": "assistant", "content": "hello"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
            reply(200, {"id": "1", "choices": [choice], "usage": usage})(connection)

    return answer


# --- waiting ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def waiting(simulator, start_gateway, tmp_path_factory):
    path = tmp_path_factory.mktemp("catalog") / "waiting.toml"
    path.write_text(catalog(simulator, [("w", f"m{n}", "{ rpm = 1000 }") for n in range(5)]))
    env = {"GATEWAY_CATALOG": str(path), "GATEWAY_SANDBOX": "off", "RETRY_AFTER_PATIENCE_S": "0"}
    return start_gateway(env, workers=1, threads=8)


def slow_down(seconds):
    return reply(429, {"error": {"message": "slow down"}}, headers={"retry-after": str(seconds)})


def test_a_caller_who_consents_waits_for_the_reset(waiting, simulator):
    simulator.script("plain", slow_down(1), model="m0")
    began = time.monotonic()
    answer = waiting.post("/v1/chat/completions", {**ASK, "model": "auto", "models": ["m0"]}, {"x-gateway-max-wait": "10"})
    assert answer.status == 200 and answer.headers["x-gateway-trail"] == "w/m0:429 w/m0:ok"
    assert 0.9 < time.monotonic() - began < 3


def test_a_reset_that_does_not_fit_is_refused_at_once(waiting, simulator):
    simulator.script("plain", slow_down(30), model="m1")
    began = time.monotonic()
    answer = waiting.post("/v1/chat/completions", {**ASK, "model": "m1"}, {"x-gateway-max-wait": "10"})
    assert answer.status == 429 and time.monotonic() - began < 2
    assert 28 <= int(answer.headers["retry-after"]) <= 30


def test_a_client_that_leaves_ends_its_wait(waiting, simulator):
    simulator.script("plain", slow_down(50), model="m2")
    assert waiting.post("/v1/chat/completions", {**ASK, "model": "m2"}).status == 429
    headers = [f"Authorization: Bearer {waiting.key}", "x-gateway-max-wait: 60"]
    options = [part for header in headers for part in ("-H", header)]
    command = ["curl", "-sS", "-m", "0.7", f"{waiting.url}/v1/chat/completions", *options]
    subprocess.run([*command, "-d", json.dumps({**ASK, "model": "m2"})], stderr=subprocess.DEVNULL, timeout=10)
    until = time.monotonic() + 2
    while '"status":499' not in waiting.log() and time.monotonic() < until:
        time.sleep(0.02)
    assert '"status":499' in waiting.log()


def test_no_more_than_a_quarter_of_the_threads_wait(waiting, simulator):
    simulator.script("plain", slow_down(2), model="m3")
    assert waiting.post("/v1/chat/completions", {**ASK, "model": "m3"}).status == 429

    def ask(_):
        began = time.monotonic()
        answer = waiting.post("/v1/chat/completions", {**ASK, "model": "m3"}, {"x-gateway-max-wait": "20"})
        return answer.status, time.monotonic() - began

    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(ask, range(5)))
    assert sorted(status for status, _ in answers) == [200, 200, 429, 429, 429]  # two of eight threads
    assert all(seconds < 1 for status, seconds in answers if status == 429)


# --- a state store that is down --------------------------------------------------------------------------------------


@pytest.mark.redis
@pytest.mark.parametrize("how", ["never there", "gone", "hung"])
def test_a_store_that_is_down_fails_no_request(simulator, start_gateway, limited, own_redis, how):
    if how == "never there":
        own_redis.stop()
    gateway = start_gateway({**limited, "STATE_URL": own_redis.url})
    if how == "never there":
        assert "the state store does not answer" in gateway.log()
    else:
        assert gateway.get("/readyz").json == {"status": "ok", "state_store": "ok"}
        own_redis.stop() if how == "gone" else own_redis.hang()
    answers = []
    for _ in range(LIMIT + 5):
        began = time.monotonic()
        answers.append(gateway.post("/v1/chat/completions", ASK).status)
        assert time.monotonic() - began < 1
    assert set(answers) == {200}  # quotas are unknown, and refuse nobody
    ready = gateway.get("/readyz")
    assert ready.status == 200 and ready.json == {"status": "degraded", "state_store": "down"}
    assert gateway.log().count('"message": "the state store does not answer') <= 2  # once a worker
    own_redis.resume()
    gateway.stop()


def test_a_store_that_can_be_read_but_not_written_is_an_outage_with_an_end(simulator, start_gateway, limited, tmp_path):
    gateway = start_gateway(limited, workers=1, data_dir=tmp_path / "state")
    ok, down = {"status": "ok", "state_store": "ok"}, {"status": "degraded", "state_store": "down"}
    eventually(lambda: gateway.get("/readyz").json, ok)
    for outage in (1, 2):
        other = sqlite3.connect(tmp_path / "state" / "state.sqlite3", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        eventually(lambda: gateway.get("/readyz").json, down)
        eventually(lambda outage=outage: len(told_of_the_store(gateway)) == 2 * outage - 1)
        assert {gateway.post("/v1/chat/completions", ASK).status for _ in range(LIMIT + 5)} == {200}
        other.execute("ROLLBACK")
        other.close()
        eventually(lambda outage=outage: len(told_of_the_store(gateway)) == 2 * outage)
        eventually(lambda: gateway.get("/readyz").json, ok)
    (went, came), again = told_of_the_store(gateway)[:2], told_of_the_store(gateway)[2:]
    assert [line["message"] for line in again] == [went["message"], came["message"]]
    assert (went["level"], came["level"]) == ("error", "warning")
    assert "locked" in went["why"] or "busy" in went["why"]  # SQLite gives up before its caller does, on a machine with time
    assert 0 < came["lasted_s"] < 30 and came["calls_without_it"] >= LIMIT + 5
    gateway.stop()


def told_of_the_store(gateway):
    lines = [json.loads(line) for line in gateway.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["message"].startswith("the state store")]
