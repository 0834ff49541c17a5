"""Custom tools in a chat, as functions, and their calls in its history.

They come flat, as in the Responses API (Cursor's ApplyPatch), and their calls as a function's, with the bare text as
arguments: so they were answered. OpenAI's own chat form, wrapped in `custom`, has answers of its own and is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway import jsonio
from gateway.api.schemas.messages import Message
from gateway.api.schemas.responses.tools import load_custom
from gateway.surfaces.responses.tools import arguments_of


def custom_names(body: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the custom tools in a client's body, which is or will be checked elsewhere."""
    tools = body.get("tools")
    customs = [tool.get("name") for tool in tools if _is_custom(tool)] if isinstance(tools, list) else []
    return frozenset(name for name in customs if isinstance(name, str))


def as_functions(tools: Any) -> Any:
    """Return a chat's tools, not checked yet, with functions in place of custom ones.

    :raises InvalidRequest: a custom tool that is malformed.
    """
    if not isinstance(tools, list) or not any(map(_is_custom, tools)):
        return tools
    return [_as_function(tool, f"tools[{index}]") if _is_custom(tool) else tool for index, tool in enumerate(tools)]


def _as_function(tool: Any, where: str) -> dict[str, Any]:
    function, _ = load_custom(tool, where)
    return {"type": "function", "function": function}


def _is_custom(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "custom" and "name" in tool and "input_schema" not in tool


def with_arguments(messages: list[Message], customs: frozenset[str]) -> list[Message]:
    """Return canonical messages in which calls of these tools have their text as a function's arguments."""
    return [_with_arguments(message, customs) if message.get("tool_calls") else message for message in messages]


def _with_arguments(message: Message, customs: frozenset[str]) -> Message:
    calls = [_call(call, customs) for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}


def _call(call: dict[str, Any], customs: frozenset[str]) -> dict[str, Any]:
    function = call["function"]
    if function["name"] not in customs or _is_object(function["arguments"]):
        return call
    return {**call, "function": {**function, "arguments": arguments_of(function["arguments"])}}


def _is_object(text: str) -> bool:
    try:
        return isinstance(jsonio.loads(text), dict)
    except ValueError:
        return False
