"""The connections to providers: as those of urllib3, but that the watch knows each socket before it is used.

And in what else they differ: all addresses of a name share the connect limit, sending has the time that the answer has, a
small body leaves with its head, and what follows from a URL's origin is looked up once.
"""

from __future__ import annotations

import http.client
import math
import os
import socket
import ssl
import threading
import time
from functools import cache, lru_cache
from typing import Any, ClassVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from gateway.upstream.answer import READ_BYTES, Answer
from gateway.upstream.watch import Handle

LEAST_WAIT_S = 0.001  # of a socket: 0 would mean not to wait at all


class _Current(threading.local):
    """The call that this thread makes: connections note their socket here, where the watch can reach it."""

    handle: Handle | None = None
    upstream: Any = None
    reused = False
    answer_s: float | None = None  # how long the answer may take to begin, the sending included

    def begin(self, handle: Handle, answer_s: float) -> None:
        self.handle, self.upstream, self.reused, self.answer_s = handle, None, False, answer_s

    def note(self, upstream: Any, *, reused: bool) -> Handle | None:
        """Tie a socket to this thread's call; return the call's handle."""
        if self.handle and upstream is not None:
            self.upstream, self.reused = upstream, reused
            self.handle.attach(upstream)
        return self.handle


current = _Current()


class _Connection(HTTPConnection):
    response_class = Answer
    _answered = False  # it has served a request before: the provider may have closed it since
    _body = b""  # of the request, to be sent with its head
    _noted: Any = None  # the socket that the watch knows
    _user: Handle | None = None  # whose request it serves
    _guard: socket.socket | None = None

    def connect(self) -> None:
        """Connect, TLS and a proxy's tunnel included; whatever goes wrong before that is done, is the connection's fault."""
        try:
            super().connect()
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "no connection in time") from error
        except (OSError, http.client.HTTPException) as error:
            raise NewConnectionError(self, "no connection") from error
        finally:
            if self._guard:
                self._guard.close()
                self._guard = None
        self._answered = False
        self._note(self.sock, reused=False)
        set_timeout(self.sock, current.answer_s)

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers. All of them share the connect limit, and TLS gets what is left.

        As urllib3's own, but for that, and that the watch knows each socket before it connects.
        """
        try:
            found = socket.getaddrinfo(self._dns_host.strip("[]"), self.port, allowed_gai_family(), socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except UnicodeError:
            raise LocationParseError(self.host) from None
        ends_at = time.monotonic() + float(self.timeout or 0)
        failure: OSError | None = None
        for position, (family, kind, protocol, _, address) in enumerate(found):
            upstream = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    upstream.setsockopt(*option)
                upstream.settimeout(max(LEAST_WAIT_S, (ends_at - time.monotonic()) / (len(found) - position)))
                self._watch_over(upstream)
                upstream.connect(address)
                upstream.settimeout(max(LEAST_WAIT_S, ends_at - time.monotonic()))
                return upstream
            except OSError as error:
                upstream.close()
                failure = error
        raise failure or OSError("the name has no address")

    def _watch_over(self, upstream: socket.socket) -> None:
        """Note a socket that is not connected yet, by a descriptor of its own: TLS takes the socket's over."""
        if self._guard:
            self._guard.close()
        self._guard = upstream.dup()
        self._note(self._guard, reused=False)

    def send(self, data: Any) -> None:
        if self.sock is not self._noted and not self._guard:
            self._note(self.sock, reused=self._answered)
            set_timeout(self.sock, current.answer_s)
        data, self._body = data + self._body, b""
        super().send(data)

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        """Send a request whose headers are complete but for the host's."""
        self._noted, self._body = None, b""  # it may be another call that uses it now
        self.putrequest(method, url, skip_accept_encoding=True)
        for name, value in headers.items():
            self._output(field_line(name, value))  # type: ignore[attr-defined]
        if body and len(body) <= READ_BYTES:
            self._body, body = body, None  # with the head, in one packet
        self.endheaders()
        if body:
            self.send(body)

    def getresponse(self) -> Any:
        set_timeout(self.sock, self.timeout)
        response = http.client.HTTPConnection.getresponse(self)  # not urllib3's, which wraps it
        self._answered = True
        return response

    def let_go(self) -> None:
        """It serves nobody any more: what ends that request must not end the next one's."""
        if self._user:
            self._user.detach(self._noted)
            self._user = None

    def _note(self, upstream: Any, *, reused: bool) -> None:
        self._noted, self._user = upstream, current.note(upstream, reused=reused)


@lru_cache(maxsize=1024)
def field_line(name: str, value: str) -> bytes:
    """Return a line of a request's head. :raises ValueError: it would be more than one, or its name is none."""
    line = f"{name}: {value}"
    if not name or ":" in name or not line.isprintable():
        raise ValueError(f"no header: {name!r}")
    return line.encode("latin-1")


def set_timeout(connection: Any, seconds: float | None) -> None:
    """Bound a socket's waits; those of seconds to the next tenth. Most often nothing changes then, and a change asks the system.

    Never earlier than asked for: what ends before a request's own end would be taken for the provider's silence.
    """
    if seconds is not None and seconds > 1:
        seconds = math.ceil(seconds * 10) / 10
    if connection is not None and connection.gettimeout() != seconds:
        connection.settimeout(seconds)


class _HTTPSConnection(_Connection, HTTPSConnection):
    pass


class _Detaching:
    """urllib3 takes a connection back as soon as the last byte is read, before the answer is closed."""

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.let_go()
        super()._put_conn(conn)  # type: ignore[misc]


class _Pool(_Detaching, HTTPConnectionPool):
    ConnectionCls: ClassVar[Any] = _Connection  # type: ignore[misc]


class _HTTPSPool(_Detaching, HTTPSConnectionPool):
    ConnectionCls: ClassVar[Any] = _HTTPSConnection  # type: ignore[misc]


class _Answer(requests.Response):
    """An answer as far as it is read here: nobody asks for its cookies, history and encoding."""

    def __init__(self, request: requests.PreparedRequest, raw: Any) -> None:
        self.request = request
        self.raw = raw
        self.status_code = raw.status
        self.headers = raw.headers
        self._content_consumed = False


class _Context(ssl.SSLContext):
    """What every TLS connection is made with. urllib3 makes one for each, and reads the bundle of CAs every time.

    Measured 2026-11: 20 ms of CPU for each connection, out of the time that it has to connect.
    """

    def set_alpn_protocols(self, alpn_protocols: Any) -> None:
        """It was done when this was made. urllib3 does it for each connection, while other threads begin theirs."""


@cache
def build_context(ca_bundle: str) -> ssl.SSLContext:
    """Return a context that trusts the CAs in a file or folder, checks names, and offers HTTP/1.1."""
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    ssl.SSLContext.set_alpn_protocols(context, ["http/1.1"])
    is_folder = os.path.isdir(ca_bundle)
    context.load_verify_locations(capath=ca_bundle if is_folder else None, cafile=None if is_folder else ca_bundle)
    return context


class Adapter(HTTPAdapter):
    """The adapter of requests, which looks up what follows from a URL's origin once and not for each call."""

    def __init__(self, *, pool_connections: int, pool_maxsize: int, ca_bundle: str) -> None:
        self._pools: dict[tuple[str, ...], Any] = {}
        self._context = build_context(ca_bundle)
        super().__init__(pool_connections, pool_maxsize)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _HTTPSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, ssl_context=self._context, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _HTTPSPool}
        return manager

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        origin = (*request.url.split("/", 3)[:3], *(proxies or {}).values())
        pool = self._pools.get(origin)
        if pool is None or pool.pool is None:  # closed, to make room for another origin's
            pool = self._pools[origin] = super().get_connection_with_tls_context(request, verify, proxies, cert)
        return pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """The context does it."""

    def request_url(self, request: Any, proxies: Any) -> str:
        if proxies:
            return str(super().request_url(request, proxies))
        return "/" + str(request.url).partition("://")[2].partition("/")[2]

    def build_response(self, req: Any, resp: Any) -> Any:
        return _Answer(req, resp)
