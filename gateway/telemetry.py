"""What happened, told to whoever watches: one line a request, never a prompt, an answer or a credential."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.domain import Attempt, Candidate, Usage

log = logging.getLogger("gateway")


NO_SURFACE = "unknown"  # of paths that nobody serves: what clients make up names nothing
PREFLIGHT = "preflight"  # a browser that asks whether it may ask


@dataclass(slots=True)
class RequestRecord:
    """One client request. `status` 499: the client left. `ttft_ms` is None for answers that were not streamed.

    `ended_at`: epoch seconds of the state store's clock. `surface`: the part of the API that it was for. `for_models`: a
    model was to answer it; what is only asked about models, and dry runs, are not that. `key`: the name of the client's.
    """

    id: str
    method: str = ""
    path: str = ""
    surface: str = NO_SURFACE
    for_models: bool = False
    admitted: bool = False
    streamed: bool = False
    key: str | None = None
    project_id: str | None = None
    model: str | None = None
    served_by: str | None = None
    status: int = 0
    attempts: Sequence[Attempt] = ()
    ttft_ms: float | None = None
    duration_ms: float = 0.0
    ended_at: float = 0.0
    usage: Usage | None = None
    error: str | None = None  # its code

    @property
    def successful(self) -> bool:
        """Whether it was answered to the end: a stream that broke has status 200 and an error, a client that left 499."""
        return self.status < 400 and self.error is None

    @property
    def upstream(self) -> str | None:
        """`provider/model` of who served it, else of who was tried last; None: nobody was."""
        if self.served_by or not self.attempts:
            return self.served_by
        return f"{self.attempts[-1].provider}/{self.attempts[-1].model}"


class Telemetry:
    """The interface, and the implementation that does nothing. No method blocks or raises."""

    def request_admitted(self) -> None:
        """A request got one of the places: a thread works on it until it ends."""

    def stream_began(self) -> None:
        """A request's answer is a stream, whose beginning leaves now."""

    def request_ended(self, record: RequestRecord) -> None:
        """A client request is over: its answer left, or the client did."""

    def attempt_ended(self, candidate: Candidate, outcome: str, ms: float, *, rested: bool = False) -> None:
        """One upstream call is over, a streamed answer with its end.

        `outcome`: "ok", "abandoned" (by nobody's fault), or "failed:" and the error's reason. `rested`: with it a rest began.
        """

    def credential_refused(self, candidate: Candidate, reason: str) -> None:
        """A credential rests from now on until its operator acts. `reason` is the error's."""

    def state_failed(self, verb: str) -> None:
        """The state store did not answer, or lost what it was given; the request went on without it."""

    def state_went_down(self, why: str) -> None:
        """An outage of the state store begins. `why` holds no secret."""

    def state_came_back(self, lasted_s: float, calls: int) -> None:
        """It is over; so many calls of the store went without it."""


class Counting(Telemetry):
    """Sums up what it is told until it is flushed. Told one thing at a time; of `state_failed` in any thread."""

    def flush(self) -> None:
        """Write down what was counted since the last time."""


class FanOut(Telemetry):
    """Tell each of several."""

    def __init__(self, *parts: Telemetry) -> None:
        self._parts = parts

    def request_admitted(self) -> None:
        for part in self._parts:
            part.request_admitted()

    def stream_began(self) -> None:
        for part in self._parts:
            part.stream_began()

    def request_ended(self, record: RequestRecord) -> None:
        for part in self._parts:
            part.request_ended(record)

    def attempt_ended(self, candidate: Candidate, outcome: str, ms: float, *, rested: bool = False) -> None:
        for part in self._parts:
            part.attempt_ended(candidate, outcome, ms, rested=rested)

    def credential_refused(self, candidate: Candidate, reason: str) -> None:
        for part in self._parts:
            part.credential_refused(candidate, reason)

    def state_failed(self, verb: str) -> None:
        for part in self._parts:
            part.state_failed(verb)

    def state_went_down(self, why: str) -> None:
        for part in self._parts:
            part.state_went_down(why)

    def state_came_back(self, lasted_s: float, calls: int) -> None:
        for part in self._parts:
            part.state_came_back(lasted_s, calls)


@dataclass
class LogTelemetry(Telemetry):
    """Write one line a request, one for each credential that is refused, and one at each end of an outage of the state store."""

    state_failures: dict[str, int] = field(default_factory=dict)

    def request_ended(self, record: RequestRecord) -> None:
        if log.isEnabledFor(logging.INFO):
            # Not `log.info`, which looks for its caller's place in the code each time.
            log.handle(log.makeRecord(log.name, logging.INFO, "", 0, "request", (), None, extra={"fields": fields_of(record)}))

    def credential_refused(self, candidate: Candidate, reason: str) -> None:
        fields = {
            "provider": candidate.provider.key,
            "credential": candidate.credential.number,
            "variable": candidate.provider.credential_env,
            "why": reason,
        }
        log.error("a provider refuses a credential: it rests until that is mended", extra={"fields": fields})

    def state_failed(self, verb: str) -> None:
        self.state_failures[verb] = self.state_failures.get(verb, 0) + 1

    def state_went_down(self, why: str) -> None:
        message = "the state store does not answer: quotas and cooldowns are unknown, requests go on"
        log.error(message, extra={"fields": {"why": why}})

    def state_came_back(self, lasted_s: float, calls: int) -> None:
        fields = {"lasted_s": round(lasted_s, 1), "calls_without_it": calls}
        log.warning("the state store answers again", extra={"fields": fields})


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
