"""A whole chat completion as a Response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.surfaces.responses.body import (
    Body,
    Head,
    Status,
    call_item,
    carried_call,
    end_of,
    message_item,
    read_logprobs,
    reasoning_item,
    refusal_part,
    response_body,
    text_part,
    usage_body,
)
from gateway.surfaces.responses.ids import carrying_id, new_id
from gateway.surfaces.responses.request import ResponseRequest
from gateway.surfaces.responses.tools import input_of


def write_response(completion: Mapping[str, Any], request: ResponseRequest, now: float) -> Body:
    """Return the response that a repaired completion amounts to; `now` in Unix seconds."""
    choice = completion["choices"][0]
    status, why = end_of(choice["finish_reason"])
    head = Head(new_id("response"), completion["created"], completion["model"])
    return response_body(
        request,
        head,
        status,
        _output(choice, status, request),
        completed_at=int(now) if status == "completed" else None,
        usage=usage_body(completion["usage"]),
        x_gateway=completion["x_gateway"],
        **why,
    )


def _output(choice: Mapping[str, Any], status: Status, request: ResponseRequest) -> list[Body]:
    message = choice["message"]
    calls = message.get("tool_calls") or ()
    output = []
    if thoughts := message.get("reasoning_content"):
        output.append(reasoning_item(new_id("reasoning"), [thoughts]))
    parts = []
    if message.get("content"):
        parts.append(text_part(message["content"], read_logprobs(choice.get("logprobs"))))
    if message.get("refusal"):
        parts.append(refusal_part(message["refusal"]))
    if parts or not (output or calls):  # an answer of nothing is an empty message
        output.append(_message(parts or [text_part("")], request))
    output += [_call(call, request) for call in calls]
    if "status" in output[-1]:
        output[-1]["status"] = status  # where an answer was cut, its last item was
    return output


def _message(parts: list[Body], request: ResponseRequest) -> Body:
    said = "".join(part.get("text") or part.get("refusal") or "" for part in parts)
    carried = {"type": "message", "content": said}
    return message_item(carrying_id(carried) if request.carries else new_id("message"), "completed", parts)


def _call(call: Mapping[str, Any], request: ResponseRequest) -> Body:
    tool = request.tools.tool_of(call["function"]["name"])
    given = call["function"]["arguments"]
    if tool.kind == "custom":
        given = input_of(given)
    carried = carried_call(tool, call["id"], given)
    id_ = carrying_id(carried) if request.carries else new_id(carried["type"])
    return call_item(id_, "completed", tool, call["id"], given)
