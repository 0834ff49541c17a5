"""Bodies that break off or are not read, on a raw socket: what follows on the connection must not suffer."""

import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from gateway.api.exchange import SMALL_REST_BYTES
from gateway.lifecycle import SPARE_THREADS

pytestmark = pytest.mark.e2e

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
KEY = b"Authorization: Bearer sk-test\r\n"
NEXT = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def gateway(start_gateway):
    return start_gateway({}, workers=1, threads=4, app="tests.e2e.impatient:app")


def converse(gateway, data, *, half_close=False):
    """Send bytes and return all that comes back until the connection ends or falls silent."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=2) as connection:
        connection.sendall(data)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return receive(connection)


def receive(connection):
    answer = b""
    with suppress(TimeoutError):
        while piece := connection.recv(65536):
            answer += piece
    return answer


@pytest.mark.parametrize("body", [b"zz\r\n{}\r\n", b"2\r\n{}XX", b"\r\n"])
def test_a_malformed_chunk_is_a_400_and_the_end_of_the_connection(gateway, body):
    answer = converse(gateway, CHAT + KEY + b"Transfer-Encoding: chunked\r\n\r\n" + body + NEXT)
    assert answer.startswith(b"HTTP/1.1 400") and b"Connection: close" in answer and b"invalid_json" in answer
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("head", [b"Transfer-Encoding: chunked\r\n\r\n50\r\n", b"Content-Length: 50\r\n\r\n"])
def test_a_body_that_ends_early_is_a_400(gateway, head):
    answer = converse(gateway, CHAT + KEY + head + b'{"model"', half_close=True)
    assert answer.startswith(b"HTTP/1.1 400") and b"Connection: close" in answer and b"invalid_json" in answer


def test_a_reset_in_the_body_is_nobody_s_failure(gateway):
    connection = socket.create_connection(("127.0.0.1", gateway.port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.sendall(CHAT + KEY + b"Content-Length: 50\r\n\r\n{")
    connection.close()
    assert gateway.get("/healthz").status == 200
    assert "internal error" not in gateway.log() and "Traceback" not in gateway.log()


@pytest.mark.parametrize("size", [10, SMALL_REST_BYTES, SMALL_REST_BYTES + 1, 200_000])
def test_an_unread_body_is_never_taken_for_the_next_request(gateway, size):
    refused = CHAT + b"Content-Length: %d\r\n\r\n" % size + b"GET /v1/models HTTP/1.1\r\n".ljust(size, b"x")[:size]
    answer = converse(gateway, refused + NEXT)
    small = size <= SMALL_REST_BYTES
    head = answer.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 401") and (b"Connection: close" in head) != small
    assert answer.count(b"HTTP/1.1 ") == (2 if small else 1) and (b"HTTP/1.1 200" in answer) == small


@pytest.mark.parametrize("part", [CHAT[:20], CHAT + KEY + b"Content-Length: 50\r\n\r\n{"], ids=["of a head", "of a body"])
def test_clients_that_stop_in_the_middle_hold_no_thread_for_long(gateway, part):
    with ExitStack() as stack:
        for _ in range(4 + SPARE_THREADS):
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port))).sendall(part)
        began = time.monotonic()
        assert gateway.get("/healthz").status == 200
        assert time.monotonic() - began < 2.5


@pytest.mark.quiet
def test_a_body_that_drips_is_a_400_when_its_time_is_over(gateway):
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=9) as connection:
        connection.sendall(CHAT + KEY + b"Content-Length: 50\r\n\r\n")
        began = time.monotonic()
        threading.Thread(target=drip, args=(connection,)).start()
        answer = receive(connection)
    assert answer.startswith(b"HTTP/1.1 400") and b"Connection: close" in answer and b"slowly" in answer
    assert 1.5 < time.monotonic() - began < 4


def drip(connection):
    try:
        for _ in range(50):
            connection.send(b"x")
            time.sleep(0.2)
    except OSError:
        pass  # let go
