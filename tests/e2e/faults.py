"""Everything that a provider can do wrong, and what the client gets then: one row a fault. `test_faults` plays it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gateway.providers.driver import FAILURE_BODY_S
from gateway.upstream.relay import FINISH_GRACE_S
from tests.e2e.simulator import (
    Answer,
    Behaviour,
    Simulator,
    altered,
    cut_after,
    drip,
    empty,
    error_after,
    errors,
    faithful,
    hang_up,
    html,
    raw,
    reply,
    reset_after,
    restream,
    stall,
    stall_after,
    stream,
    wrong_length,
)

PROMPT = "one two three"
TEXT = f"echo: {PROMPT}"  # what every simulated model says to that: in a stream a role, four words, an end and [DONE]
BEGUN = "echo: one"  # what a client has of it after three events

MAX_TOKENS = 8

# The limits that the gateway is started with: every wait is one of them.
CONNECT_S, FIRST_TOKEN_S, IDLE_S, STREAM_MAX_S = 0.5, 1.0, 1.2, 2.0
WHOLE_S = FIRST_TOKEN_S  # of a model that nobody has measured, see hurried.py


# --- what the client gets ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failed:
    """Before the commit point. With a healthy second: that one's answer. Alone: this error.

    `outcome` and `upstream_status` are what is told of each attempt. A `*` in a text stands for anything. `calls` are
    what the provider sees: two where it is asked once more, since the caller named it.
    """

    message: str
    outcome: str
    status: int = 502
    code: str = "upstream_error"
    type: str = "provider_error"
    upstream_status: int | None = None
    calls: int = 1
    waits_s: float = 0.0


@dataclass(frozen=True)
class Empty:
    """An end with nothing before it. With a healthy second: that one's answer. Alone: passed on as it is."""

    waits_s: float = 0.0


@dataclass(frozen=True)
class Broke:
    """After it. With a healthy second: the rest of the answer from there, where `rescued`. Else: `text`, this error, [DONE]."""

    message: str
    outcome: str
    code: str = "upstream_error"
    type: str = "provider_error"
    text: str = BEGUN
    waits_s: float = 0.0
    rescued: bool = True


@dataclass(frozen=True)
class Fine:
    """No fault to a client: it gets the answer, from the first."""

    waits_s: float = 0.0


Expected = Failed | Empty | Broke | Fine
NEVER = None  # it cannot happen in this form


BaseUrl = Callable[[Simulator], str]


@dataclass(frozen=True)
class Fault:
    """A row. `at` is another base URL than the simulated provider's; `service` is whose protocol and models it has."""

    name: str
    behaviour: Behaviour | None
    whole: Expected | None
    streamed: Expected | None
    service: str = "plain"
    at: BaseUrl | None = None


SAYING = "Nothing doing."  # what a failing provider says of it

UNREACHABLE = Failed("The provider could not be reached.", "unreachable", calls=0)
RESET = Failed("The provider's connection broke off.", "reset", calls=2)
LATE = Failed(
    "The provider did not begin to answer in time.", "timeout", status=504, code="upstream_timeout", waits_s=FIRST_TOKEN_S
)
LATE_WHOLE = replace(LATE, waits_s=WHOLE_S)
NOT_ACCEPTED = replace(LATE, message="The provider did not accept a connection in time.", calls=0, waits_s=CONNECT_S)
UNFINISHED = replace(LATE, message="The provider did not finish in time.", waits_s=WHOLE_S)
UNREADABLE = Failed("The provider's answer could not be read.", "garbled")
NOT_JSON = Failed("The provider's answer was empty or not JSON.", "garbled", upstream_status=200)
NO_COMPLETION = replace(NOT_JSON, message="The provider's answer held no completion.")
NOTHING_HELD = replace(NOT_JSON, message="The provider's stream ended before it held anything.")
NO_ANSWER = Failed(SAYING, "garbled")
NAMELESS = Failed("The provider's stream ended in an error.", "failed", upstream_status=200, calls=2)
BARE_500 = Failed("The provider answered with status 500.", "500", upstream_status=500, calls=2)
EXHAUSTED = Failed(
    "Every model that could serve this request has used up its quota or is rate limited. Try again after *.",
    "429",
    status=429,
    code="quota_exhausted",
    type="rate_limit_error",
    upstream_status=429,
)

UNENDED = Broke("The provider's stream ended in the middle of the answer.", "broken")
CUT = Broke("The answer broke off: The provider's connection broke off.", "reset")
ENDLESS = Broke(
    "The stream ran for as long as one may (STREAM_MAX_S).",
    "timeout",
    code="upstream_timeout",
    waits_s=STREAM_MAX_S,
    rescued=False,
)


def refused(upstream_status: int, **more: Any) -> Failed:
    """A failing status; what the provider says with it is `SAYING`."""
    told = {"message": SAYING, "outcome": str(upstream_status), "upstream_status": upstream_status}
    return Failed(**{**told, **more})


def rejected(upstream_status: int) -> Failed:
    """A status that may be the caller's mistake: told as one where nobody else takes the request."""
    return refused(upstream_status, status=400, code="invalid_value", type="invalid_request_error")


def garbled(message: str) -> Failed:
    return replace(NOT_JSON, message=message)


def broke(message: str, outcome: str = "failed", **more: Any) -> Broke:
    return Broke(f"The answer broke off: {message}", outcome, **more)


# --- what the provider does --------------------------------------------------------------------------------------------


def chunk(delta: dict[str, Any] | None = None, end: Any = None, **fields: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": end}], **fields}


def say(text: str) -> dict[str, Any]:
    return chunk({"content": text})


ROLE, WORDS, END = chunk({"role": "assistant", "content": ""}), [say(BEGUN), say(" two three")], chunk({}, "stop")
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
CALL = chunk({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"a":'}}]})
COMPLETION = {
    "id": "c",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
    "usage": USAGE,
}
COMPLETION_JSON = json.dumps(COMPLETION).encode()
FAILURE = {"error": {"message": SAYING, "code": 503}}
NAMED_FAILURE = ("error", "Internal Server Error")

JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
ZIPPED = b"Content-Encoding: gzip\r\n\r\n"
DRIP: list[bytes | float] = [0.1, b"x"] * 100
COMMENTS: list[bytes | float] = [0.1, b": x\n\n"] * 100
CONTINUES: list[bytes | float] = [b"HTTP/1.1 100 Continue\r\n\r\n", 0.1] * 100


def in_form(whole: Behaviour, streamed: Behaviour) -> Behaviour:
    """Behave by what the client asked for."""
    return lambda connection: (streamed if b'"stream":true' in connection.request.body else whole)(connection)


def of_kind(head: bytes, *steps: bytes | float) -> Behaviour:
    """Send these bytes below headers that fit what was asked for."""
    return in_form(raw(JSON + head, *steps), raw(EVENTS + head, *steps))


def said(*events: Any) -> bytes:
    return b"".join(stream(events, done=False).blocks())


def in_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def begun(*events: Any, **options: Any) -> Answer:
    """Begin the answer, and go on with these events."""
    return stream([ROLE, say(BEGUN), *events], **options)


def begun_raw(*steps: bytes | float) -> Behaviour:
    """Begin the answer, and go on with these bytes."""
    return raw(EVENTS + b"\r\n" + said(say(BEGUN)), *steps)


def zipped(answer: Answer) -> Answer:
    return reply(200, gzip.compress(answer.blocks()[0]), {"Content-Encoding": "gzip"})


# --- rows --------------------------------------------------------------------------------------------------------------


def both(
    name: str, behaviour: Behaviour | None, whole: Expected, streamed: Expected | None = None, at: BaseUrl | None = None
) -> Fault:
    return Fault(name, behaviour, whole, streamed or whole, at=at)


def whole(name: str, behaviour: Behaviour, expected: Expected) -> Fault:
    return Fault(name, behaviour, expected, NEVER)


def streamed(name: str, behaviour: Behaviour, expected: Expected, service: str = "plain") -> Fault:
    return Fault(name, behaviour, NEVER, expected, service)


def status(number: int, expected: Failed | None = None, calls: int = 1) -> Fault:
    behaviour = reply(number, {"error": {"message": SAYING}}, {"Location": "/plain/v1/chat/completions"})
    return both(f"status {number}", behaviour, expected or refused(number, calls=calls))


BEFORE_THE_HEADERS = [
    both("connection refused", None, UNREACHABLE, at=lambda simulator: f"http://127.0.0.1:{simulator.dead_port()}"),
    both("connection never accepted", None, NOT_ACCEPTED, at=lambda simulator: f"http://127.0.0.1:{simulator.deaf_port()}"),
    both("name not found", None, UNREACHABLE, at=lambda simulator: "http://no-such-host.invalid"),
    both("no TLS there", None, UNREACHABLE, at=lambda simulator: f"https://127.0.0.1:{simulator.port}"),
    both("hang-up without a byte", hang_up(), RESET),
    both("reset without a byte", hang_up(reset=True), RESET),
    both("silence", stall(), LATE_WHOLE, LATE),
    both("no HTTP", raw(b"SSH-2.0-OpenSSH_9.6\r\n"), UNREADABLE),
    both("cut in the headers", raw(b"HTTP/1.1 200 OK\r\nContent-Ty"), NOT_JSON),
    both("headers that drip", raw(b"HTTP/1.1 200 OK\r\nX: ", *DRIP), LATE_WHOLE, LATE),
    both("headers without end", raw(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100_000), UNREADABLE),
    both("a header line without end", raw(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 1_000_000), UNREADABLE),
    both("100 Continue for ever", raw(*CONTINUES), LATE_WHOLE, LATE),
]

FAILING_STATUSES = [
    status(204, replace(NO_ANSWER, message="The provider answered with status 204.", upstream_status=204)),
    status(302, replace(NO_ANSWER, upstream_status=302)),
    *map(status, (401, 402, 403, 404)),
    *(status(number, rejected(number)) for number in (400, 413, 422)),
    *(status(number, calls=2) for number in (408, 409, 498, 500, 502, 503, 504, 529)),
    status(429, EXHAUSTED),
    both("HTML with a 502", html(502), refused(502, message="The provider answered with status 502.", calls=2)),
    both("429 whose body is cut", wrong_length(reply(429, FAILURE)), EXHAUSTED),
    both(
        "500 whose body never comes",
        stall_after(n_bytes=0, answer=reply(500, FAILURE)),
        replace(BARE_500, waits_s=2 * FAILURE_BODY_S),
    ),
    both("500 whose body is no gzip", reply(500, b"junk", {"Content-Encoding": "gzip"}), BARE_500),
]

NO_ANSWER_IN_A_200 = [
    both("an error in a 200", reply(200, FAILURE), refused(503, calls=2)),
    both("an empty body", empty(), NOT_JSON),
    both("HTML with a 200", html(200), NOT_JSON),
    both("null", reply(200, "null"), NOT_JSON),
    both("an empty object", reply(200, {}), NO_COMPLETION),
    both("no choices", reply(200, {**COMPLETION, "choices": []}), NO_COMPLETION),
    both("invalid JSON", reply(200, COMPLETION_JSON[:60]), NOT_JSON),
    both("JSON nested without end", reply(200, b"[" * 500_000), NOT_JSON),
    both(
        "an empty stop",
        in_form(reply(200, {"choices": [{"message": {"content": ""}}], "usage": USAGE}), stream([ROLE, END])),
        Empty(),
    ),
    both("silence after the headers", stall_after(n_bytes=0), UNFINISHED, LATE),
    both("cut after the headers", cut_after(n_bytes=0), RESET),
    both("reset after the headers", reset_after(n_bytes=0), RESET),
    both("no gzip", of_kind(ZIPPED, b"junk"), UNREADABLE),
    both("no chunk size", of_kind(CHUNKED, b"zz\r\n"), UNREADABLE),
    both("a length that is no number", of_kind(b"Content-Length: many\r\n\r\n", b"junk"), UNREADABLE),
    whole("a body cut short", cut_after(n_bytes=30), RESET),
    whole("more promised than sent", wrong_length(), RESET),
    whole("less promised than sent", raw(JSON + b"Content-Length: 20\r\n\r\n" + COMPLETION_JSON), NOT_JSON),
    whole("cut gzip", raw(JSON + ZIPPED + gzip.compress(COMPLETION_JSON)[:40]), NOT_JSON),
    whole("a drip slower than the limit", drip(bytes_per_s=50), UNFINISHED),
    whole("a stream", stream([ROLE, *WORDS, END]), NOT_JSON),
    streamed("no event", stream([], done=False), NOTHING_HELD),
    streamed("only [DONE]", stream([]), NOTHING_HELD),
    streamed("silence after headers of JSON", raw(JSON + b"\r\n", 9.0), LATE),
    streamed("comments only", stream([], comments=["working"] * 60, comment_pause_s=0.05), LATE),
    streamed("empty role events only", stream([ROLE] * 60, pause_s=0.05), LATE),
    streamed("an event that drips", raw(EVENTS + b"\r\ndata: ", *DRIP), LATE),
    streamed("a chunk size that drips", raw(EVENTS + CHUNKED + b"5;", *DRIP), LATE),
    streamed("an error event", stream([FAILURE], done=False), refused(503, calls=2)),
    streamed("an event named error", stream([NAMED_FAILURE]), NAMELESS),
    streamed(
        "half an object",
        stream(['{"choices": [{"de']),
        garbled("The provider sent a piece of the answer that could not be read."),
    ),
    streamed("calls promised, none sent", stream([ROLE, chunk({}, "tool_calls")]), Empty()),
    streamed(
        "an end that says it failed",
        stream([ROLE, chunk({}, "error")]),
        replace(NAMELESS, message="The provider's model failed while it answered."),
    ),
]

AFTER_THE_COMMIT_POINT = [
    streamed("cut", cut_after(n_events=3), CUT),
    streamed("reset", reset_after(n_events=3), CUT),
    streamed("the body ends without an end", begun(done=False), UNENDED),
    streamed("[DONE] without an end", begun(), UNENDED),
    streamed(
        "silence",
        stall_after(n_events=3),
        Broke("The provider was silent for too long.", "timeout", "upstream_timeout", waits_s=IDLE_S),
    ),
    streamed("comments for ever", begun_raw(*COMMENTS), ENDLESS),
    streamed("words for ever", begun(*[say(".")] * 100, pause_s=0.05), replace(ENDLESS, text=f"{BEGUN}*")),
    streamed("an event that drips for ever", begun_raw(b"data: ", *DRIP), ENDLESS),
    streamed(
        "an event without end",
        begun_raw(b"data: ", b"x" * 17_000_000),
        broke("The provider's stream held an event that was too long to be one.", "garbled"),
    ),
    streamed(
        "half an object",
        begun('{"choices": [{"de'),
        broke("The provider sent a piece of the answer that could not be read.", "garbled"),
    ),
    streamed(
        "an object of another shape",
        begun({"choices": [5]}),
        broke("The provider sent a piece of the answer that is none.", "garbled"),
    ),
    streamed(
        "bytes that are no text",
        begun(b'{"choices": [], "x": "\xff\xfe"}'),
        broke("The provider sent a piece of the answer that could not be read.", "garbled"),
    ),
    streamed(
        "no chunk size",
        raw(EVENTS + CHUNKED + in_chunk(said(say(BEGUN))) + b"zz\r\n"),
        broke("The provider's answer could not be read.", "garbled"),
    ),
    streamed("an error", begun(FAILURE), broke(SAYING, "overloaded")),
    streamed("an event named error", begun(NAMED_FAILURE), broke("The provider's stream ended in an error.")),
    streamed(
        "an end that says it failed",
        begun(chunk({}, "abort")),
        broke("The provider's model stopped before its answer was whole."),
    ),
    streamed("cut in a tool call", cut_after(answer=begun(CALL, done=False)), replace(CUT, rescued=False)),
    streamed(
        "groq's error", error_after(3, errors.groq_stream_error()), broke("Tool call validation failed*", "model_failed"), "groq"
    ),
    streamed(
        "gemini's error",
        error_after(2, errors.gemini_overloaded().body),
        broke("The provider's model is overloaded.", "overloaded"),
        "gemini",
    ),
    streamed(
        "workers_ai's error",
        error_after(3, errors.workers_capacity().body),
        broke("Capacity temporarily exceeded, please try again.", "overloaded"),
        "workers_ai",
    ),
    streamed(
        "openrouter's error", error_after(3, errors.openrouter_stream_error()), broke("Provider disconnected"), "openrouter"
    ),
    streamed(
        "openrouter's error, as recorded",
        error_after(3, errors.openrouter_stream_error(recorded=True)),
        broke("Token limit reached"),
        "openrouter",
    ),
    streamed("cerebras's error", error_after(3, errors.cerebras_stream_error()), broke("Encountered a server error"), "cerebras"),
]

NO_FAULT_TO_A_CLIENT = [
    both("nothing wrong", faithful(), Fine()),
    whole("gzip", altered(zipped), Fine()),
    whole("a finish reason forgotten", reply(200, {"choices": [{"message": {"content": TEXT}}], "usage": USAGE}), Fine()),
    streamed("a whole answer", reply(200, COMPLETION), Fine()),
    streamed("no [DONE]", stream([ROLE, *WORDS, END], done=False), Fine()),
    streamed("[DONE] twice", stream([ROLE, *WORDS, END], done="twice"), Fine()),
    streamed(
        "neither [DONE] nor the end of the body", stall_after(answer=stream([*WORDS, END], done=False)), Fine(FINISH_GRACE_S)
    ),
    streamed("cut after the finish reason", cut_after(answer=stream([*WORDS, END], done=False)), Fine()),
    streamed("garbage after the finish reason", stream([*WORDS, END, '{"garb']), Fine()),
    streamed("an early finish reason", stream([WORDS[0], END, WORDS[1], END]), Fine()),
    streamed(
        "a finish reason in every event", stream([chunk({"content": word}, "stop") for word in (BEGUN, " two three")]), Fine()
    ),
    streamed("data that is no object", stream(["ping", WORDS[0], "", "[]", WORDS[1], END]), Fine()),
    streamed("comments", restream(comments=["OPENROUTER PROCESSING"] * 3), Fine()),
    streamed("CRLF", restream(line_end="\r\n"), Fine()),
    streamed("CR", restream(line_end="\r"), Fine()),
    streamed("byte by byte", restream(write_bytes=1), Fine()),
    streamed("without chunks", restream(chunked=False), Fine()),
    streamed("a byte order mark", raw(EVENTS + b"\r\n\xef\xbb\xbf" + said(*WORDS, END)), Fine()),
]

TABLE = [*BEFORE_THE_HEADERS, *FAILING_STATUSES, *NO_ANSWER_IN_A_200, *AFTER_THE_COMMIT_POINT, *NO_FAULT_TO_A_CLIENT]
