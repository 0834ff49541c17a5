"""Responses requests: checked, made a chat that any model can be asked, and what the answer repeats of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import fields

from gateway.api.schemas.chat import EFFORTS, GenerationSchema, estimate_prompt, needs_of, put_response_format
from gateway.api.schemas.envelope import (
    MAX_INTEGER,
    Flag,
    Headers,
    Object,
    Text,
    TextOrTexts,
    load_envelope,
    one_of,
    take_choice,
    take_project_id,
    whole,
)
from gateway.api.schemas.problems import invalid, missing, unsupported
from gateway.api.schemas.responses.items import added_tools, converse, read_items
from gateway.api.schemas.responses.tools import LoadedTools, load_response_choice, load_response_tools
from gateway.domain import ChatRequest, ReasoningEffort
from gateway.routing.tokens import estimate_text
from gateway.surfaces.responses.request import ResponseRequest

SUMMARIES = ("auto", "concise", "detailed")
VERBOSITIES = ("low", "medium", "high")
LOGPROBS = "message.output_text.logprobs"  # the only word of `include` that a chat can be told


class ResponsesSchema(GenerationSchema):
    """The fields around the input. Items, tools and the answer's form are read by hand."""

    input = fields.Raw(required=True, metadata={"description": "A text, or the conversation as items."})
    instructions = Text(metadata={"description": "What stands before the conversation, as the system's word."})
    max_output_tokens = whole(-1, MAX_INTEGER, "The longest answer, thoughts included, in tokens.")
    reasoning = Object(metadata={"description": "`effort`: how long to think before the answer."})
    reasoning_effort = one_of(tuple(EFFORTS), "The same as `reasoning.effort`.")
    text = Object(metadata={"description": "`format` of the answer: text, json_object, or json_schema with a schema."})
    tools = fields.Raw(metadata={"description": "Functions, custom tools and namespaces of them."})
    tool_choice = fields.Raw(metadata={"description": "none, auto, required, the tool to call, or those allowed."})
    max_tool_calls = whole(0, MAX_INTEGER, "Tolerated: it counts hosted tools, of which there are none.")
    metadata = Object(metadata={"description": "Texts that the answer repeats."})
    include = TextOrTexts(only_list=True, metadata={"description": f"{LOGPROBS}; others have nothing to include."})
    truncation = one_of(("auto", "disabled"), "Tolerated: a conversation is never cut.")
    service_tier = Text(metadata={"description": "Passed on where a provider takes it."})
    store = Flag(metadata={"description": "Tolerated: nothing is stored."})
    background = Flag(metadata={"description": "Only false: an answer waits for nobody."})
    safety_identifier = Text(metadata={"description": "Tolerated, and repeated."})
    prompt_cache_key = Text(metadata={"description": "Tolerated, and repeated."})


_SCHEMA = ResponsesSchema()

_INSTEAD = "cannot be used: nothing is stored here (`store: false`)."
_STORED = {
    "previous_response_id": f"{_INSTEAD} Send the whole conversation in `input`, the items of earlier answers included",
    "conversation": f"{_INSTEAD} Send the whole conversation in `input`, the items of earlier answers included",
    "prompt": f"{_INSTEAD} Send the prompt's text as `instructions` or in `input`",
    "background": f"{_INSTEAD} Leave it out, and wait for the answer or read it as a stream",
}
# A chat's names for what has another here.
_MOVED = {
    "messages": "input",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "functions": "tools",
    "function_call": "tool_choice",
}
# Hints for OpenAI's own servers, without which an answer is the same.
_HINTS = (
    *("stream_options", "prompt_cache_options", "prompt_cache_retention", "access_programs", "image", "background_options"),
    "client_metadata",  # Codex's own
)
# What changes an answer there, and has no counterpart in a chat.
_LOST = ("moderation", "context_management")


def load_response(body: Mapping[str, Any], headers: Headers) -> ResponseRequest:
    """Return a client's request in canonical form. `body` is not changed.

    :raises InvalidRequest: with the field at fault in `param`.
    """
    envelope = load_envelope(_SCHEMA, body)
    _refuse_others(envelope)
    choice, project_id = take_choice(envelope, headers), take_project_id(envelope, headers)
    lost = _take_lost(envelope)
    asked = {name: envelope.pop(name, None) for name in (*_TAKEN, *_HINTS)}
    if asked["input"] is None:
        raise missing("input", ": send a text, or a list of items")
    items = read_items(asked["input"])
    tools = load_response_tools([("tools", asked["tools"] or []), *added_tools(items)])
    shown_choice = _put_tools(envelope, tools, asked)
    conversation, left_out = converse(items, asked["instructions"], tools.box)
    schema = _put_text(envelope, asked["text"] or {})
    _put_logprobs(envelope, asked)
    limit = asked["max_output_tokens"] or 0
    chat = ChatRequest(
        body={"messages": conversation.messages, **envelope},  # no `messages` of the client's: see _MOVED
        choice=choice,
        stream=bool(asked["stream"]),
        include_usage=True,
        max_output_tokens=limit if limit > 0 else None,
        reasoning_effort=_read_effort(asked["reasoning"] or {}, asked["reasoning_effort"]),
        needs=frozenset(conversation.needs | needs_of(envelope)),
        prompt_tokens=estimate_prompt(conversation, tools.functions) + estimate_text(schema),
        project_id=project_id,
        dropped=tuple(dict.fromkeys([*tools.dropped, *left_out, *lost, *_unmet(asked, tools)])),
    )
    echo = _echo(asked, envelope, chat, tools.shown, shown_choice)
    return ResponseRequest(chat=chat, tools=tools.box, echo=echo, carries=asked["store"] is not False)


# What a chat is told otherwise, or not at all. All other fields are as a chat has them, and ride along.
_TAKEN = (
    *("input", "instructions", "stream", "max_output_tokens", "reasoning", "text", "tools", "tool_choice", "include"),
    *("parallel_tool_calls", "top_logprobs", "max_tool_calls", "metadata", "truncation", "store", "background"),
    *("safety_identifier", "prompt_cache_key", "reasoning_effort"),
)


def _refuse_others(envelope: dict[str, Any]) -> None:
    """Refuse what is another API's, and what would need a store."""
    for name, here in _MOVED.items():
        if name in envelope:
            raise invalid(name, f"is called `{here}` in this API")
    for name, why in _STORED.items():
        if envelope.get(name):
            raise unsupported(name, why)
        if name != "background":
            envelope.pop(name, None)


def _take_lost(envelope: dict[str, Any]) -> list[str]:
    lost = [name for name in _LOST if envelope.pop(name, None)]
    return lost if envelope.pop("n", 1) == 1 else [*lost, "n"]


def _unmet(asked: Mapping[str, Any], tools: LoadedTools) -> list[str]:
    """Return the fields whose wish is not granted, though nothing is refused for it."""
    unmet = [name for name, wish in (("truncation", "auto"), ("store", True)) if asked[name] == wish]
    called_none = tools.dropped and not tools.functions and asked["tool_choice"] in ("required", "any")
    return [*unmet, "tool_choice"] if called_none else unmet


def _put_tools(envelope: dict[str, Any], tools: LoadedTools, asked: Mapping[str, Any]) -> Any:
    """Put tools, with what goes with them, where a chat has them; return the choice as the answer repeats it."""
    choice, shown = (None, "auto") if asked["tool_choice"] is None else load_response_choice(asked["tool_choice"], tools)
    if tools.functions:
        envelope["tools"] = tools.functions
        if choice is not None:
            envelope["tool_choice"] = choice
        if asked["parallel_tool_calls"] is not None:
            envelope["parallel_tool_calls"] = asked["parallel_tool_calls"]
    return shown


def _put_text(envelope: dict[str, Any], text: Mapping[str, Any]) -> str:
    """Put the answer's form and length where a chat has them; return the schema's text, "" without one."""
    verbosity = text.get("verbosity")
    if verbosity is not None:
        _check_word(verbosity, VERBOSITIES, "text.verbosity")
        envelope["verbosity"] = verbosity
    return put_response_format(envelope, text.get("format"), "text.format")


def _put_logprobs(envelope: dict[str, Any], asked: Mapping[str, Any]) -> None:
    if LOGPROBS in (asked["include"] or ()) or asked["top_logprobs"]:
        envelope["logprobs"] = True
        if asked["top_logprobs"]:
            envelope["top_logprobs"] = asked["top_logprobs"]


def _read_effort(reasoning: Mapping[str, Any], alias: str | None) -> ReasoningEffort | None:
    effort, summary = reasoning.get("effort") or alias, reasoning.get("summary")
    if effort is not None:
        _check_word(effort, tuple(EFFORTS), "reasoning.effort")
    if summary is not None:
        _check_word(summary, SUMMARIES, "reasoning.summary")
    return None if effort is None else EFFORTS[effort]


def _check_word(value: Any, words: tuple[str, ...], param: str) -> None:
    if value not in words:
        raise invalid(param, "must be one of " + ", ".join(words))


def _read_metadata(raw: Mapping[str, Any] | None) -> dict[str, str]:
    metadata = dict(raw or {})
    if not all(isinstance(value, str) for value in metadata.values()):
        raise invalid("metadata", "must have strings as values")
    return metadata


# --- what the answer repeats -------------------------------------------------------------------------------------------


def _echo(
    asked: Mapping[str, Any], envelope: Mapping[str, Any], chat: ChatRequest, tools: list[dict[str, Any]], choice: Any
) -> dict[str, Any]:
    """Return the parameters of an answer, with OpenAI's defaults for those that were left out."""
    reasoning, text = asked["reasoning"] or {}, asked["text"] or {}
    return {
        "background": False,
        "instructions": asked["instructions"],
        "max_output_tokens": chat.max_output_tokens,
        "max_tool_calls": asked["max_tool_calls"],
        "metadata": _read_metadata(asked["metadata"]),
        "parallel_tool_calls": asked["parallel_tool_calls"] is not False,
        "previous_response_id": None,
        "prompt_cache_key": asked["prompt_cache_key"],
        "reasoning": {"effort": chat.reasoning_effort, "summary": reasoning.get("summary")},
        "safety_identifier": asked["safety_identifier"],
        "service_tier": "default",
        "store": False,
        "temperature": envelope.get("temperature", 1.0),
        "text": {"format": _shown_format(envelope.get("response_format")), "verbosity": text.get("verbosity") or "medium"},
        "tool_choice": choice,
        "tools": tools,
        "top_logprobs": asked["top_logprobs"] or 0,
        "top_p": envelope.get("top_p", 1.0),
        "truncation": "disabled",
        "user": envelope.get("user"),
    }


def _shown_format(response_format: Mapping[str, Any] | None) -> dict[str, Any]:
    if response_format is None:
        return {"type": "text"}
    if response_format["type"] != "json_schema":
        return dict(response_format)
    schema = response_format["json_schema"]
    return {"type": "json_schema", "description": None, "strict": False, **schema}
