"""Tools, the choice among them, and the form of the answer: every dialect to OpenAI's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gateway.api.schemas.problems import invalid, missing, unsupported

Tool = dict[str, Any]
ToolChoice = str | dict[str, Any]

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_SCHEMA_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CHOICE_WORDS = {"none": "none", "auto": "auto", "required": "required", "any": "required"}  # "any": Anthropic's word
# What a JSON schema begins with, where it stands without OpenAI's wrapping.
_SCHEMA_KEYS = ("type", "properties", "$schema", "$ref", "$defs", "anyOf", "oneOf", "allOf", "enum", "items")


def load_tools(raw: Any, field: str = "tools") -> list[Tool]:
    """Return tools in the `{"type": "function", "function": {...}}` form.

    They come so, flat (Responses, and OpenAI's older `functions`), or as Anthropic's with an `input_schema`.

    :raises InvalidRequest: naming the tool; one that is no function is `unsupported_feature`.
    """
    if not isinstance(raw, list):
        raise invalid(field, "must be a list of tools")
    if {"type": "function"} in raw:  # of a flat one it would be the name
        raise missing(f"{field}[{raw.index({'type': 'function'})}].function")
    return [load_tool(tool, f"{field}[{index}]") for index, tool in enumerate(raw)]


def load_tool(tool: Any, where: str) -> Tool:
    """Return one tool, as `load_tools` does; `where` is its place, for errors."""
    if not isinstance(tool, dict):
        raise invalid(where, "must be an object with type and function")
    kind = tool.get("type")
    if kind not in (None, "function") and not (kind == "custom" and "input_schema" in tool):
        raise unsupported(f"{where}.type", "must be function: tools that a provider runs itself cannot be passed on")
    if "function" in tool:
        function = _load_function(tool["function"], f"{where}.function", "parameters")
        return tool if kind and function is tool["function"] else {**tool, "type": "function", "function": function}
    schema_key = "input_schema" if "input_schema" in tool else "parameters"
    keys = ("name", "description", schema_key, "strict")
    function = _load_function({key: tool[key] for key in keys if key in tool}, where, schema_key)
    return {"type": "function", "function": function}


def _load_function(function: Any, where: str, schema_key: str) -> dict[str, Any]:
    if not isinstance(function, dict):
        raise invalid(where, "must be an object with name and parameters")
    check_name(function.get("name"), f"{where}.name")
    for key, type_, expected in (
        ("description", str, "must be a string"),
        (schema_key, dict, "must be a JSON schema, an object"),
        ("strict", bool, "must be true or false"),
    ):
        if function.get(key) is not None and not isinstance(function[key], type_):
            raise invalid(f"{where}.{key}", expected)
    if schema_key == "parameters" and None not in function.values():
        return function
    return {"parameters" if key == schema_key else key: value for key, value in function.items() if value is not None}


def check_name(name: Any, param: str) -> str:
    """Return the name of a tool. :raises InvalidRequest: it is none that models could call it by."""
    if name is None:
        raise missing(param)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise invalid(param, "must be 1 to 128 of the characters A-Za-z0-9_.:-")
    return name


def load_tool_choice(raw: Any, tools: Sequence[Tool], field: str = "tool_choice") -> ToolChoice:
    """Return none, auto, required, or `{"type": "function", "function": {"name"}}` of a tool that there is.

    :raises InvalidRequest: another choice, or a name that no tool has.
    """
    kind = raw.get("type") if isinstance(raw, dict) else raw
    if isinstance(kind, str) and kind in _CHOICE_WORDS:
        return _CHOICE_WORDS[kind]
    if not isinstance(raw, dict):
        raise invalid(field, "must be none, auto, required, or an object that names a function")
    if kind not in (None, "function", "tool", "custom"):
        raise unsupported(f"{field}.type", "must be function, or none, auto or required")
    function, where = (raw["function"], f"{field}.function") if "function" in raw else (raw, field)
    if not isinstance(function, dict):
        raise invalid(where, "must be an object with a name")
    name = check_name(function.get("name"), f"{where}.name")
    if not any(tool["function"]["name"] == name for tool in tools):
        raise invalid(f"{where}.name", "must be the name of one of the tools")
    return {"type": "function", "function": {"name": name}}


def load_response_format(raw: Any, field: str = "response_format") -> dict[str, Any] | None:
    """Return the form asked for in OpenAI's shape, None for text.

    :raises InvalidRequest: a form or schema that is not one.
    """
    if not isinstance(raw, dict):
        raise invalid(field, "must be an object with a type")
    kind = raw.get("type")
    if kind is None:
        raise missing(f"{field}.type", ": use text, json_object or json_schema")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    if kind == "json_schema":
        return {"type": "json_schema", "json_schema": _load_json_schema(raw, field)}
    raise invalid(f"{field}.type", "must be text, json_object or json_schema")


def _load_json_schema(response_format: dict[str, Any], field: str) -> dict[str, Any]:
    where = f"{field}.json_schema"
    given = response_format.get("json_schema")
    if given is None and "schema" in response_format:  # flat, as in the Responses API
        keys = ("name", "description", "schema", "strict")
        given, where = {key: response_format[key] for key in keys if key in response_format}, field
    if given is None:
        raise missing(where, ": send {name, schema}")
    if not isinstance(given, dict):
        raise invalid(where, "must be an object with name and schema")
    if "schema" not in given and any(key in given for key in _SCHEMA_KEYS):
        return {"name": "response", "schema": given}
    if given.get("schema") is None:
        raise missing(f"{where}.schema")
    if not isinstance(given["schema"], dict):
        raise invalid(f"{where}.schema", "must be a JSON schema, an object")
    if not isinstance(given.get("strict"), bool | None):
        raise invalid(f"{where}.strict", "must be true or false")
    name = given.get("name") or "response"
    if not isinstance(name, str) or not _SCHEMA_NAME.fullmatch(name):
        raise invalid(f"{where}.name", "must be 1 to 64 of the characters A-Za-z0-9_-")
    return {key: value for key, value in {**given, "name": name}.items() if value is not None}
