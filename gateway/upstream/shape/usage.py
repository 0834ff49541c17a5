"""How many tokens an answer took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain import Usage
from gateway.upstream.shape.pieces import count_of

CHARS_PER_TOKEN = 4  # of an answer nobody counted; the usage made of it is marked as estimated


def read_usage(raw: Any) -> dict[str, Any] | None:
    """Return OpenAI's usage object with its three numbers, None where `raw` counts nothing."""
    if not isinstance(raw, Mapping):
        return None
    prompt, completion, total = (count_of(raw.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
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
