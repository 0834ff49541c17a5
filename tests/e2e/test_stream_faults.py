"""Streams from a real socket to a client: what breaks, when, and what the client then has. Without gunicorn, whose part
of it `serve` plays: it writes what the relay yields to the client's socket. What gunicorn need not be spared for stands in
`faults.py`.
"""

import json
import socket
import threading
import time
from dataclasses import dataclass, field

import pytest

from gateway.domain import Candidate, ChatRequest, Credential, Model, ProviderRow
from gateway.errors import (
    GatewayError,
    StreamBroken,
    UpstreamError,
    UpstreamFailed,
    UpstreamGarbled,
)
from gateway.providers.openai_compatible import Adapter
from gateway.routing.commit import begin_stream
from gateway.upstream import watch as watching
from gateway.upstream.relay import Relay, RelayLimits
from gateway.upstream.transport import CallLimits, Transport
from gateway.upstream.watch import Watch
from tests.e2e.simulator import cut_after, raw, reply, stall_after, stream

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def part(delta=None, finish=None, index=0, **fields):
    return {"id": "c", "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}], **fields}


def say(text):
    return part({"content": text})


def event(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return b"data: " + data + b"\n\n"


END = part({}, "stop")
USAGE = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}


@dataclass
class Served:
    """What a client got, and what became of the stream."""

    error: GatewayError | None = None  # before the commit point
    events: list = field(default_factory=list)
    pieces: list = field(default_factory=list)
    ends: list = field(default_factory=list)
    took_s: float = 0.0

    @property
    def text(self):
        deltas = [choice["delta"] for item in self.events if isinstance(item, dict) for choice in item.get("choices", ())]
        return "".join(delta.get("content", "") for delta in deltas)

    @property
    def outcome(self):
        return self.ends[0].outcome if self.ends else None

    @property
    def is_broken(self):
        return self.outcome == "broken" and list(self.events[-2]) == ["error"] and self.events[-1] == "[DONE]"

    @property
    def is_complete(self):
        return self.outcome == "completed" and self.events[-2]["choices"][0]["finish_reason"] and self.events[-1] == "[DONE]"


class Bench:
    """One provider behind the simulator, and the way from there to a client."""

    def __init__(self, simulator):
        self.simulator = simulator
        self.transport, self.watch = Transport(), Watch()
        base_url = simulator.base_url("plain")
        row = ProviderRow(key="plain", base_url=base_url)
        self.provider = Adapter(row, self.transport, None)  # type: ignore[arg-type]
        self.candidate = Candidate(row, Model(provider="plain", id="m"), Credential("plain", 1, base_url))

    def serve(self, behaviour, *, client=None, first_token_s=5.0, idle_s=5.0, stream_max_s=9.0, deadline_s=5.0, **body):
        self.simulator.always("plain", behaviour)
        request = ChatRequest(body={"messages": [{"role": "user", "content": "Hi"}], **body}, stream=True)
        served, handle, began = Served(), self.watch.open_handle(client), time.monotonic()
        try:
            limits = CallLimits(1.0, first_token_s, idle_s, began + deadline_s)
            begun = begin_stream(self.provider, request, self.candidate, limits, handle)
            if begun.is_empty:
                served.error = UpstreamFailed("empty")
            relay = Relay(
                begun.stream,
                begun.shaper,
                begun.first,
                limits=RelayLimits(idle_s=idle_s, ends_at_mono=time.monotonic() + stream_max_s),
                include_usage=False,
                prompt_tokens=1,
                x_gateway={"provider": "plain"},
                on_close=served.ends.append,
                handle=handle,
            )
            try:
                for piece in relay:
                    served.pieces.append(piece)
                    if client:
                        client.sendall(piece)
            except OSError:
                pass  # the client is gone: gunicorn closes what it was sending
            finally:
                relay.close()
        except UpstreamError as error:
            served.error = error
        finally:
            self.watch.close_handle(handle)
        served.took_s = time.monotonic() - began
        lines = b"".join(served.pieces).replace(b": hb\n", b"").decode().removesuffix("\n\n").split("\n\n")
        served.events = [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines if line]
        return served


@pytest.fixture
def bench(simulator):
    bench = Bench(simulator)
    yield bench
    bench.transport.close()


# --- before the commit point -------------------------------------------------------------------------------------------


NEVER_BEGUN = {
    "tool_calls is a number": (stream([part({"tool_calls": 5}), END]), UpstreamGarbled),
    "a function is a string": (stream([part({"tool_calls": [{"index": 0, "id": "a", "function": "x"}]}), END]), UpstreamGarbled),
    "an index is a list": (stream([part({"tool_calls": [{"index": [0], "function": {"name": "f"}}]}), END]), UpstreamGarbled),
    "a finish reason is an object": (stream([part({}, {})]), UpstreamGarbled),
    "a text is a number": (stream([part({"content": [{"type": "text", "text": 5}]}), END]), UpstreamGarbled),
    "a choice is a string": (stream([{"choices": ["x"]}, END]), UpstreamGarbled),
    "content with an odd end": (stream([part({"content": "a"}, {})]), UpstreamGarbled),
    "an empty eos": (stream([part({"role": "assistant", "content": ""}), part({}, "eos")]), UpstreamFailed),
    "a call without a name": (
        stream([part({"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": "{}"}}]}), part({}, "tool_calls")]),
        UpstreamGarbled,
    ),
    "notes, then nothing": (stream([part({"annotations": [1]})], done=False), UpstreamGarbled),
    "JSON with an odd end": (reply(200, {"choices": [{"message": {"content": "a"}, "finish_reason": {}}]}), UpstreamGarbled),
    "JSON with odd calls": (
        reply(200, {"choices": [{"message": {"content": "a", "tool_calls": 5}, "finish_reason": "stop"}]}),
        UpstreamGarbled,
    ),
    "JSON that was aborted": (reply(200, {"choices": [{"message": {"content": "a"}, "finish_reason": "abort"}]}), UpstreamFailed),
}


@pytest.mark.parametrize("case", NEVER_BEGUN)
def test_what_fails_before_the_first_word_leaves_the_way_to_the_next_candidate(bench, case):
    behaviour, error = NEVER_BEGUN[case]
    served = bench.serve(behaviour)
    assert type(served.error) is error
    assert bench.simulator.requests[-1].wait_ended(1.0)


def test_a_stream_that_was_given_up_before_its_first_word_is_let_go(bench):
    served = bench.serve(stall_after(n_events=1, answer=stream([part({"tool_calls": 5})])))
    assert isinstance(served.error, UpstreamGarbled)
    assert bench.simulator.requests[-1].wait_ended(1.0) == "client_closed"


def test_a_break_that_nobody_has_seen_is_no_break(bench, monkeypatch):
    def broken(*_):
        raise StreamBroken("odd")

    monkeypatch.setattr("gateway.providers.openai_compatible.ChunkDecoder.decode", broken)
    served = bench.serve(stall_after(n_events=1, answer=stream([say("a")])))
    assert isinstance(served.error, UpstreamGarbled)
    assert bench.simulator.requests[-1].wait_ended(1.0) == "client_closed"


@pytest.mark.parametrize("comments", [0, 60], ids=["silent", "with comments"])
def test_after_an_empty_stop_more_is_awaited_for_a_moment_only(bench, comments):
    noise: list[bytes | float] = [step for _ in range(comments) for step in (0.05, b": x\n\n")] or [3.0]
    served = bench.serve(raw(HEAD + event(END), *noise), first_token_s=9.0)
    assert isinstance(served.error, UpstreamFailed) and 0.9 < served.took_s < 2.4


def test_the_limit_for_the_first_word_does_not_bound_the_rest(bench):
    served = bench.serve(stream([say("a")] * 10 + [END], pause_s=0.1), first_token_s=0.3, deadline_s=0.5)
    assert served.is_complete and served.text == "a" * 10 and served.took_s > 0.8


# --- after it ----------------------------------------------------------------------------------------------------------


BROKEN = {
    "tool_calls is a number": part({"tool_calls": 5}),
    "a finish reason is an object": part({}, {"a": 1}),
    "an index is a list": part({"tool_calls": [{"index": [0], "function": {"name": "f"}}]}),
    "aborted": part({}, "abort"),
    "half an object": b'{"choices": [{"de',
    "an error": {"error": {"message": "boom"}},
    "a choice is a number": {"choices": [5]},
}


@pytest.mark.parametrize("apart", [False, True], ids=["in one read", "apart"])
@pytest.mark.parametrize("case", BROKEN)
def test_a_bad_event_ends_the_stream_after_all_that_stood_before_it(bench, case, apart):
    """Where the network cuts the bytes changes nothing, also at the commit point."""
    gap = [0.05] if apart else []
    steps = [HEAD, *gap, event(say("a")), *gap, event(say("b")), *gap, event(BROKEN[case]), *gap, event(say("c"))]
    whole = raw(*steps) if apart else raw(b"".join(step for step in steps if isinstance(step, bytes)))
    served = bench.serve(whole)
    assert served.text == "ab" and served.is_broken


@pytest.mark.parametrize("apart", [False, True], ids=["in one read", "apart"])
def test_a_bad_event_after_the_end_loses_nothing(bench, apart):
    gap = [0.05] if apart else []
    steps = [event(say("a")), *gap, event(END), *gap, event(b'{"garb')]
    served = bench.serve(raw(HEAD, *steps) if apart else raw(HEAD + b"".join(step for step in steps if isinstance(step, bytes))))
    assert served.text == "a" and served.is_complete


BOOM = event({"error": {"message": "boom"}})
LAST = {
    "in the same read, then silence": raw(HEAD + event(say("a")) + BOOM, 2.0),
    "without its blank line": raw(HEAD + event(say("a")), 0.05, BOOM.rstrip()),
}


@pytest.mark.parametrize("idle_s", [1.0, 60.0], ids=["without heartbeats", "with heartbeats"])
@pytest.mark.parametrize("case", LAST)
def test_an_error_is_told_at_once_and_in_its_own_words(bench, case, idle_s):
    served = bench.serve(LAST[case], idle_s=idle_s)
    assert served.is_broken and "boom" in served.events[-2]["error"]["message"] and served.took_s < 0.5


JSON_ANSWERS: dict[str, tuple[dict, str | None, str]] = {
    "without a finish reason": ({"content": "hi"}, None, "stop"),
    "with calls": ({"content": None, "tool_calls": [{"id": "a", "index": 0, "function": {"name": "f"}}] * 2}, None, "tool_calls"),
}


@pytest.mark.parametrize("case", JSON_ANSWERS)
def test_a_whole_answer_to_a_stream_request_is_whole(bench, case):
    message, end, reason = JSON_ANSWERS[case]
    served = bench.serve(reply(200, {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": end}]}))
    assert served.is_complete and served.events[-2]["choices"][0]["finish_reason"] == reason
    pieces = [call for item in served.events[:-1] for call in item["choices"][0]["delta"].get("tool_calls", ())]
    assert {call["index"] for call in pieces} == set(range(len(message.get("tool_calls", ()))))


def test_a_second_answer_is_awaited_though_the_first_has_ended(bench):
    later = [event(part({"content": "b"}, index=1)), event(part({}, "stop", index=1)), event(b"[DONE]")]
    served = bench.serve(raw(HEAD + event(say("a")) + event(END), 1.2, *later), idle_s=3.0, n=2)
    assert served.text == "ab" and served.is_complete and len(served.events[-2]["choices"]) == 2


def test_two_answers_that_were_cut_after_the_first_are_broken(bench):
    two = stream([say("a"), END, part({"content": "b"}, index=1)])
    assert bench.serve(cut_after(n_events=2, answer=two), n=2).is_broken


def test_a_server_that_ignores_n_is_not_waited_for_after_its_end(bench):
    served = bench.serve(stream([say("a"), END]), n=2)
    assert served.is_complete and served.took_s < 0.5


def test_answers_that_the_provider_was_not_asked_for_are_not_awaited(bench, monkeypatch):
    monkeypatch.setattr(Adapter, "params", frozenset({"stream"}))  # not `n`
    served = bench.serve(stall_after(n_events=2, answer=stream([say("a"), END])), n=2, idle_s=4.0)
    assert served.is_complete and served.took_s < 1.5


FINISHED = {
    "usage awaited": ([event(END), 5.0], 1.0),
    "usage there": ([event(END) + event(USAGE), 5.0], 0.2),
    "comments": ([event(END), *[step for _ in range(50) for step in (0.1, b": x\n\n")]], 1.0),
}


@pytest.mark.parametrize("idle_s", [4.0, 60.0], ids=["without heartbeats", "with heartbeats"])
@pytest.mark.parametrize("case", FINISHED)
def test_a_finished_stream_that_stays_open_is_over_in_time(bench, case, idle_s):
    steps, took_s = FINISHED[case]
    served = bench.serve(raw(HEAD + event(say("a")), *steps), idle_s=idle_s)
    assert served.is_complete and took_s - 0.1 < served.took_s < took_s + 0.4
    assert bench.simulator.requests[-1].wait_ended(1.0) == "client_closed"


# --- STREAM_MAX_S, whatever happens ------------------------------------------------------------------------------------


COMMENTS: list[bytes | float] = [0.1, b": x\n\n"] * 60
DRIP: list[bytes | float] = [0.1, b"x"] * 60
ENDLESS = {
    "lively": stream([say("a")] * 200, pause_s=0.05),
    "silent": stall_after(n_events=1, answer=stream([say("a")])),
    "comments": raw(HEAD + event(say("a")), *COMMENTS),
    "a chunk size that drips": raw(CHUNKED + b"%x\r\n%s\r\n5;" % (len(event(say("a"))), event(say("a"))), *DRIP),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_no_stream_with_heartbeats_outlives_its_limit(bench, case):
    served = bench.serve(ENDLESS[case], stream_max_s=0.6, idle_s=120.0)
    assert served.is_broken and served.ends[0].error.phase == "total"
    assert "STREAM_MAX_S" in served.events[-2]["error"]["message"]
    assert 0.5 < served.took_s < 1.1
    assert bench.simulator.requests[-1].wait_ended(1.0) == "client_closed"


def test_a_client_that_never_reads_holds_its_thread_no_longer_than_that(bench, monkeypatch):
    monkeypatch.setattr(watching, "LAST_WORDS_S", 0.3)
    client, browser = socket.socketpair()
    with client, browser:
        served = bench.serve(stream([say("x" * 20_000)] * 1000 + [END]), client=client, stream_max_s=0.5)
    assert served.outcome == "client_gone" and 0.7 < served.took_s < 1.6
    assert bench.simulator.requests[-1].wait_ended(1.0) == "client_closed"


def test_a_client_that_leaves_a_silent_stream_with_heartbeats_is_seen(bench):
    client, browser = socket.socketpair()
    timer = threading.Timer(0.3, browser.close)
    timer.start()
    with client:
        served = bench.serve(ENDLESS["silent"], client=client, idle_s=120.0)
    timer.join()
    assert served.outcome == "client_gone" and served.took_s < 0.8
    assert bench.simulator.requests[-1].wait_ended(1.0) == "client_closed"


# --- heartbeats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "to the end of the connection"])
def test_words_come_through_at_once_between_heartbeats(bench, monkeypatch, chunked):
    monkeypatch.setattr("gateway.upstream.relay.HEARTBEAT_S", 0.1)
    events = [say("a"), say("b"), say("c"), END]
    answer = stream(events, pause_s=0.25, chunked=chunked)
    served = bench.serve(answer, idle_s=60.0)
    assert served.is_complete and served.text == "abc"
    assert 2 <= served.pieces.count(b": hb\n") <= 8 and served.took_s < 1.6


def test_what_waits_in_a_buffer_is_not_kept_waiting_by_heartbeats(bench, monkeypatch):
    monkeypatch.setattr("gateway.upstream.relay.HEARTBEAT_S", 0.1)
    sent = b"".join(b"%x\r\n%s\r\n" % (len(data), data) for data in map(event, [say("a"), say("b"), say("c"), END, b"[DONE]"]))
    served = bench.serve(raw(CHUNKED + sent, 2.0), idle_s=60.0)
    assert served.is_complete and served.text == "abc" and served.took_s < 0.3
    assert b": hb\n" not in served.pieces


def test_silence_ends_with_the_idle_limit_also_where_heartbeats_are_sent(bench, monkeypatch):
    monkeypatch.setattr("gateway.upstream.relay.HEARTBEAT_S", 0.1)
    monkeypatch.setattr("gateway.upstream.relay.LONG_SILENCE_S", 0.4)
    served = bench.serve(ENDLESS["silent"], idle_s=0.5)
    assert served.is_broken and served.ends[0].error.phase == "idle" and 0.4 < served.took_s < 0.9
    assert 3 <= served.pieces.count(b": hb\n") <= 5


# --- connections -------------------------------------------------------------------------------------------------------


def test_a_stream_that_ended_properly_leaves_its_connection_for_the_next(bench):
    for _ in range(3):
        assert bench.serve(stream([say("a"), END])).is_complete
    assert len({request.connection for request in bench.simulator.requests}) == 1
