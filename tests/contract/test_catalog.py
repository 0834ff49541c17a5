"""Every row of the catalog through its adapter, on the wire of its provider: what it is for, 401, 429, 500 and garbage."""

import json
import re
import time
from dataclasses import replace

import pytest
import responses

from gateway.boot import load_configuration
from gateway.domain import ChatRequest, EmbeddingRequest, RerankRequest, Scored
from gateway.errors import UpstreamCredentialRejected, UpstreamError, UpstreamFailed, UpstreamGarbled, UpstreamRateLimited
from gateway.providers import load_adapter
from gateway.upstream.shape import ChunkShaper, repair_completion
from gateway.upstream.transport import CallLimits, Transport
from gateway.upstream.watch import Handle

ENVIRON = {
    "GATEWAY_API_KEY": "sk-1",
    "GROQ_API_KEY": "gsk_1",
    "GEMINI_API_KEY": "AIza1",
    "CLOUDFLARE_API_TOKEN": "cf-token",
    "CLOUDFLARE_ACCOUNT_ID": "0" * 32,
    "OPENROUTER_API_KEY": "sk-or-1",
    "CEREBRAS_API_KEY": "csk-1",
    "VOYAGE_API_KEY": "pa-1",
}
INVENTORY = load_configuration(ENVIRON).inventory
ROWS = [candidate for model in INVENTORY.listed for candidate in INVENTORY.candidates(model)]
CHAT = [candidate for candidate in ROWS if candidate.model.kind == "chat"]
EMBEDDING = [candidate for candidate in ROWS if candidate.model.kind == "embedding"]
RERANK = [candidate for candidate in ROWS if candidate.model.kind == "rerank"]
ASKED = [*CHAT, *EMBEDDING, *RERANK]
REQUEST = ChatRequest(body={"messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5}, prompt_tokens=2)
STREAMED = ChatRequest(body=REQUEST.body, stream=True, prompt_tokens=2)
TEXTS = EmbeddingRequest(inputs=("a", "b"), choice=REQUEST.choice)
QUERY = RerankRequest(query="q", documents=("a", "b"), choice=REQUEST.choice)

COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
}
CHUNKS = [
    {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": None}]},
    {"id": "c", "choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}], "usage": COMPLETION["usage"]},
]
GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 2, "candidatesTokenCount": 1, "totalTokenCount": 3},
}


def wrap_error(provider, status, message):
    """An error body in the provider's own shape (one of several; the adapters' own tests have the others)."""
    return {
        "groq": {"error": {"message": message, "type": "invalid_request_error"}},
        "gemini": {"error": {"code": status, "message": message, "status": "X"}},
        "workers_ai": {"errors": [{"message": message, "code": 1}], "success": False, "result": {}, "messages": []},
        "openrouter": {"error": {"message": message, "code": status}},
        "cerebras": {"message": message, "type": "x", "param": None, "code": None},
        "voyage_ai": {"detail": message},
    }[provider]


class NoNotes:
    def remember(self, key, value, ttl_s):
        pass

    def recall(self, keys):
        return {}


@pytest.fixture
def wire():
    with responses.RequestsMock() as mock:
        yield mock


def provider_of(candidate):
    return load_adapter(candidate.provider.adapter)(candidate.provider, Transport(), NoNotes())


def limits():
    return CallLimits(1, 1, 1, time.monotonic() + 5)


def answer_with(wire, body, status=200, content_type="application/json"):
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    wire.add(responses.POST, re.compile(".*"), body=text, status=status, content_type=content_type)


def ask(candidate, request=REQUEST):
    provider = provider_of(candidate)
    if candidate.model.kind == "embedding":
        return provider.embed(TEXTS, candidate, limits(), Handle())
    if candidate.model.kind == "rerank":
        return provider.rerank(QUERY, candidate, limits(), Handle())
    return provider.complete(request, candidate, limits(), Handle())


def name(candidate):
    return candidate.model.name


def test_every_provider_has_rows():
    assert {candidate.provider.key for candidate in ROWS} == {
        "groq",
        "gemini",
        "workers_ai",
        "openrouter",
        "cerebras",
        "voyage_ai",
    }


@pytest.mark.parametrize("candidate", CHAT, ids=name)
def test_chat(wire, candidate):
    answer_with(wire, GEMINI if candidate.provider.key == "gemini" else COMPLETION)
    body = repair_completion(ask(candidate).body, model="m", splits_thoughts=candidate.model.reasons)
    assert body["choices"][0]["message"]["content"] == "Hello" and body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == 3
    sent = wire.calls[0].request
    assert sent.url.startswith(candidate.credential.base_url)
    assert any(candidate.credential.secret in value for value in sent.headers.values())
    assert candidate.model.upstream_id in sent.url or json.loads(sent.body)["model"] == candidate.model.upstream_id


@pytest.mark.parametrize("candidate", CHAT, ids=name)
def test_stream(wire, candidate):
    events = [GEMINI] if candidate.provider.key == "gemini" else [*CHUNKS, "[DONE]"]
    lines = [f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events]
    answer_with(wire, "".join(lines), content_type="text/event-stream")
    stream = provider_of(candidate).open_stream(STREAMED, candidate, limits(), Handle())
    shaper = ChunkShaper(model="m", splits_thoughts=candidate.model.reasons)
    sent = []
    while (chunks := stream.next_chunks(1)) is not None:
        sent += [shaped for raw in chunks for shaped in shaper.feed(raw)]
    stream.close()
    sent += shaper.finish({}, include_usage=True, prompt_tokens=0)
    text = "".join(choice["delta"].get("content") or "" for chunk in sent for choice in chunk["choices"])
    assert text == "Hello" and shaper.finish_reason == "stop" and sent[-1]["usage"]["total_tokens"] == 3


@pytest.mark.parametrize("candidate", RERANK, ids=name)
def test_reranking(wire, candidate):
    if candidate.provider.key == "workers_ai":
        answer_with(wire, {"result": {"response": [{"id": 1, "score": 0.5}, {"id": 0, "score": 0.1}]}, "success": True})
    else:
        rows = [{"index": 0, "relevance_score": 0.1}, {"index": 1, "relevance_score": 0.5}]
        answer_with(wire, {"object": "list", "data": rows, "usage": {"total_tokens": 4}})
    assert ask(candidate).results == [Scored(1, 0.5), Scored(0, 0.1)]


@pytest.mark.parametrize("candidate", EMBEDDING, ids=name)
def test_embeddings(wire, candidate):
    if candidate.provider.key == "gemini":
        answer_with(wire, {"embeddings": [{"values": [1.0, 0.0]}, {"values": [0.0, 1.0]}]})
    else:
        data = [{"object": "embedding", "index": n, "embedding": [1.0 - n, 0.0 + n]} for n in (1, 0)]
        answer_with(wire, {"object": "list", "data": data, "model": "m", "usage": {"total_tokens": 2}})
    assert ask(candidate).vectors == [[1.0, 0.0], [0.0, 1.0]]


# What SDKs and chat clients send though nobody chose it.
NEUTRAL: dict[str, object] = {
    "n": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0.0,
    "logprobs": False,
    "top_logprobs": None,
    "logit_bias": {},
    "metadata": {},
    "store": False,
    "service_tier": "auto",
    "parallel_tool_calls": True,
}


@pytest.mark.parametrize("candidate", CHAT, ids=name)
def test_what_asks_for_nothing_is_not_named_as_dropped(candidate):
    def dropped(**values):
        request = replace(REQUEST, body={**REQUEST.body, **values})
        return provider_of(candidate).encode_chat(request, candidate).dropped

    assert dropped(**NEUTRAL) == ()
    assert dropped(store=True, logit_bias={"1": 5}, anything=1)


FAILURES = [
    (401, "Invalid API Key", UpstreamCredentialRejected),
    (429, "Too many requests, slow down", UpstreamRateLimited),
    (500, "Internal error", UpstreamFailed),
]


@pytest.mark.parametrize("candidate", ASKED, ids=name)
@pytest.mark.parametrize(("status", "message", "error"), FAILURES, ids=[str(case[0]) for case in FAILURES])
def test_failure(wire, candidate, status, message, error):
    answer_with(wire, wrap_error(candidate.provider.key, status, message), status)
    with pytest.raises(error) as raised:
        ask(candidate)
    assert raised.value.upstream_status == status and candidate.credential.secret not in raised.value.message


GARBAGE = {"html": "<html>oops</html>", "empty": "", "cut": '{"choices": [', "other": "[]", "null": "null", "number": "7"}


@pytest.mark.parametrize("candidate", ASKED, ids=name)
def test_garbage(candidate):
    for body in GARBAGE.values():
        with responses.RequestsMock() as wire:
            answer_with(wire, body)
            with pytest.raises(UpstreamGarbled):
                ask(candidate)


@pytest.mark.parametrize("candidate", CHAT, ids=name)
def test_garbage_in_the_place_of_a_stream(candidate):
    for body in GARBAGE.values():
        with responses.RequestsMock() as wire, pytest.raises(UpstreamError):
            answer_with(wire, body)
            provider_of(candidate).open_stream(STREAMED, candidate, limits(), Handle())
