"""What becomes of the candidates that are asked to go on where a stream broke."""

import time

import pytest

from gateway.errors import ClientGone, UpstreamReset, UpstreamTimeout
from gateway.routing import rescue
from gateway.routing.attempts import Yield
from gateway.routing.commit import Begun
from gateway.routing.rescue import find_rescue
from gateway.upstream.shape import ChunkShaper
from tests.unit.routing.conftest import Answer, candidate

A, B, C = (candidate(f"{name}/m") for name in ("a", "b", "c"))
TEXT = "one two "
ODD = {"choices": [{"index": 0, "delta": {"tool_calls": 5}}]}


def add(delta, end=None):
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}


def say(text, end=None):
    return add({"content": text}, end)


class Stream:
    """Gives out these chunks one a read, with pauses; an exception among them is raised. Then it is over."""

    def __init__(self, *steps, pause_s=0.0):
        self.steps = list(steps)
        self.pause_s = pause_s
        self.closed = False

    def next_chunks(self, wait_s):
        time.sleep(self.pause_s)
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, Exception):
            raise step
        return step and [step]

    def close(self):
        self.closed = True


def begun(stream):
    shaper = ChunkShaper(model="m", splits_thoughts=False)
    return Begun(stream, shaper, shaper.feed_all(stream.next_chunks(1)))


def take_next(stream):
    return Yield(begun(stream), Answer(), None, discard=stream.close)


@pytest.fixture
def ask(pool):
    """Return a function that lets `a` break and the others say what they are given: (what was found, how each ended)."""

    def run(*streams, text=TEXT):
        waiting = [Stream(say(text)), *streams]
        pool.loop = pool.loop_over([A, B, C], pinned=True)
        pool.loop.attempt_all(call := lambda asked: take_next(waiting.pop(0)))
        found = find_rescue(pool.loop, call, text, ChunkShaper(model="m", splits_thoughts=False), UpstreamReset("broke"))
        return found, trail_of(pool)

    return run


def trail_of(pool):
    return [attempt.outcome for attempt in pool.loop.attempts]


def has_failed(pool, asked):
    return asked.model_scope in pool.store.snapshot().rests


def test_another_that_says_the_same_goes_on_from_there(ask):
    stream = Stream(say("one "), say("two three"), say("", "stop"))
    (won, rest), trail = ask(stream)
    assert won.candidate is B and not stream.closed and trail == ["reset", "ok"]
    assert [chunk["choices"][0]["delta"]["content"] for chunk in rest] == ["three"]


def test_notes_about_the_text_are_no_part_of_it(ask):
    (won, rest), _ = ask(Stream(add({"content": "one ", "reasoning_details": [1]}), say("two three")))
    assert won.candidate is B and [chunk["choices"][0]["delta"] for chunk in rest] == [{"content": "three"}]


@pytest.mark.parametrize("delta", [{"refusal": "no"}, {"tool_calls": [{"id": "x", "function": {"name": "f"}}]}])
def test_another_that_does_more_than_speak_is_not_spliced(ask, delta):
    assert ask(Stream(add({"content": "one ", **delta}), say("two three"))) == (None, ["reset", "diverged"])


CALL = {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize("delta", [{"content": "one"}, {"reasoning_content": "Hm."}, {"tool_calls": [CALL]}])
def test_any_answer_goes_on_where_nothing_was_said_yet(ask, delta):
    (won, rest), trail = ask(Stream(add({"role": "assistant", **delta})), text="")
    assert won.candidate is B and trail == ["reset", "ok"]
    assert [chunk["choices"][0]["delta"] for chunk in rest] == [delta]


@pytest.mark.parametrize("words", [["one ", "too"], ["one "]], ids=["else", "less"])
def test_another_that_says_something_else_ends_it_by_nobody_s_fault(ask, pool, words):
    second = Stream(*map(say, words[:-1]), say(words[-1], "stop"))
    assert ask(second) == (None, ["reset", "diverged"])
    assert second.closed and not has_failed(pool, B) and pool.ledger.calls_in_flight(B) == 0


BREAKS = {
    "a reset": (UpstreamReset("broke"), "reset"),
    "silence": (UpstreamTimeout("silent", phase="idle"), "timeout"),
    "an end in the middle": (None, "broken"),
    "a chunk that is none": (ODD, "garbled"),
}


@pytest.mark.parametrize(("step", "reason"), BREAKS.values(), ids=BREAKS)
def test_another_that_breaks_too_has_failed_and_a_third_is_asked(ask, pool, step, reason):
    second = Stream(say("one "), step)
    (won, _), trail = ask(second, Stream(say("one two three")))
    assert won.candidate is C and trail == ["reset", reason, "ok"]
    assert second.closed and has_failed(pool, B) and pool.ledger.calls_in_flight(B) == 0


def test_another_that_is_too_slow_to_catch_up_is_at_no_fault(ask, pool, monkeypatch):
    monkeypatch.setattr(rescue, "RESCUE_S", 0.05)
    second = Stream(*[say(letter) for letter in "one two"], pause_s=0.02)
    assert ask(second) == (None, ["reset", "timeout"])
    assert second.closed and not has_failed(pool, B)


def test_a_client_that_leaves_meanwhile_is_nobody_s_fault(ask, pool):
    second = Stream(say("one "), ClientGone("gone"))
    with pytest.raises(ClientGone):
        ask(second)
    assert second.closed and trail_of(pool) == ["reset", "abandoned"] and not has_failed(pool, B)
