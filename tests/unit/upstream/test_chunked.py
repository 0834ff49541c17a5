import pytest

from gateway.upstream.chunked import MAX_LINE_BYTES, Dechunker

BODIES = {
    "two chunks": (b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n", b"abcdefg"),
    "no content": (b"0\r\n\r\n", b""),
    "extensions, spaces and upper case": (b"3;a=b;c\r\nabc\r\n A \r\n0123456789\r\n000\r\n\r\n", b"abc0123456789"),
    "line ends in the content": (b"8\r\n\r\n0\r\n\r\n\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n\n"),
    "bare line feeds": (b"3\nabc\n0\n\n", b"abc"),
    "trailers": (b"1\r\nx\r\n0\r\nExpires: 0\r\nX-Sum: 1\r\n\r\n", b"x"),
}


def dechunk(pieces):
    dechunker = Dechunker()
    return b"".join(dechunker.feed(piece) for piece in pieces), dechunker.ended


@pytest.mark.parametrize(("body", "content"), BODIES.values(), ids=BODIES)
def test_content_is_the_same_wherever_the_bytes_are_cut(body, content):
    assert dechunk([body]) == (content, True)
    assert dechunk([body[i : i + 1] for i in range(len(body))]) == (content, True)
    for cut in range(len(body)):
        assert dechunk([body[:cut], body[cut:]]) == (content, True)
        assert dechunk([body[:cut]])[1] is False


def test_content_is_given_as_soon_as_it_is_there():
    dechunker = Dechunker()
    assert [dechunker.feed(piece) for piece in (b"5\r\nab", b"cd", b"e\r\n2\r\nfg")] == [b"ab", b"cd", b"efg"]


def test_what_follows_the_end_is_left_out():
    assert dechunk([b"1\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n"]) == (b"a", True)


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"-1\r\n",
        b"0x1\r\na\r\n",
        b"+1\r\n",
        b"1_0\r\n",
        b"g\r\n",
        b"1\r\nabc\r\n",
        b"1\r\na1\r\nb\r\n",
        b"1" * 16 + b"\r\n",
    ],
)
def test_what_is_not_chunked_breaks_it_after_what_stood_before(body):
    before = b"3\r\nabc\r\n"
    for cut in range(len(before + body)):
        dechunker = Dechunker()
        content = dechunker.feed((before + body)[:cut]) + dechunker.feed((before + body)[cut:])
        assert content.startswith(b"abc") and dechunker.broken and not dechunker.ended


def test_a_line_without_end_breaks_it():
    dechunker = Dechunker()
    dechunker.feed(b"1;" + b"x" * (MAX_LINE_BYTES - 2))
    assert not dechunker.broken
    dechunker.feed(b"x")
    assert dechunker.broken
