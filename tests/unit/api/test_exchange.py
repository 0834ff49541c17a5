"""One request and its answer: how a body is read, what is known of the client, and how it ends."""

import gc
import io
import math
import time
import weakref
from typing import Any

import pytest
from flask import Request, request
from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.unreader import IterUnreader

from gateway.api.exchange import SMALL_REST_BYTES, Exchange, exchange
from gateway.upstream.watch import Handle
from tests.conftest import AUTH

CHAT = "/v1/chat/completions"
ASK = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hello"}]}


def chunked(*pieces):
    """The body as gunicorn gives it to the application."""
    message: Any = object()
    return Body(ChunkedReader(message, IterUnreader(pieces)))


def send(application, stream, headers, *, length=None, method="POST", path=CHAT):
    """Send a body as a server hands it over; `length` None: chunked."""
    framing = {"HTTP_TRANSFER_ENCODING": "chunked"} if length is None else {"CONTENT_LENGTH": str(length)}
    overrides = {"wsgi.input": stream, **framing}
    return application.client.open(path, method=method, headers=headers, environ_overrides=overrides)


class Failing(io.RawIOBase):
    def __init__(self, error):
        self.error = error

    def read(self, size=-1):
        raise self.error


# --- bodies ----------------------------------------------------------------------------------------------------------


BROKEN = {
    "a size that is no number": (b"zz\r\nhello",),
    "a chunk without its end": (b"5\r\nhelloXX",),
    "an end in the middle of a chunk": (b"50\r\nhello",),
    "an end in a size": (b"5",),
    "nothing at all": (),
    "a bad extension": (b"5;\x01\r\nhello\r\n0\r\n\r\n",),
    "a bad trailer": (b"2\r\n{}\r\n0\r\nx y z\r\n\r\n",),
}


@pytest.mark.parametrize("pieces", BROKEN.values(), ids=list(BROKEN))
def test_a_body_that_is_not_well_chunked_is_the_client_s_mistake(application, pieces):
    answer = send(application, chunked(*pieces), AUTH)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_json")
    assert "not well chunked" in answer.json["error"]["message"] and answer.headers["Connection"] == "close"


def test_a_body_shorter_than_its_length_is_refused(application):
    answer = send(application, Body(LengthReader(IterUnreader([b"{}"]), 10)), AUTH, length=10)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_json")
    assert "Content-Length" in answer.json["error"]["message"] and answer.headers["Connection"] == "close"


def test_a_silent_sender_is_not_waited_for(application):
    answer = send(application, Failing(TimeoutError()), AUTH)
    assert answer.status_code == 400 and "slowly" in answer.json["error"]["message"]
    assert answer.headers["Connection"] == "close"


def test_a_sender_that_left_counts_as_gone(application):
    send(application, Failing(ConnectionResetError(104, "reset")), AUTH)
    assert [(record.status, record.error) for record in application.telemetry.requests] == [(499, "client_closed_request")]


@pytest.mark.parametrize("length", [None, 60], ids=["chunked", "sized"])
def test_a_body_over_the_limit_is_refused_whatever_it_says_of_its_size(build_application, length):
    small = build_application({"MAX_REQUEST_BYTES": "50"})
    answer = send(small, io.BytesIO(b" " * 60), AUTH, length=length)
    assert (answer.status_code, answer.json["error"]["code"]) == (413, "request_too_large")
    assert "50 bytes" in answer.json["error"]["message"] and answer.headers["Connection"] == "close"


def test_a_body_as_large_as_the_limit_is_read(build_application):
    body = b'{"messages": [{"role": "user", "content": "hello"}]}'
    exact = build_application({"MAX_REQUEST_BYTES": str(len(body))})
    assert send(exact, chunked(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)), AUTH).status_code == 200


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 415), ("br", 415), ("identity", 200), ("", 200)])
def test_a_compressed_body_is_refused(application, encoding, status):
    answer = application.post(CHAT, ASK, headers={"Content-Encoding": encoding})
    assert answer.status_code == status
    if status == 415:
        assert answer.json["error"]["code"] == "unsupported_media_type" and "Content-Encoding" in answer.json["error"]["message"]


REFUSALS = [
    (401, "POST", CHAT, {"Authorization": "Bearer wrong"}),
    (404, "POST", "/v1/nothing", AUTH),
    (405, "PUT", CHAT, AUTH),
    (415, "POST", CHAT, {**AUTH, "Content-Encoding": "gzip"}),
    (200, "GET", "/healthz", {}),
]


@pytest.mark.parametrize(("status", "method", "path", "headers"), REFUSALS, ids=[str(case[0]) for case in REFUSALS])
def test_a_connection_does_not_outlive_a_large_body_left_unread(application, status, method, path, headers):
    def answer(length):
        return send(application, io.BytesIO(), headers, length=length, method=method, path=path)

    for rest in (SMALL_REST_BYTES + 1, None):
        assert answer(rest).status_code == status and answer(rest).headers["Connection"] == "close"
    for rest in (SMALL_REST_BYTES, 0):
        assert answer(rest).status_code == status and "Connection" not in answer(rest).headers


def test_a_connection_outlives_a_large_body_that_was_read(application):
    assert "Connection" not in application.post(CHAT, {**ASK, "padding": "x" * SMALL_REST_BYTES}).headers


# --- the client ------------------------------------------------------------------------------------------------------


def exchange_with(application, headers):
    with application.app.test_request_context(CHAT, headers=headers):
        return Exchange(Request(request.environ), application.services)


@pytest.mark.parametrize(
    ("headers", "limit_s"),
    [
        ({}, math.inf),
        ({"x-stainless-timeout": "100"}, 95),
        ({"x-stainless-read-timeout": "10", "x-stainless-timeout": "100"}, 9.5),
        ({"x-stainless-read-timeout": "soon", "x-stainless-timeout": "100"}, 95),
        ({"x-stainless-timeout": "0.05"}, 0.1),
        ({"x-stainless-timeout": "0"}, math.inf),
        ({"x-stainless-timeout": "nan"}, math.inf),
        ({"x-stainless-timeout": "1e9"}, math.inf),
    ],
)
def test_the_time_limit_of_an_sdk_is_kept_with_a_moment_to_spare(application, headers, limit_s):
    current = exchange_with(application, headers)
    assert current.open_caller().gives_up_at_mono - current.started_mono == pytest.approx(limit_s)


def test_a_slow_upload_takes_of_the_sdk_s_own_time_and_not_of_the_gateway_s(application):
    current = exchange_with(application, {"x-stainless-timeout": "100"})
    current.started_mono -= 60
    caller = current.open_caller()
    assert caller.asked_mono == pytest.approx(time.monotonic(), abs=1) == pytest.approx(caller.gives_up_at_mono - 35, abs=1)


@pytest.mark.parametrize(("header", "wait_s"), [("", 0), ("20", 20), ("1000", 60)])
def test_waiting_is_bounded(application, header, wait_s):
    assert exchange_with(application, {"x-gateway-max-wait": header}).open_caller().max_wait_s == wait_s


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def handles(application, monkeypatch):
    """Return what the watch was asked to watch and to forget."""
    opened: list[Handle] = []
    closed: list[Handle] = []

    def open_handle(client):
        opened.append(Handle(client))
        return opened[-1]

    monkeypatch.setattr(application.services.watch, "open_handle", open_handle)
    monkeypatch.setattr(application.services.watch, "close_handle", closed.append)
    return opened, closed


@pytest.mark.parametrize(
    ("fields", "headers", "watched"),
    [
        ({}, {}, 1),
        ({"stream": True}, {}, 1),
        ({"model": "sandbox/error"}, {}, 1),
        ({"model": "nobody's"}, {}, 1),
        ({}, {"x-gateway-max-wait": "soon"}, 0),
    ],
)
def test_a_connection_is_watched_until_the_request_ends(application, handles, fields, headers, watched):
    application.post(CHAT, {**ASK, **fields}, headers=headers).close()
    opened, closed = handles
    assert len(opened) == watched and closed == opened and len(application.telemetry.requests) == 1


@pytest.mark.parametrize(("body", "status"), [(ASK, 200), ({**ASK, "stream": True}, 200), ({**ASK, "n": "x"}, 400)])
def test_a_request_keeps_its_place_until_its_answer_is_written(application, handles, body, status):
    """However slowly its client reads: the thread that writes is not free for another."""
    answer = application.post(CHAT, body)
    assert answer.status_code == status and (application.services.gate.taken, handles[1]) == (1, [])
    answer.close()
    assert application.services.gate.taken == 0 and handles[0] == handles[1]


def test_a_stream_whose_client_left_is_noted_as_such(application, handles):
    application.post(CHAT, {**ASK, "stream": True}).close()
    (record,) = application.telemetry.requests
    assert record.status == 499 and record.served_by == "sandbox/sandbox/echo" and handles[0] == handles[1]


def test_a_stream_that_broke_is_noted_with_why(application):
    with application.post(CHAT, {**ASK, "model": "sandbox/cut", "stream": True}) as answer:
        assert b'"error"' in answer.data
    (record,) = application.telemetry.requests
    assert record.status == 200 and record.error == "upstream_error"


def fails(*_, **__):
    raise RuntimeError


def after_the_view(application, monkeypatch):
    application.app.after_request(lambda answer: answer if answer.status_code == 500 else fails())


def in_its_headers(application, monkeypatch):
    for module in ("replies", "serving"):
        monkeypatch.setattr(f"gateway.api.{module}.route_headers", fails)


def as_it_is_noted(application, monkeypatch):
    monkeypatch.setattr(Exchange, "served", fails)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("defect", [after_the_view, in_its_headers, as_it_is_noted], ids=lambda defect: defect.__name__)
def test_a_defect_after_somebody_answered_leaves_nothing_open(application, handles, monkeypatch, defect, stream):
    defect(application, monkeypatch)
    with application.post(CHAT, {**ASK, "stream": stream}) as answer:
        assert (answer.status_code, answer.json["error"]["code"]) == (500, "internal_error")
    (record,) = application.telemetry.requests
    assert (record.status, record.error) == (500, "internal_error") and handles[0] == handles[1]
    assert application.telemetry.attempts == [("sandbox/sandbox/echo", "abandoned" if stream else "ok")]
    assert application.services.gate.taken == 0


def test_a_defect_after_the_view_is_told_by_its_place_too(application, monkeypatch):
    told: list[dict[str, Any]] = []
    monkeypatch.setattr("gateway.api.replies.log.error", lambda _, extra: told.append(extra["fields"]))
    after_the_view(application, monkeypatch)
    application.post(CHAT, ASK).close()
    (fields,) = told
    assert fields["exception"] == "RuntimeError" and "in fails" in fields["traceback"]


@pytest.mark.parametrize(("word", "status"), [("maybe", 400), ("2", 400), ("1", 200), (" TRUE ", 200), ("0", 200), ("off", 200)])
def test_a_dry_run_is_asked_for_in_words_that_are_known(application, word, status):
    answer = application.post(CHAT, ASK, {"x-gateway-dry-run": word})
    assert answer.status_code == status
    if status == 400:
        assert answer.json["error"]["param"] == "x-gateway-dry-run" and not application.telemetry.attempts


def test_a_dry_run_in_a_word_that_nobody_knows_is_no_way_around_the_key(application):
    wrong = {"Authorization": "Bearer wrong", "x-gateway-dry-run": "maybe"}
    assert application.post(CHAT, ASK, wrong).status_code == 401


@pytest.mark.parametrize(
    ("model", "stream", "told"),
    [
        ("sandbox/error", False, (502, "upstream_error")),
        ("sandbox/rate-limited", False, (429, "quota_exhausted")),
        ("sandbox/cut", False, (502, "upstream_error")),
        ("sandbox/cut", True, (200, "upstream_error")),
    ],
)
def test_a_model_that_misbehaves_on_purpose_does_so_again(application, model, stream, told):
    for _ in range(4):
        with application.post(CHAT, {**ASK, "model": model, "stream": stream}) as answer:
            assert (answer.status_code, told[1] in answer.text) == (told[0], True)


def test_a_stream_whose_end_fails_gives_its_place_back(application, monkeypatch):
    def stumble(record):
        raise RuntimeError("no thread to be had")

    answer = application.post(CHAT, {**ASK, "stream": True})
    monkeypatch.setattr(application.telemetry, "request_ended", stumble)
    with pytest.raises(RuntimeError):
        answer.close()
    assert application.services.gate.taken == 0


def test_a_stream_that_has_ended_holds_nothing(application):
    made = []

    def note(response):
        made.append(weakref.ref(exchange()))
        return response

    application.app.after_request(note)
    gc.disable()
    try:
        application.post(CHAT, {**ASK, "stream": True}).close()
        assert made[0]() is None
    finally:
        gc.enable()
