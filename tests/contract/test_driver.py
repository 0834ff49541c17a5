"""The driver that all HTTP adapters share: what it makes of time limits and of answers that are not what they should be."""

import json
import time
from dataclasses import replace

import pytest
import responses

from gateway.domain import Model
from gateway.errors import UpstreamTimeout
from gateway.providers.cerebras import Adapter as Cerebras
from gateway.providers.openai_compatible import Adapter
from gateway.routing.commit import begin_stream
from gateway.upstream.transport import Transport
from gateway.upstream.watch import Handle
from tests.contract.compatible import Bench, chat, limits

BASE_URL = "http://some.test/v1"
MODEL = Model(provider="some", id="m", upstream_id="m")
COMPLETION = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}]}
WORDS = b'data: {"choices": [{"index": 0, "delta": {"content": "4"}, "finish_reason": "stop"}]}\n\n'


class RecordingTransport(Transport):
    """Notes the limits of each call."""

    def __init__(self):
        super().__init__()
        self.limits = []

    def open(self, request, limits, handle):
        self.limits.append(limits)
        return super().open(request, limits, handle)


@pytest.fixture
def http():
    with responses.RequestsMock() as mock:
        yield mock


def late(body, content_type="application/json"):
    """Answer after more than the first-token limit of `hurried`; what is mocked has no time-outs of its own."""

    def answer(request):
        time.sleep(0.03)
        return 200, {"Content-Type": content_type}, body

    return {"callback": answer, "content_type": content_type}


def hurried():
    return replace(limits(), first_token_s=0.01)


# --- an answer in one piece behind a stream request --------------------------------------------------------------------


def test_a_format_that_is_not_streamed_has_the_time_of_a_whole_answer(http):
    bench = Bench(Cerebras, BASE_URL, MODEL)
    bench.adapter.transport = RecordingTransport()
    http.add_callback(responses.POST, bench.chat_url, **late(json.dumps(COMPLETION)))
    request = chat(stream=True, response_format={"type": "json_object"})
    begun = begin_stream(bench.adapter, request, bench.candidate(), hurried(), Handle())
    assert begun.first[0]["choices"][0]["delta"]["content"] == "4"
    assert bench.adapter.transport.limits[0].first_token_s == pytest.approx(10, abs=1)


def test_a_whole_answer_to_a_stream_request_is_not_too_late(http):
    bench = Bench(Adapter, BASE_URL, MODEL)
    http.add_callback(responses.POST, bench.chat_url, **late(json.dumps(COMPLETION)))
    begun = begin_stream(bench.adapter, chat(stream=True), bench.candidate(), hurried(), Handle())
    assert begun.first[0]["choices"][0]["delta"]["content"] == "4"


def test_a_stream_whose_first_token_is_late_is_given_up(http):
    bench = Bench(Adapter, BASE_URL, MODEL)
    http.add_callback(responses.POST, bench.chat_url, **late(WORDS, "text/event-stream"))
    with pytest.raises(UpstreamTimeout):
        begin_stream(bench.adapter, chat(stream=True), bench.candidate(), hurried(), Handle())
