"""The steps of every view that asks a model: the request in, a chat's answer out in the form of its surface."""

from __future__ import annotations

from typing import Any, Protocol

from flask import Response, request

from gateway.api.exchange import exchange, services
from gateway.api.replies import json_reply, route_headers, stream_reply
from gateway.api.schemas import read_json
from gateway.domain import ChatRequest
from gateway.surfaces.responses.bare import BareChunks, bare_completion
from gateway.upstream.relay import ChatForm, Form


class Surface(Protocol):
    """How one request's answer is written. It is made of the request alone: what it told may be echoed."""

    def whole(self, completion: dict[str, Any]) -> dict[str, Any]:
        """Return the body for a repaired chat completion, with its `usage` and `x_gateway`."""
        ...

    def form(self) -> Form:
        """Return what writes the stream; called once, before anybody is asked."""
        ...


class ChatSurface:
    """Chat completions: what is dispatched in any case. `customs`: the request's tools that take a bare text."""

    def __init__(self, customs: frozenset[str] = frozenset()) -> None:
        self._customs = customs

    def whole(self, completion: dict[str, Any]) -> dict[str, Any]:
        return bare_completion(completion, self._customs) if self._customs else completion

    def form(self) -> Form:
        return _BareForm(self._customs) if self._customs else ChatForm()


class _BareForm(ChatForm):
    def __init__(self, customs: frozenset[str]) -> None:
        self._bare = BareChunks(customs).bare

    def chunks(self, chunks: list[dict[str, Any]]) -> bytes:
        return super().chunks([self._bare(chunk) for chunk in chunks])


def read_request(*, for_models: bool = True) -> dict[str, Any]:
    """Return the JSON object of the request's body, once its client may ask and has a place.

    `for_models`: a model is to answer it, so that it counts in the figures.
    Blocks for as long as the body comes. :raises GatewayError: 400, 401, 413, 415 or 503.
    """
    current = exchange()
    current.record.for_models = for_models
    current.authenticate()
    current.record.for_models = for_models and not current.is_dry_run  # asked of none but clients with a key
    current.admit()
    return read_json(current.read_body(), request.content_type)


def serve_chat(chat: ChatRequest, surface: Surface) -> Response:
    """Return a chat's answer, whole or begun as a stream, or for a dry run who would give it.

    Blocks for REQUEST_DEADLINE_S or COMMIT_BUDGET_S at most. :raises GatewayError: nobody could serve it.
    """
    current, dispatcher = exchange(), services().dispatcher
    current.asks(chat.choice, chat.project_id)
    if current.is_dry_run:
        return json_reply(dispatcher.explain_chat(chat))
    if chat.stream:
        opened = dispatcher.open_stream(chat, current.open_caller(), current.stream_ended, surface.form())
        current.stream_begins(opened)
        return stream_reply(opened)
    completion = dispatcher.complete(chat, current.open_caller())
    current.served(completion.route, completion.usage)
    return json_reply(surface.whole(completion.body), headers=route_headers(completion.route))
