"""HTTP to providers: one shared pool, time-outs by phase, bytes as they arrive, and the one map of foreign exceptions.

`requests` is used below its Session: a prepared request handed to an HTTPAdapter, which skips the cookies, netrc,
redirects and environment look-ups of `Session.request` (measured 2026-11: 146 us against 370 us a call).
Redirects are never followed: a credential must not travel to a host that nobody chose.
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import requests
import urllib3

from gateway.errors import (
    ClientGone,
    Draining,
    GatewayError,
    TimeoutPhase,
    UpstreamError,
    UpstreamGarbled,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.upstream.answer import READ_BYTES
from gateway.upstream.connections import LEAST_WAIT_S, Adapter, current, set_timeout
from gateway.upstream.watch import Handle

MAX_BODY_BYTES = 128 * 1024 * 1024  # of a whole answer: more than any model sends, less than hurts the process
DRAIN_S = 0.02  # how long a finished stream waits for its last chunk, so that the connection can be used again


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One HTTP call to make, built without I/O. Its headers hold the credential: never log it."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Time limits of one attempt: for a connection with its TLS, for the headers or a stream's first token, for any
    silence after that. `deadline_mono` bounds all of it, whatever the upstream does.
    """

    connect_s: float
    first_token_s: float
    idle_s: float
    deadline_mono: float


class UpstreamResponse:
    """An answer whose headers are here; the body is read as it arrives. Use from one thread; close it once."""

    def __init__(self, raw: Any, handle: Handle, upstream: socket.socket | None) -> None:
        self._raw = raw  # an Answer, or as much of urllib3's response as is used of one
        self._handle = handle
        self._socket = upstream
        self.status: int = raw.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in raw.headers.items()}

    @property
    def is_event_stream(self) -> bool:
        return self.headers.get("content-type", "").lower().startswith("text/event-stream")

    def read(self, wait_s: float) -> bytes:
        """Return the bytes that are there, waiting at most `wait_s` for the first of them; b"" at the end.

        :raises UpstreamTimeout: silence (phase idle) or the attempt's deadline (phase total).
        :raises UpstreamReset: the body broke off. :raises UpstreamGarbled: its framing makes no sense.
        :raises ClientGone: nobody waits for it any more. :raises Draining: the worker stops.
        """
        self._set_timeout(max(LEAST_WAIT_S, wait_s))
        with mapped_errors(self._handle, "idle"):
            data: bytes = self._raw.read1(READ_BYTES, decode_content=True)
        if not data and (self._handle.expired or self._handle.ended):
            raise interruption(self._handle)  # a socket that the watch shut down reads as an ordinary end
        return data

    def wait(self, wait_s: float) -> bool:
        """Wait at most that long until there is something to read: bytes, the end, or an error. Reads nothing.

        For those who must do something meanwhile: after a `read` that timed out, nothing more can be read.
        """
        if not isinstance(self._socket, socket.socket) or self._raw.closed or "content-encoding" in self.headers:
            return True  # nothing to look at, or too many layers to look through: the read will tell
        if self._is_buffered(self._socket):
            return True
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return bool(poll.poll(max(0.0, wait_s) * 1000))

    def read_all(self, limits: CallLimits) -> bytes:
        """Return the whole body, however it drips, before the deadline. Errors as for `read`."""
        pieces, size = [], 0
        try:
            while piece := self.read(min(limits.idle_s, limits.deadline_mono - time.monotonic())):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_BODY_BYTES:
                    raise UpstreamGarbled("The provider's answer was larger than any real one.", upstream_status=self.status)
        except UpstreamTimeout as error:
            if time.monotonic() >= limits.deadline_mono:  # the watch and the socket see it at the same time
                raise _too_late() from error
            raise
        return b"".join(pieces)

    def close(self, *, finished: bool = False) -> None:
        """Let go of the connection: back to the pool if the answer was read to its end, else closed. Never raises.

        `finished`: the caller has all it wants, so wait up to 20 ms for the end of the body.
        """
        if finished and self._socket and not self._raw.closed:
            self._handle.arm_deadline(time.monotonic() + DRAIN_S, self._socket)  # also for an end that drips
            with suppress(GatewayError):
                self.read(DRAIN_S)
        self._handle.detach(self._socket)
        with suppress(OSError, urllib3.exceptions.HTTPError):
            if not self._raw.closed:
                self._raw.close()
            self._raw.release_conn()

    def _set_timeout(self, timeout_s: float) -> None:
        # Once the body was read to its end, the socket is back in the pool, and may be another request's.
        if self._socket and not self._raw.closed:
            with suppress(OSError):
                set_timeout(self._socket, timeout_s)

    def _is_buffered(self, upstream: socket.socket) -> bool:
        """Whether bytes have left the socket already: they wait in a buffer, where no poll sees them."""
        if isinstance(upstream, ssl.SSLSocket) and upstream.pending():
            return True
        self._set_timeout(0)  # a look that waits would end like a read: what once timed out cannot be read any more
        try:
            return bool(self._raw.has_bytes)
        except ssl.SSLWantReadError:
            return False
        except (OSError, ValueError):
            return True  # broken: the read will tell


class Transport:
    """The one way out. Thread-safe; its connections belong to one process.

    `proxies` maps schemes to proxy URLs as `requests` has them; hosts in `no_proxy` are called directly.
    `ca_bundle` None: certifi's.
    """

    def __init__(
        self, *, pool_size: int = 64, proxies: Mapping[str, str] | None = None, no_proxy: str = "", ca_bundle: str | None = None
    ) -> None:
        self._adapter = Adapter(
            pool_connections=32, pool_maxsize=pool_size, ca_bundle=ca_bundle or requests.utils.DEFAULT_CA_BUNDLE_PATH
        )
        self._proxies = dict(proxies or {})
        self._no_proxy = no_proxy

    def open(self, request: UpstreamRequest, limits: CallLimits, handle: Handle) -> UpstreamResponse:
        """Send a request and return its answer once the headers are here.

        Blocks at most until the first-token limit or the deadline, whichever is sooner (name resolution aside).
        A reused connection that breaks before any byte says nothing of the provider: it is repeated on another.

        :raises UpstreamError: UpstreamUnreachable, UpstreamTimeout (connect, first_token, total), UpstreamReset.
        :raises ClientGone: the client left. :raises Draining: the worker stops.
        """
        while True:
            try:
                return self._send(request, limits, handle)
            except UpstreamReset:
                if not current.reused:
                    raise

    def close(self) -> None:
        """Close every pooled connection."""
        self._adapter.close()

    def _send(self, request: UpstreamRequest, limits: CallLimits, handle: Handle) -> UpstreamResponse:
        if handle.ended:
            raise interruption(handle)
        left_s = min(limits.first_token_s, limits.deadline_mono - time.monotonic())
        if left_s <= 0:
            raise UpstreamTimeout("There was no time left to ask the provider.", phase="total")
        handle.arm(time.monotonic() + left_s)  # also for headers that drip
        current.begin(handle, left_s)
        try:
            with mapped_errors(handle, "first_token"):
                response = self._adapter.send(
                    Prepared(request),
                    stream=True,
                    timeout=(min(limits.connect_s, left_s), left_s),
                    proxies=self._proxies_for(request.url),
                )
                if handle.expired or handle.ended:  # a socket that the watch shut down reads as an ordinary end of headers
                    response.close()
                    raise interruption(handle)
        except GatewayError as error:
            handle.disarm()
            if handle.expired and not handle.ended:
                raise _timeout("first_token") from error
            raise
        finally:
            current.handle = None
        handle.arm_deadline(limits.deadline_mono, current.upstream)
        return UpstreamResponse(response.raw, handle, current.upstream)

    def _proxies_for(self, url: str) -> dict[str, str]:
        if not self._proxies or requests.utils.should_bypass_proxies(url, self._no_proxy):
            return {}
        return self._proxies


class Prepared(requests.PreparedRequest):
    """What the adapter sends, without the checks of `Request.prepare`: our URLs and bodies are complete.

    The path is left as it is: Workers AI refuses a model id whose `@` and `/` are percent-encoded.
    """

    def __init__(self, request: UpstreamRequest) -> None:
        self.method = request.method
        self.url = request.url
        self.body = request.body
        # A compressor holds events back.
        headers = {"User-Agent": "ai-gateway", "Accept-Encoding": "identity", **request.headers}
        if request.body is not None:
            headers["Content-Length"] = str(len(request.body))
            headers.setdefault("Content-Type", "application/json")
        self.headers = headers  # type: ignore[assignment]
        self.hooks = {"response": []}


# --- foreign exceptions --------------------------------------------------------------------------------------------


@contextmanager
def mapped_errors(handle: Handle, phase: TimeoutPhase) -> Iterator[None]:
    """Turn whatever the libraries raise into our errors; silence counts as a time-out of `phase`."""
    try:
        yield
    except GatewayError:
        raise
    except Exception as error:
        if handle.ended or handle.expired:
            raise interruption(handle) from error
        mapped = map_error(error, phase)
        if mapped is None:
            raise
        raise mapped from error


def interruption(handle: Handle) -> GatewayError:
    """Return why the watch stopped this call."""
    if handle.ended == "client_gone":
        return ClientGone("The client closed its connection.")
    if handle.ended == "drained":
        return Draining("The gateway is shutting down; send the request again.", retry_after_s=1)
    return _too_late()


def map_error(error: BaseException, phase: TimeoutPhase = "idle") -> UpstreamError | None:
    """Return our error for one of requests, urllib3, http.client, ssl or the socket; None for a defect of ours."""
    causes = list(_chain(error))
    for kinds, build in _ERRORS:
        if any(isinstance(cause, kinds) for cause in causes):
            return build(phase)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and everything it wraps: the libraries hide the real reason in arguments."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        item = waiting.pop(0)
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        waiting += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]


def _unreachable(phase: TimeoutPhase) -> UpstreamError:
    return UpstreamUnreachable("The provider could not be reached.")


def _connect_timeout(phase: TimeoutPhase) -> UpstreamError:
    return UpstreamTimeout("The provider did not accept a connection in time.", phase="connect")


def _timeout(phase: TimeoutPhase) -> UpstreamError:
    if phase == "first_token":
        return UpstreamTimeout("The provider did not begin to answer in time.", phase=phase)
    return UpstreamTimeout("The provider was silent for too long.", phase=phase)


def _too_late() -> UpstreamTimeout:
    return UpstreamTimeout("The provider did not finish in time.", phase="total")


def _reset(phase: TimeoutPhase) -> UpstreamError:
    return UpstreamReset("The provider's connection broke off.")


def _garbled(phase: TimeoutPhase) -> UpstreamError:
    return UpstreamGarbled("The provider's answer could not be read.")


# The first match anywhere in the chain of causes wins: the surest statements come first.
_ERRORS: tuple[tuple[tuple[type[BaseException], ...], Callable[[TimeoutPhase], UpstreamError]], ...] = (
    (
        (
            urllib3.exceptions.NewConnectionError,
            urllib3.exceptions.NameResolutionError,
            urllib3.exceptions.ProxyError,
            urllib3.exceptions.LocationValueError,
            urllib3.exceptions.ProxySchemeUnsupported,
            requests.exceptions.ProxyError,
            requests.exceptions.SSLError,
            urllib3.exceptions.SSLError,
            ssl.SSLCertVerificationError,
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema,
            requests.exceptions.InvalidProxyURL,
            socket.gaierror,
            ConnectionRefusedError,
        ),
        _unreachable,
    ),
    ((requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError), _connect_timeout),
    ((requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError), _timeout),
    (
        (
            urllib3.exceptions.DecodeError,
            urllib3.exceptions.InvalidChunkLength,
            requests.exceptions.ContentDecodingError,
            urllib3.exceptions.HeaderParsingError,
            urllib3.exceptions.InvalidHeader,
        ),
        _garbled,
    ),
    ((http.client.RemoteDisconnected, http.client.IncompleteRead, ConnectionError), _reset),
    ((http.client.HTTPException,), _garbled),
    ((requests.RequestException, urllib3.exceptions.HTTPError, OSError), _reset),
)
