import re

import pytest

from gateway.domain import AUTO_NAMES, Usage
from gateway.errors import UpstreamFailed, UpstreamRateLimited
from gateway.routing.ledger import Asked

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
CHAT = {"messages": [{"role": "user", "content": "hello"}]}
CATALOG = """
[[providers]]
key = "a"
base_url = "http://127.0.0.1:9"
account_limits = { rpd = 50 }
[[providers]]
key = "b"
base_url = "http://127.0.0.1:9"
[[models]]
provider = "a"
id = "one"
limits = { rpm = 2, rpd = 1000 }
capabilities = ["streaming", "tools"]
[[models]]
provider = "a"
id = "same"
[[models]]
provider = "b"
id = "same"
context_window = 100
[[models]]
provider = "a"
id = "vectors"
kind = "embedding"
"""


@pytest.fixture
def pool(build_application):
    return build_application(catalog=CATALOG)


def candidate_of(pool, name):
    inventory = pool.services.roster.inventory
    return inventory.candidates(inventory.catalog.resolve(name).models[0])[0]


def call(pool, name, error=None):
    ledger = pool.services.dispatcher.ledger
    booking = ledger.begin(candidate_of(pool, name), Asked(10))
    if error:
        ledger.failed(booking, error)
        ledger.moment(fresh=True)  # as requests a quarter of a second later see it


def test_every_candidate_has_a_rank_and_each_term_of_its_score(pool):
    body = pool.get("/v1/routing/status").json
    assert body["object"] == "routing_status" and body["model"] == "auto" and body["unknown_upstream_models"] == {}
    assert sorted(entry["rank"] for entry in body["candidates"]) == [1, 2, 3]
    for entry in body["candidates"]:
        assert set(entry["terms"]) == {"success", "speed", "headroom", "load", "fit", "quality"}
        assert 0 < entry["score"] <= 1 and entry["out_because"] is None and entry["until"] is None
    scores = [entry["score"] for entry in body["candidates"]]
    assert scores == sorted(scores, reverse=True)


def test_who_is_out_says_why_and_until_when(pool):
    for _ in range(2):
        call(pool, "one")
    call(pool, "b/same", UpstreamFailed("x", upstream_status=500))
    entries = {(entry["provider"], entry["model"]): entry for entry in pool.get("/v1/routing/status").json["candidates"]}
    full, resting = entries["a", "one"], entries["b", "same"]
    assert (full["rank"], full["out_because"]) == (None, "quota") and ISO.fullmatch(full["until"])
    assert (resting["rank"], resting["out_because"]) == (None, "cooldown") and ISO.fullmatch(resting["until"])
    assert entries["a", "same"]["rank"] == 1


@pytest.mark.parametrize(("model", "names"), [("same", ["a/same", "b/same"]), ("b/same", ["b/same"]), ("vectors", ["a/vectors"])])
def test_the_status_of_a_named_model(pool, model, names):
    body = pool.get(f"/v1/routing/status?model={model}").json
    assert sorted(f"{entry['provider']}/{entry['model']}" for entry in body["candidates"]) == names


def test_the_status_of_an_unknown_model_is_not_found(pool):
    answer = pool.get("/v1/routing/status?model=nope")
    assert answer.status_code == 404 and answer.json["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("path", ["/v1/routing/status", "/v1/quota", "/v1/stats/providers"])
def test_what_the_gateway_knows_needs_a_key(pool, path):
    assert pool.get(path, headers={}).status_code == 401 and pool.get(path).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_dry_run_asks_nobody_and_counts_nothing(pool, stream):
    before = pool.get("/v1/quota").json
    tools = [{"type": "function", "function": {"name": "f"}}]
    answer = pool.post("/v1/chat/completions", {**CHAT, "tools": tools, "stream": stream}, {"x-gateway-dry-run": "1"})
    entries = {(entry["provider"], entry["model"]): entry["out_because"] for entry in answer.json["candidates"]}
    assert answer.status_code == 200 and answer.json["object"] == "routing_status"
    assert entries == {("a", "one"): None, ("a", "same"): "tools", ("b", "same"): "tools"}
    assert pool.telemetry.attempts == [] and pool.get("/v1/quota").json == before


def test_a_dry_run_of_embeddings(pool):
    answer = pool.post("/v1/embeddings", {"model": "vectors", "input": "x"}, {"x-gateway-dry-run": "1"})
    assert [entry["model"] for entry in answer.json["candidates"]] == ["vectors"]


def test_quotas_tell_what_is_used_and_an_accounts_once(pool):
    call(pool, "one")
    body = pool.get("/v1/quota").json
    entries = {(entry["model"], entry["window"]): entry for entry in body["data"]}
    assert body["object"] == "quota" and set(entries) == {("one", "rpm"), ("one", "rpd"), (None, "rpd")}
    minute = entries["one", "rpm"]
    assert (minute["limit"], minute["used"], minute["remaining"], minute["source"]) == (2, 1, 1, "catalog")
    assert ISO.fullmatch(minute["resets_at"]) and minute["credential"] == 1 and minute["provider"] == "a"
    assert entries[None, "rpd"]["used"] == 1


def test_neurons_are_told_whole_though_parts_of_them_count(build_application):
    priced = """
[[providers]]
key = "a"
base_url = "http://127.0.0.1:9"
account_limits = { neurons = 10000 }
[[models]]
provider = "a"
id = "one"
neurons_per_mtok = [5000, 30000]
"""
    pool = build_application(catalog=priced)
    ledger = pool.services.dispatcher.ledger
    for used in (1, 1):  # 0.05 neurons each
        ledger.ended(ledger.begin(candidate_of(pool, "one"), Asked(10)), Usage(10), ttft_s=None)
        (entry,) = pool.get("/v1/quota").json["data"]
        told = entry["window"], entry["limit"], entry["used"], entry["remaining"]
        assert told == ("neurons", 10000, used, 10000 - used)


def test_a_quota_that_is_used_up_fast_says_when_it_is_exhausted(pool):
    for _ in range(2):
        call(pool, "one")
    entries = {(entry["model"], entry["window"]): entry for entry in pool.get("/v1/quota").json["data"]}
    assert ISO.fullmatch(entries["one", "rpm"]["exhausted_at"]) and entries["one", "rpm"]["remaining"] == 0


def test_health_names_every_model_and_those_of_two_homes_in_full(pool):
    call(pool, "one", UpstreamFailed("x", upstream_status=500))
    body = pool.get("/health", headers={}).json
    assert body["status"] == "degraded" and set(body["models"]) == {"one", "a/same", "b/same", "vectors"}
    assert set(body["models"]["one"]) == {
        *("provider", "healthy", "success_rate", "avg_latency_ms", "ttft_ms", "in_cooldown", "cooldown_until"),
        *("daily_requests", "daily_limit"),
    }
    sick, well = body["models"]["one"], body["models"]["a/same"]
    assert not sick["healthy"] and sick["in_cooldown"] and ISO.fullmatch(sick["cooldown_until"])
    assert (sick["daily_requests"], sick["daily_limit"], sick["success_rate"]) == (1, 1000, 0.0)
    assert well["healthy"] and (well["daily_limit"], well["success_rate"]) == (None, None)


def test_health_is_ok_while_all_is_well(pool):
    assert pool.get("/health", headers={}).json["status"] == "ok"


def test_models_can_include_their_health(pool):
    listed = pool.get("/v1/models?include=health").json["data"]
    assert all(entry["health"]["healthy"] for entry in listed)
    assert pool.get("/v1/models/one?include=health").json["health"]["daily_limit"] == 1000
    assert "health" not in pool.get("/v1/models/one").json


def test_figures_by_provider_sum_up_attempts(pool):
    call(pool, "one", UpstreamRateLimited("x", upstream_status=429, retry_after_s=1))
    call(pool, "a/same", UpstreamFailed("x", upstream_status=500))
    stats = {entry["provider"]: entry for entry in pool.get("/v1/stats/providers").json["stats"]}
    assert set(stats) == {"a", "b"}
    assert {key: stats["a"][key] for key in ("total_models", "active_models", "total_attempts", "success_rate")} == {
        "total_models": 3,
        "active_models": 1,
        "total_attempts": 2,
        "success_rate": 0.0,
    }
    assert (stats["a"]["throttle_count"], stats["a"]["throttle_rate"], stats["a"]["cooldown_events"]) == (1, 0.5, 2)
    assert stats["a"]["models_in_cooldown"] == 2 and stats["a"]["failure_breakdown"] == {"rate_limited": 1, "failed": 1}
    assert stats["b"]["success_rate"] is None and stats["b"]["avg_latency_ms"] is None


def test_a_served_request_shows_in_the_figures(application):
    assert application.post("/v1/chat/completions", CHAT).status_code == 200
    (stats,) = application.get("/v1/stats/providers").json["stats"]
    assert (stats["provider"], stats["total_attempts"], stats["success_rate"]) == ("sandbox", 1, 1.0)


@pytest.mark.parametrize("value", ["soon", "-1", "nan"])
def test_a_wait_that_is_no_number_of_seconds_is_refused(application, value):
    answer = application.post("/v1/chat/completions", CHAT, {"x-gateway-max-wait": value})
    assert answer.status_code == 400 and answer.json["error"]["param"] == "x-gateway-max-wait"


@pytest.mark.parametrize("name", AUTO_NAMES)
def test_every_auto_name_is_served(application, name):
    assert application.post("/v1/chat/completions", {**CHAT, "model": name}).status_code == 200
