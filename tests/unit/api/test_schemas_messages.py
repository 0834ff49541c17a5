import json

import pytest

from gateway.api.schemas import load_chat
from gateway.errors import InvalidRequest

PNG = "data:image/png;base64,iVBORw0KGgo="
USER = {"role": "user", "content": "hello"}


def messages_of(body):
    return load_chat(body, {}).messages


def load(*messages):
    return messages_of({"messages": list(messages)})


def content_of(content, role="user"):
    return load({"role": role, "content": content})[0]["content"]


def refusal_of(body):
    with pytest.raises(InvalidRequest) as caught:
        load_chat(body, {})
    assert caught.value.message.startswith(f"`{caught.value.param}` ")
    return caught.value.param, caught.value.code


def refusal(*messages):
    return refusal_of({"messages": list(messages)})


def call(call_id="call_a", name="weather", arguments="{}", **more):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def calling(*calls, content=None, **more):
    return {"role": "assistant", "content": content, "tool_calls": list(calls), **more}


def result(call_id=None, content="sunny", **more):
    return {"role": "tool", "content": content, **({} if call_id is None else {"tool_call_id": call_id}), **more}


# --- where the conversation stands ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [USER]},
        {"prompt": "hello"},
        {"prompt": ["hello"]},
        {"input": "hello"},
        {"input": [{"role": "user", "content": "hello"}]},
        {"input": [{"type": "message", "id": "msg_1", "status": "completed", "role": "user", "content": "hello"}]},
        {"messages": [USER], "prompt": 5, "input": 5},
        {"messages": None, "prompt": "hello"},
    ],
)
def test_prompt_and_input_stand_in_for_messages(body):
    request = load_chat(body, {})
    assert request.body == {"messages": [USER]}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "messages", "missing_field"),
        ({"messages": None}, "messages", "missing_field"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": {}}, "messages", "invalid_value"),
        ({"messages": "hello"}, "messages", "invalid_value"),
        ({"prompt": ["a", "b"]}, "prompt", "invalid_value"),
        ({"prompt": []}, "prompt", "invalid_value"),
        ({"prompt": [1, 2]}, "prompt", "invalid_value"),
        ({"input": 5}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a"]}, "input[0]", "invalid_value"),
        ({"input": [{"role": "user"}]}, "input[0].content", "missing_field"),
        ({"input": [{"type": "something_else"}]}, "input[0].type", "unsupported_feature"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id", "unsupported_feature"),
        ({"input": "hello", "instructions": ["Be terse."]}, "instructions", "invalid_value"),
    ],
)
def test_a_conversation_that_is_none_is_refused(body, param, code):
    assert refusal_of(body) == (param, code)


# --- roles and content ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        USER,
        {"role": "system", "content": ""},
        {"role": "developer", "content": "be brief", "name": "dev"},
        {"role": "assistant", "content": "hi", "refusal": None, "annotations": [], "reasoning_content": "hm", "audio": None},
        {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}]},
        calling(call(extra_content={"google": {"thought_signature": "x"}})),
        {"role": "assistant", "tool_calls": [call()]},
    ],
)
def test_a_message_in_canonical_form_stays_the_same_object(message):
    assert load(message)[0] is message


@pytest.mark.parametrize(
    ("content", "loaded"),
    [
        (None, ""),
        ([], ""),
        (["a", {"type": "text", "text": "b"}], [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        ([{"type": "input_text", "text": "a"}], [{"type": "text", "text": "a"}]),
        ([{"type": "output_text", "text": "a", "annotations": []}], [{"type": "text", "text": "a"}]),
        ([{"type": "refusal", "refusal": "no"}], [{"type": "text", "text": "no"}]),
        ([{"type": "text", "text": None}], [{"type": "text", "text": ""}]),
        ([{"type": "image_url", "image_url": PNG}], [{"type": "image_url", "image_url": {"url": PNG}}]),
        (
            [{"type": "input_image", "image_url": "https://a.b/c", "detail": "low"}],
            [{"type": "image_url", "image_url": {"url": "https://a.b/c", "detail": "low"}}],
        ),
        (
            [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}],
            [{"type": "image_url", "image_url": {"url": PNG}}],
        ),
        (
            [{"type": "image", "source": {"type": "url", "url": "https://a.b/c"}}],
            [{"type": "image_url", "image_url": {"url": "https://a.b/c"}}],
        ),
    ],
)
def test_content_of_every_dialect_becomes_openais(content, loaded):
    assert content_of(content) == loaded


@pytest.mark.parametrize("message", [{"role": "assistant"}, {"role": "assistant", "content": None, "tool_calls": None}])
def test_an_assistant_that_said_nothing_has_empty_content(message):
    assert load(USER, message)[1] == {"role": "assistant", "content": ""}


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png?b=c",
        "http://example.com",
        "HTTPS://example.com/a",
        "data:image/svg+xml;base64,AAAA",
        "data:image/jpeg;charset=utf-8;base64,AAAA",
        "DATA:IMAGE/PNG;BASE64,AAAA",
    ],
)
def test_an_image_comes_by_a_web_or_a_data_url(url):
    assert content_of([{"type": "image_url", "image_url": {"url": url}}])[0]["image_url"]["url"] == url


@pytest.mark.parametrize(
    "url",
    [
        *("", "ftp://a.b/c", "file:///etc/passwd", "https://", "https:///x", "http://a b", "iVBORw0KGgo="),
        *("data:text/plain;base64,AAAA", "data:image/png,AAAA", "data:image/png;base64,", "data:image/;base64,AA"),
        *(5, [], {}),
    ],
)
def test_another_url_of_an_image_is_refused(url):
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
    assert refusal(USER, message) == ("messages[1].content[0].image_url.url", "invalid_value")


@pytest.mark.parametrize(
    ("message", "place", "code"),
    [
        ("hello", "", "invalid_value"),
        (None, "", "invalid_value"),
        ({"content": "hello"}, ".role", "missing_field"),
        ({"role": None, "content": "hello"}, ".role", "missing_field"),
        ({"role": "robot", "content": "hello"}, ".role", "invalid_value"),
        ({"role": ["user"], "content": "hello"}, ".role", "invalid_value"),
        ({"role": "User", "content": "hello"}, ".role", "invalid_value"),
        ({"role": "user"}, ".content", "missing_field"),
        ({"role": "system"}, ".content", "missing_field"),
        ({"role": "user", "content": 5}, ".content", "invalid_value"),
        ({"role": "user", "content": {"type": "text", "text": "a"}}, ".content", "invalid_value"),
        ({"role": "user", "content": [5]}, ".content[0]", "invalid_value"),
        ({"role": "user", "content": ["a", {}]}, ".content[1].type", "missing_field"),
        ({"role": "user", "content": [{"type": {}}]}, ".content[0].type", "invalid_value"),
        ({"role": "user", "content": [{"type": "text"}]}, ".content[0].text", "missing_field"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, ".content[0].text", "invalid_value"),
        ({"role": "assistant", "content": [{"type": "refusal"}]}, ".content[0].refusal", "missing_field"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, ".content[0].type", "unsupported_feature"),
        ({"role": "user", "content": [{"type": "file", "file": {}}]}, ".content[0].type", "unsupported_feature"),
        ({"role": "user", "content": [{"type": "video_url"}]}, ".content[0].type", "unsupported_feature"),
        ({"role": "user", "content": [{"type": "image_url"}]}, ".content[0].image_url", "missing_field"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ".content[0].image_url.url", "missing_field"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, ".content[0].image_url", "invalid_value"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, ".content[0].file_id", "unsupported_feature"),
        ({"role": "user", "content": [{"type": "image"}]}, ".content[0].source", "missing_field"),
        ({"role": "user", "content": [{"type": "image", "source": []}]}, ".content[0].source", "invalid_value"),
        (
            {"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]},
            ".content[0].source.type",
            "unsupported_feature",
        ),
        (
            {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png"}}]},
            ".content[0].source.data",
            "invalid_value",
        ),
        (
            {"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]},
            ".content[0].type",
            "unsupported_feature",
        ),
    ],
)
def test_a_message_that_cannot_be_served_names_its_place(message, place, code):
    assert refusal(USER, message) == (f"messages[1]{place}", code)


def test_an_unknown_role_is_told_which_there_are():
    with pytest.raises(InvalidRequest, match="system, developer, user, assistant, tool, function"):
        load({"role": "robot", "content": "hello"})


# --- tool calls ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "loaded"),
    [
        (call(), call()),
        ({"id": "call_a", "function": {"name": "weather", "arguments": "{}"}}, call()),
        ({"id": "call_a", "type": None, "name": "weather", "arguments": "{}"}, call()),
        (call(arguments=None), call()),
        (call(arguments=""), call()),
        (call(arguments={"city": "Zürich"}), call(arguments='{"city":"Zürich"}')),
        (call(arguments={}), call()),
        (call(arguments="not JSON"), call(arguments="not JSON")),
        (call(call_id=None), call("call_1_0")),
        (call(call_id=""), call("call_1_0")),
        (call(index=0), call(index=0)),
    ],
)
def test_a_tool_call_of_every_dialect_becomes_openais(sent, loaded):
    assert load(USER, calling(sent), result(loaded["id"]))[1] == calling(loaded)


@pytest.mark.parametrize(
    ("calls", "place", "code"),
    [
        ("x", "", "invalid_value"),
        ({"id": "a"}, "", "invalid_value"),
        ([call()] * 129, "", "invalid_value"),
        (["x"], "[0]", "invalid_value"),
        ([call(), {"id": "b", "type": "custom", "custom": {}}], "[1].type", "unsupported_feature"),
        ([call(call_id=5)], "[0].id", "invalid_value"),
        ([{"id": "a"}], "[0].name", "missing_field"),
        ([{"id": "a", "function": {}}], "[0].function.name", "missing_field"),
        ([{"id": "a", "function": None}], "[0].function", "invalid_value"),
        ([call(name="")], "[0].function.name", "invalid_value"),
        ([call(name=5)], "[0].function.name", "invalid_value"),
        ([call(arguments=[1])], "[0].function.arguments", "invalid_value"),
        ([call(arguments=5)], "[0].function.arguments", "invalid_value"),
        ([call(arguments={"a": "\ud83d", "b": float("inf")})], "[0].function.arguments", "invalid_value"),
    ],
)
def test_a_wrong_tool_call_is_refused(calls, place, code):
    assert refusal({"role": "assistant", "tool_calls": calls}) == (f"messages[0].tool_calls{place}", code)


@pytest.mark.parametrize("calls", [[], None])
@pytest.mark.parametrize("function_call", [{}, {"function_call": None}])
def test_an_empty_list_of_calls_is_left_out(calls, function_call):
    message = {"role": "assistant", "content": "hi", "tool_calls": calls, **function_call}
    assert load(message) == [{"role": "assistant", "content": "hi"}]


@pytest.mark.parametrize(
    ("messages", "answered"),
    [
        ([calling(call("a")), result("a")], ["a"]),
        ([calling(call("a"), call("b")), result("b"), result("a")], ["b", "a"]),
        # left out by the client: the only one, by order, by name
        ([calling(call("a")), result()], ["a"]),
        ([calling(call("a")), result("")], ["a"]),
        ([calling(call("a"), call("b")), result(), result()], ["a", "b"]),
        ([calling(call("a"), call("b")), result("a"), result()], ["a", "b"]),
        ([calling(call("a"), call("b", "time")), result(name="time"), result(name="weather")], ["b", "a"]),
        # calls without ids
        ([calling(call(None), call(None)), result(), result()], ["call_0_0", "call_0_1"]),
        ([calling(call(None), call(None)), result("own_1"), result("own_2")], ["call_0_0", "call_0_1"]),
        ([calling(call("a"), call(None)), result("own"), result("a")], ["call_0_1", "a"]),
        # several rounds
        ([calling(call(None)), result(), USER, calling(call(None)), result()], ["call_0_0", "call_3_0"]),
        ([calling(call("a")), calling(call("b")), result()], ["b"]),
        # of a call cut from the history
        ([USER, result("gone")], ["gone"]),
        ([calling(call("a")), result("gone"), result("a")], ["gone", "a"]),
    ],
)
def test_results_are_matched_with_their_calls(messages, answered):
    loaded = load(*messages)
    assert [message["tool_call_id"] for message in loaded if message["role"] == "tool"] == answered


def test_a_result_that_is_canonical_stays_the_same_object():
    message = result("a")
    assert load(calling(call("a")), message)[1] is message


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("sunny", "sunny"),
        (None, ""),
        ([{"type": "text", "text": "sun"}, {"type": "input_text", "text": "ny"}], "sunny"),
        (["sun", "ny"], "sunny"),
        ([], ""),
    ],
)
def test_a_result_is_one_text(content, text):
    assert load(calling(call("a")), result("a", content))[1] == result("a", text)


@pytest.mark.parametrize(
    ("messages", "param", "code"),
    [
        ([result()], "messages[0].tool_call_id", "missing_field"),
        ([calling(call("a")), result("a"), result()], "messages[2].tool_call_id", "missing_field"),
        ([calling(call("a")), result(5)], "messages[1].tool_call_id", "invalid_value"),
        ([calling(call("a")), result("a", {"temp": 5})], "messages[1].content", "invalid_value"),
        (
            [calling(call("a")), result("a", [{"type": "image_url", "image_url": {"url": PNG}}])],
            "messages[1].content[0].type",
            "unsupported_feature",
        ),
        ([{"role": "function", "name": "weather", "content": "x"}], "messages[0].role", "invalid_value"),
        ([{"role": "assistant", "function_call": "x"}], "messages[0].function_call", "invalid_value"),
        ([{"role": "assistant", "function_call": {"arguments": ""}}], "messages[0].function_call.name", "missing_field"),
    ],
)
def test_a_result_without_its_call_is_refused(messages, param, code):
    assert refusal(*messages) == (param, code)


def test_functions_of_the_older_api_become_tool_calls():
    loaded = load(
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city":"Bern"}'}},
        {"role": "function", "name": "weather", "content": "sunny"},
        {"role": "assistant", "content": "It is sunny.", "function_call": None},
    )
    assert loaded == [
        USER,
        calling(call("call_1_0", arguments='{"city":"Bern"}')),
        {"role": "tool", "name": "weather", "content": "sunny", "tool_call_id": "call_1_0"},
        {"role": "assistant", "content": "It is sunny."},
    ]


def test_generated_ids_are_the_same_each_time():
    conversation = [USER, calling(call(None), call(None)), result(), result()]
    assert json.dumps(load(*conversation)) == json.dumps(load(*conversation))


# --- the Responses API's words -------------------------------------------------------------------------------------


def test_items_of_the_responses_api_become_messages():
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "function_call", "call_id": "call_a", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_a", "output": "sunny"},
    ]
    request = load_chat({"input": items, "instructions": "Be terse."}, {})
    assert request.messages == [{"role": "system", "content": "Be terse."}, USER, calling(call()), result("call_a")]
    assert request.dropped == ("input.web_search_call",)


def test_instructions_stand_before_messages_too():
    assert messages_of({"messages": [USER], "instructions": "Be terse."}) == [{"role": "system", "content": "Be terse."}, USER]


# --- Anthropic's blocks --------------------------------------------------------------------------------------------


USE = {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Oslo"}}
RESULT = {"type": "tool_result", "tool_use_id": "call_a", "content": "sunny"}
TEXT = {"type": "text", "text": "hello"}
WEATHER = call(arguments='{"city":"Oslo"}')
IMAGE = {"type": "image_url", "image_url": {"url": PNG}}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ([{"role": "assistant", "content": [USE]}], [calling(WEATHER)]),
        ([{"role": "assistant", "content": [TEXT, USE]}], [calling(WEATHER, content=[TEXT])]),
        (
            [{"role": "assistant", "content": [USE], "tool_calls": [call("call_b")]}],
            [calling(call("call_b"), WEATHER)],
        ),
        ([{"role": "assistant", "content": [{**USE, "input": None}]}], [calling(call())]),
        ([calling(WEATHER), {"role": "user", "content": [RESULT]}], [calling(WEATHER), result("call_a")]),
        (
            [calling(WEATHER), {"role": "user", "content": [TEXT, {**RESULT, "content": [TEXT]}]}],
            [calling(WEATHER), result("call_a", "hello"), {"role": "user", "content": [TEXT]}],
        ),
        (
            [calling(WEATHER), {"role": "user", "content": [{**RESULT, "is_error": True}]}, USER],
            [calling(WEATHER), result("call_a", "Error: sunny"), USER],
        ),
    ],
)
def test_tool_blocks_become_calls_and_results(sent, read):
    assert load(*sent) == read


def test_an_image_that_a_tool_returned_follows_its_result():
    source = {"type": "base64", "media_type": "image/png", "data": PNG.partition(",")[2]}
    returned = {**RESULT, "content": [{"type": "image", "source": source}]}
    request = load_chat({"messages": [calling(WEATHER), {"role": "user", "content": [returned, TEXT]}]}, {})
    assert request.messages[1]["role"] == "tool" and request.messages[2]["content"][1:] == [IMAGE, TEXT]
    assert request.needs == {"vision"}


@pytest.mark.parametrize(
    ("message", "where", "code"),
    [
        ({"role": "assistant", "content": [TEXT, {**USE, "id": None}]}, "content[1].id", "missing_field"),
        ({"role": "assistant", "content": [{**USE, "input": "x"}]}, "content[0].input", "invalid_value"),
        ({"role": "assistant", "content": [RESULT]}, "content[0].type", "unsupported_feature"),
        ({"role": "assistant", "content": [USE], "tool_calls": 5}, "tool_calls", "invalid_value"),
        ({"role": "user", "content": [{**RESULT, "tool_use_id": 5}]}, "content[0].tool_use_id", "invalid_value"),
        ({"role": "user", "content": [USE]}, "content[0].type", "unsupported_feature"),
        ({"role": "tool", "tool_call_id": "call_a", "content": [RESULT]}, "content[0].type", "unsupported_feature"),
    ],
)
def test_a_malformed_tool_block_is_named(message, where, code):
    assert refusal(USER, message) == (f"messages[1].{where}", code)
