"""How long what failed rests, and what exactly rests. Pure; all constants stand here.

A scope is a string in the state store: one candidate, one model of a provider, one credential, or one provider.
"""

from __future__ import annotations

from gateway.domain import Candidate
from gateway.errors import (
    UpstreamCredentialRejected,
    UpstreamError,
    UpstreamModelGone,
    UpstreamPaymentRequired,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamUnreachable,
)

GROWING_S = (10.0, 20.0, 30.0)  # then 30 again: a provider that is back must be in use within half a minute
LONGEST_S = 26 * 3600.0  # a day's quota, and two hours for clocks that disagree

# Statements about a lasting state, not a moment: asking again soon only repeats them.
_FIXED_S: tuple[tuple[type[UpstreamError], float], ...] = (
    (UpstreamCredentialRejected, 3600.0),  # somebody must change the key
    (UpstreamPaymentRequired, 6 * 3600.0),  # somebody must pay
    (UpstreamModelGone, 3600.0),  # withdrawn, or not for this account
    (UpstreamQuotaExhausted, 600.0),  # a day's quota that does not say when it resets: asked six times an hour
)
# These say outright that the next call will fail too; any other failure may have been one request's bad luck.
_AT_ONCE: tuple[type[UpstreamError], ...] = (UpstreamRateLimited, UpstreamUnreachable, *(kind for kind, _ in _FIXED_S))


def scope_of(error: UpstreamError, candidate: Candidate) -> str:
    """Return what the failure speaks about, "" where it says nothing of the next call."""
    scopes = {
        "candidate": candidate.id,
        "model": model_scope(candidate),
        "credential": candidate.credential.id,
        "provider": provider_scope(candidate),
    }
    return scopes.get(error.cooldown_scope, "")


def scopes_over(candidate: Candidate) -> tuple[str, ...]:
    """Return every scope whose rest rests this candidate."""
    return candidate.id, model_scope(candidate), candidate.credential.id, provider_scope(candidate)


def model_scope(candidate: Candidate) -> str:
    return f"model:{candidate.model.name}"


def provider_scope(candidate: Candidate) -> str:
    return f"provider:{candidate.provider.key}"


def rest_s(error: UpstreamError, failures: int) -> float:
    """Return for how many seconds the scope rests after its `failures`-th failure in a row; 0: it goes on."""
    if error.retry_after_s is not None and isinstance(error, UpstreamRateLimited):
        return min(max(1.0, error.retry_after_s), LONGEST_S)
    for kind, seconds in _FIXED_S:
        if isinstance(error, kind):
            return seconds
    streak = failures if isinstance(error, _AT_ONCE) else failures - 1
    if streak < 1:
        return 0.0
    growing = GROWING_S[min(streak, len(GROWING_S)) - 1]
    return min(max(growing, error.retry_after_s or 0.0), LONGEST_S)
