"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request

from gateway.api.exchange import exchange, services
from gateway.api.health import attempts_today
from gateway.api.replies import json_reply
from gateway.domain import AUTO_NAMES, Model
from gateway.errors import ModelNotFound
from gateway.routing.status import model_health

bp = Blueprint("models", __name__, url_prefix="/v1")

CREATED = 1714000000  # of names that are no rows of the catalog: the day the API was published


@bp.get("/models")
def list_models() -> Response:
    """List what can be called now. `include` adds capabilities, health, aliases and the auto names (contract §2)."""
    exchange().authenticate()
    include = included()
    inventory = services().roster.inventory
    data = [describe(model, include) for model in inventory.listed]
    if "health" in include:
        today = attempts_today()
        for entry, model in zip(data, inventory.listed, strict=True):
            entry["health"] = model_health(model, inventory, services().dispatcher.ledger, today)
    if "auto" in include or services().settings.list_auto:
        data += [describe_name(name, include) for name in AUTO_NAMES]
    if "aliases" in include:
        data += [describe_name(name, include) for name in inventory.catalog.aliases if not name.endswith("*")]
    return json_reply({"object": "list", "data": data})


@bp.get("/models/<path:model_id>")
def retrieve_model(model_id: str) -> Response:
    """Return one model by the name a request may use. 404 model_not_found where nobody can be called by it."""
    exchange().authenticate()
    include, inventory = included(), services().roster.inventory
    if model_id in AUTO_NAMES:
        return json_reply(describe_name(model_id, include))
    named = inventory.catalog.resolve(model_id)
    usable = [model for model in named.models if inventory.candidates(model)] if named else []
    if usable:
        described = describe(usable[0], include)
        if "health" in include:
            described["health"] = model_health(usable[0], inventory, services().dispatcher.ledger, attempts_today())
        return json_reply(described)
    if named and named.auto:
        return json_reply(describe_name(model_id, include))
    raise ModelNotFound("The model does not exist or has no usable provider. GET /v1/models lists those that do.", param="model")


def included() -> frozenset[str]:
    values = request.args.getlist("include") + request.args.getlist("include[]")
    return frozenset(part.strip() for value in values for part in value.split(","))


def describe(model: Model, include: frozenset[str]) -> dict[str, Any]:
    """Return a model as the list shows it: seven fields, and what was asked for beside them."""
    described: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.provider,
        "provider": model.provider,
        "reasoning_tier": model.reasoning_tier,
        "supports_streaming": model.streams,
    }
    if "capabilities" in include:
        described["capabilities"] = capabilities_of(model)
    return described


def capabilities_of(model: Model) -> dict[str, Any]:
    has: Callable[[str], bool] = model.capabilities.__contains__
    return {
        "kind": model.kind,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "tools": has("tools"),
        "json_mode": has("json_mode"),
        "json_schema": has("json_schema"),
        "vision": has("vision"),
    }


def describe_name(name: str, include: frozenset[str]) -> dict[str, Any]:
    """Return an entry for a name that the gateway itself answers to: an auto name or an alias."""
    return describe(Model(provider="gateway", id=name, created=CREATED), include)
