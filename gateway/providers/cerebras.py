"""Cerebras: OpenAI's protocol with flat errors and a narrow list of parameters.

2026-11: https://inference-docs.cerebras.ai/api-reference/chat-completions, .../support/error, .../support/rate-limits
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain import Candidate, ChatRequest, Model
from gateway.errors import (
    UpstreamCredentialRejected,
    UpstreamOverloaded,
    UpstreamPaymentRequired,
)
from gateway.providers import openai_compatible
from gateway.providers.driver import ModelsPage
from gateway.providers.openai_compatible.failures import CODES
from gateway.providers.openai_compatible.fields import image_urls_of, thinks_anyway

# 2026-11: .../capabilities/reasoning
REASONING_PARAMS = frozenset({"reasoning_format", "clear_thinking", "disable_reasoning"})
# 2026-11: the reference types penalties, logit_bias and service_tier, the page on OpenAI's compatibility
# (.../resources/openai) says that they are refused: they are not sent. More than one answer (`n`) is not confirmed.
PARAMS = REASONING_PARAMS | {
    "temperature",
    "top_p",
    "stop",
    "seed",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "user",
}

# 2026-11: .../api-reference/chat-completions: no https, and no other formats.
IMAGES = ("data:image/png;", "data:image/jpeg;")

# Where a JSON schema holds further schemas: one, a list of them, or several by name.
# Draft 2020-12: https://json-schema.org/draft/2020-12/json-schema-core
_ONE_SCHEMA = ("items", "additionalProperties", "not", "if", "then", "else", "contains")
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions")


class Adapter(openai_compatible.Adapter):
    """Cerebras's chat."""

    params = PARAMS
    reasoning_params = REASONING_PARAMS
    joins_texts = True
    max_stops = 4
    max_tokens_name = "max_completion_tokens"
    codes = {  # 2026-11: .../support/error
        **CODES,
        "wrong_api_key": UpstreamCredentialRejected,
        "payment_required": UpstreamPaymentRequired,
        "queue_exceeded": UpstreamOverloaded,  # a 429 that speaks of the provider's load, not of a quota
    }
    # 2026-11: .../support/rate-limits; by the hour there are headers too, but no such window here.
    quota_headers = {
        "rpm": (
            "x-ratelimit-limit-requests-minute",
            "x-ratelimit-remaining-requests-minute",
            "x-ratelimit-reset-requests-minute",
        ),
        "rpd": ("x-ratelimit-limit-requests-day", "x-ratelimit-remaining-requests-day", "x-ratelimit-reset-requests-day"),
        "tpm": ("x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute", "x-ratelimit-reset-tokens-minute"),
        "tpd": ("x-ratelimit-limit-tokens-day", "x-ratelimit-remaining-tokens-day", "x-ratelimit-reset-tokens-day"),
    }

    def cannot_serve(self, request: ChatRequest, model: Model) -> str | None:
        if all(url.lower().startswith(IMAGES) for url in image_urls_of(request.messages)):
            return None
        return "takes images as png or jpeg in data URLs only"

    def takes_developer(self, model: Model) -> bool:
        return "gpt-oss" in model.upstream_id

    def adjust(self, body: dict[str, Any], request: ChatRequest, model: Model) -> None:
        if thinks_anyway(request, body.get("reasoning_effort")):
            body["reasoning_format"] = "hidden"
        form = body.get("response_format", {})
        if form.get("json_schema", {}).get("strict"):
            closed = close_objects(form["json_schema"]["schema"])
            body["response_format"] = {**form, "json_schema": {**form["json_schema"], "schema": closed}}
        if "tools" in body:
            body["tools"] = [_close_tool(tool) for tool in body["tools"]]

    def decode_models(self, payload: Any, page: str | None) -> ModelsPage:
        # 2026-11: .../api-reference/models lists what this account may call, and all of it chats.
        ids = [entry["id"] for entry in payload["data"]]
        return ModelsPage(ids, ids)

    def streams_natively(self, request: ChatRequest, candidate: Candidate) -> bool:
        # 2026-11: .../capabilities/structured-outputs: no streaming in JSON mode; with a schema there is.
        form: Mapping[str, Any] = request.body.get("response_format", {})
        return form.get("type") != "json_object"


def close_objects(schema: Any) -> Any:
    """Return a JSON schema whose objects take no further properties, whatever they say of that themselves.

    Strict mode refuses any other (2026-11: .../capabilities/structured-outputs).
    """
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for name in _ONE_SCHEMA:
        if name in closed:
            closed[name] = close_objects(closed[name])
    for name in _SCHEMA_LISTS:
        if isinstance(closed.get(name), list):
            closed[name] = [close_objects(item) for item in closed[name]]
    for name in _SCHEMA_MAPS:
        if isinstance(closed.get(name), dict):
            closed[name] = {key: close_objects(item) for key, item in closed[name].items()}
    types = closed.get("type")
    if "properties" in closed or "object" in (types if isinstance(types, list) else [types]):
        closed["additionalProperties"] = False
    return closed


def _close_tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    if not function.get("strict") or "parameters" not in function:
        return tool
    return {**tool, "function": {**function, "parameters": close_objects(function["parameters"])}}
