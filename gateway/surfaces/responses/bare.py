"""The Responses API's custom tools in a chat's answer: a call's text itself as arguments, in place of the JSON around it.

A custom tool takes a text. Models are given a function with one argument for it (tools.py), and Cursor,
which sends such tools flat in a chat, reads the bare text where a function's arguments stand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.surfaces.responses.tools import InputReader, input_of

Json = dict[str, Any]


def bare_completion(completion: Json, customs: frozenset[str]) -> Json:
    """Return a repaired chat completion in which calls of these tools have their text as arguments."""
    choices = [{**choice, "message": _bare_message(choice["message"], customs)} for choice in completion["choices"]]
    return {**completion, "choices": choices}


def _bare_message(message: Json, customs: frozenset[str]) -> Json:
    if not message.get("tool_calls"):
        return message
    return {**message, "tool_calls": [_bare_call(call, customs) for call in message["tool_calls"]]}


def _bare_call(call: Json, customs: frozenset[str]) -> Json:
    function = call["function"]
    if function["name"] not in customs:
        return call
    return {**call, "function": {**function, "arguments": input_of(function["arguments"])}}


class BareChunks:
    """The same for the chunks of one stream."""

    def __init__(self, customs: frozenset[str]) -> None:
        self._customs = customs
        self._readers: dict[tuple[int, int], InputReader] = {}  # by choice and call

    def bare(self, chunk: Json) -> Json:
        """Return the next chunk, with as much of the texts as is certain by now."""
        return {**chunk, "choices": [self._choice(choice) for choice in chunk["choices"]]}

    def _choice(self, choice: Json) -> Json:
        index, delta = choice["index"], choice["delta"]
        calls = [self._call(index, call) for call in delta.get("tool_calls") or ()]
        if choice.get("finish_reason"):
            calls += self._rests(index)
        return {**choice, "delta": {**delta, "tool_calls": calls}} if calls else choice

    def _call(self, choice: int, call: Json) -> Json:
        key, function = (choice, call["index"]), call.get("function") or {}
        if function.get("name") in self._customs:
            self._readers[key] = InputReader()
        reader = self._readers.get(key)
        if reader is None:
            return call
        return {**call, "function": {**function, "arguments": reader.feed(function.get("arguments") or "")}}

    def _rests(self, choice: int) -> Iterable[Json]:
        for key in [key for key in self._readers if key[0] == choice]:
            if rest := self._readers.pop(key).finish():
                yield {"index": key[1], "function": {"arguments": rest}}
