"""The default adapter: what goes out, what comes back, and what failures mean, for any endpoint of OpenAI's protocol."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
import responses

from gateway import errors
from gateway.domain import Candidate, Choice, Credential, EmbeddingRequest, Model, QuotaReading
from gateway.providers.openai_compatible import Adapter
from gateway.providers.openai_compatible.failures import read_error, read_token_counts
from gateway.upstream.shape import reading
from gateway.upstream.watch import Handle
from tests.contract.compatible import SECRET, Bench, chat, drain, limits, text_of

BASE_URL = "http://ollama.test/v1"
MODEL = Model(provider="local", id="llama", upstream_id="llama3:8b", max_output_tokens=1000)
THINKER = Model(provider="local", id="thinker", upstream_id="thinker", capabilities=frozenset({"streaming", "reasoning"}))
EMBEDDER = Model(provider="local", id="embedder", kind="embedding", upstream_id="nomic", dimensions=(3, 2), batch=2)
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
COMPLETION = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}]}


@pytest.fixture
def bench() -> Bench:
    return Bench(Adapter, BASE_URL, MODEL)


@pytest.fixture
def http():
    with responses.RequestsMock() as mock:
        yield mock


# --- requests --------------------------------------------------------------------------------------------------------


def test_the_request_goes_to_the_base_url_with_the_key_and_the_upstream_model(bench):
    request = bench.adapter.encode_chat(chat(), bench.candidate()).request
    assert request.url == BASE_URL + "/chat/completions" and request.method == "POST"
    assert request.headers == {"Content-Type": "application/json", "Authorization": f"Bearer {SECRET}"}
    assert json.loads(request.body) == {"model": "llama3:8b", "messages": [{"role": "user", "content": "2+2?"}]}


def test_without_a_credential_no_header_is_sent(bench):
    assert bench.adapter.auth_headers("") == {}


def test_every_parameter_is_passed_on(bench):
    request = chat(temperature=0, n=2, logit_bias={"1": 2}, mirostat=1, user="u", response_format={"type": "json_object"})
    body = bench.sent(request)
    assert {name: body[name] for name in request.body if name != "messages"} == {
        name: value for name, value in request.body.items() if name != "messages"
    }
    assert bench.dropped(request) == ()


def test_a_row_may_name_the_parameters_itself(bench):
    model = Model(provider="local", id="m", upstream_id="m", params=frozenset({"temperature"}))
    request = chat(temperature=0, top_p=0.9, seed=1)
    assert set(bench.sent(request, model)) == {"model", "messages", "temperature"}
    assert bench.dropped(request, model) == ("top_p", "seed")


@pytest.mark.parametrize(
    ("wanted", "most", "prompt", "expected"),
    [
        (None, 1000, 0, None),
        (50, 1000, 0, 50),
        (64000, 1000, 0, 1000),
        (64000, None, 0, 8192),
        (64000, None, 800, 7292),  # an eighth more than the estimate is kept free
        (64000, None, 8000, 256),  # the estimate may be too high
        (64000, 100, 9000, 100),
    ],
)
def test_the_limit_of_the_answer_is_clamped_to_the_model_and_the_room_in_its_window(bench, wanted, most, prompt, expected):
    model = Model(provider="local", id="m", upstream_id="m", max_output_tokens=most, context_window=8192)
    request = chat(max_output_tokens=wanted, prompt_tokens=prompt)
    assert bench.sent(request, model).get("max_tokens") == expected


@pytest.mark.parametrize(
    ("wanted", "prompt", "expected"), [(64000, 800, 7100), (100, 800, 100), (64000, 7900, 256), (None, 800, None)]
)
def test_a_limit_that_counts_in_advance_fits_into_the_minute(bench, wanted, prompt, expected):
    model = Model(provider="local", id="m", upstream_id="m", context_window=131072, limits={"tpm": 8000}, reserves_output=True)
    assert bench.sent(chat(max_output_tokens=wanted, prompt_tokens=prompt), model).get("max_tokens") == expected


def test_a_limit_that_does_not_count_in_advance_stays(bench):
    model = Model(provider="local", id="m", upstream_id="m", context_window=131072, limits={"tpm": 8000})
    assert bench.sent(chat(max_output_tokens=64000), model)["max_tokens"] == 64000


def test_a_row_may_ask_for_the_newer_name_of_the_limit(bench):
    model = Model(provider="local", id="m", upstream_id="m", params=frozenset({"max_completion_tokens"}))
    assert bench.sent(chat(max_output_tokens=5), model) == {
        "model": "m",
        "messages": [{"role": "user", "content": "2+2?"}],
        "max_completion_tokens": 5,
    }


def test_a_stream_asks_for_usage(bench):
    body = bench.sent(chat(stream=True))
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True}
    assert "stream" not in bench.sent(chat())


def test_an_effort_goes_only_to_models_that_reason(bench):
    assert bench.sent(chat(reasoning_effort="low"), THINKER)["reasoning_effort"] == "low"
    assert "reasoning_effort" not in bench.sent(chat(reasoning_effort="low"))
    assert bench.dropped(chat(reasoning_effort="low")) == ("reasoning_effort",)
    assert bench.dropped(chat()) == ()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user", "content": "a", "name": "bo"}, {"role": "user", "content": "a", "name": "bo"}),
        ({"role": "developer", "content": "a"}, {"role": "system", "content": "a"}),
        (
            {"role": "assistant", "content": "a", "refusal": None, "annotations": [], "reasoning_content": "hm", "audio": None},
            {"role": "assistant", "content": "a"},
        ),
        (
            {"role": "assistant", "content": None, "tool_calls": [{**CALL, "index": 0, "extra_content": {"g": 1}}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
        ),
        (
            {"role": "tool", "content": "4", "tool_call_id": "call_1", "is_error": False},
            {"role": "tool", "content": "4", "tool_call_id": "call_1"},
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,", "detail": "low", "x": 1}, "y": 2}]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,", "detail": "low"}}]},
        ),
    ],
)
def test_messages_keep_only_the_fields_of_the_protocol(bench, message, expected):
    assert bench.sent_message(message) == expected


def test_a_message_that_needs_no_change_is_shared_and_none_is_changed(bench):
    plain: dict[str, Any] = {"role": "user", "content": "a"}
    odd: dict[str, Any] = {"role": "assistant", "content": [{"type": "text", "text": "b", "x": 1}], "y": 2}
    encoded = bench.adapter.encode_messages(chat(messages=[plain, odd]), MODEL)
    assert encoded[0] is plain
    assert odd == {"role": "assistant", "content": [{"type": "text", "text": "b", "x": 1}], "y": 2}


def test_tools_keep_only_the_fields_of_the_protocol(bench):
    tool = {**TOOL, "cache_control": {}, "function": {**TOOL["function"], "eager": True}}  # type: ignore[dict-item]
    assert bench.sent(chat(tools=[tool]))["tools"] == [TOOL]


# --- answers ---------------------------------------------------------------------------------------------------------


def test_a_completion_is_returned_as_it_is(bench, http):
    answer = bench.complete(http, {**COMPLETION, "usage": {"prompt_tokens": 3}, "timings": {"ms": 1}})
    assert answer.body == {**COMPLETION, "usage": {"prompt_tokens": 3}, "timings": {"ms": 1}}
    assert answer.dropped == () and answer.quota == ()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'"text"',
        b"<html>ok</html>",
        b"{}",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [null]}',
        b'{"choices": [{"text": "4"}]}',
        b'{"choices": [{"message": "4"}]}',
        b'{"choices": {"0": {}}}',
        b'{"choices": [',
    ],
)
def test_a_200_without_an_answer_is_garbled(bench, http, body):
    with pytest.raises(errors.UpstreamGarbled) as caught:
        bench.complete(http, body)
    assert caught.value.upstream_status == 200 and caught.value.outcome == "garbled"


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"error": {"message": "slow down", "code": 429}}, errors.UpstreamRateLimited),
        ({"error": {"message": "slow down", "code": "429"}, "choices": []}, errors.UpstreamRateLimited),
        ({"error": {"message": "slow down", "type": "rate_limit_error"}}, errors.UpstreamRateLimited),
        ({"error": {"message": "oh no", "status_code": 503}}, errors.UpstreamOverloaded),
        ({"error": "oh no"}, errors.UpstreamFailed),
        ({"error": {}, "status_code": 503}, errors.UpstreamOverloaded),
        ([{"error": {"code": 500, "message": "oh no"}}], errors.UpstreamFailed),
        ({"object": "error", "message": "no such model", "code": 404}, errors.UpstreamModelGone),
        ({**COMPLETION, "error": {"message": "cut", "code": 502}}, errors.UpstreamFailed),
        ({"choices": [{"message": {}, "finish_reason": "error"}]}, errors.UpstreamFailed),
        ({"choices": [{"message": {}, "finish_reason": "error", "error": {"code": 429}}]}, errors.UpstreamRateLimited),
    ],
)
def test_a_failure_that_hides_in_a_200_is_found(bench, http, payload, kind):
    with pytest.raises(kind) as caught:
        bench.complete(http, payload)
    assert type(caught.value) is kind


@pytest.mark.parametrize("error", [None, {}, "", False])
def test_an_empty_error_beside_an_answer_is_none(bench, http, error):
    assert bench.complete(http, {**COMPLETION, "error": error}).body["choices"] == COMPLETION["choices"]


# --- streams ---------------------------------------------------------------------------------------------------------


def event(payload: Any, end: str = "\n") -> bytes:
    return f"data: {json.dumps(payload)}{end}{end}".encode()


def piece(content: str | None = None, finish: str | None = None, **extra: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **extra}


DONE = b"data: [DONE]\n\n"
WORDS = [piece("fo"), piece("ur"), piece(None, "stop")]


@pytest.mark.parametrize(
    "body",
    [
        b"".join(map(event, WORDS)) + DONE,
        b"".join(event(word, "\r\n") for word in WORDS) + b"data: [DONE]\r\n\r\n",
        b"".join(map(event, WORDS)),
        b"".join(map(event, WORDS)).rstrip(b"\n"),
        b": hello\n\n" + b": more\n".join(map(event, WORDS)) + DONE,
        b"id: 1\nevent: message\nretry: 5\n" + b"".join(map(event, WORDS)) + DONE,
        b"data:\n\ndata: ping\n\ndata: {}\n\n" + b"".join(map(event, WORDS)) + DONE,
        b"".join(map(event, WORDS)) + DONE + event(piece("never")),
    ],
    ids=["plain", "crlf", "no done", "no last blank line", "comments", "other fields", "data without content", "after done"],
)
def test_a_stream_is_read_however_it_is_written(bench, http, body):
    chunks = bench.stream(http, body)
    assert text_of(chunks) == "four"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_chunk_with_usage_alone_is_kept(bench, http):
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    chunks = bench.stream(http, event(piece("4", "stop")) + event({"usage": usage}) + event({"choices": [], "usage": usage}))
    assert [chunk.get("usage") for chunk in chunks] == [None, usage, usage]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (event({"error": {"message": "slow", "code": 429}}), errors.UpstreamRateLimited),
        (event({"error": {"message": "slow", "code": "rate_limit_exceeded"}}), errors.UpstreamRateLimited),
        (event({"error": {"message": "busy", "status_code": 503}}), errors.UpstreamOverloaded),
        (event({"error": {}, "status_code": 503}), errors.UpstreamOverloaded),
        (event({"error": "CUDA out of memory"}), errors.UpstreamFailed),
        (event({"error": {"message": "too long", "code": "context_length_exceeded"}}), errors.UpstreamContextTooLong),
        (b"event: error\n" + event({"message": "oops", "code": 500}), errors.UpstreamFailed),
        (event({**piece(""), "error": {"message": "cut", "code": 502}}), errors.UpstreamFailed),
        (event(piece(None, "error")), errors.UpstreamFailed),
        (event({"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 429}}]}), errors.UpstreamRateLimited),
        (event({"choices": [None]}), errors.UpstreamGarbled),
        (event({"choices": [{"delta": "four"}]}), errors.UpstreamGarbled),
        (b'data: {"choices": [{"delta": {"content": "fo\n\n', errors.UpstreamGarbled),
    ],
)
def test_a_failure_in_a_stream_is_raised_as_what_it_is(bench, http, failure, kind):
    with pytest.raises(kind) as caught:
        bench.stream(http, event(piece("a")) + failure + DONE)
    assert type(caught.value) is kind and caught.value.failover != "no"


@pytest.mark.parametrize("body", [json.dumps(COMPLETION).encode(), json.dumps(COMPLETION, indent=1).encode()])
def test_a_stream_request_answered_with_json_still_streams(bench, http, body):
    chunks = bench.stream(http, body, "application/json")
    assert text_of(chunks) == "4" and chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_stream_request_answered_with_an_error_is_one(bench, http):
    with pytest.raises(errors.UpstreamRateLimited):
        bench.stream(http, b'{"error": {"message": "slow", "code": 429}}', "application/json")


def test_a_stream_request_answered_with_a_page_is_garbled(bench, http):
    with pytest.raises(errors.UpstreamGarbled):
        bench.stream(http, b"<html>hello</html>", "text/html")


def test_the_headers_of_a_failed_stream_count_too(bench, http):
    http.post(bench.chat_url, status=429, json={"error": {"message": "slow"}}, headers={"Retry-After": "7"})
    with pytest.raises(errors.UpstreamRateLimited) as caught:
        drain(bench.adapter.open_stream(chat(stream=True), bench.candidate(), limits(), Handle()))
    assert caught.value.retry_after_s == 7


# --- embeddings ------------------------------------------------------------------------------------------------------


def embed(bench, **fields):
    request = EmbeddingRequest(inputs=("a", "b", "c"), choice=Choice(names=("embedder",)), **fields)
    return bench.adapter.embed(request, bench.candidate(EMBEDDER), limits(), Handle())


def answer_rows(http, *batches, usage=None):
    for rows in batches:
        http.post(BASE_URL + "/embeddings", json={"data": rows, **({"usage": usage} if usage else {})})


def test_embeddings_come_in_the_order_of_the_inputs_over_batches(bench, http):
    rows = [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [1, 0]}]
    answer_rows(http, rows, [{"embedding": [2, 2]}], usage={"prompt_tokens": 4})
    answer = embed(bench, dimensions=2, user="u", input_type="query")
    assert answer.vectors == [[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]
    assert answer.prompt_tokens == 8 and answer.dropped == ("input_type",)
    first, second = (json.loads(call.request.body) for call in http.calls)
    expected = {"model": "nomic", "encoding_format": "float", "dimensions": 2, "user": "u"}
    assert first == {**expected, "input": ["a", "b"]} and second == {**expected, "input": ["c"]}


def test_the_models_own_size_is_not_asked_for(bench, http):
    answer_rows(http, [{"embedding": [1]}, {"embedding": [1]}], [{"embedding": [1]}])
    assert embed(bench, dimensions=3).prompt_tokens is None
    assert "dimensions" not in json.loads(http.calls[0].request.body)


def test_base64_embeddings_are_unpacked(bench):
    packed = base64.b64encode(struct.pack("<3f", 1, 2, 0.5)).decode()
    payload = {"data": [{"index": 0, "embedding": packed}], "usage": {"total_tokens": 3}}
    vectors = bench.adapter.decode_embeddings(payload, bench.candidate(EMBEDDER))
    assert vectors.vectors == [[1.0, 2.0, 0.5]] and vectors.prompt_tokens == 3


@pytest.mark.parametrize(
    "payload",
    [
        {},
        [],
        {"data": None},
        {"data": [1]},
        {"data": [{}]},
        {"data": [{"embedding": "!"}]},
        {"data": [{"embedding": ["x"]}]},
        {"data": [{"embedding": "AAAA"}]},
    ],
)
def test_an_answer_without_embeddings_is_garbled(bench, payload):
    with pytest.raises(errors.UpstreamGarbled), reading(200):
        bench.adapter.decode_embeddings(payload, bench.candidate(EMBEDDER))


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "message", "code", "status"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c", "param": "p"}}, "m", "c", None),
        ({"error": {"message": "m", "code": 400, "status": "INVALID_ARGUMENT"}}, "m", "400", 400),
        ([{"error": {"message": "m", "code": 429}}], "m", "429", 429),
        ({"success": False, "errors": [{"code": 5007, "message": "m"}], "result": None}, "m", "5007", None),
        ({"errors": ["m"]}, "m", None, None),
        ({"error": {"message": "m", "code": 402}, "user_id": "u"}, "m", "402", 402),
        ({"message": "m", "type": "t", "param": "p", "code": "c"}, "m", "c", None),
        ({"error": {"message": "m", "code": "c"}, "status_code": 503}, "m", "c", 503),
        ({"detail": "m"}, "m", None, None),
        ({"title": "t", "detail": "m", "status": 404}, "m", None, 404),
        ({"detail": [{"loc": ["body", "n"], "msg": "m", "input": "the prompt"}, {"msg": "k"}]}, "body.n: m; k", None, None),
        ({"error": "m"}, "m", None, None),
        ({"error": "m", "code": 503}, "m", "503", 503),
        ({"error": {"message": {"detail": "m"}}}, "", None, None),
        ({"error": {}}, "", None, None),
        ({}, "", None, None),
        ("upstream connect\n error", "upstream connect error", None, None),
        ("  <!doctype html><html>", "", None, None),
        ("", "", None, None),
        (None, "", None, None),
        ([], "", None, None),
        ([[]], "", None, None),
    ],
)
def test_every_shape_of_error_body_is_read(payload, message, code, status):
    facts = read_error(payload)
    assert (facts.message, facts.code, facts.status) == (message, code, status)
    assert facts.is_json is (isinstance(payload, dict) or (isinstance(payload, list) and payload[:1] not in ([], [[]])))


def wrapped(message: str = "no", code: Any = None, type_: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "code": code, "type": type_, "param": "quota"}}


@pytest.mark.parametrize(
    ("status", "payload", "kind", "scope"),
    [
        (301, "", errors.UpstreamGarbled, "model"),
        (400, wrapped(), errors.UpstreamRejected, "none"),
        (400, wrapped(code="context_length_exceeded"), errors.UpstreamContextTooLong, "none"),
        (400, wrapped("This model's maximum context length is 4096 tokens."), errors.UpstreamContextTooLong, "none"),
        (400, wrapped("the request exceeds the available context size"), errors.UpstreamContextTooLong, "none"),
        (400, wrapped(type_="exceed_context_size_error"), errors.UpstreamContextTooLong, "none"),
        (400, wrapped(code="model_decommissioned"), errors.UpstreamModelGone, "model"),
        (400, wrapped("The model `m-1` does not exist"), errors.UpstreamModelGone, "model"),
        (404, wrapped("The model `m-1` does not exist or you do not have access to it."), errors.UpstreamModelGone, "candidate"),
        (400, [wrapped("User location is not supported for the API use.")], errors.UpstreamCredentialRejected, "credential"),
        (400, wrapped("`json_schema` is not supported: the model `m-1` takes text"), errors.UpstreamRejected, "none"),
        (400, wrapped(code="tool_use_failed"), errors.UpstreamModelFailed, "none"),
        (400, wrapped(code="json_validate_failed"), errors.UpstreamModelFailed, "none"),
        (400, wrapped("property 'foo' is unsupported, did you mean 'bar'?"), errors.UpstreamModelFailed, "none"),
        (400, wrapped("Unrecognized request argument supplied: foo"), errors.UpstreamModelFailed, "none"),
        (400, wrapped("API key not valid. Please pass a valid API key."), errors.UpstreamCredentialRejected, "credential"),
        (400, wrapped(code="content_policy_violation"), errors.UpstreamRefusedContent, "none"),
        (401, wrapped(), errors.UpstreamCredentialRejected, "credential"),
        (402, wrapped(), errors.UpstreamPaymentRequired, "credential"),
        (403, wrapped(), errors.UpstreamCredentialRejected, "credential"),
        (403, "<html>blocked</html>", errors.UpstreamUnreachable, "provider"),
        (403, wrapped(code="unsupported_country_region_territory"), errors.UpstreamUnreachable, "provider"),
        (404, wrapped('model "x" not found, try pulling it first'), errors.UpstreamModelGone, "model"),
        (404, "<html>", errors.UpstreamModelGone, "model"),
        (408, wrapped(), errors.UpstreamFailed, "model"),
        (409, wrapped(), errors.UpstreamOverloaded, "model"),
        (413, wrapped(code="rate_limit_exceeded"), errors.UpstreamQuotaTooSmall, "none"),
        (413, wrapped("prompt is too long"), errors.UpstreamContextTooLong, "none"),
        (413, "<html>", errors.UpstreamRejected, "none"),
        (422, {"detail": [{"loc": ["body", "x"], "msg": "Extra inputs are not permitted"}]}, errors.UpstreamModelFailed, "none"),
        (422, wrapped(), errors.UpstreamRejected, "none"),
        (424, wrapped(), errors.UpstreamModelFailed, "none"),
        (429, wrapped(), errors.UpstreamRateLimited, "candidate"),
        (429, wrapped("requests per day (RPD)"), errors.UpstreamQuotaExhausted, "candidate"),
        (429, wrapped("daily limit reached"), errors.UpstreamQuotaExhausted, "candidate"),
        (429, wrapped(code="insufficient_quota"), errors.UpstreamQuotaExhausted, "credential"),
        (429, "<html>", errors.UpstreamRateLimited, "candidate"),
        (498, wrapped(), errors.UpstreamOverloaded, "model"),
        (500, wrapped(), errors.UpstreamFailed, "model"),
        (502, "<html>", errors.UpstreamFailed, "model"),
        (503, "", errors.UpstreamOverloaded, "model"),
        (520, "<html>", errors.UpstreamFailed, "model"),
        (524, "<html>", errors.UpstreamFailed, "model"),
        (529, wrapped(), errors.UpstreamOverloaded, "model"),
    ],
)
def test_a_failure_is_classified(bench, status, payload, kind, scope):
    error = bench.error(status, payload)
    assert type(error) is kind and error.cooldown_scope == scope and error.upstream_status == status
    assert error.message and "<" not in error.message


def test_a_param_is_passed_on_only_where_the_request_is_at_fault(bench):
    assert bench.error(400, wrapped()).param == "quota"
    assert bench.error(429, wrapped()).param is None


def test_a_message_is_cut_and_never_holds_the_credential(bench):
    error = bench.error(400, wrapped(f"bad key {SECRET} " + "x" * 1000))
    assert error.message.startswith("bad key [key] xxx") and len(error.message) == 500


def test_a_placeholder_for_a_credential_does_not_garble_messages(bench):
    candidate = Candidate(bench.row, MODEL, Credential("local", 1, BASE_URL, "ollama"))
    assert bench.adapter.classify_error(500, {}, wrapped("ollama is busy"), candidate).message == "ollama is busy"


@pytest.mark.parametrize(
    ("headers", "message", "retry_after_s"),
    [
        ({"retry-after": "3"}, "try again in 9s", 3),
        ({"retry-after": "Sat, 21 Nov 2026 22:26:50 GMT"}, "", 10),
        ({}, "Please try again in 9m38.016s. Upgrade", 578.016),
        ({}, "slow down", None),
    ],
)
def test_a_failure_tells_when_to_come_back(bench, headers, message, retry_after_s):
    assert bench.error(429, wrapped(message), headers).retry_after_s == retry_after_s


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (
            "This model's maximum context length is 4097 tokens. However, your messages resulted in 4100 tokens.",
            (4097, 4100),
        ),
        (
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (3000 in the messages, "
            "2000 in the completion).",
            (4096, 3000),
        ),
        (
            "This endpoint's maximum context length is 131072 tokens. However, you requested about 200000 tokens (199000 of "
            "text input, 1000 in the output).",
            (131072, 199000),
        ),
        ("Please reduce the length of the messages. Current length is 9000 while limit is 8192", (8192, 9000)),
        ("request (5000 tokens) exceeds the available context size (4096 tokens)", (4096, 5000)),
        ("you requested about 9000 tokens", (None, 9000)),
        ("too long", (None, None)),
    ],
)
def test_the_numbers_of_a_prompt_that_is_too_long_are_read(bench, text, counts):
    assert read_token_counts(text) == counts
    error = bench.error(400, wrapped(text, "context_length_exceeded"))
    assert (error.limit_tokens, error.prompt_tokens) == counts and error.param == "messages"


class WithQuota(Adapter):
    quota_headers = {"rpd": ("limit-day", "left-day", "reset-day"), "tpm": ("limit-tokens", "left-tokens", "reset-tokens")}


@pytest.fixture
def metered() -> Bench:
    return Bench(WithQuota, BASE_URL, MODEL)


@pytest.mark.parametrize(
    ("headers", "readings"),
    [
        ({}, ()),
        (
            {"limit-day": "1000", "left-day": "987", "reset-day": "2m59.56s"},
            (QuotaReading("rpd", 1000, 987, 179.56),),
        ),
        ({"left-tokens": "7421.5"}, (QuotaReading("tpm", None, 7421, None),)),
        ({"left-tokens": "-3", "reset-tokens": "soon"}, (QuotaReading("tpm", None, 0, None),)),
        ({"left-tokens": "many", "left-day": "inf"}, ()),
    ],
)
def test_quota_headers_are_read_by_the_table(metered, headers, readings):
    assert metered.adapter.read_quota(headers) == readings


def test_quota_headers_come_with_answers_and_failures(metered, http):
    headers = {"Limit-Day": "5", "Left-Day": "4"}
    assert metered.complete(http, COMPLETION, headers=headers).quota == (QuotaReading("rpd", 5, 4),)
    http.reset()
    with pytest.raises(errors.UpstreamFailed) as caught:
        metered.complete(http, {}, 500, headers=headers)
    assert caught.value.quota == (QuotaReading("rpd", 5, 4),)


@pytest.mark.parametrize(
    ("headers", "kind", "retry_after_s"),
    [
        ({"left-day": "0", "reset-day": "90s"}, errors.UpstreamQuotaExhausted, 90),
        ({"left-day": "0", "reset-day": "90s", "retry-after": "40"}, errors.UpstreamQuotaExhausted, 40),
        ({"left-day": "5", "left-tokens": "0", "reset-tokens": "11.38"}, errors.UpstreamRateLimited, 11.38),
        ({"left-day": "5", "reset-day": "90s"}, errors.UpstreamRateLimited, None),
    ],
)
def test_headers_of_a_429_tell_which_window_is_used_up(metered, headers, kind, retry_after_s):
    error = metered.error(429, wrapped("slow down"), headers)
    assert type(error) is kind and error.retry_after_s == retry_after_s
