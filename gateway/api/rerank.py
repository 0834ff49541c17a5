"""POST /v1/rerank."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from gateway.api.exchange import exchange, services
from gateway.api.replies import json_reply, route_headers
from gateway.api.schemas import load_rerank
from gateway.api.serving import read_request
from gateway.domain import RerankRequest
from gateway.routing.dispatcher import Ranking

bp = Blueprint("rerank", __name__, url_prefix="/v1")


@bp.post("/rerank")
def rerank() -> Response:
    """Put documents in the order in which they answer a query, by the very model that was asked for. Errors in the envelope."""
    wanted = load_rerank(read_request(), exchange().headers)
    current = exchange()
    current.asks(wanted.choice, wanted.project_id)
    if current.is_dry_run:
        return json_reply(services().dispatcher.explain_rerank(wanted))
    ranking = services().dispatcher.rerank(wanted, current.open_caller())
    current.served(ranking.route, ranking.usage)
    return json_reply(ranking_body(ranking, wanted), headers=route_headers(ranking.route))


def ranking_body(ranking: Ranking, wanted: RerankRequest) -> dict[str, Any]:
    """Return the form that clients share: the best documents first, each with its place in the request."""
    results: list[dict[str, Any]] = [{"index": result.index, "relevance_score": result.score} for result in ranking.results]
    if wanted.return_documents:
        for result in results:
            result["document"] = {"text": wanted.documents[result["index"]]}
    return {
        "object": "list",
        "model": ranking.route.candidate.model.id,
        "results": results,
        "usage": {"total_tokens": ranking.usage.total_tokens},
        "x_gateway": ranking.route.x_gateway() | ({"estimated": True} if ranking.usage.estimated else {}),
    }
