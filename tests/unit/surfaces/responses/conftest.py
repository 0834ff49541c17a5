"""Requests as the surface gets them, and chats as the dispatcher answers them."""

import pytest

from gateway.api.schemas import load_response

NOW = 1_800_000_000.7
CREATED = 1_800_000_000
X_GATEWAY = {"provider": "p", "model": "m", "attempts": 1, "reasoning_effort": "auto", "request_id": "req_1"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
TOOLS = [
    {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}},
    {"type": "custom", "name": "patch", "description": "Change files."},
    {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [{"type": "function", "name": "find"}]},
]


@pytest.fixture
def wanted():
    """Return a function that reads a request with these fields beside a plain input."""

    def load(**fields):
        return load_response({"model": "m", "input": "hi", "tools": TOOLS, "store": False, **fields}, {})

    return load


def completion(message, finish_reason="stop", usage=USAGE, **choice):
    """A repaired chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": CREATED,
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "", **message}, "finish_reason": finish_reason, **choice}
        ],
        "usage": usage,
        "x_gateway": X_GATEWAY,
    }


def call(name, arguments, id_="call_1"):
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def chunk(delta, finish_reason=None, **fields):
    """A shaped chunk with this delta; `fields` are the choice's, but for those of the chunk itself."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": CREATED, "model": "m"}
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, **fields}]}


def last_chunks(finish_reason="stop", usage=USAGE):
    """What the relay's shaper ends every stream with."""
    return [
        {**chunk({}, finish_reason), "x_gateway": X_GATEWAY},
        {**chunk({}), "choices": [], "usage": usage},
    ]
