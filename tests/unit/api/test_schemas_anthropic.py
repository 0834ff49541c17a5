"""Requests of the Messages API in canonical form, and errors that name its fields."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.api.schemas import load_message_request
from gateway.domain import ChatRequest
from gateway.errors import InvalidRequest
from gateway.surfaces.messages import Terms

PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PNG_URL = "data:image/png;base64,iVBORw0KGgo="
IMAGE = {"type": "image", "source": PNG}
IMAGE_PART = {"type": "image_url", "image_url": {"url": PNG_URL}}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
CALL = {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
TOOL = {"name": "weather", "description": "d", "input_schema": {"type": "object", "properties": {}}}
FUNCTION = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": TOOL["input_schema"]}}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if content and isinstance(content[0], str) else list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {**user(*content), "role": "assistant"}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def result(content: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", **({} if content is None else {"content": content}), **more}


def load(headers=None, **fields) -> tuple[ChatRequest, Terms]:
    body = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": [user("hi")], **fields}
    before = copy.deepcopy(body)
    loaded = load_message_request(body, headers or {})
    assert body == before
    return loaded


def messages(*sent: Any, **fields: Any) -> Any:
    return load(messages=list(sent), **fields)[0].messages


def left(**fields: Any) -> dict[str, Any]:
    """What the request leaves for the model, but for the messages."""
    return {name: value for name, value in load(**fields)[0].body.items() if name != "messages"}


def refusal(**fields: Any) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequest) as caught:
        load(**fields)
    assert caught.value.message.startswith(f"`{caught.value.param}` ")
    return caught.value.param, caught.value.code


# --- the conversation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (None, None),
        ("", None),
        ([], None),
        ("Be terse.", "Be terse."),
        ([text("One.", cache_control={"type": "ephemeral", "ttl": "1h"}), text(""), text("Two.")], "One.\n\nTwo."),
        ([text("x-anthropic-billing-header: cc_version=2.1.197.1c0; cc_entrypoint=cli;"), text("You are.")], "You are."),
    ],
)
def test_the_system_prompt_is_the_first_message(system, expected):
    sent = messages(user("hi"), system=system)
    assert sent == [*([{"role": "system", "content": expected}] if expected else []), {"role": "user", "content": "hi"}]


def part(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def said(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("sent", "canonical"),
    [
        ([user("hi")], [said("hi")]),
        ([user(text("hi", cache_control={"type": "ephemeral"}))], [said("hi")]),
        ([user(text("a"), text(""), text("b"))], [said([part("a"), part("b")])]),
        ([user()], [said("")]),
        ([user("a"), user("b")], [said([part("a"), part("b")])]),
        ([user("a"), assistant("b"), user("c")], [said("a"), {"role": "assistant", "content": "b"}, said("c")]),
        ([user("a"), assistant("b"), assistant("c"), user("d")], [said("a"), {"role": "assistant", "content": "bc"}, said("d")]),
        ([user(text("see"), IMAGE)], [said([part("see"), IMAGE_PART])]),
        ([user({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}})], [said("words")]),
        (
            [user({"type": "document", "title": "T", "context": "C", "source": {"type": "text", "data": "words"}})],
            [said([part("Title: T\nContext: C"), part("words")])],
        ),
        (
            [user({"type": "document", "source": {"type": "content", "content": [text("a"), IMAGE]}})],
            [said([part("a"), IMAGE_PART])],
        ),
        ([user({"type": "document", "source": {"type": "content", "content": "a"}})], [said("a")]),
        (
            [user({"type": "search_result", "title": "T", "source": "https://x", "content": [text("a"), text("b")]})],
            [said("T\nhttps://x\na\nb")],
        ),
    ],
)
def test_a_users_blocks_are_parts(sent, canonical):
    assert messages(*sent) == canonical


CALLED = [said("q"), {"role": "assistant", "content": None, "tool_calls": [CALL]}]


@pytest.mark.parametrize(
    ("turn", "canonical"),
    [
        ([result()], [{"content": ""}]),
        ([result("sunny")], [{"content": "sunny"}]),
        ([result([])], [{"content": ""}]),
        ([result([text("a"), text("b")])], [{"content": "a\nb"}]),
        ([result("no such city", is_error=True)], [{"content": "Error: no such city"}]),
        ([result("Error: no such city", is_error=True)], [{"content": "Error: no such city"}]),
        ([result("<tool_use_error>no</tool_use_error>", is_error=True)], [{"content": "<tool_use_error>no</tool_use_error>"}]),
        ([result([{"type": "tool_reference", "tool_name": "Edit"}])], [{"content": "The tool Edit is available."}]),
        ([result("sunny"), text("and now?")], [{"content": "sunny"}, said("and now?")]),
        ([text("before"), result("sunny")], [{"content": "sunny"}, said("before")]),
        (
            [result([text("shot"), IMAGE]), text("look")],
            [
                {"content": "shot\n(Its 1 image(s) follow in the next message.)"},
                said([part("From the tool result toolu_1:"), IMAGE_PART, part("look")]),
            ],
        ),
    ],
)
def test_results_go_before_what_the_user_says(turn, canonical):
    head = {"role": "tool", "tool_call_id": "toolu_1"}
    expected = [entry if "role" in entry else {**head, **entry} for entry in canonical]
    assert messages(user("q"), assistant(USE), user(*turn)) == [*CALLED, *expected]


def test_results_of_messages_that_follow_one_another_stay_together():
    second = {**USE, "id": "toolu_2"}
    turns = [user(result("a"), text("x")), user({**result("b"), "tool_use_id": "toolu_2"})]
    sent = messages(user("q"), assistant(USE, second), *turns)
    assert [(message["role"], message.get("tool_call_id")) for message in sent[2:]] == [
        ("tool", "toolu_1"),
        ("tool", "toolu_2"),
        ("user", None),
    ]


THINKING = {"type": "thinking", "thinking": "hm", "signature": "abc"}


@pytest.mark.parametrize(
    ("content", "canonical"),
    [
        ([text("a"), USE], {"content": "a", "tool_calls": [CALL]}),
        ([USE], {"content": None, "tool_calls": [CALL]}),
        ([{**USE, "input": {}}], {"content": None, "tool_calls": [{**CALL, "function": {"name": "weather", "arguments": "{}"}}]}),
        ([THINKING, {"type": "redacted_thinking", "data": "x"}, text("a")], {"content": "a"}),
        ([text("a", citations=None), text("b")], {"content": "ab"}),
        (
            [
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                text("found"),
            ],
            {"content": "found"},
        ),
        ([{"type": "compaction", "content": "so far"}], {"content": "so far"}),
        (
            [{**USE, "cache_control": {"type": "ephemeral"}, "caller": {"type": "direct"}}],
            {"content": None, "tool_calls": [CALL]},
        ),
    ],
)
def test_an_assistants_blocks_are_text_and_calls(content, canonical):
    assert messages(user("q"), assistant(*content), user("next"))[1] == {"role": "assistant", **canonical}


def test_a_turn_of_thoughts_alone_is_left_out():
    assert messages(user("q"), assistant(THINKING), user("go on")) == [said("q"), said("go on")]


def test_what_the_operator_says_in_between_is_a_note_to_the_users_turn():
    sent = messages(user("a"), {"role": "system", "content": "Agents: x"}, assistant("b"), user("c"))
    assert sent[0] == said([part("a"), part("<system-reminder>\nAgents: x\n</system-reminder>")])
    first = messages({"role": "system", "content": [text("Be terse.")]}, user("a"), system="You are.")
    assert first == [{"role": "system", "content": "You are.\n\nBe terse."}, said("a")]


@pytest.mark.parametrize(
    ("last", "prefill"),
    [
        (user("x"), ""),
        (assistant("The answer is ("), "The answer is ("),
        (assistant(text("The answer"), text(" is (")), "The answer is ("),
        (assistant(THINKING), ""),
        (assistant(text("a"), USE), ""),
    ],
)
def test_a_last_turn_of_the_assistants_is_the_beginning_of_its_answer(last, prefill):
    assert load(messages=[user("q"), last])[1].prefill == prefill


@pytest.mark.parametrize(
    ("content", "needs"),
    [
        ([IMAGE], {"vision"}),
        ([{"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}], {"vision", "image_urls"}),
        ([text("a")], set()),
    ],
)
def test_images_need_models_that_see(content, needs):
    assert load(messages=[user(*content)])[0].needs == needs
    shown = load(messages=[user("q"), assistant(USE), user(result(content))])[0]
    assert shown.needs == needs


@pytest.mark.parametrize(
    ("sent", "param", "code"),
    [
        (None, "messages", "missing_field"),
        ("hi", "messages", "invalid_value"),
        ([], "messages", "invalid_value"),
        ([assistant(THINKING)], "messages", "invalid_value"),
        (["hi"], "messages[0]", "invalid_value"),
        ([{"content": "x"}], "messages[0].role", "missing_field"),
        ([{"role": "tool", "content": "x"}], "messages[0].role", "invalid_value"),
        ([{"role": "user"}], "messages[0].content", "missing_field"),
        ([{"role": "user", "content": 3}], "messages[0].content", "invalid_value"),
        ([user("a"), user(3)], "messages[1].content[0]", "invalid_value"),
        ([user({"text": "x"})], "messages[0].content[0].type", "missing_field"),
        ([user({"type": 3})], "messages[0].content[0].type", "invalid_value"),
        ([user(text("a"), {"type": "video"})], "messages[0].content[1].type", "unsupported_feature"),
        ([user({"type": "text"})], "messages[0].content[0].text", "missing_field"),
        ([user({"type": "text", "text": 3})], "messages[0].content[0].text", "invalid_value"),
        ([user({"type": "image"})], "messages[0].content[0].source", "missing_field"),
        (
            [user({"type": "image", "source": {"type": "file", "file_id": "f"}})],
            "messages[0].content[0].source.type",
            "unsupported_feature",
        ),
        ([user({"type": "image", "source": {**PNG, "data": 1}})], "messages[0].content[0].source.data", "invalid_value"),
        (
            [user({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}})],
            "messages[0].content[0].source.type",
            "unsupported_feature",
        ),
        ([user({"type": "document"})], "messages[0].content[0].source", "missing_field"),
        ([user({"type": "document", "source": {"type": "text"}})], "messages[0].content[0].source.data", "missing_field"),
        ([user({"type": "tool_result"})], "messages[0].content[0].tool_use_id", "missing_field"),
        ([user(result([{"type": "video"}]))], "messages[0].content[0].content[0].type", "unsupported_feature"),
        ([user(result(3))], "messages[0].content[0].content", "invalid_value"),
        ([user("a"), assistant({**USE, "id": None})], "messages[1].content[0].id", "missing_field"),
        ([user("a"), assistant({**USE, "name": ""})], "messages[1].content[0].name", "invalid_value"),
        ([user("a"), assistant({**USE, "input": "{}"})], "messages[1].content[0].input", "invalid_value"),
        ([user("a"), assistant(IMAGE)], "messages[1].content[0].type", "unsupported_feature"),
        ([user("a"), {"role": "system", "content": [IMAGE]}], "messages[1].content[0].type", "invalid_value"),
    ],
)
def test_an_error_names_the_block(sent, param, code):
    assert refusal(messages=sent) == (param, code)


def test_a_system_prompt_is_text():
    assert refusal(system=[IMAGE]) == ("system[0].type", "invalid_value")
    assert refusal(system=3) == ("system", "invalid_value")


# --- tools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "function"),
    [
        (TOOL, FUNCTION),
        ({**TOOL, "type": "custom", "cache_control": {"type": "ephemeral"}, "eager_input_streaming": True}, FUNCTION),
        ({**TOOL, "strict": True}, {"type": "function", "function": {**FUNCTION["function"], "strict": True}}),  # type: ignore[dict-item]
        (FUNCTION, FUNCTION),
    ],
)
def test_a_tool_is_a_function(tool, function):
    chat, _ = load(tools=[tool])
    assert chat.body["tools"] == [function] and chat.needs == {"tools"}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, {}),
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "weather"}, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"tool_choice": "auto", "parallel_tool_calls": False}),
        ({"type": "auto", "disable_parallel_tool_use": False}, {"tool_choice": "auto"}),
    ],
)
def test_a_choice_is_in_openais_words(choice, expected):
    assert left(tools=[TOOL], tool_choice=choice) == {"tools": [FUNCTION], **expected}


def test_tools_of_anthropics_own_are_left_out_and_named():
    bash = {"type": "bash_20250124", "name": "bash"}
    chat, _ = load(tools=[SEARCH, TOOL, bash, {"type": "computer_toolset_20260801"}], tool_choice={"type": "auto"})
    assert chat.body["tools"] == [FUNCTION]
    assert chat.dropped == ("tools.web_search", "tools.bash", "tools.computer_toolset_20260801")
    alone, _ = load(tools=[SEARCH], tool_choice={"type": "any"})
    assert "tools" not in alone.body and "tool_choice" not in alone.body and not alone.needs


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tools": {}}, "tools", "invalid_value"),
        ({"tools": ["x"]}, "tools[0]", "invalid_value"),
        ({"tools": [TOOL, {"type": 3}]}, "tools[1].type", "invalid_value"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].input_schema", "missing_field"),
        ({"tools": [SEARCH, {"input_schema": {}}]}, "tools[1].name", "missing_field"),
        ({"tools": [{"name": "x", "input_schema": []}]}, "tools[0].input_schema", "invalid_value"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice.name", "invalid_value"),
        (
            {"tools": [SEARCH, TOOL], "tool_choice": {"type": "tool", "name": "web_search"}},
            "tool_choice.name",
            "unsupported_feature",
        ),
        ({"tools": [TOOL], "tool_choice": "auto"}, "tool_choice", "invalid_value"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}},
            "tool_choice.disable_parallel_tool_use",
            "invalid_value",
        ),
    ],
)
def test_a_wrong_tool_is_named(fields, param, code):
    assert refusal(**fields) == (param, code)


# --- the other fields ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 40}, {"temperature": 0.5, "top_p": 0.9, "top_k": 40}),
        ({"temperature": None, "tools": None, "stop_sequences": None}, {}),
        ({"stop_sequences": ["END", ""]}, {"stop": ["END"]}),
        ({"stop_sequences": []}, {}),
        ({"metadata": {"user_id": "u1"}}, {"user": "u1"}),
        ({"metadata": {}}, {}),
        ({"metadata": {"user_id": None}}, {}),
        ({"service_tier": "auto", "betas": ["x"], "cache_control": {"type": "ephemeral"}}, {}),
    ],
)
def test_what_models_take_is_passed_on(fields, expected):
    assert left(**fields) == expected and load(**fields)[0].dropped == ()


def test_a_long_name_of_a_user_is_hashed():
    name = '{"device_id":"' + "a" * 64 + '"}'
    hashed = left(metadata={"user_id": name})["user"]
    assert (
        len(hashed) == 64 and hashed == left(metadata={"user_id": name})["user"] != left(metadata={"user_id": name + "b"})["user"]
    )


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}, ()),
        ({"context_management": {"edits": []}}, ()),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, ("context_management",)),
        ({"mcp_servers": [{"type": "url"}], "container": "c"}, ("mcp_servers", "container")),
        ({"mcp_servers": None}, ()),
    ],
)
def test_what_nobody_could_do_is_named(fields, dropped):
    assert load(**fields)[0].dropped == dropped and left(**fields) == {}


@pytest.mark.parametrize(("sent", "limit"), [(None, None), (-1, None), (0, 1), (1, 1), (64000, 64000), (100.0, 100)])
def test_the_limit_on_the_answer(sent, limit):
    assert load(max_tokens=sent)[0].max_output_tokens == limit


ENABLED = {"type": "enabled", "budget_tokens": 10000}


@pytest.mark.parametrize(
    ("fields", "effort", "shows"),
    [
        ({}, None, False),
        ({"thinking": {"type": "disabled"}}, "none", False),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low", True),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "low", True),
        ({"thinking": ENABLED}, "medium", True),
        ({"thinking": {"type": "enabled", "budget_tokens": 31999}}, "high", True),
        ({"thinking": {"type": "enabled"}}, None, True),
        ({"thinking": {"type": "adaptive"}}, None, True),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, None, False),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, "high", True),
        ({"thinking": ENABLED, "output_config": {"effort": "low"}}, "low", True),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, "none", False),
        ({"output_config": {"effort": "medium"}}, "medium", False),
        ({"output_config": {"effort": "medium"}, "reasoning_effort": "minimal"}, "minimal", False),
    ],
)
def test_thinking_is_a_reasoning_effort(fields, effort, shows):
    chat, terms = load(**fields)
    assert (chat.reasoning_effort, terms.shows_thoughts) == (effort, shows) and left(**fields) == {}


FORMAT = {"type": "json_schema", "schema": {"type": "object"}}


@pytest.mark.parametrize("fields", [{"output_config": {"format": FORMAT}}, {"output_format": FORMAT}])
def test_a_schema_for_the_answer(fields):
    chat, _ = load(**fields)
    expected = {"type": "json_schema", "json_schema": {"name": "response", "schema": {"type": "object"}}}
    assert chat.body["response_format"] == expected and chat.needs == {"json_schema"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": "many"}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_k": 0.5}, "top_k"),
        ({"stream": "yes"}, "stream"),
        ({"stop_sequences": [1]}, "stop_sequences[0]"),
        ({"thinking": "on"}, "thinking"),
        ({"thinking": {"type": 3}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "enormous"}}, "output_config.effort"),
        ({"output_config": {"format": "json"}}, "output_config.format"),
        ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type"),
        ({"output_format": {"type": "json_schema", "schema": 3}}, "output_format.schema"),
        ({"metadata": {"user_id": 3}}, "metadata.user_id"),
        ({"model": 3}, "model"),
    ],
)
def test_a_wrong_field_is_named(fields, param):
    assert refusal(**fields) == (param, "invalid_value")


def test_models_and_the_gateways_own_fields_are_as_in_chats():
    headers = {"x-gateway-force-provider": "groq", "x-gateway-project-id": "p1"}
    chat, _ = load(headers, model=None, models=["a", "b"], min_reasoning_level="low")
    assert chat.choice.names == ("a", "b") and chat.choice.min_reasoning_level == "low"
    assert (chat.choice.force_provider, chat.project_id) == ("groq", "p1")
    assert load(model=None)[0].choice.names == ("auto",)


def test_usage_is_always_asked_for():
    assert [load(stream=stream)[0].include_usage for stream in (False, True)] == [True, True]


def test_the_estimate_counts_all_of_the_prompt():
    least = load()[0].prompt_tokens
    words = "many words " * 100
    for fields in (
        {"system": words},
        {"tools": [{**TOOL, "description": words}]},
        {"messages": [user("hi"), assistant({**USE, "input": {"q": words}}), user(result("x"))]},
        {"messages": [user("hi"), assistant(USE), user(result(words))]},
        {"output_config": {"format": {"type": "json_schema", "schema": {"description": words}}}},
    ):
        chat, terms = load(**fields)
        assert chat.prompt_tokens == terms.prompt_tokens > least + 200
    assert load(messages=[user(IMAGE)])[0].prompt_tokens > least + 900


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4), st.sampled_from(["text", "image", "tool_result"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["type", "text", "content", "source", "role", "input", "id", "name", "tool_use_id", "data"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
FIELDS = ["messages", "system", "tools", "tool_choice", "thinking", "output_config", "metadata", "stop_sequences", "max_tokens"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(field=st.sampled_from(FIELDS), value=ANYTHING, role=st.sampled_from(["user", "assistant", "system"]))
def test_nothing_that_a_client_sends_breaks_the_reading(field, value, role):
    for sent in (value, [value], [{"role": role, "content": value}], [{"role": role, "content": [value]}]):
        try:
            load(**{field: sent})
        except InvalidRequest as error:
            assert error.param
