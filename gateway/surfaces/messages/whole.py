"""Whole answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.surfaces.messages.parts import SIGNATURE, PrefillCutter, build_message, read_input, read_stop, read_usage
from gateway.surfaces.messages.terms import Terms

Block = dict[str, Any]


def message_of(completion: Mapping[str, Any], terms: Terms) -> dict[str, Any]:
    """Return a repaired chat completion as a message, with the gateway's own object beside its fields.

    :raises UpstreamGarbled: a tool was called with something else than an object.
    """
    choice = completion["choices"][0]
    message = choice["message"]
    return {
        **build_message(completion, read_usage(completion["usage"])),
        "content": [*_thoughts(message, terms), *_texts(message, terms), *_calls(choice)],
        **read_stop(choice, terms, refused=bool(message.get("refusal"))),
        "x_gateway": completion["x_gateway"],
    }


def _thoughts(message: Mapping[str, Any], terms: Terms) -> list[Block]:
    thoughts = message.get("reasoning_content")
    return [{"type": "thinking", "thinking": thoughts, "signature": SIGNATURE}] if thoughts and terms.shows_thoughts else []


def _texts(message: Mapping[str, Any], terms: Terms) -> list[Block]:
    cutter = PrefillCutter(terms.prefill)
    text = cutter.feed(message.get("content") or "") + cutter.finish() + (message.get("refusal") or "")
    return [{"type": "text", "text": text}] if text else []


def _calls(choice: Mapping[str, Any]) -> list[Block]:
    cut = choice["finish_reason"] == "length"
    return [
        {
            "type": "tool_use",
            "id": call["id"],
            "name": call["function"]["name"],
            "input": read_input(call["function"]["arguments"], cut=cut),
        }
        for call in choice["message"].get("tool_calls") or ()
    ]
