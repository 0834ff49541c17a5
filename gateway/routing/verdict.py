"""What the client is told when nobody answered (contract §5, the final status). Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain import Candidate
from gateway.errors import (
    CandidatesExhausted,
    GatewayError,
    UpstreamContextTooLong,
    UpstreamError,
    UpstreamQuotaTooSmall,
    UpstreamRateLimited,
    UpstreamTimeout,
)
from gateway.routing.headroom import MINUTE_S
from gateway.routing.outlook import Out, iso
from gateway.routing.remedies import shared_cause, told_of

LONG_RETRY_AFTER_S = 60.0  # SDKs sleep through Retry-After silently: beyond this they are told not to


@dataclass(frozen=True, slots=True, kw_only=True)
class Defeat:
    """How a request stood when it was given up.

    `errors` are those of its attempts, in order, and `last` whose the last of them is; `outs` who was not to be tried and
    why; `untried`: how many were left when no attempt was left for them; `spent`: its time was over. `prompt_tokens` and
    `largest_window` are the gateway's own guess and the catalog's figure.
    """

    errors: Sequence[UpstreamError]
    outs: Sequence[tuple[Candidate, Out]]
    untried: int
    spent: bool
    prompt_tokens: int
    largest_window: int
    now: float
    last: Candidate | None = None


def verdict_on(defeat: Defeat) -> GatewayError:
    """Return the error that tells the client what came of its request."""
    last = defeat.errors[-1] if defeat.errors else None
    if isinstance(last, UpstreamContextTooLong):
        return _context_too_long(last, defeat)
    if is_exhausted(defeat.errors) and (last or not (defeat.spent and defeat.untried)):
        return _exhausted(defeat)
    if defeat.spent or last is None:
        message = "No provider answered within the time a request may take. Try again later, or name another model."
        return UpstreamTimeout(message, phase="total")
    if isinstance(last, UpstreamRateLimited):  # among other failures: no wait would surely help
        last = UpstreamError(last.message, upstream_status=last.upstream_status)
    if defeat.last:
        last.message = told_of(last, defeat.last)
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
    """Return the refusal when quotas, rate limits and cooldowns left nobody, or nobody within the attempts of a request."""
    soonest = defeat.now if defeat.untried else min((out.until for _, out in defeat.outs), default=math.inf)
    retry_after_s = None if soonest == math.inf else max(1.0, soonest - defeat.now)
    if retry_after_s and retry_after_s <= MINUTE_S:  # ours is longer than a provider's
        retry_after_s = min(retry_after_s, LONG_RETRY_AFTER_S)
    retry_at = None if retry_after_s is None else iso(defeat.now + retry_after_s)
    quota_only = not defeat.untried and bool(defeat.outs or defeat.errors) and all(out.for_quota for _, out in defeat.outs)
    when = f" Try again after {retry_at}." if retry_at else ""
    error = CandidatesExhausted(_why(defeat, quota_only) + when, quota_only=quota_only, retry_after_s=retry_after_s)
    if retry_after_s is None:
        error.should_retry = False
    elif retry_after_s > LONG_RETRY_AFTER_S:
        error.should_retry, error.retry_at = False, retry_at
    return error


def _why(defeat: Defeat, quota_only: bool) -> str:
    if defeat.untried:
        tried = f"The {len(defeat.errors)} models that this request may try are rate limited or out of quota"
        return f"{tried}; {defeat.untried} more could not be tried within one request."
    too_small = [out.because == "quota_too_small" for _, out in defeat.outs]
    too_small += [isinstance(error, UpstreamQuotaTooSmall) for error in defeat.errors]
    if too_small and all(too_small):
        return "This request is larger than the quota of every model that could serve it: send a shorter one."
    if quota_only:
        return "Every model that could serve this request has used up its quota or is rate limited."
    cause = None if defeat.errors else shared_cause(defeat.outs)
    return cause or "Every model that could serve this request is resting after failures or out of quota."
