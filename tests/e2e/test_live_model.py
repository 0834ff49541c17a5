"""The gateway in front of a real model server that nobody here wrote. See the README, "With a model on your own machine".

LIVE_BASE_URL=http://127.0.0.1:8081/v1 LIVE_MODEL=gemma-3-270m .venv/bin/pytest -m live
"""

import itertools
import json
import os
import subprocess
import time

import openai
import pytest

pytestmark = pytest.mark.live

CATALOG = """
[[providers]]
key = "local"
base_url = "{url}"

[[models]]
provider = "local"
id = "{model}"
context_window = 2048
"""
# A base model: it goes on with a text rather than answer a question, and often ends at once. It is asked until it speaks.
STORY = [{"role": "user", "content": "Once upon a time there was a boat"}]
ASKED_AT_MOST = 30


@pytest.fixture(scope="module")
def model():
    return os.environ.get("LIVE_MODEL", "gemma-3-270m")


@pytest.fixture(scope="module")
def gateway(start_gateway, tmp_path_factory, model):
    if "LIVE_BASE_URL" not in os.environ:
        pytest.skip("set LIVE_BASE_URL to the base URL of a model server")
    path = tmp_path_factory.mktemp("catalog") / "mine.toml"
    path.write_text(CATALOG.format(url=os.environ["LIVE_BASE_URL"], model=model))
    return start_gateway({"GATEWAY_CATALOG": str(path)})


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=120) as client:
        yield client


def until_it_speaks(ask, spoke):
    answers = (ask() for _ in range(ASKED_AT_MOST))
    return next(answer for answer in answers if spoke(answer))


def test_curl_gets_a_whole_answer(gateway, model):
    body = json.dumps({"model": model, "messages": STORY, "max_tokens": 30})
    command = ["curl", "-sS", f"{gateway.url}/v1/chat/completions", "-H", f"Authorization: Bearer {gateway.key}", "-d", body]
    answer = until_it_speaks(
        lambda: json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout),
        lambda answer: answer["choices"][0]["message"]["content"],
    )
    assert answer["x_gateway"]["provider"] == "local" and answer["choices"][0]["finish_reason"] in ("stop", "length")


def test_the_openai_package_gets_a_whole_answer(client, model):
    answer = until_it_speaks(
        lambda: client.chat.completions.create(model=f"local/{model}", messages=STORY, max_tokens=30),
        lambda answer: answer.choices[0].message.content,
    )
    assert answer.choices[0].finish_reason in ("stop", "length") and answer.usage.completion_tokens > 0


def test_the_openai_package_gets_a_stream_word_by_word(client, model):
    def ask():
        options = {"stream_options": {"include_usage": True}}
        stream = client.chat.completions.create(model=model, messages=STORY, max_tokens=60, stream=True, **options)
        return [(time.monotonic(), chunk) for chunk in stream]

    chunks = until_it_speaks(ask, lambda chunks: len(chunks) > 20)
    assert chunks[-1][0] - chunks[0][0] > 0.1
    assert chunks[-1][1].usage.completion_tokens > 0
    assert [chunk.choices[0].finish_reason for _, chunk in chunks if chunk.choices][-1] in ("stop", "length")


def test_auto_finds_the_only_model(client):
    assert client.chat.completions.create(model="auto", messages=STORY, max_tokens=10).x_gateway["provider"] == "local"


def test_a_client_that_leaves_frees_the_model(client, gateway, model):
    def leave_in_the_middle():
        stream = client.chat.completions.create(model=model, messages=STORY, max_tokens=1500, stream=True)
        seen = sum(1 for _ in itertools.islice(stream, 5))
        stream.close()
        return seen

    def was_in_the_middle(seen):
        until = time.monotonic() + 1
        while '"status":499' not in gateway.log() and time.monotonic() < until:
            time.sleep(0.05)
        return seen == 5 and '"status":499' in gateway.log()  # an answer of five words had ended by itself

    until_it_speaks(leave_in_the_middle, was_in_the_middle)
    began = time.monotonic()
    # The server computes one answer at a time: it answers now only if it was told to stop the one before.
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=5)
    assert time.monotonic() - began < 5
