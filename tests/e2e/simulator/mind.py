"""What the simulated models say: deterministic, the same at every provider, and only as clever as tests need.

They echo the last user text, call the first tool until a tool's result is there, make JSON that fits a simple schema,
and embed texts so that equal texts have equal vectors.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

THOUGHTS = "Let me think."
_TOKEN = re.compile(r"\s*\S{1,12}|\s+")
_ECHO_CHARACTERS = 20_000


@dataclass(frozen=True)
class Prompt:
    """A chat request, whatever the protocol: messages as (role, text), tools as name to JSON schema.

    `tool_choice` is auto, none, required, or the name of a tool. `max_tokens` covers thoughts and text.
    """

    messages: Sequence[tuple[str, str]]
    tools: Mapping[str, Any] = field(default_factory=dict)
    tool_choice: str = "auto"
    wants_json: bool = False
    schema: Any = None
    max_tokens: int | None = None
    stops: Sequence[str] = ()
    thinks: bool = False

    @property
    def tokens(self) -> int:
        return max(1, sum(count_tokens(text) for _, text in self.messages))


@dataclass(frozen=True)
class Turn:
    """An answer. `call` is (name, arguments) of a tool; `is_cut`: the token limit ended it."""

    text: str
    prompt_tokens: int
    thoughts: str = ""
    call: tuple[str, dict[str, Any]] | None = None
    is_cut: bool = False

    @property
    def thought_tokens(self) -> int:
        return count_tokens(self.thoughts)

    @property
    def text_tokens(self) -> int:
        """Tokens of the text or the call, without thoughts."""
        return count_tokens(json.dumps(self.call) if self.call else self.text)

    @property
    def completion_tokens(self) -> int:
        return self.thought_tokens + self.text_tokens

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.call else "length" if self.is_cut else "stop"


def tokens_of(text: str) -> list[str]:
    """Return the pieces that a stream delivers and that usage counts."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    return len(tokens_of(text))


def think(prompt: Prompt) -> Turn:
    """Return the answer to a prompt."""
    thoughts = THOUGHTS if prompt.thinks else ""
    call = _choose_call(prompt)
    if call:
        return Turn("", prompt.tokens, thoughts, call)
    text = _text(prompt)
    for stop in prompt.stops:
        text = text.partition(stop)[0]
    if prompt.max_tokens is None or count_tokens(thoughts + text) <= prompt.max_tokens:
        return Turn(text, prompt.tokens, thoughts)
    thoughts = "".join(tokens_of(thoughts)[: prompt.max_tokens])
    text = "".join(tokens_of(text)[: prompt.max_tokens - count_tokens(thoughts)])
    return Turn(text, prompt.tokens, thoughts, is_cut=True)


def _choose_call(prompt: Prompt) -> tuple[str, dict[str, Any]] | None:
    has_result = bool(prompt.messages) and prompt.messages[-1][0] == "tool"
    if not prompt.tools or prompt.tool_choice == "none" or has_result:
        return None
    name = prompt.tool_choice if prompt.tool_choice in prompt.tools else next(iter(prompt.tools))
    arguments = instance_of(prompt.tools[name], required_only=True)
    return name, arguments if isinstance(arguments, dict) else {}


def _text(prompt: Prompt) -> str:
    if prompt.wants_json:
        return json.dumps(instance_of(prompt.schema) if prompt.schema else {"echo": _last_user_text(prompt)}, ensure_ascii=False)
    if prompt.messages and prompt.messages[-1][0] == "tool":
        return f"the result is {prompt.messages[-1][1]}"
    return f"echo: {_last_user_text(prompt)}"


def _last_user_text(prompt: Prompt) -> str:
    return next((text for role, text in reversed(prompt.messages) if role == "user"), "")[:_ECHO_CHARACTERS]


# --- JSON ----------------------------------------------------------------------------------------------------------


def instance_of(schema: Any, *, required_only: bool = False) -> Any:
    """Return a value that fits a simple JSON schema: enum, const, anyOf, local $ref, objects, arrays, scalars."""
    return _instance(schema, schema if isinstance(schema, dict) else {}, required_only)


def _instance(schema: Any, root: Mapping[str, Any], required_only: bool) -> Any:
    if not isinstance(schema, dict):
        return None
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return _instance(target, root, required_only)
    for keyword in ("enum", "anyOf", "oneOf"):
        if schema.get(keyword):
            first = schema[keyword][0]
            return first if keyword == "enum" else _instance(first, root, required_only)
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object")
    kind = (kind[0] if isinstance(kind, list) else kind).lower()  # Gemini's own form has OBJECT, STRING, ...
    if kind == "object":
        properties = schema.get("properties") or {}
        names = [name for name in properties if not required_only or name in schema.get("required", ())]
        return {name: _instance(properties[name], root, required_only) for name in names}
    if kind == "array":
        return [_instance(schema.get("items", {"type": "string"}), root, required_only)]
    return {"string": "text", "integer": 1, "number": 1.5, "boolean": True}.get(kind)


# --- vectors and scores --------------------------------------------------------------------------------------------


def vector_of(text: str, size: int) -> list[float]:
    """Return a vector of length 1 that depends on the text only."""
    source = random.Random(hashlib.sha256(text.encode("utf-8", "replace")).digest())
    values = [source.uniform(-1, 1) for _ in range(size)]
    length = math.sqrt(sum(value * value for value in values))
    return [round(value / length, 6) for value in values]


def rank_documents(query: str, documents: Iterable[str]) -> list[tuple[int, float]]:
    """Return (index, score) of each document, best first: the share of the query's words that it has."""
    words = set(query.lower().split()) or {""}
    scores = [len(words & set(document.lower().split())) / len(words) for document in documents]
    return sorted(enumerate(scores), key=lambda pair: (-pair[1], pair[0]))
