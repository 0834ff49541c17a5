"""POST /v1/responses."""

from __future__ import annotations

import re

from flask import Blueprint, Response

from gateway.api.exchange import exchange
from gateway.api.schemas import load_response
from gateway.api.serving import read_request, serve_chat
from gateway.errors import GatewayError, UnknownPath
from gateway.surfaces.responses import Responses

bp = Blueprint("responses", __name__, url_prefix="/v1")

DROPPED = "x-gateway-params-dropped"
# What this API calls the parameters of a chat that errors and headers name.
_NAMES = {
    "messages": "input",
    "tools": "tools",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "logprobs": "include",
}


@bp.post("/responses")
def create_response() -> Response:
    """Answer as the Responses API does, whole or streamed. Errors as for chat completions, naming this API's fields."""
    wanted = load_response(read_request(), exchange().headers)
    try:
        reply = serve_chat(wanted.chat, Responses(wanted))
    except GatewayError as error:
        error.param = error.param and own_param(error.param)
        raise
    if DROPPED in reply.headers:
        reply.headers[DROPPED] = ", ".join(_NAMES.get(name, name) for name in reply.headers[DROPPED].split(", "))
    return reply


@bp.route("/responses/<path:rest>", methods=["GET", "POST", "DELETE"])
def find_response(rest: str) -> Response:
    """There is none to find: 404 in the envelope."""
    exchange().authenticate()
    raise UnknownPath("There is no such response: nothing is stored here. POST /v1/responses answers, and that is all of it.")


def own_param(param: str) -> str:
    """Return a parameter of a chat by the name that this API has for it; a place in it is the chat's, and left out."""
    name = re.split(r"[.\[]", param, maxsplit=1)[0]
    return _NAMES.get(name, param)
