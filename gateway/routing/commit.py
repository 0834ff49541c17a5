"""A stream up to its commit point: until then another candidate can still take over, unseen."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from gateway.domain import Candidate, ChatRequest
from gateway.errors import StreamBroken, UpstreamGarbled, UpstreamTimeout
from gateway.providers.base import ChatStream, Provider
from gateway.upstream import shape
from gateway.upstream.relay import Grace
from gateway.upstream.transport import CallLimits
from gateway.upstream.watch import Handle


@dataclass(slots=True)
class Begun:
    """A stream at its commit point."""

    stream: ChatStream
    shaper: shape.ChunkShaper
    first: list[dict[str, Any]]

    @property
    def is_empty(self) -> bool:
        return not self.shaper.begun and self.shaper.finish_reason == "stop"


def begin_stream(provider: Provider, request: ChatRequest, candidate: Candidate, limits: CallLimits, handle: Handle) -> Begun:
    """Open a stream and read until there is something to pass on: content, reasoning, a tool call or an end."""
    first_token_by = min(time.monotonic() + limits.first_token_s, limits.deadline_mono)
    stream = provider.open_stream(request, candidate, limits, handle)
    if stream.is_whole:
        first_token_by = limits.deadline_mono
    choices = 1 if "n" in stream.dropped else request.body.get("n") or 1
    shaper = shape.ChunkShaper(model=candidate.model.id, splits_thoughts=candidate.model.reasons, choices=choices)
    grace = Grace(shaper)
    first: list[dict[str, Any]] = []
    handle.arm_deadline(first_token_by)  # also for bytes that drip
    try:
        while not shaper.begun and (not shaper.finished or shaper.finish_reason == "stop"):
            chunks = _next_before_commit(stream, shaper, grace, first_token_by)
            if chunks is None:
                break
            first += shaper.feed_all(chunks)
            grace.note()
            if shaper.error:
                break
        if not shaper.begun and not shaper.ended:
            raise shaper.error or UpstreamGarbled("The provider's stream ended before it held anything.", upstream_status=200)
        handle.arm_deadline(math.inf)  # the attempt's deadline was for the commit; the relay has its own limits
        if handle.expired and not shaper.finished:  # it passed after the read: nothing more can come
            raise _too_late()
    except StreamBroken as error:  # nobody has seen any of it yet
        stream.close()
        raise UpstreamGarbled(error.message, upstream_status=200) from error
    except BaseException:
        stream.close()
        raise
    return Begun(stream, shaper, first)


def _next_before_commit(
    stream: ChatStream, shaper: shape.ChunkShaper, grace: Grace, first_token_by: float
) -> list[dict[str, Any]] | None:
    left_s = min(first_token_by - time.monotonic(), grace.left_s())
    try:
        if left_s > 0:
            return stream.next_chunks(left_s)
    except UpstreamTimeout:
        pass
    if shaper.finished:
        return None
    raise _too_late()


def _too_late() -> UpstreamTimeout:
    return UpstreamTimeout("The provider did not begin to answer in time.", phase="first_token")
