"""Tools, the choice among them, and the form of the answer."""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.api.schemas.problems import invalid, missing, unsupported
from gateway.api.schemas.tools import Tool, ToolChoice, load_tool, load_tool_choice


class Tools(NamedTuple):
    """`dropped` names the tools that are left out, since nobody behind the gateway knows them: those that Anthropic's
    servers run (web_search_20250305), and those whose use only its models have learnt (bash_20250124).
    """

    loaded: list[Tool]
    choice: ToolChoice | None
    parallel: bool | None
    dropped: list[str]


def load_tools(raw: Any, choice: Any) -> Tools:
    """Return `tools` and `tool_choice` in the canonical form.

    :raises InvalidRequest: one is malformed, or the choice names a tool that is left out.
    """
    if not isinstance(raw, list):
        raise invalid("tools", "must be a list of tools")
    loaded, dropped = [], []
    for index, tool in enumerate(raw):
        if _is_function(tool, f"tools[{index}]"):
            loaded.append(load_tool(tool, f"tools[{index}]"))
        else:
            dropped.append(str(tool.get("name") or tool["type"]))
    if isinstance(choice, dict) and choice.get("type") == "tool" and choice.get("name") in dropped:
        raise unsupported("tool_choice.name", "names a tool that only Anthropic's own servers and models can use")
    if not loaded or choice is None:
        return Tools(loaded, None, None, dropped)
    sequential = choice.get("disable_parallel_tool_use") if isinstance(choice, dict) else None
    if not isinstance(sequential, bool | None):
        raise invalid("tool_choice.disable_parallel_tool_use", "must be true or false")
    return Tools(loaded, load_tool_choice(choice, loaded), False if sequential else None, dropped)


def _is_function(tool: Any, where: str) -> bool:
    if not isinstance(tool, dict):
        raise invalid(where, "must be an object with name and input_schema")
    kind = tool.get("type")
    if not isinstance(kind, str | None):
        raise invalid(f"{where}.type", "must be a string")
    if kind == "custom" and tool.get("input_schema") is None:
        raise missing(f"{where}.input_schema")
    return kind in (None, "custom", "function")


def load_format(raw: Any, where: str) -> dict[str, Any] | None:
    """Return the form of the answer as `response_format`, None for text. `where` is its place, for errors.

    :raises InvalidRequest: it is none.
    """
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise invalid(where, "must be an object with type and schema")
    if raw.get("type") != "json_schema":
        raise invalid(f"{where}.type", "must be json_schema")
    if raw.get("schema") is None:
        raise missing(f"{where}.schema")
    if not isinstance(raw["schema"], dict):
        raise invalid(f"{where}.schema", "must be a JSON schema, an object")
    return {"type": "json_schema", "json_schema": {"name": "response", "schema": raw["schema"]}}
