import logging
from typing import Any

import pytest

from gateway.api.replies import SMALL_ANSWER_BYTES, attempt_headers, route_headers
from gateway.domain import Attempt
from gateway.errors import CandidatesExhausted, Draining, GatewayBusy, UpstreamFailed, UpstreamTimeout
from gateway.routing.route import Route
from tests.conftest import AUTH

CHAT = "/v1/chat/completions"
ASK = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hello"}]}
ODD = '[[models]]\nprovider = "groq"\nid = "odd(1)\\u0022;x"\n'


@pytest.fixture
def fails(application, monkeypatch):
    """Return a function that lets the next chats end in an error, and asks."""

    def ask(error, headers=None):
        def complete(request, caller):
            raise error

        monkeypatch.setattr(application.services.dispatcher, "complete", complete)
        return application.post(CHAT, ASK, headers)

    return ask


# --- headers ---------------------------------------------------------------------------------------------------------


def test_a_name_reaches_a_header_only_in_harmless_characters(build_application):
    answer = build_application(catalog=ODD).post(CHAT, {**ASK, "model": 'groq/odd(1)";x'})
    assert answer.headers["x-gateway-model"] == "odd_1___x"
    assert answer.headers["x-gateway-trail"] == "sandbox/odd_1___x:ok"


def test_a_header_holds_at_most_twenty_names(application):
    inventory = application.services.roster.inventory
    candidate = inventory.candidates(inventory.listed[0])[0]
    attempts = [Attempt("p", f"m{n}", "500") for n in range(25)]
    route = Route(
        candidate=candidate,
        attempts=attempts,
        dropped=tuple(f"p{n}" for n in range(25)),
        reasoning_effort="auto",
        request_id="r",
    )
    headers = route_headers(route)
    assert headers["x-gateway-params-dropped"] == ", ".join(f"p{n}" for n in range(20))
    assert headers["x-gateway-attempts"] == "25"
    assert attempt_headers(attempts)["x-gateway-trail"].split() == [f"p/m{n}:500" for n in range(20)]


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/v1/nothing", CHAT])
def test_every_answer_has_an_id_that_is_logged(application, path):
    answer = application.get(path)
    ids = {answer.headers["x-request-id"], answer.headers["x-gateway-request-id"], application.telemetry.requests[0].id}
    assert len(ids) == 1 and answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (GatewayBusy("x", retry_after_s=1), {"Retry-After": "1", "x-should-retry": "true", "Connection": "close"}),
        (Draining("x", retry_after_s=0.2), {"Retry-After": "1", "x-should-retry": "true", "Connection": "close"}),
        (CandidatesExhausted("x", quota_only=True, retry_after_s=6.1), {"Retry-After": "7"}),
        (UpstreamTimeout("x", phase="idle"), {"x-should-retry": "false"}),
        (UpstreamFailed("x", retry_after_s=9), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_tells_whether_and_when_to_come_again(fails, error, headers):
    answer = fails(error)
    told = {name: answer.headers.get(name) for name in ("Retry-After", "x-should-retry", "Connection")}
    assert {name: value for name, value in told.items() if value} == headers


def test_an_error_after_attempts_names_them(fails):
    error = UpstreamFailed("x")
    error.attempts = (Attempt("a", "m", "500", 500), Attempt("b", "n", "reset"), Attempt("c", "o", "cooldown"))
    error.tried = 2
    answer = fails(error)
    names = ("x-gateway-provider", "x-gateway-model", "x-gateway-attempts", "x-gateway-trail")
    assert [answer.headers[name] for name in names] == ["b", "n", "2", "a/m:500 b/n:reset"]
    assert len(answer.json["error"]["attempts"]) == 3


# --- paths and methods -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "shown"),
    [
        ("GET", "/chat/nothing/", 404, "/chat/nothing/"),
        ("GET", "/v1/v1/caf%C3%A9", 404, "/v1/v1/caf\u00e9"),
        ("PUT", "/models//", 405, "/models//"),
    ],
)
def test_messages_and_the_log_show_the_path_that_was_sent(application, method, path, status, shown):
    answer = application.client.open(path, method=method, base_url="http://localhost", headers=AUTH)
    assert answer.status_code == status and f" {shown} " in answer.json["error"]["message"].replace(";", " ")
    assert application.telemetry.requests[-1].path == shown


def test_a_long_path_is_shown_in_part(application):
    answer = application.get("/" + "x" * 5000)
    assert len(answer.json["error"]["message"]) < 300 and len(application.telemetry.requests[-1].path) == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("PUT", "/v1/models", "GET"), ("GET", CHAT, "POST"), ("POST", "/readyz", "GET")]
)
def test_a_wrong_method_is_told_the_right_one(application, method, path, allowed):
    answer = application.client.open(path, method=method, headers=AUTH)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert answer.json["error"]["code"] == "method_not_allowed" and f"use {allowed}" in answer.json["error"]["message"]


# --- browsers --------------------------------------------------------------------------------------------------------

PREFLIGHT = {
    "Origin": "https://app.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, x-stainless-lang",
}


@pytest.mark.parametrize("path", [CHAT, "/v1/models/a/b", "/v1/nothing"])
def test_a_preflight_is_answered_before_anything_else(application, path):
    answer = application.client.options(path, headers=PREFLIGHT)
    assert answer.status_code == 200 and answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization, x-stainless-lang"


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/nothing"])
def test_pages_may_read_the_gateways_headers(application, path):
    answer = application.client.get(path, headers={"Origin": "https://app.example"})
    exposed = answer.headers["Access-Control-Expose-Headers"].lower().split(", ")
    assert {"retry-after", "x-request-id", "x-should-retry", "x-ratelimit-reset", "x-gateway-trail"} <= set(exposed)
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    ("env", "allowed"),
    [
        ({"CORS_ORIGINS": "https://app.example"}, "https://app.example"),
        ({"CORS_ORIGINS": "https://other.example"}, None),
        ({"GATEWAY_ALLOW_ANONYMOUS": "true"}, None),
    ],
)
def test_only_pages_of_the_origins_that_were_set_get_in(build_application, env, allowed):
    answer = build_application(env).client.get("/v1/models", headers={"Origin": "https://app.example"})
    assert answer.headers.get("Access-Control-Allow-Origin") == allowed


# --- defects ---------------------------------------------------------------------------------------------------------


def test_a_defect_is_logged_by_its_place_and_repeats_no_value(fails):
    lines: list[dict[str, Any]] = []

    class Handler(logging.Handler):
        def emit(self, record):
            lines.append(vars(record)["fields"])

    handler = Handler()
    logging.getLogger("gateway").addHandler(handler)
    try:
        answer = fails(ValueError("hunter2"))
    finally:
        logging.getLogger("gateway").removeHandler(handler)
    assert (answer.status_code, answer.json["error"]["code"]) == (500, "internal_error")
    (fields,) = [fields for fields in lines if "traceback" in fields]
    assert fields["id"] == answer.headers["x-request-id"] and fields["exception"] == "ValueError"
    assert "in complete" in fields["traceback"] and "hunter2" not in str(lines) + answer.text


# --- large answers ---------------------------------------------------------------------------------------------------

BUNDLE = "/docs/swagger/swagger-ui-bundle.js"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", [BUNDLE, "/openapi.json"])
def test_a_large_answer_has_a_place_while_it_is_written(application, method, path):
    with application.client.open(path, method=method) as answer:
        assert answer.status_code == 200 and application.services.gate.taken == 1
    assert application.services.gate.taken == 0


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/metrics", 200), ("/v1/nothing", 404), ("/docs", 200)])
def test_a_small_one_needs_none(application, path, status):
    assert application.client.get(path).status_code == status and application.services.gate.taken == 0


def test_figures_need_none_however_many_there_are(application, monkeypatch):
    monkeypatch.setattr("gateway.api.replies.SMALL_ANSWER_BYTES", 1)
    assert application.client.get("/metrics").status_code == 200 and application.services.gate.taken == 0


def test_a_large_answer_has_one_place_with_its_request(application):
    with application.post("/v1/embeddings", {"model": "sandbox/embed", "input": ["x"] * 100}) as answer:
        assert len(answer.data) > SMALL_ANSWER_BYTES and application.services.gate.taken == 1
    assert application.services.gate.taken == 0


def test_clients_that_read_large_answers_slowly_leave_threads_for_small_ones(build_application):
    application = build_application({"GATEWAY_THREADS": "2"})
    slow = [application.client.get(BUNDLE) for _ in range(2)]
    with application.client.get(BUNDLE) as refused:
        assert (refused.status_code, refused.json["error"]["code"]) == (503, "gateway_busy")
        assert refused.headers["Retry-After"] == "1" and application.telemetry.requests[-1].status == 503
    assert application.client.get("/healthz").status_code == 200
    slow.pop().close()
    with application.client.get(BUNDLE) as answer:
        assert answer.status_code == 200 and len(answer.data) > SMALL_ANSWER_BYTES
    slow.pop().close()


# --- Anthropic's envelope --------------------------------------------------------------------------------------------

ANTHROPIC = {"anthropic-version": "2023-06-01"}
TYPED = [
    (Draining("x"), 503, "overloaded_error"),
    (CandidatesExhausted("x", quota_only=True), 429, "rate_limit_error"),
    (UpstreamFailed("x"), 502, "api_error"),
    (UpstreamTimeout("x", phase="total"), 504, "timeout_error"),
    (KeyError("x"), 500, "api_error"),
]


@pytest.mark.parametrize(("error", "status", "kind"), TYPED, ids=[case[2] + str(case[1]) for case in TYPED])
def test_an_error_has_anthropics_form_where_its_header_is_sent(fails, error, status, kind):
    answer = fails(error, ANTHROPIC)
    id_ = answer.headers["request-id"]
    assert answer.status_code == status and list(answer.json) == ["type", "error", "request_id"]
    assert answer.json["type"] == "error" and answer.json["error"]["type"] == kind and answer.json["error"]["message"]
    assert answer.json["request_id"] == id_ == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "kind"),
    [
        ("POST", CHAT, ANTHROPIC, 401, "authentication_error"),
        ("POST", CHAT, {**AUTH, **ANTHROPIC}, 400, "invalid_request_error"),
        ("PUT", CHAT, ANTHROPIC, 405, "invalid_request_error"),
        ("POST", CHAT, {**AUTH, **ANTHROPIC, "Content-Encoding": "gzip"}, 415, "invalid_request_error"),
        ("GET", "/v1/models/none", {**AUTH, **ANTHROPIC}, 404, "not_found_error"),
        ("POST", "/messages/count_tokens/x", {}, 404, "not_found_error"),
    ],
)
def test_each_status_has_anthropics_type(application, method, path, headers, status, kind):
    answer = application.client.open(path, method=method, headers=headers)
    assert (answer.status_code, answer.json["error"]["type"]) == (status, kind)


def test_others_get_no_header_of_anthropics(application):
    assert "request-id" not in application.get("/v1/models").headers
    assert application.get("/v1/models", {**AUTH, **ANTHROPIC}).headers["request-id"].startswith("req_")


@pytest.mark.parametrize("stream", [False, True])
def test_no_head_ends_in_a_zero(application, stream):
    """Load tools that look for "0" and a blank line take such a head for the end of a chunked body."""
    body = {"messages": [{"role": "user", "content": "hello"}], "stream": stream}
    with application.post("/v1/chat/completions", body) as answer:
        assert answer.status_code == 200 and list(answer.headers)[-1] == ("X-Content-Type-Options", "nosniff")
