"""The fields of a request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from marshmallow import fields

from gateway.api.schemas.anthropic.tools import load_format, load_tools
from gateway.api.schemas.anthropic.turns import Turns, load_turns
from gateway.api.schemas.chat import EFFORTS
from gateway.api.schemas.envelope import (
    MAX_INTEGER,
    EnvelopeSchema,
    Flag,
    Headers,
    Object,
    TextOrTexts,
    load_envelope,
    number,
    one_of,
    take_choice,
    take_project_id,
    whole,
)
from gateway.api.schemas.messages import UNWRITABLE, write_json
from gateway.api.schemas.problems import invalid
from gateway.domain import REASONING_LEVELS, ChatRequest, ReasoningEffort
from gateway.routing.tokens import estimate_messages, estimate_text
from gateway.surfaces.messages import Terms

# The most tokens of thoughts that are little, and some; what is more is much. Clients' usual budgets are 1,024 (the least
# there is), 4,000, 10,000 and 32,000.
LITTLE_THOUGHT_TOKENS = 4096
SOME_THOUGHT_TOKENS = 16384

LONGEST_USER = 64  # characters that providers take; clients put accounts and sessions into one

# What is no loss where nobody takes it: it steers the price, the place and the cache of Anthropic's own servers.
_NO_LOSS = frozenset(
    {"anthropic_beta", "anthropic_version", "betas", "cache_control", "diagnostics", "inference_geo", "service_tier"}
)


class MessagesSchema(EnvelopeSchema):
    """The fields around a conversation. What they hold is read by hand."""

    models = TextOrTexts(only_list=True, metadata={"description": "Models to try, in this order."})
    min_reasoning_level = one_of(REASONING_LEVELS, "The lowest `reasoning_tier` of the models that may answer.")
    max_tokens = whole(-1, MAX_INTEGER, "The longest answer, in tokens; absent and -1 are no limit.")
    messages = fields.Raw(required=True, metadata={"description": "The conversation, as objects with `role` and `content`."})
    system = fields.Raw(metadata={"description": "What the model is told before: a text, or text blocks."})
    stream = Flag(metadata={"description": "Send the answer as it is written, as server-sent events."})
    temperature = number(0, 2, "How freely to choose words.")
    top_p = number(0, 1, "The share of likely words to choose from.")
    top_k = whole(-1, MAX_INTEGER, "From how many of the likeliest words to choose.")
    stop_sequences = TextOrTexts(metadata={"description": "Where to stop."})
    tools = fields.Raw(metadata={"description": "Functions that the model may call, with `input_schema`."})
    tool_choice = Object(metadata={"description": "`type`: auto, any, none, or tool with a `name`."})
    thinking = Object(metadata={"description": "`type`: enabled with `budget_tokens`, adaptive or disabled."})
    reasoning_effort = one_of(tuple(EFFORTS), "How long to think before the answer.")
    output_config = Object(metadata={"description": "`effort`, and `format` with a JSON schema."})
    output_format = Object(metadata={"description": "The older place of `output_config.format`."})
    metadata = Object(metadata={"description": "`user_id`: the caller's own name for the end user."})


_SCHEMA = MessagesSchema()


class MessageRequest(NamedTuple):
    """What is dispatched, and what its answer looks like."""

    chat: ChatRequest
    terms: Terms


def load_message_request(body: Mapping[str, Any], headers: Headers) -> MessageRequest:
    """Return a client's request in canonical form. `body` is not changed.

    :raises InvalidRequest: with the field at fault in `param`.
    """
    envelope = load_envelope(_SCHEMA, body)
    choice = take_choice(envelope, headers)
    project_id = take_project_id(envelope, headers)
    max_output_tokens = _take_max_tokens(envelope)
    turns = load_turns(envelope.pop("system", None), envelope.pop("messages", None))
    thinking = _take_thinking(envelope)
    reasoning_effort = _take_effort(envelope, thinking)
    stops = _take_stops(envelope)
    more, dropped = _take_options(envelope)
    chat = ChatRequest(
        body={"messages": turns.messages, **more, **({"stop": list(stops)} if stops else {})},
        choice=choice,
        stream=envelope.pop("stream", False),
        include_usage=True,
        max_output_tokens=max_output_tokens,
        reasoning_effort=reasoning_effort,
        needs=frozenset(turns.needs | _needs_of(more)),
        prompt_tokens=_estimate(turns, more),
        project_id=project_id,
        dropped=(*dropped, *(name for name, value in envelope.items() if _is_loss(name, value))),
    )
    terms = Terms(
        shows_thoughts=thinking.get("type") not in (None, "disabled") and thinking.get("display") != "omitted",
        stop_sequences=stops,
        prefill=turns.prefill,
        prompt_tokens=chat.prompt_tokens,
    )
    return MessageRequest(chat, terms)


def _take_max_tokens(envelope: dict[str, Any]) -> int | None:
    """Return the limit on the answer, None for none. Clients send 0 to warm up a cache and want no answer: the least is 1."""
    limit = envelope.pop("max_tokens", -1)
    return None if limit < 0 else max(1, limit)


def _take_thinking(envelope: dict[str, Any]) -> dict[str, Any]:
    thinking: dict[str, Any] = envelope.pop("thinking", {})
    kind = thinking.get("type")
    if not isinstance(kind, str | None):
        raise invalid("thinking.type", "must be enabled, adaptive or disabled")
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int | None) or isinstance(budget, bool):
        raise invalid("thinking.budget_tokens", "must be a whole number")
    return thinking


def _take_effort(envelope: dict[str, Any], thinking: Mapping[str, Any]) -> ReasoningEffort | None:
    """Return how long to think: as the request says in words, else by its budget, None for the model's own choice."""
    config: dict[str, Any] = envelope.get("output_config", {})
    effort = config.get("effort")
    if effort is not None and (not isinstance(effort, str) or effort not in EFFORTS):
        raise invalid("output_config.effort", "must be one of " + ", ".join(EFFORTS))
    effort = envelope.pop("reasoning_effort", effort)
    if thinking.get("type") == "disabled":
        return "none"
    if effort is not None:
        return EFFORTS[effort]
    budget = thinking.get("budget_tokens")
    if budget is None or thinking.get("type") != "enabled":
        return None
    return "low" if budget <= LITTLE_THOUGHT_TOKENS else "medium" if budget <= SOME_THOUGHT_TOKENS else "high"


def _take_stops(envelope: dict[str, Any]) -> tuple[str, ...]:
    stops = envelope.pop("stop_sequences", [])
    return tuple(stop for stop in ([stops] if isinstance(stops, str) else stops) if stop)


def _take_options(envelope: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what a chat's body has beside messages, and the names of what no chat can be told."""
    more: dict[str, Any] = {name: envelope.pop(name) for name in ("temperature", "top_p", "top_k") if name in envelope}
    tools = load_tools(envelope.pop("tools", []), envelope.pop("tool_choice", None))
    if tools.loaded:
        more["tools"] = tools.loaded
    if tools.choice is not None:
        more["tool_choice"] = tools.choice
    if tools.parallel is not None:
        more["parallel_tool_calls"] = tools.parallel
    config = envelope.pop("output_config", {})
    wanted = load_format(config.get("format"), "output_config.format")
    wanted = load_format(envelope.pop("output_format", None), "output_format") or wanted
    if wanted is not None:
        more["response_format"] = wanted
    if user := _take_user(envelope):
        more["user"] = user
    return more, [f"tools.{name}" for name in tools.dropped]


def _take_user(envelope: dict[str, Any]) -> str | None:
    """Return the caller's name for the end user. One that is too long for providers is told by its hash."""
    user = envelope.pop("metadata", {}).get("user_id", envelope.pop("user", None))
    if not isinstance(user, str | None):
        raise invalid("metadata.user_id", "must be a string")
    return hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest() if user and len(user) > LONGEST_USER else user


def _is_loss(name: str, value: Any) -> bool:
    """Whether a field that is left out would have changed anything."""
    if name == "context_management" and isinstance(value, dict):
        edits = value.get("edits") or []
        # Thoughts of earlier turns are left out in any case.
        return not all(isinstance(edit, dict) and str(edit.get("type")).startswith("clear_thinking") for edit in edits)
    return name not in _NO_LOSS


def _needs_of(more: Mapping[str, Any]) -> set[str]:
    return {need for name, need in (("tools", "tools"), ("response_format", "json_schema")) if name in more}


def _estimate(turns: Turns, more: Mapping[str, Any]) -> int:
    schema = more.get("response_format")
    try:
        tokens = estimate_messages(turns.messages, more.get("tools"))
    except (ValueError, RecursionError):
        raise invalid("tools", UNWRITABLE) from None
    return tokens + (estimate_text(write_json(schema, "output_config.format.schema")) if schema else 0)
