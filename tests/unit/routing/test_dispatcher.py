"""Requests from plan to settled answer, over scripted providers."""

import json
import math
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.domain import ChatRequest, Choice, EmbeddingRequest
from gateway.errors import StreamBroken, UpstreamReset, UpstreamTimeout
from gateway.providers.base import ChatAnswer, ChatStream, EmbeddingAnswer
from gateway.routing.attempts import AttemptLoop, Caller
from gateway.routing.candidates import Plan
from gateway.routing.dispatcher import Dispatcher
from gateway.routing.rescue import RESCUE_S
from gateway.settings import Settings
from gateway.state.memory import MemoryStore
from gateway.telemetry import Telemetry
from gateway.upstream.watch import Handle
from tests.unit.routing.conftest import Clock, candidate

A, B = candidate("a/m", limits={"tpm": 10_000}), candidate("b/m", limits={"tpm": 10_000})
CHAT = ChatRequest(body={"messages": []}, prompt_tokens=100, stream=True)
USAGE = {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150}


def chunk(content, end=None, **fields):
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": end}], **fields}


class Stream(ChatStream):
    """Yields the steps it is given: contents, whole chunks, what one read holds of them, or errors to raise."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.closed = 0

    def next_chunks(self, wait_s):
        if not self.steps:
            return None
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return [one if isinstance(one, dict) else chunk(one) for one in (step if isinstance(step, list) else [step])]

    def close(self):
        self.closed += 1


def whole_stream(*words):
    return Stream(*words, chunk("", "stop", usage=USAGE))


class Scripted:
    """A provider that answers with the next thing it was given."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.limits: list = []

    def _next(self, request, candidate, limits, handle):
        self.limits.append(limits)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    complete = open_stream = embed = _next


class Bench:
    """A dispatcher over two candidates in this order, and what it told at the end of streams."""

    def __init__(self):
        self.store = MemoryStore(Clock())
        self.providers = {"a": Scripted(), "b": Scripted()}
        planner = SimpleNamespace(plan_chat=lambda request: self.plan, plan_embeddings=lambda request: self.plan)
        self.plan_over(A, B)
        self.dispatcher = Dispatcher(
            roster=cast(Any, SimpleNamespace(planner=planner)),
            providers=cast(Any, self.providers),
            store=self.store,
            settings=Settings(),
            telemetry=Telemetry(),
        )
        self.handle = Handle()
        self.time_limit_s = math.inf
        self.ends: list = []

    def plan_over(self, *candidates):
        self.plan = Plan(tuple((one,) for one in candidates))

    def script(self, a=(), b=()):
        self.providers["a"].answers, self.providers["b"].answers = list(a), list(b)

    def caller(self):
        asked = time.monotonic()
        return Caller(request_id="req_1", handle=self.handle, asked_mono=asked, gives_up_at_mono=asked + self.time_limit_s)

    def complete(self):
        return self.dispatcher.complete(CHAT, self.caller())

    def stream(self, request=CHAT):
        return self.dispatcher.open_stream(request, self.caller(), lambda end, route: self.ends.append((end, route)))

    def embed(self):
        request = EmbeddingRequest(inputs=("x",), choice=Choice(names=("m",)), prompt_tokens=100)
        return self.dispatcher.embed(request, self.caller())

    @property
    def in_flight(self):
        return sum(self.dispatcher.ledger.calls_in_flight(c) for c in (A, B))

    def tokens(self, who):
        return sum(slot.used for slot in self.store.snapshot().counts.get(f"{who.id}|tpm", ()))


@pytest.fixture
def bench():
    return Bench()


def completion(**fields):
    message = {"role": "assistant", "content": "hello"}
    return ChatAnswer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **fields})


ASK = {
    "complete": (lambda bench: bench.complete(), lambda: completion(usage=USAGE)),
    "stream": (lambda bench: bench.stream(), lambda: whole_stream("hello")),
    "embed": (lambda bench: bench.embed(), lambda: EmbeddingAnswer([[0.5]], 120)),
}


def test_a_whole_answer_is_settled_with_the_usage_that_it_tells(bench):
    bench.script(a=[completion(usage=USAGE)])
    answer = bench.complete()
    assert answer.usage.total_tokens == 150 == bench.tokens(A) and bench.in_flight == 0
    assert answer.body["x_gateway"] == answer.route.x_gateway()


def test_usage_that_nobody_told_is_estimated_and_marked(bench):
    bench.script(a=[completion()])
    answer = bench.complete()
    assert answer.usage.estimated and answer.body["x_gateway"]["estimated"] is True and answer.usage.prompt_tokens == 100


@pytest.mark.parametrize("how", ["complete", "stream"])
def test_who_is_to_stream_is_expected_to_begin_and_not_to_end(bench, how, monkeypatch):
    asked, begin = [], bench.dispatcher.ledger.begin

    def note(who, what, **options):
        asked.append(what)
        return begin(who, what, **options)

    monkeypatch.setattr(bench.dispatcher.ledger, "begin", note)
    bench.script(a=[ASK[how][1]()])
    if how == "stream":
        bench.stream().relay.close()
    else:
        bench.dispatcher.complete(replace(CHAT, stream=False), bench.caller())
    assert [what.streams for what in asked] == [how == "stream"]


def test_several_answers_are_reserved_as_several(bench):
    bench.script(a=[whole_stream("hello")])
    opened = bench.stream(replace(CHAT, body={"messages": [], "n": 3}, max_output_tokens=50))
    assert bench.tokens(A) == 100 + 3 * 50
    opened.relay.close()


@pytest.mark.parametrize(("told", "tokens"), [(120, 120), (None, 100)])
def test_embeddings_are_settled_with_what_the_provider_counted(bench, told, tokens):
    bench.script(a=[EmbeddingAnswer([[0.5]], told)])
    embeddings = bench.embed()
    assert embeddings.usage.prompt_tokens == tokens == bench.tokens(A) and embeddings.usage.estimated is (told is None)


def test_a_stream_is_settled_when_it_is_closed_and_its_end_is_told_once(bench):
    bench.script(a=[whole_stream("hel", "lo")])
    opened = bench.stream()
    assert bench.in_flight == 1
    list(opened.relay)
    opened.relay.close()
    opened.relay.close()
    assert bench.tokens(A) == 150 and bench.in_flight == 0
    assert [(end.outcome, route.candidate.id) for end, route in bench.ends] == [("completed", A.id)]


def test_a_rescued_stream_settles_both_and_names_who_served_it_in_the_end(bench):
    bench.script(a=[Stream("The ", "boat ", UpstreamReset("x"))], b=[whole_stream("The boat ", "sails.")])
    opened = bench.stream()
    assert opened.route.candidate.id == A.id
    sent = b"".join(opened.relay)
    opened.relay.close()
    ((end, route),) = bench.ends
    assert b"sails." in sent and b'"rescued":true' in sent
    assert end.outcome == "completed" and route.trail == "a/m:reset b/m:ok"
    assert bench.in_flight == 0 and bench.tokens(B) == 150 and bench.tokens(A) > 100


def test_who_is_to_rescue_a_stream_has_the_rescue_s_time_and_not_what_is_left_of_the_first(bench):
    bench.script(a=[Stream("The ", UpstreamReset("x"))], b=[whole_stream("The boat.")])
    began = time.monotonic()
    opened = bench.stream()
    list(opened.relay)
    opened.relay.close()
    (limits,) = bench.providers["b"].limits
    assert limits.deadline_mono - began == pytest.approx(RESCUE_S, abs=1)


def test_a_stream_that_is_rescued_twice_settles_all_three(bench):
    bench.plan_over(A, B, candidate("a/other"))
    bench.script(
        a=[Stream("The ", UpstreamReset("x")), whole_stream("The boat ", "sails.")],
        b=[Stream("The ", "boat ", UpstreamReset("x"))],
    )
    opened = bench.stream()
    sent = b"".join(opened.relay)
    opened.relay.close()
    ((end, route),) = bench.ends
    assert b"sails." in sent and end.outcome == "completed" and route.trail == "a/m:reset b/m:reset a/other:ok"
    assert bench.in_flight == 0 and bench.tokens(A) > 100 and bench.tokens(B) > 100


def test_a_rescued_stream_keeps_its_head(bench):
    first, other = ({"id": one, "model": one, "created": number} for number, one in enumerate("ab", 1))
    said = [chunk(word, **other) for word in ("The ", "boat sails", " far", "")]
    bench.script(
        a=[Stream(chunk("The ", **first), chunk("boat ", **first), UpstreamReset("x"))], b=[Stream(said, chunk("", "stop"))]
    )
    opened = bench.stream()
    events = [json.loads(line[6:]) for line in b"".join(opened.relay).decode().split("\n\n")[:-2]]
    opened.relay.close()
    assert [event["choices"][0]["delta"].get("content") for event in events] == ["The ", "boat ", "sails", " far", None]
    assert all(first.items() <= event.items() for event in events)


def test_a_stream_that_nobody_could_rescue_tells_what_was_tried(bench):
    bench.script(a=[Stream("The ", UpstreamReset("x"))], b=[Stream("Another.", StreamBroken("x"))])
    opened = bench.stream()
    list(opened.relay)
    opened.relay.close()
    ((end, route),) = bench.ends
    assert end.outcome == "broken" and route.candidate.id == A.id and route.trail == "a/m:reset b/m:diverged"
    assert bench.in_flight == 0


def test_a_stream_that_fell_silent_is_not_asked_again_with_another_key(bench):
    bench.plan_over(A, candidate("a/m", key=2), B)
    bench.script(a=[whole_stream("It is known to answer: one silence does not rest it.")])
    list(bench.stream().relay)
    bench.dispatcher.ledger.moment(fresh=True)
    bench.script(a=[Stream("The ", UpstreamTimeout("silent", phase="idle")), whole_stream("no")], b=[whole_stream("The end.")])
    opened = bench.stream()
    sent = b"".join(opened.relay)
    opened.relay.close()
    assert b"end." in sent and bench.ends[0][1].trail == "a/m:timeout b/m:ok"


@pytest.mark.parametrize(
    ("how", "time_limit_s", "seconds"),
    [
        ("complete", math.inf, 20),
        ("complete", 4.0, 4),
        ("stream", math.inf, 60),
        ("stream", 4.0, 4),
        ("embed", math.inf, 300),
        ("embed", 4.0, 4),
    ],
)
def test_a_call_ends_within_the_budget_and_within_the_client_s_own_limit(bench, how, time_limit_s, seconds):
    ask, answer = ASK[how]
    bench.time_limit_s = time_limit_s
    bench.script(a=[answer()])
    began = time.monotonic()
    ask(bench)
    (limits,) = bench.providers["a"].limits
    assert limits.deadline_mono - began == pytest.approx(seconds, abs=1)


def test_a_quarter_of_the_threads_may_wait(bench):
    seats = bench.dispatcher.policy.seats
    taken = sum(seats.acquire(blocking=False) for _ in range(bench.dispatcher.settings.threads))
    assert taken == bench.dispatcher.settings.threads // 4


# --- defects of ours ---------------------------------------------------------------------------------------------------


class Defect(Exception):
    pass


def fails(*_, **__):
    raise Defect


@pytest.mark.parametrize("how", ASK)
@pytest.mark.parametrize("outcome", ["answered", "failed"])
def test_a_defect_after_an_attempt_leaves_no_booking_open(bench, how, outcome, monkeypatch):
    ask, answer = ASK[how]
    monkeypatch.setattr(AttemptLoop, "_record", fails)
    bench.script(a=[answer() if outcome == "answered" else UpstreamReset("x")])
    with pytest.raises(Defect):
        ask(bench)
    assert bench.in_flight == 0 and bench.tokens(A) <= 100


@pytest.mark.parametrize("step", ["answered", "ended"])
@pytest.mark.parametrize("how", ASK)
def test_a_defect_while_a_success_is_noted_leaves_no_booking_open(bench, how, step, monkeypatch):
    ask, answer = ASK[how]
    monkeypatch.setattr(bench.dispatcher.ledger, step, fails)
    upstream = answer()
    bench.script(a=[upstream])
    if how == "stream" and step == "ended":
        opened = ask(bench)
        list(opened.relay)
        with pytest.raises(Defect):
            opened.relay.close()
        assert len(bench.ends) == 1 and bench.in_flight == 0  # whoever waits for the end hears of it all the same
        return
    with pytest.raises(Defect):
        ask(bench)
    assert bench.in_flight == 0 and bench.tokens(A) <= 100
    assert getattr(upstream, "closed", 1) == 1


def test_a_defect_before_the_relay_has_the_stream_lets_it_go(bench, monkeypatch):
    monkeypatch.setattr(bench.handle, "end_by", fails)
    upstream = whole_stream("hello")
    bench.script(a=[upstream])
    with pytest.raises(Defect):
        bench.stream()
    assert upstream.closed == 1 and bench.in_flight == 0 and bench.tokens(A) == 100


def test_a_stream_is_let_go_even_where_its_booking_cannot_be_ended(bench, monkeypatch):
    monkeypatch.setattr(bench.handle, "end_by", fails)
    monkeypatch.setattr(bench.dispatcher.ledger, "abandoned", fails)
    upstream = whole_stream("hello")
    bench.script(a=[upstream])
    with pytest.raises(Defect):
        bench.stream()
    assert upstream.closed == 1


def test_a_defect_while_a_stream_is_rescued_leaves_no_booking_open(bench, monkeypatch):
    monkeypatch.setattr("gateway.routing.rescue.catch_up", fails)
    other = whole_stream("The boat.")
    bench.script(a=[Stream("The ", UpstreamReset("x"))], b=[other])
    opened = bench.stream()
    list(opened.relay)
    opened.relay.close()
    assert bench.in_flight == 0 and other.closed == 1 and bench.ends[0][0].outcome == "broken"
