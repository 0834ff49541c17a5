"""What a client asked, and its input items as the messages of a chat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.domain import ChatRequest
from gateway.surfaces.responses.tools import Toolbox

Message = dict[str, Any]

BELOW = "(an image, see below)"  # a result without a text is refused by some providers


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest:
    """A checked request. `echo` is what of it the answer repeats, with the defaults of what was left out.

    `carries`: the client may refer to items by their ids alone.
    """

    chat: ChatRequest
    tools: Toolbox
    echo: Mapping[str, Any]
    carries: bool = True


@dataclass(frozen=True, slots=True)
class Said:
    """A message. `place` is the item's number in the input, for errors; so in the others."""

    place: int
    role: str
    content: Any


@dataclass(frozen=True, slots=True)
class Called:
    """A call of a function; of one that stands for a tool of another kind, its `arguments` are the function's."""

    place: int
    call_id: str
    function: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Returned:
    """What a call returned; `images` are parts of a chat message."""

    place: int
    call_id: str
    text: str
    images: tuple[Message, ...] = ()


Item = Said | Called | Returned


def compose_messages(items: Iterable[Item]) -> list[tuple[int, Message]]:
    """Return the messages that items amount to, each with the place of its first item.

    Calls that follow one another, and a text of the assistant before them, are one message. Images that calls returned
    stand in a user's message behind the results: nowhere else does a chat take them.
    """
    composer = _Composer()
    for item in items:
        composer.add(item)
    return composer.finish()


@dataclass(slots=True)
class _Composer:
    messages: list[tuple[int, Message]] = field(default_factory=list)
    _images: list[Message] = field(default_factory=list)
    _images_place: int = 0

    def add(self, item: Item) -> None:
        if isinstance(item, Returned):
            self._add_result(item)
            return
        self._put_images()
        if isinstance(item, Said):
            self.messages.append((item.place, {"role": item.role, "content": item.content}))
        else:
            self._add_call(item)

    def finish(self) -> list[tuple[int, Message]]:
        self._put_images()
        return self.messages

    def _add_call(self, item: Called) -> None:
        call = {"id": item.call_id, "type": "function", "function": {"name": item.function, "arguments": item.arguments}}
        if not self.messages or self.messages[-1][1]["role"] != "assistant":
            self.messages.append((item.place, {"role": "assistant", "content": None}))
        self.messages[-1][1].setdefault("tool_calls", []).append(call)

    def _add_result(self, item: Returned) -> None:
        text = item.text or (BELOW if item.images else "")
        self.messages.append((item.place, {"role": "tool", "tool_call_id": item.call_id, "content": text}))
        if item.images:
            self._images_place = self._images_place if self._images else item.place
            self._images += [{"type": "text", "text": f"What {item.call_id} returned:"}, *item.images]

    def _put_images(self) -> None:
        if self._images:
            self.messages.append((self._images_place, {"role": "user", "content": self._images}))
            self._images = []
