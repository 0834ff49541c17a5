"""Answers whose fields have other types than the protocol says: a failure of the provider, never a defect of ours."""

import copy
import json
import random
import time
from typing import Any

import pytest

from gateway.domain import ChatRequest, Choice, EmbeddingRequest
from gateway.errors import GatewayError
from gateway.providers import load_adapter
from gateway.routing.commit import begin_stream
from gateway.upstream.transport import CallLimits
from gateway.upstream.watch import Handle
from tests.contract.compatible import Notes
from tests.contract.test_catalog import INVENTORY

ROUNDS = 1000  # of each kind and adapter: enough to meet every field with every kind of junk
JUNK: list[Any] = [None, 0, 1, -1, 1.5, True, "", "x", [], [None], ["x"], {}, {"a": 1}, [[]], "5", 1e400]

CALL = {"id": "a", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGE = {"role": "assistant", "content": "hi", "reasoning": "r", "tool_calls": [CALL]}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
COMPLETION = {"id": "c", "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}], "usage": USAGE}
CHUNK = {
    "id": "c",
    "choices": [{"index": 0, "delta": MESSAGE, "finish_reason": "stop"}],
    "usage": USAGE,
    "x_groq": {"id": "r", "error": None},
}
GEMINI_CALL = {"functionCall": {"name": "f", "args": {"a": 1}, "id": "i"}, "thoughtSignature": "s"}
GEMINI = {
    "candidates": [
        {"content": {"parts": [{"text": "a", "thought": True}, GEMINI_CALL], "role": "model"}, "finishReason": "STOP", "index": 0}
    ],
    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 70, "thoughtsTokenCount": 59},
    "responseId": "x",
    "promptFeedback": {"blockReason": None},
}
CLASSIC = {"response": "x", "tool_calls": [{"name": "f", "arguments": {"a": 1}}], "usage": USAGE}
WRAPPED = {"result": CLASSIC, "success": True, "errors": [], "messages": []}
VIOLATION = {"quotaId": "GenerateRequestsPerDay", "quotaValue": "0"}
METADATA = {"raw": "{}", "headers": {"X-RateLimit-Reset": "1"}, "reasons": ["x"], "provider_name": "G", "error_type": "x"}
DETAILS = [{"reason": "r", "violations": [VIOLATION], "retryDelay": "2s"}]
ERRORS = [
    {"error": {"message": "m", "type": "t", "code": "c", "param": "p", "metadata": METADATA}, "status_code": 400},
    {"error": {"message": "m", "code": 429, "status": "X", "details": DETAILS}},
    {"errors": [{"message": "AiError: x", "code": 5006}], "success": False, "result": {}},
    {"detail": [{"loc": ["a", 1], "msg": "x"}]},
    {"message": "m", "type": "t", "code": "c"},
]
VECTORS = [
    {"data": [{"index": 0, "embedding": [0.1, 2]}], "usage": {"total_tokens": 3}},
    {"embeddings": [{"values": [1, 2]}], "usageMetadata": {"promptTokenCount": 2}},
    {"result": {"shape": [1, 2], "data": [[1, 2]]}, "success": True, "errors": []},
]
CHAT = {
    "groq/openai/gpt-oss-120b": ([COMPLETION], [CHUNK]),
    "gemini/gemini-3.5-flash": ([GEMINI], [GEMINI]),
    "workers_ai/@cf/openai/gpt-oss-120b": ([COMPLETION, WRAPPED], [CHUNK, CLASSIC, WRAPPED]),
    "openrouter/openai/gpt-oss-20b:free": ([COMPLETION], [CHUNK]),
    "cerebras/gpt-oss-120b": ([COMPLETION], [CHUNK]),
}
EMBEDDING = ["voyage_ai/voyage-3", "workers_ai/@cf/baai/bge-m3", "gemini/gemini-embedding-001"]


class Canned:
    """In the place of the transport and of the answer that it opens."""

    def __init__(self, status, content_type, body):
        self.status, self.headers, self.body = status, {}, body
        self.is_event_stream = content_type == "text/event-stream"

    def open(self, request, limits, handle):
        return self

    def wait(self, wait_s):
        return True

    def read_all(self, limits):
        return self.body

    def read(self, wait_s):
        body, self.body = self.body, b""
        return body

    def close(self, *, finished=False):
        pass


def garble(source, value, share):
    """Return a copy in which some of the values are junk, and some fields are missing."""
    if source.random() < share:
        return copy.deepcopy(source.choice(JUNK))
    if isinstance(value, dict):
        return {key: garble(source, item, share) for key, item in value.items() if source.random() > 0.03}
    if isinstance(value, list):
        return [garble(source, item, share) for item in value]
    return value


def garbled(seed, originals):
    source = random.Random(seed)
    for _ in range(ROUNDS):
        yield json.dumps(garble(source, source.choice(originals), source.choice([0.03, 0.12]))).replace("Infinity", "1e999")


def candidate_of(name):
    return next(candidate for model in INVENTORY.listed if model.name == name for candidate in INVENTORY.candidates(model))


def ask(name, answer, *, stream=False):
    candidate = candidate_of(name)
    provider = load_adapter(candidate.provider.adapter)(candidate.provider, answer, Notes())
    limits = CallLimits(1, 1, 1, time.monotonic() + 5)
    if candidate.model.kind == "embedding":
        return provider.embed(EmbeddingRequest(inputs=("a",), choice=Choice()), candidate, limits, Handle())
    # Some do not stream this format, and answer in one piece behind the stream.
    form = {"response_format": {"type": "text" if answer.is_event_stream else "json_object"}}
    request = ChatRequest(body={"messages": [{"role": "user", "content": "Hi"}], **form}, stream=stream)
    if not stream:
        return provider.complete(request, candidate, limits, Handle())
    begun = begin_stream(provider, request, candidate, limits, Handle())
    while begun.stream.next_chunks(1) is not None:
        pass


def expect_no_defect(name, answer, *, stream=False):
    body = answer.body
    try:
        ask(name, answer, stream=stream)
    except GatewayError:
        pass
    except Exception as error:
        raise AssertionError(body) from error


@pytest.mark.parametrize("name", CHAT)
def test_whole_answers(name):
    for body in garbled(1, CHAT[name][0]):
        expect_no_defect(name, Canned(200, "application/json", body.encode()))


@pytest.mark.parametrize("name", CHAT)
def test_streams(name):
    for body in garbled(2, CHAT[name][1]):
        data = f"data: {body}\n\ndata: [DONE]\n\n".encode()
        expect_no_defect(name, Canned(200, "text/event-stream", data), stream=True)


@pytest.mark.parametrize("name", CHAT)
def test_whole_answers_to_stream_requests(name):
    for body in garbled(5, CHAT[name][0]):
        expect_no_defect(name, Canned(200, "application/json", body.encode()), stream=True)


@pytest.mark.parametrize("name", CHAT)
def test_failures(name):
    for number, body in enumerate(garbled(3, ERRORS)):
        status = (400, 401, 403, 404, 413, 429, 500, 200)[number % 8]
        expect_no_defect(name, Canned(status, "application/json", body.encode()))


@pytest.mark.parametrize("name", EMBEDDING)
def test_embeddings(name):
    for body in garbled(4, VECTORS):
        expect_no_defect(name, Canned(200, "application/json", body.encode()))
