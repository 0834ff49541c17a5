"""Ids of items. Nothing is stored, so an item that clients may only refer to later is carried in its id.

Clients that believe in storage (the AI SDK, unless told `store: false`) send `{"type": "item_reference", "id"}` in place
of an item. An id holds what the item said as compressed JSON with a checksum (zlib's own), in the alphabet of URLs.
That is sensible as far as an id costs about what the item would: it stands in every event of its item, and clients
keep ids in fields of limited size. An item that does not fit gets a random id, and so does one whose id is due before it
is complete: a streamed text. Streamed calls are held back as long as they may fit (parts.py).
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import zlib
from typing import Any

from gateway import jsonio

LONGEST_ID = 2048  # characters: some 3,000 of English
MOST_CARRIED_BYTES = 8 * 1024  # of an item: an id unfolds to no more, since it comes from a client

_SALT_BYTES = 3  # two items that say the same are two items
_CARRIER = re.compile(r"(msg|fc|ctc)_g1_([A-Za-z0-9_-]+)")
_PREFIXES = {"message": "msg", "function_call": "fc", "custom_tool_call": "ctc", "reasoning": "rs"}
_FIELDS = {
    "msg": ("content",),
    "fc": ("call_id", "name", "namespace", "arguments"),
    "ctc": ("call_id", "name", "namespace", "input"),
}


def new_id(kind: str) -> str:
    """Return an id that nobody else has, for an item of this type or a `response`."""
    return f"{_PREFIXES.get(kind, 'resp')}_{secrets.token_hex(24)}"


def carrying_id(item: dict[str, Any]) -> str:
    """Return an id from which `item_in` reads the input item again; a random one where it would be too long.

    `item` is what a client would send: a message with its text as `content`, or a call.
    """
    prefix = _PREFIXES[item["type"]]
    said = jsonio.dumps([item.get(name) for name in _FIELDS[prefix]])
    if len(said) > MOST_CARRIED_BYTES:
        return new_id(item["type"])
    packed = secrets.token_bytes(_SALT_BYTES) + zlib.compress(said, 9)
    carrier = f"{prefix}_g1_{base64.urlsafe_b64encode(packed).decode().rstrip('=')}"
    return carrier if len(carrier) <= LONGEST_ID else new_id(item["type"])


def item_in(carrier: str) -> dict[str, Any] | None:
    """Return the input item that an id carries, None where it carries none. What it says is a client's word."""
    found = _CARRIER.fullmatch(carrier) if len(carrier) <= LONGEST_ID else None
    if found is None:
        return None
    said = _unpack(found[2])
    fields = _FIELDS[found[1]]
    if not isinstance(said, list) or len(said) != len(fields):
        return None
    values = {name: value for name, value in zip(fields, said, strict=True) if value is not None}
    kind = next(kind for kind, prefix in _PREFIXES.items() if prefix == found[1])
    return {"type": kind, **({"role": "assistant"} if kind == "message" else {}), **values}


def is_thought(id_: str) -> bool:
    """Whether an id is that of a reasoning item: no chat model is told another's thoughts, so nothing is lost with it."""
    return id_.startswith("rs_")


def _unpack(text: str) -> Any:
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        unpacker = zlib.decompressobj()
        said = unpacker.decompress(packed[_SALT_BYTES:], MOST_CARRIED_BYTES)
        return jsonio.loads(said) if unpacker.eof else None
    except (binascii.Error, zlib.error, ValueError):
        return None
