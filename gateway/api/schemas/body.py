"""The bytes of a request's body to a JSON object."""

from __future__ import annotations

from json import JSONDecodeError
from typing import Any

from gateway import jsonio
from gateway.errors import InvalidRequest, UnsupportedMediaType

# Deeper than any schema of a tool, and well below what JSON writers and later recursive readers stand.
MAX_DEPTH = 128

_JSON_TYPES = ("", "application/json", "text/json", "text/plain", "application/octet-stream")


def read_json(body: bytes, content_type: str | None) -> dict[str, Any]:
    """Return the object in a body. JSON is read whatever its content type says: `curl -d` calls it a form.

    :raises UnsupportedMediaType: the body is something else: a form, XML.
    :raises InvalidRequest: it is empty, malformed, nested too deeply, or no object.
    """
    if not body.strip():
        raise _invalid("The body is empty: send a JSON object.")
    try:
        value = jsonio.loads(body)
    except ValueError as error:
        _refuse_other_media(body, content_type)
        raise _invalid(f"The body is not valid JSON: {_what_is_wrong(error)}.") from None
    if not isinstance(value, dict):
        raise _invalid("The body must be a JSON object.")
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise _invalid(f"The body is nested too deeply: at most {MAX_DEPTH} levels are read.")
    return value


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_json")


def _refuse_other_media(body: bytes, content_type: str | None) -> None:
    if body.lstrip().startswith((b"{", b"[")):
        return  # meant as JSON, whatever the header says: where it breaks is the better answer
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type not in _JSON_TYPES and not media_type.endswith("+json"):
        raise UnsupportedMediaType("The body is not JSON: send a JSON object, with `content-type: application/json`.")


def _what_is_wrong(error: ValueError) -> str:
    if isinstance(error, JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"its text is not UTF-8 at byte {error.start}"
    return str(error)


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether containers stand in one another more than `depth` levels deep; level by level, so that it cannot overflow."""
    level = [value]
    for _ in range(depth):
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True
