"""POST /v1/embeddings."""

from __future__ import annotations

import base64
import struct
from typing import Any

from flask import Blueprint, Response

from gateway.api.exchange import exchange, services
from gateway.api.replies import json_reply, route_headers, safe_name
from gateway.api.schemas import load_embeddings
from gateway.api.serving import read_request
from gateway.domain import EmbeddingRequest
from gateway.routing.dispatcher import Embeddings

bp = Blueprint("embeddings", __name__, url_prefix="/v1")


@bp.post("/embeddings")
def create_embeddings() -> Response:
    """Embed texts with the very model that was asked for. Errors in the envelope."""
    wanted = load_embeddings(read_request(), exchange().headers)
    current = exchange()
    current.asks(wanted.choice, wanted.project_id)
    if current.is_dry_run:
        return json_reply(services().dispatcher.explain_embeddings(wanted))
    embeddings = services().dispatcher.embed(wanted, current.open_caller())
    current.served(embeddings.route, embeddings.usage)
    model = embeddings.route.candidate.model.id
    space = f"{safe_name(model)}@{len(embeddings.vectors[0])}"
    headers = {**route_headers(embeddings.route), "x-gateway-embedding-space": space}
    return json_reply(embeddings_body(embeddings, wanted), headers=headers)


def embeddings_body(embeddings: Embeddings, wanted: EmbeddingRequest) -> dict[str, Any]:
    """Return OpenAI's list; base64 is little-endian float32, as its clients decode it."""
    encode = to_base64 if wanted.encoding_format == "base64" else list
    x_gateway = embeddings.route.x_gateway() | ({"estimated": True} if embeddings.usage.estimated else {})
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(embeddings.vectors)
        ],
        "model": embeddings.route.candidate.model.id,
        "usage": {"prompt_tokens": embeddings.usage.prompt_tokens, "total_tokens": embeddings.usage.total_tokens},
        "x_gateway": x_gateway,
    }


def to_base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
