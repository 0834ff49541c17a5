from dataclasses import replace

import pytest
from flask import Blueprint, request

from gateway.api.schemas import load_chat
from gateway.api.serving import read_request, serve_chat
from gateway.upstream.relay import ChatForm

ASK = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hello"}]}


class Shouting(ChatForm):
    """A surface of the tests' own, and the form of its streams."""

    def whole(self, completion):
        return {"shouted": completion["choices"][0]["message"]["content"].upper()}

    def form(self):
        return self

    def chunks(self, chunks):
        return b"".join(str(chunk["choices"][0]["delta"].get("content") or "").upper().encode() for chunk in chunks)

    def end(self):
        return b"!"


@pytest.fixture
def shout(application):
    """Return a function that asks the surface; its view leaves the field `shy` out."""
    bp = Blueprint("shouting", __name__)

    @bp.post("/shouts")
    def create_shout():
        body = read_request()
        dropped = ("shy",) if body.pop("shy", None) else ()
        return serve_chat(replace(load_chat(body, request.headers), dropped=dropped), Shouting())

    application.app.register_blueprint(bp)
    return lambda body, headers=None: application.post("/shouts", {**ASK, **body}, headers)


def test_a_surface_writes_whole_answers_and_streams_in_its_own_form(shout):
    whole, stream = shout({}), shout({"stream": True})
    assert whole.json["shouted"] and whole.json["shouted"].isupper()
    assert stream.text == whole.json["shouted"] + "!"
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert whole.headers["x-gateway-provider"] == stream.headers["x-gateway-provider"] == "sandbox"


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_surface_leaves_out_is_disclosed(shout, stream):
    answers = [shout({"stream": stream, **more}) for more in ({}, {"shy": 1})]
    assert [answer.headers.get("x-gateway-params-dropped") for answer in answers] == [None, "shy"]


def test_a_dry_run_is_the_same_on_every_surface(shout):
    assert shout({}, {"x-gateway-dry-run": "1"}).json["object"] == "routing_status"


def test_the_request_is_noted_as_it_was_asked(shout, application):
    shout({"project_id": "p"})
    record = application.telemetry.requests[-1]
    assert (record.model, record.project_id, record.served_by) == ("sandbox/echo", "p", "sandbox/sandbox/echo")
