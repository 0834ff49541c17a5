"""The simulator does what providers.md and its own docstrings say: whoever trusts an e2e test trusts this."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from tests.e2e.simulator import (
    Simulator,
    altered,
    close_idle,
    cut_after,
    delay,
    drip,
    empty,
    error_after,
    errors,
    faithful,
    go_stale,
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
from tests.e2e.simulator.gemini import sign
from tests.e2e.simulator.voyage_ai import VoyageAI
from tests.e2e.simulator.workers_ai import ACCOUNT, early_finish

KEYS = {
    "groq": "gsk_test",
    "gemini": "AIza_test",
    "workers_ai": "cf_test",
    "openrouter": "sk-or-v1-test",
    "cerebras": "csk-test",
    "voyage_ai": "pa-test",
    "plain": "",
}
MODELS = {
    "groq": "openai/gpt-oss-120b",
    "gemini": "gemini-3.5-flash",
    "workers_ai": "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
    "openrouter": "google/gemma-4-31b-it:free",
    "cerebras": "gpt-oss-120b",
    "plain": "plain-chat",
}
CHAT_PATHS = {
    "groq": "/chat/completions",
    "gemini": "/openai/chat/completions",
    "workers_ai": "/v1/chat/completions",
    "openrouter": "/chat/completions",
    "cerebras": "/chat/completions",
    "plain": "/chat/completions",
}
COMPATIBLE = tuple(CHAT_PATHS)
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_x",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "extra": {"type": "string"}},
            "required": ["a", "b"],
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "tags": {"type": "array", "items": {"enum": ["hot", "cold"]}}},
    "required": ["city", "tags"],
    "additionalProperties": False,
}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
RUN = "/run/@cf/meta/llama-3.3-70b-instruct-fp8-fast"
GENERATE = "/models/gemini-3.5-flash:generateContent"
STREAM_GENERATE = "/models/gemini-3.5-flash:streamGenerateContent?alt=sse"


class Client:
    """Calls providers of a simulator; each call on a connection of its own."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator

    def send(
        self, provider: str, path: str, body: Any = None, *, key: str | None = None, method: str = "POST"
    ) -> tuple[Any, ...]:
        """Return status, headers and raw body."""
        connection = self.open()
        try:
            self.request(connection, provider, path, body, key=key, method=method)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.simulator.port, timeout=5)

    def request(
        self,
        connection: http.client.HTTPConnection,
        provider: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        method: str = "POST",
    ) -> None:
        key = KEYS[provider] if key is None else key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if provider == "gemini" and not path.startswith("/openai"):
            headers = {"x-goog-api-key": key} if key else {}
        url = self.simulator.base_url(provider).removeprefix(self.simulator.url) + path
        connection.request(method, url, None if body is None else json.dumps(body), headers)

    def json(self, provider: str, path: str, body: Any = None, **options: Any) -> Any:
        status, _, data = self.send(provider, path, body, **options)
        assert status == 200, data
        return json.loads(data)

    def refusal(self, provider: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        status, _, data = self.send(provider, path, body, **options)
        return status, json.loads(data)

    def chat(self, provider: str, **changes: Any) -> tuple[Any, ...]:
        return self.send(provider, CHAT_PATHS[provider], chat_body(provider, **changes))

    def completion(self, provider: str, **changes: Any) -> Any:
        return self.json(provider, CHAT_PATHS[provider], chat_body(provider, **changes))

    def chunks(self, provider: str, **changes: Any) -> list[Any]:
        status, headers, data = self.chat(provider, stream=True, **changes)
        assert status == 200, data
        assert headers["content-type"] == "text/event-stream"
        return objects(data)


def chat_body(provider: str, **changes: Any) -> dict[str, Any]:
    return {"model": MODELS[provider], "messages": [{"role": "user", "content": "four plus four"}], **changes}


def native(text: str = "four plus four", **changes: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **changes}


def objects(data: bytes) -> list[Any]:
    """Return the JSON of every data line but [DONE]."""
    texts = [line.removeprefix(b"data: ") for line in data.splitlines() if line.startswith(b"data: ")]
    return [json.loads(text) for text in texts if text != b"[DONE]"]


def content_of(chunks: list[Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


@pytest.fixture
def client(simulator):
    return Client(simulator)


@pytest.fixture
def sock(simulator):
    """A plain socket that has asked groq for a stream."""
    body = json.dumps(chat_body("groq", stream=True)).encode()
    head = (
        f"POST /groq/openai/v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer gsk_test\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    with socket.create_connection(("127.0.0.1", simulator.port), timeout=5) as connection:
        yield RawClient(connection, head.encode() + body)


class RawClient:
    def __init__(self, connection: socket.socket, request: bytes) -> None:
        self.connection = connection
        self._request = request

    def ask(self) -> None:
        self.connection.sendall(self._request)

    def read_all(self) -> bytes:
        """Read to the end of the connection. Raises ConnectionResetError where it ends so."""
        data = b""
        while piece := self.connection.recv(65536):
            data += piece
        return data

    def read_until(self, end: bytes) -> bytes:
        data = b""
        while not data.endswith(end) and (piece := self.connection.recv(65536)):
            data += piece
        return data


# --- every provider ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", COMPATIBLE)
def test_a_whole_answer_echoes_the_last_user_text_with_usage(client, provider):
    answer = client.completion(provider)
    assert answer["choices"][0]["message"]["content"] == "echo: four plus four"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] > 0
    assert answer["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("provider", COMPATIBLE)
def test_a_stream_has_the_same_text_in_several_deltas_and_ends_with_done(client, provider):
    data = client.chat(provider, stream=True)[2]
    chunks = objects(data)
    assert content_of(chunks) == "echo: four plus four"
    assert sum(bool(choice["delta"].get("content")) for chunk in chunks for choice in chunk["choices"]) == 4
    assert data.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("provider", COMPATIBLE)
def test_the_first_tool_is_called_with_its_required_arguments_until_its_result_is_there(client, provider):
    asked = chat_body(provider, tools=[TOOL])
    message = client.json(provider, CHAT_PATHS[provider], asked)["choices"][0]["message"]
    call = message["tool_calls"][0]
    assert call["function"]["name"] == "get_x"
    assert json.loads(call["function"]["arguments"]) == {"a": 1, "b": "text"}
    history = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    again = client.completion(provider, tools=[TOOL], messages=[*asked["messages"], history, result])
    assert again["choices"][0]["message"]["content"] == "the result is sunny"


@pytest.mark.parametrize("provider", COMPATIBLE)
def test_json_schema_is_met(client, provider):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    content = client.completion(provider, response_format=form)["choices"][0]["message"]["content"]
    assert json.loads(content) == {"city": "text", "tags": ["hot"]}


@pytest.mark.parametrize("provider", COMPATIBLE)
def test_the_token_limit_cuts_the_answer(client, provider):
    limited = client.completion(provider, max_tokens=4, messages=[{"role": "user", "content": "word " * 40}])
    assert limited["choices"][0]["finish_reason"] == "length"
    assert limited["usage"]["completion_tokens"] <= 4


@pytest.mark.parametrize(
    ("provider", "path", "status", "told"),
    [
        ("groq", "/chat/completions", 401, {"code": "invalid_api_key"}),
        ("gemini", GENERATE, 400, {"status": "INVALID_ARGUMENT"}),
        ("gemini", "/openai/chat/completions", 400, {"status": "INVALID_ARGUMENT"}),
        ("workers_ai", "/v1/chat/completions", 401, {"code": 10000}),
        ("openrouter", "/chat/completions", 401, {"message": "User not found."}),
        ("cerebras", "/chat/completions", 401, {"code": "wrong_api_key"}),
        ("voyage_ai", "/embeddings", 401, {"detail": "Provided API key is invalid."}),
    ],
)
def test_a_bad_key_is_refused_in_the_shape_of_the_provider(client, provider, path, status, told):
    got, body = client.refusal(provider, path, {"model": "x", "messages": []}, key="wrong")
    body = body[0] if isinstance(body, list) else body
    body = (body.get("errors") or [body.get("error", body)])[0]
    assert got == status
    assert told.items() <= body.items()


@pytest.mark.parametrize(
    ("provider", "path", "model", "status", "told"),
    [
        ("groq", "/chat/completions", "llama-3.3-70b-versatile", 404, '"model_not_found"'),
        ("gemini", "/models/gemini-2.0-flash:generateContent", "", 404, "is not found for API version v1beta"),
        ("workers_ai", "/run/@cf/none", "", 400, "5007"),
        ("openrouter", "/chat/completions", "none", 404, "No endpoints found for none."),
        ("cerebras", "/chat/completions", "llama-3.3-70b", 404, '"model_not_found"'),
        ("voyage_ai", "/embeddings", "none", 400, "Model none is not supported. Supported models are"),
    ],
)
def test_unknown_and_retired_models_are_refused(client, provider, path, model, status, told):
    got, _, body = client.send(provider, path, {"model": model, "messages": [{"role": "user", "content": "x"}]})
    assert got == status
    assert told in body.decode()


def test_a_retired_model_can_be_revived(client, simulator):
    simulator.revive("groq", "llama-3.3-70b-versatile")
    assert client.completion("groq", model="llama-3.3-70b-versatile")["model"] == "llama-3.3-70b-versatile"


def test_env_names_every_provider_of_the_catalog_and_can_be_narrowed(simulator):
    assert simulator.env()["GROQ_BASE_URL"] == simulator.base_url("groq")
    assert simulator.env()["CLOUDFLARE_ACCOUNT_ID"] == ACCOUNT
    filled = simulator.env()["WORKERS_AI_BASE_URL"].replace("{account_id}", ACCOUNT)
    assert filled == simulator.base_url("workers_ai")
    assert set(simulator.env("groq", "voyage_ai")) == {"GROQ_API_KEY", "GROQ_BASE_URL", "VOYAGE_API_KEY", "VOYAGE_BASE_URL"}


# --- groq ----------------------------------------------------------------------------------------------------------

MESSAGE = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"top_k": 4}, "property 'top_k' is unsupported"),
        ({"logprobs": True}, "'logprobs' : property 'logprobs' is unsupported"),
        ({"n": 2}, "'n' : number must be at most 1"),
        ({"messages": [{**MESSAGE, "name": "eve"}]}, "('messages.0' : property 'name' is unsupported)"),
        (
            {"messages": [MESSAGE, {"role": "assistant", "content": "", "reasoning_content": "y"}, MESSAGE]},
            "'messages.1' : for 'role:assistant' the following must be satisfied"
            "[('messages.1' : property 'reasoning_content' is unsupported)]",
        ),
        ({"messages": [{"role": "developer", "content": "x"}]}, "discriminator property 'role' has invalid value"),
        ({"stop": list("abcde")}, "'stop' : maximum number of items is 4"),
        ({"reasoning_effort": "none"}, "`reasoning_effort` must be one of `low` or `medium` or `high`"),
        ({"model": "qwen/qwen3.6-27b", "reasoning_effort": "low"}, "`reasoning_effort` must be one of `none` or `default`"),
        ({"model": "groq/compound", "reasoning_effort": "low"}, "`reasoning_effort` is not supported with this model"),
        ({"model": "groq/compound", "tools": [TOOL]}, "`tool calling` is not supported"),
        ({"reasoning_format": "raw", "tools": [TOOL]}, "`reasoning_format` must be `parsed` or `hidden`"),
        ({"include_reasoning": True, "reasoning_format": "parsed"}, "cannot both be set"),
        (
            {"model": "qwen/qwen3.6-27b", "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            "'response_format.type' : value is not one of the allowed values ['text','json_object']",
        ),
    ],
)
def test_groq_refuses_what_it_does_not_know(client, change, told):
    status, body = client.refusal("groq", "/chat/completions", chat_body("groq", **change))
    assert status == 400
    assert told in body["error"]["message"]
    assert body["error"]["type"] == "invalid_request_error"
    assert "code" not in body["error"]


def test_groq_counts_asked_tokens_against_the_minute_before_it_begins(client):
    status, body = client.refusal("groq", "/chat/completions", chat_body("groq", max_completion_tokens=9000))
    assert status == 413
    assert "Limit 8000, Requested 9003" in body["error"]["message"]
    assert (body["error"]["type"], body["error"]["code"]) == ("tokens", "rate_limit_exceeded")


def test_groq_tells_its_quotas_with_each_answer(client):
    _, first, _ = client.chat("groq")
    _, second, _ = client.chat("groq", stream=True)
    assert first["x-ratelimit-limit-requests"] == "1000"
    assert int(second["x-ratelimit-remaining-requests"]) == int(first["x-ratelimit-remaining-requests"]) - 1
    assert first["x-ratelimit-reset-requests"] == "2m59.56s"


def test_groq_streams_a_tool_call_whole_and_usage_twice(client):
    chunks = client.chunks("groq", tools=[TOOL])
    calls = [delta["tool_calls"] for chunk in chunks if "tool_calls" in (delta := chunk["choices"][0]["delta"])]
    assert len(calls) == 1
    assert calls[0][0]["id"].startswith("fc_")
    assert json.loads(calls[0][0]["function"]["arguments"]) == {"a": 1, "b": "text"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"] == chunks[-1]["x_groq"]["usage"]


def test_groq_gives_thoughts_apart_and_qwen_inside_the_content(client):
    assert client.completion("groq")["choices"][0]["message"]["reasoning"] == "Let me think."
    assert "reasoning" not in client.completion("groq", include_reasoning=False)["choices"][0]["message"]
    qwen = client.completion("groq", model="qwen/qwen3.6-27b")["choices"][0]["message"]
    assert qwen["content"].startswith("<think>\nLet me think.\n</think>")
    assert content_of(client.chunks("groq", model="qwen/qwen3.6-27b")) == qwen["content"]


def test_groq_lists_models_without_the_retired(client):
    ids = [row["id"] for row in client.json("groq", "/models", method="GET")["data"]]
    assert "openai/gpt-oss-20b" in ids
    assert "llama-3.3-70b-versatile" not in ids


# --- gemini, native ------------------------------------------------------------------------------------------------


def declared(**parameters: Any) -> list[Any]:
    return [{"functionDeclarations": [{"name": "get_x", **parameters}]}]


def asked(**config: Any) -> dict[str, Any]:
    return native(generationConfig=config)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (native(x=1), 'Unknown name "x": Cannot find field.'),
        (native(generationConfig={"max_tokens": 4}), "Unknown name \"max_tokens\" at 'generation_config': Cannot find field."),
        (
            {"contents": [{"role": "user", "parts": [{"text": "x", "type": "text"}]}]},
            "Unknown name \"type\" at 'contents[0].parts[0]': Cannot find field.",
        ),
        (
            native(tools=declared(parameters={"type": "object", "$schema": "x"})),
            "Unknown name \"$schema\" at 'tools[0].function_declarations[0].parameters'",
        ),
        (native(tools=declared(name="a b")), "Invalid function name"),
        ({"contents": []}, "contents is not specified"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "Please use a valid role: user, model."),
        ({"contents": [{"role": "user", "parts": []}]}, "contents.parts must not be empty"),
        (
            native(toolConfig={"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["get_x"]}}),
            "Allowed function names should only be set",
        ),
        (asked(frequencyPenalty=1), "Penalty is not enabled for this model"),
        (asked(responseJsonSchema=SCHEMA), "must be application/json"),
        (asked(maxOutputTokens=70000), "The maximum tokens must be in the range"),
        (asked(thinkingConfig={"thinkingBudget": 1, "thinkingLevel": "LOW"}), "only one of thinking budget and thinking level"),
        (asked(thinkingConfig={"thinkingLevel": "XHIGH"}), "Thinking level XHIGH is not supported"),
        (
            {
                "contents": [
                    {"role": "user", "parts": [{"fileData": {"mimeType": "image/png", "fileUri": "https://x.org/a.png"}}]}
                ]
            },
            "unsupported file uri",
        ),
        (
            {"contents": [{"role": "user", "parts": [{"functionResponse": {"name": "get_x", "response": "sunny"}}]}]},
            "function_response.response",
        ),
        (
            {"contents": [{"role": "user", "parts": [{"functionResponse": {"name": "get_x", "response": {}}}]}]},
            "number of function response parts is equal",
        ),
    ],
)
def test_gemini_refuses_what_it_does_not_know(client, body, told):
    status, answer = client.refusal("gemini", GENERATE, body)
    assert status == 400
    assert told in answer["error"]["message"]
    assert answer["error"]["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("model", "thinking", "told"),
    [
        ("gemini-2.5-flash-lite", {"thinkingBudget": 100}, "The thinking budget 100 is invalid"),
        ("gemini-2.5-flash", {"thinkingLevel": "LOW"}, "Thinking level is not supported"),
        ("gemini-3.8-flash", {"thinkingLevel": "MINIMAL"}, "Thinking level MINIMAL is not supported"),
        ("gemini-2.0-flash", {"thinkingBudget": 0}, "Thinking is not enabled"),
    ],
)
def test_gemini_knows_which_model_thinks_how(client, simulator, model, thinking, told):
    simulator.revive("gemini", model)
    status, answer = client.refusal("gemini", f"/models/{model}:generateContent", asked(thinkingConfig=thinking))
    assert (status, told in answer["error"]["message"]) == (400, True)


def test_gemini_has_no_free_quota_for_pro_models(client):
    status, answer = client.refusal("gemini", "/models/gemini-2.5-pro:generateContent", native())
    violations = answer["error"]["details"][1]["violations"]
    assert (status, violations[0]["quotaValue"]) == (429, "0")


def test_gemini_reads_snake_case_and_answers_in_camel_case(client):
    answer = client.json("gemini", GENERATE, native(generation_config={"max_output_tokens": 100}))
    assert answer["candidates"][0]["content"]["parts"] == [{"text": "echo: four plus four"}]
    assert answer["candidates"][0]["finishReason"] == "STOP"
    usage = answer["usageMetadata"]
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]


def test_gemini_streams_crlf_events_with_growing_usage_and_no_done(client):
    _, _, data = client.send("gemini", STREAM_GENERATE, native())
    assert data.endswith(b"}\r\n\r\n")
    assert b"[DONE]" not in data
    events = objects(data)
    assert "".join(event["candidates"][0]["content"]["parts"][0]["text"] for event in events) == "echo: four plus four"
    counts = [event["usageMetadata"]["candidatesTokenCount"] for event in events]
    assert counts == [1, 2, 3, 4]
    assert [event["candidates"][0].get("finishReason") for event in events] == [None, None, None, "STOP"]


def test_gemini_without_alt_sse_answers_one_list(client):
    _, headers, data = client.send("gemini", STREAM_GENERATE.partition("?")[0], native())
    assert headers["content-type"] == "application/json"
    assert len(json.loads(data)) == 4


def test_gemini_shows_thoughts_only_when_asked(client):
    shown = client.json("gemini", GENERATE, asked(thinkingConfig={"includeThoughts": True}))
    assert shown["candidates"][0]["content"]["parts"][0] == {"text": "Let me think.", "thought": True}
    hidden = client.json("gemini", GENERATE, native())
    assert len(hidden["candidates"][0]["content"]["parts"]) == 1


def test_gemini_thinking_may_eat_the_whole_budget(client):
    answer = client.json("gemini", GENERATE, asked(maxOutputTokens=2))
    assert answer["candidates"][0]["content"] == {"role": "model"}
    assert answer["candidates"][0]["finishReason"] == "MAX_TOKENS"


def test_gemini_issues_a_signature_and_demands_it_back(client):
    tools = declared(parametersJsonSchema=TOOL["function"]["parameters"])
    answer = client.json("gemini", GENERATE, native(tools=tools))
    part = answer["candidates"][0]["content"]["parts"][0]
    assert part["functionCall"] == {"name": "get_x", "args": {"a": 1, "b": "text"}}
    assert answer["candidates"][0]["finishReason"] == "STOP"

    def answer_with(signature: dict[str, str], model: str = "gemini-3.5-flash") -> tuple[int, Any]:
        call = {"role": "model", "parts": [{"functionCall": part["functionCall"], **signature}]}
        result = {"role": "user", "parts": [{"functionResponse": {"name": "get_x", "response": {"result": "sunny"}}}]}
        body = {"contents": [*native()["contents"], call, result], "tools": tools}
        return client.refusal("gemini", f"/models/{model}:generateContent", body)

    status, body = answer_with({"thoughtSignature": part["thoughtSignature"]})
    assert (status, body["candidates"][0]["content"]["parts"][0]["text"]) == (200, 'the result is {"result": "sunny"}')
    status, body = answer_with({})
    assert status == 400
    assert "missing a thought_signature" in body["error"]["message"]
    assert "position 2" in body["error"]["message"]
    assert answer_with({"thoughtSignature": "b3RoZXI="})[0] == 400
    assert answer_with({"thoughtSignature": "skip_thought_signature_validator"})[0] == 200
    assert answer_with({}, "gemini-2.5-flash")[0] == 200


def test_gemini_embeds_batches_of_at_most_100(client):
    def batch(count: int, **more: Any) -> dict[str, Any]:
        item = {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "a"}]}, **more}
        return {"requests": [item] * count}

    path = "/models/gemini-embedding-001:batchEmbedContents"
    answer = client.json("gemini", path, batch(100, outputDimensionality=768))
    assert [len(item["values"]) for item in answer["embeddings"]] == [768] * 100
    status, body = client.refusal("gemini", path, batch(101))
    assert (status, "at most 100 requests can be in one batch" in body["error"]["message"]) == (400, True)
    assert client.refusal("gemini", path, batch(1, outputDimensionality=64))[0] == 400
    assert client.refusal("gemini", path, batch(1, taskType="query"))[0] == 400
    assert client.refusal("gemini", path, batch(1, dimensions=768))[0] == 400


def test_gemini_lists_models_by_page(client):
    first = client.json("gemini", "/models?pageSize=3", method="GET")
    second = client.json("gemini", f"/models?pageSize=3&pageToken={first['nextPageToken']}", method="GET")
    assert len(first["models"]) == len(second["models"]) == 3
    names = {row["name"] for row in first["models"] + second["models"]}
    assert "models/gemini-3.5-flash" in names
    assert len(names) == 6


# --- gemini, compatible --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["frequency_penalty", "seed", "top_k", "user", "google"])
def test_gemini_compat_refuses_unknown_names_in_a_list(client, name):
    status, body = client.refusal("gemini", "/openai/chat/completions", chat_body("gemini", **{name: 1}))
    assert status == 400
    assert body[0]["error"]["message"] == f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'


def test_gemini_compat_streams_a_call_without_index_that_ends_in_stop(client):
    chunks = client.chunks("gemini", tools=[TOOL], stream_options={"include_usage": True})
    (call,) = chunks[0]["choices"][0]["delta"]["tool_calls"]
    assert "index" not in call
    assert call["extra_content"]["google"]["thought_signature"] == sign("get_x")
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert all("usage" in chunk for chunk in chunks)


def test_gemini_compat_demands_the_signature_back(client):
    call = {"id": "call_1", "type": "function", "function": {"name": "get_x", "arguments": "{}"}}
    history = [MESSAGE, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_1", "content": "s"}]
    status, body = client.refusal("gemini", "/openai/chat/completions", chat_body("gemini", messages=history))
    assert (status, "missing a thought_signature" in body[0]["error"]["message"]) == (400, True)


# --- workers_ai ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [RUN, "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, 5006),
        ({"messages": [MESSAGE, {"role": "assistant", "content": None}]}, 5006),
        ({"messages": "x"}, 5006),
        ({"seed": 0}, 5006),
        ({"top_k": 51}, 5006),
        ({"response_format": {"type": "json_object"}, "stream": True}, 5023),
    ],
)
def test_workers_ai_refuses_in_its_envelope(client, path, change, code):
    status, body = client.refusal("workers_ai", path, chat_body("workers_ai", **change))
    assert (status, body["success"], body["errors"][0]["code"]) == (400, False, code)


def test_workers_ai_takes_images_where_the_model_sees_and_only_as_data(client):
    def ask(url: str) -> tuple[int, Any]:
        image = {"type": "image_url", "image_url": {"url": url}}
        model = "@cf/meta/llama-4-scout-17b-16e-instruct"
        body = chat_body("workers_ai", model=model, messages=[{"role": "user", "content": [image]}])
        return client.refusal("workers_ai", "/v1/chat/completions", body)

    assert ask("data:image/png;base64,AAAA")[0] == 200
    assert ask("https://example.org/a.png")[1]["errors"][0]["code"] == 5006


@pytest.mark.parametrize(
    "path", ["/run/%40cf/meta/llama-3.3-70b-instruct-fp8-fast", "/run/@cf%2Fmeta%2Fllama-3.3-70b-instruct-fp8-fast"]
)
def test_workers_ai_does_not_route_encoded_ids(client, path):
    status, body = client.refusal("workers_ai", path, chat_body("workers_ai"))
    assert (status, [error["code"] for error in body["errors"]]) == (404, [7003, 7000])


def test_workers_ai_does_not_route_a_wrong_account(client, simulator):
    connection = client.open()
    path = simulator.base_url("workers_ai").removeprefix(simulator.url).replace(ACCOUNT, "f" * 32)
    connection.request("POST", f"{path}/v1/chat/completions", "{}", {"Authorization": "Bearer cf_test"})
    assert connection.getresponse().status == 404
    connection.close()


def test_workers_ai_classic_models_answer_in_their_own_form(client):
    answer = client.json("workers_ai", RUN, chat_body("workers_ai"))
    assert answer["success"] is True
    assert answer["result"]["response"] == "echo: four plus four"
    call = client.json("workers_ai", RUN, chat_body("workers_ai", tools=[TOOL]))["result"]
    assert call["response"] is None
    assert call["tool_calls"] == [{"name": "get_x", "arguments": {"a": 1, "b": "text"}}]


def test_workers_ai_json_mode_takes_a_bare_schema_and_gives_a_parsed_object(client):
    form: dict[str, Any] = {"type": "json_schema", "json_schema": SCHEMA}
    answer = client.json("workers_ai", RUN, chat_body("workers_ai", response_format=form))
    assert answer["result"]["response"] == {"city": "text", "tags": ["hot"]}
    form["json_schema"] = {"name": "x", "schema": SCHEMA}
    status, body = client.refusal("workers_ai", RUN, chat_body("workers_ai", response_format=form))
    assert (status, "JSON Mode couldn't be met" in body["errors"][0]["message"]) == (400, True)


def test_workers_ai_classic_streams_have_padding_and_numbers(client):
    messages = [{"role": "user", "content": "is it 8"}]
    events = objects(client.send("workers_ai", RUN, chat_body("workers_ai", stream=True, messages=messages))[2])
    assert [event["response"] for event in events] == ["echo:", " is", " it", " ", 8, ""]
    assert "p" in events[0]
    assert "usage" in events[-1]
    events = objects(client.send("workers_ai", RUN, {"messages": [MESSAGE], "tools": [TOOL], "stream": True})[2])
    assert events[0]["tool_calls"] == [{"name": "get_x", "arguments": {"a": 1, "b": "text"}}]


def test_workers_ai_stops_at_256_tokens_unless_told(client):
    long = {"messages": [{"role": "user", "content": "word " * 400}]}
    assert client.json("workers_ai", RUN, long)["result"]["usage"]["completion_tokens"] == 256
    assert client.json("workers_ai", RUN, {**long, "max_tokens": 1000})["result"]["usage"]["completion_tokens"] > 400


def test_workers_ai_newer_models_put_a_completion_into_the_result(client):
    result = client.json("workers_ai", "/run/@cf/openai/gpt-oss-20b", {"messages": [MESSAGE]})["result"]
    assert result["choices"][0]["message"]["reasoning"] == "Let me think."
    glm = client.completion("workers_ai", model="@cf/zai-org/glm-4.7-flash")
    assert glm["choices"][0]["message"]["reasoning_content"] == "Let me think."


def test_workers_ai_compat_ends_a_streamed_call_with_nulls(client):
    chunks = client.chunks("workers_ai", tools=[TOOL])
    calls = [
        delta["tool_calls"][0] for chunk in chunks for choice in chunk["choices"] if "tool_calls" in (delta := choice["delta"])
    ]
    assert calls[0]["function"]["name"] == "get_x"
    assert calls[-1]["function"]["name"] is None
    assert json.loads("".join(call["function"].get("arguments") or "" for call in calls)) == {"a": 1, "b": "text"}


def test_workers_ai_early_finish_still_has_all_content_and_done_twice(client, simulator):
    simulator.script("workers_ai", altered(early_finish))
    _, _, data = client.chat("workers_ai", stream=True)
    chunks = objects(data)
    assert content_of(chunks) == "echo: four plus four"
    assert sum(bool(chunk["choices"] and chunk["choices"][0]["finish_reason"]) for chunk in chunks) == 2
    assert data.count(b"[DONE]") == 2
    assert "index" not in chunks[0]["choices"][0]


def test_workers_ai_embeds_and_reranks(client):
    answer = client.json("workers_ai", "/run/@cf/baai/bge-base-en-v1.5", {"text": ["a", "b"], "pooling": "cls"})
    assert answer["result"]["shape"] == [2, 768]
    assert "usage" not in answer["result"]
    assert client.refusal("workers_ai", "/run/@cf/baai/bge-base-en-v1.5", {"text": ["a"] * 101})[0] == 400
    compat = client.json("workers_ai", "/v1/embeddings", {"model": "@cf/baai/bge-m3", "input": "a", "dimensions": None})
    assert len(compat["data"][0]["embedding"]) == 1024
    contexts = [{"text": "a cat"}, {"text": "a red dog"}]
    body = {"query": "red dog", "contexts": contexts, "top_k": 1}
    ranked = client.json("workers_ai", "/run/@cf/baai/bge-reranker-base", body)
    assert ranked["result"]["response"] == [{"id": 1, "score": 1.0}]


def test_workers_ai_lists_models_by_task_and_not_on_the_compatible_path(client):
    found = client.json("workers_ai", "/models/search?task=Text%20Embeddings&per_page=2&page=2", method="GET")
    assert [row["name"] for row in found["result"]] == ["@cf/baai/bge-large-en-v1.5", "@cf/baai/bge-m3"]
    status, body = client.refusal("workers_ai", "/v1/models", method="GET")
    assert (status, body["errors"][0]["code"]) == (405, 7001)


# --- openrouter ----------------------------------------------------------------------------------------------------


def test_openrouter_drops_unknown_parameters_silently(client):
    assert client.completion("openrouter", anything=1, top_k=4, logit_bias={})["choices"][0]["finish_reason"] == "stop"


def test_openrouter_streams_comments_first_and_usage_after_the_finish(client):
    _, _, data = client.chat("openrouter", stream=True)
    assert data.startswith(b": OPENROUTER PROCESSING\n\n")
    chunks = objects(data)
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert finishes[-2:] == ["stop", None]
    assert "usage" in chunks[-1]
    assert all(chunk["choices"][0]["delta"]["role"] == "assistant" for chunk in chunks)
    assert chunks[1]["choices"][0]["delta"]["reasoning_details"][0]["type"] == "reasoning.text"


@pytest.mark.parametrize(
    "change",
    [
        {"reasoning": {"effort": "low", "max_tokens": 100}},
        {"reasoning": {"effort": "low"}, "reasoning_effort": "high"},
        {"model": "openai/gpt-oss-20b:free", "reasoning": {"effort": "none"}},
    ],
)
def test_openrouter_refuses_contradictions_about_reasoning(client, change):
    assert client.chat("openrouter", **change)[0] == 400


NEEDS_SCHEMA = {
    "model": "meta-llama/llama-3.3-70b-instruct:free",
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
}


def test_openrouter_drops_what_no_backend_has_unless_it_is_required(client):
    assert client.completion("openrouter", **NEEDS_SCHEMA)["choices"][0]["message"]["content"].startswith("echo:")
    required = {"provider": {"require_parameters": True}}
    body = {**chat_body("openrouter"), **NEEDS_SCHEMA, **required}
    status, refusal = client.refusal("openrouter", CHAT_PATHS["openrouter"], body)
    assert (status, refusal["error"]["message"]) == (404, f"No endpoints found for {NEEDS_SCHEMA['model']}.")
    assert client.send("openrouter", CHAT_PATHS["openrouter"], {**chat_body("openrouter"), **required})[0] == 200


@pytest.mark.parametrize(
    ("provider", "window", "told"),
    [
        ("openrouter", 262144, "(3 of text input, 262142 in the output)"),
        ("plain", 8192, "is too large: 8190. This model's maximum context length is 8192 tokens"),
    ],
)
def test_prompt_and_answer_share_the_window(client, provider, window, told):
    assert client.chat(provider, max_tokens=window - 3)[0] == 200
    status, refusal = client.refusal(provider, CHAT_PATHS[provider], chat_body(provider, max_tokens=window - 2))
    assert status == 400
    assert told in refusal["error"]["message"]


def test_plain_tells_how_long_a_prompt_was_that_is_too_long(client):
    body = chat_body("plain", messages=[{"role": "user", "content": "x " * 9000}])
    status, refusal = client.refusal("plain", CHAT_PATHS["plain"], body)
    assert status == 400 and "your request has 9001 input tokens" in refusal["error"]["message"]


def test_openrouter_takes_the_first_live_model_of_the_list(client):
    answer = client.completion("openrouter", model="gone", models=["cohere/north-mini-code:free"])
    assert answer["model"] == "cohere/north-mini-code:free"


def test_openrouter_lists_models_without_a_key_but_counts_only_with_one(client):
    rows = client.json("openrouter", "/models", method="GET", key="")["data"]
    assert rows[0]["pricing"]["prompt"] == "0"
    assert client.send("openrouter", "/key", method="GET", key="")[0] == 401
    client.completion("openrouter")
    assert client.json("openrouter", "/key", method="GET")["data"]["free_model_daily_requests"]["used"] == 1


def test_openrouter_embeds_and_reranks(client):
    embedded = client.json("openrouter", "/embeddings", {"model": "openai/text-embedding-3-small", "input": "a", "dimensions": 8})
    assert len(embedded["data"][0]["embedding"]) == 8
    body = {"model": "cohere/rerank-v3.5", "query": "dog", "documents": ["cat", {"text": "dog"}], "top_n": 1}
    assert client.json("openrouter", "/rerank", body)["results"][0]["index"] == 1


# --- cerebras ------------------------------------------------------------------------------------------------------

STRICT = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    "change",
    [
        {"frequency_penalty": 1},
        {"anything": 1},
        {"messages": [{**MESSAGE, "cache_control": {}}]},
        {"response_format": {"type": "json_object"}, "stream": True},
        {"response_format": STRICT},
        {"reasoning_effort": "none"},
        {"messages": [{"role": "user", "content": [IMAGE]}]},
        {"model": "qwen-3.8-27b", "messages": [{"role": "developer", "content": "x"}]},
        {
            "model": "qwen-3.8-27b",
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}],
        },
    ],
)
def test_cerebras_refuses_with_a_flat_error(client, change):
    status, body = client.refusal("cerebras", "/chat/completions", chat_body("cerebras", **change))
    assert status == 400
    assert set(body) == {"message", "type", "param", "code"}


def test_cerebras_takes_a_data_url_and_developer_messages_where_documented(client):
    assert client.chat("cerebras", model="qwen-3.8-27b", messages=[{"role": "user", "content": [IMAGE]}])[0] == 200
    assert client.chat("cerebras", messages=[{"role": "developer", "content": "x"}, MESSAGE])[0] == 200


def test_cerebras_tells_quotas_by_day_and_minute_with_resets_in_seconds(client):
    _, headers, _ = client.chat("cerebras")
    assert int(headers["x-ratelimit-remaining-requests-day"]) < int(headers["x-ratelimit-limit-requests-day"])
    assert float(headers["x-ratelimit-reset-tokens-minute"]) > 0


def test_cerebras_ends_a_stream_with_finish_usage_and_times_in_one_chunk(client):
    last = client.chunks("cerebras")[-1]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert {"usage", "time_info"} <= set(last)


def test_cerebras_publishes_its_models_without_a_key(simulator, client):
    connection = client.open()
    connection.request("GET", "/cerebras/public/v1/models")
    assert "limits" in json.loads(connection.getresponse().read())["data"][0]
    connection.close()


# --- voyage_ai -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"dimensions": 512},
        {"user": "eve"},
        {"encoding_format": "float"},
        {"input_type": "search"},
        {"output_dimension": 512},
        {"input": ["a"] * 1001},
        {"input": []},
    ],
)
def test_voyage_refuses_openai_names_and_bad_values(client, change):
    status, body = client.refusal("voyage_ai", "/embeddings", {"model": "voyage-3", "input": ["a"], **change})
    assert (status, set(body)) == (400, {"detail"})


def test_voyage_embeds_with_total_tokens_only(client):
    answer = client.json("voyage_ai", "/embeddings", {"model": "voyage-3.5", "input": ["a", "b"], "output_dimension": 256})
    assert [len(row["embedding"]) for row in answer["data"]] == [256, 256]
    assert answer["data"][0]["embedding"] != answer["data"][1]["embedding"]
    assert answer["usage"] == {"total_tokens": 2}


def test_voyage_without_a_payment_method_counts_calls_over_all_models(client, simulator):
    body = {"model": "voyage-3", "input": ["a"]}
    voyage = simulator.services["voyage_ai"]
    assert isinstance(voyage, VoyageAI)
    voyage.has_card = False
    assert [client.send("voyage_ai", "/embeddings", {**body, "model": m})[0] for m in ("voyage-3", "voyage-4")] == [200, 200]
    assert client.send("voyage_ai", "/embeddings", {**body, "input": ["a "] * 10_000})[0] == 400  # not counted
    assert client.send("voyage_ai", "/embeddings", {**body, "input": ["a a a a a a a a a a a"] * 999})[0] == 429
    assert client.send("voyage_ai", "/embeddings", body)[0] == 200
    status, refusal = client.refusal("voyage_ai", "/embeddings", body)
    assert status == 429 and "3 RPM and 10K TPM" in refusal["detail"]


def test_voyage_base64_holds_the_same_numbers(client):
    body = {"model": "voyage-3", "input": "a"}
    plain = client.json("voyage_ai", "/embeddings", body)["data"][0]["embedding"]
    packed = client.json("voyage_ai", "/embeddings", {**body, "encoding_format": "base64"})["data"][0]["embedding"]
    assert struct.unpack("<1024f", base64.b64decode(packed)) == pytest.approx(plain)


def test_voyage_reranks_under_data_with_top_k(client):
    body = {"model": "rerank-2.5", "query": "red dog", "documents": ["cat", "red dog"], "top_k": 1, "return_documents": True}
    answer = client.json("voyage_ai", "/rerank", body)
    assert answer["data"] == [{"relevance_score": 1.0, "index": 1, "document": "red dog"}]
    assert client.send("voyage_ai", "/rerank", {**body, "top_n": 1})[0] == 400


# --- scripts and records -------------------------------------------------------------------------------------------


def test_scripted_behaviours_are_used_once_in_order_then_the_default(client, simulator):
    simulator.script("groq", errors.groq_rate_limit(), faithful(), reply(500, {"error": {}}))
    assert [client.chat("groq")[0] for _ in range(4)] == [429, 200, 500, 200]


def test_always_holds_until_reset_and_yields_to_the_queue(client, simulator):
    simulator.always("groq", reply(500))
    simulator.always("groq", html(502))
    simulator.script("groq", reply(418))
    assert [client.chat("groq")[0] for _ in range(3)] == [418, 502, 502]
    simulator.reset()
    assert client.chat("groq")[0] == 200


def test_scripts_can_be_for_one_model_or_key_and_leave_model_lists_alone(client, simulator):
    simulator.always("groq", reply(500), model="openai/gpt-oss-20b")
    simulator.always("groq", reply(429), key="gsk_test2")
    simulator.script("groq", reply(503))
    assert client.send("groq", "/models", method="GET")[0] == 200
    assert client.chat("groq")[0] == 503
    assert client.chat("groq")[0] == 200
    assert client.chat("groq", model="openai/gpt-oss-20b")[0] == 500
    assert client.send("groq", "/chat/completions", chat_body("groq"), key="gsk_test2")[0] == 429
    assert client.chat("cerebras")[0] == 200


def test_a_script_for_an_unknown_provider_is_a_mistake(simulator):
    with pytest.raises(KeyError):
        simulator.script("grok", reply(500))


def test_requests_are_recorded_as_they_came(client, simulator):
    client.chat("groq")
    client.send("gemini", GENERATE, native())
    client.send("groq", "/models", method="GET")
    groq, gemini = simulator.calls()
    assert (groq.provider, groq.method, groq.path) == ("groq", "POST", "/groq/openai/v1/chat/completions")
    assert groq.json == chat_body("groq")
    assert (groq.key, groq.model, groq.status) == ("gsk_test", "openai/gpt-oss-120b", 200)
    assert (gemini.key, gemini.model) == ("AIza_test", "gemini-3.5-flash")
    assert groq.wait_ended() == "answered"
    assert groq.client_closed_at is None
    assert groq.t <= gemini.t
    assert len(simulator.requests) == 3
    assert simulator.calls("groq") == [groq]


def test_connections_are_kept_alive_and_numbered(client, simulator):
    connection = client.open()
    for _ in range(2):
        client.request(connection, "groq", "/chat/completions", chat_body("groq", stream=True))
        connection.getresponse().read()
    connection.close()
    first, second = simulator.calls("groq")
    assert first.connection == second.connection


def test_chunked_requests_are_read(client, simulator):
    connection = client.open()
    body = json.dumps(chat_body("groq")).encode()
    headers = {"Authorization": "Bearer gsk_test", "Transfer-Encoding": "chunked"}
    connection.request("POST", "/groq/openai/v1/chat/completions", iter([body[:9], body[9:]]), headers, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert simulator.calls("groq")[0].body == body


def test_a_client_that_leaves_is_noticed_while_the_provider_is_silent(simulator, sock):
    simulator.script("groq", stall())
    sock.ask()
    (call,) = simulator.wait_for_calls(1, "groq")
    assert call.wait_ended(0.05) is None
    left_at = time.monotonic()
    sock.connection.close()
    assert call.wait_ended(1) == "client_closed"
    assert call.client_closed_at is not None
    assert 0 <= call.client_closed_at - left_at < 0.5


def test_a_client_that_leaves_in_mid_stream_is_noticed(simulator, sock):
    simulator.script("groq", restream(pause_s=0.02))
    sock.ask()
    sock.read_until(b"\r\n")
    (call,) = simulator.wait_for_calls(1, "groq")
    sock.connection.close()
    assert call.wait_ended(2) == "client_closed"


def test_closing_ends_what_runs():
    before = set(threading.enumerate())
    with Simulator() as other:
        other.script("groq", stall())
        with socket.create_connection(("127.0.0.1", other.port), timeout=5) as connection:
            connection.sendall(b"POST /groq/openai/v1/chat/completions HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            (call,) = other.wait_for_calls(1)
            started = time.monotonic()
            other.close()
            assert time.monotonic() - started < 1
    assert call.wait_ended(0) == "stopped"
    assert not set(threading.enumerate()) - before


def test_wait_for_calls_says_what_is_missing(simulator):
    with pytest.raises(AssertionError, match="0 calls to groq"):
        simulator.wait_for_calls(1, "groq", timeout_s=0.01)


# --- faults --------------------------------------------------------------------------------------------------------


def test_delay_waits_before_any_byte(client, simulator):
    simulator.script("groq", delay(0.15))
    started = time.monotonic()
    assert client.chat("groq")[0] == 200
    assert time.monotonic() - started >= 0.15


def test_cut_after_events_ends_without_the_terminator(simulator, sock):
    simulator.script("groq", cut_after(n_events=2))
    sock.ask()
    data = sock.read_all()
    assert len(objects(data)) == 2
    assert not data.endswith(b"0\r\n\r\n")
    assert simulator.calls("groq")[0].wait_ended() == "cut"


def test_cut_after_bytes_may_end_inside_an_event(simulator, sock):
    simulator.script("groq", cut_after(n_bytes=10, answer=stream([{"a": 1}, {"b": 2}])))
    sock.ask()
    assert sock.read_all().endswith(b'\r\n\r\na\r\ndata: {"a"\r\n')


def test_cut_of_a_whole_answer_leaves_it_shorter_than_promised(client, simulator):
    simulator.script("groq", cut_after(n_bytes=20))
    with pytest.raises(http.client.IncompleteRead):
        client.chat("groq")


def test_reset_after_events_ends_with_a_reset(simulator, sock):
    simulator.script("groq", reset_after(n_events=1))
    sock.ask()
    with pytest.raises(ConnectionResetError):
        sock.read_all()
    assert simulator.calls("groq")[0].wait_ended() == "reset"


def test_stall_after_events_keeps_the_connection_open(simulator, sock):
    simulator.script("groq", stall_after(n_events=1))
    sock.ask()
    sock.read_until(b"\n\n\r\n")
    sock.connection.settimeout(0.1)
    with pytest.raises(TimeoutError):
        sock.connection.recv(1)
    assert simulator.calls("groq")[0].ended is None


@pytest.mark.parametrize(("reset", "error"), [(False, http.client.RemoteDisconnected), (True, ConnectionResetError)])
def test_hang_up_sends_nothing(client, simulator, reset, error):
    simulator.script("groq", hang_up(reset=reset))
    with pytest.raises(error):
        client.chat("groq")


def test_drip_sends_slowly(client, simulator):
    simulator.script("groq", drip({"a": 1}, bytes_per_s=50))
    started = time.monotonic()
    assert client.chat("groq")[2] == b'{"a":1}'
    assert time.monotonic() - started >= 0.12


def test_raw_bytes_and_pauses(simulator, sock):
    simulator.script("groq", raw(b"HTTP/1.1 200 OK\r\n", 0.02, b"\r\nhello"))
    sock.ask()
    assert sock.read_all() == b"HTTP/1.1 200 OK\r\n\r\nhello"


def test_wrong_length_promises_more_than_it_sends(client, simulator):
    simulator.script("groq", wrong_length(missing=5))
    with pytest.raises(http.client.IncompleteRead) as caught:
        client.chat("groq")
    assert caught.value.expected == 5


def test_empty_and_html_bodies(client, simulator):
    simulator.script("groq", empty(), html(502))
    assert client.chat("groq")[2] == b""
    status, headers, body = client.chat("groq")
    assert (status, headers["content-type"].split(";")[0], body[:6]) == (502, "text/html", b"<html>")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("write_bytes", [None, 1, 7])
@pytest.mark.parametrize("chunked", [True, False])
def test_streams_can_have_any_form(client, simulator, line_end, write_bytes, chunked):
    form = stream([{"é": 1}, ("error", "x"), "two\nlines"], line_end=line_end, write_bytes=write_bytes, chunked=chunked)
    simulator.script("groq", form)
    _, headers, data = client.chat("groq", stream=True)
    assert data.decode().split(line_end) == [
        *('data: {"é":1}', ""),
        *("event: error", "data: x", ""),
        *("data: two", "data: lines", ""),
        *("data: [DONE]", "", ""),
    ]
    assert ("transfer-encoding" in headers) is chunked
    assert headers["connection"] == ("keep-alive" if chunked else "close")


@pytest.mark.parametrize(("done", "count"), [(True, 1), (False, 0), ("twice", 2)])
def test_done_may_be_missing_or_come_twice(client, simulator, done, count):
    simulator.script("groq", restream(done=done))
    assert client.chat("groq", stream=True)[2].count(b"[DONE]") == count


def test_comments_can_be_slow_and_come_before_events(client, simulator):
    simulator.script("groq", restream(comments=["wait"] * 3, comment_pause_s=0.03))
    started = time.monotonic()
    _, _, data = client.chat("groq", stream=True)
    assert data.startswith(b": wait\n\n" * 3 + b"data: ")
    assert time.monotonic() - started >= 0.09


def test_error_after_events_is_the_providers_own_event(client, simulator):
    simulator.script("groq", error_after(2, errors.groq_stream_error()))
    _, _, data = client.chat("groq", stream=True)
    assert b"event: error\ndata: " in data
    assert objects(data)[-1]["error"]["code"] == "tool_use_failed"
    assert b"[DONE]" not in data
    simulator.script("openrouter", error_after(2, errors.openrouter_stream_error(), done=True))
    _, _, data = client.chat("openrouter", stream=True)
    assert objects(data)[-1]["choices"][0]["finish_reason"] == "error"
    assert data.endswith(b"[DONE]\n\n")


@pytest.mark.parametrize("behaviour", [close_idle(), go_stale(), go_stale(reset=True)])
def test_a_kept_connection_can_be_dead_at_the_next_request(client, simulator, behaviour):
    simulator.script("groq", behaviour)
    connection = client.open()
    client.request(connection, "groq", "/chat/completions", chat_body("groq"))
    response = connection.getresponse()
    response.read()
    assert response.headers["connection"] == "keep-alive"
    assert simulator.calls("groq")[0].wait_ended() == "answered"
    with pytest.raises(ConnectionError):
        client.request(connection, "groq", "/chat/completions", chat_body("groq"))
        connection.getresponse()
    connection.close()
    assert len(simulator.calls("groq")) == 1


def test_a_stale_connection_looks_alive_until_it_is_used(simulator, sock):
    simulator.script("groq", go_stale())
    sock.ask()
    sock.read_until(b"0\r\n\r\n")
    sock.connection.settimeout(0.05)
    with pytest.raises(TimeoutError):
        sock.connection.recv(1)
    sock.ask()
    with suppress(ConnectionResetError):  # the request that it did not read
        assert sock.connection.recv(1) == b""


def test_a_dead_port_refuses_and_a_deaf_one_never_answers(simulator):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", simulator.dead_port()), timeout=1)
    with pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", simulator.deaf_port()), timeout=0.2)


# --- documented errors ---------------------------------------------------------------------------------------------


def test_groq_limits_name_their_window_and_wait():
    answer = errors.groq_rate_limit(window="tpd", limit=200000, used=199100, requested=2400, wait="9m38.016s")
    message = answer.body["error"]["message"]
    assert "tokens per day (TPD): Limit 200000, Used 199100, Requested 2400. Please try again in 9m38.016s." in message
    assert (answer.headers["retry-after"], answer.headers["x-ratelimit-remaining-tokens"]) == ("579", "7421")
    minute = errors.groq_rate_limit(wait="2.25s", limit=8000, used=7900).headers
    assert (minute["retry-after"], minute["x-ratelimit-remaining-tokens"], minute["x-ratelimit-reset-tokens"]) == (
        "3",
        "100",
        "2.25s",
    )


def test_gemini_quota_tells_its_window_in_the_quota_id_only():
    error = errors.gemini_quota(window="rpm").body["error"]
    by_type = {detail["@type"].rpartition(".")[2]: detail for detail in error["details"]}
    assert "PerMinute" in by_type["QuotaFailure"]["violations"][0]["quotaId"]
    assert by_type["RetryInfo"]["retryDelay"] == "20s"
    assert errors.in_list(errors.gemini_quota()).body[0]["error"]["code"] == 429


def test_openrouter_copies_its_limits_into_the_body():
    answer = errors.openrouter_free_limit(reset_at=1795392000)
    assert answer.headers["X-RateLimit-Reset"] == "1795392000000"
    assert answer.body["error"]["metadata"]["headers"] == answer.headers
    assert errors.openrouter_in_200().status == 200
    assert errors.openrouter_in_200().body["error"]["code"] == 502


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (errors.workers_day_quota(), 429, 4006),
        (errors.workers_capacity(), 429, 3040),
        (errors.workers_bad_input("x"), 400, 5006),
        (errors.workers_no_model("x"), 400, 5007),
        (errors.workers_no_route("x"), 404, 7003),
        (errors.workers_bad_key(403), 403, 10000),
        (errors.workers_paid_only(), 403, 5035),
    ],
)
def test_workers_ai_errors_have_cloudflares_codes(answer, status, code):
    assert (answer.status, answer.body["errors"][0]["code"], answer.body["success"]) == (status, code, False)


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (errors.cerebras_request_quota(), 429, "request_quota_exceeded"),
        (errors.cerebras_token_quota(), 429, "token_quota_exceeded"),
        (errors.cerebras_queue(), 429, "queue_exceeded"),
        (errors.cerebras_payment(), 402, "payment_required"),
        (errors.cerebras_context_length(), 400, "context_length_exceeded"),
    ],
)
def test_cerebras_errors_are_flat(answer, status, code):
    assert (answer.status, answer.body["code"]) == (status, code)
