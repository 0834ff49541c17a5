"""The official `openai` package: chat, responses, embeddings, its streaming helpers, and its asynchronous client."""

import asyncio
import json

import openai
from harness import EMBEDDING, KEY, MODEL, RETRIED, URL, WEATHER, run
from pydantic import BaseModel

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY)
HELLO = [{"role": "user", "content": "Say hello"}]
FLAT_WEATHER = {"type": "function", **WEATHER["function"]}


class City(BaseModel):
    name: str
    people: int


def whole():
    answer = client.chat.completions.create(model=MODEL, messages=HELLO)
    assert "hello" in answer.choices[0].message.content and answer.usage.total_tokens > 0


def stream():
    with client.chat.completions.stream(model=MODEL, messages=HELLO) as events:
        final = events.get_final_completion()
    assert "hello" in final.choices[0].message.content and final.choices[0].finish_reason == "stop"


def tools():
    messages = [{"role": "user", "content": "The weather in Paris?"}]
    message = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER]).choices[0].message
    call = message.tool_calls[0]
    assert "city" in json.loads(call.function.arguments)
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "Sunny"}]
    assert "Sunny" in client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER]).choices[0].message.content


def structured():
    answer = client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=City)
    assert isinstance(answer.choices[0].message.parsed, City)


def asynchronous():
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY) as asynchronous:
            chunks = await asynchronous.chat.completions.create(model="auto", messages=HELLO, stream=True)
            return [chunk async for chunk in chunks]

    assert asyncio.run(ask())[-1].choices[0].finish_reason == "stop"


def responses_whole():
    assert "hello" in client.responses.create(model=MODEL, input="Say hello").output_text


def responses_stream():
    with client.responses.stream(model=MODEL, input="Say hello") as events:
        kinds = [event.type for event in events]
        final = events.get_final_response()
    assert "hello" in final.output_text and kinds[0] == "response.created" and kinds[-1] == "response.completed"


def responses_tools():
    question = {"role": "user", "content": "The weather in Paris?"}
    first = client.responses.create(model=MODEL, input=[question], tools=[FLAT_WEATHER])
    call = next(item for item in first.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"}
    second = client.responses.create(model=MODEL, input=[question, *first.output, result], tools=[FLAT_WEATHER])
    assert "Sunny" in second.output_text


def responses_structured():
    assert isinstance(client.responses.parse(model=MODEL, input="Paris as JSON", text_format=City).output_parsed, City)


def embeddings():
    answer = client.embeddings.create(model=EMBEDDING, input=["one", "two", "one"])
    vectors = [row.embedding for row in answer.data]
    assert vectors[0] == vectors[2] != vectors[1]


def error():
    try:
        client.chat.completions.create(model="no-such-model", messages=HELLO)
    except openai.NotFoundError as refused:
        assert refused.code == "model_not_found" and refused.request_id.startswith("req_")
    else:
        raise AssertionError("no error")


def retry():
    assert client.chat.completions.create(model=RETRIED, messages=HELLO).choices[0].message.content


run(
    whole=whole,
    stream=stream,
    tools=tools,
    structured=structured,
    asynchronous=asynchronous,
    responses_whole=responses_whole,
    responses_stream=responses_stream,
    responses_tools=responses_tools,
    responses_structured=responses_structured,
    embeddings=embeddings,
    error=error,
    retry=retry,
)
