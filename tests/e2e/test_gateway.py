"""A real gunicorn in front of failing providers, and clients that send what they should not."""

import json
import subprocess
import sys

import pytest

from tests.e2e.conftest import ROOT
from tests.e2e.simulator import cut_after, delay, empty, hang_up, html, reply, stall, stream

pytestmark = pytest.mark.e2e

ASK = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
CATALOG = """
[[models]]
provider = "groq"
id = "openai/gpt-oss-120b"
first_token_timeout_s = 0.4
limits = {}
[[models]]
provider = "cerebras"
id = "gpt-oss-120b"
first_token_timeout_s = 2
limits = {}
"""
PAIR = {"models": ["groq/openai/gpt-oss-120b", "cerebras/gpt-oss-120b"], "messages": ASK["messages"]}

FAULTS = {
    "hang up": hang_up(),
    "reset": hang_up(reset=True),
    "401": reply(401, {"error": {"message": "Invalid API Key", "code": "invalid_api_key"}}),
    "404": reply(404, {"error": {"message": "The model does not exist.", "code": "model_not_found"}}),
    "429": reply(429, {"error": {"message": "slow down"}}, headers={"retry-after": "30"}),
    "500": reply(500, {"error": {"message": "oops"}}),
    "html": html(502),
    "empty body": empty(),
    "error in a 200": reply(200, {"error": {"message": "late", "code": 502}}),
    "a body cut short": cut_after(n_bytes=20, answer=reply(200, {"choices": [{"message": {"content": "x"}}]})),
}
STREAM_FAULTS = {
    "silence": stall(5),
    "no events": stream([], done=False),
    "only [DONE]": stream([]),
    "an error event": stream([{"error": {"message": "late", "status_code": 500}}], done=False),
    "a cut event": stream(['{"choices": [{"de'], done=False),
    "comments alone": stream([], comments=["working"] * 20, comment_pause_s=0.05),
    "an empty stop": stream([{"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]}]),
}


@pytest.fixture(scope="module")
def gateway(simulator, start_gateway, tmp_path_factory):
    path = tmp_path_factory.mktemp("catalog") / "mine.toml"
    path.write_text(CATALOG)
    env = {**simulator.env("groq", "cerebras"), "GATEWAY_CATALOG": str(path), "MAX_REQUEST_BYTES": "100000"}
    return start_gateway(env, workers=1)


@pytest.fixture(autouse=True)
def rested(gateway):
    """Let no test's failures rest a provider for the next one."""
    gateway.forget_failures()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_provider_is_not_felt_by_a_whole_answer(gateway, simulator, fault):
    simulator.always("groq", FAULTS[fault])
    answer = gateway.post("/v1/chat/completions", PAIR)
    assert answer.status == 200 and answer.headers["x-gateway-provider"] == "cerebras"
    assert answer.headers["x-gateway-trail"].endswith(" cerebras/gpt-oss-120b:ok")


@pytest.mark.parametrize("fault", FAULTS | STREAM_FAULTS)
def test_a_failing_provider_is_not_felt_by_a_stream(gateway, simulator, fault):
    simulator.always("groq", (FAULTS | STREAM_FAULTS)[fault])
    with gateway.stream("/v1/chat/completions", {**PAIR, "stream": True}) as answer:
        assert answer.status == 200 and answer.headers["x-gateway-provider"] == "cerebras"
        chunks = answer.objects()
    assert answer.is_whole and chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_when_everybody_fails_the_client_hears_who_and_how(gateway, simulator, streamed):
    for provider in ("groq", "cerebras"):
        simulator.always(provider, FAULTS["500"])
    answer = gateway.post("/v1/chat/completions", {**PAIR, "stream": streamed})
    error = answer.json["error"]
    assert answer.status == 502 and error["code"] == "upstream_error"
    assert [(entry["provider"], entry["reason"]) for entry in error["attempts"]] == [
        ("groq", "500"),
        ("groq", "500"),
        ("cerebras", "500"),
        ("cerebras", "500"),
    ]


def test_a_stream_that_breaks_ends_in_an_error_event(gateway, simulator):
    simulator.always("groq", cut_after(n_events=4))
    with gateway.stream("/v1/chat/completions", {**ASK, "model": "groq/openai/gpt-oss-120b", "stream": True}) as answer:
        lines = [line.data for line in answer if line.data.strip()]
    assert answer.is_whole and lines[-1] == b"data: [DONE]\n"
    broken = json.loads(lines[-2].removeprefix(b"data: "))
    assert list(broken) == ["error"] and isinstance(broken["error"]["message"], str)


def test_a_client_that_leaves_frees_a_silent_upstream(gateway, simulator):
    simulator.always("cerebras", delay(10))
    key, body = f"Authorization: Bearer {gateway.key}", json.dumps({**ASK, "model": "cerebras/gpt-oss-120b"})
    command = ["curl", "-sS", "-m", "0.5", f"{gateway.url}/v1/chat/completions", "-H", key, "-d", body]
    connection = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    call = simulator.wait_for_calls(1, "cerebras")[0]
    connection.wait(5)
    assert call.wait_ended(1.0) == "client_closed"
    assert gateway.get("/healthz").status == 200


BAD = {
    "nothing": (b"", 400, "invalid_json"),
    "half an object": (b"{", 400, "invalid_json"),
    "a list": (b"[]", 400, None),
    "not UTF-8": (b'{"model": "\xff"}', 400, "invalid_json"),
    "nested absurdly": (b'{"messages": ' + b"[" * 50_000, 400, "invalid_json"),
    "nested absurdly but closed": (b'{"messages": ' + b"[" * 40_000 + b"]" * 40_000 + b"}", 400, None),
    "NaN": (b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}', 400, "invalid_json"),
    "too large": (b" " * 100_001, 413, "request_too_large"),
    "messages missing": (b'{"model": "auto"}', 400, "missing_field"),
    "an unknown role": (b'{"messages": [{"role": "wizard", "content": "x"}]}', 400, None),
    "a number out of range": (b'{"messages": [{"role": "user", "content": "x"}], "temperature": 9}', 400, None),
    "an unknown model": (b'{"model": "nope", "messages": [{"role": "user", "content": "x"}]}', 404, "model_not_found"),
    "a header in a name": (b'{"model": "a\\r\\nx: y", "messages": [{"role": "user", "content": "x"}]}', 404, "model_not_found"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_clear_error(gateway, simulator, case):
    body, status, code = BAD[case]
    answer = gateway.post("/v1/chat/completions", body)
    error = answer.json["error"]
    assert answer.status == status and error["code"] in (code, error["code"] if code is None else code)
    assert error["message"] and "Traceback" not in error["message"] and gateway.key not in error["message"]
    assert answer.headers["x-request-id"].startswith("req_")
    assert simulator.calls() == [] and gateway.get("/healthz").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/models/nope", 404),
        ("HEAD", "/", 200),
        ("GET", "/readyz/", 200),
        ("GET", "/v1/v1/models", 200),
        ("GET", "//models/", 200),
        ("GET", "/v1/models/openai%2Fgpt-oss-120b", 200),
        ("OPTIONS", "/v1/chat/completions", 200),
    ],
)
def test_paths(gateway, method, path, status):
    answer = gateway.request(method, path)
    assert answer.status == status
    if status >= 400:
        assert set(answer.json["error"]) >= {"message", "type", "param", "code"}


def test_wrong_settings_are_told_at_once_and_without_a_traceback(tmp_path):
    environ = {"PATH": "/usr/bin:/bin", "PORT": "many", "IDLE_TIMEOUT_S": "x", "GATEWAY_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "gunicorn", "app:app"]
    ended = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=20)
    assert ended.returncode != 0 and "PORT" in ended.stderr and "IDLE_TIMEOUT_S" in ended.stderr
    assert "Traceback" not in ended.stderr and len(ended.stderr.splitlines()) < 8
