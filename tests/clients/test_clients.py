"""Real clients against a real gunicorn, each in the way that its users write it. See README.md, "Development".

Each client's script runs once, in an environment of its own, and tells how its scenarios ended.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT
from tests.e2e.simulator import reply

pytestmark = [pytest.mark.e2e, pytest.mark.clients]

HERE = Path(__file__).parent
PYTHON = HERE / ".venv" / "bin" / "python"
SCRIPT_S = 120.0
COMMON = ("whole", "stream", "tools", "structured", "error", "retry")
RESPONSES = ("responses_whole", "responses_stream", "responses_tools")
CLIENTS = {
    "openai_client.py": (*COMMON, *RESPONSES, "responses_structured", "asynchronous", "embeddings"),
    "anthropic_client.py": ("whole", "stream", "tools", "counted", "error", "retry"),
    "langchain_client.py": (*COMMON, "responses", "embeddings"),
    "instructor_client.py": ("by_tool", "by_schema", "stream", "error", "retry"),
    "litellm_client.py": (*COMMON, "embeddings"),
    "llm_client.py": COMMON,
    "openai_node.mjs": (*COMMON, "responses", "embeddings"),
    "ai_sdk.mjs": (*COMMON, *RESPONSES, "embeddings"),
}
CATALOG = """
[[providers]]
key = "plain"
base_url = "{url}"

[[models]]
provider = "plain"
id = "any-model"
context_window = 100000
capabilities = ["streaming", "tools", "json_mode", "json_schema", "vision", "image_urls"]

[[models]]
provider = "plain"
id = "any-embedding"
kind = "embedding"

[[models]]
provider = "cerebras"
id = "gpt-oss-120b"
limits = {{}}
"""
THROTTLED = reply(429, {"message": "Too many requests", "code": "request_quota_exceeded"}, headers={"retry-after": "1"})


@pytest.fixture(scope="module")
def gateway(simulator, start_gateway, tmp_path_factory):
    catalog = tmp_path_factory.mktemp("catalog") / "mine.toml"
    catalog.write_text(CATALOG.format(url=simulator.base_url("plain")))
    env = {**simulator.env("cerebras"), "GATEWAY_CATALOG": str(catalog), "RETRY_AFTER_PATIENCE_S": "0"}
    return start_gateway(env, workers=1)


@pytest.fixture(scope="module")
def run_script(gateway, simulator):
    """Return a function that runs a client's script, once, and gives the problem of each scenario, None for none."""
    ends: dict[str, dict[str, str | None]] = {}

    def run(script):
        if script not in ends:
            simulator.script("cerebras", THROTTLED)
            ends[script] = problems_of(script, gateway)
        return ends[script]

    return run


def problems_of(script, gateway):
    runner = str(PYTHON) if script.endswith(".py") else "node"
    env = {**os.environ, "GATEWAY_URL": gateway.url, "GATEWAY_KEY": gateway.key}
    done = subprocess.run([runner, str(HERE / "scripts" / script)], env=env, capture_output=True, text=True, timeout=SCRIPT_S)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"scenario"')]
    assert lines, done.stderr
    return {line["scenario"]: line["problem"] for line in lines}


def must_have(what, there):
    """Skip where it is missing, but not in CI."""
    if not there:
        assert not os.environ.get("CI"), f"{what} is missing"
        pytest.skip(f"{what} is missing: see README.md, Development")


@pytest.mark.parametrize(
    ("script", "scenario"), [(script, scenario) for script, scenarios in CLIENTS.items() for scenario in scenarios]
)
def test_a_client(run_script, script, scenario):
    if script.endswith(".py"):
        must_have("the clients' environment", PYTHON.exists())
    else:
        must_have("node", shutil.which("node") and (HERE / "node_modules").exists())
    problems = run_script(script)
    assert scenario in problems and problems[scenario] is None, problems.get(scenario, sorted(problems))


README = (ROOT / "README.md").read_text(encoding="utf-8")
CURLS = re.findall(r"^    (curl (?:.*\\\n)*.*)$", README, flags=re.M)


@pytest.fixture(scope="module")
def newcomer(start_gateway):
    """A gateway as the first start leaves it: without a provider."""
    return start_gateway({}, workers=1)


@pytest.mark.parametrize("command", [c for c in CURLS if "/v1/" in c], ids=lambda command: re.findall(r"/v1/[\w/]+", command)[0])
def test_a_curl_line_of_the_readme(newcomer, command):
    must_have("curl", shutil.which("curl"))
    shown = command.replace("curl ", "curl -sS --fail-with-body --max-time 20 ", 1).replace("http://127.0.0.1:8000", newcomer.url)
    env = {**os.environ, "GATEWAY_API_KEY": newcomer.key}
    done = subprocess.run(shown, shell=True, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and done.stdout, done.stdout + done.stderr


def test_the_readme_shows_curl():
    assert len(CURLS) >= 3
