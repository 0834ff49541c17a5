"""POST /v1/chat/completions."""

from __future__ import annotations

from flask import Blueprint, Response

from gateway.api.exchange import exchange
from gateway.api.schemas import custom_names, load_chat
from gateway.api.serving import ChatSurface, read_request, serve_chat

bp = Blueprint("chat", __name__, url_prefix="/v1")


@bp.post("/chat/completions")
def create_chat_completion() -> Response:
    """Answer a chat, whole or streamed. 400, 401, 404, 413, 415, 429, 502, 503 and 504 in the error envelope."""
    body = read_request()
    return serve_chat(load_chat(body, exchange().headers), ChatSurface(custom_names(body)))
