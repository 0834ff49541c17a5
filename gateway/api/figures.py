"""GET /v1/analytics, /v1/requests and /v1/stats/providers: what was asked of the gateway, and how it went."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Blueprint, Response, request

from gateway.api.exchange import exchange, services
from gateway.api.replies import json_reply
from gateway.api.schemas import AnalyticsSchema, RequestsSchema, load_query
from gateway.errors import GatewayBusy, StateError
from gateway.routing.status import provider_stats

bp = Blueprint("figures", __name__, url_prefix="/v1")

STATS_DAYS = 7  # what /v1/stats/providers sums up, today included

_ANALYTICS, _REQUESTS = AnalyticsSchema(), RequestsSchema()


@bp.get("/analytics")
def analytics() -> Response:
    """Sum up the requests of some days by provider, model, project, key and day; and of the last minutes, if asked."""
    exchange().authenticate()
    query = load_query(_ANALYTICS, request.args)
    with or_busy():
        body = services().figures.analytics(project=query["project_id"], days=query["days"], minutes=query["minutes"])
    return json_reply(body)


@bp.get("/requests")
def last_requests() -> Response:
    """List the last requests, the newest first, without their content."""
    exchange().authenticate()
    limit = load_query(_REQUESTS, request.args)["limit"]
    with or_busy():
        requests = services().figures.last_requests(limit)
    return json_reply({"object": "list", "data": requests})


@bp.get("/stats/providers")
def stats() -> Response:
    """Sum up the attempts of the last days by provider."""
    exchange().authenticate()
    with or_busy():
        attempts = services().figures.attempts(STATS_DAYS)
    return json_reply(provider_stats(services().roster.inventory, services().dispatcher.ledger, attempts))


@contextmanager
def or_busy() -> Iterator[None]:
    """Have the client ask again where the state store does not answer: figures of nothing would be wrong ones."""
    try:
        yield
    except StateError:
        raise GatewayBusy("The state store does not answer just now: ask again.", retry_after_s=1.0) from None
