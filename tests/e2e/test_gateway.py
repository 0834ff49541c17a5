"""A real gunicorn, and clients that leave, or send what they should not."""

import json
import subprocess
import sys

import pytest

from tests.e2e.conftest import ROOT
from tests.e2e.simulator import delay, reply

pytestmark = pytest.mark.e2e

ASK = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
PAIR = {"models": ["groq/openai/gpt-oss-120b", "cerebras/gpt-oss-120b"], "messages": ASK["messages"]}


@pytest.fixture(scope="module")
def gateway(simulator, start_gateway):
    return start_gateway({**simulator.env("groq", "cerebras"), "MAX_REQUEST_BYTES": "100000"}, workers=1)


@pytest.fixture
def rested(gateway):
    """Let no test's failures rest a provider for the next one."""
    gateway.forget_failures()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_when_everybody_fails_the_client_hears_who_and_how(gateway, simulator, rested, streamed):
    for provider in ("groq", "cerebras"):
        simulator.always(provider, reply(500, {"error": {"message": "oops"}}))
    answer = gateway.post("/v1/chat/completions", {**PAIR, "stream": streamed})
    error = answer.json["error"]
    assert answer.status == 502 and error["code"] == "upstream_error"
    assert [(entry["provider"], entry["reason"]) for entry in error["attempts"]] == [
        ("groq", "500"),
        ("groq", "500"),
        ("cerebras", "500"),
        ("cerebras", "500"),
    ]


def test_a_client_that_leaves_frees_a_silent_upstream(gateway, simulator, rested):
    simulator.always("cerebras", delay(10))
    key, body = f"Authorization: Bearer {gateway.key}", json.dumps({**ASK, "model": "cerebras/gpt-oss-120b"})
    command = ["curl", "-sS", "-m", "0.5", f"{gateway.url}/v1/chat/completions", "-H", key, "-d", body]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL):
        call = simulator.wait_for_calls(1, "cerebras")[0]
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
