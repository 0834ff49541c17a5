"""What the client is told when nobody answered (contract §5, the final status). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.errors import (
    CandidatesExhausted,
    GatewayError,
    UpstreamContextTooLong,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from gateway.routing.outlook import Out

LONG_RETRY_AFTER_S = 60  # SDKs sleep through Retry-After silently: beyond this they are told not to


@dataclass(frozen=True, slots=True, kw_only=True)
class Defeat:
    """How a request stood when it was given up.

    `errors` are those of its attempts, in order; `outs` why candidates were not to be tried; `untried`: some were left,
    but no attempt for them; `spent`: its time was over. `prompt_tokens` and `largest_window` are the gateway's own guess
    and the catalog's figure.
    """

    errors: Sequence[UpstreamError]
    outs: Sequence[Out]
    untried: bool
    spent: bool
    prompt_tokens: int
    largest_window: int
    now: float


def verdict_on(defeat: Defeat) -> GatewayError:
    """Return the error that tells the client what came of its request."""
    last = defeat.errors[-1] if defeat.errors else None
    if isinstance(last, UpstreamContextTooLong):
        return _context_too_long(last, defeat)
    if defeat.spent:
        return UpstreamTimeout("No provider answered within the time a request may take.", phase="total")
    if last is None or is_exhausted(defeat.errors):
        return _exhausted(defeat)
    if isinstance(last, UpstreamRateLimited):  # among other failures: no wait would surely help
        return UpstreamError(last.message, upstream_status=last.upstream_status)
    return last


def is_exhausted(errors: Sequence[UpstreamError]) -> bool:
    """Whether nobody was tried, or all that were tried ended in quota or rate limits."""
    return all(isinstance(error, UpstreamRateLimited) for error in errors)


def _context_too_long(error: UpstreamContextTooLong, defeat: Defeat) -> UpstreamContextTooLong:
    """Return the error in OpenAI's own words, which clients parse."""
    limit = error.limit_tokens or defeat.largest_window
    prompt = max(error.prompt_tokens or defeat.prompt_tokens, limit + 1)
    return UpstreamContextTooLong(
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {prompt} tokens. "
        "Please reduce the length of the messages.",
        upstream_status=error.upstream_status,
        limit_tokens=limit,
        prompt_tokens=prompt,
    )


def _exhausted(defeat: Defeat) -> CandidatesExhausted:
    """Return the refusal when quotas, rate limits and cooldowns left nobody."""
    now = defeat.now
    soonest = now if defeat.untried else min((out.until for out in defeat.outs), default=float("inf"))
    retry_after_s = max(1.0, soonest - now) if soonest < float("inf") else None
    quota_only = bool(defeat.outs or defeat.errors) and all(out.for_quota for out in defeat.outs)
    why = "has used up its quota or is rate limited" if quota_only else "is resting after failures or out of quota"
    when = f" Try again after {_iso(now + retry_after_s)}." if retry_after_s is not None else ""
    error = CandidatesExhausted(
        f"Every model that could serve this request {why}.{when}", quota_only=quota_only, retry_after_s=retry_after_s
    )
    if retry_after_s is None:
        error.should_retry = False
    elif retry_after_s > LONG_RETRY_AFTER_S:
        error.should_retry = False
        error.retry_at = _iso(now + retry_after_s)
    return error


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
