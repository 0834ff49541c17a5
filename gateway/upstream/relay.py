"""The iterable given to WSGI for a streamed answer: upstream chunks become client bytes, one write per upstream read.

From here nothing fails over: the client has part of the answer. A break ends in an error event, never in a
plausible end, and never in an exception; unless the callable `rescue` finds another stream that goes on where it broke.
"""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from gateway import jsonio
from gateway.domain import Usage
from gateway.errors import ClientGone, Draining, GatewayError, InternalError, StreamBroken, UpstreamError, UpstreamTimeout
from gateway.upstream.shape import ChunkShaper, plain_text_of
from gateway.upstream.sse import DONE, format_data
from gateway.upstream.watch import Handle

FINISH_GRACE_S = 1.0  # after the finish reason: how long usage and [DONE] may take before the stream is finished without
DONE_GRACE_S = 0.2  # and [DONE] alone
LONG_SILENCE_S = 45.0  # proxies cut connections that are silent for longer (Heroku: 55 s)
HEARTBEAT_S = 15.0  # how often a client hears something where such a silence is allowed

log = logging.getLogger("gateway")

Outcome = Literal["completed", "broken", "client_gone", "drained"]


class Chunks(Protocol):
    """What the relay reads from (providers.base.ChatStream)."""

    def wait(self, wait_s: float) -> bool: ...

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


class Form(Protocol):
    """How one surface of the API writes a stream: chunks in OpenAI's shape become its own events. One a stream."""

    heartbeat: bytes  # what a client of this surface reads over

    def chunks(self, chunks: list[dict[str, Any]]) -> bytes:
        """Return the events that tell of these chunks; nothing where there is nothing to tell yet."""
        ...

    def end(self) -> bytes:
        """Return what follows the last chunk of an answer that is complete."""
        ...

    def failure(self, error: GatewayError) -> bytes:
        """Return what follows where the answer breaks off."""
        ...


class ChatForm:
    """The chunks themselves, one event each, and [DONE]."""

    heartbeat = b": hb\n"

    def chunks(self, chunks: list[dict[str, Any]]) -> bytes:
        return format_data(*map(jsonio.dumps, chunks))

    def end(self) -> bytes:
        return DONE

    def failure(self, error: GatewayError) -> bytes:
        return format_data(jsonio.dumps(error.to_body())) + DONE


class _Closed:
    """Stands where a stream was."""

    def wait(self, wait_s: float) -> bool:
        return True

    def next_chunks(self, wait_s: float) -> list[dict[str, Any]] | None:
        return None

    def close(self) -> None:
        pass


class Sent:
    """The text that a client has, as far as another stream could go on from it."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._only_text = True

    @property
    def text(self) -> str | None:
        """The text of the only answer, None where there is more to it than text: calls, other answers, a refusal."""
        return "".join(self._pieces) if self._only_text else None

    def note(self, shaped: list[dict[str, Any]]) -> None:
        for chunk in shaped:
            piece = plain_text_of(chunk)
            if piece is None:
                self._only_text = False
            else:
                self._pieces.append(piece)


@dataclass(frozen=True, slots=True)
class Rescued:
    """A stream that goes on where another broke: `shaper` and `first` send the rest of the very same answer."""

    stream: Chunks
    shaper: ChunkShaper
    first: list[dict[str, Any]]
    x_gateway: Mapping[str, Any]


# Given the text that the client has, what shaped it and why it broke; blocks for as long as it takes, seconds.
Rescue = Callable[[str, ChunkShaper, UpstreamError], Rescued | None]


class Grace:
    """How long a stream is still read after its finish reason.

    One moment is set, which comments and repeated ends do not move: what comes then is usage and [DONE], if anything. Where
    the answer goes on, the finish reason was not the end, and the moment is off.
    """

    def __init__(self, shaper: ChunkShaper) -> None:
        self._shaper = shaper
        self._ends_at = math.inf

    def note(self) -> None:
        """Note what was just read."""
        if self._shaper.finished:
            self._ends_at = min(self._ends_at, time.monotonic() + (DONE_GRACE_S if self._shaper.usage else FINISH_GRACE_S))
        else:
            self._ends_at = math.inf

    def left_s(self) -> float:
        """Return the seconds left: without limit before the end."""
        return self._ends_at - time.monotonic()


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
        handle: Handle | None = None,
        rescue: Rescue | None = None,
        form: Form | None = None,
    ) -> None:
        self._stream = stream
        self._shaper = shaper
        self._first = first
        self._limits = limits
        self._include_usage = include_usage
        self._prompt_tokens = prompt_tokens
        self._x_gateway = x_gateway
        self._on_close = on_close
        self._rescue = rescue
        self._form = form or ChatForm()
        self._sent = Sent()
        self._closed = False
        self._error: GatewayError | None = None
        self._done = False
        self._grace = Grace(shaper)
        self._grace.note()
        self._told_at = time.monotonic()  # anything to the client
        self._events = self._run()
        if handle:  # also while a read drips, or a write to a client that does not read waits
            handle.end_by(limits.ends_at_mono)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._events)

    def close(self) -> None:
        """Let the upstream go and report how it ended; a stream left before its end was left by its client.

        What went wrong on the way is raised after that.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._events.close()
        finally:
            try:
                self._stream.close()
            finally:
                self._on_close(StreamEnd(self._outcome(), self._shaper.final_usage(self._prompt_tokens), self._error))

    def _outcome(self) -> Outcome:
        if isinstance(self._error, Draining):
            return "drained"
        if isinstance(self._error, ClientGone) or not self._done:
            return "client_gone"
        return "broken" if self._error else "completed"

    def _run(self) -> Generator[bytes, None, None]:
        try:
            yield from self._relay_and_rescue()
        except ClientGone as error:
            self._error = error
            return
        except GatewayError as error:
            if not self._shaper.finished:  # a break after the end loses nothing
                self._error = as_break(error)
        except Exception as error:
            self._error = self._defect(error)
        last = self._end()
        self._done = True
        yield last

    def _relay_and_rescue(self) -> Iterator[bytes]:
        """Relay the stream, and wherever it breaks, another one that goes on from there."""
        while True:
            try:
                yield from self._relay()
                return
            except UpstreamError as error:
                rescued = self._find_rescue(error)
                if rescued is None:
                    raise
            self._stream, self._shaper, self._x_gateway = rescued.stream, rescued.shaper, rescued.x_gateway
            self._first, self._grace = rescued.first, Grace(rescued.shaper)
            self._grace.note()

    def _find_rescue(self, error: UpstreamError) -> Rescued | None:
        ran_out = isinstance(error, UpstreamTimeout) and error.phase == "total"
        text = self._sent.text
        if self._rescue is None or self._shaper.finished or ran_out or text is None:
            return None
        self._stream.close()
        self._stream = _Closed()
        return self._rescue(text, self._shaper, error)

    def _relay(self) -> Iterator[bytes]:
        if self._first:
            self._sent.note(self._first)
            yield from self._events_of(self._first)

        beats = self._limits.idle_s > LONG_SILENCE_S
        while True:
            if beats and not self._shaper.finished:
                yield from self._beat_while_silent()
            chunks = self._next_chunks()
            if chunks is None:
                break
            shaped = self._shaper.feed_all(chunks)
            self._grace.note()
            if shaped:
                if self._rescue:
                    self._sent.note(shaped)
                yield from self._events_of(shaped)
        if not self._shaper.ended:
            raise StreamBroken("The provider's stream ended in the middle of the answer.")

    def _events_of(self, chunks: list[dict[str, Any]]) -> Iterator[bytes]:
        told, now = self._form.chunks(chunks), time.monotonic()
        if not told and now >= self._told_at + HEARTBEAT_S:  # thoughts, to a client that does not hear them
            told = self._form.heartbeat
        if told:
            self._told_at = now
            yield told

    def _next_chunks(self) -> list[dict[str, Any]] | None:
        """Return what arrived, None where the stream is over or need not be waited for.

        :raises GatewayError: why no more will come.
        """
        if self._shaper.error:
            raise self._shaper.error
        left_s = min(self._limits.ends_at_mono - time.monotonic(), self._grace.left_s())
        try:
            if left_s > 0:
                return self._stream.next_chunks(min(left_s, self._limits.idle_s))
        except UpstreamTimeout:
            if time.monotonic() < self._limits.ends_at_mono:
                raise
        if self._shaper.finished:
            return None
        raise UpstreamTimeout("The stream ran for as long as one may (STREAM_MAX_S).", phase="total")

    def _beat_while_silent(self) -> Iterator[bytes]:
        """Yield heartbeats until upstream has something to read, or the stream's time is over.

        :raises UpstreamTimeout: nothing came within the idle limit.
        """
        silent_by = min(time.monotonic() + self._limits.idle_s, self._limits.ends_at_mono)
        while not self._stream.wait(min(self._told_at + HEARTBEAT_S, silent_by) - time.monotonic()):
            now = time.monotonic()
            if now >= self._limits.ends_at_mono:
                return
            if now >= silent_by:
                raise UpstreamTimeout("The provider was silent for too long.", phase="idle")
            if now >= self._told_at + HEARTBEAT_S:
                self._told_at = now
                yield self._form.heartbeat

    def _end(self) -> bytes:
        """Return what the client gets last: the end of the answer, or why there is none."""
        if self._error is None:
            try:
                last = self._shaper.finish(self._x_gateway, include_usage=self._include_usage, prompt_tokens=self._prompt_tokens)
                return self._form.chunks(last) + self._form.end()
            except GatewayError as error:
                self._error = as_break(error)
            except Exception as error:
                self._error = self._defect(error)
        return self._form.failure(self._error)

    def _defect(self, error: Exception) -> InternalError:
        """Log where a defect of ours happened, not what it was about, and return what the client is told."""
        fields = {
            "id": self._x_gateway.get("request_id"),
            "exception": type(error).__name__,
            "traceback": "".join(traceback.format_tb(error.__traceback__)),
        }
        log.error("internal error", extra={"fields": fields})
        return InternalError("The gateway failed. The operator finds the reason in its log, under this request's id.")


def as_break(error: GatewayError) -> GatewayError:
    """Return the error as the client of a running stream sees it: what broke, with its own code and type."""
    if isinstance(error, UpstreamError) and not isinstance(error, UpstreamTimeout | StreamBroken):
        broken = StreamBroken(f"The answer broke off: {error.message}", upstream_status=error.upstream_status)
        broken.provider, broken.model = error.provider, error.model
        return broken
    return error
