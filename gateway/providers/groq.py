"""Groq: OpenAI's protocol, and a 400 for every property that it does not know, in the body and within messages.

2026-11: https://console.groq.com/docs/openai, .../errors, .../rate-limits, .../reasoning
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.domain import Candidate, ChatRequest, Model, QuotaReading, Window
from gateway.errors import (
    UpstreamCredentialRejected,
    UpstreamError,
    UpstreamFailed,
    UpstreamModelFailed,
    UpstreamUnreachable,
)
from gateway.providers import openai_compatible
from gateway.providers.base import Headers
from gateway.providers.driver import Decoder, ModelsPage
from gateway.providers.openai_compatible.chunks import ChunkDecoder
from gateway.providers.openai_compatible.failures import CODES, STATUSES, ErrorFacts, has_error, model_denied, read_error
from gateway.providers.openai_compatible.fields import thinks_anyway
from gateway.upstream.hints import read_retry_after

# 2026-11: .../docs/reasoning
REASONING_PARAMS = frozenset({"reasoning_format", "include_reasoning"})
# 2026-11: https://console.groq.com/docs/api-reference#chat-create, without what it calls unsupported (penalties,
# logprobs, logit_bias, n, metadata, store) and without service_tier: OpenAI's tiers are not Groq's.
PARAMS = REASONING_PARAMS | {
    "temperature",
    "top_p",
    "stop",
    "seed",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "user",
    "disable_tool_validation",
    "documents",
    "citation_options",
    "search_settings",
    "compound_custom",
}

# 2026-11: .../docs/reasoning. These put <think> into the content unless told otherwise, and refuse tools and JSON mode
# beside it; the gpt-oss models always keep thoughts apart, and refuse the parameter.
RAW_THINKERS = ("qwen/",)

# 2026-11: .../docs/models: the list mixes all kinds, and has no field for them. Transcribers and guards have tiny windows.
NO_CHAT = re.compile(r"whisper|(?:^|[-/])tts\b|orpheus|(?:prompt|llama)-guard", re.I)
LEAST_WINDOW = 1001

# What is in the way of the client: the account's name, and an invitation to pay.
_NOISE = re.compile(r" in organization `[^`]*`|(?: Need more tokens\?| Upgrade to ).*", re.I | re.S)

# 2026-11: .../docs/rate-limits, and answers pasted in public issues: "on tokens per day (TPD): Limit 200000, Used 199100,
# Requested 2400. Please try again in 9m38.016s." One request that is too large for its window tells of no use.
_LIMIT = re.compile(r"\((?P<window>[RT]P[MD])\): Limit (?P<limit>\d+),(?: Used (?P<used>\d+),)? Requested \d+")
_WINDOWS: Mapping[str, Window] = {"RPM": "rpm", "RPD": "rpd", "TPM": "tpm", "TPD": "tpd"}


class Adapter(openai_compatible.Adapter):
    """Groq's chat."""

    params = PARAMS
    reasoning_params = REASONING_PARAMS
    # No `name`, and no field in which thoughts come back: models that do not reason refuse that one too.
    message_fields = frozenset({"role", "content", "tool_calls", "tool_call_id"})
    # 2026-11: `strict` is in no type of the SDK's function definition (github.com/groq/groq-python).
    tool_fields = frozenset({"name", "description", "parameters"})
    # 'messages.0.content' of role system "must be a string": github.com/livekit/agents/issues/1790
    joins_texts = True
    max_stops = 4
    max_tokens_name = "max_completion_tokens"
    codes = {  # 2026-11: .../docs/errors, and answers pasted in public issues; so are texts
        **CODES,
        "model_terms_required": model_denied,  # somebody must accept its terms in the console
        "organization_restricted": UpstreamCredentialRejected,
    }
    statuses = {
        **STATUSES,
        403: model_denied,  # blocked in the project's settings; a wrong key is a 401
        499: UpstreamFailed,
    }
    texts = (
        (re.compile(r"check your network settings", re.I), UpstreamUnreachable),  # 403: the address is refused
        # Refused by this model or by this provider alone. 2026-11: .../docs/reasoning, .../docs/structured-outputs
        (
            re.compile(r"`reasoning_\w+` must be one of|`(?:reasoning_\w+|include_reasoning)` is not supported", re.I),
            UpstreamModelFailed,
        ),
        (re.compile(r"'response_format\.type' : value is not one of", re.I), UpstreamModelFailed),
        (re.compile(r"invalid schema for response format: .* is not supported", re.I | re.S), UpstreamModelFailed),
        (re.compile(r"`tool calling` is not supported|value must be a string\)", re.I), UpstreamModelFailed),
    )
    # 2026-11: .../docs/rate-limits: requests are those of the day, tokens those of the minute.
    quota_headers = {
        "rpd": ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        "tpm": ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    }

    def adjust(self, body: dict[str, Any], request: ChatRequest, model: Model) -> None:
        if not REASONING_PARAMS.isdisjoint(body):
            return  # the two exclude each other
        if thinks_anyway(request, body.get("reasoning_effort")):
            body["include_reasoning"] = False
        elif model.reasons and model.upstream_id.startswith(RAW_THINKERS):
            body["reasoning_format"] = "parsed"

    def read_quota(self, headers: Headers, failure: Any = None) -> tuple[QuotaReading, ...]:
        told = read_limit(read_error(failure).message)
        by_headers = super().read_quota(headers)
        return (*(reading for reading in by_headers if reading.window != told.window), told) if told else by_headers

    def stream_decoder(self, request: ChatRequest, candidate: Candidate) -> Decoder:
        return StreamDecoder(self, candidate)

    def decode_models(self, payload: Any, page: str | None) -> ModelsPage:
        active = [entry for entry in payload["data"] if entry.get("active") is not False]
        chat = [entry["id"] for entry in active if (entry.get("context_window") or LEAST_WINDOW) >= LEAST_WINDOW]
        return ModelsPage([entry["id"] for entry in active], [id_ for id_ in chat if not NO_CHAT.search(id_)])

    def read_facts(self, payload: Any) -> ErrorFacts:
        facts = read_error(payload)
        return replace(facts, message=_NOISE.sub("", facts.message))


def read_limit(message: str) -> QuotaReading | None:
    """Return what a refusal says of the window that it met: two of the four have no headers at all."""
    match = _LIMIT.search(message)
    if match is None:
        return None
    limit, used = int(match["limit"]), match["used"]
    remaining = max(0, limit - int(used)) if used else None
    return QuotaReading(_WINDOWS[match["window"]], limit, remaining, read_retry_after({}, message, 0.0))


class StreamDecoder(ChunkDecoder):
    """Reads chunks whose `x_groq` may tell of a failure (2026-11: groq SDK 1.7.0, chat_completion_chunk)."""

    def is_failure(self, payload: Mapping[str, Any]) -> bool:
        return has_error(payload) or ("x_groq" in payload and bool(_extra_of(payload).get("error")))

    def failure(self, payload: Mapping[str, Any]) -> UpstreamError:
        return super().failure(payload if has_error(payload) else _extra_of(payload))


def _extra_of(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    extra = payload.get("x_groq")
    return extra if isinstance(extra, dict) else {}
