"""What Google's failures mean.

https://ai.google.dev/gemini-api/docs/troubleshooting and .../docs/api-errors, read 2026-11-22. The body is
`{"error": {"code", "message", "status", "details": [...]}}`, alone or as the one element of a list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.domain import QuotaReading, Window
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
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnreachable,
)
from gateway.providers.base import Headers
from gateway.providers.openai_compatible.failures import LOCATION, ErrorClass, first_of, model_denied, presentable, status_in
from gateway.upstream.hints import parse_duration, read_retry_after, seconds_until_pacific_midnight

_STATUSES: Mapping[int, tuple[ErrorClass, str]] = {
    401: (UpstreamCredentialRejected, "The provider did not accept its API key."),
    402: (UpstreamPaymentRequired, "The provider's prepaid credit is used up."),
    403: (UpstreamCredentialRejected, "The provider's API key may not be used for this."),
    404: (UpstreamModelGone, "The provider does not have this model any more."),
    408: (UpstreamFailed, "The provider gave up waiting."),
    429: (UpstreamRateLimited, "The provider's rate limit is reached."),
    499: (UpstreamFailed, "The provider cancelled the request."),
    503: (UpstreamOverloaded, "The provider's model is overloaded."),
    529: (UpstreamOverloaded, "The provider's model is overloaded."),
}

# A 400 is the caller's mistake, but for these.
_TEXTS: tuple[tuple[re.Pattern[str], ErrorClass], ...] = (
    (re.compile(r"API key (?:not valid|not found|expired|invalid)|valid API key", re.I), UpstreamCredentialRejected),
    (LOCATION, UpstreamCredentialRejected),
    (
        re.compile(
            r"thought[_ ]?signature|unknown name|is not enabled|thinking[ _]?(?:budget|level|config)?\b.{0,80}"
            r"(?:not supported|unsupported|invalid|out of range)|(?:budget|thinking).{0,40}only works in thinking mode"
            r"|include_?thoughts|response mime type|response schema|too many states for serving",
            re.I,
        ),
        UpstreamModelFailed,
    ),
)
# 2026-11: "The input token count (3475108) exceeds the maximum number of tokens allowed (1048576)."
_TOO_LONG = re.compile(
    r"token count(?: of)? ?\(?(?P<prompt>\d+)?\)? exceeds the maximum number of tokens(?: allowed)? ?\(?(?P<limit>\d+)?", re.I
)
_NOTHING_ALLOWED = re.compile(r"limit: 0(?![\d.])")
_KEY = re.compile(r"AIza[\w-]+")

_CODES: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What an error body says. `quotas`: id and value of each quota that was overstepped."""

    message: str = ""
    status: int | None = None
    reasons: frozenset[str] = frozenset()
    quotas: tuple[tuple[str, str], ...] = ()
    retry_delay_s: float | None = None
    is_json: bool = True


def hidden_status(payload: Any) -> int | None:
    """Return the status of a failure that an answer with status 200 holds, None where it is an answer."""
    item = first_of(payload)
    if not isinstance(item, Mapping) or not item.get("error"):
        return None
    return read_failure(payload).status or 500


def classify(status: int, headers: Headers, payload: Any, *, secret: str, now: float) -> UpstreamError:
    """Return our error for a failing answer. `secret` is kept out of its message; `now`: epoch seconds."""
    failure = read_failure(payload)
    hint_s = read_retry_after(headers, "", now)
    if hint_s is None:
        hint_s = failure.retry_delay_s
    if hint_s is None:
        hint_s = read_retry_after({}, failure.message, now)
    if status == 429:
        return _classify_quota(failure, hint_s, now)
    if status == 403 and not failure.is_json:
        # An HTML page is Google's edge, which refuses this network: the key was not even looked at.
        return UpstreamUnreachable("The provider's network refuses this one.", upstream_status=status)
    if status in _STATUSES:
        kind, message = _STATUSES[status]
        return kind(message, upstream_status=status, retry_after_s=hint_s)
    if status >= 500:
        return _classify_failing(status, failure, hint_s)
    return _classify_rejection(status, failure, secret)


def _classify_quota(failure: Failure, hint_s: float | None, now: float) -> UpstreamError:
    if any(value == "0" for _, value in failure.quotas) or _NOTHING_ALLOWED.search(failure.message):
        return model_denied("The provider does not offer this model to this key.", upstream_status=429)
    # By the quota's id: the delay of a day's quota has been seen as 22 s and as 10 h.
    if any("PerDay" in quota for quota, _ in failure.quotas):
        return UpstreamQuotaExhausted(
            "The provider's quota of this model is used up for today.",
            upstream_status=429,
            retry_after_s=seconds_until_pacific_midnight(now),  # 2026-11: https://ai.google.dev/gemini-api/docs/rate-limits
        )
    return UpstreamRateLimited("The provider's rate limit is reached.", upstream_status=429, retry_after_s=hint_s)


def _classify_failing(status: int, failure: Failure, hint_s: float | None) -> UpstreamError:
    if "overloaded" in failure.message.lower():
        return UpstreamOverloaded("The provider's model is overloaded.", upstream_status=status, retry_after_s=hint_s)
    return UpstreamFailed(f"The provider failed with status {status}.", upstream_status=status, retry_after_s=hint_s)


def _classify_rejection(status: int, failure: Failure, secret: str) -> UpstreamError:
    message = presentable(_KEY.sub("[key]", failure.message), secret) or f"The provider refused the request with status {status}."
    too_long = _TOO_LONG.search(failure.message)
    if too_long:
        limit, prompt = (int(number) if number else None for number in too_long.group("limit", "prompt"))
        return UpstreamContextTooLong(message, upstream_status=status, limit_tokens=limit, prompt_tokens=prompt)
    if any(reason.startswith("API_KEY_") for reason in failure.reasons):
        return UpstreamCredentialRejected(message, upstream_status=status)
    kind = next((kind for text, kind in _TEXTS if text.search(failure.message)), UpstreamRejected)
    return kind(message, upstream_status=status)


def read_quotas(payload: Any, now: float) -> tuple[QuotaReading, ...]:
    """Return what a failing answer says of the quotas that it names: they are used up. `now`: epoch seconds.

    A limit of 0 is none of this key's quotas: the class of the error says so.
    """
    failure = read_failure(payload)
    readings = []
    for quota, value in failure.quotas:
        window = _window_of(quota)
        if window and value.isascii() and value.isdigit() and int(value):
            resets_in_s = seconds_until_pacific_midnight(now) if window in ("rpd", "tpd") else failure.retry_delay_s
            readings.append(QuotaReading(window, int(value), 0, resets_in_s))
    return tuple(readings)


def _window_of(quota: str) -> Window | None:
    """Return the window that a quota's id speaks of, None for those that are not counted here."""
    by_day, by_minute = "PerDay" in quota, "PerMinute" in quota
    if "Tokens" in quota:
        return "tpd" if by_day else "tpm" if by_minute else None
    if "Requests" in quota:
        return "rpd" if by_day else "rpm" if by_minute else None
    return None


# --- the body --------------------------------------------------------------------------------------------------------


def read_failure(payload: Any) -> Failure:
    """Return what an error body says, in whichever of its forms; one that is not JSON says nothing."""
    item = first_of(payload)
    if not isinstance(item, Mapping):
        return Failure(is_json=False)
    error = item.get("error")
    if not isinstance(error, Mapping):
        return Failure(message=str(error or item.get("message") or ""))
    details = _objects_in(error.get("details"))
    delays = (parse_duration(str(detail["retryDelay"])) for detail in details if detail.get("retryDelay"))
    violations = [item for detail in details for item in _objects_in(detail.get("violations"))]
    return Failure(
        message=str(error.get("message") or ""),
        status=status_in(error.get("code")) or _CODES.get(str(error.get("status"))),
        reasons=frozenset(str(detail["reason"]) for detail in details if detail.get("reason")),
        quotas=tuple((str(item.get("quotaId") or ""), str(item.get("quotaValue", ""))) for item in violations),
        retry_delay_s=next((delay for delay in delays if delay is not None), None),
    )


def _objects_in(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a list, none of anything else: details may be odd, the status still tells what failed."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
