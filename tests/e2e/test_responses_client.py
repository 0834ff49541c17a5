"""POST /v1/responses with the official `openai` package, against a real gunicorn and every simulated provider."""

import asyncio
import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.e2e.simulator import cut_after, reply, stall_after, stream
from tests.e2e.test_openai_client import CATALOG, CHAT, LIMITED
from tests.responses_judge import judge_response, judge_stream, output_of, without_ids

pytestmark = pytest.mark.e2e

PATH = "/v1/responses"
GET_WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
QUESTION: Any = {"role": "user", "content": "What is the weather in Paris?"}
THINKER = "groq/openai/gpt-oss-120b"
TWIN = """
[[providers]]
key = "{key}"
base_url = "{url}"

[[models]]
provider = "{key}"
id = "m"
upstream_id = "m-{key}"
"""


class City(BaseModel):
    name: str
    people: int


@pytest.fixture(scope="module")
def gateway(simulator, start_gateway, tmp_path_factory):
    catalog = tmp_path_factory.mktemp("catalog") / "mine.toml"
    lifted = "".join(f'\n[[models]]\nprovider = "{p}"\nid = "{m}"\nlimits = {{}}\n' for p, m in LIMITED)
    twins = "".join(TWIN.format(key=key, url=simulator.base_url("plain")) for key in "ab")
    catalog.write_text(CATALOG.format(url=simulator.base_url("plain")) + lifted + twins)
    return start_gateway({**simulator.env(), "GATEWAY_CATALOG": str(catalog)}, workers=1)


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


# --- answers ---------------------------------------------------------------------------------------------------------


def test_a_whole_answer(client, provider, model):
    raw = client.responses.with_raw_response.create(model=model, instructions="Be terse.", input="Say hello")
    answer = raw.parse()
    judge_response(raw.http_response.json())
    assert "hello" in answer.output_text.lower() and answer.status == "completed" and answer.store is False
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0
    assert raw.headers["x-gateway-provider"] == provider == answer.x_gateway["provider"]
    assert raw.headers["x-request-id"] == answer.x_gateway["request_id"]


def test_a_streamed_answer_is_the_whole_one(client, gateway, provider, model):
    with gateway.stream(PATH, {"model": model, "input": "Say hello", "stream": True, "store": False}) as answer:
        events = judge_stream(b"".join(line.data for line in answer))
    last = events[-1]
    assert last["type"] == "response.completed" and last["response"]["x_gateway"]["provider"] == provider
    whole = client.responses.with_raw_response.create(model=model, input="Say hello", store=False).http_response.json()
    assert without_ids(output_of(events)) == without_ids(whole["output"])
    assert last["response"]["usage"] == whole["usage"]


def test_tools_over_two_turns(client, model):
    first = client.responses.create(model=model, input=[QUESTION], tools=[GET_WEATHER])
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert call.name == "get_weather" and "city" in json.loads(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny, 24 degrees"}
    second = client.responses.create(model=model, input=[QUESTION, *first.output, result], tools=[GET_WEATHER])
    assert "Sunny, 24" in second.output_text


def test_tools_over_two_turns_streamed_and_by_reference(client, model):
    with client.responses.stream(model=model, input=[QUESTION], tools=[GET_WEATHER]) as running:
        first = running.get_final_response()
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert "city" in call.parsed_arguments
    references: Any = [{"type": "item_reference", "id": item.id} for item in first.output]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": [{"type": "input_text", "text": "Sunny"}]}
    with client.responses.stream(model=model, input=[QUESTION, *references, result], tools=[GET_WEATHER]) as running:
        assert "Sunny" in running.get_final_response().output_text


def test_a_custom_tool_over_two_turns(client, model):
    tool: Any = {"type": "custom", "name": "patch", "description": "Change files."}
    with client.responses.stream(model=model, input=[QUESTION], tools=[tool], store=False) as running:
        events = list(running)
        first = running.get_final_response()
    (call,) = [item for item in first.output if item.type == "custom_tool_call"]
    deltas = [event.delta for event in events if event.type == "response.custom_tool_call_input.delta"]
    assert call.name == "patch" and call.input == "".join(deltas) != ""
    result: Any = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "Done"}
    second = client.responses.create(model=model, input=[QUESTION, *first.output, result], tools=[tool])
    assert "Done" in second.output_text


def test_a_json_schema_is_parsed(client, model):
    answer = client.responses.parse(model=model, input="Paris as JSON", text_format=City)
    assert isinstance(answer.output_parsed, City)
    with client.responses.stream(model=model, input="Paris as JSON", text_format=City) as running:
        assert isinstance(running.get_final_response().output_parsed, City)


def test_thoughts_are_a_reasoning_item(client):
    answer = client.responses.create(model=THINKER, input="hello", reasoning={"effort": "low", "summary": "auto"})
    assert [item.type for item in answer.output] == ["reasoning", "message"] and answer.output[0].summary[0].text
    assert answer.usage.output_tokens_details.reasoning_tokens > 0
    with client.responses.stream(model=THINKER, input="hello", reasoning={"effort": "low"}) as running:
        events = list(running)
    thoughts = "".join(event.delta for event in events if event.type == "response.reasoning_summary_text.delta")
    assert thoughts == answer.output[0].summary[0].text
    again = client.responses.create(model=THINKER, input=[QUESTION, *answer.output, QUESTION])
    assert "weather" in again.output_text


def test_an_answer_that_was_cut_says_so(client):
    answer = client.responses.create(model="plain/any-model", input="one two three four five six", max_output_tokens=2)
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens"
    events = list(
        client.responses.create(model="plain/any-model", input="one two three four five", max_output_tokens=2, stream=True)
    )
    assert events[-1].type == "response.incomplete"


def test_what_a_provider_is_asked_and_not_told(client, simulator):
    raw = client.responses.with_raw_response.create(
        model=THINKER,
        input="hello",
        text={"verbosity": "low"},
        tools=[{"type": "web_search"}],
        metadata={"a": "b"},
        prompt_cache_key="k",
        store=False,
    )
    assert raw.headers["x-gateway-params-dropped"] == "tools.web_search, text.verbosity"
    asked = json.loads(simulator.calls("groq")[-1].body)
    assert asked.keys() == {"model", "messages"} and asked["messages"] == [{"role": "user", "content": "hello"}]


# --- errors ----------------------------------------------------------------------------------------------------------


def test_errors_are_the_package_s_own(client):
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.responses.create(model="nope", input="hello")
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="auto", input=[{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}])
    assert raised.value.param == "input[0].content[0].type" and str(raised.value.request_id).startswith("req_")
    with pytest.raises(openai.BadRequestError, match="store: false"):
        client.responses.create(model="auto", input="hello", previous_response_id="resp_1")
    for method in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError, match="stored"):
            method("resp_1")


@pytest.mark.parametrize("streamed", [False, True])
def test_an_error_before_the_answer_is_a_plain_one(gateway, client, simulator, streamed):
    gateway.forget_failures()
    simulator.always("plain", reply(500, {"error": {"message": "no"}}), model="m-a")
    with pytest.raises(openai.InternalServerError) as raised:
        client.responses.create(model="a/m", input="hello", stream=streamed)
    assert raised.value.code == "upstream_error" and raised.value.type == "provider_error"


def test_a_429_is_tried_again_by_the_package(gateway, client, simulator):
    gateway.forget_failures()
    simulator.script("plain", reply(429, {"error": {"message": "slow down"}}, {"retry-after": "4"}), model="m-a")
    answer = client.with_options(max_retries=2).responses.create(model="a/m", input="hello")
    assert "hello" in answer.output_text and len(simulator.calls("plain")) == 2


# --- streams that break ------------------------------------------------------------------------------------------------


def chunk(delta, end=None):
    return {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}


WORDS = stream([chunk({"content": word}) for word in ("The ", "boat ", "sails.")] + [chunk({}, "stop")])
OTHERS = stream([chunk({"content": "A ship sinks."}), chunk({}, "stop")])


def stream_of(gateway, simulator, scripts, headers=None, **fields):
    gateway.forget_failures()
    for key, behaviour in scripts.items():
        simulator.always("plain", behaviour, model=f"m-{key}")
    body = {"models": ["a/m", "b/m"], "input": "hello", "stream": True, **fields}
    with gateway.stream(PATH, body, headers) as answer:
        assert answer.status == 200 and answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        events = judge_stream(b"".join(line.data for line in answer))
        assert answer.is_whole
    return events


def test_a_break_ends_in_failed(gateway, simulator, client):
    events = stream_of(gateway, simulator, {"a": cut_after(n_events=2, answer=WORDS), "b": OTHERS})
    last = events[-1]
    assert last["type"] == "response.failed" and last["response"]["error"]["code"] == "server_error"
    assert last["response"]["x_gateway"]["error"]["code"] == "upstream_error"
    assert output_of(events)[0]["content"][0]["text"] == "The boat " and output_of(events)[0]["status"] == "incomplete"
    gateway.forget_failures()
    seen = list(client.responses.create(model="a/m", input="hello", stream=True))
    assert seen[-1].type == "response.failed" and seen[-1].response.error.message


def test_a_broken_stream_goes_on_from_the_next_provider(gateway, simulator):
    events = stream_of(gateway, simulator, {"a": cut_after(n_events=2, answer=WORDS), "b": WORDS})
    last = events[-1]["response"]
    assert output_of(events)[0]["content"][0]["text"] == "The boat sails." and len(output_of(events)) == 1
    assert last["x_gateway"]["rescued"] is True and last["x_gateway"]["provider"] == "b"


def test_a_failure_before_the_first_word_is_not_seen(gateway, simulator):
    events = stream_of(gateway, simulator, {"a": cut_after(n_events=0), "b": WORDS})
    assert events[-1]["response"]["x_gateway"]["attempts"] >= 2
    assert output_of(events)[0]["content"][0]["text"] == "The boat sails."


def test_each_event_leaves_as_it_comes(gateway, simulator):
    gateway.forget_failures()
    simulator.always("plain", stream(WORDS.events, pause_s=0.3), model="m-a")
    with gateway.stream(PATH, {"model": "a/m", "input": "hello", "stream": True}) as answer:
        times = [line.t for line in answer if b'"delta"' in line.data]
    assert len(times) == 3 and times[1] - times[0] > 0.15 and times[2] - times[1] > 0.15


def test_a_client_that_leaves_closes_the_upstream(gateway, simulator):
    gateway.forget_failures()
    simulator.always("plain", stall_after(n_events=1, answer=WORDS), model="m-a")
    with gateway.stream(PATH, {"model": "a/m", "input": "hello", "stream": True}) as answer:
        assert any(b"output_text.delta" in line.data for line in answer)
    assert simulator.calls("plain")[-1].wait_ended(1.0) == "client_closed"


# --- the asynchronous client -------------------------------------------------------------------------------------------


async def respond_asynchronously(gateway):
    async with openai.AsyncOpenAI(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
        whole = await client.responses.create(model="auto", input="hello")
        running = await client.responses.create(model="auto", input="hello", stream=True)
        events = [event async for event in running]
        async with client.responses.stream(model="auto", input="Paris", text_format=City) as parsed:
            final = await parsed.get_final_response()
        return whole, events, final


def test_the_asynchronous_client(gateway):
    whole, events, final = asyncio.run(respond_asynchronously(gateway))
    assert "hello" in whole.output_text and events[-1].type == "response.completed"
    assert isinstance(final.output_parsed, City)
