"""How many requests this process works on at a time: the rest is shed at once, rather than queued into silence.

A stream holds its thread for its whole life. The worker has a few threads more than this gate lets in
(lifecycle.SPARE_THREADS), so that refusals, health and figures are answered while every place is taken. A large answer needs a
place while it is written, whatever it is: its client may read it slowly.
"""

from __future__ import annotations

import threading

from gateway.errors import GatewayBusy

RETRY_AFTER_S = 1.0


class Gate:
    """A number of places. Thread-safe, never blocks."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.taken = 0
        self.shed = 0  # requests refused since the start
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Take a place, to be given back with `leave`. :raises GatewayBusy: there is none."""
        with self._lock:
            if self.taken < self.places:
                self.taken += 1
                return
            self.shed += 1
        raise GatewayBusy("The gateway serves as many requests as it can; send this one again.", retry_after_s=RETRY_AFTER_S)

    def leave(self) -> None:
        """Give a place back."""
        with self._lock:
            self.taken -= 1
