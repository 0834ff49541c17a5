"""Fields of requests in OpenAI's own form, without what clients put beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.domain import ChatRequest, EmbeddingRequest, Model

# 2026-11: https://platform.openai.com/docs/api-reference/chat/create
MESSAGE_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
TOOL_FIELDS = frozenset({"name", "description", "parameters", "strict"})

# Values that ask for nothing else than what happens anyway, and that clients and SDKs send unasked: leaving one out is
# no loss that anybody must hear of. 2026-11: https://platform.openai.com/docs/api-reference/chat/create, and for the
# last ones the defaults of llama.cpp and vLLM, with which they do nothing.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "metadata": ({},),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "parallel_tool_calls": (True,),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "top_p": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "top_a": (0,),
    "repetition_penalty": (1,),
}


def is_loss(name: str, value: Any) -> bool:
    """Whether a parameter that is left out would have changed anything: if so, the client is told."""
    return value is not None and value not in _NEUTRAL.get(name, ())


def thinks_anyway(request: ChatRequest, effort: Any) -> bool:
    """Whether a model that was told not to think cannot do without: it gets its least effort, and shows no thoughts."""
    return request.reasoning_effort == "none" and effort not in (None, "none")


def image_urls_of(messages: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the URL of each image in canonical messages."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if part["type"] == "image_url":
                yield part["image_url"]["url"]


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
