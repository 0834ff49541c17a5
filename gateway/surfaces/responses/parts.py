"""The items of a response while they are written: each knows its events, and what it is in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from gateway import jsonio
from gateway.surfaces.responses.body import (
    Body,
    Status,
    call_item,
    carried_call,
    message_item,
    reasoning_item,
    refusal_part,
    summary_part,
    text_part,
    without_bytes,
)
from gateway.surfaces.responses.ids import carrying_id, new_id
from gateway.surfaces.responses.tools import InputReader, Toolbox, input_of
from gateway.upstream.sse import format_event

MOST_HELD_CHARS = 2000  # of a call's arguments: what an id may carry, more or less


class Piece(NamedTuple):
    """What a delta adds to one item. `number`, `call_id` and `function` tell a call; the last two come with its first piece."""

    kind: Literal["thoughts", "text", "refusal", "call"]
    text: str
    number: int = 0
    call_id: str = ""
    function: str = ""
    logprobs: Sequence[Body] = ()


class EventWriter:
    """Numbers events and keeps their bytes until they are taken."""

    def __init__(self) -> None:
        self._number = 0
        self._written: list[bytes] = []

    def write(self, event: str, **fields: Any) -> None:
        data = jsonio.dumps({"type": event, "sequence_number": self._number, **fields})
        self._number += 1
        self._written.append(format_event(event, data))

    def take(self) -> bytes:
        written, self._written = self._written, []
        return b"".join(written)


class OpenItem(Protocol):
    """An item between its `added` and its `done`."""

    def takes(self, piece: Piece) -> bool:
        """Whether a piece belongs to this item."""
        ...

    def add(self, piece: Piece) -> None: ...

    def is_whole(self) -> bool:
        """Whether nothing can be missing, so that another item may follow."""
        ...

    def close(self, status: Status) -> Body:
        """Write the end of the item and return it."""
        ...


class OpenThoughts:
    def __init__(self, events: EventWriter, index: int) -> None:
        self._events = events
        self._index = index
        self._id = new_id("reasoning")
        self._texts: list[str] = []
        self._place = {"item_id": self._id, "output_index": index, "summary_index": 0}
        events.write("response.output_item.added", output_index=index, item=reasoning_item(self._id, []))
        events.write("response.reasoning_summary_part.added", **self._place, part=summary_part(""))

    def takes(self, piece: Piece) -> bool:
        return piece.kind == "thoughts"

    def add(self, piece: Piece) -> None:
        self._texts.append(piece.text)
        self._events.write("response.reasoning_summary_text.delta", **self._place, delta=piece.text)

    def is_whole(self) -> bool:
        return True

    def close(self, status: Status) -> Body:
        text = "".join(self._texts)
        item = reasoning_item(self._id, [text])
        self._events.write("response.reasoning_summary_text.done", **self._place, text=text)
        self._events.write("response.reasoning_summary_part.done", **self._place, part=summary_part(text))
        self._events.write("response.output_item.done", output_index=self._index, item=item)
        return item


class OpenMessage:
    """A message. Its id is due before its text is known, so that it cannot carry it."""

    def __init__(self, events: EventWriter, index: int) -> None:
        self._events = events
        self._index = index
        self._id = new_id("message")
        self._parts: list[Body] = []  # those that are done
        self._part: _OpenPart | None = None
        events.write("response.output_item.added", output_index=index, item=message_item(self._id, "in_progress", []))

    def takes(self, piece: Piece) -> bool:
        return piece.kind in ("text", "refusal")

    def add(self, piece: Piece) -> None:
        if self._part is None or self._part.kind != piece.kind:
            self._close_part()
            place = {"item_id": self._id, "output_index": self._index, "content_index": len(self._parts)}
            self._part = _OpenPart(self._events, place, "text" if piece.kind == "text" else "refusal")
        self._part.add(piece)

    def is_whole(self) -> bool:
        return True

    def close(self, status: Status) -> Body:
        self._close_part()
        item = message_item(self._id, status, self._parts)
        self._events.write("response.output_item.done", output_index=self._index, item=item)
        return item

    def _close_part(self) -> None:
        if self._part:
            self._parts.append(self._part.close())
            self._part = None


@dataclass(slots=True)
class _OpenPart:
    """A text or a refusal within a message."""

    events: EventWriter
    place: Body
    kind: Literal["text", "refusal"]
    texts: list[str] = field(default_factory=list)
    logprobs: list[Body] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.events.write("response.content_part.added", **self.place, part=self._part(""))

    def add(self, piece: Piece) -> None:
        if not piece.text and not piece.logprobs:
            return
        self.texts.append(piece.text)
        if self.kind == "refusal":
            self.events.write("response.refusal.delta", **self.place, delta=piece.text)
            return
        self.logprobs += piece.logprobs
        self.events.write("response.output_text.delta", **self.place, delta=piece.text, logprobs=without_bytes(piece.logprobs))

    def close(self) -> Body:
        text = "".join(self.texts)
        part = self._part(text)
        if self.kind == "refusal":
            self.events.write("response.refusal.done", **self.place, refusal=text)
        else:
            self.events.write("response.output_text.done", **self.place, text=text, logprobs=without_bytes(self.logprobs))
        self.events.write("response.content_part.done", **self.place, part=part)
        return part

    def _part(self, text: str) -> Body:
        return refusal_part(text) if self.kind == "refusal" else text_part(text, self.logprobs)


class OpenCall:
    """A call of a function or of a custom tool.

    Where its id is to carry it, it is written once it is whole; one that grows too long for that is written as it comes.
    """

    def __init__(self, events: EventWriter, index: int, piece: Piece, tools: Toolbox, *, carries: bool) -> None:
        self._events = events
        self._index = index
        self._number = piece.number
        self._call_id = piece.call_id
        self._tool = tools.tool_of(piece.function)
        self._reader = InputReader() if self._tool.kind == "custom" else None
        self._arguments: list[str] = []
        self._size = 0
        self._unsent = ""
        self._most_held = MOST_HELD_CHARS if carries else -1
        self._place: Body = {}  # empty until the item is added

    def takes(self, piece: Piece) -> bool:
        return piece.kind == "call" and piece.number == self._number

    def add(self, piece: Piece) -> None:
        self._arguments.append(piece.text)
        self._size += len(piece.text)
        self._unsent += self._reader.feed(piece.text) if self._reader else piece.text
        if not self._place and self._size > self._most_held:
            self._begin(new_id(self._kind))
        if self._place:
            self._send()

    def is_whole(self) -> bool:
        """Whether the arguments are JSON that ends by itself. Asked only where another item would follow."""
        return ends_by_itself("".join(self._arguments))

    def close(self, status: Status) -> Body:
        self._unsent += self._reader.finish() if self._reader else ""
        arguments = "".join(self._arguments)
        given = input_of(arguments) if self._reader else arguments
        if not self._place:
            carried = carried_call(self._tool, self._call_id, given)
            self._begin(carrying_id(carried) if ends_by_itself(arguments) else new_id(self._kind))
        self._send()
        item = call_item(self._place["item_id"], status, self._tool, self._call_id, given)
        field = "input" if self._reader else "arguments"
        self._events.write(f"response.{self._stem}.done", **self._place, **{field: given})
        self._events.write("response.output_item.done", output_index=self._index, item=item)
        return item

    @property
    def _kind(self) -> str:
        return "custom_tool_call" if self._reader else "function_call"

    @property
    def _stem(self) -> str:
        return "custom_tool_call_input" if self._reader else "function_call_arguments"

    def _begin(self, id_: str) -> None:
        self._place = {"item_id": id_, "output_index": self._index}
        item = call_item(id_, "in_progress", self._tool, self._call_id, "")
        self._events.write("response.output_item.added", output_index=self._index, item=item)

    def _send(self) -> None:
        if self._unsent:
            self._events.write(f"response.{self._stem}.delta", **self._place, delta=self._unsent)
            self._unsent = ""


def ends_by_itself(arguments: str) -> bool:
    """Whether arguments are whole: JSON that more text could only spoil."""
    if not arguments.rstrip().endswith(("}", "]", '"')):
        return False
    try:
        jsonio.loads(arguments)
    except ValueError:
        return False
    return True
