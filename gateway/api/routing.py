"""GET /v1/routing/status, /v1/quota and /v1/stats/providers: what the gateway knows of its providers."""

from __future__ import annotations

from flask import Blueprint, Response, request

from gateway.api.exchange import exchange, services
from gateway.api.replies import json_reply
from gateway.routing.ledger import ATTEMPTS
from gateway.routing.status import provider_stats, quota_status, utc_day

bp = Blueprint("routing", __name__, url_prefix="/v1")

STATS_DAYS = 7  # what /v1/stats/providers sums up, today included


@bp.get("/routing/status")
def routing() -> Response:
    """Say who would serve the next request for a model, and why not the others."""
    exchange().authenticate()
    return json_reply(services().dispatcher.explain_name(request.args.get("model", "").strip() or "auto"))


@bp.get("/quota")
def quota() -> Response:
    """Say what is left of each quota, when it resets, and when it runs out at the present rate."""
    exchange().authenticate()
    return json_reply(quota_status(services().roster.inventory, services().dispatcher.ledger))


@bp.get("/stats/providers")
def stats() -> Response:
    """Sum up the attempts of the last days by provider."""
    exchange().authenticate()
    ledger = services().dispatcher.ledger
    today = utc_day(ledger.now())
    figures = services().store.figures(ATTEMPTS, today - STATS_DAYS + 1, today)
    return json_reply(provider_stats(services().roster.inventory, ledger, figures))
