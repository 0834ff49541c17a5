"""What happened, told to whoever watches: one line a request, never a prompt, an answer or a credential."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.domain import Attempt, Usage

log = logging.getLogger("gateway")


@dataclass(slots=True)
class RequestRecord:
    """One client request. `status` 499: the client left. `ttft_ms` is None for answers that were not streamed."""

    id: str
    method: str = ""
    path: str = ""
    key: str | None = None
    project_id: str | None = None
    model: str | None = None
    served_by: str | None = None
    status: int = 0
    attempts: Sequence[Attempt] = ()
    ttft_ms: float | None = None
    duration_ms: float = 0.0
    usage: Usage | None = None
    error: str | None = None  # its code


class Telemetry:
    """The interface, and the implementation that does nothing. No method blocks or raises."""

    def request_ended(self, record: RequestRecord) -> None:
        """A client request is over: its answer left, or the client did."""

    def attempt_ended(self, attempt: Attempt) -> None:
        """One upstream call is over, or a stream is committed."""

    def state_failed(self, verb: str) -> None:
        """The state store did not answer; the request went on without it."""


@dataclass
class LogTelemetry(Telemetry):
    """Write one line a request, and one at the first failure of the state store."""

    state_failures: dict[str, int] = field(default_factory=dict)

    def request_ended(self, record: RequestRecord) -> None:
        if log.isEnabledFor(logging.INFO):
            # Not `log.info`, which looks for its caller's place in the code each time.
            log.handle(log.makeRecord(log.name, logging.INFO, "", 0, "request", (), None, extra={"fields": fields_of(record)}))

    def state_failed(self, verb: str) -> None:
        if not self.state_failures:
            log.error("the state store does not answer: quotas and cooldowns are unknown, requests go on")
        self.state_failures[verb] = self.state_failures.get(verb, 0) + 1


def fields_of(record: RequestRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": record.id,
        "method": record.method,
        "path": record.path,
        "key": record.key,
        "project_id": record.project_id,
        "model": record.model,
        "served_by": record.served_by,
        "status": record.status,
        "error": record.error,
        "attempts": len(record.attempts),
        "trail": " ".join(attempt.trail for attempt in record.attempts),
        "ttft_ms": None if record.ttft_ms is None else round(record.ttft_ms, 1),
        "duration_ms": round(record.duration_ms, 1),
        "tokens": record.usage.total_tokens if record.usage else None,
    }
    return {name: value for name, value in fields.items() if value not in (None, "")}
