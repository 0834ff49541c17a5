"""Errors in Anthropic's envelope and words."""

from __future__ import annotations

import re
from typing import Any

from gateway.errors import GatewayError, UpstreamContextTooLong

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_INDEX = re.compile(r"\[(\d+)\]")


def error_body(error: GatewayError, request_id: str) -> dict[str, Any]:
    """Return the envelope (contract §7). 503 is its `overloaded_error`: clients know it by the type as well as by 529."""
    kind = TYPES.get(error.status, "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": _message(error)}, "request_id": request_id}


def _message(error: GatewayError) -> str:
    """Return what is wrong; the envelope has no place for the field at fault, so that it stands in the message."""
    if isinstance(error, UpstreamContextTooLong) and error.limit_tokens and error.prompt_tokens:
        return f"prompt is too long: {error.prompt_tokens} tokens > {error.limit_tokens} maximum"  # clients parse it
    shown = f"`{error.param}` "
    if error.param and error.message.startswith(shown):
        place = _INDEX.sub(r".\1", error.param)
        return f"{place}: {error.message.removeprefix(shown)}"
    return error.message
