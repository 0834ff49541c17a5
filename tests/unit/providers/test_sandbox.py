"""The sandbox: what it answers, how it fails on demand, and that it never waits for a client that left."""

import math
from dataclasses import replace

import pytest

from gateway import jsonio
from gateway.domain import Candidate, ChatRequest, Choice, Credential, EmbeddingRequest, Model, ProviderRow, RerankRequest
from gateway.errors import (
    ClientGone,
    Draining,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamReset,
    UpstreamTimeout,
)
from gateway.providers.sandbox import Adapter
from gateway.providers.sandbox.examples import Examples
from gateway.providers.sandbox.faults import FIRST_TOKEN_DELAY_S
from gateway.providers.sandbox.vectors import build_vector
from gateway.upstream.transport import CallLimits, Transport
from gateway.upstream.watch import Handle

NOW = 1_800_000_000
LIMITS = CallLimits(connect_s=3, first_token_s=10, idle_s=20, deadline_mono=300)
ROW = ProviderRow(key="sandbox", adapter="sandbox", base_url="")
STAND_IN = "some-model-70b"
USER = {"role": "user", "content": "Where is the library?"}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "first", "arguments": "{}"}}],
}
TOOL_RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"}
FORCED = {"type": "function", "function": {"name": "second"}}


def tool(name, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("first", city={"type": "string"}), tool("second", day={"type": "integer"})]


class PatientHandle(Handle):
    """Notes how long it was asked to wait, and returns at once."""

    def __init__(self, ends=None):
        super().__init__()
        self.ends = ends
        self.waits = []

    def wait(self, seconds):
        self.waits.append(seconds)
        if self.ends:
            self.end(self.ends)
        return self.ended is not None


class Notebook:
    def remember(self, key, value, ttl_s):
        pass

    def recall(self, keys):
        return {}


@pytest.fixture
def handle():
    return PatientHandle()


def adapter(*, clock=lambda: NOW + 0.9, monotonic=lambda: 0.0):
    return Adapter(ROW, Transport(), Notebook(), clock=clock, monotonic=monotonic)


def candidate(model="sandbox/echo", **facts):
    return Candidate(ROW, Model(provider="sandbox", id=model, **facts), Credential("sandbox", 1, ""))


def chat(*messages, **body):
    return ChatRequest(body={"messages": list(messages or [USER]), **body})


def complete(request, model="sandbox/echo", handle=None, limits=LIMITS, **facts):
    return adapter().complete(request, candidate(model, **facts), limits, handle or PatientHandle()).body


def open_stream(request, model="sandbox/echo", handle=None, limits=LIMITS, **facts):
    return adapter().open_stream(request, candidate(model, **facts), limits, handle or PatientHandle())


def read(stream, wait_s=20.0):
    """Return every chunk, and the error that ended the stream or None."""
    chunks = []
    try:
        while (arrived := stream.next_chunks(wait_s)) is not None:
            chunks += arrived
    except Exception as error:
        return chunks, error
    return chunks, None


def assemble(chunks):
    """Return the messages that a client puts together from the deltas, and their finish reasons."""
    messages: dict[int, dict] = {}
    ends: dict[int, str] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        message = messages.setdefault(choice["index"], {})
        for key, value in choice["delta"].items():
            if key == "tool_calls":
                call = message.setdefault("tool_calls", [{"function": {"arguments": ""}}])[value[0]["index"]]
                part = value[0]["function"]
                call.update({name: field for name, field in value[0].items() if name not in ("function", "index")})
                call["function"]["arguments"] += part["arguments"]
                if "name" in part:
                    call["function"]["name"] = part["name"]
            elif key == "role":
                assert "role" not in message
                message["role"] = value
            else:
                message[key] = message.get(key, "") + value
        if choice["finish_reason"]:
            ends[choice["index"]] = choice["finish_reason"]
    return messages, ends


# --- text ----------------------------------------------------------------------------------------------------------


def test_a_completion_has_all_fields_of_openais():
    body = complete(chat())
    assert body.pop("id").startswith("chatcmpl-")
    prompt, answer = body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]
    assert prompt == 4 and answer > 10
    content = "This is the sandbox of the gateway: no provider was called. You said: Where is the library?"
    assert body == {
        "object": "chat.completion",
        "created": NOW,
        "model": "sandbox/echo",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": content}, "logprobs": None, "finish_reason": "stop"},
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_ids_differ_between_answers():
    assert complete(chat())["id"] != complete(chat())["id"]


def test_a_stand_in_says_that_no_provider_is_configured():
    content = complete(chat(), STAND_IN)["choices"][0]["message"]["content"]
    assert "sandbox" in content and "no provider is configured, so some-model-70b was not asked" in content


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}, USER], "Where is the library?"),
        ([{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}], "one"),
        ([{"role": "system", "content": "be nice"}], "be nice"),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "see"},
                        {"type": "image_url", "image_url": {"url": "data:,"}},
                        {"type": "text", "text": "this"},
                    ],
                }
            ],
            "see this",
        ),
        ([{"role": "user", "content": None}], ""),
        ([{"role": "user", "content": "x" * 5000}], "x" * 1000 + "…"),
        ([USER, CALLED, TOOL_RESULT], "18 degrees"),
    ],
)
def test_the_text_quotes_the_last_user_message_or_tool_result(messages, said):
    content = complete(chat(*messages))["choices"][0]["message"]["content"]
    assert content.partition(": ")[2].partition(": ")[2] == said


@pytest.mark.parametrize(("n", "choices"), [(None, 1), (1, 1), (3, 3), (0, 1), (-2, 1), (10**9, 128), ("3", 1)])
def test_as_many_choices_as_asked_for_within_reason(n, choices):
    body = complete(chat(n=n))
    assert [choice["index"] for choice in body["choices"]] == list(range(choices))


@pytest.mark.parametrize(
    ("limit", "content", "reason"),
    [
        (3, "This is the", "length"),
        (1, "This", "length"),
        (10_000, None, "stop"),
    ],
)
def test_the_token_limit_cuts_the_text(limit, content, reason):
    request = replace(chat(), max_output_tokens=limit)
    body = complete(request)
    choice = body["choices"][0]
    assert choice["finish_reason"] == reason
    assert body["usage"]["completion_tokens"] <= limit
    assert content in (None, choice["message"]["content"])


def test_a_limit_that_is_just_reached_cuts_nothing():
    needed = complete(chat())["usage"]["completion_tokens"]
    assert complete(replace(chat(), max_output_tokens=needed))["choices"][0]["finish_reason"] == "stop"
    assert complete(replace(chat(), max_output_tokens=needed - 1))["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("stop", "end"),
    [("sandbox", "This is the "), ([" of", "sandbox"], "This is the "), (["nowhere", 7, ""], "library?"), (None, "library?")],
)
def test_a_stop_sequence_ends_the_text(stop, end):
    choice = complete(chat(stop=stop))["choices"][0]
    assert choice["message"]["content"].endswith(end) and choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("effort", "facts", "thinks"),
    [
        ("low", {"reasoning_tier": "high"}, True),
        ("low", {"capabilities": frozenset({"reasoning"})}, True),
        ("none", {"reasoning_tier": "high"}, False),
        (None, {"reasoning_tier": "high"}, False),
        ("low", {}, False),
    ],
)
def test_a_reasoning_model_thinks_when_an_effort_is_asked_for(effort, facts, thinks):
    body = complete(replace(chat(), reasoning_effort=effort), STAND_IN, **facts)
    assert ("effort low" in body["choices"][0]["message"].get("reasoning_content", "")) is thinks
    assert (body["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0) is thinks


def test_thoughts_count_towards_the_token_limit():
    request = replace(chat(), reasoning_effort="low", max_output_tokens=2)
    choice = complete(request, STAND_IN, reasoning_tier="low")["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "", "reasoning_content": "The sandbox"}
    assert choice["finish_reason"] == "length"


def test_json_mode_gives_an_object():
    content = complete(chat(response_format={"type": "json_object"}))["choices"][0]["message"]["content"]
    assert "library" in jsonio.loads(content)["message"]


def test_a_json_schema_is_met():
    schema = {"type": "object", "properties": {"city": {"enum": ["Bern"]}}, "required": ["city"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    assert jsonio.loads(complete(chat(response_format=wanted))["choices"][0]["message"]["content"]) == {"city": "Bern"}


@pytest.mark.parametrize("extra", [{}, {"json_schema": {"name": "x"}}, {"json_schema": None}])
def test_a_json_schema_that_is_missing_counts_as_json_mode(extra):
    content = complete(chat(response_format={"type": "json_schema", **extra}))["choices"][0]["message"]["content"]
    assert jsonio.loads(content)["sandbox"] is True


def test_text_that_is_not_quite_unicode_is_echoed():
    body = complete(chat({"role": "user", "content": "cut \ud83d"}, response_format={"type": "json_object"}))
    assert jsonio.loads(body["choices"][0]["message"]["content"])["message"].endswith("\ud83d")


# --- tools ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "choice", "last", "called"),
    [
        ("sandbox/echo", None, USER, None),
        ("sandbox/echo", "auto", USER, None),
        ("sandbox/echo", "required", USER, "first"),
        ("sandbox/echo", FORCED, USER, "second"),
        ("sandbox/tools", None, USER, "first"),
        ("sandbox/tools", "none", USER, None),
        ("sandbox/tools", FORCED, USER, "second"),
        ("sandbox/tools", "auto", TOOL_RESULT, None),
        (STAND_IN, None, USER, "first"),
        (STAND_IN, "auto", USER, "first"),
        (STAND_IN, "none", USER, None),
        (STAND_IN, "auto", TOOL_RESULT, None),
        (STAND_IN, "required", TOOL_RESULT, "first"),
    ],
)
def test_who_calls_which_tool(model, choice, last, called):
    messages = [USER, CALLED, last] if last is TOOL_RESULT else [last]
    answer = complete(chat(*messages, tools=TOOLS, tool_choice=choice), model)["choices"][0]
    assert answer["finish_reason"] == ("tool_calls" if called else "stop")
    names = [call["function"]["name"] for call in answer["message"].get("tool_calls", [])]
    assert names == ([called] if called else [])
    assert (answer["message"]["content"] is None) == bool(called)


def test_a_tool_call_has_arguments_that_fit():
    call = complete(chat(tools=TOOLS), "sandbox/tools")["choices"][0]["message"]["tool_calls"][0]
    assert call.pop("id").startswith("call_")
    assert call == {"type": "function", "function": {"name": "first", "arguments": '{"city":"example"}'}}


@pytest.mark.parametrize("function", [{"name": "now"}, {"name": "now", "parameters": None}, {"name": "now", "parameters": {}}])
def test_a_tool_without_parameters_gets_an_empty_object(function):
    body = complete(chat(tools=[{"type": "function", "function": function}]), "sandbox/tools")
    assert body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_a_request_without_tools_is_answered_in_text():
    assert "library" in complete(chat(), "sandbox/tools")["choices"][0]["message"]["content"]


# --- examples of schemas -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (True, "example"),
        ({}, "example"),
        ({"type": "string"}, "example"),
        ({"type": ["null", "boolean"]}, True),
        ({"type": "null"}, None),
        ({"const": 0}, 0),
        ({"type": "integer", "default": 7}, 7),
        ({"enum": ["a", "b"], "type": "string"}, "a"),
        ({"type": "string", "examples": ["Oslo"]}, "Oslo"),
        ({"type": "string", "format": "date"}, "2026-01-31"),
        ({"type": "string", "minLength": 10}, "exampleeee"),
        ({"type": "string", "maxLength": 2}, "ex"),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "minimum": 4.5}, 5),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": -3}, -3),
        ({"type": "integer", "exclusiveMaximum": -3}, -4),
        ({"type": "integer", "minimum": 11, "multipleOf": 5}, 15),
        ({"type": "number", "minimum": 0.25, "maximum": 0.75}, 0.5),
        ({"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, 1.5),
        ({"type": "array", "items": {"type": "integer"}}, [1]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, [1, 1, 1]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 0}, []),
        ({"items": {"type": "integer"}}, [1]),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False}, [1, "example"]),
        ({"type": "array", "items": [{"type": "integer"}, {"type": "null"}]}, [1, None]),
        ({"type": "object"}, {}),
        ({"properties": {"a": {"type": "integer"}}}, {"a": 1}),
        ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}, {"a": 1}),
        ({"type": "object", "additionalProperties": {"type": "integer"}, "required": ["x"]}, {"x": 1}),
        (
            {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "boolean"}}}}},
            {"a": {"b": True}},
        ),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
        ({"oneOf": [{"const": "x"}, {"const": "y"}]}, "x"),
        (
            {"type": "object", "properties": {"a": {"const": 1}, "b": {}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {"a": 1},
        ),
        (
            {
                "allOf": [
                    {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]},
                    {"properties": {"b": {"const": 2}}, "required": ["b"]},
                ]
            },
            {"a": 1, "b": 2},
        ),
        ({"$defs": {"a/b": {"type": "integer"}}, "$ref": "#/$defs/a~1b"}, 1),
        ({"$defs": {"x y": {"enum": [3]}}, "type": "array", "items": {"$ref": "#/$defs/x%20y"}}, [3]),
    ],
)
def test_a_value_fits_its_schema(schema, value):
    made = Examples(schema).make(schema)
    assert made == value and type(made) is type(value)


@pytest.mark.parametrize(
    "link",
    [
        {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        {"type": "array", "items": {"$ref": "#"}},
    ],
)
def test_a_schema_that_contains_itself_comes_to_an_end(link):
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "next": link}, "required": ["name", "next"]}
    made = Examples(schema).make(schema)
    assert made["name"] == "example" and made["next"]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]},
        {"type": "object", "properties": {str(number): {} for number in range(20_000)}},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.com/schema"},
        {"type": "number", "multipleOf": 0, "minimum": 3},
        {"type": "integer", "minimum": "three"},
        {"type": "object", "properties": [1]},
        {"type": "object", "required": 4},
        "string",
        7,
    ],
)
def test_a_schema_that_cannot_be_met_is_refused_as_a_provider_would(schema):
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(UpstreamRejected) as refused:
        complete(chat(response_format=wanted))
    assert (refused.value.upstream_status, refused.value.param) == (400, "response_format")


def test_a_tool_whose_schema_cannot_be_met_is_refused():
    with pytest.raises(UpstreamRejected) as refused:
        open_stream(chat(tools=[tool("first", city={"$ref": "#/$defs/City"})]), "sandbox/tools")
    assert (refused.value.upstream_status, refused.value.param) == (400, "tools")


@pytest.mark.parametrize("schema", [{"type": "array", "minItems": 10**9}, {"type": "string", "minLength": 10**12}])
def test_a_huge_minimum_makes_no_huge_value(schema):
    assert len(Examples(schema).make(schema)) <= 1000


# --- streams -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "model", "facts"),
    [
        ({}, "sandbox/echo", {}),
        ({"n": 2}, "sandbox/echo", {}),
        ({"tools": TOOLS}, "sandbox/tools", {}),
        ({"response_format": {"type": "json_object"}}, STAND_IN, {}),
        ({}, STAND_IN, {"reasoning_tier": "low"}),
    ],
)
def test_a_stream_adds_up_to_the_whole_answer(body, model, facts):
    request = replace(chat(**body), reasoning_effort="high", max_output_tokens=40)
    whole = complete(request, model, **facts)
    chunks, error = read(open_stream(request, model, **facts))
    messages, ends = assemble(chunks)
    assert error is None
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert [chunk["usage"] for chunk in chunks if "usage" in chunk] == [chunks[-1]["usage"]] == [whole["usage"]]
    for choice in whole["choices"]:
        expected, got = choice["message"], messages[choice["index"]]
        for call in [*expected.get("tool_calls", []), *got.get("tool_calls", [])]:
            assert call.pop("id").startswith("call_")
        assert got == {key: value for key, value in expected.items() if value is not None}
        assert ends[choice["index"]] == choice["finish_reason"]


def test_a_stream_arrives_in_words_and_then_stays_at_its_end(handle):
    stream = open_stream(chat(), handle=handle)
    arrivals = [stream.next_chunks(20) for _ in range(3)]
    words = [chunk["choices"][0]["delta"]["content"] for chunk in arrivals[0]]
    assert words == ["This", " is", " the", " sandbox"]
    assert all(len(arrived) <= 4 for arrived in arrivals)
    assert read(stream)[1] is None
    assert stream.next_chunks(20) is None
    assert handle.waits == []
    stream.close()


def test_a_tool_call_streams_its_name_once():
    chunks, _ = read(open_stream(chat(tools=TOOLS), "sandbox/tools"))
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert [sorted(call) for call in calls[:2]] == [["function", "id", "index", "type"], ["function", "index"]]
    assert [call["function"].get("name") for call in calls] == ["first", *[None] * (len(calls) - 1)]


def test_two_streams_have_the_same_text():
    first, second = (assemble(read(open_stream(chat(), STAND_IN))[0])[0] for _ in range(2))
    assert first == second


# --- faults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [complete, open_stream])
def test_rate_limited_refuses_with_a_time_to_wait(ask):
    with pytest.raises(UpstreamRateLimited) as refused:
        ask(chat(), "sandbox/rate-limited")
    assert (refused.value.upstream_status, refused.value.retry_after_s) == (429, 7)


@pytest.mark.parametrize("ask", [complete, open_stream])
def test_error_fails_with_a_500(ask):
    with pytest.raises(UpstreamFailed) as failed:
        ask(chat(), "sandbox/error")
    assert failed.value.upstream_status == 500


@pytest.mark.parametrize("model", ["sandbox/cut", "sandbox/stall"])
@pytest.mark.parametrize(("limit", "words"), [(None, 8), (1, 1)])
def test_a_broken_stream_has_some_words_and_never_an_end(model, limit, words):
    chunks, error = read(open_stream(replace(chat(), max_output_tokens=limit), model))
    assert [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]] == [None] * words
    assert isinstance(error, UpstreamReset if model == "sandbox/cut" else UpstreamTimeout)


def test_a_cut_stream_breaks_without_a_wait(handle):
    _, error = read(open_stream(chat(), "sandbox/cut", handle))
    assert isinstance(error, UpstreamReset) and handle.waits == []


def test_a_whole_answer_is_cut_at_once(handle):
    with pytest.raises(UpstreamReset):
        complete(chat(), "sandbox/cut", handle)
    assert handle.waits == []


@pytest.mark.parametrize(
    ("model", "wait_s", "deadline", "waited", "phase"),
    [
        ("sandbox/stall", 20, 300, 20, "idle"),
        ("sandbox/stall", 20, 15, 15, "total"),
        ("sandbox/slow-first-token", 5, 300, 5, "first_token"),
        ("sandbox/slow-first-token", 10, 3, 3, "total"),
        ("sandbox/slow-first-token", 10, 300, 8, None),
    ],
)
def test_silence_in_a_stream_lasts_as_long_as_the_caller_waits(handle, model, wait_s, deadline, waited, phase):
    stream = open_stream(chat(), model, handle, replace(LIMITS, deadline_mono=deadline))
    chunks, error = read(stream, wait_s)
    assert handle.waits == [waited]
    assert getattr(error, "phase", None) == phase
    if model == "sandbox/slow-first-token":
        assert bool(chunks) == (phase is None)


@pytest.mark.parametrize(
    ("model", "first_token_s", "deadline", "waited", "phase"),
    [
        ("sandbox/stall", 10, 300, 300, "total"),
        ("sandbox/slow-first-token", 5, 300, 5, "first_token"),
        ("sandbox/slow-first-token", 10, 3, 3, "total"),
        ("sandbox/slow-first-token", 10, 300, 8, None),
    ],
)
def test_silence_before_a_whole_answer_ends_with_its_limits(handle, model, first_token_s, deadline, waited, phase):
    limits = replace(LIMITS, first_token_s=first_token_s, deadline_mono=deadline)
    try:
        ended = complete(chat(), model, handle, limits)["object"]
    except UpstreamTimeout as error:
        ended = error.phase
    assert handle.waits == [waited]
    assert ended == (phase or "chat.completion")


def test_the_slow_model_answers_within_the_default_limit():
    assert 0 < FIRST_TOKEN_DELAY_S < 10


@pytest.mark.parametrize(("reason", "error"), [("client_gone", ClientGone), ("drained", Draining)])
@pytest.mark.parametrize("model", ["sandbox/stall", "sandbox/slow-first-token"])
def test_silence_ends_with_the_request(model, reason, error):
    assert isinstance(read(open_stream(chat(), model, PatientHandle(ends=reason)))[1], error)
    with pytest.raises(error):
        complete(chat(), model, PatientHandle(ends=reason))


@pytest.mark.parametrize("model", ["sandbox/echo", STAND_IN])
def test_a_request_that_ended_gets_nothing(handle, model):
    stream = open_stream(chat(), model, handle)
    handle.end("client_gone")
    assert isinstance(read(stream)[1], ClientGone)
    for ask in (complete, open_stream):
        with pytest.raises(ClientGone):
            ask(chat(), model, handle)
    with pytest.raises(ClientGone):
        embed("text", handle=handle)
    with pytest.raises(ClientGone):
        rerank("query", "text", handle=handle)


def test_a_call_after_the_deadline_is_refused():
    late = replace(LIMITS, deadline_mono=0)
    for ask in (complete, open_stream):
        with pytest.raises(UpstreamTimeout) as error:
            ask(chat(), limits=late)
        assert error.value.phase == "total"


def test_the_time_out_of_an_earlier_candidate_says_nothing(handle):
    handle.expire()
    assert complete(chat(), handle=handle)["choices"]


def test_a_stream_that_outlives_its_deadline_is_stopped(handle):
    stream = open_stream(chat(), handle=handle)
    handle.expire()
    chunks, error = read(stream)
    assert chunks == [] and error.phase == "total"


def test_a_stream_whose_deadline_was_lifted_goes_on_after_it(handle):
    now = [0.0]
    stream = adapter(monotonic=lambda: now[0]).open_stream(chat(), candidate("sandbox/stall"), LIMITS, handle)
    assert handle.deadline_mono == LIMITS.deadline_mono
    handle.arm_deadline(math.inf)
    now[0] = LIMITS.deadline_mono + 1
    chunks, error = read(stream, 20)
    assert chunks and error.phase == "idle" and handle.waits == [20]


def test_the_deadline_is_gone_when_the_call_is_over(handle):
    stream = open_stream(chat(), handle=handle)
    stream.close()
    assert handle.deadline_mono == math.inf
    embed("text", handle=handle)
    assert handle.deadline_mono == math.inf
    complete(chat(), handle=handle)
    assert handle.deadline_mono == math.inf
    with pytest.raises(UpstreamReset):
        complete(chat(), "sandbox/cut", handle)
    assert handle.deadline_mono == math.inf
    with pytest.raises(UpstreamTimeout):
        open_stream(chat(), handle=handle, limits=replace(LIMITS, deadline_mono=0))
    assert handle.deadline_mono == math.inf


# --- embeddings ----------------------------------------------------------------------------------------------------


def embed(*inputs, size=None, handle=None, **facts):
    request = EmbeddingRequest(inputs=inputs, choice=Choice(names=("sandbox/embed",)), dimensions=size)
    target = candidate("sandbox/embed", kind="embedding", **facts)
    return adapter().embed(request, target, LIMITS, handle or PatientHandle())


@pytest.mark.parametrize(
    ("asked", "facts", "size"),
    [(None, {}, 256), (None, {"dimensions": (1024, 512)}, 1024), (8, {"dimensions": (1024,)}, 8)],
)
def test_a_vector_has_the_size_asked_for(asked, facts, size):
    assert [len(vector) for vector in embed("one", "two", size=asked, **facts).vectors] == [size, size]


@pytest.mark.parametrize("size", [1, 2, 3, 256])
@pytest.mark.parametrize("text", ["a", "cat dog", "?!", " ", "\ud83d", "Straße " * 500])
def test_a_vector_has_length_one(text, size):
    assert math.isclose(math.hypot(*build_vector(text, size)), 1)


def test_vectors_follow_the_texts():
    one, other, again = embed("The cat sleeps", "A dog barks loudly", "The cat sleeps").vectors
    assert one == again != other


def test_texts_that_share_words_are_nearer():
    base, near, far = embed("the cat sat on the mat", "a cat sat here", "quarterly revenue grew").vectors

    def likeness(one, other):
        return sum(left * right for left, right in zip(one, other, strict=True))

    assert likeness(base, near) > likeness(base, far) + 0.2


def test_embedding_counts_the_tokens_of_all_inputs():
    assert embed("one two", "three").prompt_tokens == 3


# --- reranking -----------------------------------------------------------------------------------------------------


def rerank(query, *documents, handle=None, **fields):
    request = RerankRequest(query=query, documents=documents, choice=Choice(names=("sandbox/rerank",)), **fields)
    return adapter().rerank(request, candidate("sandbox/rerank", kind="rerank"), LIMITS, handle or PatientHandle())


def test_documents_are_ranked_by_the_words_they_share_with_the_query():
    results = rerank("the red dog", "quarterly revenue grew", "the red dog", "a dog").results
    assert [result.index for result in results] == [1, 2, 0]
    assert results[0].score == pytest.approx(1) and all(0 <= result.score <= 1 for result in results)
    assert [result.index for result in rerank("the red dog", "a dog", "the red dog", top_n=1).results] == [1]


def test_reranking_counts_the_query_with_each_document():
    assert rerank("one two", "three", "four five").total_tokens == 7
