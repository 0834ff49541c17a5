"""Any endpoint that speaks OpenAI's protocol. Providers that differ a little subclass this and override the tables.

Everything unknown is passed on: a self-hosted server (Ollama, vLLM, llama.cpp) takes parameters that no list knows.
The hosted providers refuse what they do not know, so their adapters name what they take.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from gateway import jsonio
from gateway.domain import (
    Candidate,
    ChatRequest,
    Credential,
    EmbeddingRequest,
    Model,
    QuotaReading,
    RerankRequest,
    Scored,
    Window,
)
from gateway.errors import (
    UpstreamContextTooLong,
    UpstreamError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamUnreachable,
)
from gateway.providers.base import Headers
from gateway.providers.driver import Decoder, Encoded, HttpProvider, ModelsPage, Scores, Vectors
from gateway.providers.openai_compatible.chunks import ChunkDecoder, has_object
from gateway.providers.openai_compatible.failures import (
    CODES,
    DAILY,
    DENIED,
    STATUSES,
    ErrorClass,
    ErrorFacts,
    first_of,
    has_error,
    kind_of_rejection,
    model_denied,
    presentable,
    read_error,
    read_token_counts,
    status_of,
)
from gateway.providers.openai_compatible.fields import (
    MESSAGE_FIELDS,
    TOOL_FIELDS,
    encode_part,
    encode_tool,
    encode_tool_call,
    is_loss,
    size_to_ask_for,
)
from gateway.upstream.hints import parse_duration, read_retry_after
from gateway.upstream.transport import UpstreamRequest

_DAY_WINDOWS = ("rpd", "tpd")
LEAST_OUTPUT_TOKENS = 256  # of an answer that is cut to fit: the prompt's size, and so the room beside it, is a guess


class Adapter(HttpProvider):
    """OpenAI's chat completions and embeddings, with the facts in which endpoints differ as class attributes.

    Beside them Cohere's rerank, which is no part of OpenAI's protocol, but stands beside it on most hosts that rerank.
    """

    params: frozenset[str] | None = None  # body fields that the endpoint takes; None: all
    reasoning_params: frozenset[str] = frozenset()  # those of them that models which do not reason refuse
    message_fields = MESSAGE_FIELDS
    part_fields: frozenset[str] = frozenset()  # of content parts, beside OpenAI's own
    tool_fields = TOOL_FIELDS
    joins_texts = False  # parts that are all text go out as one string
    max_stops: int | None = None
    max_tokens_name = "max_tokens"
    takes_developer_role = False
    asks_for_usage = True  # in a stream, by stream_options
    codes: Mapping[str, ErrorClass] = CODES
    statuses: Mapping[int, ErrorClass] = STATUSES
    texts: Sequence[tuple[re.Pattern[str], ErrorClass]] = ()  # of messages that say more than their code or status
    # Which headers speak of which window: (limit, remaining, reset).
    quota_headers: Mapping[Window, tuple[str, str, str]] = {}

    # --- requests --------------------------------------------------------------------------------------------------

    def encode_chat(self, request: ChatRequest, candidate: Candidate) -> Encoded:
        model = candidate.model
        allowed = self.params_for(model)
        taken = {name: value for name, value in request.body.items() if allowed is None or name in allowed}
        left_out = {name: value for name, value in request.body.items() if name not in taken and name != "messages"}
        dropped = [name for name, value in left_out.items() if is_loss(name, value)]
        body: dict[str, Any] = {**taken, "model": model.upstream_id, "messages": self.encode_messages(request, model)}
        if "tools" in body:
            body["tools"] = [encode_tool(tool, self.tool_fields) for tool in body["tools"]]
        if self.max_stops and isinstance(body.get("stop"), list) and len(body["stop"]) > self.max_stops:
            body["stop"] = body["stop"][: self.max_stops]  # better than none, and better than a refusal
            dropped.append("stop")
        if (limit := self.output_limit(request, model)) is not None:
            body[self.limit_name(model)] = limit
        if request.reasoning_effort is not None and not self.set_effort(body, request, model):
            dropped.append("reasoning_effort")
        if request.stream:
            body["stream"] = True
            if self.asks_for_usage:
                body["stream_options"] = {"include_usage": True}
        self.adjust(body, request, model)
        return Encoded(self.post(candidate, "/chat/completions", body), tuple(dropped))

    def params_for(self, model: Model) -> frozenset[str] | None:
        """Return the body fields that the endpoint takes for this model, None for all: the row's own list comes first."""
        allowed = model.params if model.params is not None else self.params
        return allowed if allowed is None or model.reasons else allowed - self.reasoning_params

    def takes_developer(self, model: Model) -> bool:
        """Whether the role developer stays as it is; otherwise it becomes system."""
        return self.takes_developer_role

    def encode_messages(self, request: ChatRequest, model: Model) -> list[Mapping[str, Any]]:
        """Return the messages with the fields that the endpoint takes; those that need no change are shared."""
        return [self.encode_message(message, model) for message in request.messages]

    def encode_message(self, message: Mapping[str, Any], model: Model) -> Mapping[str, Any]:
        as_system = message["role"] == "developer" and not self.takes_developer(model)
        content = message.get("content")
        if (
            message.keys() <= self.message_fields
            and not as_system
            and "tool_calls" not in message
            and not isinstance(content, list)
        ):
            return message
        encoded = {name: value for name, value in message.items() if name in self.message_fields}
        if as_system:
            encoded["role"] = "system"
        if isinstance(content, list):
            encoded["content"] = self.encode_parts(content)
        if "tool_calls" in encoded:
            encoded["tool_calls"] = [encode_tool_call(call) for call in encoded["tool_calls"]]
        return encoded

    def encode_parts(self, parts: Sequence[Mapping[str, Any]]) -> str | list[dict[str, Any]]:
        """Return content in parts, or its text alone where that is all there is and the endpoint prefers it so."""
        if self.joins_texts and all(part["type"] == "text" for part in parts):
            return "\n".join(part["text"] for part in parts)
        return [encode_part(part, self.part_fields) for part in parts]

    def output_limit(self, request: ChatRequest, model: Model) -> int | None:
        """Return the limit on the answer's tokens to ask for, None to leave it to the endpoint."""
        wanted = request.max_output_tokens
        return None if wanted is None else fit_output(wanted, request, model)

    def limit_name(self, model: Model) -> str:
        """Return what the limit on the answer's tokens is called; a row's list of parameters may name the newer field."""
        newer = "max_completion_tokens"
        renamed = model.params is not None and newer in model.params and self.max_tokens_name not in model.params
        return newer if renamed else self.max_tokens_name

    def set_effort(self, body: dict[str, Any], request: ChatRequest, model: Model) -> bool:
        """Write the reasoning effort in the endpoint's own words; return False if the model has no such control."""
        effort = model.effort(request.reasoning_effort)
        if effort is not None:
            body["reasoning_effort"] = effort
        return effort is not None

    def adjust(self, body: dict[str, Any], request: ChatRequest, model: Model) -> None:
        """Change what else the endpoint wants otherwise; the body is this attempt's own, what is in it is shared."""

    def encode_embeddings(self, inputs: Sequence[str], request: EmbeddingRequest, candidate: Candidate) -> Encoded:
        model = candidate.model
        body: dict[str, Any] = {"model": model.upstream_id, "input": list(inputs), "encoding_format": "float"}
        dropped = ["input_type"] if request.input_type else []
        if (size := size_to_ask_for(request, model)) is not None:
            body["dimensions"] = size
        if request.user:
            body["user"] = request.user
        return Encoded(self.post(candidate, "/embeddings", body), tuple(dropped))

    def encode_rerank(self, documents: Sequence[str], top_n: int, request: RerankRequest, candidate: Candidate) -> Encoded:
        # 2026-11: Cohere, Jina, OpenRouter, vLLM, llama.cpp, Infinity: https://docs.cohere.com/reference/rerank
        body = {"model": candidate.model.upstream_id, "query": request.query, "documents": list(documents), "top_n": top_n}
        return Encoded(self.post(candidate, "/rerank", body))

    def post(self, candidate: Candidate, path: str, body: Mapping[str, Any]) -> UpstreamRequest:
        headers = {"Content-Type": "application/json", **self.auth_headers(candidate.credential.secret)}
        return UpstreamRequest(candidate.credential.base_url + path, headers, jsonio.dumps(body))

    def auth_headers(self, secret: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {secret}"} if secret else {}

    # --- answers ---------------------------------------------------------------------------------------------------

    def decode_chat(self, payload: Any, request: ChatRequest, candidate: Candidate) -> dict[str, Any]:
        choices = payload.get("choices") if isinstance(payload, dict) else None
        if not isinstance(choices, list) or not choices or not all(has_object(choice, "message") for choice in choices):
            raise UpstreamGarbled("The provider's answer held no completion.", upstream_status=200)
        self.check_ends(choices, candidate)
        completion: dict[str, Any] = payload
        return completion

    def check_ends(self, choices: Sequence[Mapping[str, Any]], candidate: Candidate) -> None:
        """Return if no choice ended in a failure.

        :raises UpstreamError: what the failure says, where it says something.
        """
        for choice in choices:
            if choice.get("finish_reason") == "error":
                if choice.get("error"):
                    raise self.error_of(status_of(read_error(choice)), {}, choice, candidate)
                raise UpstreamFailed("The provider's model failed while it answered.", upstream_status=200)

    def stream_decoder(self, request: ChatRequest, candidate: Candidate) -> Decoder:
        return ChunkDecoder(self, candidate)

    def decode_embeddings(self, payload: Any, candidate: Candidate) -> Vectors:
        rows = sorted(enumerate(payload["data"]), key=lambda pair: pair[1].get("index", pair[0]))
        vectors = [_vector(row["embedding"]) for _, row in rows]
        usage = payload.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        tokens = usage.get("prompt_tokens") or usage.get("total_tokens")
        return Vectors(vectors, tokens if isinstance(tokens, int) else None)

    def decode_rerank(self, payload: Any, candidate: Candidate) -> Scores:
        """Return the scores: under `results`, or `data` (Voyage), or as a bare list (text-embeddings-inference)."""
        answer = payload if isinstance(payload, dict) else {"results": payload}
        rows = answer["results"] if "results" in answer else answer["data"]
        results = [Scored(row["index"], row["relevance_score"] if "relevance_score" in row else row["score"]) for row in rows]
        usage = answer.get("usage")
        tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
        return Scores(results, tokens if isinstance(tokens, int) else None)

    def find_error(self, payload: Any) -> int | None:
        item = first_of(payload)
        return status_of(read_error(item)) if isinstance(item, dict) and has_error(item) else None

    def read_quota(self, headers: Headers, failure: Any = None) -> tuple[QuotaReading, ...]:
        readings = []
        for window, names in self.quota_headers.items():
            limit, remaining, reset = (headers.get(name) for name in names)
            counts = read_count(limit), read_count(remaining)
            if counts != (None, None):
                readings.append(QuotaReading(window, *counts, resets_in_s=parse_duration(reset) if reset else None))
        return tuple(readings)

    # --- models ----------------------------------------------------------------------------------------------------

    def models_request(self, credential: Credential, page: str | None) -> UpstreamRequest | None:
        return self.get(credential, "/models")

    def get(self, credential: Credential, path: str) -> UpstreamRequest:
        return UpstreamRequest(credential.base_url + path, self.auth_headers(credential.secret), method="GET")

    def decode_models(self, payload: Any, page: str | None) -> ModelsPage:
        """Return the ids, all of them free where the endpoint needs no credential.

        Such a one is the operator's own machine: what it has, they will want to use. Of a hosted one the list tells no
        prices, and a model that costs money must not be recommended as free.
        """
        entries = payload["data"] if isinstance(payload, dict) else payload  # some leave OpenAI's wrapper out
        ids = [entry["id"] for entry in entries]
        return ModelsPage(ids, ids if self.row.credential_env is None else ())

    # --- failures --------------------------------------------------------------------------------------------------

    def classify_error(self, status: int, headers: Headers, payload: Any, candidate: Candidate) -> UpstreamError:
        facts = self.read_facts(payload)
        kind = self.kind_of_error(status, facts)
        message = presentable(facts.message, candidate.credential.secret) or f"The provider answered with status {status}."
        if kind is UpstreamContextTooLong:
            limit, prompt = read_token_counts(facts.message)
            return UpstreamContextTooLong(message, upstream_status=status, limit_tokens=limit, prompt_tokens=prompt)
        spent = [reading for reading in self.read_quota(headers) if reading.remaining == 0] if status == 429 else []
        if kind is UpstreamRateLimited and any(reading.window in _DAY_WINDOWS for reading in spent):
            kind = UpstreamQuotaExhausted
        retry_after_s = read_retry_after(headers, facts.message, self.now())
        if retry_after_s is None:
            retry_after_s = max((reading.resets_in_s or 0.0 for reading in spent), default=0.0) or None
        error = kind(message, upstream_status=status, retry_after_s=retry_after_s)
        if error.status == 400:  # otherwise no field of the request is at fault, whatever the provider puts there
            error.param = presentable(facts.param, candidate.credential.secret) if facts.param else None
        return error

    def read_facts(self, payload: Any) -> ErrorFacts:
        """Return what an error body says; for providers that say more, or too much, in places of their own."""
        return read_error(payload)

    def kind_of_error(self, status: int, facts: ErrorFacts) -> ErrorClass:
        """Return the class of a failure: by what its text or code surely says, then its status, and by its text again."""
        texts = (*self.texts, (DENIED, model_denied))
        by_text = next((kind for pattern, kind in texts if pattern.search(facts.message)), None)
        known = by_text or self.codes.get(facts.code or "") or self.codes.get(facts.type or "")
        if known:
            return known
        if status == 403 and not facts.is_json:
            # An HTML page is the provider's edge, which blocks this network: the key was not even looked at.
            return UpstreamUnreachable
        if status == 429 and DAILY.search(facts.message):
            return UpstreamQuotaExhausted
        if status in (400, 413, 422):
            return kind_of_rejection(status, facts)
        return self.statuses.get(status) or (UpstreamFailed if status >= 500 else UpstreamGarbled)


def fit_output(wanted: int, request: ChatRequest, model: Model) -> int:
    """Return a limit on the answer's tokens with which the model can take the request.

    Prompt and answer share the window, and clients ask for more than is left of it. Where the provider counts a limit
    against the minute's tokens before the answer begins, one that no minute could hold would be refused, however short
    the answer would have been.
    """
    rooms = [model.context_window]
    if model.reserves_output and model.limits.get("tpm"):
        rooms.append(model.limits["tpm"])
    room = min(rooms) - request.prompt_tokens * 9 // 8
    return min(wanted, model.max_output_tokens or wanted, max(room, LEAST_OUTPUT_TOKENS))


def _vector(embedding: Any) -> list[float]:
    if isinstance(embedding, str):  # base64 of little-endian float32, though we ask for numbers
        data = base64.b64decode(embedding, validate=True)
        if len(data) % 4:
            raise ValueError("no whole number of floats")
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    return [float(number) for number in embedding]


def read_count(text: str | None) -> int | None:
    """Return the number of a quota header, None where there is none or it is not one."""
    try:
        return max(0, int(float(text))) if text is not None else None
    except (ValueError, OverflowError):
        return None
