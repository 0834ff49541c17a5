"""GET /v1/routing/status and /v1/quota: what the gateway knows of its providers."""

from __future__ import annotations

from flask import Blueprint, Response, request

from gateway.api.exchange import exchange, services
from gateway.api.figures import or_busy
from gateway.api.replies import json_reply
from gateway.routing.status import quota_status

bp = Blueprint("routing", __name__, url_prefix="/v1")


@bp.get("/routing/status")
def routing() -> Response:
    """Say who would serve the next request for a model, and why not the others."""
    exchange().authenticate()
    return json_reply(services().dispatcher.explain_name(request.args.get("model", "").strip() or "auto"))


@bp.get("/quota")
def quota() -> Response:
    """Say what is left of each quota, when it resets, and when it runs out at the present rate."""
    exchange().authenticate()
    with or_busy():
        body = quota_status(services().roster.inventory, services().dispatcher.ledger)
    return json_reply(body)
