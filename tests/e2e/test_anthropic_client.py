"""The official `anthropic` package against a real gunicorn and the simulated providers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel

from tests.anthropic_sdk import check_message, put_together, read_events
from tests.e2e.simulator import cut_after, reply

pytestmark = pytest.mark.e2e

# One chat model of each provider that can do it all.
CHAT = {
    "groq": "groq/openai/gpt-oss-120b",
    "gemini": "gemini-3.5-flash",
    "workers_ai": "@cf/google/gemma-4-26b-a4b-it",
    "openrouter": "openai/gpt-oss-20b:free",
    "cerebras": "cerebras/gpt-oss-120b",
    "plain": "plain/any-model",
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
id = "small"
context_window = 8192

[[models]]
provider = "groq"
id = "openai/gpt-oss-120b"
limits = {{}}

[[models]]
provider = "gemini"
id = "gemini-3.5-flash"
limits = {{}}

[[models]]
provider = "cerebras"
id = "gpt-oss-120b"
limits = {{}}
"""
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
HELLO: Any = [{"role": "user", "content": "Say hello"}]
QUESTION: Any = {"role": "user", "content": "What is the weather in Paris?"}
MINE = {"model": "plain/any-model", "max_tokens": 200, "messages": HELLO}


class City(BaseModel):
    name: str
    people: int


@pytest.fixture(scope="module")
def gateway(simulator, start_gateway, tmp_path_factory):
    catalog = tmp_path_factory.mktemp("catalog") / "mine.toml"
    catalog.write_text(CATALOG.format(url=simulator.base_url("plain")))
    env = {**simulator.env(), "GATEWAY_CATALOG": str(catalog), "RETRY_AFTER_PATIENCE_S": "0"}
    return start_gateway(env, workers=1)


@pytest.fixture
def rested(gateway):
    """Let no failures of a test rest a provider for the next one."""
    yield
    gateway.forget_failures()


@pytest.fixture
def client(gateway):
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(params=CHAT)
def provider(request):
    return request.param


@pytest.fixture
def model(provider):
    return CHAT[provider]


def test_a_whole_answer(client, simulator, provider, model):
    raw = client.messages.with_raw_response.create(
        model=model,
        max_tokens=200,
        system=[{"type": "text", "text": "Be terse.", "cache_control": {"type": "ephemeral"}}],
        messages=HELLO,
    )
    answer = raw.parse()
    check_message(json.loads(raw.text()))
    assert "hello" in answer.content[0].text.lower() and answer.stop_reason == "end_turn" and answer.role == "assistant"
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0
    assert raw.headers["x-gateway-provider"] == provider == answer.x_gateway["provider"]
    assert answer._request_id == raw.headers["request-id"] == answer.x_gateway["request_id"]
    assert len(simulator.calls(provider)) == 1


def test_the_stream_helper(client, model):
    with client.messages.stream(model=model, max_tokens=200, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert "hello" in text.lower() and message.content[0].text == text
    assert message.stop_reason == "end_turn" and message.usage.input_tokens > 0 and message.usage.output_tokens > 0


def test_a_stream_is_the_apis_event_by_event_and_comes_to_the_whole_answer(gateway, provider, model):
    for body in (
        {"messages": HELLO},
        {"messages": [QUESTION], "tools": [WEATHER], "thinking": {"type": "enabled", "budget_tokens": 2000}},
    ):
        asked = {"model": model, "max_tokens": 4000, **body}
        with gateway.stream("/v1/messages", {**asked, "stream": True}) as stream:
            events = read_events(b"".join(line.data for line in stream))
            assert stream.status == 200 and stream.is_whole
        streamed, whole = put_together(events), check_message(gateway.post("/v1/messages", asked).json)
        for message in (streamed, whole):
            for block in message["content"]:
                block.pop("id", None)  # of calls, made up anew each time
        for name in ("type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"):
            assert streamed[name] == whole[name]
        assert events[-2]["x_gateway"]["provider"] == provider


def test_tools_over_two_turns(client, model):
    first = client.messages.create(model=model, max_tokens=400, messages=[QUESTION], tools=[WEATHER])
    call = next(block for block in first.content if block.type == "tool_use")
    assert first.stop_reason == "tool_use" and call.name == "get_weather" and "city" in call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "Sunny, 24 degrees"}]}
    second = client.messages.create(
        model=model,
        max_tokens=400,
        tools=[WEATHER],
        messages=[QUESTION, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}],
    )
    assert second.stop_reason == "end_turn" and "Sunny, 24" in second.content[-1].text


def test_tools_over_two_turns_streamed(client, model):
    with client.messages.stream(model=model, max_tokens=400, messages=[QUESTION], tools=[WEATHER]) as stream:
        first = stream.get_final_message()
    call = next(block for block in first.content if block.type == "tool_use")
    assert first.stop_reason == "tool_use" and "city" in call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny", "is_error": False}
    turns = [QUESTION, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    with client.messages.stream(model=model, max_tokens=400, messages=turns, tools=[WEATHER]) as stream:
        assert "Sunny" in stream.get_final_text()


def test_the_packages_own_tool_loop(client):
    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city.

        Args:
            city: its name
        """
        return "Sunny, 24 degrees"

    runner = client.beta.messages.tool_runner(
        model="plain/any-model", max_tokens=400, messages=[QUESTION], tools=[get_weather], max_iterations=3
    )
    messages = list(runner)
    assert [message.stop_reason for message in messages] == ["tool_use", "end_turn"] and "Sunny" in messages[-1].content[0].text


def test_a_schema_is_parsed(client, model):
    answer = client.messages.parse(model=model, max_tokens=400, messages=HELLO, output_format=City)
    assert isinstance(answer.parsed_output, City)


def test_thoughts_come_where_they_are_asked_for(client):
    asked: Any = {"model": "groq/openai/gpt-oss-120b", "max_tokens": 4000, "messages": HELLO}
    shown = client.messages.create(**asked, thinking={"type": "enabled", "budget_tokens": 2000})
    assert [block.type for block in shown.content] == ["thinking", "text"] and shown.content[0].signature
    assert [block.type for block in client.messages.create(**asked).content] == ["text"]
    again = client.messages.create(
        **{**asked, "messages": [*HELLO, {"role": "assistant", "content": shown.content}, {"role": "user", "content": "Again"}]}
    )
    assert "Again" in again.content[0].text


def test_tokens_are_counted_without_a_call(client, simulator):
    counted = client.messages.count_tokens(model="claude-sonnet-5", system="Be terse.", messages=HELLO, tools=[WEATHER])
    assert 30 < counted.input_tokens < 150 and not simulator.calls()


def test_models_are_listed_and_retrieved(client):
    models = {model.id: model for model in client.models.list(limit=5)}
    assert models["any-model"].display_name == "any-model" and models["any-model"].created_at.year >= 1970
    assert client.models.retrieve("@cf/google/gemma-4-26b-a4b-it").id in models


def test_claudes_names_mean_whoever_is_healthy(client):
    answer = client.messages.create(model="claude-sonnet-5", max_tokens=200, messages=HELLO)
    assert "hello" in answer.content[0].text.lower() and answer.x_gateway["provider"] in CHAT


async def ask_asynchronously(gateway):
    async with anthropic.AsyncAnthropic(base_url=f"{gateway.url}/v1", auth_token=gateway.key, max_retries=0) as client:
        async with client.messages.stream(**MINE) as stream:
            return await stream.get_final_text()


def test_the_asynchronous_client_a_bearer_token_and_a_base_url_with_v1(gateway):
    assert "hello" in asyncio.run(ask_asynchronously(gateway)).lower()


# --- failures --------------------------------------------------------------------------------------------------------


def test_the_callers_mistakes_are_the_packages_own_errors(client, gateway):
    with pytest.raises(anthropic.NotFoundError, match="does not exist"):
        client.messages.create(model="nope", max_tokens=10, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError) as raised:
        client.messages.create(model="auto", max_tokens=10, messages=[{"role": "user", "content": [{"type": "video"}]}])
    assert raised.value.type == "invalid_request_error" and str(raised.value.request_id).startswith("req_")
    assert str(raised.value.api_message).startswith("messages.0.content.0.type: must be text")
    with (
        anthropic.Anthropic(base_url=gateway.url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        stranger.messages.create(**MINE)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_told_in_words_that_clients_parse(client, stream):
    long: Any = [{"role": "user", "content": "word " * 30_000}]
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 8192 maximum") as raised:
        client.messages.create(model="plain/small", max_tokens=10, messages=long, stream=stream)
    assert raised.value.status_code == 400


@pytest.mark.usefixtures("rested")
@pytest.mark.parametrize(
    ("failure", "error", "kind"),
    [
        (reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "7"}), anthropic.RateLimitError, "rate_limit_error"),
        (reply(500, {"error": {"message": "oh"}}), anthropic.InternalServerError, "api_error"),
    ],
    ids=["429", "500"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_providers_failure_is_the_packages_own_error(client, simulator, failure, error, kind, stream):
    simulator.always("plain", failure)
    with pytest.raises(error) as raised:
        client.messages.create(**MINE, stream=stream)
    assert raised.value.type == kind and str(raised.value.request_id).startswith("req_")


@pytest.mark.usefixtures("rested")
def test_who_has_nobody_left_is_overloaded(client, simulator):
    simulator.always("plain", reply(500, {"error": {"message": "oh"}}))
    for _ in range(3):
        with pytest.raises(anthropic.APIStatusError) as raised:
            client.messages.create(**MINE)
    assert (raised.value.status_code, raised.value.type) == (503, "overloaded_error")
    assert int(raised.value.response.headers["retry-after"]) >= 1


@pytest.mark.usefixtures("rested")
def test_a_rate_limit_is_waited_out_and_tried_again(client, simulator):
    simulator.script("plain", reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "1"}))
    answer = client.with_options(max_retries=2).messages.create(**MINE)
    assert "hello" in answer.content[0].text.lower() and len(simulator.calls("plain")) == 2


@pytest.mark.usefixtures("rested")
def test_a_stream_that_breaks_raises_and_is_never_complete(client, gateway, simulator):
    simulator.always("plain", cut_after(3))
    with (
        pytest.raises(anthropic.APIStatusError, match=r"broke off|in the middle") as raised,
        client.messages.stream(**MINE, extra_headers={"x-gateway-rescue": "0"}) as stream,
    ):
        stream.until_done()
    assert raised.value.type == "api_error"
    with gateway.stream("/v1/messages", {**MINE, "stream": True}, {"x-gateway-rescue": "0"}) as broken:
        events = read_events(b"".join(line.data for line in broken))
        assert broken.is_whole
    assert events[0]["type"] == "message_start" and events[-1]["type"] == "error"
    assert "message_stop" not in [event["type"] for event in events]
