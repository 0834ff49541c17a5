"""What whole messages and their events have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway import jsonio
from gateway.errors import UpstreamGarbled
from gateway.surfaces.messages.terms import Terms

# Thoughts must be signed to be sent back: clients leave out those that are not. Nobody checks it here.
SIGNATURE = "unsigned"

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_OWN_STOPS = ("stop_reason", "matched_stop")  # where vLLM and SGLang tell which text they stopped at


def build_message(source: Mapping[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
    """Return a message without content or end; `source` is a completion or a chunk of it."""
    return {
        "id": "msg_" + source["id"].removeprefix("chatcmpl-"),
        "type": "message",
        "role": "assistant",
        "model": source["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def build_usage(input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> dict[str, Any]:
    """Return the counts; those of the prompt add up to all of it, so what was read from a cache is no input."""
    return {
        "input_tokens": input_tokens - cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached_tokens,
        "output_tokens": output_tokens,
    }


def read_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of a completion's usage. What the total has beside prompt and answer, thoughts are."""
    prompt: int = usage["prompt_tokens"]
    cached = min(prompt, _detail(usage, "prompt_tokens_details", "cached_tokens"))
    told = build_usage(prompt, usage["total_tokens"] - prompt, cached)
    if thoughts := _detail(usage, "completion_tokens_details", "reasoning_tokens"):
        told["output_tokens_details"] = {"thinking_tokens": thoughts}
    return told


def _detail(usage: Mapping[str, Any], group: str, name: str) -> int:
    details = usage.get(group)
    count = details.get(name) if isinstance(details, Mapping) else None
    return count if isinstance(count, int) and count > 0 else 0


def read_stop(choice: Mapping[str, Any], terms: Terms, *, refused: bool) -> dict[str, Any]:
    """Return why an answer ended, and at which of the client's stop sequences, where the provider tells that."""
    reason, sequence = _STOP_REASONS.get(choice["finish_reason"], "end_turn"), None
    if reason == "end_turn":
        sequence = _stop_sequence(choice, terms.stop_sequences)
        reason = "stop_sequence" if sequence is not None else "refusal" if refused else reason
    return {"stop_reason": reason, "stop_sequence": sequence}


def _stop_sequence(choice: Mapping[str, Any], stops: tuple[str, ...]) -> str | None:
    told = [choice.get(name) for name in _OWN_STOPS]
    if len(stops) == 1 and choice.get("native_finish_reason") == "stop_sequence":  # OpenRouter's, of some providers
        told += stops
    return next((stop for stop in told if stop in stops), None)


def read_input(arguments: str, *, cut: bool) -> dict[str, Any]:
    """Return a tool's input. Of an answer that was cut, a call may be cut too: its input is empty then.

    :raises UpstreamGarbled: the model wrote something else than a JSON object, which a message has no place for.
    """
    try:
        value = jsonio.loads_exactly(arguments) if arguments else {}
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    if cut:
        return {}
    raise UpstreamGarbled("The model called a tool with something else than a JSON object.", upstream_status=200)


def is_object(arguments: str) -> bool:
    """Whether a tool's input is all there."""
    try:
        return isinstance(jsonio.loads(arguments), dict)
    except ValueError:
        return False


class PrefillCutter:
    """Cut the beginning that the client wrote from an answer that repeats it, in whatever pieces it comes.

    Models that can go on from a message of their own do so; the others begin anew.
    """

    def __init__(self, prefill: str) -> None:
        self._prefill = prefill
        self._held = ""

    def feed(self, text: str) -> str:
        """Return what is certain to be new."""
        if not self._prefill:
            return text
        self._held += text
        if self._prefill.startswith(self._held) and self._held != self._prefill:
            return ""
        text, self._prefill = self._held.removeprefix(self._prefill), ""
        return text

    def finish(self) -> str:
        """Return what was held back: nothing more comes that could repeat the rest."""
        held, self._held, self._prefill = self._held if self._prefill else "", "", ""
        return held
