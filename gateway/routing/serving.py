"""A stream being served, from its commit point to its end."""

from __future__ import annotations

from collections.abc import Callable

from gateway.domain import Candidate
from gateway.errors import UpstreamError, UpstreamTimeout
from gateway.routing.attempts import AttemptLoop, Won, Yield
from gateway.routing.commit import Begun
from gateway.routing.rescue import find_rescue
from gateway.routing.route import Route
from gateway.upstream.relay import Rescued, StreamEnd
from gateway.upstream.shape import ChunkShaper


class Serving:
    """Who serves a stream, and whose booking is open until it ends: a rescue changes both.

    `rescue` and `ended` are the relay's two callables. `on_close` is called once, after everything was settled, with who
    served it in the end.
    """

    def __init__(
        self,
        loop: AttemptLoop,
        call: Callable[[Candidate], Yield[Begun]],
        won: Won[Begun],
        on_close: Callable[[StreamEnd, Route], None],
    ) -> None:
        self._loop = loop
        self._call = call
        self._won = won
        self._on_close = on_close

    @property
    def route(self) -> Route:
        """Who serves it at present, and what was tried so far."""
        return self._loop.route_of(self._won)

    def rescue(self, text: str, broken: ChunkShaper, error: UpstreamError) -> Rescued | None:
        """Return a stream that goes on where this one broke, None where there is none. Blocks at most RESCUE_S.

        :raises ClientGone: nobody is left to answer. :raises Draining: the worker stops.
        """
        self._loop.ledger.broken(self._won.booking, error, broken.final_usage(self._loop.asked.prompt_tokens))
        found = find_rescue(self._loop, self._call, text, broken, error)
        if found is None:
            return None
        self._won, rest = found
        route = self.route
        x_gateway = route.x_gateway() | {"rescued": True, "trail": route.trail}
        return Rescued(self._won.value.stream, self._won.value.shaper, rest, x_gateway)

    def ended(self, end: StreamEnd) -> None:
        """Settle the stream as it ended, if its break has not done so, and tell."""
        try:
            self._settle(end)
        finally:
            self._loop.ledger.abandoned(self._won.booking, end.usage)  # only where a defect of ours came between
            self._on_close(end, self.route)

    def _settle(self, end: StreamEnd) -> None:
        ledger, booking = self._loop.ledger, self._won.booking
        if booking.open and isinstance(end.error, UpstreamError):
            self._loop.note_break(end.error)
        ran_out = isinstance(end.error, UpstreamTimeout) and end.error.phase == "total"  # of its time, not by its fault
        if end.outcome == "completed":
            ledger.ended(booking, end.usage, ttft_s=self._won.ttft_s)
        elif isinstance(end.error, UpstreamError) and end.outcome == "broken" and not ran_out:
            ledger.broken(booking, end.error, end.usage)
        else:
            ledger.abandoned(booking, end.usage)
