"""The official `anthropic` package: messages, its stream helper, tools, and counted tokens."""

import anthropic
from harness import KEY, MODEL, RETRIED, URL, WEATHER, run

client = anthropic.Anthropic(base_url=URL, api_key=KEY)
HELLO = [{"role": "user", "content": "Say hello"}]
TOOL = {
    "name": "get_weather",
    "description": WEATHER["function"]["description"],
    "input_schema": WEATHER["function"]["parameters"],
}


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def whole():
    answer = client.messages.create(model="claude-sonnet-4-5", max_tokens=200, messages=HELLO)
    assert "hello" in text_of(answer) and answer.stop_reason == "end_turn" and answer.usage.output_tokens > 0


def stream():
    with client.messages.stream(model=MODEL, max_tokens=200, messages=HELLO) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    assert "hello" in text and text == text_of(final) and final.stop_reason == "end_turn"


def tools():
    messages = [{"role": "user", "content": "The weather in Paris?"}]
    first = client.messages.create(model=MODEL, max_tokens=200, messages=messages, tools=[TOOL])
    call = next(block for block in first.content if block.type == "tool_use")
    assert first.stop_reason == "tool_use" and "city" in call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny"}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    assert "Sunny" in text_of(client.messages.create(model=MODEL, max_tokens=200, messages=messages, tools=[TOOL]))


def counted():
    assert client.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens > 0


def error():
    try:
        client.messages.create(model="no-such-model", max_tokens=200, messages=HELLO)
    except anthropic.NotFoundError as refused:
        assert refused.body["error"]["type"] == "not_found_error" and refused.request_id.startswith("req_")
    else:
        raise AssertionError("no error")


def retry():
    assert text_of(client.messages.create(model=RETRIED, max_tokens=200, messages=HELLO))


run(whole=whole, stream=stream, tools=tools, counted=counted, error=error, retry=retry)
