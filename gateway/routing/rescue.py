"""A stream that broke after the client had part of it: another candidate is asked the same, and spliced in if it can be.

It can be where the new answer begins with exactly the text that the client has; nothing is held back for that while all
is well. See contract §4.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.domain import Candidate
from gateway.errors import ClientGone, Draining, GatewayError, StreamBroken, UpstreamError, UpstreamTimeout
from gateway.routing.attempts import AttemptLoop, Won, Yield
from gateway.routing.commit import Begun
from gateway.upstream.shape import ChunkShaper, plain_text_of

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
    said, ahead = "", begun.first
    beyond: list[Chunk] = []
    while len(said) < len(text):
        if not ahead:
            read = _read_on(begun, ends_at_mono)
            if read is None:
                return None
            ahead = read
            continue
        chunk, *ahead = ahead
        piece = plain_text_of(chunk)
        if piece is None:
            return None
        said += piece
        if not (said.startswith(text) or text.startswith(said)):
            return None
        if len(said) > len(text):
            beyond = [{**chunk, "choices": [{"index": 0, "delta": {"content": said[len(text) :]}, "finish_reason": None}]}]
    return [_continued(chunk, begun.shaper.head) for chunk in [*beyond, *ahead]]


def _read_on(begun: Begun, ends_at_mono: float) -> list[Chunk] | None:
    """Return the next chunks, none where a read held none, None where the answer is over. Errors as for `catch_up`."""
    if begun.shaper.error:
        raise begun.shaper.error
    if begun.shaper.finished:
        return None
    left_s = ends_at_mono - time.monotonic()
    if left_s <= 0:
        raise UpstreamTimeout("The other answer did not come as far in time.", phase="total")
    chunks = begun.stream.next_chunks(left_s)
    if chunks is not None:
        return begun.shaper.feed_all(chunks)
    if begun.shaper.ended:
        return None
    raise StreamBroken("The provider's stream ended in the middle of the answer.")


def _continued(chunk: Chunk, head: Mapping[str, Any]) -> Chunk:
    """Return a chunk as one of the stream that broke: with its head, which also what was read before the commit lacks."""
    for choice in chunk["choices"]:
        if choice["index"] == 0:
            choice["delta"].pop("role", None)
    return {**chunk, **head}
