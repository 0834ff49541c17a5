"""HTTP/1.1 over a plain socket, as a server that may misbehave: no library in between that would forbid it."""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from tests.e2e.simulator.behaviours import Answer

Ending = Literal["answered", "client_closed", "cut", "reset", "stopped"]
Framing = Literal["length", "chunked", "close"]

TLS_HANDSHAKE = b"\x16"  # the first byte of a TLS connection
MAX_S = 60.0  # nothing here waits longer, whatever a test forgot
REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    404: "Not Found",
    429: "Too Many Requests",
}


class PeerClosed(Exception):
    """The client closed the connection before the answer was whole."""


@dataclass
class Request:
    """One request that arrived, and how its connection ended. `t`, `ended_at`, `client_closed_at`: monotonic seconds.

    `path` is as the client wrote it, without the query; `rest` is what stands below the provider's prefix. Names of
    headers are in lower case. `ended` is None while the answer runs; `client_closed_at` is None unless the client
    left before the answer was complete. `connection` numbers the TCP connections from 1.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    connection: int
    provider: str = ""
    rest: str = ""
    model: str | None = None
    t: float = field(default_factory=time.monotonic)
    status: int | None = None
    ended: Ending | None = None
    ended_at: float | None = None
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def json(self) -> Any:
        """The body as JSON, None where it is none."""
        with suppress(ValueError):
            return json.loads(self.body)
        return None

    @property
    def key(self) -> str | None:
        """The credential that the client sent, wherever this provider expects it."""
        bearer = self.headers.get("authorization", "")
        return self.headers.get("x-goog-api-key") or self.query.get("key") or bearer.removeprefix("Bearer ") or None

    @property
    def client_closed_at(self) -> float | None:
        return self.ended_at if self.ended == "client_closed" else None

    def end(self, ending: Ending) -> None:
        if self.ended is None:
            self.ended, self.ended_at = ending, time.monotonic()
            self._over.set()

    def wait_ended(self, timeout_s: float = 5.0) -> Ending | None:
        """Block until the answer is over; return how it ended, None if it still runs after `timeout_s`."""
        self._over.wait(timeout_s)
        return self.ended


class Connection:
    """One client's connection, as behaviours see it while they answer `request`."""

    request: Request

    def __init__(self, sock: socket.socket, number: int, *, keeps_alive: bool = True) -> None:
        self.number = number
        self.is_open = True
        self._keeps_alive = keeps_alive
        self._sock = sock
        self._buffer = bytearray()
        self._framing: Framing = "length"
        self._faithful: Callable[[], Answer]
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(MAX_S)

    # --- reading ---------------------------------------------------------------------------------------------------

    def read_request(self) -> Request | None:
        """Return the next request, None where the client closed the idle connection, or speaks TLS here."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._receive():
                return None
            if self._buffer.startswith(TLS_HANDSHAKE):
                self.send_raw(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                return None
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        path, _, query = target.partition("?")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Request(
            method=method,
            path=path,
            query={name: values[0] for name, values in parse_qs(query).items()},
            headers=headers,
            body=self._read_body(headers),
            connection=self.number,
        )

    def _read_body(self, headers: Mapping[str, str]) -> bytes:
        if "chunked" not in headers.get("transfer-encoding", ""):
            return self._take(int(headers.get("content-length", 0)))
        body = b""
        while size := int(self._take_line().split(b";")[0], 16):
            body += self._take(size)
            self._take_line()
        self._take_line()
        return body

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._receive():
                raise PeerClosed
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _take_line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if not self._receive():
                raise PeerClosed
        line, _, rest = bytes(self._buffer).partition(b"\r\n")
        self._buffer = bytearray(rest)
        return line

    def _receive(self) -> bool:
        try:
            data = self._sock.recv(65536)
        except OSError:
            return False
        self._buffer += data
        return bool(data)

    # --- for behaviours --------------------------------------------------------------------------------------------

    def begin(self, request: Request, faithful: Callable[[], Answer]) -> None:
        self.request, self._faithful = request, faithful

    def faithful(self) -> Answer:
        """Return what the provider would answer to the request if nothing were scripted."""
        return self._faithful()

    def wait(self, seconds: float) -> None:
        """Block that long.

        :raises PeerClosed: the client left meanwhile.
        """
        until = time.monotonic() + min(seconds, MAX_S)
        while True:
            left_s = max(0.0, until - time.monotonic())
            if self._is_readable(left_s) and not self._receive():
                raise PeerClosed
            if left_s == 0:
                return

    def wait_for_bytes(self, seconds: float = MAX_S) -> None:
        """Block until the client sends the beginning of its next request, at most that long.

        :raises PeerClosed: the client left instead.
        """
        if not self._buffer and self._is_readable(seconds) and not self._receive():
            raise PeerClosed

    def send_head(self, status: int, headers: Mapping[str, str], framing: Framing, length: int = 0) -> None:
        """Send the status line and headers; `length` counts where the body is framed by its length."""
        self.request.status, self._framing = status, framing
        if not self._keeps_alive or self.request.headers.get("connection", "").lower() == "close" or framing == "close":
            self.is_open = False
        lines = {"Server": "simulator", "Content-Type": "application/json", **headers}
        lines["Connection"] = "keep-alive" if self.is_open else "close"
        if framing == "length":
            lines["Content-Length"] = str(length)
        elif framing == "chunked":
            lines["Transfer-Encoding"] = "chunked"
        head = f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\n" + "".join(f"{name}: {lines[name]}\r\n" for name in lines)
        self.send_raw(head.encode("latin-1") + b"\r\n")

    def send_body(self, data: bytes) -> None:
        """Send a part of the body, as one HTTP chunk where the answer is chunked."""
        if data:
            self.send_raw(b"%x\r\n%s\r\n" % (len(data), data) if self._framing == "chunked" else data)

    def end_body(self) -> None:
        if self._framing == "chunked":
            self.send_raw(b"0\r\n\r\n")

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are.

        :raises PeerClosed: the client left.
        """
        self.wait(0)
        try:
            self._sock.sendall(data)
        except OSError:
            raise PeerClosed from None

    def cut(self) -> None:
        """Close the connection in an orderly way (FIN), wherever the answer is."""
        self.request.end("cut")
        self.close()

    def reset(self) -> None:
        """Close the connection with a reset (RST), wherever the answer is."""
        self.request.end("reset")
        with suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.is_open = False
        self._sock.close()

    # --- for the server --------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Wake whoever waits on this connection, from another thread."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.is_open = False
        self.stop()
        self._sock.close()

    def _is_readable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
