"""What Cloudflare's failures mean: its own numbers, and texts that say more or come without one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from gateway.domain import Candidate
from gateway.errors import (
    UpstreamContextTooLong,
    UpstreamCredentialRejected,
    UpstreamFailed,
    UpstreamModelFailed,
    UpstreamModelGone,
    UpstreamOverloaded,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamRejected,
)
from gateway.providers.openai_compatible.failures import CODES as OPENAI_CODES
from gateway.providers.openai_compatible.failures import ErrorClass, ErrorFacts, model_denied

_quota_exhausted = partial(UpstreamQuotaExhausted, account_wide=True)

# 2026-11: https://developers.cloudflare.com/workers-ai/platform/errors/, and answers pasted in public issues.
CODES: Mapping[str, ErrorClass] = {
    **OPENAI_CODES,
    "3003": UpstreamRejected,
    "3006": UpstreamRejected,
    "3039": UpstreamRejected,
    "5004": UpstreamRejected,
    "5006": UpstreamRejected,
    "3007": UpstreamFailed,
    "3008": UpstreamFailed,
    "8005": UpstreamFailed,
    "8006": UpstreamModelFailed,  # a forced tool was not called
    "5005": UpstreamModelFailed,
    "5019": UpstreamModelFailed,
    "3042": UpstreamModelGone,
    "5007": UpstreamModelGone,
    "3041": model_denied,  # private
    "5018": model_denied,
    "5016": model_denied,  # its licence was not accepted
    "5035": model_denied,  # needs the paid plan
    "3010": UpstreamContextTooLong,
    "5021": UpstreamContextTooLong,
    "3021": UpstreamRateLimited,
    "3036": _quota_exhausted,
    "4006": _quota_exhausted,
    "3040": UpstreamOverloaded,
    "3023": UpstreamCredentialRejected,  # account blocked
    "10000": UpstreamCredentialRejected,
    "6003": UpstreamCredentialRejected,  # a token that is none: github.com/jeessy2/ddns-go/issues/916
    "7000": UpstreamCredentialRejected,  # no such account
    "7003": UpstreamCredentialRejected,
}
WRONG_ACCOUNT = frozenset({"7000", "7003"})

# 2026-11: as CODES. Texts that say more than their code, or that come without one.
TEXTS: Sequence[tuple[re.Pattern[str], ErrorClass]] = (
    # 2026-11: https://developers.cloudflare.com/workers-ai/features/json-mode/
    (re.compile(r"JSON Mode couldn't be met", re.I), UpstreamModelFailed),
    (re.compile(r"daily free allocation", re.I), _quota_exhausted),
    (re.compile(r"capacity temporarily exceeded", re.I), UpstreamOverloaded),
    (re.compile(r"context window limit|maximum context length", re.I), UpstreamContextTooLong),
    # The schemas are narrower than OpenAI's, and differ by model: what this one refuses another may take.
    (re.compile(r"type mismatch of", re.I), UpstreamModelFailed),
)

_REQUEST_ID = re.compile(r"\s*\([0-9a-f]{8}-[0-9a-f-]{27}\)\s*$", re.I)
_PREFIX = re.compile(r"^(?:(?P<code>\d{4,5}): |AiError: )+")
_LIMIT = re.compile(r"(?:context window limit \(|maximum context length (?:is|of) )(\d+)", re.I)
_PROMPT = re.compile(r"contains (?:at least )?(\d+) input tokens|(\d+) tokens from the input", re.I)


def tidy(facts: ErrorFacts, candidate: Candidate) -> dict[str, Any]:
    """Return an error body with the code found, also in front of the text, and a message fit for clients."""
    prefix = _PREFIX.match(facts.message)
    code = facts.code or (prefix["code"] if prefix else None)
    message = _REQUEST_ID.sub("", facts.message[prefix.end() :] if prefix else facts.message)
    if code in WRONG_ACCOUNT:  # the provider's own text holds the account id
        message = f"The provider does not know this account; check {candidate.provider.account_id_env or 'the base URL'}."
    return {"error": {"message": message, "code": code, "type": facts.type, "param": facts.param}}


def read_token_counts(text: str) -> tuple[int | None, int | None]:
    """Return (limit, prompt) tokens that a refusal for length names; a sum of prompt and answer is neither."""
    limit, prompt = _LIMIT.search(text), _PROMPT.search(text)
    return int(limit[1]) if limit else None, int(prompt[1] or prompt[2]) if prompt else None
