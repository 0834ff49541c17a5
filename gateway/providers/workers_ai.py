"""Cloudflare Workers AI, through its OpenAI-compatible API (`{base_url}/v1`, where the base URL ends in `/ai`).

Why not its own `/run/{model}` (2026-11: https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility/):
there each generation of models has a request and an answer of its own (a bare JSON schema, flat tools, no tool_choice,
three kinds of stream), the id of the model stands in the path, and embeddings tell no usage. The compatible API takes
one form for all of them. What comes back is not always that form, so every form seen is read, on either API:
Cloudflare's envelope, the classic `response`, completions inside `result`, and streams that mix them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from gateway import jsonio
from gateway.domain import Candidate, ChatRequest, Credential, EmbeddingRequest, Model
from gateway.errors import (
    UpstreamContextTooLong,
    UpstreamCredentialRejected,
    UpstreamError,
    UpstreamFailed,
    UpstreamModelFailed,
    UpstreamModelGone,
    UpstreamOverloaded,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamRejected,
)
from gateway.providers import openai_compatible
from gateway.providers.base import Chunk, Headers
from gateway.providers.driver import Decoder, Encoded, ModelsPage, Vectors, read_object
from gateway.providers.openai_compatible import fit_output
from gateway.providers.openai_compatible.chunks import ChunkDecoder
from gateway.providers.openai_compatible.failures import CODES as OPENAI_CODES
from gateway.providers.openai_compatible.failures import ErrorClass, ErrorFacts, model_denied, read_error
from gateway.providers.openai_compatible.fields import size_to_ask_for
from gateway.upstream.hints import seconds_until_utc_midnight
from gateway.upstream.shape import arguments_of
from gateway.upstream.sse import Event
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
RANGES: Mapping[str, tuple[float, float]] = {"top_p": (0.001, 1), "top_k": (1, 50), "repetition_penalty": (0, 2)}
SEEDS = (1, 9_999_999_999)

DEFAULT_OUTPUT_TOKENS = 4096
DEFAULT_REASONING_TOKENS = 16384  # thoughts are part of the answer's tokens

# 2026-11: cloudflare SDK 5.9.0, resources/ai/models: the id to call is `name`, `id` is none.
PAGE_SIZE = 100
SERVED_TASKS = frozenset({"Text Generation", "Text Embeddings"})
# 2026-07-29: on the paid plan only, https://developers.cloudflare.com/workers-ai/changelog/. Others answer 5035.
NOT_FREE = frozenset({"@cf/moonshotai/kimi-k2.6", "@cf/moonshotai/kimi-k2.7-code", "@cf/zai-org/glm-5.2"})

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

# Texts that say more than their code, or that come without one.
TEXTS: Sequence[tuple[re.Pattern[str], ErrorClass]] = (
    # 2026-11: https://developers.cloudflare.com/workers-ai/features/json-mode/
    (re.compile(r"JSON Mode couldn't be met", re.I), UpstreamModelFailed),
    (re.compile(r"daily free allocation", re.I), _quota_exhausted),
    (re.compile(r"capacity temporarily exceeded", re.I), UpstreamOverloaded),
    (re.compile(r"context window limit|maximum context length", re.I), UpstreamContextTooLong),
    # The schemas are narrower than OpenAI's, and differ by model: what this one refuses another may take.
    (re.compile(r"type mismatch of", re.I), UpstreamModelFailed),
)

_THOUGHTS = ("reasoning_content", "reasoning")  # in which field depends on the model
_REQUEST_ID = re.compile(r"\s*\([0-9a-f]{8}-[0-9a-f-]{27}\)\s*$", re.I)
_PREFIX = re.compile(r"^(?:(?P<code>\d{4,5}): |AiError: )+")
_LIMIT = re.compile(r"(?:context window limit \(|maximum context length (?:is|of) )(\d+)", re.I)
_PROMPT = re.compile(r"contains (?:at least )?(\d+) input tokens|(\d+) tokens from the input", re.I)


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


class StreamDecoder(ChunkDecoder):
    """Reads classic events and chunks, also mixed in one stream.

    A classic stream has no finish reason: its [DONE] is the end, and becomes one. A stream of chunks has one, so a
    [DONE] without it is a break and stays one.
    """

    def __init__(self, adapter: Adapter, candidate: Candidate, limit_tokens: int, *, hides_thoughts: bool) -> None:
        super().__init__(adapter, candidate)
        self._hides_thoughts = hides_thoughts
        self._limit_tokens = limit_tokens
        self._unfinished = False  # a classic answer has begun, and nothing else
        self._has_chunks = False
        self._calls = 0
        self._usage: Any = None

    def is_last(self, event: Event) -> bool:
        # 2026-07: 9router issue 1645 has streams with two [DONE], and with words after the first finish reason.
        return False

    def decode(self, event: Event) -> Iterable[Chunk]:
        if event.data.strip() == b"[DONE]":
            return self._end()
        payload = read_object(event)
        if payload is None:
            return ()
        if is_failure(payload) or payload.get("error") or event.name == "error":
            raise self.failure(payload)
        answer = unwrap(payload)
        return self._decode_classic(answer) if is_classic(answer) else self._decode_chunk(answer)

    def _decode_chunk(self, chunk: Chunk) -> Iterable[Chunk]:
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            return ({**chunk, "choices": []},) if chunk.get("usage") else ()
        self._has_chunks = self._has_chunks or bool(choices)
        for choice in choices:
            if choice.get("finish_reason") == "error":
                raise UpstreamFailed("The provider's model failed while it answered.", upstream_status=200)
            mend(choice.get("delta"), hides_thoughts=self._hides_thoughts)
        return (chunk,)

    def _decode_classic(self, answer: Mapping[str, Any]) -> Iterable[Chunk]:
        self._unfinished = True
        delta: dict[str, Any] = {"content": as_text(answer.get("response"))}
        calls = calls_of(answer)
        if calls:
            delta["tool_calls"] = [{**call, "index": self._calls + number} for number, call in enumerate(calls)]
            self._calls += len(calls)
        chunk: Chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        if answer.get("usage"):
            chunk["usage"] = self._usage = answer["usage"]
        return (chunk,)

    def _end(self) -> Iterable[Chunk]:
        if not self._unfinished or self._has_chunks:
            return ()
        self._unfinished = False
        reason = finish_reason_of(self._calls, self._usage, self._limit_tokens)
        return ({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},)


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


# --- answers ---------------------------------------------------------------------------------------------------------


def unwrap(payload: Any) -> Any:
    """Return what stands in Cloudflare's envelope, the payload itself where there is none."""
    if isinstance(payload, dict) and "choices" not in payload and isinstance(payload.get("result"), dict):
        return payload["result"]
    return payload


def is_failure(payload: Any) -> bool:
    """Whether an envelope says that the call failed, whatever its HTTP status."""
    if not isinstance(payload, dict):
        return False
    return payload.get("success") is False or (bool(payload.get("errors")) and payload.get("success") is not True)


def is_classic(answer: Any) -> bool:
    return isinstance(answer, dict) and "choices" not in answer and ("response" in answer or "tool_calls" in answer)


def completion_of(answer: Mapping[str, Any], limit_tokens: int) -> dict[str, Any]:
    """Return a classic answer as a chat.completion."""
    calls = calls_of(answer)
    message: dict[str, Any] = {"role": "assistant", "content": as_text(answer.get("response"))}
    if calls:
        message["tool_calls"] = calls
    reason = finish_reason_of(len(calls), answer.get("usage"), limit_tokens)
    completion: dict[str, Any] = {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}
    return {**completion, "usage": answer["usage"]} if answer.get("usage") else completion


def calls_of(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [open_call(call) for call in answer.get("tool_calls") or () if isinstance(call, dict)]


def open_call(call: dict[str, Any]) -> dict[str, Any]:
    """Return a tool call in OpenAI's form; a flat one has its arguments as an object, and no id."""
    if "function" in call:
        return call
    kept = {name: call[name] for name in ("index", "id") if call.get(name) is not None}
    function = {"name": call.get("name"), "arguments": arguments_of(call.get("arguments"))}
    return {**kept, "type": "function", "function": function}


def finish_reason_of(calls: int, usage: Any, limit_tokens: int) -> str:
    """Return why a classic answer ended, which it does not say: one that used all it was allowed was cut."""
    used = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if isinstance(used, int) and used >= limit_tokens:
        return "length"
    return "tool_calls" if calls else "stop"


def as_text(value: Any) -> str:
    """Return a piece of an answer as text: JSON mode parses it, and a lone digit or `true` comes as what JSON reads in it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else jsonio.dumps(value).decode()


def mend(message: Any, *, hides_thoughts: bool) -> None:
    """Give a message or delta strings where it has numbers, and its tool calls OpenAI's form.

    Some models cannot do without thoughts, and the API has no way to keep them to itself: unwanted ones end here.
    """
    if not isinstance(message, dict):
        return
    if hides_thoughts:
        for name in _THOUGHTS:
            message.pop(name, None)
    for name in ("content", *_THOUGHTS):
        if not isinstance(message.get(name), (str, list, type(None))):
            message[name] = as_text(message[name])
    if message.get("tool_calls"):
        message["tool_calls"] = calls_of(message)


# --- failures --------------------------------------------------------------------------------------------------------


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
