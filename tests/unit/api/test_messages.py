"""The Messages API over the sandbox, in this process. Its answers are checked against the package's types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.api.schemas import load_message_request
from tests.anthropic_sdk import check_error, check_message, put_together, read_events
from tests.conftest import KEY

CLAUDE_CODE = Path(__file__).parent / "fixtures" / "claude_code"
MESSAGES = "/v1/messages"
TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
USER = {"role": "user", "content": "What is the weather?"}


def body(**fields):
    return {"model": "sandbox/echo", "max_tokens": 500, "messages": [USER], **fields}


def test_a_whole_answer(application):
    answer = application.post(MESSAGES, body())
    message = check_message(answer.json)
    assert "What is the weather?" in message["content"][0]["text"] and message["stop_reason"] == "end_turn"
    assert message["x_gateway"]["model"] == answer.headers["x-gateway-model"] == "sandbox/echo"
    assert answer.headers["request-id"] == answer.headers["x-request-id"] == message["x_gateway"]["request_id"]
    (record,) = application.telemetry.requests
    assert (record.model, record.served_by, record.status) == ("sandbox/echo", "sandbox/sandbox/echo", 200)
    assert record.usage.completion_tokens == message["usage"]["output_tokens"]


def test_a_stream_comes_to_the_same(application):
    answer = application.post(MESSAGES, body(stream=True))
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8" and answer.headers["request-id"]
    message = put_together(read_events(answer.data))
    whole = application.post(MESSAGES, body()).json
    assert (message["content"], message["usage"]) == (whole["content"], whole["usage"])


def test_the_key_comes_in_either_header(application):
    for headers in ({"x-api-key": KEY}, {"Authorization": f"Bearer {KEY}"}):
        assert application.client.post(MESSAGES, json=body(), headers=headers).status_code == 200
    refused = application.client.post(MESSAGES, json=body(), headers={"x-api-key": "wrong"})
    assert refused.status_code == 401 and check_error(refused.json)["error"]["type"] == "authentication_error"


def test_an_error_names_the_field_in_its_message(application):
    answer = application.post(MESSAGES, body(messages=[{"role": "user", "content": [{"type": "text", "text": 3}]}]))
    assert answer.status_code == 400 and check_error(answer.json)["error"] == {
        "type": "invalid_request_error",
        "message": "messages.0.content.0.text: must be a string.",
    }


def test_what_is_left_out_is_named(application):
    tools = [TOOL, {"type": "web_search_20250305", "name": "web_search"}]
    for stream in (False, True):
        answer = application.post(MESSAGES, body(tools=tools, mcp_servers=[{}], stream=stream))
        assert answer.headers["x-gateway-params-dropped"] == "tools.web_search, mcp_servers"


def test_a_stream_that_breaks_ends_in_an_error_event(application):
    events = read_events(application.post(MESSAGES, body(model="sandbox/cut", stream=True)).data)
    assert events[0]["type"] == "message_start" and events[-1]["error"]["type"] == "api_error"
    assert not [event for event in events if event["type"] in ("message_delta", "message_stop")]


@pytest.mark.parametrize(
    ("model", "status", "kind"),
    [("sandbox/rate-limited", 429, "rate_limit_error"), ("sandbox/error", 502, "api_error"), ("nobody", 404, "not_found_error")],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_has_its_status(application, model, status, kind, stream):
    answer = application.post(MESSAGES, body(model=model, stream=stream))
    assert (answer.status_code, check_error(answer.json)["error"]["type"]) == (status, kind)


@pytest.mark.parametrize("name", ["claude-sonnet-5", "claude-3-5-haiku-20241022", "claude-opus-4-8", "claude-fable-5[1m]"])
def test_the_names_of_that_world_mean_whoever_is_healthy(application, name):
    assert check_message(application.post(MESSAGES, body(model=name)).json)["stop_reason"] == "end_turn"


def test_the_families_are_ranked_by_what_they_are_asked_for(application):
    profiles = {
        name: application.services.dispatcher.roster.inventory.catalog.resolve(name).auto
        for name in ("claude-haiku-4-5-20251001", "claude-3-5-haiku-latest", "claude-opus-4-8", "claude-sonnet-5")
    }
    assert list(profiles.values()) == ["auto:fast", "auto:fast", "auto:smart", "auto"]


def test_a_dry_run_asks_nobody(application):
    answer = application.post(MESSAGES, body(stream=True), {"x-gateway-dry-run": "1"})
    assert answer.json["object"] == "routing_status" and not application.telemetry.attempts


# --- counting --------------------------------------------------------------------------------------------------------


def test_tokens_are_counted_without_asking_anybody(application):
    answer = application.post(f"{MESSAGES}/count_tokens", {"model": "claude-sonnet-5", "messages": [USER], "tools": [TOOL]})
    assert list(answer.json) == ["input_tokens"] and 20 < answer.json["input_tokens"] < 100
    assert not application.telemetry.attempts and application.telemetry.requests[0].model == "claude-sonnet-5"
    assert application.client.post(f"{MESSAGES}/count_tokens", json=body()).status_code == 401


def test_the_count_is_that_of_the_streams_beginning(application):
    counted = application.post(f"{MESSAGES}/count_tokens", body(system="Be terse.")).json["input_tokens"]
    start = read_events(application.post(MESSAGES, body(system="Be terse.", stream=True)).data)[0]
    assert start["message"]["usage"]["input_tokens"] == counted


# --- before ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("path", ["/api/hello", "/v1/api/hello", "/"])
def test_a_client_sees_that_the_server_is_there(application, method, path):
    assert application.client.open(path, method=method).status_code == 200


# --- Claude Code -------------------------------------------------------------------------------------------------------


def recorded(name):
    return json.loads((CLAUDE_CODE / f"{name}.json").read_bytes())


@pytest.mark.parametrize("name", ["first_turn", "tool_turn", "quota_probe", "title"])
def test_what_claude_code_sends_is_served_and_counted(application, name):
    sent = recorded(name)
    answer = application.post(f"{MESSAGES}?beta=true", sent, {"anthropic-version": "2023-06-01", "anthropic-beta": "x,y"})
    assert answer.status_code == 200 and "x-gateway-params-dropped" not in answer.headers
    message = put_together(read_events(answer.data)) if sent.get("stream") else check_message(answer.json)
    assert message["stop_reason"] == {"first_turn": "tool_use", "quota_probe": "max_tokens"}.get(name, "end_turn")
    assert application.post(f"{MESSAGES}/count_tokens?beta=true", sent).json["input_tokens"] > 5


def test_what_claude_code_sends_becomes_a_plain_chat():
    chat, terms = load_message_request(recorded("tool_turn"), {})
    assert [message["role"] for message in chat.messages] == ["system", "user", "assistant", "tool"]
    assert "billing-header" not in chat.messages[0]["content"]
    assert [part["text"][:18] for part in chat.messages[1]["content"]] == [
        "<system-reminder>\n",
        "Say hello",
        "<system-reminder>\n",
    ]
    assert chat.messages[2]["tool_calls"][0]["function"]["arguments"] == '{"command":"false","description":"Fail"}'
    assert chat.messages[3] == {"role": "tool", "tool_call_id": "toolu_0001", "content": "Error: Exit code 1"}
    assert (chat.reasoning_effort, terms.shows_thoughts, chat.max_output_tokens) == ("high", True, 64000)
    assert len(chat.body["tools"]) == 3 and chat.needs == {"tools"} and len(chat.body["user"]) == 64


def test_a_search_that_only_anthropics_servers_can_make_is_refused_by_its_name(application):
    answer = application.post(MESSAGES, recorded("web_search"))
    assert answer.status_code == 400 and answer.json["error"]["message"].startswith("tool_choice.name: names a tool that only")
