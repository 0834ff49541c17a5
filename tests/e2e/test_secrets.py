"""Keys, prompts and answers are planted wherever they can be, and looked for wherever they could come out.

What is planted holds MARK; what also is a key holds KEY_MARK. No log line and no file of the state may hold MARK, and no
answer KEY_MARK: prompts and answers are what answers are made of.
"""

import json
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from gateway.state.base import WRITE_BEHIND_S
from tests.e2e.simulator import altered, cut_after, reply, stream

pytestmark = pytest.mark.e2e

MARK = "CANARY"
KEY_MARK = f"{MARK}-key"
CLIENT_KEY = f"gw-{KEY_MARK}-of-a-client"
WRONG_KEY = f"gw-{KEY_MARK}-that-is-wrong"
PROMPT, ANSWER = f"{MARK}-prompt", f"{MARK}-answer"
CHAT_MODELS = {
    "groq": "openai/gpt-oss-20b",
    "gemini": "gemini-3.5-flash",
    "workers_ai": "@cf/openai/gpt-oss-20b",
    "openrouter": "openai/gpt-oss-20b:free",
    "cerebras": "gpt-oss-120b",
}
EMBEDDING_MODELS = {"voyage_ai": "voyage-3.5", "gemini": "gemini-embedding-001", "workers_ai": "@cf/baai/bge-m3"}
TOOL = {
    "type": "function",
    "function": {
        "name": f"{MARK}_tool",
        "description": PROMPT,
        "parameters": {"type": "object", "properties": {PROMPT: {"type": "string", "description": PROMPT}}},
    },
}
CHAT = {
    "messages": [
        {"role": "system", "content": PROMPT},
        {"role": "user", "content": [{"type": "text", "text": PROMPT}], "name": MARK},
        {"role": "assistant", "content": ANSWER, "reasoning_content": ANSWER},
        {"role": "user", "content": PROMPT},
    ],
    "user": PROMPT,
    "stop": [f"{MARK}-stop"],
    "metadata": {"note": PROMPT},
    f"{MARK}_parameter": PROMPT,
}


def plant(providers):
    """Return the variables of providers whose keys are marked."""
    return {name: f"{value}-{KEY_MARK}" if name.endswith(("_KEY", "_TOKEN")) else value for name, value in providers.items()}


# --- what providers do with what they were sent ----------------------------------------------------------------------


def echoed(connection):
    """Return an error body that repeats the key and the prompt in every place where a provider could."""
    key, body = connection.request.key, connection.request.body.decode(errors="replace")
    text = f"Incorrect API key provided: {key}. You asked: {body}"
    error = {"message": text, "type": key, "code": key, "param": key, "status": key, "failed_generation": body}
    details = [{"@type": key, "reason": key, "metadata": {"key": key}, "violations": [{"quotaId": key, "quotaValue": key}]}]
    metadata = {"raw": text, "provider_name": key, "error_type": key, "headers": {"X-RateLimit-Reset": key}, "reasons": [key]}
    return {
        "error": {**error, "details": details, "metadata": metadata},
        "errors": [{"message": text, "code": key}],
        "detail": text,
        "message": text,
    }


def headers_of(connection):
    key = connection.request.key
    return {
        "WWW-Authenticate": key,
        "x-request-id": key,
        "Retry-After": key,
        "Set-Cookie": key,
        "x-ratelimit-limit-requests": key,
    }


def fails(status):
    return lambda connection: reply(status, echoed(connection), headers_of(connection))(connection)


def says(status, render):
    return lambda connection: reply(status, render(connection), headers_of(connection))(connection)


def page(connection):
    return f"<html><body>{json.dumps(echoed(connection))}</body></html>"


def breaks(connection):
    """Begin to answer, then fail with an event that repeats everything."""
    begun = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ANSWER}, "finish_reason": None}]}
    stream([begun, ("error", echoed(connection))], done=False)(connection)


def garbles(connection):
    begun = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ANSWER}, "finish_reason": None}]}
    stream([begun, '{"choices": ' + json.dumps(echoed(connection))[:-1]], done=False)(connection)


WAYS = {
    "answers": altered(lambda answer: replace(answer, headers={**answer.headers, "x-evil": KEY_MARK})),
    **{str(status): fails(status) for status in (200, 302, 400, 401, 402, 403, 404, 413, 422, 429, 500, 503)},
    "a page": says(403, page),
    "a page as an answer": says(200, page),
    "plain text": says(400, lambda connection: json.dumps(echoed(connection))[1:]),
    "a list": says(400, lambda connection: [echoed(connection)]),
    "a message in pieces": says(
        422, lambda connection: {"detail": [{"loc": [connection.request.key], "msg": connection.request.key}]}
    ),
    "an error event": breaks,
    "a cut event": garbles,
    "a cut body": cut_after(n_bytes=40),
}


# --- the tests -------------------------------------------------------------------------------------------------------


class Search:
    """A gateway whose answers are kept, and looked through in the end together with its log and its state."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.answers = []

    def post(self, path, body, headers=None):
        answer = self.gateway.post(path, body, headers)
        self.answers.append((path, answer.status, answer.headers, answer.body))
        return answer

    def get(self, path, headers=None):
        answer = self.gateway.get(path, headers)
        self.answers.append((path, answer.status, answer.headers, answer.body))
        return answer

    def send(self, *parts):
        """Send bytes as they are, and keep what comes back."""
        with socket.create_connection(("127.0.0.1", self.gateway.port), timeout=0.5) as connection:
            connection.sendall(b"".join(part.encode() for part in parts))
            found = b""
            try:
                while data := connection.recv(65536):
                    found += data
            except (TimeoutError, ConnectionResetError):
                pass
        return found

    def look(self):
        """Fail where anything came out."""
        for path, status, headers, body in self.answers:
            assert KEY_MARK not in f"{headers}" and KEY_MARK.encode() not in body, (path, status, headers, body)
        leaks = [line for line in self.gateway.log().splitlines() if MARK in line]
        assert not leaks, leaks[:5]
        for file in sorted(self.gateway.data_dir.rglob("*")):
            assert not file.is_file() or MARK.encode() not in file.read_bytes(), file


@pytest.fixture(scope="module")
def started(simulator, start_gateway):
    env = {
        **plant(simulator.env()),
        "METRICS_TOKEN": f"{KEY_MARK}-metrics",
        "HTTPS_PROXY": f"http://user:{KEY_MARK}@127.0.0.1:1",
        "LOG_LEVEL": "debug",
        "GUNICORN_CMD_ARGS": "--log-level debug",
        "GATEWAY_DISCOVERY": "on",
        "CLIENT_RATE_LIMIT": "100000/minute",
        "PUBLIC_RATE_LIMIT": "off",
    }
    return start_gateway(env, workers=1, key=f"ann:{CLIENT_KEY}")


@pytest.fixture
def search(started):
    started.key = CLIENT_KEY
    started.forget_failures()
    search = Search(started)
    yield search
    time.sleep(2 * WRITE_BEHIND_S)
    search.look()


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_nothing_comes_out_whatever_providers_do(search, simulator, way):
    for provider in {**CHAT_MODELS, **EMBEDDING_MODELS}:
        simulator.always(provider, way)
    for provider, model in CHAT_MODELS.items():
        for fields in ({}, {"stream": True}, {"tools": [TOOL]}):
            search.post("/v1/chat/completions", {**CHAT, **fields, "model": f"{provider}/{model}"})
    for provider, model in EMBEDDING_MODELS.items():
        search.post("/v1/embeddings", {"model": f"{provider}/{model}", "input": [PROMPT, PROMPT], "user": PROMPT})
    search.post("/v1/rerank", {"model": "voyage_ai/rerank-2.5", "query": PROMPT, "documents": [PROMPT, ANSWER], "top_n": 1})
    message = {
        "max_tokens": 99,
        "system": PROMPT,
        "messages": [{"role": "user", "content": PROMPT}],
        "metadata": {"user_id": MARK},
    }
    asked = {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": PROMPT}]}],
        "instructions": PROMPT,
        "tools": [TOOL, {"type": f"{MARK}_hosted"}],
        "metadata": {"note": PROMPT},
        "prompt_cache_key": MARK,
        f"{MARK}_parameter": PROMPT,
    }
    for streamed in (False, True):
        search.post("/v1/responses", {**asked, "model": f"groq/{CHAT_MODELS['groq']}", "stream": streamed})
        search.post("/v1/messages", {**message, "model": f"cerebras/{CHAT_MODELS['cerebras']}", "stream": streamed})
        search.post("/v1/completions", {"prompt": PROMPT, "model": f"gemini/{CHAT_MODELS['gemini']}", "stream": streamed})
    search.post("/v1/responses", {**asked, "model": "auto", "previous_response_id": MARK})
    search.post("/v1/messages/count_tokens", {**message, "model": "auto"})
    search.post("/v1/chat/completions", {**CHAT, "model": "auto"}, {"x-gateway-dry-run": "1"})
    for path in ("/health", "/v1/models", "/v1/routing/status", "/v1/quota", "/v1/stats/providers", "/readyz", "/metrics"):
        search.get(path)


def test_nothing_comes_out_of_what_cannot_be_served(search):
    for headers in ({"Authorization": f"Bearer {WRONG_KEY}"}, {"x-api-key": WRONG_KEY, "Authorization": f"Basic {WRONG_KEY}"}):
        search.post("/v1/chat/completions", {**CHAT, "model": "auto"}, headers)
        search.get("/metrics", headers)
    bodies = [
        {**CHAT, "temperature": PROMPT},
        {**CHAT, "messages": [{"role": "user", "content": {PROMPT: PROMPT}}]},
        {**CHAT, "messages": PROMPT},
        {**CHAT, "tools": [{**TOOL, "type": "nonsense"}]},
        json.dumps({**CHAT, "model": "auto"}).encode()[:-5],
        f"{PROMPT}".encode(),
    ]
    for body in bodies:
        assert search.post("/v1/chat/completions", body).status == 400


HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def test_nothing_comes_out_of_what_cannot_be_read(search):
    body = json.dumps({**CHAT, "model": "auto"})
    key = f"Authorization: Bearer {CLIENT_KEY}\r\n"
    search.send(HEAD, key, f"Content-Length: {len(body) - 50}\r\n\r\n", body)  # the rest is read as a request
    search.send(HEAD, key, "Content-Length: 20\r\n\r\n", body)
    search.send(HEAD, f"Authorization Bearer {CLIENT_KEY}\r\n\r\n")
    search.send(HEAD, f"{CLIENT_KEY} x: 1\r\n\r\n")
    search.send(HEAD, key, f" folded {CLIENT_KEY}\r\n\r\n")
    search.send(HEAD, key, f"Transfer-Encoding: {PROMPT}\r\n\r\n", body)
    search.send(HEAD, key, "Transfer-Encoding: chunked\r\n\r\n", body)
    search.send(HEAD, key, f"Expect: {CLIENT_KEY}\r\n\r\n")
    search.send(HEAD, key, f"Content-Length: {CLIENT_KEY}\r\n\r\n")
    search.send(f"{CLIENT_KEY} / HTTP/1.1\r\n\r\n")
    search.send(f"GET /v1/models?key={CLIENT_KEY} HTTP/{CLIENT_KEY}\r\n\r\n")
    search.send(f"GET /v1/models?key={CLIENT_KEY} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    search.send(f"GET /v1/models?key={CLIENT_KEY}{'x' * 5000} HTTP/1.1\r\nHost: x\r\n\r\n")
    search.send(HEAD, key)  # and leaves


def test_nothing_comes_out_when_a_worker_dies_and_the_gateway_ends(simulator, start_gateway):
    with start_gateway({**plant(simulator.env("groq")), "LOG_LEVEL": "debug"}, key=CLIENT_KEY) as gateway:
        search = Search(gateway)
        search.post("/v1/chat/completions", {**CHAT, "model": "auto"})
        for pid in Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split():
            os.kill(int(pid), signal.SIGABRT)
        gateway.stop()
        search.look()


@pytest.mark.redis
def test_nothing_comes_out_of_a_state_store_with_a_password(simulator, start_gateway, own_redis):
    admin = redis.Redis.from_url(own_redis.url)
    admin.config_set("requirepass", KEY_MARK)
    url = own_redis.url.replace("//", f"//:{KEY_MARK}@")
    env = {**plant(simulator.env("groq")), "STATE_URL": url, "LOG_LEVEL": "debug", "CLIENT_RATE_LIMIT": "1000/minute"}
    with start_gateway(env, workers=1, key=CLIENT_KEY) as gateway:
        search = Search(gateway)
        for model in ("auto", "groq/openai/gpt-oss-20b", PROMPT.lower()):
            search.post("/v1/chat/completions", {**CHAT, "model": model})
        with redis.Redis.from_url(url) as client:
            assert client.dbsize() > 0
            for key in client.scan_iter():
                assert MARK.encode() not in key + (client.dump(key) or b"")
        admin.close()
        own_redis.stop()
        search.post("/v1/chat/completions", {**CHAT, "model": "auto"})
        assert search.get("/readyz").json["state_store"] == "down"
        search.look()
