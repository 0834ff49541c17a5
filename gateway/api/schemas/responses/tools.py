"""Tools of a Responses request, and the choice among them: functions, and what functions stand for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gateway.api.schemas.problems import invalid, unsupported
from gateway.api.schemas.tools import Tool, ToolChoice, check_name, load_tool, load_tool_choice
from gateway.surfaces.responses.tools import Toolbox, ToolName, custom_function

MOST_OF_A_NAME = 64  # characters of a type that nobody knows, in what is disclosed

_NEVER_HOSTED = "must be function, custom or allowed_tools, or none, auto or required: no provider here runs tools itself"
_SYNTAXES = ("lark", "regex")


@dataclass(slots=True)
class LoadedTools:
    """`functions` are for the model, in the client's order; `shown` is what the answer repeats of them.

    `dropped` names the kinds of tools that only OpenAI's own servers run.
    """

    box: Toolbox = field(default_factory=Toolbox)
    functions: list[Tool] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def keep(self, functions: Iterable[str]) -> None:
        """Leave the model only these."""
        kept = set(functions)
        self.functions = [tool for tool in self.functions if tool["function"]["name"] in kept]


def load_response_tools(lists: Iterable[tuple[str, Any]]) -> LoadedTools:
    """Return the tools of a request: of `tools` itself and of items that add some, each list with its place.

    :raises InvalidRequest: naming the tool that is none.
    """
    loaded = LoadedTools()
    for where, raw in lists:
        if not isinstance(raw, list):
            raise invalid(where, "must be a list of tools")
        for index, tool in enumerate(raw):
            _add_tool(loaded, tool, f"{where}[{index}]")
    return loaded


def _add_tool(loaded: LoadedTools, tool: Any, where: str) -> None:
    kind = tool.get("type", "function") if isinstance(tool, dict) else "function"
    if not isinstance(kind, str):
        raise invalid(f"{where}.type", "must be a string")
    if kind == "namespace":
        _add_namespace(loaded, tool, where)
    elif kind in ("function", "custom"):
        loaded.shown.append(_add_callable(loaded, tool, where))
    else:
        loaded.dropped.append(f"tools.{kind[:MOST_OF_A_NAME]}")


def _add_namespace(loaded: LoadedTools, tool: dict[str, Any], where: str) -> None:
    namespace = check_name(tool.get("name"), f"{where}.name")
    about = _text_of(tool, "description", where)
    members = tool.get("tools")
    if not isinstance(members, list):
        raise invalid(f"{where}.tools", "must be a list of tools")
    shown = []
    for index, member in enumerate(members):
        place = f"{where}.tools[{index}]"
        if isinstance(member, dict) and member.get("type", "function") not in ("function", "custom"):
            raise unsupported(f"{place}.type", "must be function or custom")
        # What is said of the group is told once, with its first tool: with each it would multiply the prompt.
        shown.append(_add_callable(loaded, member, place, namespace, about if index == 0 else ""))
    loaded.shown.append({"type": "namespace", "name": namespace, "description": about, "tools": shown})


def _add_callable(
    loaded: LoadedTools, tool: Any, where: str, namespace: str | None = None, about_group: str = ""
) -> dict[str, Any]:
    """Add the function that a tool is, or that stands for it, and return the tool as the answer shows it."""
    is_custom = isinstance(tool, dict) and tool.get("type") == "custom" and "input_schema" not in tool
    function, shown = load_custom(tool, where) if is_custom else _load_function(tool, where)
    name = loaded.box.add(ToolName(function["name"], namespace, "custom" if is_custom else "function"))
    about = "\n\n".join(text for text in (about_group, function.get("description")) if text)
    described = {"description": about} if about else {}
    loaded.functions.append({"type": "function", "function": {**function, **described, "name": name}})
    return shown


def _load_function(tool: Any, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    function = load_tool(tool, where)["function"]
    shown = {"type": "function", "description": None, "parameters": None, **function, "strict": bool(function.get("strict"))}
    return function, shown


def load_custom(tool: dict[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the function that stands for a custom tool, and the tool as answers show it.

    :raises InvalidRequest: it is malformed.
    """
    # OpenAI's chat form wraps it, as it does functions.
    place, given = (f"{where}.custom", tool["custom"]) if isinstance(tool.get("custom"), dict) else (where, tool)
    name = check_name(given.get("name"), f"{place}.name")
    description = _text_of(given, "description", place)
    grammar = _load_grammar(given.get("format"), f"{place}.format")
    shown = {"type": "custom", "name": name, "description": description, "format": grammar or {"type": "text"}}
    return custom_function(name, description, grammar), shown


def _load_grammar(raw: Any, where: str) -> dict[str, Any] | None:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise invalid(where, "must be an object with a type")
    if raw.get("type") == "text":
        return None
    if raw.get("type") != "grammar":
        raise invalid(f"{where}.type", "must be text or grammar")
    place, given = (f"{where}.grammar", raw["grammar"]) if isinstance(raw.get("grammar"), dict) else (where, raw)
    if given.get("syntax") not in _SYNTAXES:
        raise invalid(f"{place}.syntax", "must be " + " or ".join(_SYNTAXES))
    if not isinstance(given.get("definition"), str):
        raise invalid(f"{place}.definition", "must be a string")
    return {"type": "grammar", "syntax": given["syntax"], "definition": given["definition"]}


def _text_of(tool: dict[str, Any], name: str, where: str) -> str:
    text = tool.get(name)
    if not isinstance(text, str | None):
        raise invalid(f"{where}.{name}", "must be a string")
    return text or ""


# --- the choice --------------------------------------------------------------------------------------------------------


def load_response_choice(raw: Any, loaded: LoadedTools) -> tuple[ToolChoice | None, Any]:
    """Return the choice as a chat makes it, None for the model's own, and as the answer repeats it.

    A choice among fewer tools leaves `loaded` only those.

    :raises InvalidRequest: another choice, a tool that there is not, or one that nobody here runs.
    """
    kind = raw.get("type") if isinstance(raw, dict) else raw
    if kind == "allowed_tools":
        return _load_allowed(raw, loaded)
    if not isinstance(raw, dict) or kind in ("none", "auto", "required", "any"):
        if not loaded.functions:
            load_tool_choice(raw, [])  # a word that is none is refused all the same
            return None, "auto"
        choice = load_tool_choice(raw, loaded.functions)
        return choice, choice
    if kind not in (None, "function", "tool", "custom"):
        raise unsupported("tool_choice.type", _NEVER_HOSTED)
    function = _find(raw, "tool_choice", loaded)
    tool = loaded.box.tool_of(function)
    return {"type": "function", "function": {"name": function}}, {"type": tool.kind, "name": tool.name}


def _load_allowed(raw: dict[str, Any], loaded: LoadedTools) -> tuple[ToolChoice | None, Any]:
    where, given = "tool_choice", raw
    if isinstance(raw.get("allowed_tools"), dict):  # the chat form
        where, given = "tool_choice.allowed_tools", raw["allowed_tools"]
    mode, tools = given.get("mode", "auto"), given.get("tools")
    if mode not in ("auto", "required"):
        raise invalid(f"{where}.mode", "must be auto or required")
    if not isinstance(tools, list):
        raise invalid(f"{where}.tools", "must be a list of tools")
    allowed: list[str] = []
    for index, tool in enumerate(tools):
        allowed += _allowed_by(tool, f"{where}.tools[{index}]", loaded)
    if mode == "required" and not allowed:
        raise unsupported(f"{where}.tools", "must name at least one function: no provider here runs tools itself")
    loaded.keep(allowed)
    shown = {"type": "allowed_tools", "mode": mode, "tools": tools}
    return (mode if loaded.functions else None), shown


def _allowed_by(tool: Any, where: str, loaded: LoadedTools) -> list[str]:
    if not isinstance(tool, dict):
        raise invalid(where, "must be an object with type and name")
    if tool.get("type") == "namespace":
        return loaded.box.functions_in(check_name(tool.get("name"), f"{where}.name"))
    if tool.get("type", "function") not in ("function", "custom"):
        return []  # it was dropped, and that is disclosed
    return [_find(tool, where, loaded)]


def _find(raw: dict[str, Any], where: str, loaded: LoadedTools) -> str:
    """Return the function of the tool that an object names, plainly or as a chat does."""
    for wrapping in ("function", "custom"):
        if isinstance(raw.get(wrapping), dict):
            raw, where = raw[wrapping], f"{where}.{wrapping}"
    name = check_name(raw.get("name"), f"{where}.name")
    namespace = raw.get("namespace")
    if not isinstance(namespace, str | None):
        raise invalid(f"{where}.namespace", "must be a string")
    function = loaded.box.function_of(name, namespace)
    if not any(tool["function"]["name"] == function for tool in loaded.functions):
        raise invalid(f"{where}.name", "must be the name of one of the tools")
    return function
