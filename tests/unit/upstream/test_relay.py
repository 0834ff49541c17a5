import json
import logging
import time

import pytest

from gateway.errors import (
    ClientGone,
    Draining,
    StreamBroken,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamReset,
    UpstreamTimeout,
)
from gateway.upstream.relay import (
    DONE_GRACE_S,
    FINISH_GRACE_S,
    HEARTBEAT_S,
    ChatForm,
    Relay,
    RelayLimits,
)
from gateway.upstream.shape import ChunkShaper
from gateway.upstream.watch import Handle


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time stands still but for what a stream waits."""
    moments = Moments()
    monkeypatch.setattr("gateway.upstream.relay.time.monotonic", lambda: moments.now)
    return moments


class Moments:
    now = 1000.0


class Upstream:
    """A stream that yields what it is given: lists of chunks, errors to raise, and seconds of silence before the next."""

    def __init__(self, *steps, clock=None):
        self.steps = list(steps)
        self.clock = clock or Moments()
        self.waits = []
        self.closed = 0

    def wait(self, wait_s):
        silence_s = self.steps[0] if self.steps and isinstance(self.steps[0], (int, float)) else 0
        passed_s = min(silence_s, max(0.0, wait_s))
        self.clock.now += passed_s
        if silence_s:
            self.steps[0] = silence_s - passed_s
        if silence_s and not self.steps[0]:
            self.steps.pop(0)
        return passed_s == silence_s

    def next_chunks(self, wait_s):
        self.waits.append(wait_s)
        if not self.wait(wait_s):
            raise UpstreamTimeout("silent", phase="idle")
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, Exception):
            raise step
        return step

    def close(self):
        self.closed += 1


def words(*texts, finish=None):
    return [{"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]} for text in texts]


THOUGHT = [{"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}]}]
END = [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]


def relay(*steps, include_usage=False, ends_in_s=1000.0, idle_s=20.0, first=(), clock=None, handle=None, form=None):
    ends: list = []
    upstream = Upstream(*steps, clock=clock)
    relaying = Relay(
        upstream,
        ChunkShaper(model="m", splits_thoughts=False),
        list(first),
        limits=RelayLimits(idle_s=idle_s, ends_at_mono=time.monotonic() + ends_in_s),
        include_usage=include_usage,
        prompt_tokens=8,
        x_gateway={"provider": "p"},
        on_close=ends.append,
        handle=handle,
        form=form,
    )
    return relaying, upstream, ends


def events(pieces):
    data = b"".join(pieces)
    assert data.endswith(b"\n\n")
    lines = data.decode().removesuffix("\n\n").split("\n\n")
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


class Telling:
    """A form that says in words what it is given, and nothing of roles."""

    heartbeat = b"still there "

    def chunks(self, chunks):
        texts = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
        return " ".join(filter(None, texts)).encode()

    def end(self):
        return b" the end"

    def failure(self, error):
        return b" failed: " + error.code.encode()


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([words("a"), words("b"), END], [b"a", b"b", b" the end"]),
        ([words("a"), 20, words("b"), END], [b"a", b"still there ", b"b", b" the end"]),
        ([words("a"), 8, THOUGHT, 8, THOUGHT, 8, THOUGHT, words("b"), END], [b"a", b"still there ", b"b", b" the end"]),
        ([words("a"), None], [b"a", b" failed: upstream_error"]),
    ],
)
def test_a_surface_writes_the_stream_in_its_own_form(clock, steps, told):
    first = [{"choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]}]
    relaying, _, _ = relay(*steps, idle_s=60, first=first, clock=clock, form=Telling())
    assert list(relaying) == told


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


EARLY = {
    "before the last word": [words("a", finish="stop"), words("b")],
    "with every word": [words("a", finish="stop"), words("b", finish="stop"), words("c", finish="stop")],
    "by itself": [words("a"), END, words("b", "c", finish="stop")],
}


@pytest.mark.parametrize("step", [UpstreamReset("gone"), 30.0])
@pytest.mark.parametrize("steps", EARLY.values(), ids=EARLY)
def test_a_finish_reason_that_the_answer_went_on_after_makes_no_end(clock, steps, step):
    relaying, _, ends = relay(*steps, step, clock=clock)
    assert list(events(relaying)[-2]) == ["error"]
    relaying.close()
    assert ends[0].outcome == "broken"


@pytest.mark.parametrize("last", [[], [END]], ids=["none", "told again"])
@pytest.mark.parametrize("steps", EARLY.values(), ids=EARLY)
def test_it_still_tells_how_the_answer_ended(steps, last):
    relaying, _, ends = relay(*steps, *last)
    assert events(relaying)[-2]["choices"][0]["finish_reason"] == "stop"
    relaying.close()
    assert ends[0].outcome == "completed"


def test_after_the_finish_reason_the_end_is_not_waited_for_long():
    relaying, upstream, _ = relay(words("a"), END)
    list(relaying)
    assert upstream.waits[0] == 20 and upstream.waits[-1] == FINISH_GRACE_S


COMMENT: list = []
USED = [{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}]
GRACES = [
    ("usage is awaited", [END, 9.0], FINISH_GRACE_S),
    ("[DONE] alone is not", [END, USED, 9.0], DONE_GRACE_S),
    ("usage may come before", [USED, END, 9.0], DONE_GRACE_S),
    ("or late", [END, 0.5, USED, 9.0], 0.5 + DONE_GRACE_S),
    ("comments prolong nothing", [END, *[0.4, COMMENT] * 9], FINISH_GRACE_S),
    ("nor do repeated ends", [END, *[0.4, END] * 9], FINISH_GRACE_S),
    ("but there is none while the answer goes on", [END, 0.5, words("b"), 9.0, words("c"), END, 9.0], 9.5 + FINISH_GRACE_S),
]


@pytest.mark.parametrize(("steps", "took_s"), [case[1:] for case in GRACES], ids=[case[0] for case in GRACES])
def test_there_is_one_moment_by_which_a_finished_stream_is_over(clock, steps, took_s):
    relaying, _, ends = relay(words("a"), *steps, clock=clock)
    sent = events(relaying)
    relaying.close()
    assert clock.now - 1000 == pytest.approx(took_s)
    assert sent[-2]["choices"][0]["finish_reason"] == "stop" and sent[-1] == "[DONE]"
    assert ends[0].outcome == "completed"


TOTALS = [
    ("before the first word", [], 0.0),
    ("lively", [0.3, words("b")] * 9, 1.0),
    ("silent", [9.0], 1.0),
    ("comments", [0.3, COMMENT] * 9, 1.0),
]


@pytest.mark.parametrize("idle_s", [20.0, 120.0])
@pytest.mark.parametrize(("steps", "ends_in_s"), [case[1:] for case in TOTALS], ids=[case[0] for case in TOTALS])
def test_a_stream_that_ran_for_as_long_as_one_may_is_ended_with_that_reason(clock, steps, ends_in_s, idle_s):
    relaying, _, ends = relay(*steps, first=words("a"), ends_in_s=ends_in_s, idle_s=idle_s, clock=clock)
    error = events(relaying)[-2]["error"]
    relaying.close()
    assert error["code"] == "upstream_timeout" and "STREAM_MAX_S" in error["message"]
    assert ends[0].outcome == "broken" and ends[0].error.phase == "total"
    assert clock.now - 1000 == pytest.approx(ends_in_s)


def test_a_finished_stream_at_the_end_of_its_time_is_complete(clock):
    relaying, _, ends = relay(words("a"), END, 9.0, ends_in_s=0.5, clock=clock)
    assert events(relaying)[-2]["choices"][0]["finish_reason"] == "stop"
    relaying.close()
    assert ends[0].outcome == "completed"


def test_the_watch_knows_when_a_stream_s_time_is_over():
    handle = Handle()
    relay(words("a"), ends_in_s=7.0, handle=handle)
    assert handle.ends_at_mono == 1007.0


def test_the_client_s_own_slowness_is_no_silence_of_the_provider(clock):
    relaying, upstream, _ = relay(words("a"), 15.0, words("b"), END, idle_s=20.0, clock=clock)
    next(relaying)
    clock.now += 19  # the client takes its time
    assert events(relaying)[0]["choices"][0]["delta"] == {"content": "b"}
    assert upstream.waits[:2] == [20.0, 20.0]


# --- heartbeats --------------------------------------------------------------------------------------------------------


BEATS = [
    ("none where no silence is long", 20.0, [19.0, words("b")], 0),
    ("none where it is not yet", 120.0, [14.0, words("b")], 0),
    ("one each 15 s", 120.0, [50.0, words("b")], 3),
    ("none for what the client hears anyway", 120.0, [10.0, words("b")] * 5, 0),
    ("comments are not heard by the client", 120.0, [5.0, COMMENT, 5.0, COMMENT, 5.0, COMMENT, 4.0, words("b")], 1),
    ("a burst of comments is one beat", 120.0, [*[16.0, COMMENT], *[0.1, COMMENT] * 5, words("b")], 1),
]


@pytest.mark.parametrize(("idle_s", "steps", "beats"), [case[1:] for case in BEATS], ids=[case[0] for case in BEATS])
def test_a_heartbeat_is_sent_where_long_silence_is_allowed(clock, idle_s, steps, beats):
    relaying, _, ends = relay(*steps, END, first=words("a"), idle_s=idle_s, clock=clock)
    pieces = list(relaying)
    relaying.close()
    assert pieces.count(ChatForm.heartbeat) == beats and ends[0].outcome == "completed"
    assert all(piece.startswith(b"data: ") for piece in pieces if piece != ChatForm.heartbeat)
    assert len(events(piece for piece in pieces if piece != ChatForm.heartbeat)) >= 3


def test_a_heartbeat_is_a_comment_and_no_event():
    assert ChatForm.heartbeat == b": hb\n" and HEARTBEAT_S == 15


def test_words_leave_as_they_come_between_heartbeats(clock):
    relaying, _, _ = relay(20.0, words("b"), END, first=words("a"), idle_s=120.0, clock=clock)
    next(relaying)
    assert next(relaying) == ChatForm.heartbeat and clock.now == 1015
    assert b'"b"' in next(relaying) and clock.now == 1020


def test_heartbeats_do_not_prolong_the_idle_limit(clock):
    relaying, _, ends = relay(500.0, first=words("a"), idle_s=60.0, clock=clock)
    pieces = list(relaying)
    relaying.close()
    assert clock.now == 1060 and pieces.count(ChatForm.heartbeat) == 3
    assert ends[0].error.phase == "idle" and b"STREAM_MAX_S" not in pieces[-1]


# --- defects and odd chunks --------------------------------------------------------------------------------------------


def test_a_defect_of_ours_ends_in_an_error_event_too_and_its_place_is_logged_alone(caplog):
    relaying, upstream, ends = relay(words("a"), KeyError("a secret"))
    with caplog.at_level(logging.ERROR, "gateway"):
        sent = events(relaying)
    relaying.close()
    assert sent[-2]["error"]["code"] == "internal_error" and sent[-1] == "[DONE]" and "secret" not in str(sent)
    assert (ends[0].outcome, upstream.closed) == ("broken", 1)
    (record,) = caplog.records
    assert record.fields["exception"] == "KeyError" and "next_chunks" in record.fields["traceback"]
    assert "secret" not in str(record.__dict__["fields"]) and record.exc_info is None


@pytest.mark.parametrize("name", ["finish", "feed_all"])
def test_a_defect_in_shaping_is_told_too(monkeypatch, name):
    def fail(*args, **kwargs):
        raise RuntimeError

    monkeypatch.setattr(ChunkShaper, name, fail)
    relaying, _, ends = relay(words("a"), END)
    assert events(relaying)[-2]["error"]["code"] == "internal_error"
    relaying.close()
    assert ends[0].outcome == "broken"


ODD = [
    {"choices": 5},
    {"choices": [{"index": 0, "delta": {"tool_calls": 5}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": [0], "function": {"name": "f"}}]}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": {}}]},
]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_chunk_is_a_break_after_what_stood_before_it_in_the_same_read(odd):
    relaying, _, ends = relay([*words("a", "b"), odd, *words("c")])
    sent = events(relaying)
    relaying.close()
    assert [event["choices"][0]["delta"]["content"] for event in sent[:2]] == ["a", "b"]
    assert list(sent[2]) == ["error"] and sent[3:] == ["[DONE]"]
    assert ends[0].outcome == "broken" and isinstance(ends[0].error, StreamBroken)


def test_a_chunk_that_could_not_be_read_before_the_commit_breaks_the_stream_after_what_was_read():
    relaying, upstream, _ = relay(words("never asked for"), first=words("a"))
    relaying._shaper.error = UpstreamGarbled("odd")
    sent = events(relaying)
    assert sent[0]["choices"] and list(sent[1]) == ["error"] and upstream.waits == []


def test_a_call_whose_name_never_came_is_a_break():
    nameless = [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "x"}]}, "finish_reason": None}]}]
    relaying, _, ends = relay(words("a"), END, nameless)
    assert list(events(relaying)[-2]) == ["error"]
    relaying.close()
    assert ends[0].outcome == "broken"


@pytest.mark.parametrize("where", ["stream", "shaper"])
def test_a_stream_is_settled_whatever_fails_at_its_close(monkeypatch, where):
    relaying, upstream, ends = relay(words("a"), END)

    def fail():
        raise OSError

    next(relaying)
    if where == "stream":
        upstream.close = fail
    else:
        relaying._events = type("Broken", (), {"close": staticmethod(fail)})()
    with pytest.raises(OSError):
        relaying.close()
    relaying.close()
    assert len(ends) == 1 and (where == "stream" or upstream.closed == 1)


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
