"""Cloudflare Workers AI, through its OpenAI-compatible API (`{base_url}/v1`, where the base URL ends in `/ai`).

Why not its own `/run/{model}` (2026-11: https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility/):
there each generation of models has a request and an answer of its own (a bare JSON schema, flat tools, no tool_choice,
three kinds of stream), the id of the model stands in the path, and embeddings tell no usage. The compatible API takes
one form for all of them, but for reranking, which it lacks. What comes back is not always that form, so every form seen
is read, on either API: Cloudflare's envelope, the classic `response`, completions inside `result`, and streams that mix
them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.domain import Candidate, ChatRequest, Credential, EmbeddingRequest, Model, QuotaReading, RerankRequest, Scored
from gateway.errors import (
    UpstreamContextTooLong,
    UpstreamError,
    UpstreamQuotaExhausted,
)
from gateway.providers import openai_compatible
from gateway.providers.base import Headers
from gateway.providers.driver import Decoder, Encoded, ModelsPage, Scores, Vectors
from gateway.providers.openai_compatible import fit_output
from gateway.providers.openai_compatible.failures import read_error
from gateway.providers.openai_compatible.fields import size_to_ask_for
from gateway.providers.workers_ai.failures import CODES, TEXTS, read_token_counts, tidy
from gateway.providers.workers_ai.forms import completion_of, is_classic, is_failure, mend, unwrap
from gateway.providers.workers_ai.stream import StreamDecoder
from gateway.upstream.hints import seconds_until_utc_midnight
from gateway.upstream.transport import UpstreamRequest

# 2026-11: https://developers.cloudflare.com/workers-ai/models/ (the schema of each model). `stop` is in no schema of
# the older models; they ignore what they do not know, and the newer ones obey it.
PARAMS = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "repetition_penalty",
        "frequency_penalty",
        "presence_penalty",
        "stop",
        "tools",
        "tool_choice",
        # json_schema goes out in OpenAI's wrapper, as the compatible API documents it; only /run wants the bare schema.
        "response_format",
        "chat_template_kwargs",
    }
)
# 2026-11: the same schemas; a seed of 0 is out of range too.
RANGES: Mapping[str, tuple[float, float]] = {"top_p": (0.001, 1), "top_k": (1, 50), "repetition_penalty": (0, 2)}
SEEDS = (1, 9_999_999_999)

# Ours, in the place of the server's 256 (2026-11: the same schemas).
DEFAULT_OUTPUT_TOKENS = 4096
DEFAULT_REASONING_TOKENS = 16384  # thoughts are part of the answer's tokens

# 2026-11: cloudflare SDK 5.9.0, resources/ai/models: the id to call is `name`, `id` is none.
PAGE_SIZE = 100
SERVED_TASKS = frozenset({"Text Generation", "Text Embeddings"})
# 2026-07-29: on the paid plan only, https://developers.cloudflare.com/workers-ai/changelog/. Others answer 5035.
NOT_FREE = frozenset({"@cf/moonshotai/kimi-k2.6", "@cf/moonshotai/kimi-k2.7-code", "@cf/zai-org/glm-5.2"})


class Adapter(openai_compatible.Adapter):
    """Workers AI of one account."""

    params = PARAMS
    message_fields = frozenset({"role", "content", "tool_calls", "tool_call_id"})
    codes = CODES
    texts = TEXTS

    # --- requests --------------------------------------------------------------------------------------------------

    def encode_chat(self, request: ChatRequest, candidate: Candidate) -> Encoded:
        kept, dropped = fit_ranges(request.body)
        call = super().encode_chat(replace(request, body=kept), candidate)
        return replace(call, dropped=call.dropped + dropped)

    def encode_message(self, message: Mapping[str, Any], model: Model) -> Mapping[str, Any]:
        # 2026-11: most text models answer 5006 to null and to a list of parts ("'array' not in 'string'",
        # https://developers.cloudflare.com/workers-ai/models/): content is a string, but for images.
        encoded = super().encode_message(message, model)
        content = encoded.get("content")
        if isinstance(content, str):
            return encoded
        parts = content or []
        if any(part["type"] == "image_url" for part in parts):
            return encoded
        return {**encoded, "content": "\n".join(part["text"] for part in parts)}

    def output_limit(self, request: ChatRequest, model: Model) -> int:
        """Return a limit always: without one the server cuts the answer after 256 tokens.

        An answer that runs away spends the day's allowance: so one that the client left open is bounded too.
        """
        usual = DEFAULT_REASONING_TOKENS if model.reasons else DEFAULT_OUTPUT_TOKENS
        return fit_output(request.max_output_tokens or usual, request, model)

    def set_effort(self, body: dict[str, Any], request: ChatRequest, model: Model) -> bool:
        if model.effort(request.reasoning_effort) != "none":
            return super().set_effort(body, request, model)
        # 2026-11: the schemas have low, medium, high and null; which of the two turns thinking off depends on the model.
        body["reasoning_effort"] = None
        body.setdefault("chat_template_kwargs", {"enable_thinking": False})
        return True

    def streams_natively(self, request: ChatRequest, candidate: Candidate) -> bool:
        # 2026-11: "JSON Mode currently doesn't support streaming" (.../workers-ai/features/json-mode/).
        return "response_format" not in request.body

    def encode_embeddings(self, inputs: Sequence[str], request: EmbeddingRequest, candidate: Candidate) -> Encoded:
        model = candidate.model
        body = {"model": model.upstream_id, "input": list(inputs)}
        dropped = [name for name in ("input_type", "user") if getattr(request, name)]
        if size_to_ask_for(request, model) is not None:
            dropped.append("dimensions")
        return Encoded(self.post(candidate, "/embeddings", body), tuple(dropped))

    def encode_rerank(self, documents: Sequence[str], top_n: int, request: RerankRequest, candidate: Candidate) -> Encoded:
        # 2026-11: https://developers.cloudflare.com/workers-ai/models/bge-reranker-base/
        contexts = [{"text": text} for text in documents]
        body = {"query": request.query, "contexts": contexts, "top_k": top_n}
        return Encoded(super().post(candidate, f"/run/{candidate.model.upstream_id}", body))

    def post(self, candidate: Candidate, path: str, body: Mapping[str, Any]) -> UpstreamRequest:
        return super().post(candidate, "/v1" + path, body)

    # --- answers ---------------------------------------------------------------------------------------------------

    def decode_chat(self, payload: Any, request: ChatRequest, candidate: Candidate) -> dict[str, Any]:
        answer = unwrap(payload)
        if is_classic(answer):
            answer = completion_of(answer, self.output_limit(request, candidate.model))
        completion = super().decode_chat(answer, request, candidate)
        for choice in completion["choices"]:
            mend(choice.get("message"), hides_thoughts=request.reasoning_effort == "none")
        return completion

    def stream_decoder(self, request: ChatRequest, candidate: Candidate) -> Decoder:
        limit_tokens = self.output_limit(request, candidate.model)
        return StreamDecoder(self, candidate, limit_tokens, hides_thoughts=request.reasoning_effort == "none")

    def decode_embeddings(self, payload: Any, candidate: Candidate) -> Vectors:
        answer = unwrap(payload)
        rows = answer.get("data") if isinstance(answer, dict) else None
        if isinstance(rows, list) and all(isinstance(row, list) for row in rows):
            answer = {**answer, "data": [{"index": index, "embedding": row} for index, row in enumerate(rows)]}
        return super().decode_embeddings(answer, candidate)

    def decode_rerank(self, payload: Any, candidate: Candidate) -> Scores:
        return Scores([Scored(row["id"], row["score"]) for row in unwrap(payload)["response"]])

    def find_error(self, payload: Any) -> int | None:
        if is_failure(payload):
            return read_error(payload).status or 502
        return super().find_error(payload)

    # --- models ----------------------------------------------------------------------------------------------------

    def models_request(self, credential: Credential, page: str | None) -> UpstreamRequest | None:
        return self.get(credential, f"/models/search?per_page={PAGE_SIZE}&page={page or 1}")

    def decode_models(self, payload: Any, page: str | None) -> ModelsPage:
        entries = payload["result"]
        free = [entry["name"] for entry in entries if entry["task"]["name"] in SERVED_TASKS and entry["name"] not in NOT_FREE]
        number = int(page or 1)
        is_last = len(entries) < PAGE_SIZE or number * PAGE_SIZE >= payload["result_info"].get("total_count", math.inf)
        return ModelsPage([entry["name"] for entry in entries], free, None if is_last else str(number + 1))

    # --- failures --------------------------------------------------------------------------------------------------

    def classify_error(self, status: int, headers: Headers, payload: Any, candidate: Candidate) -> UpstreamError:
        facts = read_error(payload)
        error = super().classify_error(status, headers, tidy(facts, candidate) if facts.is_json else payload, candidate)
        if isinstance(error, UpstreamContextTooLong):
            error.limit_tokens, error.prompt_tokens = read_token_counts(facts.message)
        elif isinstance(error, UpstreamQuotaExhausted) and error.retry_after_s is None:
            # 2026-11: the day's neurons come back at 00:00 UTC (.../workers-ai/platform/pricing/).
            error.retry_after_s = seconds_until_utc_midnight(self.now())
        return error

    def error_of(self, status: int, headers: Headers, payload: Any, candidate: Candidate) -> UpstreamError:
        error = super().error_of(status, headers, payload, candidate)
        if isinstance(error, UpstreamQuotaExhausted):
            error.quota = (QuotaReading("neurons", None, 0, error.retry_after_s),)
        return error


# --- requests --------------------------------------------------------------------------------------------------------


def fit_ranges(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return the body with numbers inside the provider's ranges, and the names of those that have no place in them."""
    fitted: dict[str, Any] = {}
    dropped: list[str] = []
    for name, (least, most) in RANGES.items():
        if isinstance(body.get(name), (int, float)):
            fitted[name] = min(max(body[name], least), most)
    if "top_k" in fitted and body["top_k"] < 1:  # 0 and -1: no limit, which no number here can say
        dropped.append("top_k")
    if isinstance(body.get("seed"), int) and not SEEDS[0] <= body["seed"] <= SEEDS[1]:
        dropped.append("seed")
    kept = {name: value for name, value in {**body, **fitted}.items() if name not in dropped}
    return kept, tuple(dropped)
