"""Fields of requests in OpenAI's own form, without what clients put beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain import EmbeddingRequest, Model

MESSAGE_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
TOOL_FIELDS = frozenset({"name", "description", "parameters", "strict"})


def encode_part(part: Mapping[str, Any], more: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return a content part with the fields of OpenAI's schema, and those named in `more`."""
    kept = {name: value for name, value in part.items() if name in more}
    if part["type"] != "image_url":
        return {"type": "text", "text": part["text"], **kept}
    image = part["image_url"]
    return {"type": "image_url", "image_url": {name: image[name] for name in ("url", "detail") if image.get(name)}, **kept}


def encode_tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {
        "id": call["id"],
        "type": "function",
        "function": {"name": function["name"], "arguments": function["arguments"]},
    }


def encode_tool(tool: Mapping[str, Any], fields: frozenset[str] = TOOL_FIELDS) -> dict[str, Any]:
    function = {name: value for name, value in tool["function"].items() if name in fields and value is not None}
    return {"type": "function", "function": function}


def size_to_ask_for(request: EmbeddingRequest, model: Model) -> int | None:
    """Return the size of vectors to name, None for the model's own: a model of one size refuses even that very size."""
    return None if request.dimensions in model.dimensions[:1] else request.dimensions
