"""Responses requests: what they become, and what is refused of them by which name."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.api.schemas import load_response
from gateway.errors import InvalidRequest
from gateway.surfaces.responses.ids import carrying_id, new_id
from gateway.surfaces.responses.tools import ToolName

RECORDED = sorted((Path(__file__).parent / "fixtures" / "responses").glob("*.json"))
PNG = "data:image/png;base64,iVBORw0KGgo="
F = {"type": "function", "name": "f", "parameters": {"type": "object"}}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PATCH = {"type": "custom", "name": "patch"}
CRM: dict[str, Any] = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers.",
    "tools": [{**F, "name": "find", "description": "Finds."}, {"type": "custom", "name": "note"}],
}


def load(headers=None, /, **fields):
    return load_response({"model": "m", "input": "hi", **fields}, headers or {})


def refusal(**fields):
    with pytest.raises(InvalidRequest) as refused:
        load(**fields)
    return refused.value


def user(*content):
    return {"role": "user", "content": list(content)}


def call(name, arguments="{}", id_="c1"):
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


# --- input -----------------------------------------------------------------------------------------------------------

MESSAGES = {
    "a text": ("hi", [{"role": "user", "content": "hi"}]),
    "easy messages": (
        [{"role": "developer", "content": "x"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
        [{"role": "developer", "content": "x"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
    ),
    "a part is its text": (
        [{"type": "message", "id": "msg_1", "status": "completed", **user({"type": "input_text", "text": "hi"})}],
        [{"role": "user", "content": "hi"}],
    ),
    "parts": (
        [user({"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"})],
        [user({"type": "text", "text": "a"}, {"type": "text", "text": "b"})],
    ),
    "image": (
        [user(*({"type": "input_image", "image_url": PNG, "detail": detail} for detail in ("low", "original", None)))],
        [
            user(
                *(
                    {"type": "image_url", "image_url": {"url": PNG, **more}}
                    for more in ({"detail": "low"}, {"detail": "high"}, {})
                )
            )
        ],
    ),
    "an answer of before": (
        [
            {"role": "user", "content": "hi"},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "phase": "final_answer",
                "content": [
                    {"type": "output_text", "text": "ho", "annotations": [], "logprobs": []},
                    {"type": "refusal", "refusal": "no"},
                ],
            },
        ],
        [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "text", "text": "ho"}, {"type": "text", "text": "no"}]},
        ],
    ),
    "thoughts are nobody else's": (
        [
            {"role": "user", "content": "hi"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
            {"type": "item_reference", "id": "rs_2"},
        ],
        [{"role": "user", "content": "hi"}],
    ),
    "a call and what it returned": (
        [
            {"role": "user", "content": "hi"},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"a":1}', "status": "completed"},
            {"type": "function_call_output", "call_id": "c1", "output": "2"},
        ],
        [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "tool_calls": [call("f", '{"a":1}')]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
        ],
    ),
    "a list as result": (
        [
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {
                "type": "function_call_output",
                "call_id": "c1",
                "output": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
            },
        ],
        [
            {"role": "assistant", "content": None, "tool_calls": [call("f")]},
            {"role": "tool", "tool_call_id": "c1", "content": "a\nb"},
        ],
    ),
    "an image as result": (
        [
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_image", "image_url": PNG}]},
            {"role": "user", "content": "what is it?"},
        ],
        [
            {"role": "assistant", "content": None, "tool_calls": [call("f")]},
            {"role": "tool", "tool_call_id": "c1", "content": "(an image, see below)"},
            user({"type": "text", "text": "What c1 returned:"}, {"type": "image_url", "image_url": {"url": PNG}}),
            {"role": "user", "content": "what is it?"},
        ],
    ),
    "objects where texts belong": (
        [
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": {"a": 1}},
            {"type": "function_call_output", "call_id": "c1", "output": {"b": 2}},
        ],
        [
            {"role": "assistant", "content": None, "tool_calls": [call("f", '{"a":1}')]},
            {"role": "tool", "tool_call_id": "c1", "content": '{"b":2}'},
        ],
    ),
    "nothing where texts belong": (
        [
            {"type": "function_call", "id": "c1", "name": "f", "arguments": None},
            {"type": "function_call_output", "call_id": "c1", "output": None},
        ],
        [
            {"role": "assistant", "content": None, "tool_calls": [call("f")]},
            {"role": "tool", "tool_call_id": "c1", "content": ""},
        ],
    ),
    "a custom call": (
        [
            {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": 'say "x"'},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "done"}]},
        ],
        [
            {"role": "assistant", "content": None, "tool_calls": [call("patch", '{"input":"say \\"x\\""}')]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
        ],
    ),
    "a call in a namespace": (
        [{"type": "function_call", "call_id": "c1", "name": "find", "namespace": "crm", "arguments": "{}"}],
        [{"role": "assistant", "content": None, "tool_calls": [call("crm__find")]}],
    ),
    "references": (
        [
            {"id": carrying_id({"type": "message", "role": "assistant", "content": "Well."})},
            {
                "type": "item_reference",
                "id": carrying_id({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}),
            },
            {"type": "function_call_output", "call_id": "c1", "output": "2"},
        ],
        [
            {"role": "assistant", "content": "Well.", "tool_calls": [call("f")]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
        ],
    ),
}


@pytest.mark.parametrize(("given", "messages"), MESSAGES.values(), ids=list(MESSAGES))
def test_input_becomes_messages(given, messages):
    assert load(input=given).chat.messages == messages


def test_instructions_stand_first():
    messages = load(instructions="Be brief.", input=[{"role": "user", "content": "hi"}]).chat.messages
    assert messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]


def test_items_of_hosted_tools_are_left_out_and_disclosed():
    items = [{"type": kind, "id": "x"} for kind in ("web_search_call", "mcp_list_tools", "web_search_call")]
    chat = load(input=[{"role": "user", "content": "hi"}, *items]).chat
    assert chat.messages == [{"role": "user", "content": "hi"}]
    assert chat.dropped == ("input.web_search_call", "input.mcp_list_tools")


REFUSED_INPUT: list[Any] = [
    (None, "input", "missing_field"),
    (5, "input", "invalid_value"),
    ([], "input", "invalid_value"),
    ([{"type": "reasoning", "id": "rs_1", "summary": []}], "input", "invalid_value"),
    (["hi"], "input[0]", "invalid_value"),
    ([{}], "input[0].type", "missing_field"),
    ([{"type": 5}], "input[0].type", "invalid_value"),
    ([{"type": "compaction", "encrypted_content": "x"}], "input[0].type", "unsupported_feature"),
    ([{"type": "message", "content": "x"}], "input[0].role", "missing_field"),
    ([{"role": "tool", "content": "x"}], "input[0].role", "invalid_value"),
    ([{"role": "user"}], "input[0].content", "missing_field"),
    ([{"role": "user", "content": 5}], "input[0].content", "invalid_value"),
    ([{"role": "user", "content": "x"}, user({"type": "input_file"})], "input[1].content[0].type", "unsupported_feature"),
    ([user({"type": "input_text", "text": "x"}, {"type": "nonsense"})], "input[0].content[1].type", "unsupported_feature"),
    ([user({"type": "input_text"})], "input[0].content[0].text", "missing_field"),
    ([user({"type": "input_image"})], "input[0].content[0].image_url", "missing_field"),
    ([user({"type": "input_image", "file_id": "file_1"})], "input[0].content[0].file_id", "unsupported_feature"),
    ([user({"type": "input_image", "image_url": "ftp://x"})], "input[0].content[0].image_url", "invalid_value"),
    (
        [{"role": "assistant", "content": [{"type": "input_image", "image_url": PNG}]}],
        "input[0].content[0].type",
        "unsupported_feature",
    ),
    ([{"type": "function_call", "call_id": "c1", "arguments": "{}"}], "input[0].name", "missing_field"),
    ([{"type": "function_call", "name": "f", "arguments": "{}"}], "input[0].id", "missing_field"),
    ([{"type": "function_call", "name": "f", "call_id": 5, "arguments": "{}"}], "input[0].call_id", "invalid_value"),
    ([{"type": "function_call", "call_id": "c1", "name": "f", "arguments": 5}], "input[0].arguments", "invalid_value"),
    (
        [{"type": "function_call", "call_id": "c1", "name": "f", "namespace": 5}],
        "input[0].namespace",
        "invalid_value",
    ),
    ([{"type": "custom_tool_call", "call_id": "c1", "name": "f"}], "input[0].input", "invalid_value"),
    ([{"type": "function_call_output", "output": "x"}], "input[0].call_id", "missing_field"),
    (
        [{"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_file"}]}],
        "input[0].output[0].type",
        "unsupported_feature",
    ),
    (
        [{"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_image", "image_url": "x"}]}],
        "input[0].output[0].image_url",
        "invalid_value",
    ),
    ([{"type": "item_reference", "id": "msg_1"}], "input[0].id", "unsupported_feature"),
    ([{"type": "item_reference", "id": new_id("message")}], "input[0].id", "unsupported_feature"),
    ([{"type": "item_reference"}], "input[0].id", "invalid_value"),
]


@pytest.mark.parametrize(("given", "param", "code"), REFUSED_INPUT, ids=[f"{n} {row[1]}" for n, row in enumerate(REFUSED_INPUT)])
def test_what_cannot_be_served_is_named_by_its_place(given, param, code):
    error = refusal(input=given)
    assert (error.param, error.code) == (param, code)


# --- what is not stored ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1"}},
        {"background": True},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_needs_a_store_is_refused_with_what_to_send_instead(fields):
    error = refusal(**fields)
    assert error.status == 400 and error.code == "unsupported_feature"
    assert "`store: false`" in error.message and ("Send" in error.message or "Leave" in error.message)
    assert error.param == ("input[0].id" if "input" in fields else next(iter(fields)))


@pytest.mark.parametrize(
    "fields", [{"previous_response_id": None}, {"previous_response_id": ""}, {"conversation": None}, {"background": False}]
)
def test_what_asks_for_no_store_is_fine(fields):
    assert load(**fields).chat.messages and not fields.keys() & load(**fields).chat.body.keys()


# --- tools -----------------------------------------------------------------------------------------------------------


def test_functions_custom_tools_and_namespaces_are_functions():
    request = load(tools=[F, PATCH, CRM, {"type": "web_search"}, {"type": "mcp", "server_label": "x"}])
    names = [tool["function"]["name"] for tool in request.chat.body["tools"]]
    assert names == ["f", "patch", "crm__find", "crm__note"]
    assert request.chat.body["tools"][0] == FUNCTION
    assert request.chat.body["tools"][2]["function"]["description"] == "Customers.\n\nFinds."
    assert request.tools.tool_of("crm__note") == ToolName("note", "crm", "custom")
    assert request.chat.dropped == ("tools.web_search", "tools.mcp")
    assert request.chat.needs == {"tools"}
    assert [tool["type"] for tool in request.echo["tools"]] == ["function", "custom", "namespace"]


def test_tools_may_come_in_the_input():
    items: list[dict[str, Any]] = [
        {"type": "additional_tools", "role": "developer", "tools": [F]},
        {"role": "user", "content": "hi"},
    ]
    assert load(input=items).chat.body["tools"] == [FUNCTION]
    assert refusal(input=[{**items[0], "tools": [{**F, "name": ""}]}, items[1]]).param == "input[0].tools[0].name"


@pytest.mark.parametrize("tools", [None, [], [{"type": "web_search"}]])
def test_without_a_tool_that_can_be_called_there_is_nothing_to_choose(tools):
    chat = load(tools=tools, tool_choice="auto", parallel_tool_calls=True).chat
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & chat.body.keys() and chat.needs == set()


def test_what_had_to_be_called_and_cannot_be_is_disclosed():
    assert load(tools=[{"type": "web_search"}], tool_choice="required").chat.dropped == ("tools.web_search", "tool_choice")


CHOICES = [
    ("none", "none", "none"),
    ("auto", "auto", "auto"),
    ("required", "required", "required"),
    ("any", "required", "required"),
    ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}, {"type": "function", "name": "f"}),
    (
        {"type": "function", "function": {"name": "f"}},
        {"type": "function", "function": {"name": "f"}},
        {"type": "function", "name": "f"},
    ),
    (
        {"type": "custom", "name": "patch"},
        {"type": "function", "function": {"name": "patch"}},
        {"type": "custom", "name": "patch"},
    ),
    (
        {"type": "function", "name": "find", "namespace": "crm"},
        {"type": "function", "function": {"name": "crm__find"}},
        {"type": "function", "name": "find"},
    ),
]


@pytest.mark.parametrize(("given", "choice", "shown"), CHOICES, ids=[str(row[0]) for row in CHOICES])
def test_the_choice_among_tools(given, choice, shown):
    request = load(tools=[F, PATCH, CRM], tool_choice=given)
    assert request.chat.body["tool_choice"] == choice and request.echo["tool_choice"] == shown


@pytest.mark.parametrize(
    ("mode", "allowed", "names", "choice"),
    [
        ("required", [{"type": "function", "name": "f"}], ["f"], "required"),
        ("auto", [{"type": "custom", "name": "patch"}, {"type": "function", "name": "f"}], ["f", "patch"], "auto"),
        ("auto", [{"type": "namespace", "name": "crm"}, {"type": "web_search"}], ["crm__find", "crm__note"], "auto"),
        ("auto", [{"type": "web_search"}], None, None),
        ("auto", [], None, None),
    ],
)
def test_a_choice_among_fewer_tools_leaves_the_others_out(mode, allowed, names, choice):
    given = {"type": "allowed_tools", "mode": mode, "tools": allowed}
    request = load(tools=[F, PATCH, CRM, {"type": "web_search"}], tool_choice=given)
    tools = request.chat.body.get("tools")
    assert names == (tools and [tool["function"]["name"] for tool in tools])
    assert request.chat.body.get("tool_choice") == choice
    assert request.echo["tool_choice"] == given and len(request.echo["tools"]) == 3


REFUSED_TOOLS = [
    ({"tools": {"a": 1}}, "tools", "invalid_value"),
    ({"tools": ["f"]}, "tools[0]", "invalid_value"),
    ({"tools": [F, {"type": "function"}]}, "tools[1].name", "missing_field"),
    ({"tools": [{**F, "name": "a b"}]}, "tools[0].name", "invalid_value"),
    ({"tools": [{**F, "parameters": 5}]}, "tools[0].parameters", "invalid_value"),
    ({"tools": [{"type": 5}]}, "tools[0].type", "invalid_value"),
    ({"tools": [{"type": "custom"}]}, "tools[0].name", "missing_field"),
    ({"tools": [{**PATCH, "description": 5}]}, "tools[0].description", "invalid_value"),
    ({"tools": [{**PATCH, "format": {"type": "grammar", "syntax": "x"}}]}, "tools[0].format.syntax", "invalid_value"),
    ({"tools": [{**PATCH, "format": {"type": "grammar", "syntax": "lark"}}]}, "tools[0].format.definition", "invalid_value"),
    ({"tools": [{**PATCH, "format": {"type": "x"}}]}, "tools[0].format.type", "invalid_value"),
    ({"tools": [{"type": "namespace", "name": "n"}]}, "tools[0].tools", "invalid_value"),
    ({"tools": [{"type": "namespace", "tools": []}]}, "tools[0].name", "missing_field"),
    (
        {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}]},
        "tools[0].tools[0].type",
        "unsupported_feature",
    ),
    ({"tools": [{"type": "namespace", "name": "n", "tools": [{}]}]}, "tools[0].tools[0].name", "missing_field"),
    ({"tools": [F], "tool_choice": "some"}, "tool_choice", "invalid_value"),
    ({"tools": [F], "tool_choice": 5}, "tool_choice", "invalid_value"),
    ({"tools": [F], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice.name", "invalid_value"),
    ({"tools": [F], "tool_choice": {"type": "function"}}, "tool_choice.name", "missing_field"),
    ({"tools": [F], "tool_choice": {"type": "web_search_preview"}}, "tool_choice.type", "unsupported_feature"),
    (
        {"tools": [{"type": "mcp"}], "tool_choice": {"type": "mcp", "server_label": "x"}},
        "tool_choice.type",
        "unsupported_feature",
    ),
    ({"tools": [F], "tool_choice": {"type": "allowed_tools", "mode": "x"}}, "tool_choice.mode", "invalid_value"),
    ({"tools": [F], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.tools", "invalid_value"),
    (
        {"tools": [F], "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "g"}]}},
        "tool_choice.tools[0].name",
        "invalid_value",
    ),
    (
        {"tools": [F], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}},
        "tool_choice.tools",
        "unsupported_feature",
    ),
]


@pytest.mark.parametrize(("fields", "param", "code"), REFUSED_TOOLS, ids=[f"{n} {row[1]}" for n, row in enumerate(REFUSED_TOOLS)])
def test_a_tool_or_choice_that_is_none_is_named(fields, param, code):
    error = refusal(**fields)
    assert (error.param, error.code) == (param, code)


def test_a_type_of_any_length_is_disclosed_shortly():
    (name,) = load(tools=[{"type": "x" * 100_000}]).chat.dropped
    assert len(name) < 100


# --- everything else ---------------------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FIELDS = [
    ({"max_output_tokens": 100}, {"max_output_tokens": 100}),
    ({"max_output_tokens": -1}, {"max_output_tokens": None}),
    ({"reasoning": {"effort": "xhigh", "summary": "auto"}}, {"reasoning_effort": "high"}),
    ({"reasoning": {"summary": "detailed"}}, {"reasoning_effort": None}),
    ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
    ({"stream": True}, {"stream": True, "include_usage": True}),
    ({"project_id": "p"}, {"project_id": "p"}),
    ({"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}}, {"needs": {"json_schema"}}),
    ({"text": {"format": {"type": "json_object"}}}, {"needs": {"json_mode"}}),
    ({"input": [user({"type": "input_image", "image_url": "https://x.org/y.png"})]}, {"needs": {"vision", "image_urls"}}),
    ({"store": True}, {"dropped": ("store",)}),
    ({"truncation": "auto"}, {"dropped": ("truncation",)}),
    ({"truncation": "disabled", "store": False, "n": 1}, {"dropped": ()}),
    ({"n": 2}, {"dropped": ("n",)}),
    (
        {"moderation": {"model": "x"}, "context_management": [{"type": "compaction"}]},
        {"dropped": ("moderation", "context_management")},
    ),
]


@pytest.mark.parametrize(("fields", "attributes"), FIELDS, ids=[str(row[0])[:60] for row in FIELDS])
def test_fields_become_what_a_chat_has_for_them(fields, attributes):
    chat = load(**fields).chat
    assert {name: getattr(chat, name) for name in attributes} == attributes


BODIES = [
    (
        {"temperature": 0, "top_p": 0.5, "seed": 5, "stop": ["x"], "user": "u"},
        {"temperature": 0, "top_p": 0.5, "seed": 5, "stop": ["x"], "user": "u"},
    ),
    ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
    ({"text": {"format": {"type": "text"}}}, {}),
    (
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}},
    ),
    ({"include": ["message.output_text.logprobs", "reasoning.encrypted_content"]}, {"logprobs": True}),
    ({"include": ["reasoning.encrypted_content"]}, {}),
    ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    ({"top_logprobs": 0}, {}),
    ({"tools": [F], "parallel_tool_calls": False}, {"tools": [FUNCTION], "parallel_tool_calls": False}),
    ({"service_tier": "flex", "top_k": 5}, {"service_tier": "flex", "top_k": 5}),
    (
        {
            "metadata": {"a": "b"},
            "prompt_cache_key": "k",
            "safety_identifier": "s",
            "stream_options": {"include_obfuscation": False},
            "client_metadata": {"x": "y"},
            "prompt_cache_retention": "24h",
            "max_tool_calls": 3,
            "instructions": None,
        },
        {},
    ),
]


@pytest.mark.parametrize(("fields", "body"), BODIES, ids=[str(row[0])[:60] for row in BODIES])
def test_a_chat_is_told_what_it_can_be_told(fields, body):
    chat = load(**fields).chat
    assert {name: value for name, value in chat.body.items() if name != "messages"} == body


def test_the_body_that_was_sent_is_left_as_it_is():
    body = {"input": [user({"type": "input_text", "text": "x"})], "tools": [F, PATCH], "text": {"format": {"type": "text"}}}
    before = json.dumps(body)
    load_response(body, {})
    assert json.dumps(body) == before


def test_the_answer_repeats_what_was_asked_with_the_defaults():
    echo = load(metadata={"a": "b"}, temperature=0.5, user="u", reasoning={"effort": "low", "summary": "auto"}).echo
    assert (echo["metadata"], echo["temperature"], echo["user"]) == ({"a": "b"}, 0.5, "u")
    assert echo["reasoning"] == {"effort": "low", "summary": "auto"}
    assert (echo["top_p"], echo["tool_choice"], echo["tools"], echo["truncation"]) == (1.0, "auto", [], "disabled")
    assert echo["text"] == {"format": {"type": "text"}, "verbosity": "medium"}
    assert load(store=True).echo["store"] is False


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [], "input": None}, "messages"),
        ({"response_format": {"type": "text"}}, "response_format"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"functions": []}, "functions"),
    ],
)
def test_names_of_the_other_api_are_refused_with_the_one_here(fields, param):
    error = refusal(**fields)
    assert error.param == param and "is called `" in error.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"instructions": ["x"]}, "instructions"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": "x"}, "metadata"),
        ({"include": "x"}, "include"),
        ({"truncation": "some"}, "truncation"),
        ({"reasoning": "low"}, "reasoning"),
        ({"reasoning": {"effort": "some"}}, "reasoning.effort"),
        ({"reasoning": {"effort": ["low"]}}, "reasoning.effort"),
        ({"reasoning": {"summary": "some"}}, "reasoning.summary"),
        ({"text": "x"}, "text"),
        ({"text": {"verbosity": "some"}}, "text.verbosity"),
        ({"text": {"format": "json"}}, "text.format"),
        ({"text": {"format": {}}}, "text.format.type"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": 5}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}, "text.format.name"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_field_that_is_wrong_is_named(fields, param):
    assert refusal(**fields).param == param


# --- recorded bodies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_clients_send_is_understood(path):
    recorded = json.loads(path.read_text())
    chat = load_response(recorded["body"], {}).chat
    assert [message["role"] for message in chat.messages] == recorded["roles"]
    assert [tool["function"]["name"] for tool in chat.body.get("tools", ())] == recorded["functions"]
    assert list(chat.dropped) == recorded["dropped"]
