"""Groq: the allow-lists that it demands, its streams, its quota headers and what its errors mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
import responses

from gateway import errors
from gateway.domain import Model, QuotaReading
from gateway.providers.groq import Adapter
from gateway.upstream.shape import ChunkShaper
from tests.contract.compatible import Bench, chat

BASE_URL = "https://api.groq.com/openai/v1"
LLAMA = Model(provider="groq", id="llama", upstream_id="llama-3.3-70b-versatile", context_window=131072, max_output_tokens=32768)
GPT_OSS = Model(
    provider="groq",
    id="gpt-oss",
    upstream_id="openai/gpt-oss-120b",
    reasoning_tier="high",
    reasoning_efforts={"low": "low", "medium": "medium", "high": "high"},
    builtin=True,
)
QWEN = Model(
    provider="groq",
    id="qwen",
    upstream_id="qwen/qwen3.6-27b",
    reasoning_tier="medium",
    reasoning_efforts={"none": "none", "low": "default", "medium": "default", "high": "default"},
    builtin=True,
)


@pytest.fixture
def bench() -> Bench:
    return Bench(Adapter, BASE_URL, LLAMA)


@pytest.fixture
def http():
    with responses.RequestsMock() as mock:
        yield mock


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    "temperature top_p stop seed tools tool_choice parallel_tool_calls response_format user search_settings "
    "compound_custom documents citation_options disable_tool_validation".split(),
)
def test_a_parameter_of_its_list_is_sent(bench, name):
    value: Any = [] if name == "tools" else "x"
    request = chat(**{name: value})
    assert bench.sent(request)[name] == value and bench.dropped(request) == ()


@pytest.mark.parametrize(
    "name",
    "n logprobs top_logprobs logit_bias frequency_penalty presence_penalty metadata store service_tier top_k "
    "prediction modalities reasoning anything".split(),
)
def test_any_other_parameter_is_left_out_and_named(bench, name):
    request = chat(**{name: 2}, temperature=0)
    assert set(bench.sent(request)) == {"model", "messages", "temperature"}
    assert bench.dropped(request) == (name,)


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ({"role": "user", "content": "a", "name": "bo"}, {"role", "content"}),
        ({"role": "assistant", "content": "a", "reasoning": "r", "reasoning_content": "r"}, {"role", "content"}),
        ({"role": "assistant", "content": "a", "refusal": None, "annotations": [], "timestamp": 1}, {"role", "content"}),
        ({"role": "tool", "content": "a", "tool_call_id": "1", "name": "f"}, {"role", "content", "tool_call_id"}),
    ],
)
def test_messages_lose_what_it_refuses(bench, message, fields):
    for model in (LLAMA, GPT_OSS):
        assert set(bench.sent_message(message, model)) == fields


def test_developer_becomes_system_for_every_model(bench):
    for model in (LLAMA, GPT_OSS):
        assert bench.sent_message({"role": "developer", "content": "a"}, model)["role"] == "system"


def test_content_is_a_string_unless_it_holds_an_image(bench):
    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    image = {"type": "image_url", "image_url": {"url": "https://x.test/i.png"}}
    assert bench.sent_message({"role": "system", "content": texts})["content"] == "a\nb"
    assert bench.sent_message({"role": "user", "content": [*texts, image]})["content"] == [*texts, image]


def test_tools_lose_strict(bench):
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    tools = bench.sent(chat(tools=[{"type": "function", "function": {**function, "strict": True}}]))["tools"]
    assert tools == [{"type": "function", "function": function}]


def test_only_four_stops_are_sent_and_the_rest_is_named(bench):
    request = chat(stop=["a", "b", "c", "d", "e"])
    assert bench.sent(request)["stop"] == ["a", "b", "c", "d"] and bench.dropped(request) == ("stop",)
    assert bench.dropped(chat(stop=["a", "b", "c", "d"])) == () and bench.sent(chat(stop="abcde"))["stop"] == "abcde"
    assert request.body["stop"] == ["a", "b", "c", "d", "e"]


def test_the_limit_has_its_newer_name(bench):
    body = bench.sent(chat(max_output_tokens=64000))
    assert body["max_completion_tokens"] == 32768 and "max_tokens" not in body


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        (GPT_OSS, "none", "low"),
        (GPT_OSS, "high", "high"),
        (GPT_OSS, None, None),
        (QWEN, "none", "none"),
        (QWEN, "minimal", "default"),
        (QWEN, "high", "default"),
        (LLAMA, "low", None),
    ],
)
def test_efforts_are_in_the_words_of_the_model(bench, model, effort, expected):
    request = chat(reasoning_effort=effort)
    assert bench.sent(request, model).get("reasoning_effort") == expected
    assert bench.dropped(request, model) == (("reasoning_effort",) if effort and not expected else ())


@pytest.mark.parametrize(
    ("model", "sent", "expected"),
    [
        (QWEN, {}, {"reasoning_format": "parsed"}),
        (QWEN, {"reasoning_format": "hidden"}, {"reasoning_format": "hidden"}),
        (QWEN, {"include_reasoning": False}, {"include_reasoning": False}),
        (GPT_OSS, {}, {}),
        (GPT_OSS, {"include_reasoning": False}, {"include_reasoning": False}),
        (LLAMA, {"reasoning_format": "parsed", "include_reasoning": True}, {}),
    ],
)
def test_thoughts_are_kept_out_of_the_content_of_models_that_think_aloud(bench, model, sent, expected):
    body = bench.sent(chat(**sent), model)
    assert {name: body[name] for name in ("reasoning_format", "include_reasoning") if name in body} == expected


def test_thoughts_that_cannot_be_turned_off_are_hidden(bench):
    assert bench.sent(chat(reasoning_effort="none"), GPT_OSS)["include_reasoning"] is False
    assert "include_reasoning" not in bench.sent(chat(reasoning_effort="none"), QWEN)
    assert "include_reasoning" not in bench.sent(chat(reasoning_effort="low"), GPT_OSS)
    asked = bench.sent(chat(reasoning_effort="none", reasoning_format="parsed"), GPT_OSS)
    assert asked["reasoning_format"] == "parsed" and "include_reasoning" not in asked  # the two exclude each other


# --- answers ---------------------------------------------------------------------------------------------------------


def test_an_answer_comes_with_its_quotas(bench, http):
    headers = {
        "x-ratelimit-limit-requests": "1000",
        "x-ratelimit-remaining-requests": "987",
        "x-ratelimit-reset-requests": "2m59.56s",
        "x-ratelimit-limit-tokens": "8000",
        "x-ratelimit-remaining-tokens": "7421",
        "x-ratelimit-reset-tokens": "7.66s",
    }
    answer = bench.complete(http, bench.read("completion.json"), headers=headers)
    assert answer.body["choices"][0]["message"]["content"] == "Four."
    assert answer.quota == (
        QuotaReading("rpd", 1000, 987, 179.56),
        QuotaReading("tpm", 8000, 7421, 7.66),
    )


def test_a_stream_is_read_to_its_usage(bench, http):
    shaper = ChunkShaper(model="m", splits_thoughts=False)
    shaped = [chunk for raw in bench.stream(http, bench.read("stream.sse")) for chunk in shaper.feed(raw)]
    assert [delta["delta"].get("reasoning_content") for chunk in shaped for delta in chunk["choices"]] == ["We", None]
    assert shaper.finish_reason == "tool_calls"
    assert shaper.usage == {"prompt_tokens": 78, "completion_tokens": 31, "total_tokens": 109}


def test_an_error_event_is_the_models_failure_and_does_not_repeat_what_it_wrote(bench, http):
    with pytest.raises(errors.UpstreamModelFailed) as caught:
        bench.stream(http, bench.read("stream_error.sse"))
    assert caught.value.upstream_status == 400
    assert '"name"' not in caught.value.message and "failed_generation" not in caught.value.message


@pytest.mark.parametrize(
    ("status_code", "kind"),
    [(400, errors.UpstreamRejected), (429, errors.UpstreamRateLimited), (503, errors.UpstreamOverloaded)],
)
def test_an_error_event_has_the_status_that_it_names(bench, http, status_code, kind):
    body = b'event: error\ndata: {"error":{"message":"x","status_code":%d}}\n\n' % status_code
    with pytest.raises(kind):
        bench.stream(http, body)


def test_an_error_in_its_own_extension_is_one(bench, http):
    body = b'data: {"choices":[{"index":0,"delta":{}}],"x_groq":{"id":"r","error":"over capacity"}}\n\n'
    with pytest.raises(errors.UpstreamFailed, match="over capacity"):
        bench.stream(http, body)


# --- failures --------------------------------------------------------------------------------------------------------


def body(message: str, code: str | None = None, type_: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, **({"code": code} if code else {})}}


def limited(window: str) -> dict[str, Any]:
    message = f"Rate limit reached for model `m` in organization `o` service tier `on_demand` on {window}: Limit 30, Used 30, "
    return body(message + "Requested 1. Please try again in 2s.", "rate_limit_exceeded", "requests")


UNSUPPORTED_FIELD = (
    "'messages.2' : for 'role:assistant' the following must be satisfied[('messages.2' : property 'reasoning_content' is "
    "unsupported)]"
)


@pytest.mark.parametrize(
    ("status", "payload", "kind", "scope"),
    [
        (400, body("property 'foo' is unsupported, did you mean 'bar'?"), errors.UpstreamModelFailed, "none"),
        (400, body(UNSUPPORTED_FIELD), errors.UpstreamModelFailed, "none"),
        (400, body("Failed to call a function.", "tool_use_failed"), errors.UpstreamModelFailed, "none"),
        (400, body("Failed to generate JSON.", "json_validate_failed"), errors.UpstreamModelFailed, "none"),
        (400, body("`reasoning_effort` must be one of `none` or `default`"), errors.UpstreamModelFailed, "none"),
        (400, body("`reasoning_format` is not supported with this model"), errors.UpstreamModelFailed, "none"),
        (
            400,
            body("'response_format.type' : value is not one of the allowed values ['text','json_object']"),
            errors.UpstreamModelFailed,
            "none",
        ),
        (
            400,
            body("invalid schema for response format: `response_format/json_schema/x`: minItems is not supported"),
            errors.UpstreamModelFailed,
            "none",
        ),
        (400, body("`tool calling` is not supported with this model: groq/compound"), errors.UpstreamModelFailed, "none"),
        (400, body("The model has been decommissioned.", "model_decommissioned"), errors.UpstreamModelGone, "model"),
        (400, body("The model `m` requires terms acceptance.", "model_terms_required"), errors.UpstreamModelGone, "candidate"),
        (
            400,
            body("Organization has been restricted.", "organization_restricted"),
            errors.UpstreamCredentialRejected,
            "credential",
        ),
        (
            400,
            body("Please reduce the length of the messages.", "context_length_exceeded"),
            errors.UpstreamContextTooLong,
            "none",
        ),
        (400, body("'messages' : minimum number of items is 1"), errors.UpstreamRejected, "none"),
        (401, body("Invalid API Key", "invalid_api_key"), errors.UpstreamCredentialRejected, "credential"),
        (
            403,
            body("The model `m` is blocked at the project level.", type_="permissions_error"),
            errors.UpstreamModelGone,
            "candidate",
        ),
        (
            403,
            {"error": {"message": "Access denied. Please check your network settings."}},
            errors.UpstreamUnreachable,
            "provider",
        ),
        (403, "<!DOCTYPE html><html>Attention Required! | Cloudflare</html>", errors.UpstreamUnreachable, "provider"),
        (
            404,
            body("The model `m` does not exist or you do not have access to it.", "model_not_found"),
            errors.UpstreamModelGone,
            "candidate",
        ),
        (422, body("semantic"), errors.UpstreamRejected, "none"),
        (424, body("failed dependency"), errors.UpstreamModelFailed, "none"),
        (429, limited("requests per minute (RPM)"), errors.UpstreamRateLimited, "candidate"),
        (429, limited("tokens per minute (TPM)"), errors.UpstreamRateLimited, "candidate"),
        (429, limited("requests per day (RPD)"), errors.UpstreamQuotaExhausted, "candidate"),
        (429, limited("tokens per day (TPD)"), errors.UpstreamQuotaExhausted, "candidate"),
        (498, body("capacity", "capacity_exceeded"), errors.UpstreamOverloaded, "model"),
        (499, body("cancelled"), errors.UpstreamFailed, "model"),
        (500, body("oops", type_="internal_server_error"), errors.UpstreamFailed, "model"),
        (502, "<html>bad gateway</html>", errors.UpstreamFailed, "model"),
        (503, body("over capacity", type_="internal_server_error"), errors.UpstreamOverloaded, "model"),
    ],
)
def test_a_failure_is_classified(bench, status, payload, kind, scope):
    error = bench.error(status, payload)
    assert type(error) is kind and error.cooldown_scope == scope


def test_a_request_larger_than_the_minute_rests_nothing(bench):
    error = bench.error(413, json.loads(bench.read("413_tokens_per_minute.json")))
    assert type(error) is errors.UpstreamQuotaTooSmall and error.cooldown_scope == "none"
    assert error.message.endswith("please reduce your message size and try again.") and "org_01x" not in error.message


def test_a_days_tokens_come_back_when_the_text_says(bench):
    error = bench.error(429, json.loads(bench.read("429_tokens_per_day.json")))
    assert type(error) is errors.UpstreamQuotaExhausted and error.retry_after_s == 578.016
    assert error.message.endswith("Please try again in 9m38.016s.")


def refusal(window: str, wait: str = "2s", used: str = " Used 199100,") -> dict[str, Any]:
    told = f"on tokens ({window}): Limit 200000,{used} Requested 2400. Please try again in {wait}. Need more tokens?"
    return body(f"Rate limit reached for model `m` in organization `o` service tier `on_demand` {told}")


@pytest.mark.parametrize("window", ["rpm", "rpd", "tpm", "tpd"])
def test_a_refusal_tells_of_the_window_that_it_met(bench, window):
    readings = bench.adapter.read_quota({}, refusal(window.upper(), "9m38.016s"))
    assert readings == (QuotaReading(window, 200000, 900, 578.016),)


def test_a_refusal_knows_its_window_better_than_the_headers(bench):
    headers = {"x-ratelimit-limit-tokens": "8000", "x-ratelimit-remaining-tokens": "8000", "x-ratelimit-limit-requests": "1000"}
    readings = bench.adapter.read_quota(headers, refusal("TPM"))
    assert readings == (QuotaReading("rpd", 1000, None, None), QuotaReading("tpm", 200000, 900, 2.0))


def test_a_request_that_is_too_large_tells_the_limit_alone(bench):
    payload = json.loads(bench.read("413_tokens_per_minute.json"))
    assert bench.adapter.read_quota({}, payload) == (QuotaReading("tpm", 8000, None, None),)


@pytest.mark.parametrize("payload", [None, "<html>", {}, body("Invalid API Key"), refusal("ITPM")])
def test_other_failures_tell_of_no_window(bench, payload):
    assert bench.adapter.read_quota({}, payload) == ()


def test_what_a_refusal_tells_comes_with_the_error(bench, http):
    with pytest.raises(errors.UpstreamQuotaExhausted) as raised:
        bench.complete(http, bench.read("429_tokens_per_day.json"), 429)
    assert [(reading.window, reading.limit, reading.remaining) for reading in raised.value.quota] == [("tpd", 200000, 900)]


def test_the_header_comes_before_the_text(bench):
    assert bench.error(429, limited("tokens per minute (TPM)"), {"retry-after": "3"}).retry_after_s == 3
    assert bench.error(429, limited("tokens per minute (TPM)")).retry_after_s == 2
