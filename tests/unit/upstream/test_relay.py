import json
import time

import pytest

from gateway.errors import ClientGone, Draining, StreamBroken, UpstreamFailed, UpstreamReset, UpstreamTimeout
from gateway.upstream.relay import FINISH_GRACE_S, Relay, RelayLimits
from gateway.upstream.shape import ChunkShaper


class Upstream:
    """A stream that yields what it is given: lists of chunks, or errors to raise."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.waits = []
        self.closed = 0

    def next_chunks(self, wait_s):
        self.waits.append(wait_s)
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, Exception):
            raise step
        return step

    def close(self):
        self.closed += 1


def words(*texts, finish=None):
    return [{"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]} for text in texts]


END = [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]


def relay(*steps, include_usage=False, ends_in_s=1000.0, first=()):
    ends: list = []
    upstream = Upstream(*steps)
    relaying = Relay(
        upstream,
        ChunkShaper(model="m", splits_thoughts=False),
        list(first),
        limits=RelayLimits(idle_s=20, ends_at_mono=time.monotonic() + ends_in_s),
        include_usage=include_usage,
        prompt_tokens=8,
        x_gateway={"provider": "p"},
        on_close=ends.append,
    )
    return relaying, upstream, ends


def events(pieces):
    data = b"".join(pieces)
    assert data.endswith(b"\n\n")
    lines = data.decode().removesuffix("\n\n").split("\n\n")
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def test_each_upstream_read_leaves_in_one_write():
    relaying, _, _ = relay(words("a", "b"), [], words("c"), END)
    pieces = list(relaying)
    assert [len(events([piece])) for piece in pieces] == [2, 1, 2]
    assert events(pieces)[-1] == "[DONE]"


def test_a_complete_stream_is_told_as_completed_once():
    relaying, upstream, ends = relay(words("abcd"), END)
    list(relaying)
    relaying.close()
    relaying.close()
    assert upstream.closed == 1
    assert [(end.outcome, end.error, end.usage.total_tokens, end.usage.estimated) for end in ends] == [
        ("completed", None, 9, True)
    ]


def test_what_was_read_before_the_commit_is_sent_first():
    relaying, _, _ = relay(END, first=[{"choices": [], "note": 1}])
    assert events(relaying)[0] == {"choices": [], "note": 1}


BREAKS = [
    ("cut", None, "upstream_error"),
    ("reset", UpstreamReset("gone"), "upstream_error"),
    ("garbled", StreamBroken("odd"), "upstream_error"),
    ("error in the stream", UpstreamFailed("sorry", upstream_status=500), "upstream_error"),
    ("silence", UpstreamTimeout("silent", phase="idle"), "upstream_timeout"),
    ("drained", Draining("restarting"), "draining"),
]


@pytest.mark.parametrize(("step", "code"), [case[1:] for case in BREAKS], ids=[case[0] for case in BREAKS])
def test_a_break_ends_in_an_error_event_and_done(step, code):
    relaying, upstream, ends = relay(words("a"), step)
    sent = events(relaying)
    relaying.close()
    assert [list(event) for event in sent[1:-1]] == [["error"]]
    assert sent[-2]["error"]["code"] == code and isinstance(sent[-2]["error"]["message"], str)
    assert sent[-1] == "[DONE]"
    assert ends[0].outcome == ("drained" if code == "draining" else "broken") and upstream.closed == 1


@pytest.mark.parametrize("step", [None, UpstreamReset("gone"), UpstreamTimeout("silent", phase="idle")])
def test_a_break_after_the_finish_reason_loses_nothing(step):
    relaying, _, ends = relay(words("a", finish="stop"), step)
    sent = events(relaying)
    relaying.close()
    assert sent[-2]["choices"][0]["finish_reason"] == "stop" and sent[-1] == "[DONE]"
    assert ends[0].outcome == "completed"


def test_after_the_finish_reason_the_end_is_not_waited_for_long():
    relaying, upstream, _ = relay(words("a"), END)
    list(relaying)
    assert upstream.waits[0] == 20 and upstream.waits[-1] == FINISH_GRACE_S


def test_a_stream_that_ran_for_as_long_as_one_may_is_ended():
    relaying, upstream, _ = relay(words("a"), ends_in_s=0)
    assert events(relaying)[-2]["error"]["code"] == "upstream_timeout"
    assert upstream.waits == []


def test_a_client_that_leaves_hears_nothing_more():
    relaying, upstream, ends = relay(words("a"), ClientGone("left"))
    assert len(events(relaying)) == 1
    relaying.close()
    assert (ends[0].outcome, upstream.closed) == ("client_gone", 1)


@pytest.mark.parametrize("read", [0, 1])
def test_a_stream_closed_before_its_end_was_left_by_its_client(read):
    relaying, upstream, ends = relay(words("a"), words("b"), END)
    for _ in range(read):
        next(relaying)
    relaying.close()
    assert (ends[0].outcome, upstream.closed) == ("client_gone", 1)


def test_usage_comes_last_where_it_was_asked_for():
    relaying, _, _ = relay(words("a"), END, include_usage=True)
    assert [event["choices"] for event in events(relaying)[:-1]][-1] == []
