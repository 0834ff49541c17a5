"""The three ways a request's content can be wrong. Nothing that the client sent is repeated in the messages."""

from __future__ import annotations

from gateway.errors import InvalidRequest


def missing(param: str, hint: str = "") -> InvalidRequest:
    return InvalidRequest(f"`{param}` is missing{hint}.", param=param, code="missing_field")


def invalid(param: str, expected: str) -> InvalidRequest:
    """`expected` says what would be right: "must be a string"."""
    return InvalidRequest(f"`{param}` {expected}.", param=param, code="invalid_value")


def unsupported(param: str, reason: str) -> InvalidRequest:
    """The field is well formed, but no model behind the gateway can be given it."""
    return InvalidRequest(f"`{param}` {reason}.", param=param, code="unsupported_feature")
