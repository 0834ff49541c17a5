"""What a provider does with one request: value objects to answer with, and faults to wrap around them.

A behaviour is anything that can be called with the `Connection`; a test may write its own function. Where a fault
takes an `answer`, None means: what the provider faithfully answers to that very request.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tests.e2e.simulator.wire import MAX_S, Connection, Framing

Behaviour = Callable[[Connection], None]
EventData = dict[str, Any] | list[Any] | str | bytes
StreamEvent = EventData | tuple[str, EventData]  # with its name


def to_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


# --- answers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer(ABC):
    """A status, headers and a body. Calling it sends it whole.

    `write_bytes`: bytes in one write (and HTTP chunk), None: one write a block. `pause_s` stands between writes.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    write_bytes: int | None = None
    pause_s: float = 0.0

    @abstractmethod
    def blocks(self, n_events: int | None = None) -> list[bytes]:
        """Return the body in its natural pieces, only those up to the given event."""

    @property
    @abstractmethod
    def framing(self) -> Framing: ...

    def __call__(self, connection: Connection) -> None:
        self.send_head(connection)
        self.send_blocks(connection, self.blocks())
        connection.end_body()

    def send_head(self, connection: Connection, *, missing: int = 0) -> None:
        """Send status and headers; `missing`: bytes promised by Content-Length beyond those of the body."""
        connection.send_head(self.status, self.headers, self.framing, length=sum(map(len, self.blocks())) + missing)

    def send_blocks(self, connection: Connection, blocks: Sequence[bytes]) -> None:
        if self.write_bytes:
            body = b"".join(blocks)
            blocks = [body[start : start + self.write_bytes] for start in range(0, len(body), self.write_bytes)]
        for block in blocks:
            connection.send_body(block)
            if self.pause_s:
                connection.wait(self.pause_s)


@dataclass(frozen=True)
class Reply(Answer):
    """An answer in one piece: `body` is JSON, or text or bytes as they are."""

    body: Any = b""

    @property
    def framing(self) -> Framing:
        return "length"

    def blocks(self, n_events: int | None = None) -> list[bytes]:
        body = self.body.encode() if isinstance(self.body, str) else self.body
        return [body if isinstance(body, bytes) else to_json(body)][:n_events]


@dataclass(frozen=True)
class Stream(Answer):
    """Server-sent events. An event is JSON, text or bytes, or a pair of its name and one of these.

    `chunked` False: no chunked encoding, the end of the connection is the end of the body. `comments` are sent before
    the first event, `comment_pause_s` apart.
    """

    events: Sequence[StreamEvent] = ()
    line_end: str = "\n"
    chunked: bool = True
    done: bool | Literal["twice"] = True
    comments: Sequence[str] = ()
    comment_pause_s: float = 0.0
    content_type: str = "text/event-stream"

    @property
    def framing(self) -> Framing:
        return "chunked" if self.chunked else "close"

    def blocks(self, n_events: int | None = None) -> list[bytes]:
        ends = {True: 1, False: 0, "twice": 2}[self.done]
        events: list[StreamEvent] = [*self.events, *(["[DONE]"] * ends)]
        return [self._render(event) for event in events[:n_events]]

    def _render(self, event: StreamEvent) -> bytes:
        name, data = event if isinstance(event, tuple) else ("", event)
        raw = data if isinstance(data, bytes) else data.encode() if isinstance(data, str) else to_json(data)
        lines = ([f"event: {name}".encode()] if name else []) + [b"data: " + line for line in raw.split(b"\n")]
        return self.line_end.encode().join([*lines, b"", b""])

    def send_head(self, connection: Connection, *, missing: int = 0) -> None:
        connection.send_head(self.status, {"Content-Type": self.content_type, **self.headers}, self.framing)
        for comment in self.comments:
            connection.send_body(f": {comment}{self.line_end * 2}".encode())
            if self.comment_pause_s:
                connection.wait(self.comment_pause_s)


def reply(status: int = 200, body: Any = b"", headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, headers or {}, body=body)


def stream(events: Sequence[StreamEvent], **options: Any) -> Stream:
    """Return a stream of these events; options are the fields of `Stream`."""
    return Stream(events=events, **options)


def html(status: int = 502) -> Reply:
    """Return a page such as an edge in front of the provider serves."""
    page = f"<html><head><title>{status}</title></head><body><h1>Error {status}</h1><p>cloudflare</p></body></html>"
    return Reply(status, {"Content-Type": "text/html; charset=UTF-8"}, body=page)


def empty(status: int = 200) -> Reply:
    return Reply(status)


# --- behaviours around an answer -----------------------------------------------------------------------------------


def faithful() -> Behaviour:
    """Answer as the provider would: a place holder between others in a script."""
    return lambda connection: connection.faithful()(connection)


def delay(seconds: float, then: Behaviour | None = None) -> Behaviour:
    """Be silent that long after the request, then behave."""

    def behave(connection: Connection) -> None:
        connection.wait(seconds)
        (then or connection.faithful())(connection)

    return behave


def altered(change: Callable[[Answer], Answer]) -> Behaviour:
    """Answer faithfully, but for a change: `altered(lambda answer: replace(answer, status=500))`."""
    return lambda connection: change(connection.faithful())(connection)


def restream(**options: Any) -> Behaviour:
    """Stream the faithful events in another form: options are the fields of `Stream`. Fails on an answer in one piece."""
    return altered(lambda answer: replace(answer, **options))


def drip(body: Any = None, bytes_per_s: float = 100.0) -> Behaviour:
    """Send a body (JSON, bytes, or an `Answer`) byte by byte, in at most 50 writes a second."""
    size = max(1, round(bytes_per_s / 50))

    def behave(connection: Connection) -> None:
        answer = body if isinstance(body, Answer) else connection.faithful() if body is None else Reply(body=body)
        replace(answer, write_bytes=size, pause_s=size / bytes_per_s)(connection)

    return behave


def wrong_length(answer: Answer | None = None, missing: int = 100) -> Behaviour:
    """Promise more bytes than are sent, then close."""

    def behave(connection: Connection) -> None:
        whole = answer or connection.faithful()
        whole.send_head(connection, missing=missing)
        whole.send_blocks(connection, whole.blocks())
        connection.cut()

    return behave


# --- faults --------------------------------------------------------------------------------------------------------


def stall(max_s: float = MAX_S) -> Behaviour:
    """Read the request and never answer, until the client leaves; after `max_s` close."""

    def behave(connection: Connection) -> None:
        connection.wait(max_s)
        connection.cut()

    return behave


def stall_after(n_events: int | None = None, n_bytes: int | None = None, answer: Answer | None = None) -> Behaviour:
    """Send headers and the first events or bytes, then be silent until the client leaves."""

    def behave(connection: Connection) -> None:
        _send_part(connection, answer, n_events, n_bytes)
        connection.wait(MAX_S)
        connection.cut()

    return behave


def cut_after(n_events: int | None = None, n_bytes: int | None = None, answer: Answer | None = None) -> Behaviour:
    """Send headers and the first events or bytes, then close in an orderly way, without the end of the body."""

    def behave(connection: Connection) -> None:
        _send_part(connection, answer, n_events, n_bytes)
        connection.cut()

    return behave


def reset_after(n_events: int | None = None, n_bytes: int | None = None, answer: Answer | None = None) -> Behaviour:
    """As `cut_after`, but with a reset. The pause lets the client read what came before: a reset discards the rest."""

    def behave(connection: Connection) -> None:
        _send_part(connection, answer, n_events, n_bytes)
        connection.wait(0.05)
        connection.reset()

    return behave


def hang_up(*, reset: bool = False) -> Behaviour:
    """Close without a byte of an answer."""
    return lambda connection: connection.reset() if reset else connection.cut()


def error_after(n_events: int, event: StreamEvent, *, done: bool = False, answer: Stream | None = None) -> Behaviour:
    """Stream the first events, then an event that tells of a failure, and end the body properly."""

    def behave(connection: Connection) -> None:
        whole = answer or connection.faithful()
        assert isinstance(whole, Stream), "the request did not ask for a stream"
        replace(whole, events=[*whole.events[:n_events], event], done=done)(connection)

    return behave


def raw(*steps: bytes | float) -> Behaviour:
    """Send bytes as they are, status line included, with pauses of that many seconds between; then close."""

    def behave(connection: Connection) -> None:
        for step in steps:
            if isinstance(step, bytes):
                connection.send_raw(step)
            else:
                connection.wait(step)
        connection.cut()

    return behave


def close_idle(after_s: float = 0.0, answer: Answer | None = None) -> Behaviour:
    """Answer, promise to keep the connection, and close it: the client's pool has a dead connection then."""

    def behave(connection: Connection) -> None:
        (answer or connection.faithful())(connection)
        connection.request.end("answered")
        connection.wait(after_s)
        connection.close()

    return behave


def go_stale(answer: Answer | None = None, *, reset: bool = False) -> Behaviour:
    """Answer and keep the connection, but close it at the first byte of the next request, unread: no pool can see it."""

    def behave(connection: Connection) -> None:
        (answer or connection.faithful())(connection)
        connection.request.end("answered")
        connection.wait_for_bytes()
        if reset:
            connection.reset()
        connection.close()

    return behave


def _send_part(connection: Connection, answer: Answer | None, n_events: int | None, n_bytes: int | None) -> None:
    whole = answer or connection.faithful()
    blocks = whole.blocks(n_events)
    if n_bytes is not None:
        blocks = [b"".join(blocks)[:n_bytes]]
    whole.send_head(connection)
    whole.send_blocks(connection, blocks)
