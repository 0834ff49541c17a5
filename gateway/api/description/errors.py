"""The errors that answers can be, by status: the codes are those of gateway.errors, and what to do about each stands here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, get_args

from gateway.api.description.headers import IDS, SERVED
from gateway.api.description.shapes import MOMENT, NUMBER, TEXT, WHOLE, Shape, any_of, const, list_of, or_null, record, ref, words
from gateway.errors import ClientGone, GatewayError, InvalidCode, InvalidRequest
from gateway.surfaces.messages.errors import TYPES

WHAT_TO_DO: Mapping[str, str] = {
    "invalid_value": "a field is wrong; `param` names the place",
    "missing_field": "a field is missing; `param` names it",
    "invalid_json": "the body is no JSON object, or broke off",
    "unsupported_feature": "name a model that has it: `GET /v1/models?include=capabilities`",
    "context_length_exceeded": "shorten the messages, or name a model with a larger window",
    "content_policy_violation": "the provider refused the content",
    "invalid_api_key": "send a key of the gateway, not of a provider",
    "model_not_found": "the message names the variable to set, or what replaced the model",
    "unknown_path": "there is no such path",
    "method_not_allowed": "the header `Allow` names the methods that work",
    "request_too_large": "send less (MAX_REQUEST_BYTES)",
    "unsupported_media_type": "send a JSON object, uncompressed",
    "rate_limit_exceeded": "this gateway's own limit of the key or the address: wait for `Retry-After`",
    "quota_exhausted": "all quotas are used up until `Retry-After`, or `error.retry_at` where that is long",
    "internal_error": "a defect of the gateway: its log has more, under the id of the request",
    "upstream_error": "every provider that could answer failed; `error.attempts` says how",
    "upstream_timeout": "the providers were too slow; `error.attempts` says which",
    "no_healthy_provider": "all rest after failures: try again after `Retry-After`",
    "gateway_busy": "every place is taken: send it again",
    "draining": "the gateway is shutting down: send it again",
}

Kind = tuple[int, str, str]  # status, type, code


def kinds() -> Iterator[Kind]:
    """Yield what errors a client can be told, some of them more than once."""
    for code in get_args(InvalidCode):
        yield InvalidRequest.status, InvalidRequest.type, code
    for kind in _leaves(GatewayError):
        if kind is not ClientGone:  # nobody is left to read it
            yield kind.status, kind.type, kind.code


def _leaves(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    kinds = kind.__subclasses__()
    if not kinds:
        yield kind
    for below in kinds:
        yield from _leaves(below)


def codes_by_status() -> dict[int, list[str]]:
    codes: defaultdict[int, set[str]] = defaultdict(set)
    for status, _, code in kinds():
        codes[status].add(code)
    return {status: sorted(codes[status]) for status in sorted(codes)}


# --- as the document has them -------------------------------------------------------------------------------------------

_TELLS: Mapping[int, tuple[str, ...]] = {
    405: ("Allow",),
    429: ("Retry-After", "x-should-retry"),
    503: ("Retry-After", "x-should-retry"),
    504: ("x-should-retry",),
}
_AFTER_ATTEMPTS = (400, 429, 502, 503, 504)


def envelopes() -> Mapping[str, Shape]:
    """Return the bodies of errors: OpenAI's and Anthropic's."""
    types = sorted({type_ for _, type_, _ in kinds()})
    attempt = record(
        {"provider": TEXT, "model": TEXT, "status": or_null(WHOLE), "reason": TEXT, "ms": NUMBER},
        about="One call, or why none was made.",
    )
    error = record(
        {"message": TEXT, "type": words(*types), "param": or_null(TEXT), "code": words(*WHAT_TO_DO)},
        {"retry_at": MOMENT, "attempts": list_of(ref("Attempt")), "attempts_omitted": WHOLE},
    )
    own_types = sorted({*TYPES.values(), "invalid_request_error"})
    return {
        "Attempt": attempt,
        "Error": record({"error": error}),
        "MessagesError": record(
            {"type": const("error"), "error": record({"type": words(*own_types), "message": TEXT}), "request_id": TEXT},
            about="Anthropic's envelope: on `/v1/messages`, and wherever `anthropic-version` is sent.",
        ),
    }


def responses() -> dict[str, dict[str, Any]]:
    """Return the named answers that operations refer to, one for each status and envelope."""
    named: dict[str, dict[str, Any]] = {}
    for status, codes in codes_by_status().items():
        for suffix, envelope in (
            ("", ref("Error")),
            ("Messages", ref("MessagesError")),
            ("Either", any_of(ref("Error"), ref("MessagesError"))),
        ):
            named[name_of(status, suffix)] = {
                "description": describe_status(status, codes),
                "headers": {
                    name: name for name in (*IDS, *_TELLS.get(status, ()), *(SERVED if status in _AFTER_ATTEMPTS else ()))
                },
                "content": {"application/json": {"schema": envelope}},
            }
    return named


def name_of(status: int, suffix: str = "") -> str:
    return f"{HTTPStatus(status).name.title().replace('_', '')}{suffix}"


def describe_status(status: int, codes: list[str]) -> str:
    return f"{HTTPStatus(status).phrase}.\n\n" + "\n".join(f"- `{code}`: {WHAT_TO_DO[code]}" for code in codes)
