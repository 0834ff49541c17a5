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

    :raises ValueError: not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data, parse_constant=_refuse_constant, parse_float=_finite)
        except RecursionError:
            raise ValueError("nested too deeply") from None


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
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
