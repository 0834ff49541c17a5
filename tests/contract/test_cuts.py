"""The same stream, cut in two at every byte: the client gets the same, in every provider's protocol."""

import time
from typing import Any

import pytest

from gateway import jsonio
from gateway.domain import ChatRequest
from gateway.errors import UpstreamError
from gateway.providers import load_adapter
from gateway.upstream.shape import ChunkShaper
from gateway.upstream.transport import CallLimits
from gateway.upstream.watch import Handle
from tests.contract.compatible import FIXTURES, Notes
from tests.contract.test_garbled import Canned, candidate_of

MODELS = {
    "groq": "groq/openai/gpt-oss-120b",
    "gemini": "gemini/gemini-3.5-flash",
    "workers_ai": "workers_ai/@cf/openai/gpt-oss-120b",
    "openrouter": "openrouter/openai/gpt-oss-20b:free",
    "cerebras": "cerebras/gpt-oss-120b",
}
STREAMS = sorted(path.relative_to(FIXTURES).as_posix() for path in FIXTURES.glob("*/*.sse"))
ODD = '{"odd": "\u2028\u2029\u0085 \u2603 \U0001f600", '.encode()  # none of it ends a line; some of it is cut in the middle
FORMS = {
    "LF": lambda stream: stream,
    "CRLF": lambda stream: stream.replace(b"\n", b"\r\n"),
    "CR": lambda stream: stream.replace(b"\n", b"\r"),
    "much else": lambda stream: b"\xef\xbb\xbf" + stream.replace(b"data: {", b": ping\nid: 1\nretry: 9\ndata: {\ndata: "),
}


class Pieces(Canned):
    """An event stream that arrives in these pieces."""

    def __init__(self, *pieces):
        super().__init__(200, "text/event-stream", b"")
        self.pieces = [piece for piece in pieces if piece]

    def read(self, wait_s):
        return self.pieces.pop(0) if self.pieces else b""


def stream_of(name):
    return (FIXTURES / name).read_bytes().replace(b"\r\n", b"\n").replace(b"data: {", b"data: " + ODD)


def told(name, *pieces):
    """Return what a client gets of these pieces: the chunks, and how it ended."""
    candidate = candidate_of(MODELS[name.partition("/")[0]])
    answer: Any = Pieces(*pieces)
    provider: Any = load_adapter(candidate.provider.adapter)(candidate.provider, answer, Notes())
    provider.now = lambda: 1.0
    request = ChatRequest(body={"messages": [{"role": "user", "content": "Hi"}]}, stream=True)
    stream = provider.open_stream(request, candidate, CallLimits(1, 1, 1, time.monotonic() + 9), Handle())
    shaper = ChunkShaper(model="m", splits_thoughts=True)
    chunks = []
    try:
        while (raw := stream.next_chunks(1)) is not None:
            chunks += shaper.feed_all(raw)
            if shaper.error:
                raise shaper.error
        return jsonio.dumps(chunks + shaper.finish({}, include_usage=True, prompt_tokens=1)), shaper.ended
    except UpstreamError as error:
        return jsonio.dumps(chunks), repr(error)


@pytest.fixture(autouse=True)
def nothing_is_random(monkeypatch):
    monkeypatch.setattr("gateway.upstream.shape.pieces.random.getrandbits", lambda size: 0)
    monkeypatch.setattr("time.time", lambda: 1.0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_says_the_same_wherever_it_is_cut(name, form):
    whole = told(name, stream_of(name))
    assert (whole[1] is True) != ("error" in name)
    stream = FORMS[form](stream_of(name))
    for offset in range(len(stream) + 1):
        assert told(name, stream[:offset], stream[offset:]) == whole, offset
    assert told(name, *(stream[place : place + 1] for place in range(len(stream)))) == whole
