"""A stream of chat chunks as the events of a Response.

Events: https://platform.openai.com/docs/api-reference/responses-streaming
One item is open at a time: it begins with `response.output_item.added` and is done before the next is added, as OpenAI's
own streams have it. Clients rely on it (2026-11: Codex drops deltas without an open item, LangChain starts another block
wherever two items take turns). Pieces of a later item that come too early wait for the one before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.errors import GatewayError
from gateway.surfaces.responses.body import (
    Body,
    Head,
    Status,
    end_of,
    read_logprobs,
    response_body,
    usage_body,
)
from gateway.surfaces.responses.ids import new_id
from gateway.surfaces.responses.parts import EventWriter, OpenCall, OpenItem, OpenMessage, OpenThoughts, Piece
from gateway.surfaces.responses.request import ResponseRequest

# The words that OpenAI's schema has for why a response failed; the gateway's own code stands in `x_gateway`.
_FAILURES = {"rate_limit_error": "rate_limit_exceeded", "invalid_request_error": "invalid_prompt"}


class ResponseForm:
    """Writes one response as it comes (upstream.relay.Form)."""

    heartbeat = b": hb\n"  # a comment: every parser of event streams reads over it, in the middle of an event too

    def __init__(self, request: ResponseRequest, clock: Callable[[], float] = time.time) -> None:
        self._request = request
        self._clock = clock
        self._events = EventWriter()
        self._head: Head | None = None
        self._output: list[Body] = []
        self._open: OpenItem | None = None
        self._waiting: list[Piece] = []
        self._finish_reason: str | None = None
        self._usage: Body | None = None
        self._x_gateway: Body = {}

    def chunks(self, chunks: list[dict[str, Any]]) -> bytes:
        for chunk in chunks:
            if self._head is None:
                self._begin(Head(new_id("response"), chunk["created"], chunk["model"]))
            self._x_gateway |= chunk.get("x_gateway") or {}
            if chunk.get("usage"):
                self._usage = usage_body(chunk["usage"])
            for choice in chunk["choices"]:
                if choice["index"] == 0:
                    self._take(choice)
        return self._events.take()

    def end(self) -> bytes:
        status, why = end_of(self._finish_reason)
        self._finish_items(status)
        if not self._output:  # an answer of nothing is an empty message
            self._feed(Piece("text", ""))
            self._close(status)
        completed_at = int(self._clock()) if status == "completed" else None
        self._write_response(f"response.{status}", status, completed_at=completed_at, x_gateway=self._x_gateway, **why)
        return self._events.take()

    def failure(self, error: GatewayError) -> bytes:
        if self._head is None:
            model = self._request.chat.choice.names[0]
            self._begin(Head(new_id("response"), int(self._clock()), model))
        self._finish_items("incomplete")
        code = _FAILURES.get(error.type, "server_error")
        failed = {"code": code, "message": error.message, "type": error.type, "param": error.param}
        x_gateway = {**self._x_gateway, "error": error.to_body()["error"]}
        self._write_response("response.failed", "failed", error=failed, x_gateway=x_gateway)
        return self._events.take()

    # --- the response ------------------------------------------------------------------------------------------------

    def _begin(self, head: Head) -> None:
        self._head = head
        self._write_response("response.created", "in_progress")
        self._write_response("response.in_progress", "in_progress")

    def _write_response(self, event: str, status: Status, **more: Any) -> None:
        assert self._head
        body = response_body(self._request, self._head, status, self._output, usage=self._usage, **more)
        self._events.write(event, response=body)

    # --- items -------------------------------------------------------------------------------------------------------

    def _take(self, choice: Mapping[str, Any]) -> None:
        for piece in _pieces_of(choice):
            if self._waiting and not (self._open and self._open.takes(piece)):
                self._waiting.append(piece)
            else:
                self._feed(piece)
        self._finish_reason = choice["finish_reason"] or self._finish_reason

    def _feed(self, piece: Piece) -> None:
        """Write a piece into its item, and what waited for that."""
        if self._open and self._open.takes(piece):
            self._open.add(piece)
            if self._waiting and self._open.is_whole():
                self._feed_waiting()
        elif self._open and not self._open.is_whole():
            self._waiting.append(piece)
        elif piece.kind != "call" or piece.function:  # otherwise the rest of a call that was whole before it
            self._close("completed")
            self._open = self._open_item(piece)
            self._open.add(piece)

    def _feed_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for piece in waiting:
            self._feed(piece)

    def _open_item(self, piece: Piece) -> OpenItem:
        index, carries = len(self._output), self._request.carries
        if piece.kind == "thoughts":
            return OpenThoughts(self._events, index)
        if piece.kind == "call":
            return OpenCall(self._events, index, piece, self._request.tools, carries=carries)
        return OpenMessage(self._events, index)

    def _close(self, status: Status) -> None:
        if self._open:
            self._output.append(self._open.close(status))
            self._open = None

    def _finish_items(self, status: Status) -> None:
        """Close the open item, and write those that still wait for it; the last one was cut if the answer was."""
        while self._waiting:
            self._close("completed")
            self._feed_waiting()
        self._close(status)


def _pieces_of(choice: Mapping[str, Any]) -> list[Piece]:
    delta = choice["delta"]
    pieces = []
    if delta.get("reasoning_content"):
        pieces.append(Piece("thoughts", delta["reasoning_content"]))
    logprobs = read_logprobs(choice["logprobs"]) if choice.get("logprobs") else ()
    if delta.get("content") or logprobs:
        pieces.append(Piece("text", delta.get("content") or "", logprobs=logprobs))
    if delta.get("refusal"):
        pieces.append(Piece("refusal", delta["refusal"]))
    for call in delta.get("tool_calls") or ():
        function = call["function"]
        piece = Piece("call", function["arguments"], call["index"], call.get("id", ""), function.get("name", ""))
        pieces.append(piece)
    return pieces
