"""What a client cannot make the gateway do, and what a provider cannot make it pass on: over real sockets."""

import json
import socket
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from tests.e2e.simulator import altered, errors, reply

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"
ASK = {"model": "groq/openai/gpt-oss-20b", "messages": [{"role": "user", "content": "hello"}]}
EVIL = "a\r\nX-Evil: 1\r\n\r\n"

# Whatever is asked and whoever answers, an answer has no other headers than these.
OURS = {
    *("server", "date", "connection", "transfer-encoding", "content-type", "content-length", "cache-control", "allow"),
    *("x-accel-buffering", "x-content-type-options", "retry-after", "x-should-retry", "request-id", "x-request-id"),
    *("access-control-allow-origin", "access-control-expose-headers", "vary"),
    *(f"x-ratelimit-{name}" for name in ("limit", "remaining", "reset")),
    *(f"x-gateway-{name}" for name in ("request-id", "provider", "model", "attempts", "reasoning-effort", "trail")),
    *("x-gateway-params-dropped", "x-gateway-embedding-space"),
}
THEIRS = {
    "Set-Cookie": "session=1",
    "Location": "https://elsewhere.example",
    "X-Evil": "1",
    "Server": "evil",
    "Access-Control-Allow-Origin": "https://evil.example",
    "x-request-id": "theirs",
    "x-gateway-provider": "evil",
    "X-RateLimit-Remaining": "0",
    "Strict-Transport-Security": "max-age=1",
    "Clear-Site-Data": '"*"',
}


@pytest.fixture(scope="module")
def gateway(simulator, start_gateway):
    return start_gateway(simulator.env("groq", "gemini"), workers=1)


@pytest.fixture(autouse=True)
def rested(gateway):
    """Let no test's failures rest a provider for the next one."""
    gateway.forget_failures()


@pytest.fixture
def canary():
    """A server that nobody should call: its URL, and the connections that came all the same."""
    came = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def accept():
            while True:
                try:
                    came.append(listener.accept())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", came


# --- upstream --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_redirect_is_a_failure_and_nobody_follows_it(gateway, simulator, canary, status, streamed):
    url, came = canary
    simulator.always("groq", reply(status, "", headers={"Location": url}))
    answer = gateway.post(CHAT, {**ASK, "stream": streamed})
    assert answer.status == 502 and answer.json["error"]["code"] == "upstream_error"
    assert url not in answer.body.decode() and not came


def test_a_provider_hears_no_header_of_the_client(gateway, simulator):
    headers = {
        "Cookie": "session=1",
        "X-Forwarded-For": "192.0.2.1",
        "X-Api-Key": "of-the-gateway",
        "Host": "api.groq.com",
        "Origin": "https://page",
        "Proxy-Authorization": "Basic eA==",
        "OpenAI-Organization": "org",
        "X-Evil": "1",
    }
    assert gateway.post(CHAT, ASK, headers).status == 200
    (call,) = simulator.calls("groq")
    names = {"host", "user-agent", "accept-encoding", "content-type", "content-length", "authorization"}
    assert set(call.headers) == names and call.headers["host"] == f"127.0.0.1:{simulator.port}"
    assert call.headers["authorization"] == f"Bearer {simulator.services['groq'].test_key}"


def test_images_are_passed_on_or_refused_and_never_fetched(gateway, simulator, canary):
    url, came = canary
    parts = [{"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": {"url": f"{url}/image.png"}}]
    body = {"messages": [{"role": "user", "content": parts}]}
    statuses = [gateway.post(CHAT, {**body, "model": model}).status for model in ("auto", "qwen/qwen3.6-27b", "gemini-3.5-flash")]
    assert set(statuses) <= {200, 400} and not came
    for call in simulator.calls("groq"):
        assert f"{url}/image.png" in json.dumps(call.json)


def test_a_client_chooses_no_host(gateway, simulator, canary):
    url, came = canary
    chosen = {"base_url": url, "api_base": url, "provider": {"url": url}, "endpoint": url, "api_key": "sk"}
    assert gateway.post(CHAT, {**ASK, **chosen}, {"Host": url.removeprefix("http://")}).status == 200
    for model in (url, f"groq/{url}", f"groq/../{url}", "groq/openai/gpt-oss-20b?x=1"):
        assert gateway.post(CHAT, {**ASK, "model": model}).status == 404
    assert len(simulator.calls("groq")) == 1 and not came


# --- headers of answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fails", [False, True], ids=["answers", "fails"])
def test_no_header_of_a_provider_reaches_the_client(gateway, simulator, streamed, fails):
    if fails:
        simulator.always("groq", reply(500, {"error": {"message": "oops"}}, headers=THEIRS))
    else:
        simulator.always("groq", altered(lambda answer: replace(answer, headers={**answer.headers, **THEIRS})))
    answer = gateway.post(CHAT, {**ASK, "stream": streamed}, {"Origin": "https://page"})
    assert answer.status == (502 if fails else 200)
    assert set(answer.headers) <= OURS
    kept = {name: answer.headers.get(name.lower()) for name in ("Server", "x-request-id", "x-gateway-provider")}
    assert not set(kept.items()) & set(THEIRS.items()) and answer.headers["access-control-allow-origin"] == "*"


INJECTIONS = {
    "a parameter's name": ({EVIL: 1}, {}),
    "a model": ({"model": EVIL}, {}),
    "one of several models": ({"models": ["groq/openai/gpt-oss-20b", EVIL]}, {}),
    "a project": ({"project_id": EVIL}, {}),
    "a user": ({"user": EVIL}, {}),
    "an effort": ({"reasoning_effort": EVIL}, {}),
    "a header that forces a model": ({}, {"x-gateway-force-model": "a\tX-Evil: 1"}),
    "a header that forces a provider": ({}, {"x-gateway-force-provider": "\x7fX-Evil"}),
    "the project's header": ({}, {"x-gateway-project-id": "a b: c"}),
}


@pytest.mark.parametrize(("fields", "headers"), INJECTIONS.values(), ids=list(INJECTIONS))
def test_nothing_that_a_client_sends_makes_a_header(gateway, fields, headers):
    answer = gateway.post(CHAT, {**ASK, **fields}, headers)
    assert answer.status in (200, 400, 404) and set(answer.headers) <= OURS
    if EVIL in fields:
        assert "a__X-Evil:_1____" in answer.headers["x-gateway-params-dropped"]


def test_nothing_that_a_provider_names_makes_a_header(gateway, simulator):
    def renamed(answer):
        return replace(answer, body={**answer.body, "model": EVIL, "id": EVIL})

    simulator.always("groq", altered(renamed))
    answer = gateway.post(CHAT, ASK)
    assert answer.status == 200 and set(answer.headers) <= OURS


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/nowhere", CHAT])
def test_no_browser_guesses_what_an_answer_is(gateway, path):
    assert gateway.get(path).headers["x-content-type-options"] == "nosniff"


# --- what arrives ----------------------------------------------------------------------------------------------------


def exchange(gateway, request):
    """Send bytes and return all that comes back until the gateway closes, or says nothing for a second."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=1) as connection:
        connection.sendall(request)
        found = b""
        try:
            while data := connection.recv(65536):
                found += data
        except (TimeoutError, ConnectionResetError):
            pass
    return found


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /v1/models HTTP/1.1\r\nHost: x\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
REFUSED = {
    "a long line": b"GET /" + b"x" * 4100 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a large header": GET + b"X: " + b"x" * 8200 + b"\r\n\r\n",
    "many headers": GET + b"".join(b"X%d: 1\r\n" % number for number in range(101)) + b"\r\n",
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "a length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks by another name": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a space before the colon": POST + b"Content-Length : %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "a folded header": POST + b"X: 1\r\n Content-Length: 5\r\n\r\n" + SMUGGLED,
    "a length that is none": POST + b"Content-Length: +5\r\n\r\nhello" + SMUGGLED,
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=list(REFUSED))
def test_what_could_be_read_in_two_ways_or_is_too_large_is_refused_and_the_connection_closed(gateway, request_):
    answer = exchange(gateway, request_)
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 414", b"HTTP/1.1 431", b"HTTP/1.1 501") and answer.count(b"HTTP/1.1 ") == 1
    assert gateway.get("/healthz").status == 200


@pytest.mark.parametrize("header", ["SCRIPT_NAME: /v1", "PATH_INFO: /v1/models", "X_Forwarded_For: 192.0.2.1"])
def test_no_header_changes_what_is_asked(gateway, header):
    answer = exchange(gateway, GET + header.encode() + b"\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200") and b'{"status":"ok"}' in answer


def test_headers_that_contradict_each_other_about_the_scheme_refuse_nobody(gateway):
    answer = exchange(gateway, GET + b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_provider_s_own_key_lets_nobody_in(gateway, simulator):
    for key in (simulator.services["groq"].test_key, simulator.services["gemini"].test_key):
        assert gateway.get("/v1/models", {"Authorization": f"Bearer {key}"}).status == 401


def test_an_error_names_no_place_of_ours_and_none_of_the_provider(gateway, simulator):
    simulator.always("groq", errors.groq_bad_key())
    answer = gateway.post(CHAT, ASK)
    assert answer.status == 502
    assert not [word for word in ("Traceback", "gateway/", "site-packages", "127.0.0.1") if word in answer.body.decode()]
