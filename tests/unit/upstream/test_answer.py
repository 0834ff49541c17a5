"""What a provider's connection may send before and around a body, over a real socket pair."""

import gc
import gzip
import http.client
import socket
import weakref

import pytest

from gateway.upstream.answer import MOST_FIELDS, MOST_LINE_BYTES, Answer, BadFraming


class Pool:
    """Takes connections back."""

    def __init__(self):
        self.back = []

    def _put_conn(self, connection):
        self.back.append(connection)


class Connection:
    is_closed = False

    def close(self):
        self.is_closed = True


def answer(data, method="POST"):
    """Return the answer that a provider gives by these bytes, and then by the end of its connection."""
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    theirs.close()
    with ours:
        found = Answer(ours, method=method)
        found.begin()
    found._connection, found._pool = Connection(), Pool()
    return found


def body(found, **options):
    pieces = []
    while piece := found.read1(65536, **options):
        pieces.append(piece)
    return b"".join(pieces)


def ok(*fields):
    return b"\r\n".join([b"HTTP/1.1 200 OK", *fields, b"", b""])


@pytest.mark.parametrize(
    ("head", "fields"),
    [
        (ok(b"Content-Type: a/b", b"X-Two: 1", b"x-two:2 "), {"content-type": "a/b", "x-two": "1, 2"}),
        (ok(b"Long: a", b"  b", b"\tc"), {"long": "a b c"}),
        (ok(b"no field at all", b"A: 1", b" 2"), {"a": "1 2"}),
        (ok(b" nothing to go on", b"A : 1"), {"a": "1"}),
        (ok(b"no field at all", b" goes on"), {}),
        (ok(b"T: 12:30", b"Empty:", b"L: \xe9"), {"t": "12:30", "empty": "", "l": "é"}),
        (b"HTTP/1.1 200\nA: 1\n\n", {"a": "1"}),
        (ok(), {}),
    ],
)
def test_a_head_is_read_as_it_is_meant(head, fields):
    found = answer(head)
    assert (found.status, found.headers) == (200, fields)


def test_informational_answers_are_passed_over():
    found = answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok(b"Content-Length: 2") + b"ab")
    assert (found.status, found.headers, body(found)) == (200, {"content-length": "2"}, b"ab")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/3 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        ok(b"A: " + b"x" * MOST_LINE_BYTES),
        ok(*[b"A: 1"] * (MOST_FIELDS + 1)),
        ok(b"Content-Length: 5", b"Content-Length: 6"),
        ok(b"Content-Length: -5"),
        ok(b"Content-Length: five"),
        ok(b"Content-Length: " + b"9" * 5000),
    ],
)
def test_what_is_no_head_is_refused(head):
    with pytest.raises(http.client.HTTPException):
        answer(head)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (ok(b"Content-Length: 3") + b"abcdef", b"abc"),
        (ok(b"Content-Length: 3, 3") + b"abc", b"abc"),
        (ok(b"Content-Length: 0"), b""),
        (ok() + b"until the end", b"until the end"),
        (ok(b"Transfer-Encoding: Chunked", b"Content-Length: 99") + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc", b""),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
        (ok(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\n\r\n", b"a"),
        (b"HTTP/1.0 200 OK\r\n\r\nabc", b"abc"),
    ],
)
def test_the_body_ends_where_its_head_says(data, expected):
    found = answer(data)
    assert body(found) == expected and found.closed and found.read1(5) == b""


def test_a_head_alone_has_no_body():
    assert body(answer(ok(b"Content-Length: 3"), method="HEAD")) == b""


@pytest.mark.parametrize(
    "data",
    [ok(b"Content-Length: 9") + b"abc", ok(b"Transfer-Encoding: chunked") + b"2\r\nab\r\n9\r\nc", ok(b"Content-Length: 1")],
)
def test_a_body_that_breaks_off_is_told_from_one_that_ends(data):
    with pytest.raises(http.client.IncompleteRead):
        body(answer(data))


def test_chunks_that_are_none_are_refused():
    with pytest.raises(BadFraming):
        body(answer(ok(b"Transfer-Encoding: chunked") + b"2\r\nab\r\nnext\r\n"))


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_compression_that_nobody_asked_for_is_taken_off(framing):
    packed = gzip.compress(b"words " * 100)
    if framing == "chunked":
        head, packed = (
            ok(b"Content-Encoding: gzip", b"Transfer-Encoding: chunked"),
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed),
        )
    else:
        head = ok(b"Content-Encoding: gzip", b"Content-Length: %d" % len(packed))
    assert body(answer(head + packed), decode_content=True) == b"words " * 100


# --- its connection ------------------------------------------------------------------------------------------------------


def test_the_connection_goes_back_with_the_last_byte_and_once():
    found = answer(ok(b"Content-Length: 3") + b"abc")
    pool, connection = found._pool, found._connection
    assert found.read1(2) == b"ab" and not pool.back
    assert found.read1(2) == b"c" and pool.back == [connection]
    found.close()
    found.release_conn()
    assert pool.back == [connection] and not connection.is_closed


def test_a_connection_on_which_more_came_than_was_asked_for_is_closed():
    found = answer(ok(b"Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\n\r\n" + ok(b"Content-Length: 2") + b"XX")
    connection = found._connection
    assert body(found) == b"a" and connection.is_closed


def test_an_answer_that_was_compressed_is_let_go_without_a_collection():
    packed = gzip.compress(b"words")
    found = answer(ok(b"Content-Encoding: gzip", b"Content-Length: %d" % len(packed)) + packed)
    gone = weakref.ref(found)
    gc.disable()
    try:
        assert body(found, decode_content=True) == b"words"
        del found
        assert gone() is None
    finally:
        gc.enable()


def test_a_connection_whose_answer_was_not_read_to_its_end_is_closed():
    found = answer(ok(b"Content-Length: 3") + b"abc")
    pool, connection = found._pool, found._connection
    found.close()
    found.release_conn()
    assert connection.is_closed and pool.back == [connection]
