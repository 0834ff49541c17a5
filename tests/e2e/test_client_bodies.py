"""What chat clients and editors send (tests/unit/api/fixtures/chat), against a real gunicorn and the simulated providers."""

import json
from pathlib import Path

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.e2e.test_openai_client import CATALOG

pytestmark = pytest.mark.e2e

RECORDED = sorted((Path(__file__).parents[1] / "unit" / "api" / "fixtures" / "chat").glob("*.json"))
PATH = "/v1/chat/completions"
MODELS = ["plain/any-model", "gemini-3.5-flash"]  # OpenAI's protocol, and one that all of it has to be translated to
UNLIMITED = '\n[[models]]\nprovider = "gemini"\nid = "gemini-3.5-flash"\nlimits = {}\n'


@pytest.fixture(scope="module")
def gateway(simulator, start_gateway, tmp_path_factory):
    catalog = tmp_path_factory.mktemp("catalog") / "mine.toml"
    known = CATALOG.replace("100000", "8192")  # what the simulated model has: no room for what clients ask for
    catalog.write_text(known.format(url=simulator.base_url("plain")) + UNLIMITED)
    return start_gateway({**simulator.env(), "GATEWAY_CATALOG": str(catalog)}, workers=1)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_clients_send_is_answered(gateway, path, model):
    recorded = json.loads(path.read_text())
    body = {**recorded["body"], "model": model}
    content, called, reason = (streamed if body.get("stream") else whole)(gateway, body)
    # The simulated models call the first tool. What follows a result is another call to some, and an answer to others.
    calls = bool(called) if "tool" in recorded["roles"] else bool(recorded["functions"])
    assert (called, reason) == ((recorded["functions"][:1], "tool_calls") if calls else ([], "stop"))
    assert content or calls
    if "response_format" in body:
        assert isinstance(json.loads(content), dict)


def whole(gateway, body):
    """Return the text of an answer, the names of its calls, and how it ended."""
    answer = gateway.post(PATH, body)
    assert answer.status == 200, answer.body
    (choice,) = ChatCompletion.model_validate(answer.json).choices
    calls = [call for call in choice.message.tool_calls or () if call.type == "function"]
    return choice.message.content, [call.function.name for call in calls], choice.finish_reason


def streamed(gateway, body):
    """Return the same of a stream, which ends with the usage exactly where it was asked for."""
    with gateway.stream(PATH, body) as lines:
        assert lines.status == 200, list(lines)
        chunks = [ChatCompletionChunk.model_validate(found) for found in lines.objects()]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    calls = [call for choice in choices for call in choice.delta.tool_calls or ()]
    assert (chunks[-1].usage is not None) == body.get("stream_options", {}).get("include_usage", False)
    content = "".join(choice.delta.content or "" for choice in choices)
    names = [call.function.name for call in calls if call.function and call.function.name]
    return content, names, next(choice.finish_reason for choice in choices if choice.finish_reason)
