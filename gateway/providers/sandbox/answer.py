"""What is answered: thoughts and text in pieces of a token each, or a call of the first tool."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway import jsonio
from gateway.domain import ChatRequest, Model
from gateway.errors import UpstreamRejected
from gateway.providers.base import Chunk
from gateway.providers.sandbox.examples import Examples
from gateway.providers.sandbox.faults import CUT, SLOW, STALL

ECHO = "sandbox/echo"
TEXT_ONLY = frozenset({ECHO, SLOW, CUT, STALL})  # these call a tool only if they must

QUOTED_CHARS = 1000  # of what the user said
WORDS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice of a reply: thoughts and text in pieces of a token each, or a tool call."""

    thoughts: Sequence[str]
    text: Sequence[str]
    call: Mapping[str, Any] | None
    finish_reason: str

    @property
    def tokens(self) -> int:
        return len(self.thoughts) + len(self.text) + (len(self._arguments) + 1 if self.call else 0)

    @property
    def _arguments(self) -> list[str]:
        return split_tokens(self.call["function"]["arguments"]) if self.call else []

    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None if self.call else "".join(self.text)}
        if self.thoughts:
            message["reasoning_content"] = "".join(self.thoughts)
        if self.call:
            message["tool_calls"] = [dict(self.call)]
        return message

    def deltas(self) -> list[dict[str, Any]]:
        deltas: list[dict[str, Any]] = [{"reasoning_content": piece} for piece in self.thoughts]
        deltas += [{"content": piece} for piece in self.text]
        if self.call:
            function = {"name": self.call["function"]["name"], "arguments": ""}
            deltas.append({"tool_calls": [{**self.call, "index": 0, "function": function}]})
            deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in self._arguments]
        return [{"role": "assistant", **delta} if number == 0 else delta for number, delta in enumerate(deltas)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """All choices of one request, with what a completion and its chunks have in common."""

    id: str
    created: int
    model: str
    prompt_tokens: int
    answers: tuple[Answer, ...]

    @property
    def usage(self) -> dict[str, Any]:
        completion_tokens = sum(answer.tokens for answer in self.answers)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
            "completion_tokens_details": {"reasoning_tokens": sum(len(answer.thoughts) for answer in self.answers)},
        }

    def completion(self) -> dict[str, Any]:
        choices = [
            {"index": index, "message": answer.message(), "logprobs": None, "finish_reason": answer.finish_reason}
            for index, answer in enumerate(self.answers)
        ]
        return self._object("chat.completion", choices=choices, usage=self.usage)

    def arrivals(self) -> list[list[Chunk]]:
        """Return the chunks of a stream in the groups in which they arrive; the last has the end and the usage."""
        chunks = [
            self._chunk([{"index": index, "delta": delta, "finish_reason": None}])
            for index, answer in enumerate(self.answers)
            for delta in answer.deltas()
        ]
        groups = [chunks[start : start + WORDS_AT_ONCE] for start in range(0, len(chunks), WORDS_AT_ONCE)]
        ends = [{"index": index, "delta": {}, "finish_reason": answer.finish_reason} for index, answer in enumerate(self.answers)]
        return [*groups, [self._chunk(ends, usage=self.usage)]]

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> Chunk:
        return self._object("chat.completion.chunk", choices=choices, **more)

    def _object(self, kind: str, **more: Any) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, **more}


def build_answer(request: ChatRequest, model: Model) -> Answer:
    """Return a tool call, or thoughts and text as far as `max_output_tokens` goes. A call is never cut.

    :raises UpstreamRejected: a JSON schema of the request cannot be met.
    """
    thoughts = split_tokens(_thoughts(request, model))
    tool = _tool_to_call(request, model.id)
    if tool is not None:
        return Answer(thoughts, (), _build_call(tool), "tool_calls")
    text = split_tokens(_cut_at_stop(_text(request, model), request.body.get("stop")))
    limit = request.max_output_tokens
    if limit is None or len(thoughts) + len(text) <= limit:
        return Answer(thoughts, text, None, "stop")
    return Answer(thoughts[:limit], text[: max(0, limit - len(thoughts))], None, "length")


def _thoughts(request: ChatRequest, model: Model) -> str:
    if not model.reasons or request.reasoning_effort in (None, "none"):
        return ""
    return f"The sandbox does not think. A model would do so here, with the effort {request.reasoning_effort}."


def _text(request: ChatRequest, model: Model) -> str:
    wanted = _mapping(request.body.get("response_format"))
    schema = _mapping(wanted.get("json_schema")).get("schema")
    if wanted.get("type") == "json_schema" and schema is not None:
        return _json(_example_of(schema, "response_format"))
    speech = _speech(request, model)
    if wanted.get("type") in ("json_object", "json_schema"):
        return _json({"sandbox": True, "message": speech})
    return speech


def _speech(request: ChatRequest, model: Model) -> str:
    if model.id.startswith("sandbox/"):
        opening = "This is the sandbox of the gateway: no provider was called."
    else:
        opening = f"This is the sandbox of the gateway: no provider is configured, so {model.id} was not asked."
    last = request.messages[-1]
    if last.get("role") == "tool":
        return f"{opening} The tool answered: {_quote(text_of(last))}"
    said = next((message for message in reversed(request.messages) if message.get("role") == "user"), last)
    return f"{opening} You said: {_quote(text_of(said))}"


def _quote(text: str) -> str:
    return text if len(text) <= QUOTED_CHARS else text[:QUOTED_CHARS] + "…"


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message; parts that are no text are left out."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if isinstance(part.get("text"), str))


def split_tokens(text: str) -> list[str]:
    """Cut a text into what counts as a token here: a word with the space before it, long words in several."""
    return re.findall(r"\s*\S{1,8}|\s+", text)


def _cut_at_stop(text: str, stop: str | Sequence[str] | None) -> str:
    marks = [stop] if isinstance(stop, str) else stop or []
    places = [text.find(mark) for mark in marks if isinstance(mark, str) and mark]
    return text[: min((place for place in places if place >= 0), default=len(text))]


def _json(value: Any) -> str:
    return jsonio.dumps(value).decode()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


# --- tools ---------------------------------------------------------------------------------------------------------


def _tool_to_call(request: ChatRequest, model_id: str) -> Mapping[str, Any] | None:
    tools: list[Mapping[str, Any]] = [tool["function"] for tool in request.body.get("tools") or () if "function" in tool]
    choice = request.body.get("tool_choice") or "auto"
    if not tools or choice == "none":
        return None
    if isinstance(choice, Mapping):
        name = _mapping(choice.get("function")).get("name")
        return next((tool for tool in tools if tool["name"] == name), tools[0])
    if choice == "required":
        return tools[0]
    answers_in_text = model_id in TEXT_ONLY or request.messages[-1].get("role") == "tool"
    return None if answers_in_text else tools[0]


def _build_call(tool: Mapping[str, Any]) -> dict[str, Any]:
    arguments = _example_of({"type": "object", **_mapping(tool.get("parameters"))}, "tools")
    function = {"name": tool["name"], "arguments": _json(arguments)}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def _example_of(schema: Any, param: str) -> Any:
    try:
        return Examples(schema).make(schema)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:  # a schema that is none
        message = f"The sandbox cannot make a value for a JSON schema in `{param}`: check its types and references."
        raise UpstreamRejected(message, upstream_status=400, param=param) from error
