"""GET /: where to go from here."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, request

from gateway.api.pages import page_reply
from gateway.api.replies import json_reply

bp = Blueprint("index", __name__, static_folder="static", static_url_path="/index/static")

PAGE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")


@bp.get("/")
def index() -> Response:
    """Say what this is, and where to go. A page for browsers, JSON for others."""
    wanted = request.accept_mimetypes.best_match(("application/json", "text/html"), default="application/json")
    reply = page_reply(PAGE) if wanted == "text/html" else json_reply(LINKS)
    reply.headers["Vary"] = "Accept"
    return reply


LINKS = {
    "object": "gateway",
    "models": "/v1/models",
    "chat": "/v1/chat/completions",
    "ready": "/readyz",
    "openapi": "/openapi.json",
    "docs": "/docs",
    "dashboard": "/dashboard",
}
