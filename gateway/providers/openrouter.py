"""OpenRouter: many backends behind OpenAI's protocol. It tolerates much, and says in its errors whose failure it was.

2026-11: https://openrouter.ai/docs/api-reference/overview, .../errors, .../limits, .../reasoning-tokens
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from gateway import jsonio
from gateway.domain import Candidate, ChatRequest, Credential, Model, QuotaReading, Window
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
    UpstreamRefusedContent,
)
from gateway.providers import openai_compatible
from gateway.providers.base import ChatAnswer, ChatStream, Headers
from gateway.providers.driver import ModelsPage
from gateway.providers.openai_compatible import read_count
from gateway.providers.openai_compatible.failures import CODES, ErrorClass, ErrorFacts, model_denied, read_error
from gateway.providers.openai_compatible.fields import MESSAGE_FIELDS, thinks_anyway
from gateway.upstream.hints import read_retry_after, seconds_until, seconds_until_utc_midnight
from gateway.upstream.transport import CallLimits, UpstreamRequest
from gateway.upstream.watch import Handle

# What a model without thoughts has no use for; `verbosity` is for the answer.
REASONING_PARAMS = frozenset({"reasoning", "include_reasoning"})
# 2026-11: openrouter SDK 1.3.84, components/chatrequest. What it does not know it ignores without a word: not sending
# it is the only way to name it as dropped. `models` and `route` are the gateway's own business.
PARAMS = REASONING_PARAMS | {
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "top_a",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "stop",
    "seed",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "verbosity",
    "prediction",
    "modalities",
    "provider",
    "plugins",
    "transforms",
    "cache_control",
    "service_tier",
    "session_id",
    "metadata",
    "user",
}

_account_limited = partial(UpstreamQuotaExhausted, account_wide=True)

# 2026-11: openrouter SDK 1.3.84, `metadata.error_type`. Of those left out, the text or the status says more:
# invalid_request, unprocessable, payload_too_large, unmapped.
ERROR_TYPES: Mapping[str, ErrorClass] = {
    "context_length_exceeded": UpstreamContextTooLong,
    "max_tokens_exceeded": UpstreamModelFailed,
    "authentication": UpstreamCredentialRejected,
    "permission_denied": UpstreamCredentialRejected,
    "payment_required": UpstreamPaymentRequired,
    "rate_limit_exceeded": UpstreamRateLimited,
    "provider_overloaded": UpstreamOverloaded,
    "provider_unavailable": UpstreamOverloaded,
    "not_found": UpstreamModelGone,
    "content_policy_violation": UpstreamRefusedContent,
    "refusal": UpstreamRefusedContent,
    "server": UpstreamFailed,
    "timeout": UpstreamFailed,
}
# What a backend says of its own credentials and payments is OpenRouter's affair: ours are not at fault.
_OF_THE_CREDENTIAL = (UpstreamCredentialRejected, UpstreamPaymentRequired)

# 2026-11: .../limits: the account's own limits, by text or by `metadata.limit_source`; the last one is for calls at a time.
_ACCOUNT = re.compile(r"free-models-per-|openrouter_free_tier|openrouter_in_flight_budget", re.I)
_DAY = re.compile(r"per-day|daily", re.I)
_WINDOWS: Mapping[Window, re.Pattern[str]] = {
    "rpd": re.compile(r"free-models-per-day|openrouter_free_tier_daily", re.I),
    "rpm": re.compile(r"free-models-per-min", re.I),
}
_UNTOLD = re.compile(r"^\s*provider returned error\s*$", re.I)
_MINUTE_S = 60

EMBEDDING_MODELS = "/embeddings/models"


class Adapter(openai_compatible.Adapter):
    """OpenRouter's chat and embeddings."""

    params = PARAMS
    reasoning_params = REASONING_PARAMS
    # 2026-11: .../reasoning-tokens: thoughts that a backend signed must come back as they were, when tools are in play.
    message_fields = MESSAGE_FIELDS | {"reasoning_details"}
    part_fields = frozenset({"cache_control"})
    takes_developer_role = True
    asks_for_usage = False  # it always comes
    codes = {**CODES, **ERROR_TYPES}
    texts = (  # 2026-11: .../errors, and answers pasted in public issues
        # The model is there, but no backend of it can do what the request needs.
        (re.compile(r"no endpoints found that (?:support|can handle)", re.I), UpstreamModelFailed),
        # 2026-11: .../limits: free models need a privacy setting of the account.
        (re.compile(r"no endpoints (?:found|available) matching your", re.I), model_denied),
        (re.compile(r"no endpoints found|is not a valid model id", re.I), UpstreamModelGone),
        (re.compile(r"key limit exceeded|insufficient credits", re.I), UpstreamPaymentRequired),
        (re.compile(r"reasoning is mandatory", re.I), UpstreamModelFailed),
    )

    # --- requests --------------------------------------------------------------------------------------------------

    def set_effort(self, body: dict[str, Any], request: ChatRequest, model: Model) -> bool:
        effort = model.effort(request.reasoning_effort)
        if effort is None:
            return False
        # An effort beside a budget, or beside a switch that says otherwise, is refused.
        kept = {name: value for name, value in body.get("reasoning", {}).items() if name not in ("max_tokens", "enabled")}
        hidden = {"exclude": True} if thinks_anyway(request, effort) else {}
        body["reasoning"] = {**kept, "effort": effort, **hidden}
        return True

    def adjust(self, body: dict[str, Any], request: ChatRequest, model: Model) -> None:
        if "json_schema" in request.needs and isinstance(body.get("provider", {}), dict):
            # A backend that cannot keep to the schema would ignore it silently: ask only those that can.
            body["provider"] = {"require_parameters": True, **body.get("provider", {})}

    def complete(self, request: ChatRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> ChatAnswer:
        with _missed_by(request):
            return super().complete(request, candidate, limits, handle)

    def open_stream(self, request: ChatRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> ChatStream:
        with _missed_by(request):
            return super().open_stream(request, candidate, limits, handle)

    # --- models ----------------------------------------------------------------------------------------------------

    def models_request(self, credential: Credential, page: str | None) -> UpstreamRequest | None:
        return self.get(credential, page or "/models")

    def credential_request(self, credential: Credential) -> UpstreamRequest | None:
        return self.get(credential, "/key")  # 2026-11: .../limits; the list of models needs no key

    def decode_models(self, payload: Any, page: str | None) -> ModelsPage:
        entries = payload["data"]
        free = [entry["id"] for entry in entries if is_free(entry) and speaks(entry)]
        # 2026-11: openrouter SDK 1.3.84: models that embed stand in a list of their own.
        return ModelsPage([entry["id"] for entry in entries], free, None if page else EMBEDDING_MODELS)

    # --- failures --------------------------------------------------------------------------------------------------

    def classify_error(self, status: int, headers: Headers, payload: Any, candidate: Candidate) -> UpstreamError:
        facts = self.read_facts(payload)
        error = super().classify_error(status, headers, payload, candidate)
        if isinstance(error, UpstreamRateLimited) and error.cooldown_scope == "credential":
            error.retry_after_s = self._account_resets_in_s(headers, facts)
        elif isinstance(error, UpstreamRateLimited) and error.cooldown_scope == "candidate":
            # The backend's limit is shared by all its callers: another credential of ours would meet it too.
            error.cooldown_scope = "model"
        return error

    def read_facts(self, payload: Any) -> ErrorFacts:
        facts = read_error(payload)
        metadata = facts.metadata if isinstance(facts.metadata, dict) else {}
        told = _message_of(metadata.get("raw")) if _UNTOLD.match(facts.message) else ""
        type_ = metadata.get("error_type")
        return replace(
            facts, message=told or facts.message, type=type_ if isinstance(type_, str) else facts.type, metadata=metadata
        )

    def kind_of_error(self, status: int, facts: ErrorFacts) -> ErrorClass:
        if _ACCOUNT.search(limit_of(facts)):
            return _account_limited
        if status == 403 and ("flagged_input" in facts.metadata or facts.metadata.get("reasons")):
            return UpstreamRefusedContent
        kind = super().kind_of_error(status, facts)
        by_backend = bool(facts.metadata.get("provider_name"))
        return UpstreamFailed if by_backend and kind in _OF_THE_CREDENTIAL else kind

    def read_quota(self, headers: Headers, failure: Any = None) -> tuple[QuotaReading, ...]:
        # 2026-11: .../limits: only the refusal by an account's own limit tells of it.
        facts = self.read_facts(failure)
        window = next((window for window, text in _WINDOWS.items() if text.search(limit_of(facts))), None)
        if window is None:
            return ()
        limit = read_count(headers_told(headers, facts).get("x-ratelimit-limit"))
        return (QuotaReading(window, limit, 0, self._account_resets_in_s(headers, facts)),)

    def _account_resets_in_s(self, headers: Headers, facts: ErrorFacts) -> float:
        """Return when the account's own limit ends."""
        said, now = headers_told(headers, facts), self.now()
        resets_in_s = seconds_until(said.get("x-ratelimit-reset", ""), now)
        if resets_in_s is None:
            resets_in_s = read_retry_after(said, facts.message, now)
        if resets_in_s is not None:
            return resets_in_s
        return seconds_until_utc_midnight(now) if _DAY.search(limit_of(facts)) else _MINUTE_S


def is_free(entry: Mapping[str, Any]) -> bool:
    """Whether a model of the list costs nothing (2026-11: .../models): prices are texts, in dollars a token."""
    pricing = entry.get("pricing") or {}
    prices = pricing.get("prompt"), pricing.get("completion", "0"), pricing.get("request", "0")
    return entry["id"].endswith(":free") or set(prices) == {"0"}


def speaks(entry: Mapping[str, Any]) -> bool:
    """Whether a model of the list answers in text, or embeds one."""
    outputs = (entry.get("architecture") or {}).get("output_modalities")
    return outputs is None or "text" in outputs or "embeddings" in outputs


@contextmanager
def _missed_by(request: ChatRequest) -> Iterator[None]:
    """Say of a model that is gone whether it is only so for this request, which named what its backends must be.

    2026-11: "No endpoints found" is also the answer where `require_parameters` or a list leaves none (.../errors, 404).
    """
    try:
        yield
    except UpstreamModelGone as error:
        chooses_backends = "json_schema" in request.needs or bool(request.body.get("provider"))
        if not chooses_backends or error.cooldown_scope != "model":
            raise
        raise UpstreamModelFailed(error.message, upstream_status=error.upstream_status) from error


def headers_told(headers: Headers, facts: ErrorFacts) -> Mapping[str, str]:
    """Return an answer's headers, and those that only their copy in its body has; names in lower case."""
    copied = facts.metadata.get("headers")
    said = {name.lower(): str(value) for name, value in (copied if isinstance(copied, dict) else {}).items()}
    return said | {name.lower(): value for name, value in headers.items()}


def limit_of(facts: ErrorFacts) -> str:
    """Return all that an error says of which limit was met."""
    return f"{facts.message} {facts.metadata.get('limit_source', '')}"


def _message_of(raw: Any) -> str:
    """Return what the backend said: its text, or the message in its JSON, which may come as a text too."""
    if isinstance(raw, str) and raw.lstrip()[:1] in ("{", "["):
        with suppress(ValueError):
            raw = jsonio.loads(raw)
    return read_error(raw).message
