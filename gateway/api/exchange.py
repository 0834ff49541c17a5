"""One HTTP request and its answer: who asks, since when, under which id, and what becomes of it."""

from __future__ import annotations

import math
import random
import socket
import time
from collections.abc import Mapping
from typing import Any, cast

from flask import Request, current_app, g
from flask.globals import request_ctx

from gateway.api.paths import ASKED_PATH
from gateway.auth import ClientIdentity
from gateway.domain import Choice, Usage
from gateway.errors import (
    BodyBroken,
    ClientGone,
    GatewayError,
    InvalidRequest,
    PayloadTooLarge,
    Unauthenticated,
    UnsupportedMediaType,
)
from gateway.ratelimit import Allowance, refusal
from gateway.routing.attempts import Caller
from gateway.routing.dispatcher import OpenedStream
from gateway.routing.route import Route
from gateway.services import Services
from gateway.telemetry import NO_SURFACE, PREFLIGHT, RequestRecord
from gateway.upstream.relay import StreamEnd
from gateway.upstream.watch import Handle

LONGEST_SHOWN_PATH = 200  # characters, in messages and in the log
_LONGEST_WAIT_S = 86400.0
SMALL_REST_BYTES = 32 * 1024  # of a body left unread: gunicorn skips as much before the next request, twice that closes
_YES, _NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
LONGEST_MAX_WAIT_S = 60.0  # of x-gateway-max-wait (contract §3)
KEYED = "/v1/"  # what needs a key: the view asks for it
UNLIMITED = frozenset({"health.healthz", "health.readyz"})  # balancers ask often


def services() -> Services:
    return cast(Services, current_app.extensions["gateway"])


def exchange() -> Exchange:
    return cast(Exchange, g.exchange)


class Exchange:
    """The state of one request.

    It ends once, when its answer is complete or its client left. It leaves once more, when its answer is written: until then
    it has a thread, and so its place.
    """

    def __init__(self, http: Request, gateway: Services) -> None:
        self._http = http
        self.headers = headers_of(http.environ)
        self._services = gateway
        self._has_place = False
        self._handle: Handle | None = None
        self._opened: OpenedStream | None = None  # the answer, as far as it is a stream
        self._ended = False
        self._body_read = False
        self.started_mono = time.monotonic()
        self.id = f"req_{random.getrandbits(96):024x}"
        self.allowance: Allowance | None = None  # what the limit that it falls under says
        asked: str = http.environ.get(ASKED_PATH, "")
        self.path = asked.encode("latin-1").decode("utf-8", "replace")[:LONGEST_SHOWN_PATH]  # WSGI's own encoding of paths
        surface = PREFLIGHT if http.method == "OPTIONS" else http.blueprint or NO_SURFACE
        self.record = RequestRecord(id=self.id, method=http.method, path=self.path, surface=surface)

    def authenticate(self) -> ClientIdentity:
        """Return whose key the request carries, and count it against the key's limit; a failure against the address's.

        :raises Unauthenticated: nobody's. :raises ClientRateLimited: the limit is reached.
        """
        try:
            identity = self._services.keyring.identify(self.headers)
        except Unauthenticated:
            self._count_address()
            raise
        self._count_key(identity)
        return identity

    def enter_publicly(self) -> None:
        """Count a request that needs no key: against the address's limit, or against that of the valid key that it shows.

        :raises ClientRateLimited: the limit is reached.
        """
        if identity := self._services.keyring.find(self.headers):
            self._count_key(identity)
        else:
            self._count_address()

    def _count_key(self, identity: ClientIdentity) -> None:
        self.record.key = identity.name
        limit = self._services.key_limit
        if limit and not self.is_dry_run:
            self._obey(limit.take(identity.name), "This key")

    def _count_address(self) -> None:
        limit = self._services.address_limit
        if limit:
            self._obey(limit.take(self._http.remote_addr or ""), "An address without a valid key")

    def _obey(self, allowance: Allowance | None, whose: str) -> None:
        self.allowance = allowance
        if allowance and not allowance.granted:
            raise refusal(allowance, whose)

    def admit(self) -> None:
        """Take one of the places for requests, until the answer is written. :raises GatewayBusy: there is none."""
        self.take_place()
        self.record.admitted = True
        self._services.telemetry.request_admitted()

    def take_place(self) -> None:
        """Take a place until the answer is written; once a request. :raises GatewayBusy: all are taken."""
        self._services.gate.enter()
        self._has_place = True

    def read_body(self) -> bytes:
        """Return the request's body. Blocks for as long as it comes, at a pace (gateway/pace.py).

        :raises PayloadTooLarge: it is over MAX_REQUEST_BYTES. :raises UnsupportedMediaType: it is compressed.
        :raises BodyBroken: it ends early or is not well chunked. :raises ClientGone: its sender left.
        """
        most = self._services.settings.max_request_bytes
        if self.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise UnsupportedMediaType("Send the body without a Content-Encoding.")
        length = self._http.content_length
        if length is not None and length > most:
            raise too_large(most)
        # Werkzeug's own limit cuts a chunked body off silently (measured 2026-11, Werkzeug 3.1): read and compare.
        body = self._read(most + 1 if length is None else length)
        if len(body) > most:
            raise too_large(most)
        if length is not None and len(body) < length:
            raise BodyBroken("The body ended before its Content-Length.")
        self._body_read = True
        return body

    def _read(self, count: int) -> bytes:
        try:
            return cast(bytes, self._http.environ["wsgi.input"].read(count))
        except ConnectionError:
            raise ClientGone("The client left while it sent the body.") from None
        except TimeoutError:
            raise BodyBroken("The body came too slowly, or stopped coming.") from None
        except Exception:  # gunicorn has many names for it, all of what the client sent
            raise BodyBroken("The body broke off or is not well chunked.") from None

    @property
    def leaves_much_unread(self) -> bool:
        """Whether so much of the body was left unread that the connection cannot serve another request."""
        length = 0 if self._body_read else self._http.content_length
        return "transfer-encoding" in self.headers if length is None else length > SMALL_REST_BYTES

    @property
    def _client_socket(self) -> socket.socket | None:
        return self._http.environ.get("gunicorn.socket")

    def open_caller(self) -> Caller:
        """Return the client as dispatch sees it, its connection watched until `leave`. Once a request, when all of it is here.

        :raises InvalidRequest: `x-gateway-max-wait` is no number of seconds.
        """
        max_wait_s = self._max_wait_s()
        self._handle = self._services.watch.open_handle(self._client_socket)
        return Caller(
            request_id=self.id,
            handle=self._handle,
            asked_mono=time.monotonic(),
            gives_up_at_mono=self.started_mono + self._client_limit_s(),
            max_wait_s=max_wait_s,
            rescues=self.headers.get("x-gateway-rescue", "").strip().lower() not in ("0", "false", "no", "off"),
        )

    @property
    def speaks_anthropic(self) -> bool:
        """Whether the client expects Anthropic's errors (contract §7)."""
        return "anthropic-version" in self.headers or self._http.path.startswith("/v1/messages")

    @property
    def is_dry_run(self) -> bool:
        """Whether the client only wants to know who would serve this. :raises InvalidRequest: the header tells neither."""
        word = self.headers.get("x-gateway-dry-run", "").strip().lower()
        if self._http.method != "POST" or word in _NO:
            return False
        if word not in _YES:  # taken for a no, it would call a provider after all
            raise InvalidRequest("Send 1 or 0, or leave the header out.", param="x-gateway-dry-run")
        return True

    def _max_wait_s(self) -> float:
        """Return how long the client is willing to wait for quota. :raises InvalidRequest: that is no number of seconds."""
        header = self.headers.get("x-gateway-max-wait", "").strip()
        if not header:
            return 0.0
        try:
            seconds = float(header)
        except ValueError:
            seconds = -1.0
        if not seconds >= 0:  # NaN too
            raise InvalidRequest(f"Send a number of seconds from 0 to {LONGEST_MAX_WAIT_S:.0f}.", param="x-gateway-max-wait")
        return min(seconds, LONGEST_MAX_WAIT_S)

    def _client_limit_s(self) -> float:
        """Return the SDK's own time limit, less a moment to tell it why; infinity where it sends none."""
        for name in ("x-stainless-read-timeout", "x-stainless-timeout"):
            try:
                seconds = float(self.headers.get(name, ""))
            except ValueError:
                continue
            if 0 < seconds < _LONGEST_WAIT_S:
                return max(0.1, seconds * 0.95)
        return math.inf

    def asks(self, choice: Choice, project_id: str | None) -> None:
        """Note what is asked for, and for which project."""
        self.record.model, self.record.project_id = ",".join(choice.names), project_id

    def served(self, route: Route, usage: Usage | None = None) -> None:
        """Note who served it."""
        self.record.served_by = f"{route.candidate.provider.key}/{route.candidate.model.id}"
        self.record.attempts = route.attempts
        self.record.usage = usage

    def failed(self, error: GatewayError) -> None:
        """Note why it was not served; a stream that had begun to be its answer is let go."""
        self.record.error = error.code
        self.record.status = error.status
        self.record.attempts = tuple(error.attempts[: error.tried])
        opened, self._opened = self._opened, None
        if opened:
            opened.relay.close()

    @property
    def streams(self) -> bool:
        """Whether a stream is the answer, so that its relay ends the exchange."""
        return self._opened is not None

    def stream_begins(self, opened: OpenedStream) -> None:
        """Note that the answer leaves from now on: the relay ends the exchange, not the view."""
        self._opened = opened
        self.served(opened.route)
        self.record.streamed = True
        self.record.status = 200
        self.record.ttft_ms = (time.monotonic() - self.started_mono) * 1000
        self._services.telemetry.stream_began()

    def stream_ended(self, end: StreamEnd, route: Route) -> None:
        """End the exchange with its stream; `route`: who served it in the end."""
        self.served(route, end.usage)
        if self.streams and end.outcome == "client_gone":
            self.record.status = 499
        elif end.error:
            self.record.error = end.error.code
        self.end()

    def end(self) -> None:
        """Write the request's line."""
        if self._ended:
            return
        self._ended = True
        self.record.duration_ms = (time.monotonic() - self.started_mono) * 1000
        self.record.ended_at = self._services.store.now()
        self._services.telemetry.request_ended(self.record)

    def leave(self) -> None:
        """Stop watching the client, and give the place back: the answer is written, or never will be."""
        if self._has_place:
            self._has_place = False
            self._services.gate.leave()
        handle, self._handle = self._handle, None
        if handle:
            self._services.watch.close_handle(handle)
        self._opened = None  # which holds this exchange, and so the whole request


def headers_of(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return a request's headers, names in lower case. Werkzeug's look up each name anew, and a request is asked for 13."""
    return {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}


def too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {most} bytes (MAX_REQUEST_BYTES).")


def begin_exchange() -> None:
    """Flask's before_request hook."""
    g.exchange = Exchange(request_ctx.request, services())
    if is_public(request_ctx.request):
        g.exchange.enter_publicly()


def is_public(http: Request) -> bool:
    """Whether a request is one of those that need no key and are limited; paths and methods that nobody knows are."""
    if http.method == "OPTIONS":
        return False
    rule = http.url_rule
    if rule is None:
        return True
    return not (rule.rule.startswith(KEYED) or rule.endpoint in UNLIMITED or rule.endpoint.endswith("static"))
