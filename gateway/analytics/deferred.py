"""Counting aside: what it costs is no request's affair."""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from gateway.domain import Candidate
from gateway.state.writer import weakly
from gateway.telemetry import Counting, FanOut, RequestRecord, Telemetry

DEFER_S = 0.1  # and WRITE_BEHIND_S of the store: a worker that is killed loses what it counted in less than half a second


class Deferred(Telemetry):
    """Tells those who count a moment later, all at once, and has them write it down. Thread-safe.

    So nothing is written more often than ten times a second, and what runs in a row costs half of what it costs in between
    (measured 2026-11). A timer's thread does it, which whoever has news first starts.
    """

    def __init__(self, *counting: Counting) -> None:
        self._counting = counting
        self._parts = FanOut(*counting)
        self._news: deque[Callable[[], None]] = deque()
        self._telling = threading.Lock()
        self._timer: threading.Timer | None = None
        atexit.register(weakly(self.tell))  # before what the store registered earlier: the last is the first to run

    def request_admitted(self) -> None:
        self._later(self._parts.request_admitted)

    def stream_began(self) -> None:
        self._later(self._parts.stream_began)

    def request_ended(self, record: RequestRecord) -> None:
        self._later(partial(self._parts.request_ended, record))

    def attempt_ended(self, candidate: Candidate, outcome: str, ms: float, *, rested: bool = False) -> None:
        self._later(partial(self._parts.attempt_ended, candidate, outcome, ms, rested=rested))

    def state_failed(self, verb: str) -> None:
        self._later(partial(self._parts.state_failed, verb))

    def tell(self) -> None:
        """Tell now. When this returns, all that happened before is told. Blocks for milliseconds."""
        self._timer = None  # first: whoever has news from now on starts another
        with self._telling:
            while self._news:
                self._news.popleft()()
            for part in self._counting:
                part.flush()

    def _later(self, news: Callable[[], None]) -> None:
        self._news.append(news)
        if self._timer is None:
            timer = self._timer = threading.Timer(DEFER_S, self.tell)
            timer.daemon = True
            try:
                timer.start()
            except RuntimeError:  # no thread to be had
                self.tell()
