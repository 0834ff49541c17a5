"""Any endpoint that speaks OpenAI's protocol. Providers that differ a little subclass this and override the tables.

Everything unknown is passed on: a self-hosted server (Ollama, vLLM, llama.cpp) takes parameters that no list knows.
The hosted providers refuse what they do not know, so their adapters name what they take.
"""

from __future__ import annotations

import base64
import re
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway import jsonio
from gateway.domain import Candidate, ChatRequest, EmbeddingRequest, Model, QuotaReading, Window
from gateway.errors import (
    UpstreamContextTooLong,
    UpstreamCredentialRejected,
    UpstreamError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamModelFailed,
    UpstreamModelGone,
    UpstreamOverloaded,
    UpstreamPaymentRequired,
    UpstreamQuotaExhausted,
    UpstreamQuotaTooSmall,
    UpstreamRateLimited,
    UpstreamRefusedContent,
    UpstreamRejected,
    UpstreamUnreachable,
)
from gateway.providers.base import Chunk, Decoder, Encoded, Headers, HttpProvider, Vectors
from gateway.upstream.hints import parse_duration, read_retry_after
from gateway.upstream.sse import Event
from gateway.upstream.transport import UpstreamRequest

MAX_MESSAGE_CHARS = 500  # of a provider's error text that is passed on
LEAST_SECRET_CHARS = 8  # anything shorter is a placeholder
LEAST_OUTPUT_TOKENS = 256  # of an answer that is cut to fit a minute's tokens

MESSAGE_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
TOOL_FIELDS = frozenset({"name", "description", "parameters", "strict"})

ErrorClass = Callable[..., UpstreamError]

# What a code or type in an error's body means, whatever the status: of OpenAI's own API and of those who copy it.
CODES: Mapping[str, ErrorClass] = {
    "invalid_api_key": UpstreamCredentialRejected,
    "context_length_exceeded": UpstreamContextTooLong,
    "exceed_context_size_error": UpstreamContextTooLong,  # llama.cpp
    "model_not_found": UpstreamModelGone,
    "model_decommissioned": UpstreamModelGone,
    "insufficient_quota": partial(UpstreamQuotaExhausted, account_wide=True),
    "unsupported_country_region_territory": UpstreamUnreachable,  # this network's place, not the key
    "content_policy_violation": UpstreamRefusedContent,
    "content_filter": UpstreamRefusedContent,
    "tool_use_failed": UpstreamModelFailed,
    "json_validate_failed": UpstreamModelFailed,
    "unsupported_parameter": UpstreamModelFailed,
    "unknown_parameter": UpstreamModelFailed,
}

STATUSES: Mapping[int, ErrorClass] = {
    401: UpstreamCredentialRejected,
    402: UpstreamPaymentRequired,
    403: UpstreamCredentialRejected,
    404: UpstreamModelGone,
    405: UpstreamModelFailed,
    408: UpstreamFailed,
    409: UpstreamOverloaded,
    410: UpstreamModelGone,
    415: UpstreamModelFailed,
    424: UpstreamModelFailed,
    425: UpstreamOverloaded,
    429: UpstreamRateLimited,
    498: UpstreamOverloaded,
    503: UpstreamOverloaded,
    529: UpstreamOverloaded,
}

# Which status a failure would have had, by its code or type: one inside a 200 often names none.
STATUSES_BY_CODE: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "too_many_requests_error": 429,
    "server_error": 500,
    "internal_server_error": 500,
    "overloaded_error": 503,
    "service_unavailable": 503,
}

_CONTEXT = re.compile(
    r"maximum context length|context (?:window|length|size)|context_length|too many tokens|reduce the length"
    r"|(?:prompt|input) is too long",
    re.I,
)
_UNKNOWN_PARAMETER = re.compile(
    r"property '[^']*' is unsupported|unrecognized request argument|unknown (?:name|field|parameter)|unsupported parameter"
    r"|extra (?:inputs|fields) (?:are )?not permitted|(?:parameter|argument) .{1,60} (?:is )?not supported",
    re.I,
)
_MODEL_GONE = re.compile(
    r"\bmodel:? [`'\"]?[^\s`'\"]{1,120}[`'\"]? (?:has been decommissioned|does not exist|(?:is |was )?not (?:supported|found))"
    r"|model not found",
    re.I,
)
_BAD_KEY = re.compile(r"(?:invalid|incorrect|wrong) api[ _]key|api[ _]key (?:is )?(?:not valid|invalid)", re.I)
_DAILY = re.compile(r"per[- ]day|\bdaily\b|\((?:RPD|TPD)\)", re.I)
_DAY_WINDOWS = ("rpd", "tpd")
_LIMIT = re.compile(r"(?:maximum context length (?:is|of)|limit is|context size \() ?(\d+)", re.I)
# A sum of prompt and answer stands for the prompt only where that is not told by itself.
_PROMPTS = (
    re.compile(r"(\d+) (?:in the messages|of text input)", re.I),
    re.compile(r"(?:resulted in|current length is|request \(|requested(?: about)?) ?(\d+)", re.I),
)


class Adapter(HttpProvider):
    """OpenAI's chat completions and embeddings, with the facts in which endpoints differ as class attributes."""

    params: frozenset[str] | None = None  # body fields that the endpoint takes; None: all
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
    now = staticmethod(time.time)  # epoch seconds, for moments that a provider names

    # --- requests --------------------------------------------------------------------------------------------------

    def encode_chat(self, request: ChatRequest, candidate: Candidate) -> Encoded:
        model = candidate.model
        allowed = self.params_for(model)
        taken = {name: value for name, value in request.body.items() if allowed is None or name in allowed}
        dropped = [name for name in request.body if name not in taken and name != "messages"]
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
        return model.params if model.params is not None else self.params

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
        """Return the limit on the answer's tokens to ask for, None to leave it to the endpoint.

        Where the provider counts a limit against the minute's tokens before the answer begins, one that no minute
        could hold would be refused, however short the answer would have been.
        """
        wanted = request.max_output_tokens
        if wanted is None:
            return None
        limits = [wanted]
        if model.max_output_tokens is not None:
            limits.append(model.max_output_tokens)
        if model.reserves_output and model.limits.get("tpm"):
            room = model.limits["tpm"] - request.prompt_tokens * 9 // 8  # the prompt's size is an estimate
            limits.append(max(room, LEAST_OUTPUT_TOKENS))
        return min(limits)

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
        # A model of one size refuses the parameter, also for that very size.
        if request.dimensions is not None and request.dimensions not in model.dimensions[:1]:
            body["dimensions"] = request.dimensions
        if request.user:
            body["user"] = request.user
        return Encoded(self.post(candidate, "/embeddings", body), tuple(dropped))

    def post(self, candidate: Candidate, path: str, body: Mapping[str, Any]) -> UpstreamRequest:
        headers = {"Content-Type": "application/json", **self.auth_headers(candidate.credential.secret)}
        return UpstreamRequest(candidate.credential.base_url + path, headers, jsonio.dumps(body))

    def auth_headers(self, secret: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {secret}"} if secret else {}

    # --- answers ---------------------------------------------------------------------------------------------------

    def decode_chat(self, payload: Any, request: ChatRequest, candidate: Candidate) -> dict[str, Any]:
        choices = payload.get("choices") if isinstance(payload, dict) else None
        if not isinstance(choices, list) or not choices or not all(_has_object(choice, "message") for choice in choices):
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
                    raise self.classify_error(status_of(read_error(choice)), {}, choice, candidate)
                raise UpstreamFailed("The provider's model failed while it answered.", upstream_status=200)

    def stream_decoder(self, request: ChatRequest, candidate: Candidate) -> Decoder:
        return ChunkDecoder(self, candidate)

    def decode_embeddings(self, payload: Any, candidate: Candidate) -> Vectors:
        try:
            rows = sorted(enumerate(payload["data"]), key=lambda pair: pair[1].get("index", pair[0]))
            vectors = [_vector(row["embedding"]) for _, row in rows]
        except (KeyError, TypeError, ValueError, AttributeError, struct.error):
            raise UpstreamGarbled("The provider's answer held no embeddings.", upstream_status=200) from None
        usage = payload.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        tokens = usage.get("prompt_tokens") or usage.get("total_tokens")
        return Vectors(vectors, tokens if isinstance(tokens, int) else None)

    def find_error(self, payload: Any) -> int | None:
        item = _first(payload)
        return status_of(read_error(item)) if isinstance(item, dict) and has_error(item) else None

    def read_quota(self, headers: Headers) -> tuple[QuotaReading, ...]:
        readings = []
        for window, names in self.quota_headers.items():
            limit, remaining, reset = (headers.get(name) for name in names)
            counts = _count(limit), _count(remaining)
            if counts != (None, None):
                readings.append(QuotaReading(window, *counts, resets_in_s=parse_duration(reset) if reset else None))
        return tuple(readings)

    # --- failures --------------------------------------------------------------------------------------------------

    def classify_error(self, status: int, headers: Headers, payload: Any, candidate: Candidate) -> UpstreamError:
        facts = self.read_facts(payload)
        kind = self.kind_of_error(status, facts)
        message = _presentable(facts.message, candidate.credential.secret) or f"The provider answered with status {status}."
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
            error.param = facts.param
        return error

    def read_facts(self, payload: Any) -> ErrorFacts:
        """Return what an error body says; for providers that say more, or too much, in places of their own."""
        return read_error(payload)

    def kind_of_error(self, status: int, facts: ErrorFacts) -> ErrorClass:
        """Return the class of a failure: by what its text or code surely says, then its status, and by its text again."""
        by_text = next((kind for pattern, kind in self.texts if pattern.search(facts.message)), None)
        known = by_text or self.codes.get(facts.code or "") or self.codes.get(facts.type or "")
        if known:
            return known
        if status == 403 and not facts.is_json:
            # An HTML page is the provider's edge, which blocks this network: the key was not even looked at.
            return UpstreamUnreachable
        if status == 429 and _DAILY.search(facts.message):
            return UpstreamQuotaExhausted
        if status in (400, 413, 422):
            return kind_of_rejection(status, facts)
        return self.statuses.get(status) or (UpstreamFailed if status >= 500 else UpstreamGarbled)


def kind_of_rejection(status: int, facts: ErrorFacts) -> ErrorClass:
    """Return what a 400, 413 or 422 without a known code means, by its text."""
    if status == 413 and facts.code == "rate_limit_exceeded":
        return UpstreamQuotaTooSmall
    if _CONTEXT.search(facts.message):
        return UpstreamContextTooLong
    if _UNKNOWN_PARAMETER.search(facts.message):
        return UpstreamModelFailed
    if _MODEL_GONE.search(facts.message):
        return UpstreamModelGone
    if _BAD_KEY.search(facts.message):
        return UpstreamCredentialRejected
    return UpstreamRejected


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What an error body says, wherever it says it. `status`: the HTTP status that the body itself names."""

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int | None = None
    is_json: bool = True
    metadata: Any = None


def read_error(payload: Any) -> ErrorFacts:
    """Find message and code in any of the shapes that providers use (a list of one, wrapped, flat, `detail`, text)."""
    payload = _first(payload)
    if not isinstance(payload, dict):
        return ErrorFacts(message=_plain(payload) if isinstance(payload, str) else "", is_json=False)
    error = _error_in(payload)
    code = error.get("code")
    statuses = (_status(value) for value in (code, error.get("status_code"), payload.get("status_code"), error.get("status")))
    return ErrorFacts(
        message=_text(error.get("message") or error.get("detail")),
        code=None if code in (None, "") else str(code),
        type=error.get("type") if isinstance(error.get("type"), str) else None,
        param=error.get("param") if isinstance(error.get("param"), str) else None,
        status=next((status for status in statuses if status), None),
        metadata=error.get("metadata"),
    )


def has_error(payload: Mapping[str, Any]) -> bool:
    """Whether an object that came as an answer is, or holds, a failure."""
    error = payload.get("error")
    return bool(error) or payload.get("object") == "error" or (error == {} and not payload.get("choices"))


def status_of(facts: ErrorFacts) -> int:
    """Return the status of a failure that came without one of its own, 502 where nothing tells."""
    by_code = STATUSES_BY_CODE.get(facts.code or "") or STATUSES_BY_CODE.get(facts.type or "")
    return facts.status or by_code or 502


def _error_in(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    errors = payload.get("errors")
    for error in (payload.get("error"), errors[0] if isinstance(errors, list) and errors else None):
        if isinstance(error, dict) and error:
            return error
        if isinstance(error, str) and error:
            return {**payload, "message": error}
    return payload


def _text(message: Any) -> str:
    """Return a message in words. Of a list of problems (FastAPI) only place and text: they also repeat the input."""
    if isinstance(message, list):
        return "; ".join(filter(None, map(_text, message)))
    if isinstance(message, dict):
        place = ".".join(map(str, message["loc"])) if isinstance(message.get("loc"), list) else ""
        return ": ".join(filter(None, [place, _text(message.get("msg") or message.get("message"))]))
    return message if isinstance(message, str) else ""


def _plain(text: str) -> str:
    """Return a body that is no JSON in one line, "" for a page of HTML: nobody reads that in a message."""
    return "" if text.lstrip().startswith("<") else " ".join(text.split())


def _presentable(message: str, secret: str) -> str:
    """Return a message fit for clients. A local server's "key" (`ollama`, `none`) is no secret, and may be in any text."""
    return (message.replace(secret, "[key]") if len(secret) >= LEAST_SECRET_CHARS else message)[:MAX_MESSAGE_CHARS]


def _first(payload: Any) -> Any:
    return payload[0] if isinstance(payload, list) and payload else payload


def read_token_counts(text: str) -> tuple[int | None, int | None]:
    """Return (limit, prompt) tokens that an error about the context window names, None where it does not."""
    limit = _LIMIT.search(text)
    prompt = next((match for pattern in _PROMPTS if (match := pattern.search(text))), None)
    return int(limit[1]) if limit else None, int(prompt[1]) if prompt else None


class ChunkDecoder(Decoder):
    """Reads chat.completion.chunk objects, and the errors that providers put among them."""

    def __init__(self, adapter: Adapter, candidate: Candidate) -> None:
        self.adapter = adapter
        self.candidate = candidate

    def decode(self, event: Event) -> Iterable[Chunk]:
        payload = read_object(event)
        if payload is None:
            return ()
        if self.is_failure(payload) or (event.name == "error" and "choices" not in payload):
            raise self.failure(payload)
        choices = payload.get("choices")
        if not isinstance(choices, list):
            return (payload,) if payload.get("usage") else ()
        if not all(_has_object(choice, "delta") or _has_no(choice, "delta") for choice in choices):
            raise UpstreamGarbled("The provider sent a piece of the answer that is none.", upstream_status=200)
        self.adapter.check_ends(choices, self.candidate)
        return (payload,)

    def is_failure(self, payload: Mapping[str, Any]) -> bool:
        return has_error(payload)

    def failure(self, payload: Mapping[str, Any]) -> UpstreamError:
        return self.adapter.classify_error(status_of(read_error(payload)), {}, payload, self.candidate)


def read_object(event: Event) -> dict[str, Any] | None:
    """Return the JSON object of an event, None where the data cannot carry content (contract §4).

    :raises UpstreamGarbled: it begins as an object and is none: skipping it could lose words.
    """
    data = event.data.strip()
    if not data.startswith(b"{"):
        return None
    try:
        payload: dict[str, Any] = jsonio.loads(data)
    except ValueError:
        raise UpstreamGarbled("The provider sent a piece of the answer that could not be read.", upstream_status=200) from None
    return payload


# --- fields ----------------------------------------------------------------------------------------------------------


def encode_part(part: Mapping[str, Any], more: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return a content part with the fields of OpenAI's schema, and those named in `more`."""
    kept = {name: value for name, value in part.items() if name in more}
    if part["type"] != "image_url":
        return {"type": "text", "text": part["text"], **kept}
    image = part["image_url"]
    return {"type": "image_url", "image_url": {name: image[name] for name in ("url", "detail") if image.get(name)}, **kept}


def encode_tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {
        "id": call["id"],
        "type": "function",
        "function": {"name": function["name"], "arguments": function["arguments"]},
    }


def encode_tool(tool: Mapping[str, Any], fields: frozenset[str] = TOOL_FIELDS) -> dict[str, Any]:
    function = {name: value for name, value in tool["function"].items() if name in fields and value is not None}
    return {"type": "function", "function": function}


def _has_object(choice: Any, name: str) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get(name), dict)


def _has_no(choice: Any, name: str) -> bool:
    return isinstance(choice, dict) and choice.get(name) is None


def _vector(embedding: Any) -> list[float]:
    if isinstance(embedding, str):  # base64 of little-endian float32, though we ask for numbers
        data = base64.b64decode(embedding, validate=True)
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    return [float(number) for number in embedding]


def _status(value: Any) -> int | None:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    return number if isinstance(number, int) and 400 <= number <= 599 else None


def _count(text: str | None) -> int | None:
    try:
        return max(0, int(float(text))) if text is not None else None
    except (ValueError, OverflowError):
        return None
