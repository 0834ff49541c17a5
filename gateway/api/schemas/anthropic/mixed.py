"""Chat messages in which tools' calls and results stand as Anthropic's blocks, as OpenAI's messages.

Cursor writes them so to /v1/chat/completions where a model's name is one of Anthropic's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.api.schemas.anthropic.blocks import read_result
from gateway.api.schemas.anthropic.turns import read_call
from gateway.api.schemas.messages import Conversation, Message

_BLOCKS = {"assistant": "tool_use", "user": "tool_result"}


def has_tool_blocks(messages: Any) -> bool:
    """Whether one of a request's messages, which are not checked yet, holds such a block."""
    return isinstance(messages, list) and any(_holds_block(message) for message in messages)


def load_mixed_messages(messages: list[Any]) -> Conversation:
    """Return the canonical messages of a list that `has_tool_blocks`, and what they need of a model.

    :raises InvalidRequest: naming the message, and the place in it, that cannot be served.
    """
    conversation = Conversation("messages")
    for index, message in enumerate(messages):
        for plain in _unfold(message, f"messages[{index}].content") if _holds_block(message) else (message,):
            conversation.add(index, plain)
    return conversation


def _holds_block(message: Any) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    return isinstance(content, list) and any(_is_block(part, message.get("role")) for part in content)


def _is_block(part: Any, role: Any) -> bool:
    return isinstance(part, dict) and isinstance(role, str) and role in _BLOCKS and part.get("type") == _BLOCKS[role]


def _unfold(message: Message, where: str) -> Iterator[Message]:
    role, blocks, rest = message["role"], [], []
    for index, part in enumerate(message["content"]):
        if _is_block(part, role):
            blocks.append((part, f"{where}[{index}]"))
        else:
            rest.append(part)
    if role == "assistant":
        calls = [read_call(block, place) for block, place in blocks]
        sent = message.get("tool_calls") or []  # not checked yet
        yield {**message, "content": rest or None, "tool_calls": [*sent, *calls] if isinstance(sent, list) else sent}
        return
    images: list[Any] = []
    for block, place in blocks:  # results follow their calls, before what else the user says
        result, shown, _ = read_result(block, place)
        images += shown
        yield result
    if images or rest:
        yield {**message, "content": [*images, *rest]}
