"""Answers: JSON and event streams, the gateway's headers, and every error in OpenAI's envelope."""

from __future__ import annotations

import logging
import math
import re
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError

from gateway import jsonio
from gateway.api.exchange import exchange
from gateway.domain import Attempt
from gateway.errors import (
    GatewayBusy,
    GatewayError,
    InternalError,
    MethodNotAllowed,
    RequestError,
    UnknownPath,
)
from gateway.ratelimit import Allowance
from gateway.routing.dispatcher import OpenedStream
from gateway.routing.route import Route
from gateway.surfaces.messages import error_body

log = logging.getLogger("gateway")

STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}
EXPOSED_HEADERS = (
    "retry-after",
    "x-request-id",
    "x-should-retry",
    *(f"x-ratelimit-{name}" for name in ("limit", "remaining", "reset")),
    *(
        f"x-gateway-{name}"
        for name in (
            "request-id",
            "provider",
            "model",
            "attempts",
            "reasoning-effort",
            "trail",
            "params-dropped",
            "embedding-space",
        )
    ),
)
SMALL_ANSWER_BYTES = 32 * 1024  # what a connection takes of an answer whose client does not read it, and no thread waits for
FIGURES = "metrics.metrics"  # wanted most while every place is taken
MAX_NAMES = 20  # in one header: they come from catalogs and requests

_UNSAFE = re.compile(r"[^A-Za-z0-9_.@/:-]")


def json_reply(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(jsonio.dumps(body), status=status, headers=headers, mimetype="application/json")


class StreamReply(Response):
    """A stream's answer. It gives its place back though its end fails: Werkzeug calls nobody then."""

    def close(self) -> None:
        try:
            super().close()
        except BaseException:
            for leave in self._on_close:
                leave()
            raise


def stream_reply(opened: OpenedStream) -> Response:
    """Return a streamed answer. Flask closes its relay with it, also if it was never iterated."""
    return StreamReply(opened.relay, headers={**STREAM_HEADERS, **route_headers(opened.route)})


def route_headers(route: Route) -> dict[str, str]:
    headers = {
        "x-gateway-provider": safe_name(route.candidate.provider.key),
        "x-gateway-model": safe_name(route.candidate.model.id),
        "x-gateway-reasoning-effort": route.reasoning_effort,
        **attempt_headers(route.attempts),
    }
    if route.dropped:
        headers["x-gateway-params-dropped"] = ", ".join(map(safe_name, route.dropped[:MAX_NAMES]))
    return headers


def attempt_headers(attempts: Sequence[Attempt]) -> dict[str, str]:
    trail = " ".join(safe_name(attempt.trail) for attempt in attempts[:MAX_NAMES])
    return {"x-gateway-attempts": str(len(attempts)), "x-gateway-trail": trail}


def allowance_headers(allowance: Allowance) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(allowance.limit[0]),
        "X-RateLimit-Remaining": str(allowance.remaining),
        "X-RateLimit-Reset": str(math.ceil(time.time() + allowance.more_in_s)),
    }


def safe_name(name: str) -> str:
    """Return a name as a header may carry it: what input or a catalog says must not end or forge one."""
    return _UNSAFE.sub("_", name)


def error_reply(error: GatewayError) -> Response:
    """Return an error in the envelope that the client expects, and note it for the request's line."""
    current = exchange()
    current.failed(error)
    tried = tuple(error.attempts[: error.tried])
    headers = {}
    if tried:
        headers = {
            "x-gateway-provider": safe_name(tried[-1].provider),
            "x-gateway-model": safe_name(tried[-1].model),
            "x-gateway-reasoning-effort": "auto",
            **attempt_headers(tried),
        }
    if error.retry_after_s is not None and error.tells_retry_after:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.should_retry is not None:
        headers["x-should-retry"] = "true" if error.should_retry else "false"
    if error.closes_connection:
        headers["Connection"] = "close"
    body = error_body(error, current.id) if current.speaks_anthropic else error.to_body()
    return json_reply(body, status=error.status, headers=headers)


def http_error_reply(error: HTTPException) -> Response:
    """Return one of Flask's own refusals in the envelope. A preflight is answered: what follows it hears of the path."""
    if isinstance(error, InternalServerError) and isinstance(error.original_exception, Exception):  # after the view
        return defect_reply(error.original_exception)
    path = exchange().path
    if error.code == 404 and request.method == "OPTIONS":
        return Response()
    if error.code == 404:
        return error_reply(UnknownPath(f"There is no {request.method} {path} here. GET /v1/models is a good start."))
    if error.code == 405:
        allowed = ", ".join(sorted(set(getattr(error, "valid_methods", None) or ()) - {"HEAD", "OPTIONS"}))
        response = error_reply(MethodNotAllowed(f"{request.method} does not work on {path}; use {allowed}."))
        response.headers["Allow"] = allowed
        return response
    refusal = RequestError(error.description or "The request cannot be served as it is.")
    refusal.status = error.code or 400
    return error_reply(refusal)


def defect_reply(error: Exception) -> Response:
    """Return a defect of ours; where it happened is logged, what it was about is not."""
    places = "".join(traceback.format_tb(error.__traceback__))
    fields = {"id": exchange().id, "exception": type(error).__name__, "traceback": places}
    log.error("internal error", extra={"fields": fields})
    return error_reply(InternalError("The gateway failed. The operator finds the reason in its log, under this request's id."))


def finish_reply(response: Response) -> Response:
    """Flask's after_request hook: the ids every answer carries, and the end of those that are complete."""
    current = exchange()
    if not current.record.admitted and needs_place(response):
        response = give_place(response)
    response.call_on_close(current.leave)
    if current.leaves_much_unread:
        response.headers["Connection"] = "close"
    response.headers["x-gateway-request-id"] = response.headers["x-request-id"] = current.id
    if current.speaks_anthropic:
        response.headers["request-id"] = current.id
    if current.allowance:
        response.headers.update(allowance_headers(current.allowance))
    # Last: a head that ends in an id or a number ending in 0 looks to simple load tools like the end of a chunked body.
    response.headers.add("X-Content-Type-Options", "nosniff")
    if not current.streams:
        current.record.status = current.record.status or response.status_code
        current.end()
    return response


def give_place(response: Response) -> Response:
    """Return a large answer with a place for as long as it is written, a refusal where there is none."""
    try:
        exchange().take_place()
    except GatewayBusy as error:
        response.close()
        return error_reply(error)
    response.direct_passthrough = False  # Werkzeug leaves a file that is passed through unclosed, and its place taken
    return response


def needs_place(response: Response) -> bool:
    """Whether a client that reads an answer slowly would hold a thread; figures are told all the same."""
    size = response.content_length or response.calculate_content_length() or 0
    return size > SMALL_ANSWER_BYTES and request.endpoint != FIGURES


def register(app: Flask) -> None:
    app.register_error_handler(GatewayError, error_reply)
    app.register_error_handler(HTTPException, http_error_reply)
    app.register_error_handler(Exception, defect_reply)
    app.after_request(finish_reply)
