"""Limits of keys and addresses over real workers: what many at once may do, and what a death or a dead store changes."""

import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.state.conftest import eventually

pytestmark = pytest.mark.e2e

LIMIT = 40
MANY = 100
KEYS = ("ann", "bob", "cid")
PATIENT = "tests.e2e.patient:app"  # a store that is late lets everybody pass
SHARED = ["sqlite", pytest.param("redis", marks=pytest.mark.redis)]


@pytest.fixture(scope="module", params=SHARED)
def gateway(request, start_gateway):
    """A gateway that knows several keys, so that no test spends another's limit."""
    env = {"CLIENT_RATE_LIMIT": f"{LIMIT}/hour", "GATEWAY_API_KEY": ",".join(f"{name}:sk-{name}" for name in KEYS)}
    if request.param == "redis":
        env["STATE_URL"] = request.getfixturevalue("redis_server").url
    with start_gateway(env, app=PATIENT) as gateway:
        yield gateway


def key(name):
    return {"Authorization": f"Bearer sk-{name}"}


def ask(gateways, times, headers=None):
    """Ask so often, of each in turn and many at once; return the answers."""

    def one(number):
        return gateways[number % len(gateways)].get("/v1/models", headers)

    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(one, range(times)))


def statuses(answers):
    return Counter(answer.status for answer in answers)


def workers_of(gateway):
    return [int(pid) for pid in Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()]


def check_limit(answers):
    """Fail if more passed than the limit says, or fewer."""
    assert statuses(answers) == {200: LIMIT, 429: len(answers) - LIMIT}
    left = [int(answer.headers["x-ratelimit-remaining"]) for answer in answers if answer.status == 200]
    assert sorted(left) == list(range(LIMIT))  # each was told another number: none was lost


def test_of_many_at_once_exactly_as_many_pass_as_the_limit_says(gateway):
    answers = ask([gateway], MANY, key("ann"))
    check_limit(answers)
    for answer in answers:
        if answer.status == 429:
            assert answer.headers["x-ratelimit-limit"] == str(LIMIT) and "retry-after" in answer.headers
            assert 0 < int(answer.headers["x-ratelimit-reset"]) - time.time() < 3602
    bob = gateway.get("/v1/models", key("bob"))
    assert (bob.status, bob.headers["x-ratelimit-remaining"]) == (200, str(LIMIT - 1))


@pytest.mark.redis
def test_two_gateways_on_one_redis_keep_one_limit(start_gateway, empty_redis_url):
    env = {"CLIENT_RATE_LIMIT": f"{LIMIT}/hour", "STATE_URL": empty_redis_url}
    with start_gateway(env, workers=1, app=PATIENT) as one, start_gateway(env, workers=1, app=PATIENT) as other:
        check_limit(ask([one, other], MANY))


def test_a_worker_that_is_killed_takes_no_count_with_it(gateway):
    before = ask([gateway], LIMIT // 2, key("cid"))
    for pid in workers_of(gateway):
        os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if gateway.get("/healthz").status == 200:
                break
        except OSError:
            time.sleep(0.02)
    check_limit(before + ask([gateway], LIMIT, key("cid")))


@pytest.mark.redis
@pytest.mark.parametrize("how", ["gone", "hung"])
def test_while_the_store_is_down_everybody_passes(start_gateway, own_redis, how):
    with start_gateway({"CLIENT_RATE_LIMIT": "2/minute", "STATE_URL": own_redis.url}) as gateway:
        eventually(lambda: gateway.get("/v1/models").status, 429)
        own_redis.stop() if how == "gone" else own_redis.hang()
        answers = ask([gateway], 20)
        assert statuses(answers) == {200: 20}
        assert not any("x-ratelimit-limit" in answer.headers for answer in answers)
        own_redis.resume()


def test_failures_at_an_address_are_limited_and_a_valid_key_there_is_not(start_gateway):
    with start_gateway({"PUBLIC_RATE_LIMIT": "10/minute"}) as gateway:
        wrong = {"Authorization": "Bearer wrong"}
        found = statuses(ask([gateway], 40, wrong))
        assert set(found) == {401, 429} and 10 <= found[401] <= 20  # of each of the two workers
        assert statuses(ask([gateway], 40)) == {200: 40}
        assert {gateway.get("/healthz", {"Authorization": ""}).status for _ in range(30)} == {200}


def test_behind_a_proxy_each_client_has_a_limit_of_its_own(start_gateway):
    with start_gateway({"PUBLIC_RATE_LIMIT": "1/minute", "TRUSTED_PROXY_HOPS": "1"}, workers=1) as gateway:

        def health(address):
            return gateway.get("/health", {"Authorization": "", "X-Forwarded-For": f"6.6.6.6, {address}"}).status

        assert [health(address) for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1")] == [200, 200, 429]
