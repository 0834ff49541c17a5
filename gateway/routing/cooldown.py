"""How long what failed rests, and what exactly rests. Pure; all constants stand here.

A scope is a string in the state store: one candidate, one model of a provider, one credential, or one provider.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.catalog import SANDBOX
from gateway.domain import Candidate
from gateway.errors import (
    StreamBroken,
    UpstreamCredentialRejected,
    UpstreamError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamModelGone,
    UpstreamOverloaded,
    UpstreamPaymentRequired,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamReset,
    UpstreamTimeout,
)
from gateway.state.base import Failure, Rest

GROWING_S = (10.0, 20.0, 30.0)  # then 30 again: a provider that is back must be in use within half a minute
SILENT_S = (10.0, 20.0)  # then 20 again: who probes a silent one learns ten seconds later that it is not back
LEAST_S = 1.0  # what is told in fractions of a second, or as 0: nobody is asked more often than that while it refuses
LONGEST_S = 26 * 3600.0  # a day's quota, and two hours for clocks that disagree
TOGETHER_S = 10.0  # two models of one provider that fail within this speak for all of it

# Statements about a lasting state, not a moment: asking again soon only repeats them.
_FIXED_S: Mapping[type[UpstreamError], float] = {
    UpstreamCredentialRejected: 3600.0,  # somebody must change the key
    UpstreamPaymentRequired: 6 * 3600.0,  # somebody must pay
    UpstreamModelGone: 3600.0,  # withdrawn, or not for this account
    UpstreamQuotaExhausted: 600.0,  # a day's quota that does not say when it resets: asked six times an hour
}
# One request's bad luck, perhaps: the second in a row rests, where the model has ever answered. Any other failure that
# speaks about a scope says outright that the next call will fail too.
_PASSING = (UpstreamFailed, UpstreamOverloaded, UpstreamTimeout, UpstreamReset, UpstreamGarbled, StreamBroken)
_PASSING_REASONS = frozenset(kind.reason for kind in _PASSING)
_DISPROVED_BY_ANY = _PASSING_REASONS - {UpstreamOverloaded.reason}
_QUOTA_REASONS = frozenset({UpstreamRateLimited.reason, UpstreamQuotaExhausted.reason})
_SCOPES = ("candidate", "model", "credential", "provider")  # as errors name them, in the order of `scopes_over`


def failure_of(
    error: UpstreamError, candidate: Candidate, *, began_at: float, answered_before: bool, broke: bool = False
) -> Failure | None:
    """Return what a failed attempt means for the scope that it speaks about, None where it says nothing of the next call.

    `answered_before`: the model did, at least once. `broke`: it failed in the middle of its answer.
    """
    if candidate.model.provider == SANDBOX and error.reason not in _QUOTA_REASONS:
        return None  # its own models fail on purpose, and are to do so again; a Retry-After is kept, as anybody's
    scope = scope_of(error, candidate)
    reason = StreamBroken.reason if broke and error.reason in _PASSING_REASONS else error.reason
    return Failure(scope, reason, began_at, _rests_s(error, answered_before)) if scope else None


def scope_of(error: UpstreamError, candidate: Candidate) -> str:
    """Return what the failure speaks about, "" where it says nothing of the next call."""
    if error.cooldown_scope == "none":
        return ""
    return dict(zip(_SCOPES, scopes_over(candidate), strict=True))[error.cooldown_scope]


def scopes_over(candidate: Candidate) -> tuple[str, str, str, str]:
    """Return every scope whose rest rests this candidate: itself, its model, its credential, its provider."""
    return candidate.id, candidate.model_scope, candidate.credential.id, candidate.provider_scope


def provider_failure(failure: Failure, candidate: Candidate, rests: Iterable[Rest], now: float) -> Failure | None:
    """Return the provider's failure if another of its models failed in a like way a moment ago, else None.

    `rests` are those of the provider's models, this failure included. Where more than one call of each was lost already,
    the rest is the longest at once: a dead provider costs four calls in its first minute, however many models it has.
    """
    if failure.scope != candidate.model_scope or failure.reason not in _PASSING_REASONS:
        return None
    failed = [rest for rest in rests if rest.reason in _PASSING_REASONS and now - rest.failed_at <= TOGETHER_S]
    if all(rest.scope == failure.scope for rest in failed):
        return None
    lost = sum(rest.failures for rest in failed)
    steps_s = _steps_s(failure.reason)
    return Failure(candidate.provider_scope, failure.reason, failure.began_at, steps_s if lost <= 2 else steps_s[-1:])


def ran_beside(failure: Failure, known: Rest | None) -> bool:
    """Whether the failed attempt ran beside the one that failed last: then they are one failure, and not two in a row.

    Only where a first failure goes on; what rests at once is not counted by attempts that began before the rest anyway.
    """
    return known is not None and not known.until and not failure.rests_s[0] and failure.began_at < known.failed_at


def ends_at_first_token(rest: Rest) -> bool:
    """Whether a rest is over when an answer begins. One that broken answers made, and a single failure, are when it is whole."""
    return rest.until > 0 and rest.reason != StreamBroken.reason


def disproved_since(rest: Rest, began_at: float, now: float) -> float:
    """Return since when a scope is known to be well, by an answer just now to an attempt that began at `began_at`.

    A rest that failures in a row made says that nobody answers there. Any answer since proves it wrong, also one that was
    asked for before the rest began: among many calls at once some fail in a row by chance. What a provider said of its
    quota, its key or its load is true until somebody who came later is served.
    """
    return now if rest.reason in _DISPROVED_BY_ANY else began_at


def failed_probe(scope: str, known: Rest | None, failure: Failure) -> Failure:
    """Return the failure of a scope that was probed by a call which failed for a reason of its own: it rests longer."""
    before_s, steps_s = known.until - known.since if known else 0.0, _steps_s(failure.reason)
    longer = next((seconds for seconds in steps_s if seconds > before_s + 0.5), steps_s[-1])
    return Failure(scope, failure.reason, failure.began_at, (longer,))


def spent(candidate: Candidate, now: float, resets_in_s: float) -> Failure:
    """Return the failure of a candidate that has nothing left of some window, as its provider says."""
    return Failure(candidate.id, UpstreamRateLimited.reason, now, (min(resets_in_s, LONGEST_S),))


def is_for_quota(rest: Rest) -> bool:
    """Whether a rest was told by a quota or rate limit, so that its end is a reset."""
    return rest.reason in _QUOTA_REASONS


def _rests_s(error: UpstreamError, answered_before: bool) -> tuple[float, ...]:
    """Return how long a scope rests at each failure in a row: what the provider told, else what such failures take.

    "0", a negative number and a date in the past all read as 0: soon. Once that is tried, it told nothing.
    """
    told, untold_s = error.retry_after_s, _untold_s(error, answered_before)
    if told is None:
        return untold_s
    told_s = min(max(LEAST_S, told), LONGEST_S)
    if isinstance(error, UpstreamRateLimited):
        return (told_s,) if told > 0 else (told_s, *untold_s)
    if type(error) in _FIXED_S:
        return untold_s
    return tuple(max(told_s, seconds) for seconds in GROWING_S) if told > 0 else untold_s


def _untold_s(error: UpstreamError, answered_before: bool) -> tuple[float, ...]:
    if fixed_s := _FIXED_S.get(type(error)):
        return (fixed_s,)
    unreachable = isinstance(error, UpstreamTimeout) and error.phase == "connect"
    if unreachable or not isinstance(error, _PASSING):
        return GROWING_S
    steps_s = _steps_s(error.reason)
    return (0.0, *steps_s) if answered_before else steps_s


def _steps_s(reason: str) -> tuple[float, ...]:
    return SILENT_S if reason == UpstreamTimeout.reason else GROWING_S
