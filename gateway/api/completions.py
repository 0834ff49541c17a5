"""POST /v1/completions: OpenAI's legacy form, over chat models."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from gateway.api.exchange import exchange
from gateway.api.schemas import load_completion
from gateway.api.serving import read_request, serve_chat
from gateway.surfaces.completions import CompletionForm, completion_of
from gateway.upstream.relay import Form

bp = Blueprint("completions", __name__, url_prefix="/v1")


class CompletionSurface:
    """Texts, for one request; `echo` stands before them."""

    def __init__(self, echo: str) -> None:
        self._echo = echo

    def whole(self, completion: dict[str, Any]) -> dict[str, Any]:
        return completion_of(completion, self._echo)

    def form(self) -> Form:
        return CompletionForm(self._echo)


@bp.post("/completions")
def create_completion() -> Response:
    """Answer a prompt as a chat model does, whole or streamed. Errors as for chats."""
    chat, echo = load_completion(read_request(), exchange().headers)
    return serve_chat(chat, CompletionSurface(echo))
