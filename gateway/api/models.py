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
from gateway.inventory import Inventory
from gateway.routing.candidates import find_callable
from gateway.routing.status import model_health
from gateway.surfaces.messages import model_info, model_page

bp = Blueprint("models", __name__, url_prefix="/v1")

GATEWAY = "gateway"  # the provider of names by which the gateway chooses itself
CREATED = 1714000000  # of names that are no rows of the catalog: the day the API was published


@bp.get("/models")
def list_models() -> Response:
    """List what can be called now. `include` adds capabilities, health, aliases and the auto names.

    Clients of Anthropic's API get its form, and only what can be asked for a message.
    """
    exchange().authenticate()
    include, inventory = included(), services().roster.inventory
    names = [*AUTO_NAMES] if "auto" in include or services().settings.list_auto else []
    if "aliases" in include:
        names += [name for name in inventory.catalog.aliases if not name.endswith("*")]
    found = [(model.id, model) for model in inventory.listed]
    found += [(name, model) for name in names if (model := find_named(name, inventory))]
    if exchange().speaks_anthropic:
        return json_reply(model_page([model_info(name, model) for name, model in found if model.kind == "chat"]))
    describe = describer(include)
    return json_reply({"object": "list", "data": [describe(name, model) for name, model in found]})


@bp.get("/models/<path:model_id>")
def retrieve_model(model_id: str) -> Response:
    """Return one model by the name a request may use. 404 model_not_found where nobody can be called by it."""
    exchange().authenticate()
    model = model_named(model_id, services().roster.inventory)
    shown = model.id if model_id == model.name else model_id
    described = model_info(shown, model) if exchange().speaks_anthropic else describer(included())(shown, model)
    return json_reply(described)


def find_named(name: str, inventory: Inventory) -> Model | None:
    """Return what `model_named` does, None where nobody can be called by that name."""
    try:
        return model_named(name, inventory)
    except ModelNotFound:
        return None


def model_named(name: str, inventory: Inventory) -> Model:
    """Return the first of those whom a request means by a name; one that leaves the choice to the gateway is a model of its own.

    :raises ModelNotFound: nobody can be called by it; the message says what to use or to set instead.
    """
    named = find_callable(name, inventory)
    return named.models[0] if named.models else Model(provider=GATEWAY, id=name, created=CREATED)


def included() -> frozenset[str]:
    values = request.args.getlist("include") + request.args.getlist("include[]")
    return frozenset(part.strip() for value in values for part in value.split(","))


def describer(include: frozenset[str]) -> Callable[[str, Model], dict[str, Any]]:
    """Return what describes a model under a name as the list shows it: seven fields, and what was asked for beside them."""
    inventory, ledger = services().roster.inventory, services().dispatcher.ledger
    today = attempts_today() if "health" in include else {}

    def describe(name: str, model: Model) -> dict[str, Any]:
        described: dict[str, Any] = {
            "id": name,
            "object": "model",
            "created": model.created,
            "owned_by": model.provider,
            "provider": model.provider,
            "reasoning_tier": model.reasoning_tier,
            "supports_streaming": model.streams,
        }
        if "capabilities" in include:
            described["capabilities"] = capabilities_of(model)
        if "health" in include and inventory.candidates(model):
            described["health"] = model_health(model, inventory, ledger, today)
        return described

    return describe


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
