"""JSON as bytes: fast for what is well formed, lenient where Python's own module can still make sense of it."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson


def loads(data: bytes | str) -> Any:
    """Return the value of a JSON text.

    orjson refuses lone surrogates, which models and clients do send when an emoji is cut in two; the standard
    library reads them. NaN and Infinity are refused by both here: they are not JSON.

    :raises ValueError: not JSON, not UTF-8, or not to be read; what it says repeats nothing of the text.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return loads_exactly(data)


def loads_exactly(data: bytes | str) -> Any:
    """As `loads`, and slower: whole numbers of more than 64 bits stay whole, of which orjson makes floats."""
    try:
        return json.loads(data, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def dumps(value: Any) -> bytes:
    """Return compact JSON; non-ASCII stands as UTF-8, but for values with lone surrogates, which are escaped.

    :raises TypeError: the value has something that JSON has not.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("it has a number that is too large")
    return number


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # Python reads a few thousand digits
        raise ValueError("it has a number that is too long") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it has {name}, which is no JSON number")
