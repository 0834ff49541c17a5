"""What a failing answer means: its code or type, its status, and its text where these leave it open."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.errors import (
    UpstreamContextTooLong,
    UpstreamCredentialRejected,
    UpstreamError,
    UpstreamFailed,
    UpstreamModelFailed,
    UpstreamModelGone,
    UpstreamOverloaded,
    UpstreamPaymentRequired,
    UpstreamQuotaExhausted,
    UpstreamQuotaTooSmall,
    UpstreamRateLimited,
    UpstreamRefusedContent,
    UpstreamRejected,
    UpstreamUnreachable,
)

MAX_MESSAGE_CHARS = 500  # of a provider's error text that is passed on
LEAST_SECRET_CHARS = 8  # anything shorter is a placeholder

ErrorClass = Callable[..., UpstreamError]


def model_denied(message: str, **details: Any) -> UpstreamError:
    """Return the error of a model that is there, but not for this account: another credential may use it."""
    denied = UpstreamModelGone(message, **details)
    denied.cooldown_scope = "candidate"
    return denied


# What a code or type in an error's body means, whatever the status: of OpenAI's own API and of those who copy it.
# 2026-11: https://platform.openai.com/docs/guides/error-codes, https://console.groq.com/docs/errors, and the README of
# llama.cpp's server, https://github.com/ggml-org/llama.cpp/tree/master/tools/server
CODES: Mapping[str, ErrorClass] = {
    "invalid_api_key": UpstreamCredentialRejected,
    "context_length_exceeded": UpstreamContextTooLong,
    "exceed_context_size_error": UpstreamContextTooLong,  # llama.cpp
    "model_not_found": UpstreamModelGone,
    "model_decommissioned": UpstreamModelGone,
    "insufficient_quota": partial(UpstreamQuotaExhausted, account_wide=True),
    "unsupported_country_region_territory": UpstreamUnreachable,  # this network's place, not the key
    "content_policy_violation": UpstreamRefusedContent,
    "content_filter": UpstreamRefusedContent,
    "tool_use_failed": UpstreamModelFailed,
    "json_validate_failed": UpstreamModelFailed,
    "unsupported_parameter": UpstreamModelFailed,
    "unknown_parameter": UpstreamModelFailed,
}

# 2026-11: the error pages of the providers in the catalog, which each adapter names; 498 is Groq's, 529 OpenRouter's.
STATUSES: Mapping[int, ErrorClass] = {
    401: UpstreamCredentialRejected,
    402: UpstreamPaymentRequired,
    403: UpstreamCredentialRejected,
    404: UpstreamModelGone,
    405: UpstreamModelFailed,
    408: UpstreamFailed,
    409: UpstreamOverloaded,
    410: UpstreamModelGone,
    415: UpstreamModelFailed,
    424: UpstreamModelFailed,
    425: UpstreamOverloaded,
    429: UpstreamRateLimited,
    498: UpstreamOverloaded,
    503: UpstreamOverloaded,
    529: UpstreamOverloaded,
}

# 2026-11: as CODES. Which status a failure would have had, by its code or type: one inside a 200 often names none.
STATUSES_BY_CODE: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "too_many_requests_error": 429,
    "server_error": 500,
    "internal_server_error": 500,
    "overloaded_error": 503,
    "service_unavailable": 503,
}

# 2026-11: in the words of OpenAI, Groq, Cerebras, vLLM, llama.cpp and FastAPI, whatever their codes.
_CONTEXT = re.compile(
    r"maximum context length|context (?:window|length|size)|context_length|too many tokens|reduce the length"
    r"|(?:prompt|input) is too long",
    re.I,
)
_UNKNOWN_PARAMETER = re.compile(
    r"property '[^']*' is unsupported|unrecognized request argument|unknown (?:name|field|parameter)|unsupported parameter"
    r"|extra (?:inputs|fields) (?:are )?not permitted|(?:parameter|argument) .{1,60} (?:is )?not supported",
    re.I,
)
_MODEL_GONE = re.compile(
    r"\bmodel:? [`'\"]?[^\s`'\"]{1,120}[`'\"]? (?:has been decommissioned|does not exist|(?:is |was )?not (?:supported|found))"
    r"|model not found",
    re.I,
)
# Of OpenAI's own API, Groq and Cerebras: a model that is gone and one that this account may not use look the same.
DENIED = re.compile(r"you do not have access to it", re.I)
# 2026-11: a free key of Google's in Europe, also behind its compatible endpoint and behind OpenRouter; another key may pay.
# https://ai.google.dev/gemini-api/docs/troubleshooting
LOCATION = re.compile(r"location is not supported|not available in your (?:country|region)|enable billing", re.I)
_BAD_KEY = re.compile(r"(?:invalid|incorrect|wrong) api[ _]key|api[ _]key (?:is )?(?:not valid|invalid)", re.I)
DAILY = re.compile(r"per[- ]day|\bdaily\b|\((?:RPD|TPD)\)", re.I)
_LIMIT = re.compile(r"(?:maximum context length (?:is|of)|limit is|context size \() ?(\d+)", re.I)
# A sum of prompt and answer stands for the prompt only where that is not told by itself.
_PROMPTS = (
    re.compile(r"(\d+) (?:in the messages|of text input)", re.I),
    re.compile(r"(?:resulted in|current length is|request \(|requested(?: about)?) ?(\d+)", re.I),
)


def kind_of_rejection(status: int, facts: ErrorFacts) -> ErrorClass:
    """Return what a 400, 413 or 422 without a known code means, by its text."""
    if status == 413 and facts.code == "rate_limit_exceeded":
        return UpstreamQuotaTooSmall
    if _CONTEXT.search(facts.message):
        return UpstreamContextTooLong
    if _UNKNOWN_PARAMETER.search(facts.message):
        return UpstreamModelFailed
    if _MODEL_GONE.search(facts.message):
        return UpstreamModelGone
    if _BAD_KEY.search(facts.message) or LOCATION.search(facts.message):
        return UpstreamCredentialRejected
    return UpstreamRejected


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What an error body says, wherever it says it. `status`: the HTTP status that the body itself names."""

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int | None = None
    is_json: bool = True
    metadata: Any = None


def read_error(payload: Any) -> ErrorFacts:
    """Find message and code in any of the shapes that providers use (a list of one, wrapped, flat, `detail`, text)."""
    payload = first_of(payload)
    if not isinstance(payload, dict):
        return ErrorFacts(message=_plain(payload) if isinstance(payload, str) else "", is_json=False)
    error = _error_in(payload)
    code = error.get("code")
    statuses = (status_in(value) for value in (code, error.get("status_code"), payload.get("status_code"), error.get("status")))
    return ErrorFacts(
        message=_text(error.get("message") or error.get("detail")),
        code=None if code in (None, "") else str(code),
        type=error.get("type") if isinstance(error.get("type"), str) else None,
        param=error.get("param") if isinstance(error.get("param"), str) else None,
        status=next((status for status in statuses if status), None),
        metadata=error.get("metadata"),
    )


def has_error(payload: Mapping[str, Any]) -> bool:
    """Whether an object that came as an answer is, or holds, a failure."""
    error = payload.get("error")
    return bool(error) or payload.get("object") == "error" or (error == {} and not payload.get("choices"))


def status_of(facts: ErrorFacts) -> int:
    """Return the status of a failure that came without one of its own, 502 where nothing tells."""
    by_code = STATUSES_BY_CODE.get(facts.code or "") or STATUSES_BY_CODE.get(facts.type or "")
    return facts.status or by_code or 502


def _error_in(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    errors = payload.get("errors")
    for error in (payload.get("error"), errors[0] if isinstance(errors, list) and errors else None):
        if isinstance(error, dict) and error:
            return error
        if isinstance(error, str) and error:
            return {**payload, "message": error}
    return payload


def _text(message: Any) -> str:
    """Return a message in words. Of a list of problems (FastAPI) only place and text: they also repeat the input."""
    if isinstance(message, list):
        return "; ".join(filter(None, map(_text, message)))
    if isinstance(message, dict):
        place = ".".join(map(str, message["loc"])) if isinstance(message.get("loc"), list) else ""
        return ": ".join(filter(None, [place, _text(message.get("msg") or message.get("message"))]))
    return message if isinstance(message, str) else ""


def _plain(text: str) -> str:
    """Return a body that is no JSON in one line, "" for a page of HTML: nobody reads that in a message."""
    return "" if text.lstrip().startswith("<") else " ".join(text.split())


def presentable(message: str, secret: str) -> str:
    """Return a message fit for clients. A local server's "key" (`ollama`, `none`) is no secret, and may be in any text."""
    return (message.replace(secret, "[key]") if len(secret) >= LEAST_SECRET_CHARS else message)[:MAX_MESSAGE_CHARS]


def first_of(payload: Any) -> Any:
    return payload[0] if isinstance(payload, list) and payload else payload


def read_token_counts(text: str) -> tuple[int | None, int | None]:
    """Return (limit, prompt) tokens that an error about the context window names, None where it does not."""
    limit = _LIMIT.search(text)
    prompt = next((match for pattern in _PROMPTS if (match := pattern.search(text))), None)
    return int(limit[1]) if limit else None, int(prompt[1]) if prompt else None


def status_in(value: Any) -> int | None:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    return number if isinstance(number, int) and 400 <= number <= 599 else None
