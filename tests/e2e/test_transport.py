"""The transport on real sockets: time-outs by phase, broken connections, and a request that ends while it waits."""

import json
import socket
import threading
import time

import pytest

from gateway.errors import (
    ClientGone,
    UpstreamError,
    UpstreamGarbled,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.upstream.transport import CallLimits, Transport, UpstreamRequest
from gateway.upstream.watch import Handle, Watch
from tests.e2e.simulator import (
    cut_after,
    drip,
    go_stale,
    hang_up,
    raw,
    reply,
    reset_after,
    stall,
    stall_after,
    stream,
    wrong_length,
)

WORDS = stream([{"n": n} for n in range(5)])


def limits(**seconds):
    wanted = {"connect_s": 1.0, "first_token_s": 1.0, "idle_s": 1.0, "total_s": 5.0, **seconds}
    return CallLimits(wanted["connect_s"], wanted["first_token_s"], wanted["idle_s"], time.monotonic() + wanted["total_s"])


@pytest.fixture
def transport():
    transport = Transport()
    yield transport
    transport.close()


@pytest.fixture
def ask(simulator):
    url = simulator.base_url("plain") + "/chat/completions"
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    return UpstreamRequest(url, {}, body)


def whole(transport, ask, handle=None, **seconds):
    allowed = limits(**seconds)
    response = transport.open(ask, allowed, handle or Handle())
    try:
        return response.read_all(allowed)
    finally:
        response.close()


def test_a_whole_answer_is_read_and_its_connection_used_again(simulator, transport, ask):
    for _ in range(3):
        simulator.script("plain", reply(200, {"ok": True}))
        assert json.loads(whole(transport, ask)) == {"ok": True}
    assert len({request.connection for request in simulator.requests}) == 1


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_stale_connection_is_not_the_providers_fault(simulator, transport, ask, reset):
    simulator.script("plain", go_stale(reply(200, {"n": 1}), reset=reset), reply(200, {"n": 2}))
    assert json.loads(whole(transport, ask)) == {"n": 1}
    assert json.loads(whole(transport, ask)) == {"n": 2}


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (hang_up(), UpstreamReset),
        (hang_up(reset=True), UpstreamReset),
        (raw(b"nonsense\r\n\r\n"), UpstreamGarbled),
        (cut_after(n_bytes=5, answer=reply(200, {"text": "something"})), UpstreamReset),
        (wrong_length(reply(200, {"text": "something"})), UpstreamReset),
        (cut_after(n_events=2, answer=WORDS), UpstreamReset),
        (reset_after(n_events=2, answer=WORDS), UpstreamReset),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), UpstreamError),
    ],
    ids=["hang up", "reset", "no HTTP", "body cut", "wrong length", "stream cut", "stream reset", "bad chunk"],
)
def test_broken_answers_are_told_apart(simulator, transport, ask, behaviour, error):
    simulator.script("plain", behaviour)
    with pytest.raises(error):
        whole(transport, ask)


def test_a_dead_port_is_unreachable(simulator, transport):
    with pytest.raises(UpstreamUnreachable):
        whole(transport, UpstreamRequest(f"http://127.0.0.1:{simulator.dead_port()}/x", {}, b"{}"))


def test_a_host_that_does_not_exist_is_unreachable(transport):
    with pytest.raises(UpstreamUnreachable):
        whole(transport, UpstreamRequest("http://no-such-host.invalid/x", {}, b"{}"))


def test_a_port_that_speaks_no_tls_is_unreachable(simulator, transport):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            with listener.accept()[0] as plain:
                plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(UpstreamUnreachable):
            whole(transport, UpstreamRequest(f"https://127.0.0.1:{listener.getsockname()[1]}/x", {}, b"{}"))
        thread.join()


SILENCE = [
    ("before the headers", stall(), {"first_token_s": 0.3}, "first_token"),
    ("in the body", stall_after(n_events=1, answer=WORDS), {"idle_s": 0.3, "total_s": 0.3}, "idle"),
]


@pytest.mark.parametrize(("behaviour", "seconds", "phase"), [case[1:] for case in SILENCE], ids=[case[0] for case in SILENCE])
def test_silence_ends_in_time(simulator, transport, ask, behaviour, seconds, phase):
    simulator.script("plain", behaviour)
    began = time.monotonic()
    with pytest.raises(UpstreamTimeout) as raised:
        whole(transport, ask, **seconds)
    assert raised.value.phase == phase and 0.25 < time.monotonic() - began < 0.8


def test_a_drip_does_not_outlive_the_deadline(simulator, transport, ask):
    simulator.script("plain", drip({"text": "x" * 500}, bytes_per_s=100))
    began = time.monotonic()
    with pytest.raises(UpstreamTimeout):
        whole(transport, ask, total_s=0.5)
    assert time.monotonic() - began < 1


def test_headers_that_drip_do_not_outlive_the_deadline(simulator, transport, ask):
    simulator.script("plain", raw(*(step for n in range(40) for step in (b"HTTP/1.1 200 OK\r\nX-A: b\r\n"[n : n + 1], 0.1))))
    watch = Watch()
    handle = watch.open_handle(None)
    began = time.monotonic()
    with pytest.raises(UpstreamTimeout) as raised:
        whole(transport, ask, handle, total_s=0.5)
    watch.close_handle(handle)
    assert raised.value.phase == "total" and time.monotonic() - began < 1


@pytest.mark.parametrize("behaviour", [stall(), stall_after(n_events=1, answer=WORDS)], ids=["before the headers", "in the body"])
def test_a_client_that_leaves_wakes_the_waiting_call_and_frees_the_upstream(simulator, transport, ask, behaviour):
    simulator.script("plain", behaviour)
    handle = Handle()
    timer = threading.Timer(0.2, handle.end, ["client_gone"])
    timer.start()
    began = time.monotonic()
    with pytest.raises(ClientGone):
        whole(transport, ask, handle)
    timer.join()
    assert time.monotonic() - began < 0.5
    assert simulator.requests[-1].wait_ended(1.0) == "client_closed"


def test_bytes_arrive_as_they_are_sent(simulator, transport, ask):
    simulator.script("plain", stream([{"n": n} for n in range(3)], pause_s=0.1, chunked=False))
    response = transport.open(ask, limits(), Handle())
    arrivals = []
    while response.read(1.0):
        arrivals.append(time.monotonic())
    response.close()
    assert len(arrivals) >= 3 and arrivals[2] - arrivals[0] > 0.15


def test_redirects_are_not_followed(simulator, transport, ask):
    simulator.script("plain", reply(302, "", headers={"Location": simulator.url + "/elsewhere"}))
    response = transport.open(ask, limits(), Handle())
    response.close()
    assert response.status == 302 and len(simulator.requests) == 1
