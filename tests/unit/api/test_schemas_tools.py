from typing import Any

import pytest

from gateway.api.schemas import load_chat
from gateway.errors import InvalidRequest

HELLO = [{"role": "user", "content": "hello"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "weather", "description": "Tell it.", "parameters": PARAMETERS}
TOOL = {"type": "function", "function": FUNCTION}
NAMED = {"type": "function", "function": {"name": "weather"}}


def body(**fields):
    return load_chat({"messages": HELLO, **fields}, {}).body


def refusal(**fields):
    with pytest.raises(InvalidRequest) as caught:
        body(**fields)
    assert caught.value.message.startswith(f"`{caught.value.param}` ")
    return caught.value.param, caught.value.code


@pytest.mark.parametrize(
    ("sent", "loaded"),
    [
        (TOOL, TOOL),
        ({"function": FUNCTION}, TOOL),
        ({"type": "function", **FUNCTION}, TOOL),
        (FUNCTION, TOOL),
        ({"name": "weather", "description": "Tell it.", "input_schema": PARAMETERS}, TOOL),
        ({"type": "custom", "name": "weather", "description": "Tell it.", "input_schema": PARAMETERS, "cache_control": {}}, TOOL),
        ({"name": "weather"}, {"type": "function", "function": {"name": "weather"}}),
        (
            {"type": "function", "name": "weather", "description": None, "parameters": None, "strict": True},
            {"type": "function", "function": {"name": "weather", "strict": True}},
        ),
        (
            {"type": "function", "function": {"name": "weather", "parameters": None, "strict": None}},
            {"type": "function", "function": {"name": "weather"}},
        ),
        ({"name": "A.b:c_d-1" + "x" * 119}, {"type": "function", "function": {"name": "A.b:c_d-1" + "x" * 119}}),
    ],
)
def test_a_tool_of_every_dialect_becomes_openais(sent, loaded):
    assert body(tools=[sent])["tools"] == [loaded]


PATCH: dict[str, Any] = {"type": "custom", "name": "patch", "description": "Edits.", "format": {"type": "text"}}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: x"}


def test_a_custom_tool_becomes_a_function_of_one_text():
    loaded = body(tools=[TOOL, PATCH], tool_choice={"type": "custom", "name": "patch"})
    assert loaded["tools"][0] is TOOL
    function = loaded["tools"][1]["function"]
    assert (function["name"], function["description"], function["parameters"]["required"]) == ("patch", "Edits.", ["input"])
    assert loaded["tool_choice"] == {"type": "function", "function": {"name": "patch"}}


def test_a_custom_tool_s_grammar_is_told_to_the_model():
    (tool,) = body(tools=[{**PATCH, "format": GRAMMAR}])["tools"]
    assert "start: x" in tool["function"]["parameters"]["properties"]["input"]["description"]


@pytest.mark.parametrize(
    ("tool", "place", "code"),
    [
        ({"name": "a b"}, ".name", "invalid_value"),
        ({"description": 5}, ".description", "invalid_value"),
        ({"format": {"type": "grammar", "syntax": "abnf", "definition": "x"}}, ".format.syntax", "invalid_value"),
    ],
)
def test_a_wrong_custom_tool_names_its_place(tool, place, code):
    assert refusal(tools=[TOOL, {**PATCH, **tool}]) == (f"tools[1]{place}", code)


@pytest.mark.parametrize(
    ("name", "sent", "read"),
    [
        ("patch", "*** Begin Patch", '{"input":"*** Begin Patch"}'),
        ("patch", '["a"]', '{"input":"[\\"a\\"]"}'),
        ("patch", '{"input":"x"}', '{"input":"x"}'),
        ("weather", "*** Begin Patch", "*** Begin Patch"),
    ],
)
def test_the_text_of_a_custom_call_becomes_arguments_again(name, sent, read):
    call: dict[str, Any] = {"id": "a", "type": "function", "function": {"name": name, "arguments": sent}}
    messages = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}]
    loaded = load_chat({"messages": messages, "tools": [TOOL, PATCH]}, {})
    assert loaded.messages[1]["tool_calls"][0]["function"]["arguments"] == read
    assert call["function"]["arguments"] == sent


def test_a_tool_in_canonical_form_stays_the_same_object():
    assert body(tools=[TOOL])["tools"][0] is TOOL


@pytest.mark.parametrize(
    ("tool", "place", "code"),
    [
        ("x", "", "invalid_value"),
        ({"type": "function"}, ".function", "missing_field"),
        (None, "", "invalid_value"),
        ({"type": "web_search"}, ".type", "unsupported_feature"),
        ({"type": "code_interpreter", "container": {"type": "auto"}}, ".type", "unsupported_feature"),
        ({"type": "browser_search"}, ".type", "unsupported_feature"),
        ({"type": "custom", "custom": {"name": "x"}}, ".type", "unsupported_feature"),
        ({"type": ["function"]}, ".type", "unsupported_feature"),
        ({"type": "function", "function": {}}, ".function.name", "missing_field"),
        ({"type": "function", "function": None}, ".function", "invalid_value"),
        ({"type": "function", "function": {"name": ""}}, ".function.name", "invalid_value"),
        ({"type": "function", "function": {"name": "a b"}}, ".function.name", "invalid_value"),
        ({"type": "function", "function": {"name": "a\n"}}, ".function.name", "invalid_value"),
        ({"type": "function", "function": {"name": "x" * 129}}, ".function.name", "invalid_value"),
        ({"type": "function", "function": {"name": 5}}, ".function.name", "invalid_value"),
        ({"type": "function", "function": {"name": "a", "parameters": []}}, ".function.parameters", "invalid_value"),
        ({"type": "function", "function": {"name": "a", "description": 5}}, ".function.description", "invalid_value"),
        ({"type": "function", "function": {"name": "a", "strict": "yes"}}, ".function.strict", "invalid_value"),
        ({"name": "a", "input_schema": "x"}, ".input_schema", "invalid_value"),
    ],
)
def test_a_wrong_tool_names_its_place(tool, place, code):
    assert refusal(tools=[TOOL, tool]) == (f"tools[1]{place}", code)


def test_tools_that_cannot_be_written_again_are_refused():
    parameters = {"default": float("inf"), "description": "\ud83d"}  # what 1e999 and half an emoji are read as
    assert refusal(tools=[{"name": "a", "parameters": parameters}]) == ("tools", "invalid_value")


@pytest.mark.parametrize(
    ("sent", "loaded"),
    [
        ("none", "none"),
        ("auto", "auto"),
        ("required", "required"),
        ("any", "required"),
        ({"type": "none"}, "none"),
        ({"type": "auto"}, "auto"),
        ({"type": "required"}, "required"),
        ({"type": "any"}, "required"),
        (NAMED, NAMED),
        ({"type": "function", "name": "weather"}, NAMED),
        ({"type": "tool", "name": "weather"}, NAMED),
        ({"name": "weather"}, NAMED),
    ],
)
def test_a_tool_choice_of_every_dialect_becomes_openais(sent, loaded):
    assert body(tools=[TOOL], tool_choice=sent)["tool_choice"] == loaded


@pytest.mark.parametrize(
    ("choice", "param", "code"),
    [
        ("weather", "tool_choice", "invalid_value"),
        (5, "tool_choice", "invalid_value"),
        ([], "tool_choice", "invalid_value"),
        ({}, "tool_choice.name", "missing_field"),
        ({"type": []}, "tool_choice.type", "unsupported_feature"),
        ({"type": "allowed_tools"}, "tool_choice.type", "unsupported_feature"),
        ({"type": "function", "function": None}, "tool_choice.function", "invalid_value"),
        ({"type": "function", "function": {"name": "other"}}, "tool_choice.function.name", "invalid_value"),
        ({"type": "tool", "name": "other"}, "tool_choice.name", "invalid_value"),
    ],
)
def test_a_choice_of_no_tool_is_refused(choice, param, code):
    assert refusal(tools=[TOOL], tool_choice=choice) == (param, code)


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"functions": [FUNCTION]}, {"tools": [TOOL]}),
        ({"functions": [FUNCTION], "tools": []}, {"tools": [TOOL]}),
        ({"functions": [FUNCTION], "function_call": "auto"}, {"tools": [TOOL], "tool_choice": "auto"}),
        ({"functions": [FUNCTION], "function_call": {"name": "weather"}}, {"tools": [TOOL], "tool_choice": NAMED}),
        ({"functions": [{"name": "x"}], "tools": [TOOL]}, {"tools": [TOOL]}),
        ({"tools": [TOOL], "tool_choice": "none", "function_call": "auto"}, {"tools": [TOOL], "tool_choice": "none"}),
        ({"tools": [TOOL], "parallel_tool_calls": False}, {"tools": [TOOL], "parallel_tool_calls": False}),
        ({"function_call": "auto"}, {}),
    ],
)
def test_functions_of_the_older_api_become_tools(fields, left):
    assert body(**fields) == {"messages": HELLO, **left}


def test_a_wrong_function_of_the_older_api_names_its_own_place():
    assert refusal(functions=[{"name": ""}]) == ("functions[0].name", "invalid_value")
    assert refusal(functions=[FUNCTION], function_call={"name": "x"}) == ("function_call.name", "invalid_value")


def schema(**fields):
    return {"type": "json_schema", "json_schema": fields}


@pytest.mark.parametrize(
    ("sent", "loaded"),
    [
        ({"type": "json_object"}, {"type": "json_object"}),
        ({"type": "json_object", "schema": {}}, {"type": "json_object"}),
        (schema(name="a", schema=PARAMETERS, strict=True), schema(name="a", schema=PARAMETERS, strict=True)),
        (schema(name="a", schema=PARAMETERS, strict=None, description=None), schema(name="a", schema=PARAMETERS)),
        (schema(schema=PARAMETERS), schema(name="response", schema=PARAMETERS)),
        (schema(**PARAMETERS), schema(name="response", schema=PARAMETERS)),
        ({"type": "json_schema", "name": "a", "schema": PARAMETERS}, schema(name="a", schema=PARAMETERS)),
    ],
)
def test_a_form_of_the_answer_of_every_dialect_becomes_openais(sent, loaded):
    assert body(response_format=sent)["response_format"] == loaded


def test_the_responses_api_s_form_of_the_answer_is_read_where_there_is_no_other():
    form = {"type": "json_schema", "name": "a", "schema": PARAMETERS}
    loaded = body(text={"format": form, "verbosity": "low"})
    assert (loaded["response_format"], loaded["verbosity"]) == (schema(name="a", schema=PARAMETERS), "low")
    assert "text" not in loaded
    assert body(text={"format": form}, response_format={"type": "json_object"})["response_format"] == {"type": "json_object"}
    assert refusal(text={"format": {}}) == ("text.format.type", "missing_field")


@pytest.mark.parametrize(
    ("sent", "place", "code"),
    [
        ({}, ".type", "missing_field"),
        ({"type": "xml"}, ".type", "invalid_value"),
        ({"type": ["text"]}, ".type", "invalid_value"),
        ({"type": "json_schema"}, ".json_schema", "missing_field"),
        ({"type": "json_schema", "json_schema": "x"}, ".json_schema", "invalid_value"),
        (schema(name="a"), ".json_schema.schema", "missing_field"),
        (schema(name="a", schema=None), ".json_schema.schema", "missing_field"),
        (schema(name="a", schema=[]), ".json_schema.schema", "invalid_value"),
        (schema(name="a b", schema={}), ".json_schema.name", "invalid_value"),
        (schema(name=5, schema={}), ".json_schema.name", "invalid_value"),
        (schema(name="a", schema={}, strict="yes"), ".json_schema.strict", "invalid_value"),
        ({"type": "json_schema", "schema": "x"}, ".schema", "invalid_value"),
    ],
)
def test_a_wrong_form_of_the_answer_names_its_place(sent, place, code):
    assert refusal(response_format=sent) == (f"response_format{place}", code)
