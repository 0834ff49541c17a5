"""Workers AI: what goes out, the forms an answer comes in, and what its errors mean."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import responses

from gateway import errors
from gateway.domain import Candidate, ChatRequest, Choice, Credential, EmbeddingRequest, Model, ProviderRow
from gateway.providers.base import ChatStream, Chunk
from gateway.providers.workers_ai import Adapter
from gateway.upstream.shape import ChunkShaper, repair_completion
from gateway.upstream.sse import Event, EventParser
from gateway.upstream.transport import CallLimits, Transport
from gateway.upstream.watch import Handle

FIXTURES = Path(__file__).parent / "fixtures" / "workers_ai"
BASE_URL = "https://api.cloudflare.com/client/v4/accounts/0123456789abcdef0123456789abcdef/ai"
CHAT_URL = BASE_URL + "/v1/chat/completions"
EMBEDDINGS_URL = BASE_URL + "/v1/embeddings"
ROW = ProviderRow(key="workers_ai", base_url=BASE_URL, account_id_env="CLOUDFLARE_ACCOUNT_ID")
LLAMA = Model(provider="workers_ai", id="llama", upstream_id="@cf/meta/llama-3.3-70b-instruct-fp8-fast", context_window=24000)
THINKER = Model(
    provider="workers_ai",
    id="thinker",
    upstream_id="@cf/zai-org/glm-4.7-flash",
    context_window=131072,
    max_output_tokens=131072,
    reasoning_tier="medium",
    capabilities=frozenset({"streaming", "reasoning"}),
    reasoning_efforts={"none": "none", "low": "low", "medium": "medium", "high": "high"},
    builtin=True,
)
BGE = Model(provider="workers_ai", id="bge-m3", kind="embedding", upstream_id="@cf/baai/bge-m3", dimensions=(1024,), batch=100)


class Notes(dict[str, str]):
    def remember(self, key: str, value: str, ttl_s: float) -> None:
        self[key] = value

    def recall(self, keys: Any) -> dict[str, str]:
        return {key: self[key] for key in keys if key in self}


def read(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def candidate(model: Model = LLAMA) -> Candidate:
    return Candidate(ROW, model, Credential("workers_ai", 1, BASE_URL, "token-of-a-test"))


def chat(*, messages: list[dict[str, Any]] | None = None, **fields: Any) -> ChatRequest:
    attributes = {name: fields.pop(name) for name in list(fields) if name in ChatRequest.__dataclass_fields__}
    return ChatRequest(body={"messages": messages or [{"role": "user", "content": "2+2?"}], **fields}, **attributes)


def limits() -> CallLimits:
    return CallLimits(connect_s=1, first_token_s=5, idle_s=5, deadline_mono=time.monotonic() + 10)


@pytest.fixture
def adapter() -> Adapter:
    return Adapter(ROW, Transport(), Notes())


@pytest.fixture
def http():
    with responses.RequestsMock() as mock:
        yield mock


def sent_body(adapter: Adapter, request: ChatRequest, model: Model = LLAMA) -> dict[str, Any]:
    body = adapter.encode_chat(request, candidate(model)).request.body
    assert body is not None
    return json.loads(body)


def decode_stream(adapter: Adapter, data: bytes, request: ChatRequest | None = None) -> list[Chunk]:
    """Return the chunks of a stream, read as the driver reads it: until the decoder calls an event the last."""
    decoder = adapter.stream_decoder(request or chat(stream=True), candidate())
    chunks: list[Chunk] = []
    parser = EventParser()
    for event in parser.feed(data) + parser.finish():
        if decoder.is_last(event):
            break
        chunks += decoder.decode(event)
    return chunks


def shape(chunks: list[Chunk]) -> tuple[ChunkShaper, list[dict[str, Any]]]:
    """Return the shaper after these chunks, and the deltas that a client would see."""
    shaper = ChunkShaper(model="m", splits_thoughts=False)
    shaped = [chunk for raw in chunks for chunk in shaper.feed(raw)]
    return shaper, [choice["delta"] for chunk in shaped for choice in chunk["choices"]]


def text_of(deltas: list[dict[str, Any]]) -> str:
    return "".join(delta.get("content", "") for delta in deltas)


def read_to_end(stream: ChatStream) -> list[Chunk]:
    chunks: list[Chunk] = []
    while (more := stream.next_chunks(1)) is not None:
        chunks += more
    stream.close()
    return chunks


# --- requests --------------------------------------------------------------------------------------------------------


def test_the_compatible_api_is_called_with_the_model_in_the_body(adapter):
    call = adapter.encode_chat(chat(), candidate()).request
    assert call.url == CHAT_URL
    assert call.headers["Authorization"] == "Bearer token-of-a-test"
    assert json.loads(call.body)["model"] == "@cf/meta/llama-3.3-70b-instruct-fp8-fast"


def test_parameters_that_no_schema_has_are_dropped_and_named(adapter):
    call = adapter.encode_chat(chat(temperature=0.5, top_p=0.9, logit_bias={"1": 2}, n=2, user="u", raw=True), candidate())
    assert json.loads(call.request.body).keys() == {"model", "messages", "max_tokens", "temperature", "top_p"}
    assert call.dropped == ("logit_bias", "n", "user", "raw")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"top_k": 40}, {"top_k": 40}),
        ({"top_k": 100}, {"top_k": 50}),
        ({"top_k": 0}, {}),
        ({"top_k": -1}, {}),
        ({"top_p": 0}, {"top_p": 0.001}),
        ({"repetition_penalty": 3}, {"repetition_penalty": 2}),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": 0}, {}),
        ({"seed": 10_000_000_000}, {}),
    ],
)
def test_numbers_are_brought_into_range_or_dropped_by_name(adapter, sent, expected):
    call = adapter.encode_chat(chat(**sent), candidate())
    body = json.loads(call.request.body)
    assert {name: body[name] for name in sent if name in body} == expected
    assert call.dropped == tuple(name for name in sent if name not in expected)


def test_the_shared_request_is_never_changed(adapter):
    request = chat(messages=[{"role": "assistant", "content": None}], top_k=100, seed=0)
    before = json.dumps(request.body)
    adapter.encode_chat(request, candidate())
    assert json.dumps(request.body) == before


@pytest.mark.parametrize(
    ("model", "wanted", "prompt_tokens", "expected"),
    [
        (LLAMA, None, 100, 4096),
        (LLAMA, 50, 100, 50),
        (LLAMA, 64_000, 8000, 15_000),  # what the window leaves after the prompt and an eighth
        (LLAMA, None, 20_800, 600),
        (LLAMA, None, 30_000, 256),  # the estimate may be wrong: it never refuses
        (THINKER, None, 100, 16_384),
        (THINKER, 100_000, 100, 100_000),
    ],
)
def test_max_tokens_is_always_sent_and_fits_the_window(adapter, model, wanted, prompt_tokens, expected):
    request = chat(max_output_tokens=wanted, prompt_tokens=prompt_tokens)
    assert sent_body(adapter, request, model)["max_tokens"] == expected


def test_a_model_never_gets_more_than_its_own_limit(adapter):
    small = Model(provider="workers_ai", id="s", context_window=8192, max_output_tokens=1000)
    assert sent_body(adapter, chat(max_output_tokens=5000), small)["max_tokens"] == 1000


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("plain", "plain"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "one\ntwo"),
        ([{"type": "text", "text": "look"}, IMAGE], [{"type": "text", "text": "look"}, IMAGE]),
    ],
)
def test_content_is_a_string_unless_it_holds_an_image(adapter, content, expected):
    body = sent_body(adapter, chat(messages=[{"role": "user", "content": content}]))
    assert body["messages"] == [{"role": "user", "content": expected}]


def test_a_turn_that_only_calls_tools_gets_empty_content_and_keeps_its_calls(adapter):
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns: list[dict[str, Any]] = [
        {"role": "assistant", "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "call_1", "name": "f", "content": "1"},
    ]
    assert sent_body(adapter, chat(messages=turns))["messages"] == [
        {"role": "assistant", "tool_calls": [call], "content": ""},
        {"role": "tool", "tool_call_id": "call_1", "content": "1"},
    ]


def test_developer_becomes_system(adapter):
    body = sent_body(adapter, chat(messages=[{"role": "developer", "content": "be brief"}]))
    assert body["messages"] == [{"role": "system", "content": "be brief"}]


def test_effort_none_turns_thinking_off_in_both_dialects(adapter):
    body = sent_body(adapter, chat(reasoning_effort="none"), THINKER)
    assert body["reasoning_effort"] is None
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_template_arguments_of_the_client_win_over_ours(adapter):
    body = sent_body(adapter, chat(reasoning_effort="none", chat_template_kwargs={"thinking": False}), THINKER)
    assert body["chat_template_kwargs"] == {"thinking": False}


def test_an_effort_is_sent_in_the_words_of_the_model(adapter):
    body = sent_body(adapter, chat(reasoning_effort="minimal"), THINKER)
    assert body["reasoning_effort"] == "low"
    assert "chat_template_kwargs" not in body


def test_a_model_that_does_not_reason_gets_no_effort(adapter):
    call = adapter.encode_chat(chat(reasoning_effort="high"), candidate())
    assert "reasoning_effort" not in json.loads(call.request.body)
    assert call.dropped == ("reasoning_effort",)


def test_a_json_format_is_asked_for_as_a_whole_and_sent_as_a_stream(adapter, http):
    body = {"result": {"response": {"a": 1}}, "success": True, "errors": [], "messages": []}
    sent = http.post(CHAT_URL, json=body)
    request = chat(stream=True, response_format={"type": "json_object"})
    shaper, deltas = shape(read_to_end(adapter.open_stream(request, candidate(), limits(), Handle())))
    assert "stream" not in json.loads(sent.calls[0].request.body)
    assert (text_of(deltas), shaper.finish_reason) == ('{"a":1}', "stop")


# --- whole answers ---------------------------------------------------------------------------------------------------


def complete(adapter: Adapter, http: responses.RequestsMock, body: Any, request: ChatRequest | None = None) -> dict[str, Any]:
    http.post(CHAT_URL, body=body if isinstance(body, bytes) else json.dumps(body), content_type="application/json")
    answer = adapter.complete(request or chat(), candidate(), limits(), Handle())
    return repair_completion(answer.body, model="m", splits_thoughts=False)


@pytest.mark.parametrize(
    ("response", "expected"),
    [("Four.", "Four."), (4, "4"), (None, ""), ({"a": [1]}, '{"a":[1]}'), ([1, 2], "[1,2]"), (True, "true")],
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_classic_response_becomes_text(adapter, http, response, expected, wrapped):
    body: dict[str, Any] = {"response": response}
    completion = complete(adapter, http, {"result": body, "success": True, "errors": []} if wrapped else body)
    assert completion["choices"][0]["message"]["content"] == expected
    assert completion["choices"][0]["finish_reason"] == "stop"


def test_a_classic_answer_keeps_its_usage(adapter, http):
    usage = complete(adapter, http, read("classic.json"))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (20, 3)


def test_a_classic_tool_call_gets_openai_form(adapter, http):
    choice = complete(adapter, http, read("classic_tool_call.json"))["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert call["id"] and call["type"] == "function"
    assert call["function"] == {"name": "get_weather", "arguments": '{"city":"Oslo"}'}
    assert choice["finish_reason"] == "tool_calls"


def test_a_classic_answer_that_used_all_its_tokens_was_cut(adapter, http):
    request = chat(max_output_tokens=3)
    assert complete(adapter, http, read("classic.json"), request)["choices"][0]["finish_reason"] == "length"


def test_a_completion_is_found_inside_result(adapter, http):
    completion = complete(adapter, http, read("wrapped_completion.json"))
    assert completion["id"] == "chatcmpl-9d1"
    assert completion["choices"][0]["message"]["content"] == "Four."
    assert completion["choices"][0]["message"]["reasoning_content"] == "2+2"


def test_numbers_in_a_bare_completion_become_text(adapter, http):
    message = {"role": "assistant", "content": 1, "reasoning": 2}
    completion = complete(adapter, http, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    assert completion["choices"][0]["message"]["content"] == "1"
    assert completion["choices"][0]["message"]["reasoning_content"] == "2"


@pytest.mark.parametrize("body", [{"result": {}, "success": True, "errors": []}, {"result": None, "success": True}, {}, []])
def test_an_answer_without_an_answer_is_garbled(adapter, http, body):
    with pytest.raises(errors.UpstreamGarbled):
        complete(adapter, http, body)


def test_a_stream_request_answered_with_plain_json_still_streams(adapter, http):
    http.post(CHAT_URL, body=read("wrapped_completion.json"), content_type="application/json")
    shaper, deltas = shape(read_to_end(adapter.open_stream(chat(stream=True), candidate(), limits(), Handle())))
    assert (text_of(deltas), shaper.finish_reason) == ("Four.", "stop")


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_classic_stream_becomes_chunks_and_its_done_a_finish_reason(adapter):
    shaper, deltas = shape(decode_stream(adapter, read("classic_stream.sse")))
    assert text_of(deltas) == "Fo4ur."
    assert shaper.finish_reason == "stop"
    assert shaper.usage is not None and shaper.usage["completion_tokens"] == 3


def test_a_classic_stream_ends_once_however_often_done_comes(adapter):
    chunks = decode_stream(adapter, read("classic_stream.sse") + b"data: [DONE]\n\n")
    assert sum(bool(chunk["choices"][0]["finish_reason"]) for chunk in chunks) == 1


def test_a_classic_stream_cut_before_done_does_not_look_complete(adapter):
    shaper, deltas = shape(decode_stream(adapter, read("classic_stream.sse").removesuffix(b"data: [DONE]\n\n")))
    assert text_of(deltas) == "Fo4ur."
    assert not shaper.finished


def test_a_classic_stream_that_used_all_its_tokens_was_cut(adapter):
    chunks = decode_stream(adapter, read("classic_stream.sse"), chat(stream=True, max_output_tokens=3))
    assert shape(chunks)[0].finish_reason == "length"


def test_whole_tool_calls_of_a_classic_stream_are_numbered(adapter):
    chunks = decode_stream(adapter, read("classic_tools_stream.sse"))
    _, deltas = shape(chunks)
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert [(call["index"], call["function"]) for call in calls] == [
        (0, {"name": "get_weather", "arguments": '{"city":"Oslo"}'}),
        (1, {"name": "get_time", "arguments": "{}"}),
    ]
    assert all(call["id"] for call in calls)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_tool_calls_of_a_later_classic_event_are_other_calls(adapter):
    event = b'data: {"response":"","tool_calls":[{"name":"f","arguments":{}}]}\n\n'
    _, deltas = shape(decode_stream(adapter, event + event + b"data: [DONE]\n\n"))
    assert [call["index"] for delta in deltas for call in delta["tool_calls"]] == [0, 1]


def test_a_stream_is_read_past_its_first_finish_and_its_first_done(adapter):
    shaper, deltas = shape(decode_stream(adapter, read("repeated_finish_stream.sse")))
    assert text_of(deltas) == "The answer is 12."
    assert shaper.finish_reason == "stop"
    assert shaper.usage is not None and shaper.usage["completion_tokens"] == 7


def test_a_stream_of_chunks_without_a_finish_reason_stays_a_break(adapter):
    data = b'data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\ndata: [DONE]\n\n'
    assert not shape(decode_stream(adapter, data))[0].finished


def test_a_mixed_stream_without_a_finish_reason_stays_a_break(adapter):
    data = b'data: {"response":"a"}\n\ndata: {"choices":[{"index":0,"delta":{"content":"b"}}]}\n\ndata: [DONE]\n\n'
    shaper, deltas = shape(decode_stream(adapter, data))
    assert text_of(deltas) == "ab"
    assert not shaper.finished


def test_done_alone_is_no_answer(adapter):
    assert decode_stream(adapter, b"data: [DONE]\n\n") == []


def test_the_element_of_nulls_at_the_end_of_a_tool_call_adds_nothing(adapter):
    shaper, deltas = shape(decode_stream(adapter, read("tools_stream.sse")))
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert [call.get("id") for call in calls] == ["call_7", None, None]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"city":"Oslo"}'
    assert shaper.finished


def test_numbers_and_flat_tool_calls_in_chunks_get_openai_form(adapter):
    delta = b'{"reasoning":7,"tool_calls":[{"index":0,"name":"f","arguments":{"a":1}}]}'
    data = b'data: {"choices":[{"index":0,"delta":' + delta + b"}]}\n\n"
    (shaped,) = shape(decode_stream(adapter, data))[1]
    assert shaped["reasoning_content"] == "7"
    assert shaped["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}


def test_thoughts_that_nobody_wants_are_left_out(adapter):
    silent = chat(reasoning_effort="none")
    choice = {"index": 0, "message": {"content": "4", "reasoning": "2+2"}, "finish_reason": "stop"}
    message = adapter.decode_chat({"choices": [choice]}, silent, candidate(THINKER))["choices"][0]["message"]
    assert message == {"content": "4"}
    data = b'data: {"choices":[{"index":0,"delta":{"content":"4","reasoning_content":"2+2"}}]}\n\n'
    (chunk,) = decode_stream(adapter, data, silent)
    assert chunk["choices"][0]["delta"] == {"content": "4"}


def test_wrapped_events_are_unwrapped(adapter):
    data = (
        b'data: {"result":{"response":"a"},"success":true,"errors":[]}\n\n'
        b'data: {"result":{"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}]},"success":true}\n\n'
    )
    shaper, deltas = shape(decode_stream(adapter, data))
    assert text_of(deltas) == "ab"
    assert shaper.finished


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (b'{"errors":[{"code":3040,"message":"Capacity temporarily exceeded"}],"success":false,"result":null}', "Overloaded"),
        (b'{"errors":[{"code":4006,"message":"AiError: used up"}]}', "QuotaExhausted"),
        (b'{"error":{"message":"AiError: 3040: Capacity temporarily exceeded, please try again."}}', "Overloaded"),
        (b'{"success":false,"errors":[]}', "Failed"),
        (b'{"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}', "Failed"),
    ],
)
def test_an_error_in_a_stream_is_raised_as_what_it_is(adapter, event, kind):
    decoder = adapter.stream_decoder(chat(stream=True), candidate())
    with pytest.raises(errors.UpstreamError) as raised:
        list(decoder.decode(Event(event)))
    assert type(raised.value).__name__ == "Upstream" + kind


@pytest.mark.parametrize("data", [b"", b"keep-alive", b"[]", b'{"p":"abc"}', b'{"choices":[]}'])
def test_events_that_carry_nothing_are_harmless(adapter, data):
    decoder = adapter.stream_decoder(chat(stream=True), candidate())
    assert shape(list(decoder.decode(Event(data))))[1] == []


def test_a_piece_that_cannot_be_read_breaks_the_stream(adapter):
    with pytest.raises(errors.UpstreamGarbled):
        decode_stream(adapter, b'data: {"response":"hal\n\n')


# --- embeddings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fixture", "tokens"), [("embeddings.json", 6), ("native_embeddings.json", None)])
def test_embeddings_are_read_in_either_form(adapter, http, fixture, tokens):
    sent = http.post(EMBEDDINGS_URL, body=read(fixture), content_type="application/json")
    request = EmbeddingRequest(inputs=("a", "b"), choice=Choice())
    answer = adapter.embed(request, candidate(BGE), limits(), Handle())
    assert json.loads(sent.calls[0].request.body) == {"model": "@cf/baai/bge-m3", "input": ["a", "b"]}
    assert (answer.vectors, answer.prompt_tokens) == ([[0.1, 0.2], [0.3, 0.4]], tokens)


@pytest.mark.parametrize(("dimensions", "dropped"), [(None, ()), (1024, ()), (512, ("dimensions",))])
def test_dimensions_are_named_as_dropped_unless_they_are_the_models_own(adapter, dimensions, dropped):
    request = EmbeddingRequest(inputs=("a",), choice=Choice(), dimensions=dimensions)
    assert adapter.encode_embeddings(["a"], request, candidate(BGE)).dropped == dropped


def test_embeddings_drop_what_the_api_does_not_know(adapter):
    request = EmbeddingRequest(inputs=("a",), choice=Choice(), input_type="query", user="u")
    assert adapter.encode_embeddings(["a"], request, candidate(BGE)).dropped == ("input_type", "user")


# --- failures --------------------------------------------------------------------------------------------------------


def classify(adapter: Adapter, status: int, payload: Any, headers: dict[str, str] | None = None) -> errors.UpstreamError:
    return adapter.classify_error(status, headers or {}, payload, candidate())


def envelope(code: int, message: str = "AiError: something") -> dict[str, Any]:
    return {"errors": [{"code": code, "message": message}], "success": False, "result": {}, "messages": []}


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, 5007, errors.UpstreamModelGone),
        (404, 3042, errors.UpstreamModelGone),
        (403, 5035, errors.UpstreamModelGone),
        (403, 5018, errors.UpstreamModelGone),
        (403, 3041, errors.UpstreamModelGone),
        (403, 5016, errors.UpstreamModelGone),
        (404, 7003, errors.UpstreamCredentialRejected),
        (404, 7000, errors.UpstreamCredentialRejected),
        (401, 10000, errors.UpstreamCredentialRejected),
        (403, 10000, errors.UpstreamCredentialRejected),
        (400, 6003, errors.UpstreamCredentialRejected),
        (403, 3023, errors.UpstreamCredentialRejected),
        (429, 3036, errors.UpstreamQuotaExhausted),
        (429, 4006, errors.UpstreamQuotaExhausted),
        (429, 3040, errors.UpstreamOverloaded),
        (429, 3021, errors.UpstreamRateLimited),
        (429, 9999, errors.UpstreamRateLimited),
        (413, 3006, errors.UpstreamRejected),
        (400, 5004, errors.UpstreamRejected),
        (400, 5006, errors.UpstreamRejected),
        (400, 3003, errors.UpstreamRejected),
        (408, 3007, errors.UpstreamFailed),
        (408, 3008, errors.UpstreamFailed),
        (500, 8005, errors.UpstreamFailed),
        (400, 8006, errors.UpstreamModelFailed),
        (405, 5019, errors.UpstreamModelFailed),
        (405, 5005, errors.UpstreamModelFailed),
        (404, 9999, errors.UpstreamModelGone),
        (500, 9999, errors.UpstreamFailed),
    ],
)
def test_codes_decide_what_an_error_means(adapter, status, code, expected):
    assert type(classify(adapter, status, envelope(code))) is expected
    # The same envelope under a 200, where the status says nothing.
    if code != 9999:
        assert type(classify(adapter, adapter.find_error(envelope(code)), envelope(code))) is expected


@pytest.mark.parametrize(
    ("code", "scope"),
    [(5007, "model"), (3042, "model"), (5035, "candidate"), (5018, "candidate"), (3041, "candidate"), (5016, "candidate")],
)
def test_a_model_that_the_account_may_not_use_rests_for_this_account_alone(adapter, code, scope):
    assert classify(adapter, 403, envelope(code)).cooldown_scope == scope


@pytest.mark.parametrize(
    ("status", "payload", "expected"),
    [
        (400, envelope(5006, "AiError: Bad input: Type mismatch of '/messages/0/content'"), errors.UpstreamModelFailed),
        (400, envelope(5024, "JSON Mode couldn't be met"), errors.UpstreamModelFailed),
        (429, {"error": {"message": "you have used up your daily free allocation"}}, errors.UpstreamQuotaExhausted),
        (429, {"error": {"message": "AiError: 3040: No room"}}, errors.UpstreamOverloaded),
        (500, "<html>Bad gateway</html>", errors.UpstreamFailed),
        (403, "<html>Blocked</html>", errors.UpstreamUnreachable),
    ],
)
def test_texts_decide_where_codes_do_not(adapter, status, payload, expected):
    assert type(classify(adapter, status, payload)) is expected


@pytest.mark.parametrize(
    ("status", "code", "text", "counts"),
    [
        # https://github.com/cloudflare/cloudflare-docs/issues/29731, and the answers of two other generations
        (
            400,
            5006,
            "AiError: This model's maximum context length is 131072 tokens. However, you requested 16000 output tokens and "
            "your prompt contains at least 115073 input tokens, for a total of at least 131073 tokens.",
            (131072, 115073),
        ),
        (
            413,
            3010,
            "AiError: The estimated number of input and maximum output tokens (35000) exceeded this model context window "
            "limit (24000)",
            (24000, None),
        ),
        (
            400,
            5021,
            "Requested token count exceeds the model's maximum context length of 256000 tokens. You requested a total of "
            "256878 tokens: 31216 tokens from the input messages and 225662 tokens for the completion.",
            (256000, 31216),
        ),
    ],
)
def test_a_prompt_that_does_not_fit_is_told_with_its_numbers(adapter, status, code, text, counts):
    error = classify(adapter, status, envelope(code, text))
    assert isinstance(error, errors.UpstreamContextTooLong)
    assert (error.limit_tokens, error.prompt_tokens) == counts


def test_the_days_allowance_rests_the_credential_until_midnight_utc(adapter):
    adapter.now = lambda: 1_795_392_000 + 3600.0  # one hour into a day
    error = classify(adapter, 429, json.loads(read("neurons_429.json")))
    assert isinstance(error, errors.UpstreamQuotaExhausted)
    assert error.cooldown_scope == "credential"
    assert error.retry_after_s == 23 * 3600


def test_spent_neurons_are_told_as_a_quota(adapter):
    adapter.now = lambda: 1_795_392_000 + 3600.0
    (reading,) = adapter.error_of(429, {}, json.loads(read("neurons_429.json")), candidate()).quota
    assert (reading.window, reading.limit, reading.remaining, reading.resets_in_s) == ("neurons", None, 0, 23 * 3600)
    assert adapter.error_of(429, {}, envelope(3021), candidate()).quota == ()


def test_a_retry_after_wins_over_midnight(adapter):
    assert classify(adapter, 429, envelope(4006), {"retry-after": "90"}).retry_after_s == 90


def test_the_id_of_the_request_is_cut_off_the_message(adapter):
    error = classify(adapter, 400, json.loads(read("bad_input_400.json")))
    assert isinstance(error, errors.UpstreamModelFailed)
    assert error.message.startswith("Bad input") and error.message.endswith("'array' not in 'string'")


def test_a_wrong_account_names_the_variable_and_not_the_account(adapter):
    error = classify(adapter, 404, json.loads(read("wrong_account_404.json")))
    assert "CLOUDFLARE_ACCOUNT_ID" in error.message
    assert "0123456789abcdef" not in error.message


@pytest.mark.parametrize(
    ("payload", "fails"),
    [
        ({"result": {"response": "ok"}, "success": True, "errors": []}, False),
        ({"result": {"response": "ok"}, "success": True, "errors": [{"code": 1, "message": "a warning"}]}, False),
        ({"result": {"response": {"a": 1}}, "success": False, "errors": [{"message": "JSON Mode couldn't be met"}]}, True),
        ({"success": False, "errors": [], "result": None}, True),
        ({"error": {"message": "AiError: no"}}, True),
        ({"choices": [{"index": 0, "message": {}}]}, False),
        ([], False),
        ("text", False),
    ],
)
def test_a_failure_that_hides_in_a_200_is_found(adapter, payload, fails):
    assert (adapter.find_error(payload) is not None) is fails


def test_a_failure_in_a_200_is_raised_by_the_driver(adapter, http):
    with pytest.raises(errors.UpstreamOverloaded):
        complete(adapter, http, envelope(3040))
