"""What whole answers and streams have in common: names, texts, calls, and how an answer ended."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from gateway import jsonio
from gateway.errors import UpstreamFailed, UpstreamGarbled

REASONING_NAMES = ("reasoning_content", "reasoning")  # a string under any of these is the model's thinking
# What an answer can consist of beside content, thoughts and tool calls; everything else is a note about it.
OTHER_SUBSTANCE = ("refusal", "audio", "images", "function_call")

_MAX_COUNT = 2**53  # beyond, JSON readers lose digits

_OPENAI_ENDS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
# Other words for them, in lower case: of self-hosted servers, Mistral, Anthropic, Gemini, Cohere, Bedrock, Zhipu.
_ENDS: dict[str, str | None] = {
    **dict.fromkeys(["eos", "eos_token", "end_turn", "end", "stop_sequence", "stop_token", "completed", "complete"], "stop"),
    **dict.fromkeys(["max_tokens", "max_output_tokens", "max_length", "model_length", "token_limit", "incomplete"], "length"),
    **dict.fromkeys(["model_context_window_exceeded", "context_length_exceeded"], "length"),
    **dict.fromkeys(["tool_call", "tool_use", "function_calls"], "tool_calls"),
    **dict.fromkeys(["content_filtered", "safety", "recitation", "blocklist", "prohibited_content"], "content_filter"),
    **dict.fromkeys(["spii", "language", "refusal", "sensitive", "guardrail_intervened"], "content_filter"),
    **dict.fromkeys(["", "null", "none", "finish_reason_unspecified"], None),  # the answer goes on
}
# The provider says itself that it did not finish (DeepSeek's is the longest).
_BREAKS = frozenset(
    {"abort", "aborted", "cancel", "cancelled", "canceled", "error", "failed", "timeout", "network_error", "overloaded"}
    | {"insufficient_system_resource"}
)
# A word that nobody knows may mean anything. An error would throw a good answer away, and "stop" could present a cut
# one as complete; with "length" the client has the text, and takes it for whole only if it does not care.
_UNKNOWN_END = "length"


class _Reading:
    """Outside a class, this would cost more than what it guards: it stands around every read of a stream."""

    def __init__(self, status: int) -> None:
        self._status = status

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, places: TracebackType | None) -> None:
        if isinstance(error, (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)):
            raise UpstreamGarbled("The provider's answer could not be read.", upstream_status=self._status) from error


_READING: Final = _Reading(200)


def reading(status: int = 200) -> _Reading:
    """Guard code that takes a provider's JSON apart: what is not what it should be makes the answer garbled.

    :raises UpstreamGarbled: a field had another type, or was missing.
    """
    return _READING if status == 200 else _Reading(status)


def new_id(prefix: str) -> str:
    """Return an id that nobody else has: `prefix` and 24 random characters."""
    return f"{prefix}{random.getrandbits(96):024x}"


def new_call_id() -> str:
    return new_id("call_")


def count_of(value: Any) -> int | None:
    """Return a number that counts something, None where it is none."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return int(value) if 0 <= value <= _MAX_COUNT else None


def name_of(value: Any) -> str:
    """Return an id or a name, "" where there is none. :raises TypeError: it is no string."""
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError("not a name")


def text_of(content: Any) -> str | None:
    """Return content as the string it should be: providers send lone digits as numbers, and lists of parts."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    return jsonio.dumps(content).decode()


def reasoning_of(message: Mapping[str, Any]) -> str:
    texts = (message.get(name) for name in REASONING_NAMES)
    return next((text for text in texts if isinstance(text, str) and text), "")


def arguments_of(arguments: Any) -> str:
    """Return a tool call's arguments as the JSON string that clients parse."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else jsonio.dumps(arguments).decode()


# --- the end ---------------------------------------------------------------------------------------------------------


def read_end(raw: Any) -> str | None:
    """Return OpenAI's word for why an answer ended, None where it goes on.

    :raises UpstreamFailed: it did not end, it broke off. :raises Exception: the word is none (see `reading`).
    """
    if raw is None or raw in _OPENAI_ENDS:
        return raw  # type: ignore[no-any-return]
    word = raw.strip().casefold()
    if word in _OPENAI_ENDS:
        return str(word)
    if word in _BREAKS:
        raise UpstreamFailed("The provider's model stopped before its answer was whole.", upstream_status=200)
    return _ENDS.get(word, _UNKNOWN_END)


def settle_end(reason: str, *, calls: bool, legacy_call: bool) -> str:
    """Return the finish reason that fits what was sent: clients look for the calls it promises, and fail without."""
    if reason in ("stop", "function_call", "tool_calls"):
        return "tool_calls" if calls else "function_call" if legacy_call else "stop"
    return reason
