"""What is particular to Gemini's native protocol. The fixtures are made by hand from Google's documentation (2026-11-22)."""

import base64
import json
import math
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import responses

from gateway import errors
from gateway.domain import Candidate, ChatRequest, Choice, Credential, EmbeddingRequest, Model, ProviderRow, QuotaReading
from gateway.providers.gemini import SIGNATURE_TTL_S, Adapter
from gateway.providers.gemini.messages import NO_SIGNATURE
from gateway.providers.gemini.schema import MAX_NODES, to_openapi
from gateway.upstream.hints import seconds_until_pacific_midnight
from gateway.upstream.shape import reading
from gateway.upstream.sse import Event, EventParser
from gateway.upstream.transport import CallLimits, Transport
from gateway.upstream.watch import Handle

FIXTURES = Path(__file__).parent / "fixtures" / "gemini"
BASE_URL = "https://generativelanguage.googleapis.com/v1beta"
SECRET = "AIzaSyTEST-0123456789"
NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC).timestamp()  # noon in California
ROW = ProviderRow(key="gemini", adapter="gemini", base_url=BASE_URL, clock="pacific")
LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
BUDGETS = {"none": 0, "low": 1024, "medium": 8192, "high": 24576}
USER = {"role": "user", "content": "2 + 2?"}
TOOL = {"type": "function", "function": {"name": "get_x", "description": "Get x.", "parameters": {"type": "object"}}}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


class DictNotes:
    def __init__(self):
        self.kept = {}
        self.ttls = []
        self.recalls = []

    def remember(self, key, value, ttl_s):
        self.kept[key] = value
        self.ttls.append(ttl_s)

    def recall(self, keys):
        self.recalls.append(list(keys))
        return {key: self.kept[key] for key in keys if key in self.kept}


def build_model(model_id="gemini-3.5-flash", **fields):
    reasoning = {"reasoning_tier": "medium", "reasoning_efforts": LEVELS} if "gemini-3" in model_id else {}
    return Model(provider="gemini", id=model_id, upstream_id=model_id, builtin=True, **{**reasoning, **fields})


def candidate_of(model):
    return Candidate(ROW, model, Credential("gemini", 1, BASE_URL, SECRET))


CANDIDATE = candidate_of(build_model())


@pytest.fixture
def notes():
    return DictNotes()


@pytest.fixture
def adapter(notes):
    adapter = Adapter(ROW, Transport(), notes)
    adapter.now = lambda: NOW
    return adapter


def chat(*messages, attributes=None, **body):
    return ChatRequest(body={"messages": list(messages or (USER,)), **body}, **(attributes or {}))


def encode(adapter, request, model=None):
    encoded = adapter.encode_chat(request, candidate_of(model or build_model()))
    return json.loads(encoded.request.body), encoded.dropped


def load(name):
    return json.loads((FIXTURES / name).read_bytes())


def decode_events(adapter, data, candidate=CANDIDATE):
    decoder = adapter.stream_decoder(chat(), candidate)
    parser = EventParser()
    events = parser.feed(data) + parser.finish()
    return [chunk for event in events for chunk in decoder.decode(event)]


def response(parts, finish="STOP", **fields):
    return {"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": finish, **fields}]}


def limits():
    return CallLimits(1, 1, 1, time.monotonic() + 5)


# --- the call --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "method"), [(False, "generateContent"), (True, "streamGenerateContent?alt=sse")], ids=["whole", "stream"]
)
def test_key_is_sent_in_a_header_and_never_in_the_url(adapter, stream, method):
    call = adapter.encode_chat(chat(attributes={"stream": stream}), CANDIDATE).request
    assert call.url == f"{BASE_URL}/models/gemini-3.5-flash:{method}"
    assert call.headers["x-goog-api-key"] == SECRET


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"temperature": 0.2}, {"temperature": 0.2}),
        ({"top_p": 0.9}, {"topP": 0.9}),
        ({"top_k": 40}, {"topK": 40}),
        ({"seed": 7}, {"seed": 7}),
        ({"stop": "END"}, {"stopSequences": ["END"]}),
        ({"stop": ["a", "", "b"]}, {"stopSequences": ["a", "b"]}),
        ({"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}},
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
        ),
        ({"temperature": None, "n": 1}, {}),
    ],
)
def test_parameter_is_sent_under_its_own_name(adapter, given, expected):
    body, dropped = encode(adapter, chat(**given), build_model(reasoning_tier=None))
    assert body.get("generationConfig", {}) == expected
    assert dropped == ()


@pytest.mark.parametrize(
    ("model_id", "given", "sent", "dropped"),
    [
        ("gemini-2.5-flash", {"presence_penalty": 1}, {"presencePenalty": 1}, ()),
        ("gemini-3.5-flash", {"presence_penalty": 1, "frequency_penalty": 1}, {}, ("presence_penalty", "frequency_penalty")),
        ("gemini-2.5-flash", {"n": 2}, {"candidateCount": 2}, ()),
        ("gemini-3.5-flash", {"stop": list("abcdef")}, {"stopSequences": list("abcde")}, ("stop",)),
        ("gemini-3.5-flash", {"seed": 2**40 + 7}, {"seed": 7}, ("seed",)),
        ("gemini-3.5-flash", {"n": 2}, {}, ("n",)),
        ("gemini-3.5-flash", {"logprobs": True, "user": "u", "whatever": {}}, {}, ("logprobs", "user", "whatever")),
    ],
)
def test_parameter_that_the_model_refuses_is_dropped_by_name(adapter, model_id, given, sent, dropped):
    body, names = encode(adapter, chat(**given), build_model(model_id, reasoning_tier=None))
    assert (body.get("generationConfig", {}), names) == (sent, dropped)


def test_row_replaces_the_list_of_parameters(adapter):
    model = build_model(reasoning_tier=None, params=frozenset({"presence_penalty", "logit_bias"}))
    body, dropped = encode(adapter, chat(presence_penalty=1, temperature=1, logit_bias={"1": 2}), model)
    assert body["generationConfig"] == {"presencePenalty": 1}
    assert dropped == ("temperature", "logit_bias")


@pytest.mark.parametrize(("asked", "allowed", "sent"), [(500, 8192, 500), (64000, 8192, 8192), (64000, None, 64000)])
def test_output_limit_is_clamped_to_the_model(adapter, asked, allowed, sent):
    body, _ = encode(
        adapter, chat(attributes={"max_output_tokens": asked}), build_model(reasoning_tier=None, max_output_tokens=allowed)
    )
    assert body["generationConfig"] == {"maxOutputTokens": sent}


GEMINI_2_5 = {"reasoning_tier": "medium", "reasoning_efforts": BUDGETS}


@pytest.mark.parametrize(
    ("model", "effort", "config", "dropped"),
    [
        (build_model(), None, {"includeThoughts": True}, ()),
        (build_model(), "high", {"thinkingLevel": "HIGH", "includeThoughts": True}, ()),
        (build_model(), "none", {"thinkingLevel": "MINIMAL"}, ()),
        (
            build_model("gemini-2.5-pro", reasoning_tier="high", reasoning_efforts={"low": 1024}),
            "none",
            {"thinkingBudget": 1024},
            (),
        ),
        (build_model("gemini-3.5-flash", reasoning_efforts={}), "none", None, ("reasoning_effort",)),
        (
            build_model("gemini-3.8-flash", reasoning_efforts={"low": "LOW", "high": "HIGH"}),
            "minimal",
            {"thinkingLevel": "LOW", "includeThoughts": True},
            (),
        ),
        (build_model("gemini-2.5-flash", **GEMINI_2_5), "low", {"thinkingBudget": 1024, "includeThoughts": True}, ()),
        (build_model("gemini-2.5-flash", **GEMINI_2_5), "none", {"thinkingBudget": 0}, ()),
        (build_model("gemini-2.5-flash-lite", **GEMINI_2_5), None, None, ()),
        (build_model("gemini-2.0-flash-thinking-exp", **GEMINI_2_5), "high", None, ("reasoning_effort",)),
        (build_model("gemini-3.5-flash", reasoning_efforts={}), "high", {"includeThoughts": True}, ("reasoning_effort",)),
        (build_model("gemma-4-31b-it", reasoning_tier="medium"), "high", None, ("reasoning_effort",)),
        (build_model(reasoning_tier=None), "high", None, ("reasoning_effort",)),
        (
            Model(
                provider="gemini", id="x", upstream_id="gemini-2.5-flash", capabilities=frozenset({"reasoning"})
            ),  # a row of the operator's own, without a table
            "medium",
            {"thinkingBudget": 8192, "includeThoughts": True},
            (),
        ),
    ],
)
def test_reasoning_effort_becomes_what_the_model_knows(adapter, model, effort, config, dropped):
    body, names = encode(adapter, chat(attributes={"reasoning_effort": effort}), model)
    assert body.get("generationConfig", {}).get("thinkingConfig") == config
    assert names == dropped


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        ("none", {"mode": "NONE"}),
        ("auto", {"mode": "AUTO"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "get_x"}}, {"mode": "ANY", "allowedFunctionNames": ["get_x"]}),
        (None, None),
    ],
)
def test_tool_choice_becomes_a_mode(adapter, choice, calling):
    body, _ = encode(adapter, chat(tools=[TOOL], tool_choice=choice))
    assert body.get("toolConfig", {}).get("functionCallingConfig") == calling
    assert body["tools"] == [
        {"functionDeclarations": [{"name": "get_x", "description": "Get x.", "parametersJsonSchema": {"type": "object"}}]}
    ]


def test_old_model_gets_schemas_in_the_reduced_form(adapter):
    parameters = {"type": "object", "additionalProperties": False, "properties": {"a": {"const": "b"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    body, _ = encode(adapter, chat(tools=[tool, TOOL]), build_model("gemini-2.0-flash"))
    reduced = {"type": "object", "properties": {"a": {"type": "string", "enum": ["b"]}}}
    assert body["tools"][0]["functionDeclarations"] == [
        {"name": "f", "parameters": reduced},
        {"name": "get_x", "description": "Get x."},
    ]
    schema = {"type": "json_schema", "json_schema": {"schema": parameters}}
    body, _ = encode(adapter, chat(response_format=schema), build_model("gemini-2.0-flash"))
    assert body["generationConfig"] == {"responseMimeType": "application/json", "responseSchema": reduced}


@pytest.mark.parametrize(
    ("schema", "reduced"),
    [
        ({"type": ["string", "null"], "description": "d"}, {"type": "string", "nullable": True, "description": "d"}),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, {"type": "integer", "nullable": True}),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        ({"type": "string", "format": "uuid", "$schema": "s", "examples": ["e"]}, {"type": "string"}),
        ({"type": "integer", "enum": [1, 2], "exclusiveMinimum": 0}, {"type": "integer"}),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "number"}}}, {"type": "number"}),
        (
            {"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}], "type": "object", "required": ["b"]},
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b", "a"]},
        ),
        ({"type": "array", "items": {"type": "string", "format": "date-time"}},) * 2,
    ],
)
def test_schema_is_reduced_to_what_old_models_read(schema, reduced):
    assert to_openapi(schema) == reduced


def test_schema_that_refers_to_itself_is_cut():
    node = {"type": "object", "properties": {name: {"$ref": "#"} for name in "abcdefgh"}}
    assert len(json.dumps(to_openapi(node))) < MAX_NODES * 200


# --- messages --------------------------------------------------------------------------------------------------------


def turn(role, *parts):
    return {"role": role, "parts": list(parts)}


@pytest.mark.parametrize(
    ("messages", "contents"),
    [
        ([USER, USER], [turn("user", {"text": "2 + 2?"}, {"text": "2 + 2?"})]),
        ([{"role": "user", "content": ""}], [turn("user", {"text": " "})]),
        (
            [{"role": "assistant", "content": "Hi."}, USER],
            [turn("user", {"text": " "}), turn("model", {"text": "Hi."}), turn("user", {"text": "2 + 2?"})],
        ),
        ([USER, {"role": "assistant", "content": None}, USER], [turn("user", {"text": "2 + 2?"}, {"text": "2 + 2?"})]),
        ([{"role": "system", "content": "Be terse."}], [turn("user", {"text": "Be terse."})]),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": PIXEL}}],
                }
            ],
            [turn("user", {"text": "What?"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}})],
        ),
        (
            [{"role": "user", "content": [{"type": "file", "file": {"file_data": "data:text/plain,a%20b"}}]}],
            [turn("user", {"inlineData": {"mimeType": "text/plain", "data": base64.b64encode(b"a b").decode()}})],
        ),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"format": "mp3", "data": "AA=="}}]}],
            [turn("user", {"inlineData": {"mimeType": "audio/mp3", "data": "AA=="}})],
        ),
    ],
)
def test_messages_become_turns_that_are_never_empty(adapter, messages, contents):
    body, _ = encode(adapter, chat(*messages))
    assert body["contents"] == contents
    assert "systemInstruction" not in body


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions_stand_apart(adapter, role):
    body, _ = encode(adapter, chat({"role": role, "content": "Be terse."}, USER), build_model("gemma-4-31b-it"))
    assert body["systemInstruction"] == {"parts": [{"text": "Be terse."}]}
    assert body["contents"] == [turn("user", {"text": "2 + 2?"})]


def test_instructions_are_folded_into_the_first_turn_for_gemma_3(adapter):
    body, _ = encode(adapter, chat({"role": "system", "content": "Be terse."}, USER), build_model("gemma-3-27b-it"))
    assert "systemInstruction" not in body
    assert body["contents"] == [turn("user", {"text": "Be terse."}, {"text": "2 + 2?"})]


def called(call_id, arguments="{}", name="get_x", **extra):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **extra}


def history(*calls, results=()):
    told = [{"role": "tool", "tool_call_id": call_id, "content": content} for call_id, content in results]
    return [USER, {"role": "assistant", "content": None, "tool_calls": list(calls)}, *told]


def test_results_of_parallel_calls_stand_in_one_turn_in_the_order_of_the_calls(adapter):
    messages = history(called("c1", name="a"), called("c2", name="b"), results=[("c2", "two"), ("c1", '{"n": 1}')])
    body, _ = encode(adapter, chat(*messages), build_model("gemini-2.5-flash"))
    assert body["contents"][2] == turn(
        "user",
        {"functionResponse": {"name": "a", "response": {"n": 1}}},
        {"functionResponse": {"name": "b", "response": {"result": "two"}}},
    )


def test_calls_and_results_keep_their_ids_where_models_have_them(adapter):
    body, _ = encode(adapter, chat(*history(called("c1"), results=[("c1", "x")])))
    assert body["contents"][1]["parts"][0]["functionCall"]["id"] == "c1"
    assert body["contents"][2]["parts"][0]["functionResponse"]["id"] == "c1"


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        ("[1, 2]", {"result": "[1, 2]"}),
        ("{broken", {"result": "{broken"}),
        ("", {"result": ""}),
        ([{"type": "text", "text": '{"a": '}, {"type": "text", "text": "1}"}], {"a": 1}),
    ],
)
def test_result_is_always_an_object(adapter, content, sent):
    body, _ = encode(adapter, chat(*history(called("c1"), results=[("c1", content)])))
    assert body["contents"][2]["parts"][0]["functionResponse"]["response"] == sent


@pytest.mark.parametrize(
    ("arguments", "sent"), [('{"a": 1}', {"a": 1}), ("", {}), ("{broken", {"arguments": "{broken"}), ("[1]", {"arguments": [1]})]
)
def test_arguments_are_always_an_object(adapter, arguments, sent):
    body, _ = encode(adapter, chat(*history(called("c1", arguments))))
    assert body["contents"][1]["parts"][0]["functionCall"]["args"] == sent


@pytest.mark.parametrize(
    ("request_", "model_id", "served"),
    [
        (chat(tools=[TOOL], response_format={"type": "json_object"}), "gemini-2.5-flash", False),
        (chat(tools=[TOOL], response_format={"type": "json_schema"}), "gemma-4-31b-it", False),
        (chat(tools=[TOOL], response_format={"type": "json_object"}), "gemini-3.5-flash", True),
        (chat(tools=[TOOL], response_format=None), "gemini-2.5-flash", True),
        (chat(response_format={"type": "json_object"}), "gemini-2.5-flash", True),
        (chat({"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}), "gemini-3.5-flash", True),
        (
            chat({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test/i.png"}}]}),
            "gemini-3.5-flash",
            False,
        ),
        (chat({"role": "user", "content": [{"type": "video_url"}]}), "gemini-3.5-flash", False),
    ],
)
def test_requests_that_the_protocol_cannot_carry_are_known(adapter, request_, model_id, served):
    assert (adapter.cannot_serve(request_, build_model(model_id)) is None) is served
    if not served and "tools" not in request_.body:
        with pytest.raises(errors.UpstreamModelFailed):
            adapter.encode_chat(request_, CANDIDATE)


# --- thought signatures ----------------------------------------------------------------------------------------------


def signatures_of(body):
    return [part.get("thoughtSignature") for part in body["contents"][1]["parts"]]


def test_signature_survives_a_client_that_keeps_only_what_it_knows(adapter, notes):
    chunks = decode_events(adapter, (FIXTURES / "stream_tools.sse").read_bytes())
    calls = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", ())]
    kept = [{"id": call["id"], "type": "function", "function": call["function"]} for call in calls]
    body, _ = encode(adapter, chat(*history(*kept, results=[(call["id"], "x") for call in kept])))
    assert signatures_of(body) == ["AVSo1", None]
    assert notes.ttls == [SIGNATURE_TTL_S]
    assert len(notes.recalls) == 1


def test_signature_that_the_client_sent_back_goes_before_the_kept_one(adapter, notes):
    notes.kept["thought:c1"] = "kept"
    sent = called("c1", extra_content={"google": {"thought_signature": "sent"}})
    body, _ = encode(adapter, chat(*history(sent)))
    assert signatures_of(body) == ["sent"]
    assert notes.recalls == []


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [("gemini-3.5-flash", [NO_SIGNATURE, None]), ("gemini-2.5-flash", [None, None]), ("gemma-4-31b-it", [None, None])],
)
def test_call_from_elsewhere_gets_the_stand_in_where_one_is_demanded(adapter, model_id, expected):
    body, _ = encode(adapter, chat(*history(called("c1"), called("c2"))), build_model(model_id))
    assert signatures_of(body) == expected


@pytest.mark.parametrize("extra", [None, "x", {"google": None}, {"google": {"thought_signature": 5}}])
def test_malformed_signature_counts_as_none(adapter, extra):
    body, _ = encode(adapter, chat(*history(called("c1", extra_content=extra))))
    assert signatures_of(body) == [NO_SIGNATURE]


# --- whole answers ---------------------------------------------------------------------------------------------------


def test_answer_becomes_a_completion(adapter):
    completion = adapter.decode_chat(load("answer_text.json"), chat(), CANDIDATE)
    assert completion == {
        "id": "3SE-aKjd",
        "object": "chat.completion",
        "created": int(NOW),
        "model": "gemini-3.5-flash",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Four.", "reasoning_content": "Think."},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 61,
            "total_tokens": 73,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 59},
        },
    }


def test_calls_are_numbered_by_ids_of_their_own(adapter):
    parts = [{"functionCall": {"name": "f", "args": {"a": "é"}, "id": "same"}}, {"functionCall": {"name": "g", "id": "same"}}]
    message = adapter.decode_chat(response([*parts, {"functionCall": {"name": "h"}}]), chat(), CANDIDATE)["choices"][0]["message"]
    ids = [call["id"] for call in message["tool_calls"]]
    assert ids[0] == "same"
    assert len(set(ids)) == 3 and all(ids)
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == ['{"a":"é"}', "{}", "{}"]
    assert message["content"] is None


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        *((name, "content_filter") for name in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")),
        *((name, "content_filter") for name in ("LANGUAGE", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION")),
    ],
)
def test_finish_reason_is_translated(adapter, reason, expected):
    assert adapter.decode_chat(response([{"text": "x"}], reason), chat(), CANDIDATE)["choices"][0]["finish_reason"] == expected


@pytest.mark.parametrize(("reason", "expected"), [("STOP", "tool_calls"), ("MAX_TOKENS", "length")])
def test_finish_reason_tells_of_calls(adapter, reason, expected):
    answer = adapter.decode_chat(response([{"functionCall": {"name": "f"}}], reason), chat(), CANDIDATE)
    assert answer["choices"][0]["finish_reason"] == expected


FAILING_REASONS = [
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MALFORMED_RESPONSE",
    "MISSING_THOUGHT_SIGNATURE",
    "OTHER",
    "NO_IMAGE",
    "ADDED_NEXT_YEAR",
]


@pytest.mark.parametrize("reason", FAILING_REASONS)
def test_model_that_gave_up_is_a_failure(adapter, reason):
    payload = response([{"text": "x"}], reason)
    with pytest.raises(errors.UpstreamModelFailed, match=reason):
        adapter.decode_chat(payload, chat(), CANDIDATE)
    with pytest.raises(errors.UpstreamModelFailed, match=reason):
        decode_events(adapter, b"data: " + json.dumps(payload).encode() + b"\r\n\r\n")


def test_blocked_prompt_is_refused_content(adapter):
    payload = load("answer_blocked.json")
    with pytest.raises(errors.UpstreamRefusedContent, match="PROHIBITED_CONTENT"):
        adapter.decode_chat(payload, chat(), CANDIDATE)
    with pytest.raises(errors.UpstreamRefusedContent, match="PROHIBITED_CONTENT"):
        decode_events(adapter, b"data: " + json.dumps(payload).encode() + b"\r\n\r\n")


def test_budget_eaten_by_thoughts_is_an_empty_answer_of_full_length(adapter):
    completion = adapter.decode_chat(load("answer_no_parts.json"), chat(), CANDIDATE)
    assert completion["choices"][0]["message"] == {"role": "assistant", "content": ""}
    assert completion["choices"][0]["finish_reason"] == "length"
    assert completion["usage"]["completion_tokens"] == 512


@pytest.mark.parametrize(
    "payload",
    [{}, [], {"candidates": []}, response([{"text": "cut"}], None), response("abc"), {"candidates": [{"content": "x"}]}],
)
def test_answer_without_content_or_end_is_garbled(adapter, payload):
    with pytest.raises(errors.UpstreamGarbled), reading(200):
        adapter.decode_chat(payload, chat(), CANDIDATE)


def test_answer_in_pieces_is_put_together(adapter):
    pieces = [response([{"text": "Fo"}], None), response([{"text": "ur."}])]
    choice = adapter.decode_chat(pieces, chat(), CANDIDATE)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Four.", "stop")


def test_several_candidates_are_several_choices(adapter):
    two = {"candidates": [response([{"text": text}], index=n)["candidates"][0] for n, text in ((1, "b"), (0, "a"))]}
    choices = adapter.decode_chat(two, chat(), CANDIDATE)["choices"]
    assert [(choice["index"], choice["message"]["content"]) for choice in choices] == [(0, "a"), (1, "b")]


# --- streams ---------------------------------------------------------------------------------------------------------


def test_stream_of_text_becomes_chunks(adapter):
    chunks = decode_events(adapter, (FIXTURES / "stream_text.sse").read_bytes())
    deltas = [(chunk["choices"][0]["delta"], chunk["choices"][0]["finish_reason"]) for chunk in chunks]
    assert deltas == [
        ({"role": "assistant", "reasoning_content": "**Counting**\n"}, None),
        ({"content": "Fo"}, None),
        ({"content": "ur.\u2028é"}, None),
        ({}, "stop"),
    ]
    assert {(chunk["id"], chunk["object"], chunk["model"]) for chunk in chunks} == {
        ("3SE-aKjd", "chat.completion.chunk", "gemini-3.5-flash")
    }
    assert chunks[-1]["usage"]["completion_tokens"] == 62
    assert chunks[-1]["usage"]["total_tokens"] == 71


def test_stream_of_calls_becomes_chunks(adapter):
    chunks = decode_events(adapter, (FIXTURES / "stream_tools.sse").read_bytes())
    first, second = chunks[1]["choices"][0]["delta"]["tool_calls"]
    assert first == {
        "index": 0,
        "id": "jm4owj31",
        "type": "function",
        "function": {"name": "get_x", "arguments": '{"a":1}'},
        "extra_content": {"google": {"thought_signature": "AVSo1"}},
    }
    assert (second["index"], second["function"]["arguments"]) == (1, '{"a":2}')
    assert len(second["id"]) == len("call_") + 24 and second["id"].startswith("call_")
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "tool_calls"}


def test_id_is_made_up_once_where_none_is_given(adapter):
    decoder = adapter.stream_decoder(chat(), CANDIDATE)
    event = Event(json.dumps(response([{"text": "a"}], None)).encode())
    ids = {chunk["id"] for _ in range(2) for chunk in decoder.decode(event)}
    assert len(ids) == 1 and ids.pop().startswith("chatcmpl-")


@pytest.mark.parametrize("data", [b"", b"[DONE]", b"hello", b"{}", b'{"modelVersion": "x"}'])
def test_event_that_cannot_carry_content_is_skipped(adapter, data):
    assert list(adapter.stream_decoder(chat(), CANDIDATE).decode(Event(data))) == []


def test_event_that_is_cut_breaks_the_stream(adapter):
    with pytest.raises(errors.UpstreamGarbled), reading(200):
        adapter.stream_decoder(chat(), CANDIDATE).decode(Event(b'{"candidates": [{"content": '))


def test_event_of_another_shape_is_garbled(adapter):
    with pytest.raises(errors.UpstreamGarbled), reading(200):
        adapter.stream_decoder(chat(), CANDIDATE).decode(Event(b'{"candidates": [{"content": {"parts": [1]}}]}'))


def test_error_within_a_stream_is_classified(adapter):
    event = Event(json.dumps(load("errors.json")["overloaded"]).encode())
    with pytest.raises(errors.UpstreamOverloaded):
        adapter.stream_decoder(chat(), CANDIDATE).decode(event)


# --- failures --------------------------------------------------------------------------------------------------------

KINDS: dict[str, type[errors.UpstreamError]] = {
    "bad_key": errors.UpstreamCredentialRejected,
    "location": errors.UpstreamCredentialRejected,
    "prepaid": errors.UpstreamPaymentRequired,
    "disabled": errors.UpstreamCredentialRejected,
    "retired": errors.UpstreamModelGone,
    "per_day": errors.UpstreamQuotaExhausted,
    "per_minute": errors.UpstreamRateLimited,
    "tokens_per_minute": errors.UpstreamRateLimited,
    "not_free": errors.UpstreamModelGone,
    "exhausted_short": errors.UpstreamRateLimited,
    "cancelled": errors.UpstreamFailed,
    "internal": errors.UpstreamFailed,
    "overloaded": errors.UpstreamOverloaded,
    "deadline": errors.UpstreamFailed,
    "too_long": errors.UpstreamContextTooLong,
    "unsigned": errors.UpstreamModelFailed,
    "unknown_name": errors.UpstreamModelFailed,
    "penalty": errors.UpstreamModelFailed,
    "candidates": errors.UpstreamModelFailed,
    "thinking": errors.UpstreamModelFailed,
    "thinking_budget": errors.UpstreamModelFailed,
    "tools_with_json": errors.UpstreamModelFailed,
    "system_refused": errors.UpstreamModelFailed,
    "other": errors.UpstreamRejected,
}
BODIES = load("errors.json")


def classify(adapter, name, headers=None):
    body = BODIES[name]
    return adapter.classify_error(body["error"]["code"], headers or {}, body, CANDIDATE)


def test_every_recorded_failure_has_a_meaning():
    assert BODIES.keys() == KINDS.keys()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["object", "list"])
def test_failure_is_classified(adapter, name, wrapped):
    body = BODIES[name]
    status = body["error"]["code"]
    error = adapter.classify_error(status, {}, [body] if wrapped else body, CANDIDATE)
    assert type(error) is KINDS[name]
    assert error.upstream_status == status


@pytest.mark.parametrize(
    ("name", "retry_after_s"),
    [
        ("per_day", 12 * 3600),
        ("per_minute", 20),
        ("tokens_per_minute", 31),
        ("exhausted_short", None),
        ("overloaded", None),
    ],
)
def test_wait_is_what_the_quota_says(adapter, name, retry_after_s):
    assert classify(adapter, name).retry_after_s == retry_after_s


@pytest.mark.parametrize(
    ("header", "seconds"), [({"retry-after": "7"}, 7), ({"retry-after": "Sun, 22 Nov 2026 20:01:00 GMT"}, 60)]
)
@pytest.mark.parametrize("name", ["per_minute", "overloaded", "internal"])
def test_retry_after_header_goes_before_the_body(adapter, name, header, seconds):
    assert classify(adapter, name, header).retry_after_s == seconds


def test_wait_is_read_from_the_message_where_there_are_no_details(adapter):
    body = {"error": {"code": 429, "message": "Quota exceeded. Please retry in 20.5s.", "status": "RESOURCE_EXHAUSTED"}}
    assert adapter.classify_error(429, {}, body, CANDIDATE).retry_after_s == 20.5


def test_model_that_is_not_free_rests_for_this_credential_only(adapter):
    assert classify(adapter, "not_free").cooldown_scope == "candidate"
    body = {"error": {"code": 429, "message": "* Quota exceeded for metric: m, limit: 0, model: gemini-3.1-pro"}}
    assert type(adapter.classify_error(429, {}, body, CANDIDATE)) is errors.UpstreamModelGone
    body = {"error": {"code": 429, "message": "* Quota exceeded for metric: m, limit: 0.5"}}
    assert type(adapter.classify_error(429, {}, body, CANDIDATE)) is errors.UpstreamRateLimited


def violations(*quotas):
    named = [{"quotaId": quota, "quotaValue": value} for quota, value in quotas]
    details = [{"violations": named}, {"retryDelay": "31s"}]
    return {"error": {"code": 429, "message": "Quota exceeded.", "details": details}}


@pytest.mark.parametrize(
    ("quota", "value", "reading"),
    [
        ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "5", QuotaReading("rpm", 5, 0, 31)),
        ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "20", QuotaReading("rpd", 20, 0, 12 * 3600)),
        ("GenerateContentInputTokensPerModelPerMinute-FreeTier", "250000", QuotaReading("tpm", 250000, 0, 31)),
        ("GenerateContentInputTokensPerModelPerDay-FreeTier", "1000000", QuotaReading("tpd", 1000000, 0, 12 * 3600)),
        ("EmbedContentRequestsPerMinutePerProjectPerModel-FreeTier", "100", QuotaReading("rpm", 100, 0, 31)),
        ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "0", None),
        ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "many", None),
        ("SomethingElsePerDay", "20", None),
    ],
)
def test_a_quota_that_was_met_is_read_with_its_limit(adapter, quota, value, reading):
    assert adapter.read_quota({}, violations((quota, value))) == ((reading,) if reading else ())


def test_all_quotas_that_were_met_are_read(adapter):
    payload = violations(("GenerateRequestsPerMinute", "5"), ("GenerateRequestsPerDay", "20"))
    assert [reading.window for reading in adapter.read_quota({}, [payload])] == ["rpm", "rpd"]
    assert adapter.read_quota({}) == adapter.read_quota({}, "<html>") == ()


@responses.activate
def test_quotas_come_with_the_error(adapter):
    responses.post(f"{URL}:generateContent", json=BODIES["per_day"], status=429)
    with pytest.raises(errors.UpstreamQuotaExhausted) as raised:
        adapter.complete(chat(), CANDIDATE, limits(), Handle())
    assert raised.value.quota == (QuotaReading("rpd", 20, 0, 12 * 3600),)


def test_context_error_tells_its_numbers(adapter):
    error = classify(adapter, "too_long")
    assert (error.prompt_tokens, error.limit_tokens) == (3475108, 1048576)


@pytest.mark.parametrize(
    ("moment", "hours"),
    [
        (datetime(2026, 11, 1, 7, 0, tzinfo=UTC), 25),  # the night in which summer time ends
        (datetime(2026, 3, 8, 8, 0, tzinfo=UTC), 23),
        (datetime(2026, 7, 1, 6, 59, tzinfo=UTC), 1 / 60),
    ],
)
def test_day_ends_at_midnight_in_california(moment, hours):
    assert seconds_until_pacific_midnight(moment.timestamp()) == pytest.approx(hours * 3600)


def test_message_holds_no_key_and_is_short(adapter):
    assert classify(adapter, "other").message == "Please use a valid role: user, model. Key [key] was used."
    candidate = replace(CANDIDATE, credential=replace(CANDIDATE.credential, secret="AQ.secret"))
    body = {"error": {"code": 400, "message": "Bad AQ.secret " + "x" * 1000}}
    message = adapter.classify_error(400, {}, body, candidate).message
    assert "AQ.secret" not in message
    assert len(message) == 500


@pytest.mark.parametrize(
    ("status", "payload", "kind"),
    [
        (400, "<html>Error 400</html>", errors.UpstreamRejected),
        (403, "<html>Error 403</html>", errors.UpstreamUnreachable),
        (404, "<html>Error 404</html>", errors.UpstreamModelGone),
        (429, "", errors.UpstreamRateLimited),
        (502, "<html>Error 502</html>", errors.UpstreamFailed),
        (503, "", errors.UpstreamOverloaded),
        (500, {"error": {"message": "The model is overloaded."}}, errors.UpstreamOverloaded),
        (400, {"error": "bad"}, errors.UpstreamRejected),
        (400, [], errors.UpstreamRejected),
        (400, {"error": {"details": [None, {"violations": [None]}]}}, errors.UpstreamRejected),
        (429, {"error": {"details": 1}}, errors.UpstreamRateLimited),
        (429, {"error": {"details": [{"violations": 1}]}}, errors.UpstreamRateLimited),
    ],
)
def test_failure_of_another_shape_goes_by_its_status(adapter, status, payload, kind):
    error = adapter.classify_error(status, {}, payload, CANDIDATE)
    assert type(error) is kind
    assert "<html>" not in error.message


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (BODIES["overloaded"], 503),
        ([BODIES["bad_key"]], 400),
        ({"error": {"status": "RESOURCE_EXHAUSTED"}}, 429),
        ({"error": {"code": 200}}, 500),
        ({"error": "x"}, 500),
        (response([{"text": "x"}]), None),
        ([], None),
        ("text", None),
    ],
)
def test_error_in_a_200_is_found(adapter, payload, status):
    assert adapter.find_error(payload) == status


# --- embeddings ------------------------------------------------------------------------------------------------------

EMBEDDING_001 = build_model("gemini-embedding-001", kind="embedding", dimensions=(4,))
EMBEDDING_2 = build_model("gemini-embedding-2", kind="embedding", dimensions=(4,))


@pytest.mark.parametrize(
    ("model", "input_type", "fields", "text"),
    [
        (EMBEDDING_001, None, {}, "a {}"),
        (EMBEDDING_001, "query", {"taskType": "RETRIEVAL_QUERY"}, "a {}"),
        (EMBEDDING_001, "document", {"taskType": "RETRIEVAL_DOCUMENT"}, "a {}"),
        (EMBEDDING_2, None, {}, "a {}"),
        (EMBEDDING_2, "query", {}, "task: search result | query: a {}"),
        (EMBEDDING_2, "document", {}, "title: none | text: a {}"),
    ],
)
def test_each_text_is_a_content_of_its_own(adapter, model, input_type, fields, text):
    request = EmbeddingRequest(inputs=("a {}", "b"), choice=Choice(), dimensions=3, input_type=input_type, user="u")
    call = adapter.encode_embeddings(request.inputs, request, candidate_of(model))
    requests = json.loads(call.request.body)["requests"]
    assert call.request.url == f"{BASE_URL}/models/{model.id}:batchEmbedContents"
    assert len(requests) == 2
    assert requests[0] == {
        "model": f"models/{model.id}",
        "content": {"parts": [{"text": text}]},
        "outputDimensionality": 3,
        **fields,
    }
    assert call.dropped == ("user",)


def test_shortened_vectors_have_length_1(adapter):
    payload = {"embeddings": [{"values": [3, 4]}, {"values": [0, 0]}, {"values": [3, 4, 0, 0]}]}
    vectors = adapter.decode_embeddings(payload, candidate_of(EMBEDDING_001)).vectors
    assert vectors == [pytest.approx([0.6, 0.8]), [0, 0], [3, 4, 0, 0]]
    assert math.hypot(*vectors[0]) == pytest.approx(1)


@pytest.mark.parametrize(("usage", "tokens"), [({"usageMetadata": {"promptTokenCount": 11}}, 11), ({}, None)])
def test_embedding_tokens_are_unknown_where_nobody_counted(adapter, usage, tokens):
    payload = {"embeddings": [{"values": [1.0]}], **usage}
    assert adapter.decode_embeddings(payload, candidate_of(EMBEDDING_2)).prompt_tokens == tokens


@pytest.mark.parametrize("payload", [{}, [], {"embeddings": [{}]}, {"embeddings": [{"values": ["x"]}]}, {"embeddings": None}])
def test_embedding_answer_without_vectors_is_garbled(adapter, payload):
    with pytest.raises(errors.UpstreamGarbled), reading(200):
        adapter.decode_embeddings(payload, candidate_of(EMBEDDING_2))


# --- over the wire ---------------------------------------------------------------------------------------------------

URL = f"{BASE_URL}/models/gemini-3.5-flash"


@responses.activate
def test_whole_answer_over_the_wire(adapter):
    responses.post(f"{URL}:generateContent", json=load("answer_text.json"))
    answer = adapter.complete(chat(logit_bias={"1": 2}), CANDIDATE, limits(), Handle())
    assert answer.body["choices"][0]["message"]["content"] == "Four."
    assert answer.dropped == ("logit_bias",)
    assert responses.calls[0].request.headers["x-goog-api-key"] == SECRET


@responses.activate
def test_stream_over_the_wire_ends_without_done(adapter):
    body = (FIXTURES / "stream_text.sse").read_bytes()
    responses.post(f"{URL}:streamGenerateContent?alt=sse", body=body, content_type="text/event-stream")
    stream = adapter.open_stream(chat(attributes={"stream": True}), CANDIDATE, limits(), Handle())
    chunks = []
    while (arrived := stream.next_chunks(1)) is not None:
        chunks += arrived
    stream.close()
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "Four.\u2028é"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@responses.activate
@pytest.mark.parametrize("name", ["bad_key", "per_day", "retired", "internal"])
def test_failure_over_the_wire(adapter, name):
    responses.post(f"{URL}:streamGenerateContent?alt=sse", json=[BODIES[name]], status=BODIES[name]["error"]["code"])
    with pytest.raises(KINDS[name]):
        adapter.open_stream(chat(attributes={"stream": True}), CANDIDATE, limits(), Handle())


@responses.activate
def test_failure_in_a_200_over_the_wire(adapter):
    responses.post(f"{URL}:generateContent", json=BODIES["overloaded"])
    with pytest.raises(errors.UpstreamOverloaded):
        adapter.complete(chat(), CANDIDATE, limits(), Handle())


@responses.activate
def test_embeddings_over_the_wire_in_batches(adapter):
    url = f"{BASE_URL}/models/gemini-embedding-2:batchEmbedContents"
    for numbers in ([1, 2], [3]):
        payload = {"embeddings": [{"values": [n, 0, 0, 0]} for n in numbers], "usageMetadata": {"promptTokenCount": 2}}
        responses.post(url, json=payload)
    request = EmbeddingRequest(inputs=("a", "b", "c"), choice=Choice())
    answer = adapter.embed(request, candidate_of(replace(EMBEDDING_2, batch=2)), limits(), Handle())
    assert [vector[0] for vector in answer.vectors] == [1, 2, 3]
    assert answer.prompt_tokens == 4
