"""A stream up to its commit point."""

import math
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.domain import ChatRequest
from gateway.errors import UpstreamTimeout
from gateway.routing.commit import begin_stream
from gateway.upstream.transport import CallLimits
from gateway.upstream.watch import Handle
from tests.unit.routing.conftest import candidate


class Late:
    """A stream whose deadline passes between the read of its first words and the commit."""

    is_whole = False
    dropped = ()
    closed = False

    def __init__(self, handle, end=None):
        self.handle = handle
        self.end = end

    def next_chunks(self, wait_s):
        self.handle.check(math.inf)
        return [{"choices": [{"index": 0, "delta": {"content": "The "}, "finish_reason": self.end}]}]

    def close(self):
        self.closed = True


def begin(stream):
    limits = CallLimits(connect_s=1, first_token_s=1, idle_s=1, deadline_mono=time.monotonic() + 9)
    provider = cast(Any, SimpleNamespace(open_stream=lambda *_: stream))
    return begin_stream(provider, ChatRequest(body={}), candidate("a/m"), limits, stream.handle)


def test_a_stream_that_was_cut_just_before_its_commit_is_late():
    stream = Late(Handle())
    with pytest.raises(UpstreamTimeout) as caught:
        begin(stream)
    assert caught.value.phase == "first_token" and stream.closed


def test_one_that_was_over_by_then_has_lost_nothing():
    begun = begin(Late(Handle(), end="stop"))
    assert begun.shaper.finished and not cast(Any, begun.stream).closed
