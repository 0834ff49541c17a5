"""A real nginx in front of real gateways, with the block that the README gives to users."""

import copy
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests import nginx_server
from tests.e2e.simulator import delay, reply, restream, stall, stall_after
from tests.nginx_server import Nginx

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

HELLO = [{"role": "user", "content": "hello there my friend"}]
CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": HELLO}
SURFACES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, ASK),
    "completions": ("/v1/completions", {"model": "m", "prompt": "hello there my friend"}),
    "responses": ("/v1/responses", {"model": "m", "input": "hello there my friend", "store": False}),
    "messages": ("/v1/messages", {"model": "m", "max_tokens": 50, "messages": HELLO}),
}
MB = 1_000_000
LEFT_S = 1.0  # in which the provider is let go when the client has left
LIMIT = 60
CLIENTS = 16
PATIENCE_S = 15.0
CUT = 0  # in place of a status


@pytest.fixture(scope="module", autouse=True)
def installed():
    """A machine without nginx skips these tests, but not in CI."""
    if nginx_server.program() is None:
        if os.environ.get("CI"):
            pytest.fail("nginx is missing")
        pytest.skip("needs nginx")


@pytest.fixture(scope="module")
def env(simulator, tmp_path_factory):
    path = tmp_path_factory.mktemp("catalog") / "one.toml"
    base_url = simulator.base_url("plain")
    path.write_text(f"""
[[providers]]
key = "p"
base_url = "{base_url}"
[[models]]
provider = "p"
id = "m"
limits = {{}}
[[models]]
provider = "p"
id = "limited"
limits = {{ rpd = {LIMIT} }}
""")
    return {"GATEWAY_CATALOG": str(path), "GATEWAY_SANDBOX": "off", "TRUSTED_PROXY_HOPS": "1"}


@pytest.fixture(scope="module")
def gateway(start_gateway, env):
    return start_gateway(env)


@pytest.fixture(scope="module")
def front(gateway, tmp_path_factory):
    """The gateway as it is seen through nginx."""
    with Nginx(tmp_path_factory.mktemp("nginx"), [gateway.port]) as nginx:
        yield through(nginx, gateway)


def through(nginx, gateway):
    seen = copy.copy(gateway)
    seen.port = nginx.port
    return seen


# --- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("surface", SURFACES)
def test_a_stream_arrives_before_the_provider_has_ended_it(front, simulator, surface):
    path, body = SURFACES[surface]
    simulator.always("plain", restream(pause_s=0.2))
    with front.stream(path, {**body, "stream": True}) as stream:
        assert stream.status == 200
        lines = iter(stream)
        next(line for line in lines if b"echo" in line.data)
        assert simulator.calls("plain")[-1].ended is None
        moments = [line.t for line in lines if b"data:" in line.data]
        assert stream.is_whole
    assert len({round(t, 1) for t in moments}) >= 4  # the rest comes word by word


@pytest.mark.parametrize("surface", SURFACES)
def test_a_client_that_leaves_its_stream_frees_the_provider(front, simulator, surface):
    path, body = SURFACES[surface]
    simulator.always("plain", stall_after(n_events=3))
    with front.stream(path, {**body, "stream": True}) as stream:
        next(line for line in stream if b"echo" in line.data)
    assert simulator.calls("plain")[-1].wait_ended(LEFT_S) == "client_closed"


def test_a_client_that_leaves_before_its_answer_frees_the_provider(front, simulator):
    simulator.always("plain", stall())
    connection = http.client.HTTPConnection("127.0.0.1", front.port)
    headers = {"Authorization": f"Bearer {front.key}", "Content-Type": "application/json"}
    connection.request("POST", CHAT, json.dumps(ASK), headers)
    (call,) = simulator.wait_for_calls(1, "plain")
    connection.close()
    assert call.wait_ended(LEFT_S) == "client_closed"


# --- bodies and connections --------------------------------------------------------------------------------------------


def say(size):
    return {"model": "m", "messages": [{"role": "user", "content": "x" * size}]}


def test_a_large_body_reaches_the_provider_whole_and_a_large_answer_the_client(front, simulator):
    message = {"role": "assistant", "content": "y" * 5 * MB}
    simulator.script("plain", reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
    answer = front.post(CHAT, say(20 * MB))
    assert answer.json["choices"][0]["message"] == message
    (call,) = simulator.calls("plain")
    assert len(call.json["messages"][0]["content"]) == 20 * MB


@pytest.mark.parametrize("size", [33_600_000, 36 * MB])
def test_a_body_that_is_too_large_is_refused_in_the_gateways_form(front, size):
    """The first by the gateway itself, the second by nginx."""
    answer = front.post(CHAT, say(size))
    assert (answer.status, answer.json["error"]["code"]) == (413, "request_too_large")
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="finds the connections in /proc")
def test_connections_to_the_gateway_are_used_again(start_gateway, env, tmp_path):
    with start_gateway(env) as gateway, Nginx(tmp_path, [gateway.port]) as nginx:
        front = through(nginx, gateway)
        before = connections_to(gateway.port)
        assert {front.post(CHAT, ASK).status for _ in range(40)} == {200}
        assert len(connections_to(gateway.port) - before) <= 4  # nginx has two workers


def connections_to(port):
    """Return the ends of all connections to a port, those included that were closed in the last minute."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = {end for fields in lines for end in [(fields[1], fields[2]), (fields[2], fields[1])]}
    return {here for here, there in ends if there.endswith(f":{port:04X}") and not there.startswith("00000000:")}


# --- addresses ---------------------------------------------------------------------------------------------------------


def test_clients_are_told_apart_by_their_address_and_not_by_what_they_claim(start_gateway, env, tmp_path):
    with start_gateway({**env, "PUBLIC_RATE_LIMIT": "2/hour"}, workers=1) as gateway, Nginx(tmp_path, [gateway.port]) as nginx:

        def health(address, claim):
            source = (address, 0)
            with closing(http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=10, source_address=source)) as connection:
                connection.request("GET", "/health", headers={"X-Forwarded-For": claim})
                return connection.getresponse().status

        assert [health("127.0.0.1", f"192.0.2.{number}") for number in range(4)] == [200, 200, 429, 429]
        assert [health("127.0.0.2", "127.0.0.1") for _ in range(3)] == [200, 200, 429]


# --- reloads and deaths ------------------------------------------------------------------------------------------------


class Load:
    """Clients that ask one thing after the other, each prompt once, until `stop`.

    `answers`: status and body by prompt; CUT where an answer broke off.
    """

    def __init__(self, front, model):
        self.answers = {}
        self._front, self._model = front, model
        self._stopped = threading.Event()
        self._threads = ThreadPoolExecutor(CLIENTS)
        self._running = [self._threads.submit(self._ask, number) for number in range(CLIENTS)]

    def _ask(self, client):
        number = 0
        while not self._stopped.is_set():
            number += 1
            prompt = f"client {client} number {number}"
            body = {"model": self._model, "messages": [{"role": "user", "content": prompt}]}
            try:
                answer = self._front.post(CHAT, body)
                self.answers[prompt] = answer.status, answer.json
            except http.client.IncompleteRead:
                self.answers[prompt] = CUT, None

    def stop(self):
        self._stopped.set()
        self._threads.shutdown()
        for running in self._running:
            running.result()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def prompts(self, status):
        return {prompt for prompt, (got, _) in self.answers.items() if got == status}

    def check(self, simulator, *, statuses):
        """Fail if an answer is not that of its prompt, or a prompt was asked twice, or one in vain that was refused."""
        assert {status for status, _ in self.answers.values()} <= statuses
        for prompt in self.prompts(200):
            assert self.answers[prompt][1]["choices"][0]["message"]["content"] == f"echo: {prompt}"
        asked = Counter(call.json["messages"][0]["content"] for call in simulator.calls("plain"))
        assert set(asked.values()) == {1}
        assert self.prompts(200) <= set(asked) and not self.prompts(429) & set(asked)


def until(holds):
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def workers_of(gateway):
    """Return the workers that have loaded the application: those have threads."""
    children = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()
    return {int(pid) for pid in children if len(os.listdir(f"/proc/{pid}/task")) > 1}


def kill(gateway):
    """End a whole gateway as a machine dies; return when nobody listens any more."""
    with suppress(ProcessLookupError):
        os.killpg(gateway.pid, signal.SIGKILL)
    gateway.process.wait(10)
    until(lambda: not listens(gateway))


def listens(gateway):
    try:
        socket.create_connection(("127.0.0.1", gateway.port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_a_reload_loses_no_request(start_gateway, env, simulator, tmp_path):
    with start_gateway(env) as gateway, Nginx(tmp_path, [gateway.port]) as nginx:
        simulator.always("plain", delay(0.02))
        with Load(through(nginx, gateway), "m") as load:
            for _ in range(3):
                old = workers_of(gateway)
                os.kill(gateway.pid, signal.SIGHUP)
                until(lambda old=old: len(workers_of(gateway) - old) == 2 and not workers_of(gateway) & old)
                answered = len(load.answers)
                until(lambda answered=answered: len(load.answers) > answered + 50)
        load.check(simulator, statuses={200})


@pytest.fixture
def pair(start_gateway, env, empty_redis_url, tmp_path):
    """Two gateways on one Redis, and both of them as they are seen through nginx."""
    both = [start_gateway({**env, "STATE_URL": empty_redis_url}, threads=32) for _ in range(2)]
    with Nginx(tmp_path, [gateway.port for gateway in both]) as nginx:
        yield both, through(nginx, both[1])
    for gateway in both:
        kill(gateway)


@pytest.mark.redis
@pytest.mark.quiet  # a store that is late refuses nobody
def test_a_gateway_that_dies_between_requests_is_not_missed(pair, simulator):
    (first, _), front = pair
    simulator.always("plain", delay(0.02))
    with Load(front, "m") as load:
        until(lambda: len(load.answers) > 50)
    load.check(simulator, statuses={200})
    simulator.reset()
    kill(first)
    with Load(front, "limited") as load:
        until(lambda: len(load.prompts(429)) > 50)
    load.check(simulator, statuses={200, 429})
    assert len(load.prompts(200)) == len(simulator.calls("plain")) == LIMIT


@pytest.mark.redis
@pytest.mark.quiet  # a store that is late refuses nobody
def test_a_gateway_that_dies_under_load_takes_no_more_than_its_own_requests(pair, simulator):
    (first, _), front = pair
    simulator.always("plain", delay(0.05))
    with Load(front, "limited") as load:
        until(lambda: len(load.prompts(200)) > LIMIT // 3)
        kill(first)
        until(lambda: len(load.prompts(429)) > 50)
    load.check(simulator, statuses={200, 429, 503, CUT})
    refused = load.prompts(503)
    lost, calls = refused | load.prompts(CUT), len(simulator.calls("plain"))
    assert len(lost) <= CLIENTS
    assert {load.answers[prompt][1]["error"]["code"] for prompt in refused} <= {"gateway_busy"}
    # What was taken of the quota was called, but for what a request had just taken that died before its call.
    assert LIMIT - len(lost) <= calls <= LIMIT
    assert calls - len(lost) <= len(load.prompts(200)) <= calls
