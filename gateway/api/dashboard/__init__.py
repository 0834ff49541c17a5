"""GET /dashboard: one page that reads the public JSON endpoints, with its script and style beside it."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response

from gateway.api.pages import page_reply

bp = Blueprint("dashboard", __name__, url_prefix="/dashboard", static_folder="static", static_url_path="/static")

PAGE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")


@bp.get("")
def dashboard() -> Response:
    """Show the page. It asks for a key by itself: what it shows is behind one, the page is not."""
    return page_reply(PAGE)
