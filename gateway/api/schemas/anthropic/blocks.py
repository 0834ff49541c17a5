"""Content blocks of a user's turn, as OpenAI's content parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.api.schemas.messages import read_image
from gateway.api.schemas.problems import invalid, missing, unsupported

Block = dict[str, Any]
Part = dict[str, Any]
Read = tuple[list[Part], set[str]]  # parts, and what they need of a model

_NO_PDF = "must be text or content: documents in other forms cannot be passed on; send their text"


def read_blocks(content: Any, where: str) -> Iterator[tuple[Block, str]]:
    """Yield each block of a message's content, a text as the block that it stands for, with its place.

    :raises InvalidRequest: it is no content.
    """
    if isinstance(content, str):
        yield {"type": "text", "text": content}, where
        return
    if content is None:
        raise missing(where)
    if not isinstance(content, list):
        raise invalid(where, "must be a string or a list of content blocks")
    for index, block in enumerate(content):
        place = f"{where}[{index}]"
        if isinstance(block, str):
            yield {"type": "text", "text": block}, place
            continue
        if not isinstance(block, dict):
            raise invalid(place, "must be an object with a type")
        if block.get("type") is None:
            raise missing(f"{place}.type", ": use text, image, tool_use or tool_result")
        if not isinstance(block["type"], str):
            raise invalid(f"{place}.type", "must be a string")
        yield block, place


def read_texts(content: Any, where: str) -> list[str]:
    """Return the texts of content that may hold nothing else, without empty ones.

    :raises InvalidRequest: it holds something else.
    """
    texts = []
    for block, place in read_blocks(content, where):
        if block["type"] != "text":
            raise invalid(f"{place}.type", "must be text")
        texts.append(_read_text(block, place))
    return [text for text in texts if text]


def read_user_block(block: Block, where: str) -> Read:
    """Return the parts that a block stands for, none for an empty text.

    :raises InvalidRequest: it is malformed, or no model behind the gateway could be given it.
    """
    kind = block["type"]
    if kind == "text":
        text = _read_text(block, where)
        return _texts(text), set()
    if kind == "image":
        image, needs = read_image(block, where)
        return [image], needs
    if kind == "document":
        return _read_document(block, where)
    if kind == "search_result":
        return _read_search_result(block, where)
    raise unsupported(f"{where}.type", "must be text, image, document, tool_use or tool_result: other blocks cannot be passed on")


def read_result(block: Block, where: str) -> tuple[dict[str, Any], list[Part], set[str]]:
    """Return a tool's result as OpenAI's message, the images in it (which such a message cannot hold), and what they need.

    :raises InvalidRequest: it is malformed.
    """
    call_id = block.get("tool_use_id")
    if call_id is None:
        raise missing(f"{where}.tool_use_id", ": name the tool call that this result answers")
    if not isinstance(call_id, str):
        raise invalid(f"{where}.tool_use_id", "must be a string")
    parts: list[Part] = []
    needs: set[str] = set()
    for inner, place in read_blocks(block.get("content") or [], f"{where}.content"):
        more, needed = _read_result_block(inner, place)
        parts += more
        needs |= needed
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    images = [part for part in parts if part["type"] != "text"]
    if block.get("is_error") and not text.lower().startswith(("error", "<tool_use_error>")):
        text = f"Error: {text}"
    if images:
        text = "\n".join(filter(None, (text, f"(Its {len(images)} image(s) follow in the next message.)")))
        images = [{"type": "text", "text": f"From the tool result {call_id}:"}, *images]
    return {"role": "tool", "tool_call_id": call_id, "content": text}, images, needs


def _read_result_block(block: Block, where: str) -> Read:
    if block["type"] == "tool_reference":  # what a client's own search for tools found; they are all known here
        return _texts(f"The tool {_string(block, 'tool_name', where)} is available."), set()
    return read_user_block(block, where)


def _read_document(block: Block, where: str) -> Read:
    source = block.get("source")
    if source is None:
        raise missing(f"{where}.source")
    if not isinstance(source, dict):
        raise invalid(f"{where}.source", "must be an object")
    title = [f"{name.capitalize()}: {block[name]}" for name in ("title", "context") if isinstance(block.get(name), str)]
    heading = _texts("\n".join(title))
    if source.get("type") == "text":
        return heading + _texts(_string(source, "data", f"{where}.source")), set()
    if source.get("type") != "content":
        raise unsupported(f"{where}.source.type", _NO_PDF)
    parts, needs = heading, set()
    for inner, place in read_blocks(source.get("content"), f"{where}.source.content"):
        if inner["type"] not in ("text", "image"):
            raise invalid(f"{place}.type", "must be text or image")
        more, needed = read_user_block(inner, place)
        parts += more
        needs |= needed
    return parts, needs


def _read_search_result(block: Block, where: str) -> Read:
    heading = f"{_string(block, 'title', where)}\n{_string(block, 'source', where)}"
    return _texts("\n".join([heading, *read_texts(block.get("content"), f"{where}.content")])), set()


def _read_text(block: Block, where: str) -> str:
    return _string(block, "text", where)


def _string(block: Block, name: str, where: str) -> str:
    value = block.get(name)
    if value is None:
        raise missing(f"{where}.{name}")
    if not isinstance(value, str):
        raise invalid(f"{where}.{name}", "must be a string")
    return value


def _texts(text: str) -> list[Part]:
    return [{"type": "text", "text": text}] if text else []
