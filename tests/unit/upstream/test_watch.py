import math
import socket
import ssl

import pytest

from gateway.upstream.watch import LAST_WORDS_S, Handle, Watch


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.settimeout(0)
    right.settimeout(0)
    with left, right:
        yield left, right


def is_shut_down(peer):
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False


def armed(upstream, deadline_mono=100.0, client=None):
    handle = Handle(client)
    handle.arm(deadline_mono)
    handle.attach(upstream)
    return handle


@pytest.mark.parametrize(
    "stop", [lambda handle: handle.end("client_gone"), lambda handle: handle.expire()], ids=["end", "expire"]
)
def test_what_stops_a_request_shuts_its_upstream_down(pair, stop):
    handle = armed(pair[0])
    assert not is_shut_down(pair[1])
    stop(handle)
    assert is_shut_down(pair[1])


def test_a_socket_that_comes_after_the_end_is_shut_down_too(pair):
    handle = Handle()
    handle.end("drained")
    handle.attach(pair[0])
    assert is_shut_down(pair[1])


def test_a_socket_that_could_not_be_shut_down_yet_is_so_with_the_next_tick(pair):
    handle = armed(object())
    handle.end("client_gone")
    handle._upstream = pair[0]
    handle.check(0.0)
    assert is_shut_down(pair[1])


@pytest.mark.parametrize("let_go", [lambda handle, upstream: handle.disarm(), lambda handle, upstream: handle.detach(upstream)])
def test_a_socket_that_was_let_go_serves_others_undisturbed(pair, let_go):
    handle = armed(pair[0])
    let_go(handle, pair[0])
    handle.check(1000.0)
    handle.end("client_gone")
    assert not is_shut_down(pair[1]) and not handle.expired


def test_letting_an_earlier_call_go_does_not_let_go_of_the_running_one(pair):
    handle = armed(pair[0])
    handle.detach(object())
    handle.arm_deadline(1.0, object())
    assert handle.deadline_mono == 100.0
    handle.end("client_gone")
    assert is_shut_down(pair[1])


def test_a_deadline_is_checked_when_it_is_acted_upon(pair):
    """The watch reads no deadline that the request may have changed before it acts."""
    handle = armed(pair[0], deadline_mono=5.0)
    handle.check(4.9)
    assert not handle.expired
    handle.arm_deadline(9.0)
    handle.check(6.0)
    assert not handle.expired and not is_shut_down(pair[1])
    handle.check(9.1)
    assert handle.expired and is_shut_down(pair[1])


def test_the_end_of_a_request_s_time_ends_its_upstream_and_then_a_client_that_does_not_read(pair):
    others = socket.socketpair()
    with others[0], others[1]:
        others[1].settimeout(0)
        handle = armed(others[0], math.inf, client=pair[0])
        handle.end_by(10.0)
        handle.check(9.9)
        assert not handle.expired
        handle.check(10.1)
        assert handle.expired and is_shut_down(others[1])
        assert not is_shut_down(pair[1]) and handle.ended is None
        handle.check(10.1 + LAST_WORDS_S)
        assert is_shut_down(pair[1]) and handle.ended == "client_gone"


def test_a_call_that_begins_after_the_end_of_the_request_s_time_expires(pair):
    handle = Handle()
    handle.end_by(10.0)
    handle.arm(math.inf)
    handle.attach(pair[0])
    handle.check(11.0)
    assert handle.expired and is_shut_down(pair[1])


def test_a_client_whose_request_is_over_is_left_alone(pair):
    watch = Watch()
    handle = watch.open_handle(pair[0])
    handle.end_by(1e8)  # not past yet: the watch's own thread looks as well
    watch.close_handle(handle)
    handle.check(1e9)
    assert not is_shut_down(pair[1]) and handle.ended is None


def test_a_hang_up_seen_on_the_descriptor_of_a_request_that_is_over_is_not_its_clients(pair, monkeypatch):
    watch, handle = Watch(), Handle(pair[0])
    real = Handle.check

    class Poll:
        def register(self, number, events):
            self.number = number

        def poll(self, timeout):
            handle.release()  # the request ends just now
            return [(self.number, 0x2000)]  # RDHUP

    monkeypatch.setattr("gateway.upstream.watch.select.poll", Poll)
    monkeypatch.setattr(Handle, "check", real)
    watch._poll([handle])
    assert handle.ended is None


def test_shutting_down_tls_sends_nothing_in_the_clear(pair):
    left, right = pair
    left.setblocking(True)
    secured = ssl.create_default_context().wrap_socket(left, server_hostname="x", do_handshake_on_connect=False)
    with secured:
        armed(secured).end("client_gone")
        assert secured._sslobj is not None  # type: ignore[attr-defined]
        with pytest.raises(OSError):
            secured.send(b"secret")
        assert is_shut_down(right)


class Wrapped:
    """As urllib3's SSLTransport: no socket, no `shutdown`, but a socket within."""

    def __init__(self, plain):
        self.socket = plain


def test_tls_within_tls_is_shut_down_by_the_socket_within(pair):
    armed(Wrapped(pair[0])).end("client_gone")
    assert is_shut_down(pair[1])


def test_whatever_is_attached_the_watch_goes_on():
    handle = armed(object())
    handle.end("client_gone")
    handle.check(0.0)
