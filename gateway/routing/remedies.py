"""What is said of a provider's failure: who it was, and what whoever reads it can do. Pure; all words stand here.

Nothing here holds a credential: keys are told by their number and the variable that holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

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
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.routing.outlook import Out

_SUBJECT = "The provider"  # as adapters and transport call whom they do not know by name
MOST_NAMED = 6  # beyond that a message names no more of them

# What keeps a candidate from being asked, by the reason of its rest.
_CAUSES: Mapping[str, Callable[[Candidate], str]] = {
    UpstreamCredentialRejected.reason: lambda c: f"{c.provider.key} refused its key {c.credential.number}",
    UpstreamPaymentRequired.reason: lambda c: f"{c.provider.key} wants to be paid for its key {c.credential.number}",
    UpstreamModelGone.reason: lambda c: f"{c.provider.key} does not offer `{c.model.id}` to this key",
    UpstreamUnreachable.reason: lambda c: f"{c.provider.key} could not be reached",
    UpstreamTimeout.reason: lambda c: f"{c.provider.key} was silent",
    UpstreamOverloaded.reason: lambda c: f"{c.provider.key} is overloaded",
    UpstreamFailed.reason: lambda c: f"{c.provider.key} failed",
    UpstreamGarbled.reason: lambda c: f"{c.provider.key} sent what cannot be read",
    UpstreamReset.reason: lambda c: f"{c.provider.key} broke off its connection",
    StreamBroken.reason: lambda c: f"{c.provider.key} broke off its answer",
}


def shared_cause(outs: Iterable[tuple[Candidate, Out]]) -> str | None:
    """Return what all who are out failed of, and what to do about it; None where they have not one cause in common."""
    known = list(outs)
    reason, *others = {out.reason if out.because == "cooldown" else "" for _, out in known} or {""}
    if others or reason not in _CAUSES:
        return None
    candidates = [candidate for candidate, _ in known]
    step = _step(reason, candidates)
    return _listed(map(_CAUSES[reason], candidates)) + (f". {step}" if step else " a moment ago, and rests.")


def told_of(error: UpstreamError, candidate: Candidate) -> str:
    """Return the message of a failure with its provider's name before it and what to do behind it.

    What speaks about the request (a 400) is left as it is: it says both, and clients parse it.
    """
    if error.status < 500:
        return error.message
    provider, said = candidate.provider.key, error.message.rstrip()
    said = f"{provider}{said.removeprefix(_SUBJECT)}" if said.startswith(_SUBJECT) else f"{provider}: {said}"
    step = _step(error.reason, [candidate]) or "Try again later, or name another model."
    return f"{said}{'' if said.endswith(('.', '!', '?')) else '.'} {step}"


def _step(reason: str, candidates: Sequence[Candidate]) -> str:
    """Return what to do about such a failure, "" where only time helps."""
    variables = _listed(c.provider.credential_env or f"the catalog's row of {c.provider.key}" for c in candidates)
    if reason == UpstreamCredentialRejected.reason:
        return f"Replace the key ({variables}) and restart the gateway; `python -m gateway check` tests it."
    if reason == UpstreamPaymentRequired.reason:
        return f"See to its account, or replace the key ({variables}) and restart the gateway."
    if reason == UpstreamModelGone.reason:
        instead = _listed(f"`{c.model.replaced_by}`" for c in candidates if c.model.replaced_by)
        return f"Use {instead} instead." if instead else "GET /v1/models lists others."
    if reason == UpstreamUnreachable.reason:
        addresses = _listed(c.provider.base_url_env or "its base_url in the catalog" for c in candidates)
        return f"Check the network and {addresses}; `python -m gateway check` tests it."
    return ""


def _listed(names: Iterable[str]) -> str:
    """Return each once, in order, but for those that would be too many."""
    distinct = list(dict.fromkeys(names))
    more = [f"{len(distinct) - MOST_NAMED} more"] if len(distinct) > MOST_NAMED else []
    return ", ".join(distinct[:MOST_NAMED] + more)
