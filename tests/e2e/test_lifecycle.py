"""Threads that are all taken, clients that linger, and workers that stop: over real gunicorn."""

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.simulator import stall_after, stream

pytestmark = pytest.mark.e2e

ASK = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**ASK, "stream": True}
THREADS = 4
PATIENCE_S = 15.0  # for what takes as long as it takes
BUSY_S = 0.25  # refusals and health are answered within 50 ms, on a quiet machine


@pytest.fixture(scope="module")
def env(simulator, tmp_path_factory):
    path = tmp_path_factory.mktemp("catalog") / "one.toml"
    base_url = simulator.base_url("plain")
    path.write_text(f'[[providers]]\nkey = "p"\nbase_url = "{base_url}"\n[[models]]\nprovider = "p"\nid = "m"\nlimits = {{}}\n')
    return {"GATEWAY_CATALOG": str(path), "GATEWAY_SANDBOX": "off"}


@pytest.fixture(scope="module")
def gateway(start_gateway, env):
    return start_gateway(env, workers=1, threads=THREADS)


@contextlib.contextmanager
def streams(gateway, simulator, number):
    """Hold so many streams open that have begun to answer."""
    simulator.always("plain", stall_after(n_events=2))
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            opened = stack.enter_context(gateway.stream("/v1/chat/completions", STREAM))
            assert opened.status == 200
        yield


def slowly(pause_s):
    """A stream of three chunks, so far apart."""
    deltas = [({"role": "assistant", "content": "one"}, None), ({"content": "two"}, None), ({}, "stop")]
    return stream([{"choices": [{"index": 0, "delta": delta, "finish_reason": end}]} for delta, end in deltas], pause_s=pause_s)


def timed(call):
    began = time.monotonic()
    answer = call()
    return answer, time.monotonic() - began


def connect(gateway):
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=10)


@pytest.mark.quiet
def test_while_every_place_is_taken_the_rest_is_refused_at_once(gateway, simulator):
    with streams(gateway, simulator, THREADS):
        for body in (ASK, STREAM, {**ASK, "messages": [{"role": "user", "content": "x" * 2_000_000}]}):
            answer, took_s = timed(lambda body=body: gateway.post("/v1/chat/completions", body))
            assert (answer.status, answer.json["error"]["code"]) == (503, "gateway_busy") and took_s < BUSY_S
            assert answer.headers["retry-after"] == "1" and answer.headers["x-should-retry"] == "true"
            assert answer.headers["connection"] == "close"
        for path in ("/healthz", "/readyz", "/health", "/v1/models", "/v1/quota"):
            answer, took_s = timed(lambda path=path: gateway.get(path))
            assert answer.status == 200 and took_s < BUSY_S, path
    simulator.reset()
    until = time.monotonic() + 3
    while (status := gateway.post("/v1/chat/completions", ASK).status) == 503 and time.monotonic() < until:
        time.sleep(0.05)
    assert status == 200  # the places of clients that left are free again


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_a_full_worker_leaves_new_clients_to_one_that_has_room(start_gateway, env, simulator):
    with start_gateway(env, workers=3, threads=THREADS) as gateway:
        until(lambda: len(running(gateway)) == 3)
        with streams(gateway, simulator, 3 * THREADS):
            answer = gateway.post("/v1/chat/completions", ASK)
    assert (answer.status, answer.json["error"]["code"]) == (503, "gateway_busy")


@pytest.mark.quiet
def test_clients_that_do_not_close_keep_nobody_waiting(gateway):
    request = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\nConnection: close\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(connect(gateway))
            connection.sendall(request)
            assert connection.recv(20).startswith(b"HTTP/1.1 200")
        answer, took_s = timed(lambda: gateway.get("/healthz"))
        assert answer.status == 200 and took_s < BUSY_S


@pytest.mark.quiet
def test_silent_connections_hold_no_thread(gateway):
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connect(gateway))
        answer, took_s = timed(lambda: gateway.post("/v1/chat/completions", ASK))
        assert answer.status == 200 and took_s < BUSY_S


@pytest.mark.quiet
def test_clients_that_keep_their_connection_hold_no_thread(gateway):
    request = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(connect(gateway)) for _ in range(40)]
        for _ in range(2):
            for connection in kept:
                connection.sendall(request)
            answer, took_s = timed(lambda: gateway.get("/healthz"))
            assert answer.status == 200 and took_s < BUSY_S
            for connection in kept:
                assert read_answer(connection).startswith(b"HTTP/1.1 200")


def test_requests_sent_together_are_answered_in_order(gateway):
    paths = ("/healthz", "/v1/models/m", "/readyz")
    requests = [f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n\r\n" for path in paths]
    with connect(gateway) as connection:
        connection.sendall("".join(requests).encode())
        answers = [read_answer(connection) for _ in paths]
    assert [b'"status":"ok"' in answer for answer in answers] == [True, False, True]
    assert b'"id":"m"' in answers[1]


def read_answer(connection):
    """Return the next answer on a connection, and not a byte of what follows it."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1)
    length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return answer + body


def test_a_client_that_still_sends_reads_its_refusal(gateway):
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\nContent-Length: {64 << 20}\r\n\r\n"
    with connect(gateway) as connection:
        connection.sendall(head.encode())
        for _ in range(4):
            connection.sendall(b" " * 100_000)
            time.sleep(0.05)
        assert connection.recv(100).startswith(b"HTTP/1.1 401")


# --- stopping --------------------------------------------------------------------------------------------------------


def test_sigterm_lets_running_requests_finish_and_takes_no_new_ones(start_gateway, env, simulator):
    simulator.always("plain", slowly(0.25))
    with start_gateway(env, workers=1) as gateway, gateway.stream("/v1/chat/completions", STREAM) as running:
        gateway.terminate()
        until = time.monotonic() + 1
        refused = False
        while not refused and time.monotonic() < until:
            try:
                connect(gateway).close()
            except ConnectionRefusedError:
                refused = True
            time.sleep(0.02)
        assert refused
        lines = [line.data for line in running if line.data.strip()]
        assert running.is_whole and lines[-1] == b"data: [DONE]\n"
        assert gateway.process.wait(10) == 0, gateway.log()


def test_a_stream_that_outlives_the_graceful_time_ends_with_an_error(start_gateway, env, simulator):
    simulator.always("plain", stall_after(n_events=2))
    # One worker, which is up: gunicorn loses a signal that meets a worker within its first moments.
    with start_gateway({**env, "GUNICORN_CMD_ARGS": "--graceful-timeout 7"}, workers=1) as gateway:
        with gateway.stream("/v1/chat/completions", STREAM) as running:
            began = time.monotonic()
            gateway.terminate()
            lines = [line.data for line in running if line.data.strip()]
        assert 0.7 < time.monotonic() - began < 4, (lines, gateway.log())
        assert running.is_whole and lines[-1] == b"data: [DONE]\n"
        assert json.loads(lines[-2].removeprefix(b"data: "))["error"]["code"] == "draining"
        assert gateway.process.wait(5) == 0


def test_a_stopping_worker_says_so_to_whoever_asks_whether_it_is_ready(start_gateway, env, simulator):
    simulator.always("plain", slowly(1.0))
    with start_gateway(env, workers=1) as gateway, gateway.stream("/v1/chat/completions", STREAM):
        kept = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)

        def ask():
            kept.request("GET", "/readyz")
            response = kept.getresponse()
            return response.status, json.loads(response.read()), response.getheader("Connection")

        first = ask()
        gateway.terminate()
        end = time.monotonic() + 1
        while (last := ask())[0] == 200 and time.monotonic() < end:
            time.sleep(0.02)
        kept.close()
    assert first == (200, {"status": "ok", "state_store": "ok"}, "keep-alive")
    status, body, connection = last
    assert status == 503 and body["error"]["code"] == "draining" and connection == "close"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
@pytest.mark.parametrize("how", ["hup", "worker killed gracefully"])
def test_a_reload_loses_no_request(start_gateway, env, how):
    with start_gateway(env, workers=2) as gateway:
        stop = threading.Event()
        statuses: list[int] = []
        failures: list[str] = []

        def ask():
            while not stop.wait(0.01):
                try:
                    statuses.append(gateway.post("/v1/chat/completions", ASK).status)
                except OSError as error:
                    failures.append(repr(error))

        with ThreadPoolExecutor(4) as threads:
            for _ in range(4):
                threads.submit(ask)
            try:
                for _ in range(3):
                    replace_workers(gateway, how)
                    answered = len(statuses)
                    until(lambda answered=answered: len(statuses) > answered + 20)
            finally:
                stop.set()
        assert set(statuses) == {200} and not failures


def replace_workers(gateway, how):
    """Return once those that stop have ended, and those that took their place are up."""
    until(lambda: len(running(gateway)) == 2)
    if how == "hup":
        stopping = running(gateway)
        os.kill(gateway.pid, signal.SIGHUP)
    else:
        stopping = {min(running(gateway))}
        os.kill(min(stopping), signal.SIGTERM)
    until(lambda: len(running(gateway)) == 2 and not stopping & set(children_of(gateway.pid)))


def running(gateway):
    """Return the workers that have loaded the application: those have threads. Before, gunicorn may lose a signal to them."""
    return {pid for pid in children_of(gateway.pid) if len(os.listdir(f"/proc/{pid}/task")) > 1}


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(holds):
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)
