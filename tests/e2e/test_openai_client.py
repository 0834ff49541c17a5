"""The official `openai` package against a real gunicorn, for every provider: what most people will do first."""

import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

pytestmark = pytest.mark.e2e

# One chat model of each provider that can do it all; embeddings come from their own.
CHAT = {
    "groq": "groq/openai/gpt-oss-120b",
    "gemini": "gemini-3.5-flash",
    "workers_ai": "@cf/google/gemma-4-26b-a4b-it",
    "openrouter": "openai/gpt-oss-20b:free",
    "cerebras": "cerebras/gpt-oss-120b",
    "plain": "plain/any-model",
}
EMBEDDING = {
    "gemini": ("gemini-embedding-001", 3072),
    "workers_ai": ("@cf/baai/bge-m3", 1024),
    "voyage_ai": ("voyage-4", 1024),
    "plain": ("plain/any-embedding", None),
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
"""
GET_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
QUESTION = {"role": "user", "content": "What is the weather in Paris?"}


class City(BaseModel):
    name: str
    people: int


@pytest.fixture(scope="module")
def gateway(simulator, start_gateway, tmp_path_factory):
    catalog = tmp_path_factory.mktemp("catalog") / "mine.toml"
    lifted = "".join(f'\n[[models]]\nprovider = "{p}"\nid = "{m}"\nlimits = {{}}\n' for p, m in LIMITED)
    catalog.write_text(CATALOG.format(url=simulator.base_url("plain")) + lifted)
    return start_gateway({**simulator.env(), "GATEWAY_CATALOG": str(catalog)})


LIMITED = [
    ("gemini", "gemini-3.5-flash"),
    ("gemini", "gemini-embedding-001"),
    ("cerebras", "gpt-oss-120b"),
    ("voyage_ai", "voyage-4"),
]


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(params=CHAT)
def provider(request):
    return request.param


@pytest.fixture
def model(provider):
    return CHAT[provider]


def test_models_are_listed_and_retrieved(client):
    models = {model.id: model for model in client.models.list()}
    assert {"openai/gpt-oss-120b", "gemini-3.5-flash", "@cf/openai/gpt-oss-120b", "voyage-3", "any-model"} <= set(models)
    for name in ("@cf/openai/gpt-oss-120b", "openai/gpt-oss-20b:free", "gemini-3.5-flash"):
        assert client.models.retrieve(name) == models[name]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_a_whole_answer(client, simulator, provider, model):
    raw = client.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "developer", "content": "Be terse."}, {"role": "user", "content": "Say hello"}],
        max_tokens=200,
    )
    answer = raw.parse()
    assert "hello" in answer.choices[0].message.content.lower()
    assert answer.choices[0].finish_reason == "stop" and answer.object == "chat.completion"
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert raw.headers["x-gateway-provider"] == provider == answer.x_gateway["provider"]
    assert raw.headers["x-request-id"] == answer.x_gateway["request_id"] and raw.headers["x-gateway-attempts"] == "1"
    assert len(simulator.calls(provider)) == 1


@pytest.mark.parametrize("include_usage", [True, False])
def test_a_streamed_answer(client, provider, model, include_usage):
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Say hello"}], stream=True, **options
    )
    chunks = list(stream)
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "hello" in "".join(choice.delta.content or "" for choice in choices).lower()
    assert [choice.delta.role for choice in choices if choice.delta.role] == ["assistant"]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) == include_usage
    if include_usage:
        assert chunks[-1].choices == [] and usages[0].total_tokens > 0
    assert choices[-1].finish_reason and chunks[len(choices) - 1].x_gateway["provider"] == provider


def test_tools_over_two_turns(client, model):
    messages: list[Any] = [QUESTION]
    first = client.chat.completions.create(model=model, messages=messages, tools=[GET_WEATHER])
    call = first.choices[0].message.tool_calls[0]
    assert first.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather" and "city" in json.loads(call.function.arguments)
    plain_call = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": call.function.arguments},
    }
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [plain_call]},
        {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 24 degrees"},
    ]
    second = client.chat.completions.create(model=model, messages=messages, tools=[GET_WEATHER])
    assert second.choices[0].finish_reason == "stop" and "Sunny, 24" in second.choices[0].message.content


def test_tools_over_two_turns_streamed(client, model):
    messages: list[Any] = [QUESTION]
    with client.chat.completions.stream(model=model, messages=messages, tools=[GET_WEATHER]) as stream:
        message = stream.get_final_completion().choices[0].message
    call = message.tool_calls[0]
    assert call.function.name == "get_weather" and "city" in json.loads(call.function.arguments)
    messages += [message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "Sunny"}]
    with client.chat.completions.stream(model=model, messages=messages, tools=[GET_WEATHER]) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "stop" and "Sunny" in final.choices[0].message.content


def test_a_json_schema_is_parsed(client, model):
    answer = client.chat.completions.parse(
        model=model, messages=[{"role": "user", "content": "Paris as JSON"}], response_format=City
    )
    assert isinstance(answer.choices[0].message.parsed, City)


@pytest.mark.parametrize("encoding", ["base64", "float"])
@pytest.mark.parametrize("served", EMBEDDING)
def test_embeddings(client, served, encoding):
    model, size = EMBEDDING[served]
    options = {"encoding_format": "float"} if encoding == "float" else {}  # the package asks for base64 by itself
    raw = client.embeddings.with_raw_response.create(model=model, input=["one", "two", "one"], **options)
    answer = raw.parse()
    vectors = [row.embedding for row in answer.data]
    assert [row.index for row in answer.data] == [0, 1, 2] and vectors[0] == vectors[2] != vectors[1]
    assert size is None or len(vectors[0]) == size
    assert answer.usage.prompt_tokens > 0
    assert raw.headers["x-gateway-provider"] == served
    assert raw.headers["x-gateway-embedding-space"] == f"{answer.model}@{len(vectors[0])}"


def test_errors_are_the_package_s_own(client, gateway):
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="nope", messages=[QUESTION])
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="auto", messages=[{"role": "wizard", "content": "x"}])
    assert raised.value.param == "messages[0].role" and str(raised.value.request_id).startswith("req_")
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


async def chat_asynchronously(gateway):
    async with openai.AsyncOpenAI(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
        stream = await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hello"}], stream=True)
        return [chunk async for chunk in stream]


def test_the_asynchronous_client_and_a_base_url_without_v1(gateway):
    import asyncio

    chunks = asyncio.run(chat_asynchronously(gateway))
    assert chunks[-1].choices[0].finish_reason == "stop"
