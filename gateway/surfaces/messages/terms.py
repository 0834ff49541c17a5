"""What a request says of its answer's form."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """`prefill` is the beginning of the answer, which the client wrote itself and does not want again.

    `prompt_tokens` is the estimate that stands in a stream until the provider's own count comes at its end.
    """

    shows_thoughts: bool = False
    stop_sequences: tuple[str, ...] = ()
    prefill: str = ""
    prompt_tokens: int = 0
