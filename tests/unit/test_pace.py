import socket
import threading
import time

import pytest

from gateway import pace
from gateway.pace import PacedSocket

BIG = b"x" * 4_000_000  # more than the kernel keeps


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    for name, value in {"READ_SILENCE_S": 0.2, "WRITE_SILENCE_S": 0.2, "GRACE_S": 0.4, "BYTES_PER_S": 1000}.items():
        monkeypatch.setattr(pace, name, value)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with PacedSocket.adopt(ours) as paced, theirs:
        yield paced, theirs


def drip(peer, piece, count, pause_s=0.05):
    """Send pieces from another thread."""

    def run():
        for _ in range(count):
            peer.send(piece)
            time.sleep(pause_s)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def receive(paced, count):
    data = b""
    while len(data) < count:
        data += paced.recv(100)
    return data


def test_silence_is_waited_out_for_a_while_only(pair):
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        pair[0].recv(10)
    assert 0.15 < time.monotonic() - began < 0.4


def test_a_drip_is_too_slow_though_it_never_pauses_for_long(pair):
    thread, began = drip(pair[1], b"x", 20), time.monotonic()
    with pytest.raises(TimeoutError):
        receive(pair[0], 20)
    assert 0.3 < time.monotonic() - began < 0.8
    thread.join()


def test_what_keeps_pace_may_take_long(pair):
    thread, began = drip(pair[1], b"x" * 100, 16), time.monotonic()
    assert receive(pair[0], 1600) == b"x" * 1600
    assert time.monotonic() - began > 0.6
    thread.join()


def test_waits_are_each_request_s_own(pair):
    for _ in range(4):
        thread = drip(pair[1], b"x", 5)
        assert receive(pair[0], 5) == b"xxxxx"
        thread.join()
        pair[0].begin()


def test_time_between_does_not_count(pair):
    for _ in range(5):
        time.sleep(0.1)
        pair[1].send(b"x")
        assert pair[0].recv(10) == b"x"


def test_a_client_that_does_not_read_is_not_waited_for(pair):
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        pair[0].sendall(BIG)
    assert 0.15 < time.monotonic() - began < 0.5


def test_a_client_that_reads_slowly_gets_all(pair):
    received = bytearray()

    def read():
        while len(received) < len(BIG):
            received.extend(pair[1].recv(400_000))
            time.sleep(0.02)

    thread = threading.Thread(target=read)
    thread.start()
    pair[0].sendall(BIG)
    thread.join()
    assert received == BIG


def test_a_client_that_left_is_told_as_by_any_socket(pair):
    pair[1].close()
    assert pair[0].recv(10) == b""
    with pytest.raises(BrokenPipeError):
        pair[0].sendall(b"x")


def test_other_modes_are_those_of_any_socket(pair):
    paced, peer = pair
    paced.setblocking(False)
    with pytest.raises(BlockingIOError):
        paced.recv(10)
    with pytest.raises(BlockingIOError):
        paced.sendall(BIG)
    paced.settimeout(0.01)
    with pytest.raises(TimeoutError):
        paced.recv(10)
    paced.settimeout(None)
    with pytest.raises(BlockingIOError):
        paced.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
    assert peer.recv(10) == b"x" * 10


@pytest.mark.parametrize("timeout_s", [None, 0.0, 0.1])
def test_a_socket_is_adopted_as_it_is(timeout_s):
    ours, theirs = socket.socketpair()
    ours.settimeout(timeout_s)
    number = ours.fileno()
    with theirs, PacedSocket.adopt(ours) as paced:
        assert (paced.fileno(), paced.gettimeout(), ours.fileno()) == (number, timeout_s, -1)
        began = time.monotonic()
        with pytest.raises(BlockingIOError if timeout_s == 0 else TimeoutError):
            paced.recv(1)
        assert (timeout_s or 0.0) <= time.monotonic() - began < 0.4


def test_a_socket_that_must_not_block_waits_for_nobody(pair):
    paced, peer = pair
    paced.setblocking(False)
    with pytest.raises(BlockingIOError):
        paced.recv(1)
    with pytest.raises(BlockingIOError):
        paced.sendall(b"x" * 10_000_000)
    paced.setblocking(True)
    peer.send(b"y")
    assert paced.recv(1) == b"y"
