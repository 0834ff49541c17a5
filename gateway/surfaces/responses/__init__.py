"""OpenAI's Responses API over chats: what a client asks becomes a chat, and what a model answers a Response. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.surfaces.responses.request import ResponseRequest
from gateway.surfaces.responses.stream import ResponseForm
from gateway.surfaces.responses.whole import write_response


class Responses:
    """How the answer to one request is written (api.serving.Surface)."""

    def __init__(self, request: ResponseRequest, clock: Callable[[], float] = time.time) -> None:
        self._request = request
        self._clock = clock

    def whole(self, completion: Mapping[str, Any]) -> dict[str, Any]:
        return write_response(completion, self._request, self._clock())

    def form(self) -> ResponseForm:
        return ResponseForm(self._request, self._clock)
