"""Tools of the Responses API that are no plain functions, as functions: all that chat models know.

`custom` tools take a text in place of JSON, `namespace` tools are groups. What a model calls is mapped back by the
Toolbox of the request.
Formats: https://platform.openai.com/docs/api-reference/responses/create#responses-create-tools
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway import jsonio

LONGEST_NAME = 64  # that providers take for a function
# OpenAI's own models find every function in this namespace; Codex writes it down.
DEFAULT_NAMESPACE = "functions"

_UNFIT = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class ToolName:
    """What the client calls a tool, and of which kind it is."""

    name: str
    namespace: str | None = None
    kind: Literal["function", "custom"] = "function"


class Toolbox:
    """Which function stands for which of a request's tools."""

    def __init__(self) -> None:
        self._tools: dict[str, ToolName] = {}
        self._functions: dict[tuple[str | None, str], str] = {}

    def add(self, tool: ToolName) -> str:
        """Return the name of the function that stands for a tool from now on."""
        function = _function_name(tool.name, tool.namespace)
        if self._tools.get(function, tool) != tool:
            function = _shorten(f"{tool.namespace or tool.kind}__{tool.name}", always=True)
        self._tools[function] = tool
        self._functions[tool.namespace, tool.name] = function
        return function

    def tool_of(self, function: str) -> ToolName:
        """Return what a model called; a name that nobody has is passed on as it is."""
        return self._tools.get(function) or ToolName(function)

    def function_of(self, name: str, namespace: str | None) -> str:
        """Return the function of a tool, also of one that an earlier request had and this one has not."""
        return self._functions.get((namespace, name)) or _function_name(name, namespace)

    def functions_in(self, namespace: str) -> list[str]:
        return [function for (group, _), function in self._functions.items() if group == namespace]


def _function_name(name: str, namespace: str | None) -> str:
    if namespace is None or namespace == DEFAULT_NAMESPACE:
        return name
    return _shorten(f"{namespace}{'' if namespace.endswith('__') else '__'}{name}")


def _shorten(name: str, *, always: bool = False) -> str:
    """Return a name that providers take; one that had to be cut, or is another's too, ends in what tells it apart."""
    fitting = _UNFIT.sub("_", name)
    if len(fitting) <= LONGEST_NAME and not always:
        return fitting
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{fitting[: LONGEST_NAME - 9]}_{digest}"


# --- custom tools ------------------------------------------------------------------------------------------------------


def custom_function(name: str, description: str, grammar: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the function that stands for a custom tool: it takes the text as its only argument.

    No model is held to the grammar; it is told of it.
    """
    about = "The text itself, with nothing around it."
    if grammar:
        about += f" It has to follow this {grammar['syntax']} grammar:\n{grammar['definition']}"
    parameters = {
        "type": "object",
        "properties": {"input": {"type": "string", "description": about}},
        "required": ["input"],
        "additionalProperties": False,
    }
    return {"name": name, **({"description": description} if description else {}), "parameters": parameters}


def arguments_of(text: str) -> str:
    """Return a custom tool's input as the arguments of its function."""
    return jsonio.dumps({"input": text}).decode()


def input_of(arguments: str) -> str:
    """Return the text that a model gave to a custom tool's function, in whichever form it did."""
    reader = InputReader()
    return reader.feed(arguments) + reader.finish()


class InputReader:
    """Read the text out of `{"input": "..."}` while it comes, in whatever pieces."""

    _OPENING = re.compile(r'\s*\{\s*"input"\s*:\s*"')
    # As far as the text surely goes: half an escape waits for its rest, half of a surrogate pair for the other.
    _TEXT = re.compile(
        r'(?:[^"\\]+|\\[^u]|\\u(?![dD][89abAB])(?=.{4})|\\u(?=[dD][89abAB]..(?:[^\\]|\\[^u]|\\u.{4})))*+', re.DOTALL
    )
    _ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
    _PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
    _LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._rest = ""
        self._begun = False
        self._closed = False

    def feed(self, piece: str) -> str:
        """Return the text that is certain by now and was not before."""
        self._pieces.append(piece)
        if self._closed:
            return ""
        self._rest += piece
        if not self._begun:
            opening = self._OPENING.match(self._rest)
            if opening is None:
                return ""
            self._begun, self._rest = True, self._rest[opening.end() :]
        end = self._end_of_text()
        text, self._rest = self._rest[:end], self._rest[end:]
        self._closed = self._rest.startswith('"')
        return self._unescape(text)

    def finish(self) -> str:
        """Return the rest of the text, once all arguments have come. What is no such JSON at all is the text itself."""
        if self._begun:
            return "" if self._closed else self._unescape(self._rest)
        arguments = "".join(self._pieces)
        try:
            value = jsonio.loads_exactly(arguments)
        except ValueError:
            return arguments
        if isinstance(value, dict):
            value = value.get("input", next(iter(value.values())) if len(value) == 1 else value)
        return value if isinstance(value, str) else arguments

    def _end_of_text(self) -> int:
        found = self._TEXT.match(self._rest)
        return found.end() if found else 0

    def _unescape(self, text: str) -> str:
        if "\\" not in text:
            return text
        text = self._ESCAPE.sub(self._character, text)
        return self._PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)

    def _character(self, escape: re.Match[str]) -> str:
        code = escape[1]
        # A backslash before anything else was meant as one: models forget to double it in patterns and paths.
        return chr(int(code[1:], 16)) if len(code) == 5 else self._LETTERS.get(code, escape[0])
