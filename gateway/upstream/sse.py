"""Server-sent events, parsed from bytes and written as bytes. Pure.

The grammar: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"

DONE = b"data: [DONE]\n\n"


class Event(NamedTuple):
    """One event: its `data` lines joined by LF, and its name ("" where none was given)."""

    data: bytes
    name: str = ""


class EventTooLong(Exception):
    """An event outgrew the limit: what comes is not an event stream that anybody could use."""


class EventParser:
    """Cut bytes, in whatever pieces they arrive, into events.

    Lines end in LF, CR or CRLF, also when a CRLF is cut in two, and in nothing else: U+2028 may stand unescaped
    inside JSON. Comments, `id` and `retry` are dropped.
    """

    def __init__(self, max_event_bytes: int = 16 * 1024 * 1024) -> None:
        self._max_event_bytes = max_event_bytes
        self._line: list[bytes] = []  # the pieces of an unfinished line
        self._line_bytes = 0
        self._after_cr = False  # the last line ended in CR: an LF that follows belongs to it
        self._at_start = True
        self._data: list[bytes] = []
        self._held_bytes = 0
        self._name = ""

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that these bytes complete.

        :raises EventTooLong: an event or a line is over the limit; told when nothing whole stands before it.
        """
        if self._after_cr and data:
            self._after_cr = False
            if data[:1] == b"\n":
                data = data[1:]
        if self._line and b"\n" not in data and b"\r" not in data:
            self._keep(data)  # joined once, at the line's end: joining with every read takes quadratic time
            events = []
        else:
            data = b"".join([*self._line, data])
            if self._at_start and len(data) >= len(_BOM):
                self._at_start = False
                data = data.removeprefix(_BOM)
            lines = _LINE.split(data) if b"\r" in data else data.split(b"\n")
            rest = lines.pop()
            self._after_cr = not rest and data.endswith(b"\r")
            events = self._take_all(lines)
            self._line, self._line_bytes = [], 0
            self._keep(rest)
        if self._line_bytes + self._held_bytes > self._max_event_bytes and not events:
            raise EventTooLong
        return events

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._line.append(piece)
            self._line_bytes += len(piece)

    def finish(self) -> list[Event]:
        """Return the event that the end of the stream completes: providers forget the last blank line."""
        rest = b"".join(self._line)
        self._line, self._line_bytes = [], 0
        if rest:
            self._take(rest)
        event = self._take(b"")
        return [event] if event else []

    def _take_all(self, lines: list[bytes]) -> list[Event]:
        events = []
        for line in lines:
            if line[:6] == b"data: ":  # nearly all of a stream
                self._data.append(line[6:])
                self._held_bytes += len(line)
            elif (event := self._take(line)) is not None:
                events.append(event)
        return events

    def _take(self, line: bytes) -> Event | None:
        if not line:
            if not self._data and not self._name:
                return None
            event = Event(self._data[0] if len(self._data) == 1 else b"\n".join(self._data), self._name)
            self._data, self._held_bytes, self._name = [], 0, ""
            return event
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            self._data.append(value)
            self._held_bytes += len(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        return None


def format_data(*data: bytes) -> bytes:
    """Return an event of one data line for each of `data`, at least one: compact JSON, which holds no line end.

    U+0085, U+2028 and U+2029 are escaped: JSON may hold them as they are, but clients that split text into lines
    (Python's `splitlines`, `iter_lines` of requests in text mode) take them for line ends.
    """
    events = b"data: " + b"\n\ndata: ".join(data) + b"\n\n"
    if b"\xe2\x80" in events:
        events = events.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    if b"\xc2\x85" in events:
        events = events.replace(b"\xc2\x85", b"\\u0085")
    return events


def format_event(name: str, data: bytes) -> bytes:
    """Return one event with its name; `data` as for `format_data`."""
    return b"event: " + name.encode() + b"\n" + format_data(data)
