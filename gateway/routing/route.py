"""How a request was served: what headers and `x_gateway` tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.domain import Attempt, Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Who served a request, and after which attempts. `dropped`: parameters of the client that were left out."""

    candidate: Candidate
    attempts: Sequence[Attempt]
    dropped: tuple[str, ...]
    reasoning_effort: str
    request_id: str

    def x_gateway(self) -> dict[str, Any]:
        return {
            "provider": self.candidate.provider.key,
            "model": self.candidate.model.id,
            "attempts": len(self.attempts),
            "reasoning_effort": self.reasoning_effort,
            "request_id": self.request_id,
        }

    @property
    def trail(self) -> str:
        return " ".join(attempt.trail for attempt in self.attempts)
