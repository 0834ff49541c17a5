"""POST /v1/chat/completions with the bodies that clients send (fixtures/chat), and custom tools through the view."""

import json
from pathlib import Path

import pytest

from gateway.api.schemas import load_chat

RECORDED = sorted((Path(__file__).parent / "fixtures" / "chat").glob("*.json"))
PATH = "/v1/chat/completions"
PATCH = {"type": "custom", "name": "ApplyPatch", "description": "Edits files.", "format": {"type": "text"}}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_clients_send_is_understood(path):
    recorded = json.loads(path.read_text())
    chat = load_chat(recorded["body"], {})
    assert [message["role"] for message in chat.messages] == recorded["roles"]
    assert [tool["function"]["name"] for tool in chat.body.get("tools", ())] == recorded["functions"]
    assert chat.dropped == ()
    calls = [call for message in chat.messages for call in message.get("tool_calls", ())]
    assert all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in calls)


def ask(application, **fields):
    body = {"model": "sandbox/tools", "messages": [{"role": "user", "content": "Add a.py."}], "tools": [PATCH], **fields}
    answer = application.post(PATH, body)
    assert answer.status_code == 200, answer.text
    return answer


def test_a_custom_tool_is_called_with_its_text(application):
    (choice,) = ask(application).json["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"], choice["finish_reason"]) == ("function", "ApplyPatch", "tool_calls")
    assert call["function"]["arguments"] and not call["function"]["arguments"].startswith("{")


def test_a_stream_of_a_custom_tool_s_call_comes_to_the_same(application):
    whole = ask(application).json["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    events = [event.removeprefix("data: ") for event in ask(application, stream=True).text.split("\n\n") if event]
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    pieces = [call["function"].get("arguments", "") for choice in choices for call in choice["delta"].get("tool_calls", ())]
    assert "".join(pieces) == whole and events[-1] == "[DONE]"
