"""The tie between a client's connection and what runs upstream for it.

A thread that waits for a silent upstream cannot see its client leave, a deadline pass or the worker stop. One watch
thread a process sees all three and shuts the upstream's socket down, which wakes the waiting thread at once.
"""

from __future__ import annotations

import logging
import math
import select
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

EndReason = Literal["client_gone", "drained"]

TICK_S = 0.1  # a client that left or a passed deadline is seen within this
LAST_WORDS_S = 2.0  # how long after the end of its time a request's client may take to read why it ended
_HANG_UP = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)  # RDHUP: Linux only

log = logging.getLogger("gateway")


class Handle:
    """One client request, as the upstream call sees it. Thread-safe.

    `ended` tells why nobody needs the answer any more, None while somebody does. `expired` tells that the running
    upstream call outlived the deadline given to `arm`, or the request's own.
    """

    def __init__(self, client: socket.socket | None = None) -> None:
        self.client = client
        self.ended: EndReason | None = None
        self.expired = False
        self.deadline_mono = math.inf  # of the running upstream call
        self.ends_at_mono = math.inf  # of the request
        self._upstream: Any = None
        self._over = threading.Event()
        self._lock = threading.Lock()

    def arm(self, deadline_mono: float) -> None:
        """Begin an upstream call that may last until `deadline_mono` (monotonic seconds)."""
        with self._lock:
            self._upstream, self.expired, self.deadline_mono = None, False, deadline_mono

    def arm_deadline(self, deadline_mono: float, upstream: Any = None) -> None:
        """Give the running upstream call another deadline; with `upstream`, if it is still this socket's call that runs."""
        with self._lock:
            if upstream is None or self._upstream is upstream:
                self.deadline_mono = deadline_mono

    def end_by(self, ends_at_mono: float) -> None:
        """Bound the request: then whatever upstream call runs expires, and soon after its client is hung up on.

        A thread that writes to a client which does not read waits without limit: only the hang-up wakes it.
        """
        with self._lock:
            self.ends_at_mono = ends_at_mono

    def disarm(self) -> None:
        """The upstream call is over: its socket may serve another request now."""
        with self._lock:
            self._upstream, self.deadline_mono = None, math.inf

    def detach(self, upstream: Any) -> None:
        """As `disarm`, if it is still this socket's call that runs."""
        with self._lock:
            if self._upstream is upstream:
                self._upstream, self.deadline_mono = None, math.inf

    def attach(self, upstream: Any) -> None:
        """Note the socket to shut down when the request ends."""
        with self._lock:
            self._upstream = upstream
            self._stop_upstream()

    def end(self, reason: EndReason) -> None:
        """Stop whatever runs for this request; the first reason holds."""
        with self._lock:
            self._end(reason)

    def expire(self) -> None:
        """Stop the running upstream call, and nothing else."""
        with self._lock:
            self._expire()

    def check(self, now_mono: float) -> None:
        """Do what is due at this moment."""
        with self._lock:
            if now_mono > min(self.deadline_mono, self.ends_at_mono) and not self.expired:
                self._expire()
            if self.client and now_mono > self.ends_at_mono + LAST_WORDS_S:
                shut_down(self.client)
                self._end("client_gone")
            self._stop_upstream()  # again: a socket that was not connected yet could not be shut down

    def release(self) -> None:
        """The request is over: its client's socket may serve the next one now."""
        with self._lock:
            self.client, self.ends_at_mono = None, math.inf

    def wait(self, seconds: float) -> bool:
        """Wait that long, or until the request ends; return whether it ended."""
        return self._over.wait(max(0.0, seconds))

    def _end(self, reason: EndReason) -> None:
        self.ended = self.ended or reason
        self._over.set()
        self._stop_upstream()

    def _expire(self) -> None:
        self.expired, self.deadline_mono = True, math.inf
        self._stop_upstream()

    def _stop_upstream(self) -> None:
        if self._upstream is not None and (self.ended or self.expired):
            shut_down(self._upstream)


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
        handle.release()

    @contextmanager
    def watched(self) -> Iterator[Handle]:
        """Watch a call that no client waits for: what its limits cannot see ends it too, such as a head that drips."""
        handle = self.open_handle(None)
        try:
            yield handle
        finally:
            self.close_handle(handle)

    def drain(self) -> None:
        """End every running request, and each that still begins."""
        self.stopping = self.draining = True
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
            try:
                self._poll(handles)
            except Exception as error:  # without this thread nobody is let go in time any more
                fields = {"exception": type(error).__name__, "traceback": "".join(traceback.format_tb(error.__traceback__))}
                log.error("watch failed", extra={"fields": fields})
            time.sleep(TICK_S)

    def _poll(self, handles: list[Handle]) -> None:
        now = time.monotonic()
        poll = select.poll()
        clients: dict[int, Handle] = {}
        for handle in handles:
            handle.check(now)
            client = handle.client
            number = client.fileno() if client and not handle.ended else -1
            if number >= 0:
                clients[number] = handle
                poll.register(number, _HANG_UP)
        for number, event in poll.poll(0):
            handle = clients[number]
            if event & _HANG_UP and handle.client:  # not released meanwhile: the descriptor may be another's by now
                handle.end("client_gone")


def shut_down(connection: Any) -> None:
    """Wake whoever waits on a socket, from another thread. Never raises, whatever the object is.

    The plain socket's method does it: that of `ssl.SSLSocket` drops the TLS layer first, and what the other thread
    sends just then would leave in the clear. TLS within TLS (an https proxy) is no socket, but holds one.
    """
    with suppress(Exception):
        socket.socket.shutdown(getattr(connection, "socket", connection), socket.SHUT_RDWR)
