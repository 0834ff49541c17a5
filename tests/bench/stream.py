"""What a streamed chunk costs between the provider's bytes and the client's. Run: `.venv/bin/python -m tests.bench.stream`

Chunks of one word each, cut into the reads of a socket, through everything that a stream passes: chunked coding, events,
adapter, shaper, relay. Processor time of the best of many rounds: other work on the machine does not show.
"""

import time
from typing import Any, cast

from gateway.domain import Candidate, ChatRequest, Credential, Model, ProviderRow
from gateway.providers.driver import EventStream
from gateway.providers.groq import Adapter
from gateway.upstream.chunked import Dechunker
from gateway.upstream.relay import Relay, RelayLimits
from gateway.upstream.shape import ChunkShaper

WORDS, READ_BYTES, ROUNDS = 1000, 8192, 200
HEAD = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1714000000,"model":"llama-3.3-70b-versatile",'


def wire():
    """Return the chunked body of a stream."""
    deltas = [b'{"role":"assistant","content":""}', *(b'{"content":" word%d"}' % n for n in range(WORDS))]
    events = [HEAD + b'"choices":[{"index":0,"delta":' + delta + b',"finish_reason":null}]}\n\n' for delta in deltas]
    events.append(HEAD + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    return b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"


class Response:
    """As much of an upstream response as a stream reads from."""

    def __init__(self, body):
        self._reads = iter([body[at : at + READ_BYTES] for at in range(0, len(body), READ_BYTES)])
        self._dechunker = Dechunker()

    def read(self, wait_s):
        return self._dechunker.feed(next(self._reads, b""))

    def close(self, *, finished):
        pass


def relay(body):
    row = ProviderRow(key="groq", base_url="http://x")
    candidate = Candidate(row, Model(provider="groq", id="m"), Credential("groq", 1, "http://x"))
    adapter = Adapter(row, cast(Any, None), cast(Any, None))
    decoder = adapter.stream_decoder(ChatRequest(body={"messages": []}), candidate)
    return Relay(
        EventStream(cast(Any, Response(body)), decoder, (), ()),
        ChunkShaper(model="m", splits_thoughts=False),
        [],
        limits=RelayLimits(idle_s=20, ends_at_mono=time.monotonic() + 1e6),
        include_usage=False,
        prompt_tokens=1,
        x_gateway={},
        on_close=lambda end: None,
        rescue=lambda text, shaper, error: None,
    )


def main():
    body = wire()
    assert b"".join(relay(body)).count(b"\n\n") == WORDS + 2
    times = []
    for _ in range(ROUNDS):
        relaying = relay(body)
        began = time.thread_time()
        for _ in relaying:
            pass
        times.append(time.thread_time() - began)
    print(f"one chunk of a stream: {min(times) / WORDS * 1e6:.1f} us")


if __name__ == "__main__":
    main()
