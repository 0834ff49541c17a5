"""POST /v1/chat/completions."""

from __future__ import annotations

from flask import Blueprint, Response

from gateway.api.exchange import exchange
from gateway.api.schemas import load_chat
from gateway.api.serving import ChatSurface, read_request, serve_chat

bp = Blueprint("chat", __name__, url_prefix="/v1")


@bp.post("/chat/completions")
def create_chat_completion() -> Response:
    """Answer a chat, whole or streamed. 400, 401, 404, 413, 415, 429, 502, 503 and 504 in the error envelope."""
    return serve_chat(load_chat(read_request(), exchange().headers), ChatSurface())
