"""A client's connection, on which nobody waits for longer than an honest client would need.

gunicorn reads requests and writes answers without a limit (measured 2026-11 with gunicorn 27.0.1): 18 clients that sent half
a head, or did not read their answers, stopped a worker of 2 and 16 threads for good, /healthz included.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from typing import Any

READ_SILENCE_S = 10.0  # the longest wait for the next piece of a request
WRITE_SILENCE_S = 30.0  # and for a client to read some more of its answer
GRACE_S = 30.0  # of all waits for a client during a request, beside
BYTES_PER_S = 8192  # what moved meanwhile, at this pace: a throttled phone's, which sends 32 MiB in 70 minutes


class PacedSocket(socket.socket):
    """A socket whose `recv` and `sendall` keep to these limits; where it must not block, they wait for nobody.

    Only waits count, so that a stream may last for as long as its client reads it.

    :raises TimeoutError: the client is too slow. It carries an `errno` that gunicorn takes for a client that left.
    """

    _wait_s: float | None = None  # what `settimeout` said
    _waited_s = 0.0
    _moved_bytes = 0

    @classmethod
    def adopt(cls, other: socket.socket) -> PacedSocket:
        """Return a socket in the place of another, which is of no use any more."""
        wait_s = other.gettimeout()
        paced = cls(other.family, other.type, other.proto, fileno=other.detach())
        paced.settimeout(wait_s)
        return paced

    def settimeout(self, seconds: float | None, /) -> None:
        """Bound the waits of `recv` and `sendall` further; 0: they do not wait. The system is not told, whom gunicorn would
        tell six times a request."""
        self._wait_s = seconds

    def gettimeout(self) -> float | None:
        return self._wait_s

    def setblocking(self, flag: bool, /) -> None:
        self._wait_s = None if flag else 0.0

    def begin(self) -> None:
        """Another request begins: what it waits for is its own."""
        self._waited_s, self._moved_bytes = 0.0, 0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if flags:
            return super().recv(size, flags)
        while True:
            try:
                data = super().recv(size, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if self._wait_s == 0:
                    raise
                self._wait_for(select.POLLIN, READ_SILENCE_S)
            else:
                self._moved_bytes += len(data)
                return data

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        if flags:
            return super().sendall(data, flags)
        rest = data
        while True:
            try:
                sent = self.send(rest, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if self._wait_s == 0:
                    raise
                self._wait_for(select.POLLOUT, WRITE_SILENCE_S)
                continue
            self._moved_bytes += sent
            if sent == len(rest):
                return None
            rest = memoryview(rest)[sent:]

    def _wait_for(self, event: int, silence_s: float) -> None:
        left_s = min(silence_s, GRACE_S + self._moved_bytes / BYTES_PER_S - self._waited_s, self._wait_s or silence_s)
        poll = select.poll()
        poll.register(self.fileno(), event)
        began = time.monotonic()
        ready = left_s > 0 and poll.poll(left_s * 1000)
        self._waited_s += time.monotonic() - began
        if not ready:
            raise TimeoutError(errno.ECONNRESET, "the client is too slow")
