"""POST /v1/responses in this process, against the sandbox."""

import json
from pathlib import Path

import pytest

from gateway.api.responses import own_param
from gateway.errors import CandidatesExhausted, GatewayBusy, UpstreamContextTooLong, UpstreamRejected
from tests.conftest import AUTH
from tests.responses_judge import judge_response, judge_stream, output_of, without_ids

PATH = "/v1/responses"
ASK = {"model": "sandbox/echo", "input": "hello"}
RECORDED = sorted((Path(__file__).parent / "fixtures" / "responses").glob("*.json"))
TOOLS = [
    {
        "type": "function",
        "name": "f",
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    },
    {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "crm", "description": "x", "tools": [{"type": "custom", "name": "note"}]},
    {"type": "web_search"},
]


def ask(application, headers=None, **fields):
    answer = application.post(PATH, {**ASK, **fields}, headers)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize("path", [PATH, "/responses", "/v1/v1/responses/"])
def test_a_whole_answer(application, path):
    answer = application.post(path, ASK)
    response = judge_response(answer.json)
    assert "hello" in response.output_text and response.model == "sandbox/echo"
    assert answer.json["x_gateway"]["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-gateway-provider"] == "sandbox" and "x-gateway-params-dropped" not in answer.headers


def test_a_stream(application):
    answer = ask(application, stream=True)
    events = judge_stream(answer.data)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert events[-1]["response"]["usage"] and events[-1]["response"]["x_gateway"]["provider"] == "sandbox"
    assert "[DONE]" not in answer.text
    assert without_ids(output_of(events)) == without_ids(ask(application).json["output"])


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ({"type": "function", "name": "f"}, ("function_call", "f", None)),
        ({"type": "custom", "name": "patch"}, ("custom_tool_call", "patch", None)),
        ({"type": "custom", "name": "note", "namespace": "crm"}, ("custom_tool_call", "note", "crm")),
        ("required", ("function_call", "f", None)),
    ],
    ids=["function", "custom", "in a namespace", "required"],
)
def test_a_tool_round_trip(application, choice, called, stream, store):
    def answer(**fields):
        reply = ask(application, model="sandbox/tools", tools=TOOLS, stream=stream, store=store, **fields)
        assert "tools.web_search" in reply.headers["x-gateway-params-dropped"]
        if stream:
            return output_of(judge_stream(reply.data))
        judge_response(reply.json)
        return reply.json["output"]

    (item,) = answer(tool_choice=choice)
    assert (item["type"], item["name"], item.get("namespace")) == called
    returned = {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": "the result"}
    sent = {"type": "item_reference", "id": item["id"]} if store else item
    (message,) = answer(input=[{"role": "user", "content": "hello"}, sent, returned])
    assert "the result" in message["content"][0]["text"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_clients_send_is_answered(application, path, stream):
    body = json.loads(path.read_text())["body"]
    answer = application.post(PATH, {**body, "model": "sandbox/echo", "stream": stream})
    assert answer.status_code == 200, answer.text
    if stream:
        judge_stream(answer.data)
    else:
        judge_response(answer.json)


@pytest.mark.parametrize("stream", [False, True])
def test_json_of_a_schema(application, stream):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
    form = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
    answer = ask(application, text={"format": form}, stream=stream)
    response = judge_stream(answer.data)[-1]["response"] if stream else answer.json
    assert isinstance(json.loads(response["output"][0]["content"][0]["text"])["a"], int)
    assert response["text"]["format"] == {**form, "description": None}


def test_thoughts_are_a_reasoning_item(application):
    fields = {"model": "openai/gpt-oss-120b", "reasoning": {"effort": "high"}}
    kinds = [item["type"] for item in ask(application, **fields).json["output"]]
    streamed = output_of(judge_stream(ask(application, stream=True, **fields).data))
    assert kinds == ["reasoning", "message"] == [item["type"] for item in streamed]
    assert streamed[0]["summary"][0]["text"]


# --- what every surface has --------------------------------------------------------------------------------------------


def test_a_dry_run_tells_who_would_answer(application):
    answer = ask(application, {"x-gateway-dry-run": "1"}, stream=True)
    assert answer.json["object"] == "routing_status"


def test_what_was_asked_and_for_whom_is_noted(application):
    ask(application, {"x-gateway-project-id": "p"})
    record = application.telemetry.requests[-1]
    assert (record.model, record.project_id, record.path, record.usage.total_tokens > 0) == ("sandbox/echo", "p", PATH, True)


def test_a_provider_can_be_forced(application):
    answer = application.post(PATH, ASK, {"x-gateway-force-provider": "nobody"})
    assert answer.status_code == 404 and answer.json["error"]["code"] == "model_not_found"


def test_a_key_is_needed(application):
    answer = application.post(PATH, ASK, {"Authorization": "Bearer nobody's"})
    assert answer.status_code == 401 and answer.json["error"]["code"] == "invalid_api_key"


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "param"),
    [
        (UpstreamContextTooLong("Too long."), 400, "input"),
        (UpstreamRejected("No.", param="messages[3].content"), 400, "input"),
        (UpstreamRejected("No.", param="response_format.json_schema"), 400, "text.format"),
        (UpstreamRejected("No.", param="temperature"), 400, "temperature"),
        (UpstreamRejected("No."), 400, None),
        (CandidatesExhausted("None left.", quota_only=True, retry_after_s=7), 429, None),
        (GatewayBusy("Busy.", retry_after_s=1), 503, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_an_error_before_the_answer_is_told_in_the_envelope(application, monkeypatch, error, status, param, stream):
    def fail(*_):
        raise error

    monkeypatch.setattr(application.services.dispatcher, "open_stream" if stream else "complete", fail)
    answer = application.post(PATH, {**ASK, "stream": stream})
    assert answer.status_code == status and answer.mimetype == "application/json"
    assert answer.json["error"]["param"] == param and answer.json["error"]["message"] == error.message


@pytest.mark.parametrize(
    ("param", "name"),
    [
        ("verbosity", "text.verbosity"),
        ("response_format.json_schema.schema", "text.format"),
        ("messages[2].content[0].text", "input"),
        ("reasoning_effort", "reasoning.effort"),
        ("max_completion_tokens", "max_output_tokens"),
        ("tools[0].function.name", "tools"),
        ("seed", "seed"),
    ],
)
def test_parameters_of_a_chat_are_named_as_this_api_names_them(param, name):
    assert own_param(param) == name


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items"),
    ],
)
def test_there_is_nothing_to_fetch_or_delete(application, method, path):
    answer = application.client.open(path, method=method, headers=AUTH)
    assert answer.status_code == 404
    assert answer.json["error"]["code"] == "unknown_path" and "stored" in answer.json["error"]["message"]
    assert application.client.open(path, method=method).status_code == 401
