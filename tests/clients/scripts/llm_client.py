"""`llm`, on the command line, with the models file that the README shows."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import KEY, MODEL, RETRIED, URL, run

home = Path(tempfile.mkdtemp())
ENTRY = """
- model_id: {name}
  model_name: {model}
  api_base: {url}/v1
  api_key_name: gateway
  supports_tools: true
  supports_schema: true
"""
MODELS = {"gateway": MODEL, "retried": RETRIED, "missing": "no-such-model"}
entries = [ENTRY.format(name=name, model=model, url=URL) for name, model in MODELS.items()]
(home / "extra-openai-models.yaml").write_text("".join(entries))
(home / "keys.json").write_text(json.dumps({"gateway": KEY}))  # what `llm keys set gateway` writes
environment = {**os.environ, "LLM_USER_PATH": str(home)}


def llm(*arguments, fails=False):
    command = [sys.executable, "-m", "llm", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert bool(done.returncode) == fails, done.stderr
    return done.stdout + done.stderr


def whole():
    assert "hello" in llm("-m", "gateway", "--no-stream", "Say hello")


def stream():
    assert "hello" in llm("-m", "gateway", "Say hello")


def tools():
    source = 'def get_weather(city: str) -> str:\n    "The weather in a city."\n    return "Sunny"\n'
    assert "Sunny" in llm("-m", "gateway", "--functions", source, "The weather in Paris?")


def structured():
    assert set(json.loads(llm("-m", "gateway", "--no-stream", "--schema", "name, people int", "Paris"))) == {"name", "people"}


def error():
    assert "does not exist" in llm("-m", "missing", "Say hello", fails=True)


def retry():
    assert llm("-m", "retried", "Say hello").strip()


run(whole=whole, stream=stream, tools=tools, structured=structured, error=error, retry=retry)
