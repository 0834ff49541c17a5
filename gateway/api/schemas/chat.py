"""Chat requests: every dialect that clients speak to one canonical ChatRequest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import fields

from gateway.api.schemas.anthropic.mixed import has_tool_blocks, load_mixed_messages
from gateway.api.schemas.custom import as_functions, custom_names, with_arguments
from gateway.api.schemas.envelope import (
    MAX_INTEGER,
    EnvelopeSchema,
    Flag,
    Headers,
    Object,
    Text,
    TextOrTexts,
    load_envelope,
    number,
    one_of,
    take_choice,
    take_project_id,
    whole,
)
from gateway.api.schemas.messages import UNWRITABLE, Conversation, load_messages, load_prompt, write_json
from gateway.api.schemas.problems import invalid, missing
from gateway.api.schemas.responses.items import converse, read_items
from gateway.api.schemas.tools import Tool, load_response_format, load_tool_choice, load_tools
from gateway.domain import REASONING_LEVELS, ChatRequest, ReasoningEffort
from gateway.routing.tokens import estimate_messages, estimate_text
from gateway.surfaces.responses.tools import Toolbox

# The words of clients for the gateway's levels. None: as the model does by itself.
EFFORTS: dict[str, ReasoningEffort | None] = {
    "none": "none",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
    "auto": None,
}


class GenerationSchema(EnvelopeSchema):
    """What steers the writing of any text, by the names that OpenAI's APIs share."""

    models = TextOrTexts(only_list=True, metadata={"description": "Models to try, in this order."})
    min_reasoning_level = one_of(REASONING_LEVELS, "The lowest `reasoning_tier` of the models that may answer.")
    stream = Flag(metadata={"description": "Send the answer as it is written, as server-sent events."})
    temperature = number(0, 2, "How freely to choose words.")
    top_p = number(0, 1, "The share of likely words to choose from.")
    frequency_penalty = number(-2, 2, "Avoid words the more often they stand there.")
    presence_penalty = number(-2, 2, "Avoid words that stand there.")
    n = whole(1, 128, "How many answers to write.")
    seed = whole(-MAX_INTEGER, MAX_INTEGER, "Makes answers repeatable where a model can.")
    logprobs = Flag(metadata={"description": "Return the probabilities of words."})
    top_logprobs = whole(0, 20, "For how many alternatives of each word.")
    logit_bias = Object(metadata={"description": "Make tokens, by their number, likelier or less so."})
    stop = TextOrTexts(metadata={"description": "Where to stop: a text or several."})
    parallel_tool_calls = Flag(metadata={"description": "Whether several calls may stand in one answer."})


class ChatSchema(GenerationSchema):
    """The fields around a conversation. Messages, tools and the answer's form are read by hand: no object for each.

    What the Responses API calls otherwise is read too: Cursor sends its bodies here.
    """

    messages = fields.Raw(
        required=True, metadata={"description": "The conversation; a `prompt` or an `input` may stand in its place."}
    )
    stream_options = fields.Raw(metadata={"description": "`include_usage`: end the stream with the tokens used."})
    max_completion_tokens = whole(-1, MAX_INTEGER, "The longest answer, in tokens; -1 and 0 are no limit.")
    max_tokens = whole(-1, MAX_INTEGER, "The older name of `max_completion_tokens`.")
    max_output_tokens = whole(-1, MAX_INTEGER, "The Responses API's name of `max_completion_tokens`.")
    instructions = Text(metadata={"description": "What stands before the conversation, as the system's word."})
    text = Object(metadata={"description": "`format`: the same as `response_format`; `verbosity`: low, medium or high."})
    reasoning_effort = one_of(tuple(EFFORTS), "How long to think before the answer.")
    reasoning = Object(metadata={"description": "`effort`: the same as `reasoning_effort`."})
    tools = fields.Raw(metadata={"description": "Functions that the model may call."})
    tool_choice = fields.Raw(metadata={"description": "none, auto, required, or the function to call."})
    response_format = fields.Raw(metadata={"description": "text, json_object, or json_schema with a schema."})


_SCHEMA = ChatSchema()


def load_chat(body: Mapping[str, Any], headers: Headers) -> ChatRequest:
    """Return a client's request in canonical form. `body` is not changed.

    :raises InvalidRequest: with the field at fault in `param`.
    """
    envelope = load_envelope(_SCHEMA, body)
    choice = take_choice(envelope, headers)
    project_id = take_project_id(envelope, headers)
    envelope.pop("route", None)  # OpenRouter's word for trying `models` in order, which happens anyway
    conversation, left_out = _take_conversation(envelope)
    if customs := custom_names(body):
        conversation.messages = with_arguments(conversation.messages, customs)
    tools = _take_tools(envelope)
    schema = _take_response_format(envelope)
    stream, include_usage = _take_stream(envelope)
    max_output_tokens = _take_max_tokens(envelope)
    reasoning_effort = _take_reasoning(envelope)
    if envelope.get("stop") == []:
        del envelope["stop"]
    return ChatRequest(
        body={"messages": conversation.messages, **envelope},
        choice=choice,
        stream=stream,
        include_usage=include_usage,
        max_output_tokens=max_output_tokens,
        reasoning_effort=reasoning_effort,
        needs=frozenset(conversation.needs | needs_of(envelope)),
        prompt_tokens=estimate_prompt(conversation, tools) + estimate_text(schema),
        project_id=project_id,
        dropped=tuple(left_out),
    )


def _take_conversation(envelope: dict[str, Any]) -> tuple[Conversation, list[str]]:
    """Return the conversation, wherever it stands, and the kinds of items that were left out of it."""
    instructions = envelope.pop("instructions", None)
    conversation, left_out = _read_conversation(envelope)
    if instructions:
        conversation.messages.insert(0, {"role": "system", "content": instructions})
    return conversation, left_out


def _read_conversation(envelope: dict[str, Any]) -> tuple[Conversation, list[str]]:
    messages, prompt, input_ = (envelope.pop(name, None) for name in ("messages", "prompt", "input"))
    if messages is not None:
        return (load_mixed_messages(messages) if has_tool_blocks(messages) else load_messages(messages)), []
    if prompt is not None:
        return load_prompt(prompt), []
    if input_ is not None:
        return converse(read_items(input_), None, Toolbox())
    raise missing("messages", ": send a list of objects with role and content")


def _take_tools(envelope: dict[str, Any]) -> list[Tool]:
    """Put tools, with what goes with them, into their canonical envelope; OpenAI's older names become the newer ones."""
    tools, functions = envelope.pop("tools", []), envelope.pop("functions", [])
    choice, function_call = envelope.pop("tool_choice", None), envelope.pop("function_call", None)
    parallel = envelope.pop("parallel_tool_calls", None)
    loaded = load_tools(functions, "functions") if functions and tools == [] else load_tools(as_functions(tools))
    if not loaded:
        return []
    envelope["tools"] = loaded
    if choice is not None:
        envelope["tool_choice"] = load_tool_choice(choice, loaded)
    elif function_call is not None:
        envelope["tool_choice"] = load_tool_choice(function_call, loaded, "function_call")
    if parallel is not None:
        envelope["parallel_tool_calls"] = parallel
    return loaded


def estimate_prompt(conversation: Conversation, tools: list[Tool]) -> int:
    """Return about how many tokens a conversation and its tools have. :raises InvalidRequest: a tool cannot be written."""
    try:
        return estimate_messages(conversation.messages, tools)
    except (ValueError, RecursionError):
        raise invalid("tools", UNWRITABLE) from None


def put_response_format(body: dict[str, Any], raw: Any, field: str = "response_format") -> str:
    """Put the answer's form, where there is one, into its canonical field, and return the schema's text, "" without one."""
    wanted = None if raw is None else load_response_format(raw, field)
    if wanted is None:
        return ""
    body["response_format"] = wanted
    schema = wanted.get("json_schema")
    where = field if "schema" in raw else f"{field}.json_schema"
    return write_json(schema["schema"], f"{where}.schema") if schema else ""


def _take_response_format(envelope: dict[str, Any]) -> str:
    """Put the answer's form into its canonical field; return the schema's text, "" without one."""
    wanted, text = envelope.pop("response_format", None), envelope.pop("text", {})
    if text.get("verbosity") is not None:
        envelope.setdefault("verbosity", text["verbosity"])
    if wanted is None:
        return put_response_format(envelope, text.get("format"), "text.format")
    return put_response_format(envelope, wanted)


def _take_stream(envelope: dict[str, Any]) -> tuple[bool, bool]:
    """Return whether to stream, and whether to tell the usage at the end."""
    stream, options = envelope.pop("stream", False), envelope.pop("stream_options", None)
    if not stream or options is None:
        return stream, False
    if not isinstance(options, dict):
        raise invalid("stream_options", "must be an object")
    include_usage = options.get("include_usage")
    if not isinstance(include_usage, bool | None):
        raise invalid("stream_options.include_usage", "must be true or false")
    return True, bool(include_usage)


def _take_max_tokens(envelope: dict[str, Any]) -> int | None:
    limits = [envelope.pop(name, 0) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens")]
    return next((limit for limit in limits if limit > 0), None)


def _take_reasoning(envelope: dict[str, Any]) -> ReasoningEffort | None:
    """Return the effort asked for, None for the model's own. What else `reasoning` says stays for providers that know it."""
    reasoning = envelope.pop("reasoning", {})  # a copy: marshmallow makes one of every object
    effort = reasoning.pop("effort", None)
    if effort is not None and (not isinstance(effort, str) or effort not in EFFORTS):
        raise invalid("reasoning.effort", "must be one of " + ", ".join(EFFORTS))
    if reasoning.get("enabled") is False:
        effort = "none"
    if any(value is not None for value in reasoning.values()):
        envelope["reasoning"] = reasoning
    return EFFORTS[envelope.pop("reasoning_effort", effort or "auto")]


def needs_of(envelope: Mapping[str, Any]) -> set[str]:
    """Return what a chat's canonical fields, beside its messages, need of a model."""
    needs = {"tools"} if "tools" in envelope else set()
    if "response_format" in envelope:
        needs.add("json_schema" if envelope["response_format"]["type"] == "json_schema" else "json_mode")
    return needs
