"""LiteLLM's SDK as a client of an OpenAI-compatible endpoint."""

import json

import litellm
from harness import EMBEDDING, KEY, MODEL, RETRIED, URL, WEATHER, run
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "Say hello"}]
litellm.telemetry = False


class City(BaseModel):
    name: str
    people: int


def ask(model=MODEL, messages=HELLO, **options):
    return litellm.completion(model=f"openai/{model}", api_base=f"{URL}/v1", api_key=KEY, messages=messages, **options)


def whole():
    answer = ask()
    assert "hello" in answer.choices[0].message.content and answer.usage.total_tokens > 0


def stream():
    chunks = list(ask(stream=True))
    assert "hello" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


def tools():
    messages = [{"role": "user", "content": "The weather in Paris?"}]
    message = ask(messages=messages, tools=[WEATHER]).choices[0].message
    call = message.tool_calls[0]
    assert "city" in json.loads(call.function.arguments)
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "Sunny"}]
    assert "Sunny" in ask(messages=messages, tools=[WEATHER]).choices[0].message.content


def structured():
    City.model_validate_json(ask(response_format=City).choices[0].message.content)


def embeddings():
    answer = litellm.embedding(model=f"openai/{EMBEDDING}", api_base=f"{URL}/v1", api_key=KEY, input=["one", "two"])
    assert answer.data[0]["embedding"] != answer.data[1]["embedding"]


def error():
    try:
        ask("no-such-model")
    except litellm.NotFoundError as refused:
        assert "does not exist" in str(refused)
    else:
        raise AssertionError("no error")


def retry():
    assert ask(RETRIED, num_retries=2).choices[0].message.content


run(whole=whole, stream=stream, tools=tools, structured=structured, embeddings=embeddings, error=error, retry=retry)
