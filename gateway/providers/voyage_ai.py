"""Voyage AI: embeddings and reranking in nearly the usual forms, errors in FastAPI's (`{"detail": ...}`). It has no chat.

2026-11: https://docs.voyageai.com/reference/embeddings-api, .../reference/reranker-api and .../docs/error-codes
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.domain import Candidate, ChatRequest, Credential, EmbeddingRequest, Model, RerankRequest
from gateway.errors import (
    UpstreamContextTooLong,
    UpstreamError,
    UpstreamModelGone,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamUnreachable,
)
from gateway.providers import openai_compatible
from gateway.providers.base import EmbeddingAnswer, Headers
from gateway.providers.driver import Encoded
from gateway.providers.openai_compatible.failures import STATUSES, ErrorClass
from gateway.providers.openai_compatible.fields import size_to_ask_for
from gateway.upstream.transport import CallLimits, UpstreamRequest
from gateway.upstream.watch import Handle

# 2026-05: tokens that one call may hold, over all its inputs, https://docs.voyageai.com/reference/embeddings-api.
# Models that are not listed: 120,000.
CALL_TOKENS: Mapping[str, int] = {
    "voyage-4": 320_000,
    "voyage-4-lite": 1_000_000,
    "voyage-3.5": 320_000,
    "voyage-3.5-lite": 1_000_000,
}
LEAST_CALL_TOKENS = 120_000
# 2026-11: of a call that reranks, the query counted once for each document, .../docs/reranker
RERANK_TOKENS = 600_000
BYTES_PER_TOKEN = 2  # of the densest text: a call that turns out too large would be refused as a whole


def _account_limited(message: str, **details: Any) -> UpstreamError:
    """Return the error of a limit over all models: without a payment method there is only one, of a minute."""
    limited = UpstreamRateLimited(message, **details)
    limited.cooldown_scope = "credential"
    return limited


# 2026-11: https://docs.voyageai.com/docs/error-codes, and answers pasted in public issues.
TEXTS: Sequence[tuple[re.Pattern[str], ErrorClass]] = (
    (re.compile(r"not yet added your payment method|reduced rate limits", re.I), _account_limited),
    # An unknown model is a 400, which elsewhere would be the caller's mistake.
    (re.compile(r"^Model \S+ is not supported", re.I), UpstreamModelGone),
    (
        re.compile(r"max allowed tokens per submitted batch|does not fit into the model's context window", re.I),
        UpstreamContextTooLong,
    ),
)

_LIMIT = re.compile(r"(?:per submitted batch is|context window of) (\d+)", re.I)
_PROMPT = re.compile(r"your batch has (\d+) tokens", re.I)


class Adapter(openai_compatible.Adapter):
    """Voyage's models. What is inherited for chat is never called: `cannot_serve` refuses every chat request."""

    texts = TEXTS
    statuses = {  # 2026-11: .../docs/error-codes
        **STATUSES,
        403: UpstreamUnreachable,  # it refuses the address that the call came from; no key would help
        502: UpstreamOverloaded,
        504: UpstreamOverloaded,
    }

    def cannot_serve(self, request: ChatRequest, model: Model) -> str | None:
        return "the provider has no chat"

    def embed(self, request: EmbeddingRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> EmbeddingAnswer:
        most_bytes = CALL_TOKENS.get(candidate.model.upstream_id, LEAST_CALL_TOKENS) * BYTES_PER_TOKEN
        answers = []
        for inputs in split_by_size(request.inputs, most_bytes):
            answers.append(super().embed(replace(request, inputs=inputs), candidate, limits, handle))
        counts = [answer.prompt_tokens for answer in answers]
        return replace(
            answers[-1],
            vectors=[vector for answer in answers for vector in answer.vectors],
            prompt_tokens=None if None in counts else sum(count or 0 for count in counts),
        )

    def models_request(self, credential: Credential, page: str | None) -> UpstreamRequest | None:
        return None  # 2026-11: there is no such endpoint

    def encode_embeddings(self, inputs: Sequence[str], request: EmbeddingRequest, candidate: Candidate) -> Encoded:
        model = candidate.model
        # Voyage cuts long inputs by default; OpenAI, and so our clients, expect to be told.
        body: dict[str, Any] = {"model": model.upstream_id, "input": list(inputs), "truncation": False}
        if request.input_type:
            body["input_type"] = request.input_type
        if (size := size_to_ask_for(request, model)) is not None:
            body["output_dimension"] = size
        return Encoded(self.post(candidate, "/embeddings", body), ("user",) if request.user else ())

    def split_documents(self, request: RerankRequest, model: Model) -> Iterator[Sequence[str]]:
        beside = len(request.query.encode("utf-8", "surrogatepass"))
        for documents in split_by_size(request.documents, RERANK_TOKENS * BYTES_PER_TOKEN, beside):
            yield from super().split_documents(replace(request, documents=documents), model)

    def encode_rerank(self, documents: Sequence[str], top_n: int, request: RerankRequest, candidate: Candidate) -> Encoded:
        body = {"model": candidate.model.upstream_id, "query": request.query, "documents": list(documents), "top_k": top_n}
        return Encoded(self.post(candidate, "/rerank", body))

    def classify_error(self, status: int, headers: Headers, payload: Any, candidate: Candidate) -> UpstreamError:
        error = super().classify_error(status, headers, payload, candidate)
        if isinstance(error, UpstreamContextTooLong):
            error.param = "documents" if candidate.model.kind == "rerank" else "input"
            error.limit_tokens, error.prompt_tokens = (_number(pattern, error.message) for pattern in (_LIMIT, _PROMPT))
        return error


def split_by_size(inputs: Sequence[str], most_bytes: int, beside: int = 0) -> Iterator[tuple[str, ...]]:
    """Yield the inputs in order, in groups of at most that size; one that is larger by itself stands alone.

    `beside`: bytes that count with each of them.
    """
    group: list[str] = []
    size = 0
    for text in inputs:
        bytes_ = len(text.encode("utf-8", "surrogatepass")) + beside
        if group and size + bytes_ > most_bytes:
            yield tuple(group)
            group, size = [], 0
        group.append(text)
        size += bytes_
    if group:
        yield tuple(group)


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return int(match[1]) if match else None
