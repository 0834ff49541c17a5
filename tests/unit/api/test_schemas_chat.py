import copy
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.api.schemas import load_chat, load_embeddings
from gateway.domain import ChatRequest
from gateway.errors import InvalidRequest

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
LONG = {"type": "object", "properties": {"city": {"type": "string"}}}
PNG = "data:image/png;base64,iVBORw0KGgo="


def load(headers=None, **fields) -> ChatRequest:
    return load_chat({"messages": HELLO, **fields}, headers or {})


def body(**fields):
    """What the request leaves for the model, but for the messages."""
    return {name: value for name, value in load(**fields).body.items() if name != "messages"}


def refusal(headers=None, **fields) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequest) as caught:
        load(headers, **fields)
    assert caught.value.message.startswith(f"`{caught.value.param}` ")
    return caught.value.param, caught.value.code


# --- the choice of models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ("auto",)),
        ({"model": None}, ("auto",)),
        ({"model": " "}, ("auto",)),
        ({"model": "auto"}, ("auto",)),
        ({"model": "a/b"}, ("a/b",)),
        ({"models": ["a", "b"]}, ("a", "b")),
        ({"models": ["a", "b", "a"]}, ("a", "b")),
        ({"model": "c", "models": ["a", "b"]}, ("c", "a", "b")),
        ({"model": "b", "models": ["a", "b"]}, ("b", "a")),
        ({"model": "auto", "models": ["a", "b"]}, ("a", "b")),
        ({"model": "auto", "models": []}, ("auto",)),
        ({"model": "a", "models": None}, ("a",)),
        ({"models": [str(number) for number in range(20)]}, tuple(str(number) for number in range(20))),
    ],
)
def test_models_are_named_in_the_callers_order(fields, names):
    request = load(**fields)
    assert request.choice.names == names
    assert set(request.body) == {"messages"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 3}, "model"),
        ({"model": "x" * 257}, "model"),
        ({"models": "a"}, "models"),
        ({"models": ["a", 3]}, "models[1]"),
        ({"models": ["a", ""]}, "models[1]"),
        ({"models": [str(number) for number in range(21)]}, "models"),
        ({"model": "x", "models": [str(number) for number in range(20)]}, "models"),
        ({"min_reasoning_level": "none"}, "min_reasoning_level"),
        ({"project_id": "a b"}, "project_id"),
        ({"project_id": "a\n"}, "project_id"),
        ({"project_id": ""}, "project_id"),
        ({"project_id": "x" * 65}, "project_id"),
        ({"project_id": 7}, "project_id"),
    ],
)
def test_a_wrong_choice_is_refused(fields, param):
    assert refusal(**fields) == (param, "invalid_value")


def test_headers_force_a_provider_or_a_model():
    choice = load({"x-gateway-force-provider": " groq ", "x-gateway-force-model": "@cf/a:b"}).choice
    assert (choice.force_provider, choice.force_model) == ("groq", "@cf/a:b")
    assert load({"x-gateway-force-model": ""}).choice.force_model is None


@pytest.mark.parametrize("header", ["x-gateway-force-provider", "x-gateway-force-model", "x-gateway-project-id"])
@pytest.mark.parametrize("value", ["a b", "a\x00", "é", "a\x7f"])
def test_a_header_of_other_characters_is_refused(header, value):
    assert refusal({header: value}) == (header, "invalid_value")


@pytest.mark.parametrize(
    ("field", "header", "project_id"),
    [
        (None, None, None),
        (None, "from-header", "from-header"),
        ("a.b:C_1-", None, "a.b:C_1-"),
        ("from-body", "from-header", "from-body"),
        ("x" * 64, None, "x" * 64),
    ],
)
def test_the_project_comes_from_the_body_then_the_header(field, header, project_id):
    request = load({"x-gateway-project-id": header} if header else {}, project_id=field)
    assert request.project_id == project_id
    assert "project_id" not in request.body


def test_min_reasoning_level_is_taken_out_of_the_body():
    request = load(min_reasoning_level="medium", route="fallback")
    assert request.choice.min_reasoning_level == "medium"
    assert set(request.body) == {"messages"}


# --- parameters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"temperature": 2.0, "top_p": 1, "frequency_penalty": -2, "presence_penalty": 1.5},
        {"n": 128, "seed": -1, "top_logprobs": 20, "logprobs": True, "logit_bias": {"50256": -100}},
        {"stop": "END"},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"user": "u", "store": False, "metadata": {"a": None}, "top_k": 40, "some.thing": {"new": [1]}},
    ],
)
def test_fields_for_the_model_stay_as_they_are(fields):
    assert body(**fields) == fields


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"temperature": None, "unknown": None, "tools": None, "stop": None, "seed": None, "n": None}, {}),
        ({"n": 1.0, "seed": 7.0}, {"n": 1, "seed": 7}),
        ({"stop": []}, {}),
        ({"tools": [], "tool_choice": "required", "parallel_tool_calls": True}, {}),
        ({"tool_choice": {"nonsense": 1}, "functions": []}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"stream": False, "stream_options": {"include_usage": True}}, {}),
        ({"stream_options": "nonsense"}, {}),
        ({"max_tokens": -1}, {}),
    ],
)
def test_what_says_nothing_counts_as_absent(fields, left):
    found = body(**fields)
    assert found == left
    assert [type(value) for value in found.values()] == [type(value) for value in left.values()]


WRONG: dict[str, tuple] = {
    "temperature": (-0.1, 2.1, "1", True, [], {}, float("inf"), 10**400),
    "top_p": (-1, 1.5, "0.5", False),
    "frequency_penalty": (-2.1, 3),
    "presence_penalty": (-2.1, "0"),
    "n": (0, 129, 1.5, "2", True),
    "seed": (1.5, "7", True, 2**63),
    "top_logprobs": (-1, 21, True),
    "max_tokens": (-2, 0.5, "100", True, float("inf"), 10**30),
    "max_completion_tokens": (-2, 1.5, [], "100"),
    "max_output_tokens": (-2, 1.5, [], "100"),
    "instructions": (5, ["x"]),
    "text": ("x", []),
    "logprobs": (1, "true", []),
    "stream": (1, 0, "true", "false", {}),
    "stop": (5, {}, True),
    "logit_bias": ([], "x"),
    "reasoning_effort": ("", "huge", 3, ["low"]),
    "reasoning": ("low", ["low"]),
    "user": (5, {}),
    "tools": ({}, "x", 0, False),
    "response_format": ("json", [], 1),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_value_out_of_range_or_of_another_type_is_refused(field, value):
    assert refusal(**{field: value}) == (field, "invalid_value")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"stop": ["a", None]}, "stop[1]", "invalid_value"),
        ({"stream": True, "stream_options": []}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_value"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "invalid_value"),
        ({"reasoning": {"effort": ["low"]}}, "reasoning.effort", "invalid_value"),
        ({"tools": [TOOL], "parallel_tool_calls": "yes"}, "parallel_tool_calls", "invalid_value"),
    ],
)
def test_the_place_inside_a_field_is_named(fields, param, code):
    assert refusal(**fields) == (param, code)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, None),
        ({"max_tokens": 100}, 100),
        ({"max_tokens": 100.0}, 100),
        ({"max_completion_tokens": 50}, 50),
        ({"max_completion_tokens": 50, "max_tokens": 100}, 50),
        ({"max_completion_tokens": None, "max_tokens": 100}, 100),
        ({"max_completion_tokens": 0, "max_tokens": 100}, 100),
        ({"max_completion_tokens": -1, "max_tokens": 0}, None),
        ({"max_tokens": 2**40}, 2**40),
        ({"max_output_tokens": 70}, 70),
        ({"max_tokens": 100, "max_output_tokens": 70}, 100),
    ],
)
def test_the_length_of_the_answer_is_taken_out_of_the_body(fields, limit):
    request = load(**fields)
    assert request.max_output_tokens == limit
    assert type(request.max_output_tokens) is type(limit)
    assert set(request.body) == {"messages"}


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, None),
        *(({"reasoning_effort": word}, word) for word in ("none", "minimal", "low", "medium", "high")),
        ({"reasoning_effort": "xhigh"}, "high"),
        ({"reasoning_effort": "max"}, "high"),
        ({"reasoning_effort": "auto"}, None),
        ({"reasoning_effort": None}, None),
        ({"reasoning": {"effort": "low"}}, "low"),
        ({"reasoning": {"effort": "xhigh", "summary": None}}, "high"),
        ({"reasoning": {"effort": None}}, None),
        ({"reasoning": {"enabled": False}, "reasoning_effort": None}, "none"),
        ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, "high"),
    ],
)
def test_reasoning_effort_is_one_of_the_gateways_levels(fields, effort):
    request = load(**fields)
    assert request.reasoning_effort == effort
    assert "reasoning_effort" not in request.body


def test_what_else_reasoning_says_stays_for_providers_that_know_it():
    given = {"effort": "low", "exclude": True}
    assert body(reasoning=given) == {"reasoning": {"exclude": True}}
    assert given == {"effort": "low", "exclude": True}
    assert body(reasoning={"effort": "low"}) == {}


@pytest.mark.parametrize(
    ("fields", "stream", "include_usage"),
    [
        ({}, False, False),
        ({"stream": None}, False, False),
        ({"stream": True}, True, False),
        ({"stream": True, "stream_options": None}, True, False),
        ({"stream": True, "stream_options": {"include_usage": True, "other": 1}}, True, True),
        ({"stream": True, "stream_options": {"include_usage": None}}, True, False),
        ({"stream": False, "stream_options": {"include_usage": True}}, False, False),
    ],
)
def test_streaming_is_taken_out_of_the_body(fields, stream, include_usage):
    request = load(**fields)
    assert (request.stream, request.include_usage) == (stream, include_usage)
    assert set(request.body) == {"messages"}


# --- needs and size ------------------------------------------------------------------------------------------------


def picture(url):
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, set()),
        ({"tools": [TOOL]}, {"tools"}),
        ({"tools": [TOOL], "tool_choice": "none"}, {"tools"}),
        ({"tools": []}, set()),
        ({"response_format": {"type": "text"}}, set()),
        ({"response_format": {"type": "json_object"}}, {"json_mode"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}}, {"json_schema"}),
        ({"messages": picture(PNG)}, {"vision"}),
        ({"messages": picture(PNG.replace("data:", "DATA:"))}, {"vision"}),
        ({"messages": picture("https://a.b/c.png")}, {"vision", "image_urls"}),
        ({"messages": picture(PNG) + picture("http://a.b/c.png"), "tools": [TOOL]}, {"vision", "image_urls", "tools"}),
    ],
)
def test_needs_follow_from_the_request(fields, needs):
    assert load(**fields).needs == needs


def test_the_prompt_is_estimated_with_its_tools_and_schema():
    plain = load().prompt_tokens
    assert 5 <= plain <= 15
    assert load(tools=[TOOL]).prompt_tokens > plain + 10
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": LONG}}
    assert load(response_format=schema).prompt_tokens > plain + 10


def test_thousands_of_messages_take_milliseconds():
    messages = [{"role": "system", "content": "be brief"}]
    messages += [{"role": role, "content": "some words of a chat"} for role in ("user", "assistant")] * 1000
    request = {"messages": messages, "model": "auto", "temperature": 0.5}
    best = 1.0
    for _ in range(5):
        start = time.perf_counter()
        load_chat(request, {})
        best = min(best, time.perf_counter() - start)
    assert best < 0.02  # about 1.5 ms; the rest is for slow machines


# --- nothing but a refusal -----------------------------------------------------------------------------------------

NAMES = (
    "model models messages prompt input role content type text image_url url detail source media_type data file_id refusal "
    "tool_calls tool_call_id function_call function name arguments id tools functions tool_choice parameters input_schema "
    "description strict response_format json_schema schema stream stream_options include_usage max_tokens n seed stop "
    "max_completion_tokens temperature top_p logprobs top_logprobs logit_bias reasoning reasoning_effort effort enabled "
    "max_output_tokens instructions output call_id project_id min_reasoning_level user metadata dimensions encoding_format "
    "input_type some.thing"
).split()
WORDS = (
    "system developer user assistant tool function auto none any required low max text input_text output_text refusal image "
    "image_url input_image base64 json_object json_schema custom message query float a.b call_1 "
    "reasoning function_call function_call_output custom_tool_call custom_tool_call_output"
).split()
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.sampled_from([10**400, -(10**30), 1e308, float("inf"), 0.5, 1.0]),
    st.sampled_from([*WORDS, "", PNG, "https://a.b/c", "data:image/", "\ud83d", "a b"]),
)
OBJECTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)),
    max_leaves=25,
)
PARTS = st.one_of(
    OBJECTS,
    st.fixed_dictionaries({"type": st.sampled_from(WORDS)}, optional={name: OBJECTS for name in ("text", "image_url", "source")}),
)
CALLS = st.one_of(
    OBJECTS,
    st.fixed_dictionaries(
        {"function": st.fixed_dictionaries({"name": st.sampled_from(["weather", ""])}, optional={"arguments": OBJECTS})},
        optional={"id": LEAVES, "type": st.sampled_from(["function", "custom", None])},
    ),
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "function", "robot"])},
    optional={
        "content": st.one_of(LEAVES, st.lists(PARTS, max_size=3)),
        "tool_calls": st.one_of(OBJECTS, st.lists(CALLS, max_size=3)),
        "function_call": OBJECTS,
        "tool_call_id": LEAVES,
        "name": LEAVES,
    },
)
TOOLS = st.one_of(OBJECTS, st.fixed_dictionaries({"name": st.just("weather")}, optional={"input_schema": OBJECTS}), st.just(TOOL))
REQUESTS = st.builds(
    lambda whole, other: {**whole, **other},
    st.fixed_dictionaries(
        {},
        optional={
            "messages": st.lists(MESSAGES, min_size=1, max_size=5),
            "tools": st.lists(TOOLS, max_size=3),
            "model": st.just("m"),
            "input": st.one_of(st.just("hello"), st.lists(MESSAGES, max_size=3)),
        },
    ),
    st.dictionaries(st.sampled_from(NAMES), OBJECTS, max_size=3),
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(REQUESTS)
@pytest.mark.parametrize("reader", [load_chat, load_embeddings])
def test_any_json_is_read_or_refused_and_never_changed(reader, request_body):
    before = copy.deepcopy(request_body)
    try:
        reader(request_body, {})
    except InvalidRequest as error:
        assert error.param
        assert error.code in ("missing_field", "invalid_value", "unsupported_feature")
    assert request_body == before


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"max_tokens": -5}, "`max_tokens` must be a whole number of at least -1 and within 64 bits."),
        ({"seed": 2**63}, "`seed` must be a whole number within 64 bits."),
        ({"n": 0}, "`n` must be a whole number of at least 1 and of at most 128."),
    ],
)
def test_the_bounds_of_a_number_are_told_in_plain_words(fields, told):
    with pytest.raises(InvalidRequest) as caught:
        load(**fields)
    assert caught.value.message == told
