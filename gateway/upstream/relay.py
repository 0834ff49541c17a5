"""The iterable given to WSGI for a streamed answer: upstream chunks become client bytes, one write per upstream read.

From here nothing fails over: the client has part of the answer. A break ends in an error event, never in a
plausible end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from gateway import jsonio
from gateway.domain import Usage
from gateway.errors import ClientGone, Draining, GatewayError, StreamBroken, UpstreamError, UpstreamTimeout
from gateway.upstream.shape import ChunkShaper
from gateway.upstream.sse import DONE, format_data

FINISH_GRACE_S = 1.0  # after the finish reason: how long usage and [DONE] may take before the stream is finished without

Outcome = Literal["completed", "broken", "client_gone", "drained"]


class Chunks(Protocol):
    """What the relay reads from (providers.base.ChatStream)."""

    def next_chunks(self, wait_s: float) -> list[dict[str, Any]] | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """How a stream ended, for whoever settles it. `error` is None when it completed."""

    outcome: Outcome
    usage: Usage
    error: GatewayError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """`idle_s`: the longest gap between upstream bytes. `ends_at_mono`: when even a lively stream is cut."""

    idle_s: float
    ends_at_mono: float


class Relay:
    """Server-sent events for one client. `close` runs once however the stream ends, also if it never started."""

    def __init__(
        self,
        stream: Chunks,
        shaper: ChunkShaper,
        first: list[dict[str, Any]],
        *,
        limits: RelayLimits,
        include_usage: bool,
        prompt_tokens: int,
        x_gateway: Mapping[str, Any],
        on_close: Callable[[StreamEnd], None],
    ) -> None:
        self._stream = stream
        self._shaper = shaper
        self._first = first
        self._limits = limits
        self._include_usage = include_usage
        self._prompt_tokens = prompt_tokens
        self._x_gateway = x_gateway
        self._on_close = on_close
        self._closed = False
        self._error: GatewayError | None = None
        self._done = False
        self._events = self._run()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._events)

    def close(self) -> None:
        """Let the upstream go and report how it ended; a stream left before its end was left by its client."""
        if self._closed:
            return
        self._closed = True
        self._events.close()
        self._stream.close()
        self._on_close(StreamEnd(self._outcome(), self._shaper.final_usage(self._prompt_tokens), self._error))

    def _outcome(self) -> Outcome:
        if isinstance(self._error, Draining):
            return "drained"
        if isinstance(self._error, ClientGone) or not self._done:
            return "client_gone"
        return "broken" if self._error else "completed"

    def _run(self) -> Generator[bytes, None, None]:
        if self._first:
            yield encode_chunks(self._first)
        try:
            yield from self._relay()
        except ClientGone as error:
            self._error = error
            return
        except GatewayError as error:
            if not self._shaper.finished:  # a break after the finish reason loses nothing
                self._error = as_break(error)
        self._done = True
        yield self._end()

    def _relay(self) -> Iterator[bytes]:
        while (chunks := self._stream.next_chunks(self._wait_s())) is not None:
            shaped = [chunk for raw in chunks for chunk in self._shaper.feed(raw)]
            if shaped:
                yield encode_chunks(shaped)
        if not self._shaper.finished:
            raise StreamBroken("The provider's stream ended in the middle of the answer.")

    def _wait_s(self) -> float:
        left_s = self._limits.ends_at_mono - time.monotonic()
        if left_s <= 0:
            raise UpstreamTimeout("The stream ran for as long as one may.", phase="total")
        return min(left_s, FINISH_GRACE_S if self._shaper.finished else self._limits.idle_s)

    def _end(self) -> bytes:
        if self._error:
            return format_data(jsonio.dumps(self._error.to_body())) + DONE
        last = self._shaper.finish(self._x_gateway, include_usage=self._include_usage, prompt_tokens=self._prompt_tokens)
        return encode_chunks(last) + DONE


def encode_chunks(chunks: list[dict[str, Any]]) -> bytes:
    return b"".join([format_data(jsonio.dumps(chunk)) for chunk in chunks])


def as_break(error: GatewayError) -> GatewayError:
    """Return the error as the client of a running stream sees it: what broke, with its own code and type."""
    if isinstance(error, UpstreamError) and not isinstance(error, UpstreamTimeout | StreamBroken):
        broken = StreamBroken(f"The answer broke off: {error.message}", upstream_status=error.upstream_status)
        broken.provider, broken.model = error.provider, error.model
        return broken
    return error
