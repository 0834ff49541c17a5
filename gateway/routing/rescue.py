"""A stream that broke after the client had part of it: another candidate is asked the same, and spliced in if it can be.

It can be where the new answer begins with exactly the text that the client has; nothing is held back for that while all
is well. See contract §4.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gateway.domain import Candidate
from gateway.errors import ClientGone, Draining, GatewayError, StreamBroken, UpstreamError, UpstreamTimeout
from gateway.routing.attempts import AttemptLoop, Won, Yield
from gateway.routing.commit import Begun
from gateway.upstream.shape import ChunkShaper

RESCUE_S = 20.0  # for another stream to come as far as the broken one; a client hears nothing meanwhile

Chunk = dict[str, Any]


def find_rescue(
    loop: AttemptLoop, call: Callable[[Candidate], Yield[Begun]], text: str, broken: ChunkShaper, error: UpstreamError
) -> tuple[Won[Begun], list[Chunk]] | None:
    """Ask who is left for the same answer; return the stream and what it says beyond `text`, None if nobody says the same.

    Blocks for at most RESCUE_S. The booking that is won is the caller's to end.

    :raises ClientGone: nobody is left to answer. :raises Draining: the worker stops.
    """
    ends_at_mono = time.monotonic() + RESCUE_S
    while (won := _next(loop, call, error, ends_at_mono)) is not None:
        try:
            won.value.shaper.go_on_from(broken)
            rest = catch_up(won.value, text, ends_at_mono)
        except UpstreamError as failure:
            _failed(loop, won, failure)
            error = failure
        except BaseException:
            loop.give_up(won, "abandoned")
            raise
        else:
            if rest is None:
                loop.give_up(won, "diverged")
                return None
            return won, rest
    return None


def _next(
    loop: AttemptLoop, call: Callable[[Candidate], Yield[Begun]], error: UpstreamError, ends_at_mono: float
) -> Won[Begun] | None:
    try:
        return loop.go_on(call, error, ends_at_mono)
    except (ClientGone, Draining):
        raise
    except GatewayError:
        return None


def _failed(loop: AttemptLoop, won: Won[Begun], failure: UpstreamError) -> None:
    if isinstance(failure, UpstreamTimeout) and failure.phase == "total":  # it was only too slow for this
        loop.give_up(won, failure.reason)
        return
    won.discard()
    loop.ledger.broken(won.booking, failure, won.value.shaper.final_usage(loop.asked.prompt_tokens))


def catch_up(begun: Begun, text: str, ends_at_mono: float) -> list[Chunk] | None:
    """Read a stream until it has said `text`; return the chunks beyond it, None where it says something else, or less.

    What it thinks on the way is dropped: the client has read other thoughts.

    :raises UpstreamError: it breaks, is silent, or (phase total) is not as far in time.
    """
    said, shaped = "", begun.first
    while True:
        for number, chunk in enumerate(shaped):
            for choice in chunk["choices"]:
                delta = choice["delta"]
                if choice["index"] or not delta.keys() <= {"role", "content", "reasoning_content"}:
                    return None
                said += delta.get("content") or ""
            if not (said.startswith(text) if len(said) >= len(text) else text.startswith(said)):
                return None
            if len(said) >= len(text):
                rest = [*_beyond(said[len(text) :], chunk), *shaped[number + 1 :]]
                return [{**chunk, **begun.shaper.head} for chunk in rest]  # what was read before the commit has another
        if begun.shaper.error:
            raise begun.shaper.error
        if begun.shaper.finished:
            return None
        left_s = ends_at_mono - time.monotonic()
        if left_s <= 0:
            raise UpstreamTimeout("The other answer did not come as far in time.", phase="total")
        chunks = begun.stream.next_chunks(left_s)
        if chunks is None and begun.shaper.ended:
            return None
        if chunks is None:
            raise StreamBroken("The provider's stream ended in the middle of the answer.")
        shaped = begun.shaper.feed_all(chunks)


def _beyond(content: str, chunk: Chunk) -> list[Chunk]:
    if not content:
        return []
    return [{**chunk, "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}]}]
