"""The provider in the process: answers without a network, and fails on demand, so that clients can be tested.

Its own models each have one behaviour (contract §9). Any other model is one that the sandbox stands in for: it says
so, and calls tools where the request has some. The misbehaving models do what a provider does; what the client sees
of it is the gateway's doing. All answers to one request have the same text, as the rescue of streams needs.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote

from gateway import jsonio
from gateway.domain import Candidate, ChatRequest, EmbeddingRequest, Model, ProviderRow
from gateway.errors import (
    GatewayError,
    TimeoutPhase,
    UpstreamError,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamReset,
    UpstreamTimeout,
)
from gateway.providers.base import ChatAnswer, ChatStream, Chunk, EmbeddingAnswer, Notes, Provider
from gateway.upstream.transport import CallLimits, Transport, interruption
from gateway.upstream.watch import Handle

ECHO = "sandbox/echo"
TOOLS = "sandbox/tools"
SLOW = "sandbox/slow-first-token"
CUT = "sandbox/cut"
STALL = "sandbox/stall"
RATE_LIMITED = "sandbox/rate-limited"
ERROR = "sandbox/error"
TEXT_ONLY = frozenset({ECHO, SLOW, CUT, STALL})  # these call a tool only if they must

FIRST_TOKEN_DELAY_S = 8.0  # slow enough to try a client's patience, within the default limit of 10 s
RETRY_AFTER_S = 7.0  # beyond the default patience of 3 s, so that the client sees it
QUOTED_CHARS = 1000  # of what the user said
WORDS_AT_ONCE = 4
ARRIVALS_BEFORE_FAULT = 2
MAX_CHOICES = 128
DIMENSIONS = 256


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing comes for `seconds`; whoever does not wait as long has a time-out of `phase`."""

    seconds: float
    phase: TimeoutPhase


Step = list[Chunk] | Silence | UpstreamError  # of an answer: an arrival, a pause, a failure


class Adapter(Provider):
    """See the module. `clock` gives epoch seconds, `monotonic` those of the limits."""

    def __init__(
        self,
        row: ProviderRow,
        transport: Transport,
        notes: Notes,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(row, transport, notes)
        self._clock = clock
        self._monotonic = monotonic

    def complete(self, request: ChatRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> ChatAnswer:
        player = _Player(build_steps(candidate.model.id, []), limits, handle, self._monotonic)
        try:
            player.next_arrival(limits.first_token_s, math.inf)  # the faults: a whole answer has no arrivals
        finally:
            player.close()
        return ChatAnswer(self._build_reply(request, candidate.model).completion())

    def open_stream(self, request: ChatRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> ChatStream:
        model = candidate.model
        steps = build_steps(model.id, self._build_reply(request, model).arrivals())
        return SandboxStream(_Player(steps, limits, handle, self._monotonic))

    def embed(self, request: EmbeddingRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> EmbeddingAnswer:
        _Player([], limits, handle, self._monotonic).close()
        size = request.dimensions or next(iter(candidate.model.dimensions), DIMENSIONS)
        tokens = sum(len(split_tokens(text)) for text in request.inputs)
        return EmbeddingAnswer([build_vector(text, size) for text in request.inputs], tokens)

    def _build_reply(self, request: ChatRequest, model: Model) -> Reply:
        number = request.body.get("n")
        number = min(max(number, 1), MAX_CHOICES) if isinstance(number, int) else 1
        return Reply(
            model=model.id,
            id=f"chatcmpl-{secrets.token_hex(12)}",
            created=int(self._clock()),
            prompt_tokens=sum(len(split_tokens(text_of(message))) for message in request.messages),
            answers=tuple(build_answer(request, model) for _ in range(number)),
        )


class SandboxStream(ChatStream):
    """A reply in small pieces, with the faults of its model."""

    def __init__(self, player: _Player) -> None:
        self._player = player

    def next_chunks(self, wait_s: float) -> list[Chunk] | None:
        return self._player.next_arrival(wait_s, wait_s)

    def close(self) -> None:
        self._player.close()


# --- what happens in which order -----------------------------------------------------------------------------------


def build_steps(model_id: str, arrivals: Sequence[list[Chunk]]) -> list[Step]:
    """Return the arrivals of a reply with the faults that the model stands for; a whole answer has no arrivals.

    :raises UpstreamError: the model refuses before it answers.
    """
    if model_id == RATE_LIMITED:
        raise UpstreamRateLimited("The provider's rate limit is reached.", upstream_status=429, retry_after_s=RETRY_AFTER_S)
    if model_id == ERROR:
        raise UpstreamFailed("The provider failed.", upstream_status=500)
    before = arrivals[:-1][:ARRIVALS_BEFORE_FAULT]  # never the end
    if model_id == CUT:
        return [*before, UpstreamReset("The provider's connection broke off.")]
    if model_id == STALL:
        return [*before, Silence(math.inf, "idle")]
    if model_id == SLOW:
        return [Silence(FIRST_TOKEN_DELAY_S, "first_token"), *arrivals]
    return list(arrivals)


class _Player:
    """Goes through the steps of one answer while somebody waits for it, until the deadline that the handle is armed with.

    :raises ClientGone: the client left. :raises Draining: the worker stops. :raises UpstreamTimeout: it is too late already.
    """

    def __init__(self, steps: Sequence[Step], limits: CallLimits, handle: Handle, monotonic: Callable[[], float]) -> None:
        self._steps: Iterator[Step] = iter(steps)
        self._handle = handle
        self._monotonic = monotonic
        handle.arm(limits.deadline_mono)
        try:
            self._left_s()
        except GatewayError:
            handle.disarm()
            raise

    def next_arrival(self, first_token_s: float, idle_s: float) -> list[Chunk] | None:
        """Return what comes next, None at the end; silence is borne as long as its phase's limit and the deadline allow.

        :raises UpstreamError: the step is a failure. :raises ClientGone: the client left. :raises Draining: the worker stops.
        """
        self._left_s()
        for step in self._steps:
            if isinstance(step, UpstreamError):
                raise step
            if isinstance(step, list):
                return step
            self._bear(step, first_token_s if step.phase == "first_token" else idle_s)
        return None

    def close(self) -> None:
        self._handle.disarm()

    def _bear(self, silence: Silence, wait_s: float) -> None:
        left_s = self._left_s()
        if self._handle.wait(min(silence.seconds, wait_s, left_s)):
            raise interruption(self._handle)
        if silence.seconds > left_s and wait_s >= left_s:
            raise UpstreamTimeout("The provider did not finish in time.", phase="total")
        if silence.seconds > wait_s:
            raise UpstreamTimeout("The provider was silent for too long.", phase=silence.phase)

    def _left_s(self) -> float:
        """Return the seconds until the deadline, which the relay lifts once the answer has begun."""
        deadline_mono = self._handle.deadline_mono  # read first: the watch lifts it, too, when it sets `expired`
        if self._handle.ended or self._handle.expired:
            raise interruption(self._handle)
        if deadline_mono <= self._monotonic():
            raise UpstreamTimeout("The provider did not finish in time.", phase="total")
        return deadline_mono - self._monotonic()


# --- what is answered ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice of a reply: thoughts and text in pieces of a token each, or a tool call."""

    thoughts: Sequence[str]
    text: Sequence[str]
    call: Mapping[str, Any] | None
    finish_reason: str

    @property
    def tokens(self) -> int:
        return len(self.thoughts) + len(self.text) + (len(self._arguments) + 1 if self.call else 0)

    @property
    def _arguments(self) -> list[str]:
        return split_tokens(self.call["function"]["arguments"]) if self.call else []

    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None if self.call else "".join(self.text)}
        if self.thoughts:
            message["reasoning_content"] = "".join(self.thoughts)
        if self.call:
            message["tool_calls"] = [dict(self.call)]
        return message

    def deltas(self) -> list[dict[str, Any]]:
        deltas: list[dict[str, Any]] = [{"reasoning_content": piece} for piece in self.thoughts]
        deltas += [{"content": piece} for piece in self.text]
        if self.call:
            function = {"name": self.call["function"]["name"], "arguments": ""}
            deltas.append({"tool_calls": [{**self.call, "index": 0, "function": function}]})
            deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in self._arguments]
        return [{"role": "assistant", **delta} if number == 0 else delta for number, delta in enumerate(deltas)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """All choices of one request, with what a completion and its chunks have in common."""

    id: str
    created: int
    model: str
    prompt_tokens: int
    answers: tuple[Answer, ...]

    @property
    def usage(self) -> dict[str, Any]:
        completion_tokens = sum(answer.tokens for answer in self.answers)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
            "completion_tokens_details": {"reasoning_tokens": sum(len(answer.thoughts) for answer in self.answers)},
        }

    def completion(self) -> dict[str, Any]:
        choices = [
            {"index": index, "message": answer.message(), "logprobs": None, "finish_reason": answer.finish_reason}
            for index, answer in enumerate(self.answers)
        ]
        return self._object("chat.completion", choices=choices, usage=self.usage)

    def arrivals(self) -> list[list[Chunk]]:
        """Return the chunks of a stream in the groups in which they arrive; the last has the end and the usage."""
        chunks = [
            self._chunk([{"index": index, "delta": delta, "finish_reason": None}])
            for index, answer in enumerate(self.answers)
            for delta in answer.deltas()
        ]
        groups = [chunks[start : start + WORDS_AT_ONCE] for start in range(0, len(chunks), WORDS_AT_ONCE)]
        ends = [{"index": index, "delta": {}, "finish_reason": answer.finish_reason} for index, answer in enumerate(self.answers)]
        return [*groups, [self._chunk(ends, usage=self.usage)]]

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> Chunk:
        return self._object("chat.completion.chunk", choices=choices, **more)

    def _object(self, kind: str, **more: Any) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, **more}


def build_answer(request: ChatRequest, model: Model) -> Answer:
    """Return a tool call, or thoughts and text as far as `max_output_tokens` goes. A call is never cut.

    :raises UpstreamRejected: a JSON schema of the request cannot be met.
    """
    thoughts = split_tokens(_thoughts(request, model))
    tool = _tool_to_call(request, model.id)
    if tool is not None:
        return Answer(thoughts, (), _build_call(tool), "tool_calls")
    text = split_tokens(_cut_at_stop(_text(request, model), request.body.get("stop")))
    limit = request.max_output_tokens
    if limit is None or len(thoughts) + len(text) <= limit:
        return Answer(thoughts, text, None, "stop")
    return Answer(thoughts[:limit], text[: max(0, limit - len(thoughts))], None, "length")


def _thoughts(request: ChatRequest, model: Model) -> str:
    if not model.reasons or request.reasoning_effort in (None, "none"):
        return ""
    return f"The sandbox does not think. A model would do so here, with the effort {request.reasoning_effort}."


def _text(request: ChatRequest, model: Model) -> str:
    wanted = _mapping(request.body.get("response_format"))
    schema = _mapping(wanted.get("json_schema")).get("schema")
    if wanted.get("type") == "json_schema" and schema is not None:
        return _json(_example_of(schema, "response_format"))
    speech = _speech(request, model)
    if wanted.get("type") in ("json_object", "json_schema"):
        return _json({"sandbox": True, "message": speech})
    return speech


def _speech(request: ChatRequest, model: Model) -> str:
    if model.id.startswith("sandbox/"):
        opening = "This is the sandbox of the gateway: no provider was called."
    else:
        opening = f"This is the sandbox of the gateway: no provider is configured, so {model.id} was not asked."
    last = request.messages[-1]
    if last.get("role") == "tool":
        return f"{opening} The tool answered: {_quote(text_of(last))}"
    said = next((message for message in reversed(request.messages) if message.get("role") == "user"), last)
    return f"{opening} You said: {_quote(text_of(said))}"


def _quote(text: str) -> str:
    return text if len(text) <= QUOTED_CHARS else text[:QUOTED_CHARS] + "…"


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message; parts that are no text are left out."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if isinstance(part.get("text"), str))


def split_tokens(text: str) -> list[str]:
    """Cut a text into what counts as a token here: a word with the space before it, long words in several."""
    return re.findall(r"\s*\S{1,8}|\s+", text)


def _cut_at_stop(text: str, stop: str | Sequence[str] | None) -> str:
    marks = [stop] if isinstance(stop, str) else stop or []
    places = [text.find(mark) for mark in marks if isinstance(mark, str) and mark]
    return text[: min((place for place in places if place >= 0), default=len(text))]


def _json(value: Any) -> str:
    return jsonio.dumps(value).decode()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


# --- tools ---------------------------------------------------------------------------------------------------------


def _tool_to_call(request: ChatRequest, model_id: str) -> Mapping[str, Any] | None:
    tools: list[Mapping[str, Any]] = [tool["function"] for tool in request.body.get("tools") or () if "function" in tool]
    choice = request.body.get("tool_choice") or "auto"
    if not tools or choice == "none":
        return None
    if isinstance(choice, Mapping):
        name = _mapping(choice.get("function")).get("name")
        return next((tool for tool in tools if tool["name"] == name), tools[0])
    if choice == "required":
        return tools[0]
    answers_in_text = model_id in TEXT_ONLY or request.messages[-1].get("role") == "tool"
    return None if answers_in_text else tools[0]


def _build_call(tool: Mapping[str, Any]) -> dict[str, Any]:
    arguments = _example_of({"type": "object", **_mapping(tool.get("parameters"))}, "tools")
    function = {"name": tool["name"], "arguments": _json(arguments)}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def _example_of(schema: Any, param: str) -> Any:
    try:
        return Examples(schema).make(schema)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:  # a schema that is none
        message = f"The sandbox cannot make a value for a JSON schema in `{param}`: check its types and references."
        raise UpstreamRejected(message, upstream_status=400, param=param) from error


class Examples:
    """Makes values that fit a JSON schema. `pattern`, `not` and `uniqueItems` are not looked at.

    Optional parts are left out where the schema names required ones, and in the depth, where schemas repeat
    themselves. A schema that is endless, or huge, is refused with a ValueError; a broken one with what it causes.
    """

    LAVISH_DEPTH: ClassVar[int] = 4
    MAX_DEPTH: ClassVar[int] = 50
    MAX_PARTS: ClassVar[int] = 10_000
    MAX_ITEMS: ClassVar[int] = 100
    MAX_LENGTH: ClassVar[int] = 1000
    FORMATS: ClassVar[Mapping[str, str]] = {
        "date": "2026-01-31",
        "time": "12:00:00Z",
        "date-time": "2026-01-31T12:00:00Z",
        "duration": "PT1H",
        "email": "someone@example.com",
        "hostname": "example.com",
        "ipv4": "192.0.2.1",
        "ipv6": "2001:db8::1",
        "uri": "https://example.com/",
        "uuid": "123e4567-e89b-42d3-a456-426614174000",
    }

    def __init__(self, root: Any) -> None:
        self._root = root
        self._parts = 0

    def make(self, schema: Any, depth: int = 0) -> Any:
        """Return a value that fits."""
        flat = self._flatten(schema, depth)
        for key in ("const", "default"):
            if key in flat:
                return flat[key]
        for key in ("enum", "examples"):
            if flat.get(key):
                return flat[key][0]
        kind = self._kind(flat)
        if kind == "object":
            return self._make_object(flat, depth)
        if kind == "array":
            return self._make_array(flat, depth)
        if kind in ("integer", "number"):
            return self._make_number(flat, whole=kind == "integer")
        if kind in ("boolean", "null"):
            return True if kind == "boolean" else None
        return self._make_string(flat)

    def _flatten(self, schema: Any, depth: int) -> dict[str, Any]:
        """Return a schema with what it refers to and is composed of; of alternatives the first, in the depth null."""
        if schema is True:
            return {}
        flat = {key: value for key, value in schema.items() if key not in ("$ref", "allOf", "anyOf", "oneOf")}
        self._parts += 1 + len(flat.get("properties") or ())
        if depth > self.MAX_DEPTH or self._parts > self.MAX_PARTS:
            raise ValueError("an endless or a huge schema")
        parts = list(schema.get("allOf") or ())
        parts += [self._resolve(schema["$ref"])] if "$ref" in schema else []
        parts += [self._choose(schema[key], depth) for key in ("anyOf", "oneOf") if schema.get(key)]
        for part in parts:
            more = self._flatten(part, depth + 1)
            properties = {**(more.get("properties") or {}), **(flat.get("properties") or {})}
            required = [*(flat.get("required") or ()), *(more.get("required") or ())]
            flat = {**more, **flat, "properties": properties, "required": required}
        return flat

    def _choose(self, alternatives: Sequence[Any], depth: int) -> Any:
        nothing = {"type": "null"}
        wanted = [part for part in alternatives if (part == nothing) == (depth > self.LAVISH_DEPTH)]
        return (wanted or alternatives)[0]

    def _resolve(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise ValueError("a reference to another document")
        target = self._root
        for name in unquote(reference[1:]).split("/")[1:]:
            key = name.replace("~1", "/").replace("~0", "~")
            target = target[int(key)] if isinstance(target, list) else target[key]
        return target

    def _kind(self, flat: Mapping[str, Any]) -> str:
        kind = flat.get("type")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        if kind is None:
            kind = "object" if flat.get("properties") else "array" if flat.get("items") else "string"
        return str(kind)

    def _make_object(self, flat: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = flat.get("properties") or {}
        others = flat.get("additionalProperties")
        names = flat.get("required") or (properties if depth <= self.LAVISH_DEPTH else ())
        return {name: self.make(properties.get(name, others or True), depth + 1) for name in names}

    def _make_array(self, flat: Mapping[str, Any], depth: int) -> list[Any]:
        items = flat.get("items", True)
        places, others = (items, True) if isinstance(items, list) else (flat.get("prefixItems") or [], items)
        wanted = max(flat.get("minItems", 0), len(places), 1 if depth <= self.LAVISH_DEPTH else 0)
        wanted = min(wanted, flat.get("maxItems", self.MAX_ITEMS), self.MAX_ITEMS)
        rest = [] if others is False else [others] * (wanted - len(places))
        return [self.make(part, depth + 1) for part in [*places, *rest][:wanted]]

    def _make_string(self, flat: Mapping[str, Any]) -> str:
        text = self.FORMATS.get(flat.get("format", ""), "example")
        least, most = flat.get("minLength", 0), flat.get("maxLength", self.MAX_LENGTH)
        return text.ljust(min(least, self.MAX_LENGTH), "e")[:most]

    def _make_number(self, flat: Mapping[str, Any], *, whole: bool) -> int | float:
        """Return 1 or another number within the bounds, 1 where none of the likely ones fits."""
        step = flat.get("multipleOf", 1)
        above, below = flat.get("exclusiveMinimum", -math.inf), flat.get("exclusiveMaximum", math.inf)
        least, most = flat.get("minimum", -math.inf), flat.get("maximum", math.inf)
        low, high = max(least, above), min(most, below)
        likely: list[int | float] = [1, 0, step]
        likely += [math.ceil(low / step) * step, (math.floor(low / step) + 1) * step] if low > -math.inf else []
        likely += [math.floor(high / step) * step, (math.ceil(high / step) - 1) * step] if high < math.inf else []
        if math.isfinite(low) and math.isfinite(high) and not whole and "multipleOf" not in flat:
            likely.append((low + high) / 2)

        def fits(number: int | float) -> bool:
            stepped = "multipleOf" not in flat or math.isclose(round(number / step) * step, number)
            return stepped and least <= number <= most and above < number < below

        return next((int(number) if whole else number for number in likely if fits(number)), 1)


# --- embeddings ----------------------------------------------------------------------------------------------------


def build_vector(text: str, size: int) -> list[float]:
    """Return a vector of length 1: the same for the same words, nearer the more words two texts share."""
    vector = [0.0] * size
    for word in re.findall(r"\w+", text.casefold()) or [text]:
        digest = _hash(word)
        for start in range(0, 16, 4):
            place = int.from_bytes(digest[start : start + 4])
            vector[(place >> 1) % size] += 1.0 if place & 1 else -1.0
    length = math.hypot(*vector)
    if length == 0:  # everything cancelled out
        vector[int.from_bytes(_hash(text)) % size] = length = 1.0
    return [value / length for value in vector]


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
