"""Streams."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.domain import Usage
from gateway.errors import UpstreamError, UpstreamGarbled
from gateway.upstream.shape.calls import CallTracker
from gateway.upstream.shape.pieces import (
    OTHER_SUBSTANCE,
    REASONING_NAMES,
    count_of,
    new_id,
    read_end,
    reading,
    reasoning_of,
    settle_end,
    text_of,
)
from gateway.upstream.shape.thoughts import ThoughtSplitter
from gateway.upstream.shape.usage import estimate_usage, read_usage, usage_of

# Fields that are shaped or moved; all others are notes of the provider, and kept.
_CHUNK_FIELDS = frozenset(
    {"id", "object", "created", "model", "system_fingerprint", "choices", "usage", "x_groq", "x_gateway", "error"}
)
_CHOICE_FIELDS = frozenset({"index", "delta", "message", "text", "finish_reason", "logprobs"})
_DELTA_FIELDS = frozenset({"role", "content", "tool_calls", "channel", *REASONING_NAMES})
_SUBSTANCE = ("content", "tool_calls", *REASONING_NAMES, *OTHER_SUBSTANCE)  # what an answer goes on with
_MORE_THAN_TEXT = frozenset({"tool_calls", *OTHER_SUBSTANCE})


class _Choice:
    """What one choice of a stream has sent so far."""

    def __init__(self, splits_thoughts: bool) -> None:
        self.role_sent = False
        self.answered = False  # with anything that a client can use
        self.end: str | None = None  # the last finish reason, whether or not it was the end
        self.over = False  # the end was told, and nothing followed it
        self.notes: dict[str, Any] = {}  # the provider's own fields, not sent yet
        self.chars = 0  # of everything the model wrote
        self._calls = CallTracker()
        self._legacy_call = False
        self._has_deltas = False
        self._hurries = False  # its finish reasons come before the end
        self._splitter = ThoughtSplitter() if splits_thoughts else None

    @property
    def finish_reason(self) -> str | None:
        return self.end and settle_end(self.end, calls=bool(self._calls), legacy_call=self._legacy_call)

    def take(self, choice: Mapping[str, Any], index: int) -> dict[str, Any] | None:
        """Return the choice of a chunk as OpenAI would send it, None where it says nothing."""
        delta = choice.get("delta")
        if delta is None:
            delta = self._stand_in(choice)
            shaped = self._shape(delta) if delta else {}
        else:
            shaped = self._shape(delta) if delta else {}
            self._has_deltas = self._has_deltas or bool(shaped)
        logprobs = choice.get("logprobs")
        if logprobs and not shaped and isinstance(logprobs, dict) and any(logprobs.values()):
            shaped = self._with_role({"content": ""})
        if not choice.keys() <= _CHOICE_FIELDS:
            self.notes |= _notes_in(choice, _CHOICE_FIELDS)
        reason = choice.get("finish_reason")
        if reason is not None:
            self._end(reason, alone=not shaped)
        if not shaped:
            return None
        taken = {"index": index, "delta": shaped, "finish_reason": None}
        if logprobs is not None:
            taken["logprobs"] = logprobs
        if self.notes:
            taken |= self.notes
            self.notes = {}
        return taken

    def rest(self) -> dict[str, Any]:
        """Return the delta that was held back until the end was certain, empty where nothing was.

        :raises UpstreamGarbled: a call came after the finish reason, and its name never did.
        """
        self._check_names()
        thoughts, content = self._splitter.finish() if self._splitter else ("", "")
        self.chars += len(thoughts) + len(content)
        shaped: dict[str, Any] = {}
        if thoughts:
            shaped["reasoning_content"] = thoughts
        if content:
            shaped["content"] = content
        # Calls of an answer that was cut are cut too, and must not look whole.
        calls = self._calls.missing_arguments() if self.finish_reason == "tool_calls" else []
        if calls:
            shaped["tool_calls"] = calls
        return self._with_role(shaped) if shaped else shaped

    def last_delta(self) -> dict[str, Any]:
        return {} if self.role_sent else self._with_role({"content": ""})

    def _stand_in(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what some servers send in place of a delta; beside deltas, it repeats them all."""
        if self._has_deltas:
            return {}
        message: Mapping[str, Any] = choice.get("message") or {"content": choice.get("text")}
        return message

    def _shape(self, delta: Mapping[str, Any]) -> dict[str, Any]:
        if self.end and any(map(delta.get, _SUBSTANCE)):
            self.over, self._hurries = False, True
        shaped: dict[str, Any] = {}
        content = delta.get("content")
        if content.__class__ is not str:
            content = text_of(content) or ""
        if not delta.keys() <= _DELTA_FIELDS:
            shaped = _notes_in(delta, _DELTA_FIELDS)
            if any(shaped.get(name) for name in OTHER_SUBSTANCE):
                self.answered = True
                self._legacy_call = self._legacy_call or "function_call" in shaped
        reasoning = reasoning_of(delta) if "reasoning_content" in delta or "reasoning" in delta else ""
        if content and self._splitter:
            thoughts, content = self._splitter.feed(content)
            reasoning += thoughts
        if reasoning:
            shaped["reasoning_content"] = reasoning
            self.chars += len(reasoning)
        if content:
            shaped["content"] = content
            self.chars += len(content)
        raw_calls = delta.get("tool_calls")
        calls = self._calls.shape(raw_calls) if raw_calls else None
        if calls:
            shaped["tool_calls"] = calls
            self.chars += sum(len(call["function"].get("name", "")) + len(call["function"]["arguments"]) for call in calls)
        self.answered = self.answered or bool(content or reasoning or calls)
        return self._with_role(shaped) if shaped and not self.role_sent else shaped

    def _with_role(self, delta: dict[str, Any]) -> dict[str, Any]:
        if self.role_sent:
            return delta
        self.role_sent = True
        return {"role": "assistant", **delta}

    def _end(self, reason: Any, *, alone: bool) -> None:
        end = read_end(reason)
        if end:
            self._check_names()
            self.end = end
            self.over = alone or not self._hurries

    def _check_names(self) -> None:
        if self._calls.has_nameless:
            raise UpstreamGarbled("The provider's model called a tool without naming it.", upstream_status=200)


class ChunkShaper:
    """Turn a provider's chunks into the exact sequence that OpenAI sends. One for each stream.

    Finish reasons and usage are kept until `finish`: providers repeat them, send them early, and put usage anywhere.
    A finish reason that the answer went on after was not the end: it tells how the answer ended, and no longer that it did.
    `choices`: how many answers were asked for; they may begin one after the other.
    """

    def __init__(self, *, model: str, splits_thoughts: bool, choices: int = 1) -> None:
        self._model = model
        self._splits_thoughts = splits_thoughts
        self._asked = choices
        self._head: dict[str, Any] | None = None
        self._choices: dict[int, _Choice] = {}
        self._notes: dict[str, Any] = {}  # the provider's own fields, not sent yet
        self.usage: dict[str, Any] | None = None
        self.error: UpstreamError | None = None  # why what came next could not be read
        self.begun = False  # a client can use what was shaped: content, reasoning, a tool call, a refusal, audio
        self.finished = False  # every answer that was asked for has its finish reason, and did not go on after it

    def go_on_from(self, other: ChunkShaper) -> None:
        """Send what follows as the rest of another stream, under its id."""
        self._head = other._head

    @property
    def head(self) -> Mapping[str, Any]:
        """What every chunk of the stream has alike."""
        return self._head or {}

    @property
    def ended(self) -> bool:
        """Whether every answer that has begun has its finish reason: enough where the stream is over (Ollama ignores `n`)."""
        return bool(self._choices) and all(choice.end for choice in self._choices.values())

    @property
    def _all_over(self) -> bool:
        return len(self._choices) >= self._asked and all(choice.over for choice in self._choices.values())

    @property
    def finish_reason(self) -> str | None:
        """Return why the answer ended, None before it did; of several answers, the first reason that is no `stop`."""
        reasons = [choice.finish_reason for choice in self._choices.values()]
        return next((reason for reason in reasons if reason != "stop"), "stop" if reasons else None)

    def feed_all(self, raws: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the chunks to send for those of one read. What stands before one that cannot be read is not lost with
        it: the failure is kept in `error`, for when the client has the rest.
        """
        shaped: list[dict[str, Any]] = []
        try:
            with reading():
                for raw in raws:
                    shaped += self.feed(raw)
        except UpstreamError as error:
            self.error = error
        return shaped

    def feed(self, raw: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the chunks to send for one of the provider's, none where it adds nothing.

        :raises UpstreamError: it says that the answer broke off. :raises Exception: it is none (see `reading`).
        """
        if self._head is None:
            self._head = self._begin(raw)
        if raw.get("usage") or "x_groq" in raw:
            self.usage = _usage_in(raw) or self.usage
        if not raw.keys() <= _CHUNK_FIELDS:
            self._notes |= _notes_in(raw, _CHUNK_FIELDS)
        choices = []
        for position, choice in enumerate(raw.get("choices") or ()):
            index = choice.get("index")
            if index.__class__ is not int:
                index = position
            state = self._choices.get(index)
            if state is None:
                state = self._choices[index] = _Choice(self._splits_thoughts)
            taken = state.take(choice, index)
            if taken:
                choices.append(taken)
            self.finished = state.over and (self.finished or self._all_over)
        if not choices:
            return []
        if not self.begun:
            self.begun = any(choice.answered for choice in self._choices.values())
        if self._notes:
            notes, self._notes = self._notes, {}
            return [{**self._head, "choices": choices, **notes}]
        return [{**self._head, "choices": choices}]

    def finish(self, x_gateway: Mapping[str, Any], *, include_usage: bool, prompt_tokens: int) -> list[dict[str, Any]]:
        """Return the last chunks: what was held back, the finish reasons with `x_gateway`, and usage where it was asked for.

        :raises UpstreamGarbled: what was held back cannot be sent.
        """
        head = self._head or self._begin({})
        states = sorted(self._choices.items())
        chunks: list[dict[str, Any]] = []
        rests = [{"index": index, "delta": rest, "finish_reason": None} for index, state in states if (rest := state.rest())]
        if rests:
            chunks.append({**head, "choices": rests})
        ends = [
            {"index": index, "delta": state.last_delta(), "finish_reason": state.finish_reason, **state.notes}
            for index, state in states
        ]
        chunks.append({**head, "choices": ends, **self._notes, "x_gateway": dict(x_gateway)})
        if include_usage:
            usage = self.usage or estimate_usage(prompt_tokens, self.chars)
            estimated = {} if self.usage else {"x_gateway": {**x_gateway, "estimated": True}}
            chunks.append({**head, "choices": [], "usage": usage, **estimated})
        return chunks

    @property
    def chars(self) -> int:
        return sum(choice.chars for choice in self._choices.values())

    def final_usage(self, prompt_tokens: int) -> Usage:
        """Return what the stream used, estimated where the provider did not tell."""
        return usage_of(self.usage or estimate_usage(prompt_tokens, self.chars), estimated=self.usage is None)

    def _begin(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        own_id, own_model = raw.get("id"), raw.get("model")
        head = {
            "id": own_id if own_id and isinstance(own_id, str) else new_id("chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": count_of(raw.get("created")) or int(time.time()),
            "model": own_model if own_model and isinstance(own_model, str) else self._model,
        }
        if raw.get("system_fingerprint"):
            head["system_fingerprint"] = raw["system_fingerprint"]
        return head


def plain_text_of(chunk: Mapping[str, Any]) -> str | None:
    """Return what a shaped chunk adds to the text of the only answer, None where it adds more: a call, another answer."""
    text = ""
    for choice in chunk["choices"]:
        if choice["index"] or not _MORE_THAN_TEXT.isdisjoint(choice["delta"]):
            return None
        text += choice["delta"].get("content") or ""
    return text


def _notes_in(raw: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name not in known and value not in (None, "", [], {})}


def _usage_in(raw: Mapping[str, Any]) -> dict[str, Any] | None:
    groq = raw.get("x_groq")
    return read_usage(raw.get("usage")) or (read_usage(groq.get("usage")) if isinstance(groq, Mapping) else None)
