"""Models as the API lists them.

2026-11: ModelInfo and SyncPage of the anthropic package 2.14.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.domain import Model


def model_info(name: str, model: Model) -> dict[str, Any]:
    """Return what describes a model under a name that a request may use."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "deprecated" if model.status == "legacy" else "active",
    }


def model_page(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the whole list as its only page."""
    return {
        "data": list(models),
        "has_more": False,
        "first_id": models[0]["id"] if models else None,
        "last_id": models[-1]["id"] if models else None,
    }
