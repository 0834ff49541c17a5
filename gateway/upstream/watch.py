"""The tie between a client's connection and what runs upstream for it.

A thread that waits for a silent upstream cannot see its client leave, a deadline pass or the worker stop. One watch
thread a process sees all three and shuts the upstream's socket down, which wakes the waiting thread at once.
"""

from __future__ import annotations

import math
import select
import socket
import threading
import time
from contextlib import suppress
from typing import Literal

EndReason = Literal["client_gone", "drained"]

TICK_S = 0.1  # a client that left or a passed deadline is seen within this
_HANG_UP = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)  # RDHUP: Linux only


class Handle:
    """One client request, as the upstream call sees it. Thread-safe.

    `ended` tells why nobody needs the answer any more, None while somebody does. `expired` tells that the running
    upstream call outlived the deadline given to `arm`.
    """

    def __init__(self, client: socket.socket | None = None) -> None:
        self.client = client
        self.ended: EndReason | None = None
        self.expired = False
        self.deadline_mono = math.inf
        self._upstream: socket.socket | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()

    def arm(self, deadline_mono: float) -> None:
        """Begin an upstream call that may last until `deadline_mono` (monotonic seconds)."""
        with self._lock:
            self._upstream, self.expired, self.deadline_mono = None, False, deadline_mono

    def arm_deadline(self, deadline_mono: float) -> None:
        """Give the running upstream call another deadline."""
        with self._lock:
            self.deadline_mono = deadline_mono

    def disarm(self) -> None:
        """The upstream call is over: its socket may serve another request now."""
        with self._lock:
            self._upstream, self.deadline_mono = None, math.inf

    def attach(self, upstream: socket.socket) -> None:
        """Note the socket to shut down when the request ends."""
        with self._lock:
            self._upstream = upstream
            if self.ended or self.expired:
                _shut_down(upstream)

    def end(self, reason: EndReason) -> None:
        """Stop whatever runs for this request; the first reason holds."""
        with self._lock:
            self.ended = self.ended or reason
            self._over.set()
            if self._upstream:
                _shut_down(self._upstream)

    def expire(self) -> None:
        """Stop the running upstream call, and nothing else."""
        with self._lock:
            self.expired, self.deadline_mono = True, math.inf
            if self._upstream:
                _shut_down(self._upstream)

    def wait(self, seconds: float) -> bool:
        """Wait that long, or until the request ends; return whether it ended."""
        return self._over.wait(max(0.0, seconds))


class Watch:
    """Poll the clients of all running requests. The thread starts with the first request, so after the fork."""

    def __init__(self) -> None:
        self._handles: dict[int, Handle] = {}  # by id of the handle: a client's descriptor may come twice
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.stopping = False  # SIGTERM came: running requests go on for a while, and no balancer should send more
        self.draining = False

    def open_handle(self, client: socket.socket | None) -> Handle:
        """Return a handle that is watched until `close_handle`. `client` None: it can only end by deadline or drain."""
        handle = Handle(client)
        with self._changed:
            self._handles[id(handle)] = handle
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
                self._thread.start()
            if len(self._handles) == 1:
                self._changed.notify()
        if self.draining:
            handle.end("drained")
        return handle

    def close_handle(self, handle: Handle) -> None:
        """Forget the handle; call it before the client's socket is closed, since descriptors are reused."""
        with self._changed:
            self._handles.pop(id(handle), None)

    def drain(self) -> None:
        """End every running request, and each that still begins."""
        self.draining = True
        with self._changed:
            handles = list(self._handles.values())
        for handle in handles:
            handle.end("drained")

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._handles:
                    self._changed.wait()
                handles = list(self._handles.values())
            self._poll(handles)
            time.sleep(TICK_S)

    def _poll(self, handles: list[Handle]) -> None:
        now = time.monotonic()
        poll = select.poll()
        clients: dict[int, Handle] = {}
        for handle in handles:
            if handle.deadline_mono < now:
                handle.expire()
            number = handle.client.fileno() if handle.client and not handle.ended else -1
            if number >= 0:
                clients[number] = handle
                poll.register(number, _HANG_UP)
        for number, event in poll.poll(0):
            if event & _HANG_UP and id(clients[number]) in self._handles:
                clients[number].end("client_gone")


def _shut_down(upstream: socket.socket) -> None:
    with suppress(OSError):  # already closed: nothing is left to wake
        upstream.shutdown(socket.SHUT_RDWR)
