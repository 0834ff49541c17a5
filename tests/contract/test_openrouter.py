"""OpenRouter: thoughts on their way in and out, errors of the platform and of its backends, and streams with comments."""

from __future__ import annotations

import json
from typing import Any

import pytest
import responses

from gateway import errors
from gateway.domain import Model
from gateway.providers.openrouter import Adapter
from gateway.upstream.shape import ChunkShaper
from gateway.upstream.watch import Handle
from tests.contract.compatible import NOW, Bench, chat, limits

BASE_URL = "https://openrouter.ai/api/v1"
GPT_OSS = Model(
    provider="openrouter",
    id="gpt-oss",
    upstream_id="openai/gpt-oss-20b:free",
    reasoning_tier="medium",
    reasoning_efforts={"low": "low", "medium": "medium", "high": "high"},
    builtin=True,
)
LLAMA = Model(provider="openrouter", id="llama", upstream_id="meta-llama/llama-3.3-70b-instruct:free")
MIDNIGHT_S = 5600  # from NOW


@pytest.fixture
def bench() -> Bench:
    return Bench(Adapter, BASE_URL, GPT_OSS)


@pytest.fixture
def http():
    with responses.RequestsMock() as mock:
        yield mock


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    "temperature top_p top_k min_p top_a frequency_penalty presence_penalty repetition_penalty stop seed logit_bias logprobs "
    "top_logprobs tool_choice parallel_tool_calls response_format provider plugins metadata user".split(),
)
def test_a_parameter_of_its_list_is_sent(bench, name):
    assert bench.sent(chat(**{name: 1}))[name] == 1 and bench.dropped(chat(**{name: 1})) == ()


@pytest.mark.parametrize("name", ["n", "store", "models", "route", "anything"])
def test_what_it_would_ignore_is_left_out_and_named(bench, name):
    request = chat(**{name: 2})
    assert set(bench.sent(request)) == {"model", "messages"} and bench.dropped(request) == (name,)


@pytest.mark.parametrize(
    ("sent", "effort", "expected"),
    [
        ({}, "none", {"effort": "low", "exclude": True}),
        ({}, "high", {"effort": "high"}),
        ({}, None, None),
        ({"reasoning": {"exclude": True}}, "low", {"exclude": True, "effort": "low"}),
        ({"reasoning": {"max_tokens": 2000}}, "low", {"effort": "low"}),
        ({"reasoning": {"enabled": False}}, "none", {"effort": "low", "exclude": True}),
        ({"reasoning": {"max_tokens": 2000}}, None, {"max_tokens": 2000}),
    ],
)
def test_an_effort_goes_into_the_reasoning_object(bench, sent, effort, expected):
    request = chat(reasoning_effort=effort, **sent)
    body = bench.sent(request)
    assert body.get("reasoning") == expected and "reasoning_effort" not in body
    assert {name: request.body[name] for name in sent} == sent and bench.dropped(request) == ()


def test_an_effort_is_not_sent_to_a_model_that_does_not_reason(bench):
    request = chat(reasoning_effort="low")
    assert "reasoning" not in bench.sent(request, LLAMA) and bench.dropped(request, LLAMA) == ("reasoning_effort",)


def test_reasoning_is_not_sent_to_a_model_that_does_not_reason(bench):
    request = chat(reasoning={"effort": "high"}, include_reasoning=True, temperature=0)
    assert set(bench.sent(request, LLAMA)) == {"model", "messages", "temperature"}
    assert bench.dropped(request, LLAMA) == ("reasoning", "include_reasoning")


def test_messages_keep_what_backends_need_back(bench):
    details = [{"type": "reasoning.encrypted", "data": "x"}]
    message = {"role": "assistant", "content": "a", "reasoning_details": details, "reasoning_content": "r", "refusal": None}
    assert bench.sent_message(message) == {"role": "assistant", "content": "a", "reasoning_details": details}
    assert bench.sent_message({"role": "developer", "content": "a"})["role"] == "developer"
    assert bench.sent_message({"role": "user", "content": "a", "name": "bo"})["name"] == "bo"


def test_parts_keep_their_cache_control(bench):
    part = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    assert bench.sent_message({"role": "user", "content": [{**part, "x": 1}]})["content"] == [part]


def test_the_limit_of_the_answer_is_as_asked(bench):
    assert bench.sent(chat(max_output_tokens=5))["max_tokens"] == 5


def test_usage_is_not_asked_for(bench):
    assert set(bench.sent(chat(stream=True))) == {"model", "messages", "stream"}


# --- answers ---------------------------------------------------------------------------------------------------------


def test_an_answer_is_returned_with_its_thoughts(bench, http):
    message = bench.complete(http, bench.read("completion.json")).body["choices"][0]["message"]
    assert message["content"] == "Four." and message["reasoning_details"][0]["text"] == "2+2"


def test_a_stream_is_read_past_its_comments_to_the_usage_behind_the_end(bench, http):
    shaper = ChunkShaper(model="m", splits_thoughts=False)
    chunks = bench.stream(http, bench.read("stream.sse"))
    deltas = [choice["delta"] for raw in chunks for chunk in shaper.feed(raw) for choice in chunk["choices"]]
    assert deltas[0]["reasoning_content"] == "Think" and deltas[1] == {"content": "Four."} and len(deltas) == 2
    assert shaper.finish_reason == "stop" and shaper.usage is not None and shaper.usage["total_tokens"] == 113


def test_an_error_in_the_usage_chunk_is_raised(bench, http):
    with pytest.raises(errors.UpstreamFailed, match="Provider disconnected") as caught:
        bench.stream(http, bench.read("stream_error.sse"))
    assert caught.value.upstream_status == 502


@pytest.mark.parametrize(
    ("chunk", "kind"),
    [
        ({"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}, errors.UpstreamFailed),
        ({"error": {"code": "server_error", "message": "x"}, "choices": []}, errors.UpstreamFailed),
        ({"error": {"code": "429", "message": "x"}}, errors.UpstreamRateLimited),
        ({"error": {"code": 502, "message": "x", "metadata": {"error_type": "provider_overloaded"}}}, errors.UpstreamOverloaded),
    ],
)
def test_an_error_chunk_is_raised_as_what_it_is(bench, http, chunk, kind):
    with pytest.raises(kind) as caught:
        bench.stream(http, b": OPENROUTER PROCESSING\n\ndata: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n")
    assert type(caught.value) is kind


def test_an_error_in_a_200_is_raised_as_what_it_is(bench, http):
    with pytest.raises(errors.UpstreamRateLimited) as caught:
        bench.complete(http, bench.read("429_backend.json"))
    assert caught.value.upstream_status == 429


# --- failures --------------------------------------------------------------------------------------------------------


def body(code: int, message: str = "Provider returned error", **metadata: Any) -> dict[str, Any]:
    return {"error": {"message": message, "code": code, **({"metadata": metadata} if metadata else {})}, "user_id": "user_2x"}


FLAGGED = {"reasons": ["violence"], "flagged_input": "the prompt", "provider_name": "OpenAI", "model_slug": "m"}


@pytest.mark.parametrize(
    ("status", "payload", "kind", "scope"),
    [
        (400, body(400, "bad"), errors.UpstreamRejected, "none"),
        (400, body(400, "x/y is not a valid model ID"), errors.UpstreamModelGone, "model"),
        (400, body(400, "Reasoning is mandatory for this endpoint and cannot be disabled."), errors.UpstreamModelFailed, "none"),
        (400, body(400, raw="maximum context length is 100 tokens", provider_name="Z"), errors.UpstreamContextTooLong, "none"),
        (400, body(400, raw={"error": {"message": "unknown parameter"}}, provider_name="Z"), errors.UpstreamModelFailed, "none"),
        (400, body(400, "x", error_type="context_length_exceeded"), errors.UpstreamContextTooLong, "none"),
        (400, body(400, "x", error_type="max_tokens_exceeded"), errors.UpstreamModelFailed, "none"),
        (400, body(400, "x", error_type="invalid_request"), errors.UpstreamRejected, "none"),
        (400, body(400, "x", error_type="content_policy_violation"), errors.UpstreamRefusedContent, "none"),
        (401, body(401, "No auth credentials found"), errors.UpstreamCredentialRejected, "credential"),
        (401, body(401, "User not found."), errors.UpstreamCredentialRejected, "credential"),
        (401, body(401, raw="invalid key", provider_name="Z"), errors.UpstreamFailed, "model"),
        (402, body(402, "Insufficient credits"), errors.UpstreamPaymentRequired, "credential"),
        (402, body(402, "x", error_type="payment_required", provider_name="Z"), errors.UpstreamFailed, "model"),
        (403, body(403, "Your input was flagged", **FLAGGED), errors.UpstreamRefusedContent, "none"),
        (403, body(403, "Forbidden", flagged_input="the prompt"), errors.UpstreamRefusedContent, "none"),
        (400, body(400, raw="User location is not supported", provider_name="Google"), errors.UpstreamFailed, "model"),
        (403, body(403, "Key limit exceeded (total limit)."), errors.UpstreamPaymentRequired, "credential"),
        (403, body(403, "x", error_type="permission_denied"), errors.UpstreamCredentialRejected, "credential"),
        (403, "<html>", errors.UpstreamUnreachable, "provider"),
        (404, body(404, "No endpoints found for x/y:free."), errors.UpstreamModelGone, "model"),
        (404, body(404, "No endpoints found matching your data policy"), errors.UpstreamModelGone, "candidate"),
        (
            404,
            body(404, "No endpoints found that support tool use.", error_type="not_found"),
            errors.UpstreamModelFailed,
            "none",
        ),
        (408, body(408, "timed out"), errors.UpstreamFailed, "model"),
        (413, body(413, "too large", error_type="payload_too_large"), errors.UpstreamRejected, "none"),
        (422, body(422, "no", error_type="unprocessable"), errors.UpstreamRejected, "none"),
        (500, body(500, "oops"), errors.UpstreamFailed, "model"),
        (502, body(502, raw="bad", provider_name="Z"), errors.UpstreamFailed, "model"),
        (503, body(503, "no backend"), errors.UpstreamOverloaded, "model"),
        (524, "<html>", errors.UpstreamFailed, "model"),
        (529, body(529, "overloaded"), errors.UpstreamOverloaded, "model"),
    ],
)
def test_a_failure_is_classified(bench, status, payload, kind, scope):
    error = bench.error(status, payload)
    assert type(error) is kind and error.cooldown_scope == scope
    assert "the prompt" not in error.message


SCHEMA = {"needs": frozenset({"json_schema"})}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "message", "kind", "scope"),
    [
        ({}, "No endpoints found for m.", errors.UpstreamModelGone, "model"),
        (SCHEMA, "No endpoints found for m.", errors.UpstreamModelFailed, "none"),
        ({"provider": {"only": ["z"]}}, "No endpoints found for m.", errors.UpstreamModelFailed, "none"),
        (SCHEMA, "No endpoints found matching your data policy", errors.UpstreamModelGone, "candidate"),
    ],
)
def test_no_backend_for_this_request_says_nothing_of_the_model(bench, http, fields, message, kind, scope, stream):
    http.post(bench.chat_url, json=body(404, message), status=404)
    ask = bench.adapter.open_stream if stream else bench.adapter.complete
    with pytest.raises(errors.UpstreamError) as raised:
        ask(chat(stream=stream, **fields), bench.candidate(), limits(), Handle())
    assert type(raised.value) is kind and raised.value.cooldown_scope == scope and raised.value.upstream_status == 404


@pytest.mark.parametrize(
    "raw",
    [
        "busy",
        '{"error": {"message": "busy", "code": 429}}',
        {"error": {"message": "busy"}},
        [{"error": {"message": "busy"}}],
        '{"message": "busy"}',
        {"detail": "busy"},
    ],
)
def test_the_backends_own_words_are_found(bench, raw):
    assert bench.error(400, body(400, raw=raw, provider_name="Z")).message == "busy"


@pytest.mark.parametrize("raw", [None, "", {}, "<html>", 7])
def test_without_words_of_the_backend_the_platforms_stand(bench, raw):
    assert bench.error(400, body(400, raw=raw, provider_name="Z")).message == "Provider returned error"


def test_raw_that_only_looks_like_json_is_a_text(bench):
    assert bench.error(400, body(400, raw="{oops", provider_name="Z")).message == "{oops"


def test_the_backends_limit_rests_the_model_for_every_credential(bench):
    error = bench.error(429, json.loads(bench.read("429_backend.json")))
    assert type(error) is errors.UpstreamRateLimited and error.cooldown_scope == "model"
    assert error.message.startswith("google/gemma-4-31b-it:free is temporarily rate-limited upstream.")
    assert bench.error(429, body(429, raw="x"), {"retry-after": "4"}).retry_after_s == 4


def test_the_days_requests_rest_the_account_until_the_reset_in_the_body(bench):
    error = bench.error(429, json.loads(bench.read("429_free_models_per_day.json")))
    assert type(error) is errors.UpstreamQuotaExhausted and error.cooldown_scope == "credential"
    assert error.retry_after_s == 1795392000 - NOW


PER_DAY = "Rate limit exceeded: free-models-per-day-high-balance."
PER_MINUTE = "Rate limit exceeded: free-models-per-min."


SAID = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW * 1000) + 20000)}


@pytest.mark.parametrize(
    ("payload", "headers", "told"),
    [
        (body(429, PER_DAY, headers=SAID), {}, ("rpd", 50, 0, 20)),
        (body(429, PER_DAY), SAID, ("rpd", 50, 0, 20)),
        (body(429, PER_DAY), {}, ("rpd", None, 0, MIDNIGHT_S)),
        (body(429, PER_MINUTE, headers=SAID | {"X-RateLimit-Limit": "many"}), {}, ("rpm", None, 0, 20)),
        (body(429, "Rate limit exceeded", limit_source="openrouter_free_tier_daily"), SAID, ("rpd", 50, 0, 20)),
        (body(429, raw="slow down", provider_name="Google"), SAID, None),  # the backend's
        (body(402, "Too much at once", limit_source="openrouter_in_flight_budget"), SAID, None),
        ("<html>", SAID, None),
    ],
)
def test_a_refusal_by_the_platform_tells_that_nothing_is_left(bench, payload, headers, told):
    readings = bench.adapter.error_of(429, headers, payload, bench.candidate()).quota
    assert [(r.window, r.limit, r.remaining, r.resets_in_s) for r in readings] == ([] if told is None else [told])


@pytest.mark.parametrize(
    ("status", "payload", "headers", "retry_after_s"),
    [
        (429, body(429, PER_DAY), {}, MIDNIGHT_S),
        (429, body(429, PER_DAY), {"X-RateLimit-Reset": str(int(NOW * 1000) + 9000)}, 9),
        (429, body(429, PER_DAY), {"retry-after": "8"}, 8),
        (429, body(429, PER_DAY, headers="none"), {}, MIDNIGHT_S),
        (429, body(429, "Rate limit exceeded", limit_source="openrouter_free_tier_daily"), {}, MIDNIGHT_S),
        (429, body(429, PER_MINUTE, error_type="rate_limit_exceeded"), {}, 60),
        (429, body(429, PER_MINUTE, headers={"X-RateLimit-Reset": str(int(NOW * 1000) + 20000)}), {}, 20),
        (402, body(402, "Too much at once", limit_source="openrouter_in_flight_budget"), {"Retry-After": "5"}, 5),
    ],
)
def test_limits_of_the_platform_rest_the_account(bench, status, payload, headers, retry_after_s):
    error = bench.error(status, payload, headers)
    assert type(error) is errors.UpstreamQuotaExhausted and error.cooldown_scope == "credential"
    assert error.retry_after_s == retry_after_s
