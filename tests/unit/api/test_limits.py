"""Whom the limits count, and what answers tell of them."""

import time

import pytest

from gateway.api.proxies import behind_proxies
from gateway.errors import StateError
from gateway.state.memory import MemoryStore
from tests.conftest import AUTH, KEY

CHAT = "/v1/chat/completions"
ASK = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hello"}]}
NAMES = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


def told(answer):
    """Return limit and remaining of an answer, None where it is under no limit; when there is more is in the near future."""
    if not any(name in answer.headers for name in NAMES):
        return None
    limit, remaining, reset = (int(answer.headers[name]) for name in NAMES)
    assert time.time() < reset <= time.time() + 61
    return limit, remaining


def from_address(application, address, path="/health", headers=None, method="GET"):
    overrides = {"REMOTE_ADDR": address}
    return application.client.open(path, method=method, headers=headers or {}, environ_overrides=overrides)


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(build_application):
    return build_application({"CLIENT_RATE_LIMIT": "3/minute", "GATEWAY_API_KEY": f"ann:{KEY},bob:sk-bob"})


def test_without_a_limit_nothing_is_asked_or_told(build_application):
    class Counting(MemoryStore):
        def count(self, charge):
            raise AssertionError

    application = build_application(store=Counting())
    assert application.services.key_limit is None
    assert told(application.get("/v1/models")) is None and told(application.post(CHAT, ASK)) is None


def test_every_answer_to_a_key_is_counted_until_it_is_refused(limited):
    answers = [limited.get("/v1/models"), limited.post(CHAT, {**ASK, "stream": True}), limited.post(CHAT, {"messages": 1})]
    assert [(answer.status_code, told(answer)) for answer in answers] == [(200, (3, 2)), (200, (3, 1)), (400, (3, 0))]
    refused = limited.post(CHAT, ASK)
    assert (refused.status_code, told(refused)) == (429, (3, 0))
    error = refused.json["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "3 requests a minute" in error["message"] and 1 <= int(refused.headers["Retry-After"]) <= 60
    assert KEY not in refused.text
    record = limited.telemetry.requests[-1]
    assert (record.status, record.error, record.key) == (429, "rate_limit_exceeded", "ann")


def test_other_keys_are_not_touched(limited):
    assert [limited.get("/v1/models").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert told(limited.get("/v1/models", {"x-api-key": "sk-bob"})) == (3, 2)


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings"])
def test_a_dry_run_counts_nothing(limited, path):
    body = ASK if path == CHAT else {"model": "sandbox/embed", "input": "x"}
    answers = [limited.post(path, body, {"x-gateway-dry-run": "1"}) for _ in range(5)]
    assert [(answer.status_code, told(answer)) for answer in answers] == [(200, None)] * 5
    assert told(limited.post(path, body)) == (3, 2)


def test_what_cannot_be_run_dry_is_counted(limited):
    answers = [limited.get("/v1/models", {**AUTH, "x-gateway-dry-run": "1"}).status_code for _ in range(4)]
    assert answers == [200, 200, 200, 429]


def test_a_refused_request_asks_no_provider_and_takes_no_place(limited):
    for _ in range(4):
        answer = limited.post(CHAT, ASK)
        answer.close()
    assert answer.status_code == 429 and "x-gateway-attempts" not in answer.headers
    assert limited.services.gate.taken == 0


def test_a_long_wait_is_not_slept_through(build_application):
    application = build_application({"CLIENT_RATE_LIMIT": "1/day"})
    application.get("/v1/models")
    refused = application.get("/v1/models")
    assert refused.headers["x-should-retry"] == "false" and int(refused.headers["Retry-After"]) > 86000
    assert refused.json["error"]["retry_at"].endswith("Z")


def test_while_the_store_is_down_everybody_passes_and_it_is_counted(build_application):
    class Down(MemoryStore):
        def count(self, charge):
            raise StateError("down")

    application = build_application({"CLIENT_RATE_LIMIT": "1/minute"}, store=Down())
    answers = [application.post(CHAT, ASK) for _ in range(3)]
    assert [(answer.status_code, told(answer)) for answer in answers] == [(200, None)] * 3
    assert application.telemetry.failed_verbs.count("count") == 3


def test_clients_without_a_key_share_one_limit_where_they_are_let_in(build_application):
    application = build_application({"CLIENT_RATE_LIMIT": "2/minute", "GATEWAY_ALLOW_ANONYMOUS": "1", "GATEWAY_API_KEY": ""})
    assert [application.get("/v1/models", {}).status_code for _ in range(3)] == [200, 200, 429]


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.fixture
def public(build_application):
    return build_application({"PUBLIC_RATE_LIMIT": "3/minute"})


@pytest.mark.parametrize("path", ["/health", "/", "/nowhere", "/v1/nowhere"])
def test_paths_without_a_key_are_limited_by_address(public, path):
    answers = [from_address(public, "192.0.2.1", path) for _ in range(4)]
    assert [told(answer) for answer in answers] == [(3, 2), (3, 1), (3, 0), (3, 0)]
    assert {answer.status_code for answer in answers[:3]} <= {200, 404} and answers[3].status_code == 429
    assert answers[3].json["error"]["code"] == "rate_limit_exceeded" and answers[3].headers["Retry-After"]
    assert from_address(public, "192.0.2.2", path).status_code != 429


def test_a_wrong_key_counts_with_them(public):
    wrong = {"Authorization": "Bearer wrong"}
    from_address(public, "192.0.2.1")
    statuses = [from_address(public, "192.0.2.1", "/v1/models", wrong).status_code for _ in range(3)]
    assert statuses == [401, 401, 429]
    assert told(from_address(public, "192.0.2.2", "/v1/models", {})) == (3, 2)


@pytest.mark.parametrize("path", ["/v1/models", "/health"])
def test_a_valid_key_is_never_refused_for_the_failures_of_others_at_its_address(public, path):
    for _ in range(9):
        from_address(public, "192.0.2.1", "/v1/models", {"x-api-key": "wrong"})
    assert from_address(public, "192.0.2.1", "/health").status_code == 429
    assert {from_address(public, "192.0.2.1", path, AUTH).status_code for _ in range(9)} == {200}


def test_a_valid_key_is_under_its_own_limit_on_public_paths_too(limited):
    assert [told(limited.get("/health")) for _ in range(3)] == [(3, 2), (3, 1), (3, 0)]
    assert limited.get("/health").status_code == 429


@pytest.mark.parametrize(
    ("path", "method"), [("/healthz", "GET"), ("/readyz", "GET"), ("/health", "OPTIONS"), (CHAT, "OPTIONS"), ("/no", "OPTIONS")]
)
def test_probes_and_preflights_are_not_limited(public, path, method):
    for _ in range(5):
        answer = from_address(public, "192.0.2.1", path, method=method)
        assert answer.status_code == 200 and told(answer) is None


def test_static_files_are_not_limited(public, tmp_path):
    (tmp_path / "page.css").write_text("")
    public.app.static_folder = str(tmp_path)
    public.app.add_url_rule("/static/<path:filename>", endpoint="pages.static", view_func=public.app.send_static_file)
    for _ in range(5):
        with from_address(public, "192.0.2.1", "/static/page.css") as answer:
            assert answer.status_code == 200 and told(answer) is None


def test_the_limit_can_be_turned_off(build_application):
    application = build_application({"PUBLIC_RATE_LIMIT": "off"})
    assert {from_address(application, "192.0.2.1").status_code for _ in range(200)} == {200}


def test_browsers_may_read_what_is_told(limited):
    exposed = limited.get("/v1/models", {**AUTH, "Origin": "https://page"}).headers["Access-Control-Expose-Headers"].lower()
    assert {name.lower() for name in NAMES} <= {name.strip() for name in exposed.split(",")}


# --- proxies ---------------------------------------------------------------------------------------------------------


def statuses(application, chains):
    """Ask once for each chain of X-Forwarded-For, all through one proxy."""
    return [from_address(application, "10.0.0.1", headers={"X-Forwarded-For": chain}).status_code for chain in chains]


@pytest.mark.parametrize(
    ("hops", "chains", "expected"),
    [
        ("0", ["192.0.2.1", "192.0.2.2"], [200, 429]),
        ("1", ["192.0.2.1", "192.0.2.2", "forged, 192.0.2.1"], [200, 200, 429]),
        ("2", ["192.0.2.1, 10.0.0.2", "192.0.2.2, 10.0.0.2", "forged, 192.0.2.1, 10.0.0.2"], [200, 200, 429]),
        ("2", ["192.0.2.1", "192.0.2.2"], [200, 429]),  # it did not come through both: the proxy's own address holds
    ],
)
def test_an_address_is_what_the_trusted_proxies_say(build_application, hops, chains, expected):
    application = build_application({"PUBLIC_RATE_LIMIT": "1/minute", "TRUSTED_PROXY_HOPS": hops})
    assert statuses(application, chains) == expected


@pytest.mark.parametrize(("hops", "scheme"), [(0, "http"), (1, "https")])
def test_so_is_the_scheme(hops, scheme):
    seen = []

    def app(environ, start_response):
        seen.append(environ["wsgi.url_scheme"])
        return []

    behind_proxies(app, hops)({"wsgi.url_scheme": "http", "HTTP_X_FORWARDED_PROTO": "https"}, lambda *_: None)
    assert seen == [scheme]


@pytest.mark.parametrize(("hops", "warnings"), [("0", 1), ("1", 0)])
def test_a_proxy_that_nobody_trusts_is_warned_about_once(build_application, caplog, monkeypatch, hops, warnings):
    application = build_application({"TRUSTED_PROXY_HOPS": hops})
    monkeypatch.setattr("gateway.api.proxies.log.propagate", True)
    from_address(application, "10.0.0.1")
    assert "TRUSTED_PROXY_HOPS" not in caplog.text
    statuses(application, ["192.0.2.1"] * 3)
    assert caplog.text.count("TRUSTED_PROXY_HOPS") == warnings and "192.0.2.1" not in caplog.text
