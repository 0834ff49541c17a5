"""POST /v1/chat/completions."""

from __future__ import annotations

from flask import Blueprint, Response, request

from gateway.api.exchange import exchange, services
from gateway.api.replies import json_reply, route_headers, stream_reply
from gateway.api.schemas import load_chat, read_json

bp = Blueprint("chat", __name__, url_prefix="/v1")


@bp.post("/chat/completions")
def create_chat_completion() -> Response:
    """Answer a chat, whole or streamed. 400, 401, 404, 413, 415, 429, 502, 503 and 504 in the error envelope."""
    current, dispatcher = exchange(), services().dispatcher
    current.authenticate()
    current.admit()
    body = read_json(current.read_body(), request.content_type)
    chat = load_chat(body, request.headers)
    current.record.model, current.record.project_id = ",".join(chat.choice.names), chat.project_id
    if current.is_dry_run:
        return json_reply(dispatcher.explain_chat(chat))
    if chat.stream:
        opened = dispatcher.open_stream(chat, current.open_caller(), current.stream_ended)
        current.served(opened.route)
        current.stream_begins()
        return stream_reply(opened)
    completion = dispatcher.complete(chat, current.open_caller())
    current.served(completion.route, completion.usage)
    return json_reply(completion.body, headers=route_headers(completion.route))
