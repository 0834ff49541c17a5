"""GET /health, /healthz and /readyz."""

from __future__ import annotations

from flask import Blueprint, Response

from gateway.api.exchange import services
from gateway.api.replies import json_reply
from gateway.errors import Draining, StateError
from gateway.routing.status import health_status
from gateway.state.base import Figures

bp = Blueprint("health", __name__)


@bp.get("/health")
def health() -> Response:
    """Say how each model is doing."""
    ledger = services().dispatcher.ledger
    return json_reply(health_status(services().roster.inventory, ledger, attempts_today()))


@bp.get("/healthz")
def healthz() -> Response:
    """The process lives."""
    return json_reply({"status": "ok"})


@bp.get("/readyz")
def readyz() -> Response:
    """The process can serve: 503 only while draining, since requests are served without a state store too."""
    if services().watch.stopping:
        raise Draining("The gateway is shutting down.", retry_after_s=1)
    try:
        services().store.ping()
    except StateError:
        return json_reply({"status": "degraded", "state_store": "down"})
    return json_reply({"status": "ok", "state_store": "ok"})


def attempts_today() -> Figures:
    """Return the attempts of this UTC day by model: none where the state store does not answer, which hides no health."""
    try:
        return services().figures.attempts(days=1)
    except StateError:
        return {}
