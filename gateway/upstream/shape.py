"""The exact shape of OpenAI's answers, whatever a provider made of it. Pure.

Formats: https://platform.openai.com/docs/api-reference/chat/object and .../chat/streaming
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from gateway import jsonio
from gateway.domain import Usage

FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
CHARS_PER_TOKEN = 4  # of an answer nobody counted; the usage made of it is marked as estimated

_REASONING_NAMES = ("reasoning_content", "reasoning")  # a string under any of these is the model's thinking


def new_id(prefix: str) -> str:
    """Return an id that nobody else has: `prefix` and 24 random characters."""
    return prefix + secrets.token_hex(12)


def new_call_id() -> str:
    return new_id("call_")


# --- usage -----------------------------------------------------------------------------------------------------------


def read_usage(raw: Any) -> dict[str, Any] | None:
    """Return OpenAI's usage object with its three numbers, None where `raw` counts nothing."""
    if not isinstance(raw, Mapping):
        return None
    prompt, completion, total = (_count(raw.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
    if prompt is None and completion is None and total is None:
        return None
    prompt = prompt or 0
    completion = completion if completion is not None else max(0, (total or 0) - prompt)
    return {
        **raw,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        # Gemini counts thoughts in the total alone.
        "total_tokens": max(total or 0, prompt + completion),
    }


def estimate_usage(prompt_tokens: int, answer_chars: int) -> dict[str, Any]:
    completion = -(-answer_chars // CHARS_PER_TOKEN)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prompt_tokens + completion,
    }


def usage_of(usage: Mapping[str, Any], *, estimated: bool) -> Usage:
    return Usage(usage["prompt_tokens"], usage["total_tokens"] - usage["prompt_tokens"], estimated)


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 else None


# --- whole answers ---------------------------------------------------------------------------------------------------


def repair_completion(body: Mapping[str, Any], *, model: str, splits_thoughts: bool) -> dict[str, Any]:
    """Return a chat.completion with everything that OpenAI's has, and the provider's further fields left in place.

    `model` stands in where the provider names none. `splits_thoughts`: text in `<think>` tags at the beginning
    is the model's reasoning. `usage` is None where nobody counted.
    """
    choices = body["choices"]
    return {
        **body,
        "id": body.get("id") or new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": _count(body.get("created")) or int(time.time()),
        "model": body.get("model") or model,
        "choices": [_repair_choice(choice, number, splits_thoughts) for number, choice in enumerate(choices)],
        "usage": read_usage(body.get("usage")),
    }


def _repair_choice(choice: Mapping[str, Any], number: int, splits_thoughts: bool) -> dict[str, Any]:
    raw = choice.get("message") or {}
    message = {name: value for name, value in raw.items() if name not in ("tool_calls", *_REASONING_NAMES)}
    content, reasoning = text_of(raw.get("content")), reasoning_of(raw)
    if splits_thoughts and content and not reasoning:
        splitter = ThoughtSplitter()
        parts = [splitter.feed(content), splitter.finish()]
        reasoning, content = "".join(part[0] for part in parts), "".join(part[1] for part in parts)
    message |= {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    calls = [_repair_call(call) for call in raw.get("tool_calls") or () if isinstance(call, Mapping)]
    if calls:
        message["tool_calls"] = calls
    elif content is None:
        message["content"] = ""
    reason = finish_reason(choice.get("finish_reason"), calls_seen=bool(calls)) or ("tool_calls" if calls else "stop")
    return {**choice, "index": choice.get("index", number), "message": message, "finish_reason": reason}


def _repair_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or call
    kept = {name: value for name, value in call.items() if name == "extra_content"}
    return {
        "id": call.get("id") or new_call_id(),
        "type": "function",
        "function": {"name": function.get("name") or "", "arguments": arguments_of(function.get("arguments")) or "{}"},
        **kept,
    }


def answer_chars(completion: Mapping[str, Any]) -> int:
    """Return the size of everything the model wrote, for an estimate of its tokens."""
    messages = [choice["message"] for choice in completion["choices"]]
    texts = sum(len(message.get("content") or "") + len(message.get("reasoning_content") or "") for message in messages)
    calls = [call["function"] for message in messages for call in message.get("tool_calls") or ()]
    return texts + sum(len(call["name"]) + len(call["arguments"]) for call in calls)


def is_empty_stop(completion: Mapping[str, Any]) -> bool:
    """Whether a repaired answer is a `stop` with nothing in it."""
    return answer_chars(completion) == 0 and all(
        choice["finish_reason"] == "stop" and not choice["message"].get("refusal") for choice in completion["choices"]
    )


# --- pieces ----------------------------------------------------------------------------------------------------------


def text_of(content: Any) -> str | None:
    """Return content as the string it should be: providers send lone digits as numbers, and lists of parts."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    return jsonio.dumps(content).decode()


def reasoning_of(message: Mapping[str, Any]) -> str:
    texts = (message.get(name) for name in _REASONING_NAMES)
    return next((text for text in texts if isinstance(text, str) and text), "")


def arguments_of(arguments: Any) -> str:
    """Return a tool call's arguments as the JSON string that clients parse."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else jsonio.dumps(arguments).decode()


def finish_reason(raw: Any, *, calls_seen: bool) -> str | None:
    """Return OpenAI's word for the end of an answer, None where it has not ended."""
    if not raw:
        return None
    reason = raw if raw in FINISH_REASONS else "stop"
    return "tool_calls" if calls_seen and reason in ("stop", "function_call") else reason


class ThoughtSplitter:
    """Separate `<think>…</think>` at the beginning of a text from the answer behind it, in whatever pieces it comes."""

    OPEN, CLOSE = "<think>", "</think>"

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"  # start, thinking, gap (white space before the answer), answer

    def feed(self, text: str) -> tuple[str, str]:
        """Return (thoughts, answer) that are certain by now."""
        if self._state == "answer":
            return "", text
        text, self._held = self._held + text, ""
        if self._state == "start":
            begun = text.lstrip()
            if begun.startswith(self.OPEN):
                self._state, text = "thinking", begun[len(self.OPEN) :].lstrip("\n")
            elif self.OPEN.startswith(begun):
                self._held = text
                return "", ""
            else:
                self._state = "answer"
                return "", text
        if self._state == "gap":
            return "", self._skip_gap(text)
        thoughts, close, rest = text.partition(self.CLOSE)
        if close:
            self._state = "gap"
            return thoughts.rstrip("\n"), self._skip_gap(rest)
        keep = max((n for n in range(1, len(self.CLOSE)) if text.endswith(self.CLOSE[:n])), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], ""

    def finish(self) -> tuple[str, str]:
        """Return what was still held back when the text ended."""
        held, self._held = self._held, ""
        return (held, "") if self._state == "thinking" else ("", held)

    def _skip_gap(self, text: str) -> str:
        text = text.lstrip("\n")
        if text:
            self._state = "answer"
        return text


# --- streams ---------------------------------------------------------------------------------------------------------


class _Call:
    """One tool call of a stream: told by its id or by the provider's index, numbered in the order of appearance."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.id = ""
        self.name = ""
        self.held = ""  # arguments that came before the name
        self.begun = False


class _Choice:
    """What one choice of a stream has sent so far."""

    def __init__(self, splits_thoughts: bool) -> None:
        self.role_sent = False
        self.finish_reason: str | None = None
        self.splitter = ThoughtSplitter() if splits_thoughts else None
        self.calls: list[_Call] = []
        self.by_index: dict[Any, _Call] = {}

    def shape(self, delta: Mapping[str, Any]) -> dict[str, Any]:
        """Return the delta as OpenAI would send it; empty where it says nothing."""
        handled = ("role", "content", "tool_calls", "channel", *_REASONING_NAMES)
        shaped = {name: value for name, value in delta.items() if name not in handled and value}
        content, reasoning = text_of(delta.get("content")) or "", reasoning_of(delta)
        if self.splitter and content:
            thoughts, content = self.splitter.feed(content)
            reasoning += thoughts
        if reasoning:
            shaped["reasoning_content"] = reasoning
        if content:
            shaped["content"] = content
        raw_calls = delta.get("tool_calls")
        if isinstance(raw_calls, list):
            calls = [shaped_call for raw in raw_calls if isinstance(raw, Mapping) and (shaped_call := self._shape_call(raw))]
            if calls:
                shaped["tool_calls"] = calls
        return self._with_role(shaped)

    def finish(self) -> dict[str, Any]:
        """Return the last delta: what was held back, and the role if nothing else was ever sent."""
        thoughts, content = self.splitter.finish() if self.splitter else ("", "")
        shaped = {}
        if thoughts:
            shaped["reasoning_content"] = thoughts
        if content:
            shaped["content"] = content
        return self._with_role(shaped or ({} if self.role_sent else {"content": ""}))

    def _with_role(self, delta: dict[str, Any]) -> dict[str, Any]:
        if not delta or self.role_sent:
            return delta
        self.role_sent = True
        return {"role": "assistant", **delta}

    def _shape_call(self, raw: Mapping[str, Any]) -> dict[str, Any] | None:
        function = raw.get("function") or {}
        arguments, name, call_id = arguments_of(function.get("arguments")), function.get("name") or "", raw.get("id") or ""
        if not (arguments or name or call_id):
            return None  # Workers AI ends each call with an element of nulls (2026-11: providers' own SDKs skip it too)
        call = self._find_call(raw.get("index"), call_id, name)
        call.id, call.name = call.id or call_id, call.name or name
        if call.begun:
            return {"index": call.number, "function": {"arguments": arguments}} if arguments else None
        call.held += arguments
        if not call.name:
            return None
        call.begun, call.id = True, call.id or new_call_id()
        kept = {key: value for key, value in raw.items() if key == "extra_content"}
        shaped = {"name": call.name, "arguments": call.held}
        return {"index": call.number, "id": call.id, "type": "function", "function": shaped, **kept}

    def _find_call(self, index: Any, call_id: str, name: str) -> _Call:
        call = self.by_index.get(index) if index is not None else next((c for c in self.calls if c.id and c.id == call_id), None)
        if call is None and index is None and not call_id and not name and self.calls:
            return self.calls[-1]  # arguments without an index or id continue the call before
        # Some providers number every call 0: another id under a known index is another call.
        if call is None or (call_id and call.id and call_id != call.id and name):
            call = _Call(len(self.calls))
            self.calls.append(call)
            if index is not None:
                self.by_index[index] = call
        return call


class ChunkShaper:
    """Turn a provider's chunks into the exact sequence that OpenAI sends. One for each stream.

    Finish reasons and usage are kept until `finish`: providers repeat them, send them early, and put usage anywhere.
    """

    def __init__(self, *, model: str, splits_thoughts: bool) -> None:
        self._model = model
        self._splits_thoughts = splits_thoughts
        self._head: dict[str, Any] | None = None
        self._choices: dict[int, _Choice] = {}
        self.usage: dict[str, Any] | None = None
        self.chars = 0  # of everything the model wrote

    @property
    def begun(self) -> bool:
        """Whether anything was shaped that a client can use: content, reasoning or a tool call."""
        return any(choice.role_sent for choice in self._choices.values())

    @property
    def finished(self) -> bool:
        """Whether every choice has its finish reason."""
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    @property
    def finish_reason(self) -> str | None:
        return next((choice.finish_reason for choice in self._choices.values()), None)

    @property
    def calls_seen(self) -> bool:
        return any(choice.calls for choice in self._choices.values())

    def feed(self, raw: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the chunks to send for one of the provider's, none where it adds nothing."""
        if self._head is None:
            self._head = self._begin(raw)
        self.usage = self._usage_in(raw) or self.usage
        choices = []
        for position, choice in enumerate(raw.get("choices") or ()):
            index = choice.get("index")
            index = index if isinstance(index, int) else position
            state = self._choices.setdefault(index, _Choice(self._splits_thoughts))
            delta = state.shape(choice.get("delta") or {})
            state.finish_reason = choice.get("finish_reason") or state.finish_reason
            if delta:
                self.chars += _delta_chars(delta)
                shaped = {"index": index, "delta": delta, "finish_reason": None}
                choices.append(shaped if choice.get("logprobs") is None else {**shaped, "logprobs": choice["logprobs"]})
        return [{**self._head, "choices": choices}] if choices else []

    def finish(self, x_gateway: Mapping[str, Any], *, include_usage: bool, prompt_tokens: int) -> list[dict[str, Any]]:
        """Return the last chunks: the finish reasons with `x_gateway`, and the usage where it was asked for."""
        head = self._head or self._begin({})
        choices = [
            {
                "index": index,
                "delta": state.finish(),
                "finish_reason": finish_reason(state.finish_reason, calls_seen=bool(state.calls)),
            }
            for index, state in sorted(self._choices.items())
        ]
        chunks = [{**head, "choices": choices, "x_gateway": dict(x_gateway)}]
        if include_usage:
            usage = self.usage or estimate_usage(prompt_tokens, self.chars)
            estimated = {} if self.usage else {"x_gateway": {**x_gateway, "estimated": True}}
            chunks.append({**head, "choices": [], "usage": usage, **estimated})
        return chunks

    def final_usage(self, prompt_tokens: int) -> Usage:
        """Return what the stream used, estimated where the provider did not tell."""
        return usage_of(self.usage or estimate_usage(prompt_tokens, self.chars), estimated=self.usage is None)

    def _begin(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        head = {
            "id": raw.get("id") or new_id("chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": _count(raw.get("created")) or int(time.time()),
            "model": raw.get("model") or self._model,
        }
        if raw.get("system_fingerprint"):
            head["system_fingerprint"] = raw["system_fingerprint"]
        return head

    def _usage_in(self, raw: Mapping[str, Any]) -> dict[str, Any] | None:
        groq = raw.get("x_groq")
        return read_usage(raw.get("usage")) or (read_usage(groq.get("usage")) if isinstance(groq, Mapping) else None)


def _delta_chars(delta: Mapping[str, Any]) -> int:
    calls: Iterable[Mapping[str, Any]] = (call["function"] for call in delta.get("tool_calls") or ())
    text = len(delta.get("content") or "") + len(delta.get("reasoning_content") or "")
    return text + sum(len(call.get("name") or "") + len(call["arguments"]) for call in calls)
