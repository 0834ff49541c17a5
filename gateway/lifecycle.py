"""How the application and gunicorn meet: what a worker does that Flask cannot.

gunicorn's thread worker, in eight places (all measured 2026-11 with gunicorn 27.0.1):

- a connection gets a thread only when it has sent something: one that is silent holds a thread for 5 s there;
- a client that sends or reads too slowly is let go (gateway/pace.py): there it holds its thread for as long as it likes;
- a thread that has answered waits a moment for its client's next request: the way back through the thread that accepts, and
  from there to another one, costs as much as a third of a request;
- a worker leaves new connections to others that have more room (gateway/siblings.py);
- an answer's head leaves together with the beginning of its body, where gunicorn sends twice;
- a finished connection is closed without a thread: there the thread that accepts waits up to 2 s for a client which does
  not close, and nobody else is let in meanwhile;
- a few threads more than requests are admitted: refusals and health are answered while every place is taken;
- on SIGTERM the listener closes, running requests get the graceful time but LAST_S, and then end with an error.
"""

from __future__ import annotations

import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, cast

from flask import Flask
from gunicorn.http import wsgi
from gunicorn.http.wsgi import Response
from gunicorn.workers.gthread import ThreadWorker

from gateway.pace import PacedSocket
from gateway.services import Services
from gateway.siblings import Siblings

SPARE_THREADS = 16  # beyond those that admission lets in
STAY_S = 0.1  # how long a thread waits for the next request of the connection that it has just served
MORE_ROOM = 2  # so many places more make another worker the better one for a new connection
LEAVE_S = 0.001  # at a time, while a worker leaves a new connection to another
LEAVE_MOST_S = 0.01  # that long at most: the other may hang
LEAVE_WHEN_FULL_S = 1.0  # and that long where this one could only refuse
LAST_S = 6.0  # of the graceful time: for requests that are ended to say so
LINGER_S = 2.0  # for a client that still sends, so that it reads its answer before the connection is reset
LINGER_BYTES = 4 << 20  # and for no more than this: nginx sends 2 MB before it looks at what has come back


siblings = Siblings()  # made in the master, which loads this module for its class of workers


class Worker(ThreadWorker):
    """A worker process: see the module."""

    _gateway: Services | None = None  # until the application is loaded
    _busy = 0  # connections that have a thread of the pool, or wait for one
    _leaves_since = 0.0  # monotonic seconds: a new connection is left to others

    def wipe(self) -> None:
        """For the master: the worker has ended, and nobody leaves it a connection any more."""
        siblings.wipe(self.age)

    def load_wsgi(self) -> None:
        super().load_wsgi()
        # A look-up asks a setting, and a request makes 30 (measured 2026-11: 2% of it).
        vars(self.cfg).update({name: setting.get() for name, setting in self.cfg.settings.items()})
        self._busy_lock = threading.Lock()
        siblings.join(self.age)
        self._count_busy(0)
        gateway: Services = cast(Flask, self.wsgi).extensions["gateway"]
        gateway.store.begin()
        if gateway.settings.discovery:
            gateway.discovery.start()
        self._gateway = gateway
        self._lingering = Lingering()
        self.wsgi = closes_on_request(self.wsgi)

    def get_thread_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=self.cfg.threads + SPARE_THREADS, thread_name_prefix="request")

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection a thread; a new one waits with the kept-alive ones until it has something to read."""
        if not isinstance(conn.sock, PacedSocket):
            conn.sock = PacedSocket.adopt(conn.sock)
        if conn.initialized or conn.data_ready or has_data(conn.sock):
            conn.data_ready = True
            self._count_busy(1)
            super().enqueue_req(conn)
            return
        conn.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def handle(self, conn: Any) -> Any:
        """Serve a connection's requests in a thread of the pool, until there is none for a moment.

        What gunicorn would close later is handed over now.
        """
        try:
            goes_on = super().handle(conn)
            while goes_on is True and self._stays_for(conn):
                goes_on = super().handle(conn)
        finally:
            self._count_busy(-1)
        if goes_on is False:
            self._lingering.close(conn.sock)
            conn.close = lambda graceful=False: None
        return goes_on

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Serve one request; return whether its connection may serve another.

        gunicorn's own, without what nobody here uses: its hooks, its access log, and files that the kernel sends.
        """
        made, environ = wsgi.create(req, conn.sock, conn.client, conn.server, self.cfg, response_class=Reply)
        response = cast(Reply, made)
        environ["wsgi.multithread"] = True
        self.nr += 1
        if self.nr >= self.max_requests:
            self.alive = False
        if not self.alive or not self.cfg.keepalive or len(self.keepalived_conns) >= self.max_keepalived:
            response.force_close()
        application: Callable[..., Iterable[bytes]] = self.wsgi
        try:
            body = application(environ, response.start_response)
            try:
                for piece in body:
                    response.write(piece)
                response.close()
            finally:
                if hasattr(body, "close"):
                    body.close()
        except OSError:
            raise
        except Exception:
            if not response.has_left:
                raise
            self.log.exception("Error handling request")
            raise StopIteration from None  # the connection ends: what was sent cannot be taken back
        finally:
            conn.sock.begin()
        return not response.should_close()

    def _stays_for(self, conn: Any) -> bool:
        """Wait for a connection's next request, at most STAY_S; return whether it is here. Spare threads do not wait."""
        if not self.alive or self._busy > self.cfg.threads:
            return False
        if conn.parser.unreader.buf.getvalue():  # it came together with the last one
            return True
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(STAY_S * 1000))

    def _count_busy(self, change: int) -> None:
        with self._busy_lock:
            self._busy += change
            siblings.tell(self.cfg.threads - self._busy if self.alive else 0)

    def accept(self, listener: Any) -> None:
        if self.alive and self._leaves_it_to_others():
            time.sleep(LEAVE_S)  # the listener stays readable
        else:
            super().accept(listener)

    def _leaves_it_to_others(self) -> bool:
        """Whether somebody else should take a new connection, and is given the time for it."""
        free = max(0, self.cfg.threads - self._busy)
        if not siblings.have_room(free + MORE_ROOM if free else 1):
            return False
        most_s, now = LEAVE_MOST_S if free else LEAVE_WHEN_FULL_S, time.monotonic()
        if now > self._leaves_since + 2 * most_s:  # the last time was another connection
            self._leaves_since = now
        return now < self._leaves_since + most_s

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self.alive and self._gateway:
            self._gateway.watch.stopping = True
            drain = threading.Timer(max(0.0, self.cfg.graceful_timeout - LAST_S), self._gateway.watch.drain)
            drain.daemon = True
            drain.start()
        super().handle_exit(sig, frame)
        if self._gateway:
            siblings.tell(0)  # now that nobody else here says otherwise

    def set_accept_enabled(self, enabled: bool | None) -> None:
        super().set_accept_enabled(enabled)
        if not self.alive and not enabled:
            self._close_listeners()

    def _close_listeners(self) -> None:
        """Take whom the kernel has accepted already, then let it accept nobody else for this worker."""
        for listener in self.sockets:
            with suppress(OSError):
                listener.setblocking(False)
                for _ in range(self.worker_connections):
                    before = self.nr_conns
                    self.accept(listener)
                    if self.nr_conns == before:
                        break
                listener.close()


class Reply(Response):
    """An answer whose head leaves with the beginning of its body, in one packet."""

    _head = b""

    @property
    def has_left(self) -> bool:
        """Whether anything of it was sent."""
        return self.headers_sent and not self._head

    def send_headers(self) -> None:
        if not self.headers_sent:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            self._head = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def close(self) -> None:
        self.send_headers()
        if self._head or self.chunked:
            self._send(b"0\r\n\r\n" if self.chunked else b"")

    def _send(self, data: bytes) -> None:
        self.sock.sendall(self._head + data if self._head else data)
        self._head = b""


class Lingering:
    """Closes connections without holding a thread for each: what a client still sends is read and dropped for a moment.

    Closing at once would answer that with a reset, which can take the answer with it (RFC 9112, section 9.6).
    """

    def __init__(self) -> None:
        self._waiting: deque[socket.socket] = deque()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._last: dict[socket.socket, tuple[float, int]] = {}  # until when, and how many bytes more
        threading.Thread(target=self._run, name="lingering", daemon=True).start()

    def close(self, connection: socket.socket) -> None:
        """Tell the client that nothing more comes, and close soon. Does not block."""
        try:
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()
            return
        self._waiting.append(connection)
        with suppress(BlockingIOError):
            self._bell.send(b"\0")

    def _run(self) -> None:
        while True:
            soonest = min((until for until, _ in self._last.values()), default=time.monotonic() + 60.0)
            for key, _ in self._selector.select(max(0.0, soonest - time.monotonic())):
                if key.fileobj is self._ear:
                    self._take_new()
                else:
                    self._read(cast(socket.socket, key.fileobj))
            now = time.monotonic()
            for connection in [connection for connection, (until, _) in self._last.items() if until <= now]:
                self._drop(connection)

    def _take_new(self) -> None:
        with suppress(BlockingIOError):
            self._ear.recv(4096)
        while self._waiting:
            connection = self._waiting.popleft()
            try:
                connection.setblocking(False)
                self._selector.register(connection, selectors.EVENT_READ)
            except (OSError, ValueError, KeyError):
                connection.close()
            else:
                self._last[connection] = (time.monotonic() + LINGER_S, LINGER_BYTES)

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        until, left = self._last[connection]
        if data and left > len(data):
            self._last[connection] = (until, left - len(data))
        else:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        del self._last[connection]
        self._selector.unregister(connection)
        connection.close()


def has_data(connection: socket.socket) -> bool:
    """Whether a client has sent something already, or left: most have, and need not be waited for."""
    try:
        connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def closes_on_request(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Obey `Connection: close` of an answer.

    gunicorn drops the header and keeps the connection (2026-11, gunicorn 27.0.1), though the rest of a refused body
    may still stand before the next request on it.
    """

    def wrapped(environ: Any, start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if ("Connection", "close") in headers:
                start_response.__self__.force_close()
            return start_response(status, headers, exc_info)

        return app(environ, start)

    return wrapped
