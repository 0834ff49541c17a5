"""Cerebras: the few parameters it surely takes, its strict schemas, flat errors and quota headers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import responses

from gateway import errors
from gateway.domain import Model, QuotaReading
from gateway.providers.cerebras import Adapter, close_objects
from gateway.upstream.shape import ChunkShaper
from gateway.upstream.watch import Handle
from tests.contract.compatible import Bench, chat, drain, limits, text_of

BASE_URL = "https://api.cerebras.ai/v1"
GPT_OSS = Model(
    provider="cerebras",
    id="gpt-oss-120b",
    upstream_id="gpt-oss-120b",
    reasoning_tier="high",
    max_output_tokens=40960,
    limits={"rpm": 5, "tpm": 30000},
    context_window=65536,
    reserves_output=True,
    reasoning_efforts={"low": "low", "medium": "medium", "high": "high"},
    builtin=True,
)
QWEN = Model(
    provider="cerebras",
    id="qwen",
    upstream_id="qwen-3.8-27b",
    reasoning_tier="high",
    reasoning_efforts={"none": "none", "low": "low", "medium": "medium", "high": "high"},
    builtin=True,
)
LLAMA = Model(provider="cerebras", id="llama", upstream_id="llama3.1-8b")


@pytest.fixture
def bench() -> Bench:
    return Bench(Adapter, BASE_URL, GPT_OSS)


@pytest.fixture
def http():
    with responses.RequestsMock() as mock:
        yield mock


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", "temperature top_p stop seed logprobs top_logprobs tool_choice parallel_tool_calls user clear_thinking".split()
)
def test_a_parameter_of_its_list_is_sent(bench, name):
    assert bench.sent(chat(**{name: 1}))[name] == 1 and bench.dropped(chat(**{name: 1})) == ()


@pytest.mark.parametrize(
    "name",
    "frequency_penalty presence_penalty logit_bias service_tier n metadata store prediction top_k reasoning anything".split(),
)
def test_any_other_parameter_is_left_out_and_named(bench, name):
    request = chat(**{name: 2})
    assert set(bench.sent(request)) == {"model", "messages"} and bench.dropped(request) == (name,)


def test_reasoning_parameters_go_only_to_models_that_reason(bench):
    request = chat(reasoning_format="parsed")
    assert bench.sent(request)["reasoning_format"] == "parsed"
    assert bench.dropped(request, LLAMA) == ("reasoning_format",)


@pytest.mark.parametrize(("model", "role"), [(GPT_OSS, "developer"), (QWEN, "system"), (LLAMA, "system")])
def test_developer_is_known_to_gpt_oss_alone(bench, model, role):
    assert bench.sent_message({"role": "developer", "content": "a"}, model) == {"role": role, "content": "a"}


def test_messages_lose_thoughts_and_unknown_fields(bench):
    message = {"role": "assistant", "content": "a", "reasoning": "r", "reasoning_content": "r", "refusal": None, "name": "n"}
    assert bench.sent_message(message) == {"role": "assistant", "content": "a", "name": "n"}


@pytest.mark.parametrize(
    ("url", "served"),
    [
        ("data:image/png;base64,AAAA", True),
        ("data:image/JPEG;base64,AAAA", True),
        ("data:image/webp;base64,AAAA", False),
        ("https://x.test/i.png", False),
    ],
)
def test_only_images_in_its_formats_are_sent_to_it(bench, url, served):
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    request = chat(messages=[{"role": "user", "content": parts}], needs=frozenset({"vision"}))
    assert (bench.adapter.cannot_serve(request, QWEN) is None) is served
    assert bench.adapter.cannot_serve(chat(), QWEN) is None


def test_parts_of_text_go_out_as_one_string(bench):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert bench.sent_message({"role": "user", "content": parts})["content"] == "a\nb"


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        (GPT_OSS, "none", "low"),
        (GPT_OSS, "high", "high"),
        (QWEN, "none", "none"),
        (QWEN, "medium", "medium"),
        (LLAMA, "low", None),
    ],
)
def test_efforts_are_in_the_words_of_the_model(bench, model, effort, expected):
    assert bench.sent(chat(reasoning_effort=effort), model).get("reasoning_effort") == expected


def test_thoughts_that_cannot_be_turned_off_are_hidden(bench):
    assert bench.sent(chat(reasoning_effort="none"), GPT_OSS)["reasoning_format"] == "hidden"
    assert "reasoning_format" not in bench.sent(chat(reasoning_effort="none"), QWEN)
    assert "reasoning_format" not in bench.sent(chat(reasoning_effort="low"), GPT_OSS)


def test_the_limit_has_its_newer_name_and_fits_into_the_minute(bench):
    body = bench.sent(chat(max_output_tokens=64000, prompt_tokens=8000))
    assert body["max_completion_tokens"] == 21000 and "max_tokens" not in body


def strict_format(schema: Any, strict: bool = True) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "strict": strict, "schema": schema}}


OPEN = {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}
CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "object", "properties": {}, "additionalProperties": False}},
    "additionalProperties": False,
}


def test_strict_schemas_are_closed_in_a_copy(bench):
    request = chat(response_format=strict_format(OPEN))
    assert bench.sent(request)["response_format"] == strict_format(CLOSED)
    assert request.body["response_format"] == strict_format(OPEN) and "additionalProperties" not in OPEN


def test_schemas_that_are_not_strict_stay(bench):
    assert bench.sent(chat(response_format=strict_format(OPEN, False)))["response_format"] == strict_format(OPEN, False)


@pytest.mark.parametrize(("strict", "parameters"), [(True, CLOSED), (False, OPEN)])
def test_parameters_of_strict_tools_are_closed(bench, strict, parameters):
    tool = {"type": "function", "function": {"name": "f", "strict": strict, "parameters": OPEN}}
    assert bench.sent(chat(tools=[tool]))["tools"][0]["function"]["parameters"] == parameters


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, {"type": "string"}),
        (True, True),
        ({"type": "object"}, {"type": "object", "additionalProperties": False}),
        ({"properties": {}}, {"properties": {}, "additionalProperties": False}),
        ({"type": "object", "additionalProperties": True}, {"type": "object", "additionalProperties": False}),
        ({"type": "object", "additionalProperties": OPEN}, {"type": "object", "additionalProperties": False}),
        ({"type": ["object", "null"]}, {"type": ["object", "null"], "additionalProperties": False}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"type": "array", "items": OPEN}, {"type": "array", "items": CLOSED}),
        ({"anyOf": [OPEN, {"type": "null"}]}, {"anyOf": [CLOSED, {"type": "null"}]}),
        ({"$ref": "#/$defs/o", "$defs": {"o": OPEN}}, {"$ref": "#/$defs/o", "$defs": {"o": CLOSED}}),
        ({"additionalProperties": OPEN}, {"additionalProperties": CLOSED}),
        # A property may be called as a keyword is, and a default or an enum holds data.
        (
            {"type": "object", "properties": {"properties": {"type": "string"}, "items": OPEN}, "default": {"type": "object"}},
            {
                "type": "object",
                "properties": {"properties": {"type": "string"}, "items": CLOSED},
                "default": {"type": "object"},
                "additionalProperties": False,
            },
        ),
    ],
)
def test_every_object_of_a_schema_is_closed(schema, expected):
    assert close_objects(schema) == expected


def test_json_mode_is_asked_for_as_a_whole_and_sent_as_a_stream(bench, http):
    http.post(bench.chat_url, body=bench.read("completion.json"))
    request = chat(stream=True, response_format={"type": "json_object"})
    chunks = drain(bench.adapter.open_stream(request, bench.candidate(), limits(), Handle()))
    assert "stream" not in json.loads(http.calls[0].request.body) and text_of(chunks) == "4"


@pytest.mark.parametrize("fields", [{}, {"response_format": strict_format(OPEN)}])
def test_everything_else_streams(bench, fields):
    assert bench.adapter.streams_natively(chat(stream=True, **fields), bench.candidate())


# --- answers ---------------------------------------------------------------------------------------------------------


def test_an_answer_comes_with_its_quotas(bench, http):
    headers = {
        "x-ratelimit-limit-requests-day": "14400",
        "x-ratelimit-remaining-requests-day": "14379",
        "x-ratelimit-reset-requests-day": "33011.382867",
        "x-ratelimit-limit-tokens-minute": "60000",
        "x-ratelimit-remaining-tokens-minute": "57231",
        "x-ratelimit-reset-tokens-minute": "11.382867",
        "x-ratelimit-remaining-requests-minute": "4",
        "x-ratelimit-remaining-tokens-day": "9000",
        "x-ratelimit-remaining-requests-hour": "1",
    }
    answer = bench.complete(http, bench.read("completion.json"), headers=headers)
    assert {reading.window: reading for reading in answer.quota} == {
        "rpd": QuotaReading("rpd", 14400, 14379, 33011.382867),
        "tpm": QuotaReading("tpm", 60000, 57231, 11.382867),
        "rpm": QuotaReading("rpm", None, 4, None),
        "tpd": QuotaReading("tpd", None, 9000, None),
    }


def test_a_stream_is_read_to_its_usage(bench, http):
    shaper = ChunkShaper(model="m", splits_thoughts=False)
    chunks = bench.stream(http, bench.read("stream.sse"))
    deltas = [choice["delta"] for raw in chunks for chunk in shaper.feed(raw) for choice in chunk["choices"]]
    assert deltas == [{"role": "assistant", "reasoning_content": "2+2"}, {"content": "Four."}]
    assert shaper.finish_reason == "stop" and shaper.usage is not None and shaper.usage["total_tokens"] == 125


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": {"message": "busy", "code": "queue_exceeded"}, "status_code": 429}, errors.UpstreamOverloaded),
        ({"error": {"message": "slow", "code": "token_quota_exceeded"}, "status_code": 429}, errors.UpstreamRateLimited),
        ({"error": {"message": "oops", "type": "server_error"}, "status_code": 500}, errors.UpstreamFailed),
        ({"error": {}, "status_code": 503}, errors.UpstreamOverloaded),
    ],
)
def test_an_error_chunk_has_the_status_beside_it(bench, http, event, kind):
    with pytest.raises(kind) as caught:
        bench.stream(http, b"data: " + json.dumps(event).encode() + b"\n\n")
    assert caught.value.upstream_status == event["status_code"]


# --- failures --------------------------------------------------------------------------------------------------------


def flat(message: str, code: str | None = None, type_: str = "invalid_request_error") -> dict[str, Any]:
    return {"message": message, "type": type_, "param": "quota", "code": code}


REQUESTS = flat(
    "Requests per minute limit exceeded - too many requests sent.", "request_quota_exceeded", "too_many_requests_error"
)
REQUESTS_OF_DAY = flat("Requests per day limit exceeded - too many requests sent.", "request_quota_exceeded")
TOKENS = flat("Tokens per minute limit exceeded - too many tokens processed.", "token_quota_exceeded", "too_many_tokens_error")
TOO_LONG = "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192"


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize(
    ("status", "payload", "kind", "scope"),
    [
        (400, flat("body.top_k: property 'body.top_k' is unsupported", "wrong_api_format"), errors.UpstreamModelFailed, "none"),
        (400, flat(TOO_LONG, "context_length_exceeded"), errors.UpstreamContextTooLong, "none"),
        (400, flat(TOO_LONG), errors.UpstreamContextTooLong, "none"),
        (400, flat("messages: field required"), errors.UpstreamRejected, "none"),
        (401, flat("Wrong API Key", "wrong_api_key"), errors.UpstreamCredentialRejected, "credential"),
        (
            402,
            flat("Payment required to access this resource.", "payment_required"),
            errors.UpstreamPaymentRequired,
            "credential",
        ),
        (403, flat("Forbidden"), errors.UpstreamCredentialRejected, "credential"),
        (
            404,
            flat("Model x does not exist or you do not have access to it.", "model_not_found"),
            errors.UpstreamModelGone,
            "candidate",
        ),
        (408, flat("timeout"), errors.UpstreamFailed, "model"),
        (422, flat("invalid"), errors.UpstreamRejected, "none"),
        (429, REQUESTS, errors.UpstreamRateLimited, "candidate"),
        (429, TOKENS, errors.UpstreamRateLimited, "candidate"),
        (429, REQUESTS_OF_DAY, errors.UpstreamQuotaExhausted, "candidate"),
        (429, flat("We're experiencing high traffic right now!", "queue_exceeded"), errors.UpstreamOverloaded, "model"),
        (500, flat("oops", type_="server_error"), errors.UpstreamFailed, "model"),
        (503, flat("oops"), errors.UpstreamOverloaded, "model"),
    ],
)
def test_a_failure_is_classified_flat_or_wrapped(bench, status, payload, kind, scope, wrap):
    error = bench.error(status, {"error": payload} if wrap else payload)
    assert type(error) is kind and error.cooldown_scope == scope and error.message == payload["message"]


def test_a_page_of_the_edge_is_no_verdict_on_the_key(bench):
    assert type(bench.error(403, "<html>blocked</html>")) is errors.UpstreamUnreachable


def test_the_numbers_of_a_prompt_that_is_too_long_are_read(bench):
    error = bench.error(400, flat(TOO_LONG, "context_length_exceeded"))
    assert (error.limit_tokens, error.prompt_tokens) == (8192, 9000)


@pytest.mark.parametrize(
    ("headers", "kind", "retry_after_s"),
    [
        ({"retry-after": "12"}, errors.UpstreamRateLimited, 12),
        (
            {"x-ratelimit-remaining-requests-day": "0", "x-ratelimit-reset-requests-day": "33011.5"},
            errors.UpstreamQuotaExhausted,
            33011.5,
        ),
        (
            {"x-ratelimit-remaining-tokens-day": "0", "x-ratelimit-reset-tokens-day": "100", "retry-after": "90"},
            errors.UpstreamQuotaExhausted,
            90,
        ),
        (
            {"x-ratelimit-remaining-tokens-minute": "0", "x-ratelimit-reset-tokens-minute": "11.5"},
            errors.UpstreamRateLimited,
            11.5,
        ),
    ],
)
def test_headers_of_a_429_tell_which_window_and_how_long(bench, headers, kind, retry_after_s):
    error = bench.error(429, REQUESTS, headers)
    assert type(error) is kind and error.retry_after_s == retry_after_s
