"""The transport on real sockets: time-outs by phase, broken connections, and a request that ends while it waits."""

import json
import socket
import ssl
import struct
import threading
import time

import pytest

from gateway.errors import (
    ClientGone,
    UpstreamGarbled,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.upstream.transport import CallLimits, Transport, UpstreamRequest, UpstreamResponse
from gateway.upstream.watch import Handle, Watch
from tests.e2e.simulator import (
    drip,
    go_stale,
    raw,
    reply,
    stall,
    stall_after,
    stream,
)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ONE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%s"
WORDS = stream([{"n": n} for n in range(5)])


def limits(**seconds):
    wanted = {"connect_s": 5.0, "first_token_s": 5.0, "idle_s": 5.0, "total_s": 5.0, **seconds}
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


BROKEN = {
    "a negative chunk size": (raw(CHUNKED + b"-5\r\nabc\r\n0\r\n\r\n"), UpstreamGarbled),
    "an empty chunk size": (raw(CHUNKED + b"\r\n"), UpstreamGarbled),
    "cut between chunks": (raw(CHUNKED + b"3\r\nabc\r\n"), UpstreamReset),
    "cut in a chunk": (raw(CHUNKED + b"ff\r\nabc\r\n"), UpstreamReset),
}


@pytest.mark.parametrize(("behaviour", "error"), BROKEN.values(), ids=BROKEN)
def test_broken_chunks_are_told_apart(simulator, transport, ask, behaviour, error):
    simulator.script("plain", behaviour)
    with pytest.raises(error):
        whole(transport, ask)


def test_the_first_token_limit_does_not_bound_the_body(simulator, transport, ask):
    simulator.script("plain", drip({"text": "x" * 60}, bytes_per_s=100))
    watch = Watch()
    handle = watch.open_handle(None)
    assert len(whole(transport, ask, handle, first_token_s=0.3)) > 60
    watch.close_handle(handle)


SILENT = {
    "before the headers": stall(),
    "in the body": stall_after(n_events=1, answer=WORDS),
    "in a body to the end of the connection": stall_after(n_events=1, answer=stream([{"n": 1}], chunked=False)),
}


@pytest.mark.parametrize("behaviour", SILENT.values(), ids=SILENT)
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


def test_chunk_sizes_may_have_extensions_and_spaces(simulator, transport, ask):
    simulator.script("plain", raw(CHUNKED + b"3 ;a=b\r\nabc\r\n0\r\n\r\n"))
    assert whole(transport, ask) == b"abc"


def test_a_body_larger_than_any_real_one_is_refused(simulator, transport, ask, monkeypatch):
    monkeypatch.setattr("gateway.upstream.transport.MAX_BODY_BYTES", 1000)
    simulator.script("plain", reply(200, "x" * 1001), reply(200, "x" * 1000))
    with pytest.raises(UpstreamGarbled):
        whole(transport, ask)
    assert len(whole(transport, ask)) == 1000


def test_silence_within_a_whole_body_ends_with_the_idle_limit(simulator, transport, ask):
    simulator.script("plain", stall_after(n_events=1, answer=WORDS))
    began = time.monotonic()
    with pytest.raises(UpstreamTimeout) as raised:
        whole(transport, ask, idle_s=0.2)
    assert raised.value.phase == "idle" and time.monotonic() - began < 1


@pytest.mark.parametrize("seconds", [{"first_token_s": 0.3}, {"total_s": 0.3}], ids=["first token", "deadline"])
def test_the_headers_are_waited_for_as_long_as_the_sooner_limit_says(simulator, transport, ask, seconds):
    simulator.script("plain", stall())
    began = time.monotonic()
    with pytest.raises(UpstreamTimeout):
        whole(transport, ask, **seconds)
    assert 0.25 < time.monotonic() - began < 0.8


# --- connections that were given back ----------------------------------------------------------------------------------


GIVEN_BACK = [stream([{"n": 1}], done=False), reply(200, {"n": 1})]


@pytest.mark.parametrize("first", GIVEN_BACK, ids=["chunked", "by length"])
@pytest.mark.parametrize("stop", ["client_gone", "expired"])
def test_a_late_end_leaves_the_connection_s_next_request_alone(simulator, transport, ask, first, stop):
    """urllib3 takes the connection back with the last byte, before the answer is closed."""
    simulator.script("plain", first, stream([{"n": n} for n in range(5)], pause_s=0.05))
    earlier, handle = Handle(), Handle()
    answered = transport.open(ask, limits(), earlier)
    while answered.read(1.0):
        pass
    response = transport.open(ask, limits(), handle)
    assert simulator.requests[0].connection == simulator.requests[1].connection
    assert response.read(1.0)
    assert answered.read(0.01) == b""  # nor does it change that request's time-out
    if stop == "expired":
        earlier.expire()
    else:
        earlier.end("client_gone")
    answered.close(finished=True)
    pieces = []
    while piece := response.read(1.0):
        pieces.append(piece)
    response.close()
    assert b"[DONE]" in b"".join(pieces)


def test_closing_an_earlier_answer_of_the_same_request_does_not_lose_sight_of_the_running_one(simulator, transport, ask):
    simulator.script("plain", stall_after(n_events=1, answer=WORDS), stall_after(n_events=1, answer=WORDS))
    handle = Handle()
    earlier = transport.open(ask, limits(), handle)
    running = transport.open(ask, limits(), handle)
    earlier.close()
    handle.end("client_gone")
    assert simulator.requests[-1].wait_ended(1.0) == "client_closed"
    running.close()


def test_an_answer_that_was_closed_early_frees_its_upstream(simulator, transport, ask):
    simulator.script("plain", stall_after(n_events=1, answer=WORDS))
    response = transport.open(ask, limits(), Handle())
    response.read(1.0)
    response.close()
    assert simulator.requests[-1].wait_ended(1.0) == "client_closed"


def test_a_finished_stream_waits_a_moment_for_its_end_so_that_its_connection_is_used_again(simulator, transport, ask):
    last_chunk_late = raw(CHUNKED + b"3\r\nabc\r\n", 0.005, b"0\r\n\r\n", 1.0)
    simulator.script("plain", last_chunk_late, reply(200, {}))
    response = transport.open(ask, limits(), Handle())
    response.read(1.0)
    response.close(finished=True)
    assert simulator.requests[-1].ended is None and not response._raw._connection


def test_an_end_that_drips_is_not_waited_for(simulator, transport, ask):
    simulator.script("plain", raw(CHUNKED + b"3\r\nabc\r\n0;", *(step for _ in range(300) for step in (b"x", 0.01))))
    watch = Watch()
    handle = watch.open_handle(None)
    response = transport.open(ask, limits(), handle)
    response.read(1.0)
    began = time.monotonic()
    response.close(finished=True)
    watch.close_handle(handle)
    assert time.monotonic() - began < 0.5


# --- before the connection is there ------------------------------------------------------------------------------------


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def secure(listening):
    return UpstreamRequest(f"https://127.0.0.1:{listening.getsockname()[1]}/x", {}, b"{}")


def test_a_silent_tls_handshake_is_a_connection_that_does_not_come(transport, listener):
    began = time.monotonic()
    with pytest.raises(UpstreamTimeout) as raised:
        whole(transport, secure(listener), connect_s=0.3)
    assert (raised.value.phase, raised.value.cooldown_scope) == ("connect", "provider")
    assert time.monotonic() - began < 0.8


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
def test_a_tls_handshake_that_breaks_is_a_provider_out_of_reach(transport, listener, reset):
    def hang_up_on() -> None:
        connection, _ = listener.accept()
        connection.recv(100)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))
        connection.close()

    thread = threading.Thread(target=hang_up_on)
    thread.start()
    with pytest.raises(UpstreamUnreachable) as raised:
        whole(transport, secure(listener))
    thread.join()
    assert raised.value.cooldown_scope == "provider"


def test_a_client_that_leaves_during_the_tls_handshake_is_seen(transport, listener):
    client, browser = socket.socketpair()
    watch = Watch()
    handle = watch.open_handle(client)
    timer = threading.Timer(0.2, browser.close)
    timer.start()
    began = time.monotonic()
    with pytest.raises(ClientGone):
        whole(transport, secure(listener), handle, connect_s=3)
    watch.close_handle(handle)
    timer.join()
    client.close()
    assert time.monotonic() - began < 1


@pytest.fixture
def deaf():
    """The address of a listener whose backlog is full: the kernel answers no attempt to connect."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()
        for filler in fillers:
            filler.close()


@pytest.fixture
def resolve(monkeypatch):
    """Return a function that gives every name these addresses."""

    def to(*addresses):
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr("socket.getaddrinfo", lambda *args: found)

    return to


def test_a_client_that_leaves_while_nobody_accepts_is_seen(transport, deaf):
    client, browser = socket.socketpair()
    with client:
        watch = Watch()
        handle = watch.open_handle(client)
        timer = threading.Timer(0.2, browser.close)
        timer.start()
        began = time.monotonic()
        with pytest.raises(ClientGone):
            whole(transport, UpstreamRequest(f"http://127.0.0.1:{deaf[1]}/x", {}, b"{}"), handle, connect_s=3, first_token_s=3)
        watch.close_handle(handle)
        timer.join()
    assert time.monotonic() - began < 1


MANY = UpstreamRequest("http://many.example/x", {}, b"{}")


def timed_out(transport, ask, handle=None, **seconds):
    began = time.monotonic()
    with pytest.raises(UpstreamTimeout) as raised:
        whole(transport, ask, handle, **seconds)
    return raised.value.phase, time.monotonic() - began


def test_all_addresses_of_a_name_share_the_connect_limit(transport, deaf, listener, resolve):
    resolve(*[deaf] * 4)
    phase, took_s = timed_out(transport, MANY, connect_s=0.4)
    assert phase == "connect" and took_s < 0.8
    resolve(deaf, listener.getsockname())
    phase, took_s = timed_out(transport, MANY, connect_s=0.4, first_token_s=0.4)
    assert phase == "first_token" and took_s < 0.7  # the second was reached when half of the limit was over


def test_tls_gets_all_that_is_left_of_the_connect_limit(transport, deaf, listener, resolve):
    resolve(listener.getsockname(), deaf)
    phase, took_s = timed_out(transport, UpstreamRequest("https://many.example/x", {}, b"{}"), connect_s=0.6)
    assert phase == "connect" and 0.5 < took_s < 1


def test_a_request_that_ended_tries_no_further_address(transport, deaf, resolve):
    resolve(*[deaf] * 4)
    handle = Handle()
    timer = threading.Timer(0.1, handle.end, ["client_gone"])
    timer.start()
    began = time.monotonic()
    with pytest.raises(ClientGone):
        whole(transport, MANY, handle, connect_s=2, first_token_s=2)
    timer.join()
    assert time.monotonic() - began < 0.4


def test_an_answer_that_nobody_asked_for_is_nobody_s(simulator, transport, ask):
    simulator.script("plain", *[raw(ONE % b"ab" + ONE % b"XX", 0.05)] * 3)
    assert [whole(transport, ask) for _ in range(3)] == [b"ab"] * 3


# --- waiting without reading -------------------------------------------------------------------------------------------


def test_waiting_tells_whether_there_is_something_to_read_and_reads_nothing(simulator, transport, ask):
    two_events = CHUNKED + b"3\r\nabc\r\n3\r\ndef\r\n"
    simulator.script("plain", raw(two_events, 0.3, b"3\r\nghi\r\n0\r\n\r\n", 1.0))
    response = transport.open(ask, limits(), Handle())
    assert response.wait(0) and response.read(1.0) == b"abcdef"  # it is in the buffer, not in the socket
    assert not response.wait(0.05)
    assert response.wait(1.0) and response.read(1.0) == b"ghi"  # a wait in vain spoils nothing
    assert response.wait(0) and response.read(1.0) == b"" and response.wait(0)
    response.close()


class Raw:
    """As much of urllib3's response as waiting looks at, when TLS has nothing whole in its buffer."""

    status, closed, headers = 200, False, dict[str, str]()

    def __init__(self):
        self._fp = self

    @property
    def has_bytes(self):
        raise ssl.SSLWantReadError

    def close(self):
        raise OSError


def test_waiting_looks_into_tls_too():
    left, right = socket.socketpair()
    with right, ssl.create_default_context().wrap_socket(left, server_hostname="x", do_handshake_on_connect=False) as secured:
        response = UpstreamResponse(Raw(), Handle(), secured)
        secured.pending = lambda: 0  # type: ignore[method-assign]
        assert not response.wait(0)
        secured.pending = lambda: 5  # type: ignore[method-assign]
        assert response.wait(0)  # decrypted already, so no poll sees it
        secured.pending = lambda: 0  # type: ignore[method-assign]
        right.send(b"x")
        assert response.wait(0)


def test_what_cannot_be_looked_through_is_read():
    assert UpstreamResponse(Raw(), Handle(), None).wait(0)
    assert UpstreamResponse(Raw(), Handle(), object()).wait(0)  # type: ignore[arg-type]


def test_closing_never_raises_and_always_lets_go_of_the_socket():
    left, right = socket.socketpair()
    with left, right:
        handle = Handle()
        handle.attach(left)
        UpstreamResponse(Raw(), handle, left).close()
        handle.end("client_gone")
        right.settimeout(0)
        with pytest.raises(BlockingIOError):
            right.recv(1)


# --- the watch's thread ------------------------------------------------------------------------------------------------


def test_the_watch_survives_what_it_stumbles_over(monkeypatch, caplog):
    client, browser = socket.socketpair()
    watch, real = Watch(), Watch._poll

    def stumble(self, handles):
        monkeypatch.setattr(Watch, "_poll", real)
        raise KeyError(handles)

    monkeypatch.setattr(Watch, "_poll", stumble)
    with client:
        handle = watch.open_handle(client)
        browser.close()
        assert handle.wait(1.0) and handle.ended == "client_gone"
        watch.close_handle(handle)
    (record,) = caplog.records
    assert record.fields["exception"] == "KeyError" and "Handle object" not in str(record.fields)
