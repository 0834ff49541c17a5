"""POST /v1/messages and /v1/messages/count_tokens, and what clients of that world ask of a server before."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from gateway.api.exchange import exchange
from gateway.api.replies import json_reply
from gateway.api.schemas import load_message_request
from gateway.api.serving import read_request, serve_chat
from gateway.surfaces.messages import MessageForm, Terms, message_of
from gateway.upstream.relay import Form

bp = Blueprint("messages", __name__)


class MessageSurface:
    """Anthropic's messages, for one request."""

    def __init__(self, terms: Terms, request_id: str) -> None:
        self._terms = terms
        self._request_id = request_id

    def whole(self, completion: dict[str, Any]) -> dict[str, Any]:
        return message_of(completion, self._terms)

    def form(self) -> Form:
        return MessageForm(self._terms, self._request_id)


@bp.post("/v1/messages")
def create_message() -> Response:
    """Answer a conversation, whole or streamed. Errors as for chats, in Anthropic's envelope."""
    chat, terms = load_message_request(read_request(), exchange().headers)
    return serve_chat(chat, MessageSurface(terms, exchange().id))


@bp.post("/v1/messages/count_tokens")
def count_tokens() -> Response:
    """Tell about how many tokens a prompt has, for most texts rather more than there are. Nobody is asked."""
    chat, _ = load_message_request(read_request(for_models=False), exchange().headers)
    exchange().asks(chat.choice, chat.project_id)
    return json_reply({"input_tokens": chat.prompt_tokens})


@bp.get("/api/hello")
def hello() -> Response:
    """Let a client see that the server is there; no key is needed."""
    return json_reply({"message": "hello"})
