"""GET /metrics, for Prometheus."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Any

from flask import Blueprint, Response, request

from gateway.api.exchange import services
from gateway.errors import StateError, Unauthenticated
from gateway.metrics import Shared
from gateway.routing.status import quota_status, resting

bp = Blueprint("metrics", __name__)


@bp.get("/metrics")
def metrics() -> Response:
    """Tell what all workers of this machine counted. 401 without METRICS_TOKEN, where that is set."""
    check_token()
    services().deferred.tell()
    shared = Shared(quotas(), resting(services().roster.inventory, services().dispatcher.ledger))
    body, content_type = services().metrics.expose(request.headers.get("Accept", ""), shared)
    return Response(body, content_type=content_type)


def quotas() -> Iterable[Mapping[str, Any]]:
    """Return what is left of each quota: none where the state store does not answer, for they may all be used up."""
    try:
        entries: Iterable[Mapping[str, Any]] = quota_status(services().roster.inventory, services().dispatcher.ledger)["data"]
    except StateError:
        return ()
    return entries


def check_token() -> None:
    """:raises Unauthenticated: a token is set, and the request does not carry it."""
    expected = services().settings.metrics_token
    if expected is None:
        return
    scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
    sent = token.strip().encode("latin-1", "replace")  # WSGI's own encoding of headers
    if scheme.lower() != "bearer" or not hmac.compare_digest(sent, expected.encode("utf-8", "surrogateescape")):
        raise Unauthenticated("Send the token of METRICS_TOKEN in the header `Authorization: Bearer TOKEN`.")
