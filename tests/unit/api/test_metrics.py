import pytest

from gateway.domain import QuotaReading
from gateway.errors import StateError, UpstreamRateLimited
from gateway.routing.ledger import Asked
from gateway.state.memory import MemoryStore
from tests.unit.test_metrics import samples_of

CHAT = "/v1/chat/completions"
ASK = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hello"}]}
CATALOG = """
[[providers]]
key = "a"
base_url = "http://127.0.0.1:9"
[[models]]
provider = "a"
id = "one"
limits = { rpm = 2 }
"""


def scrape(application, headers=None):
    answer = application.get("/metrics", headers=headers or {})
    assert answer.status_code == 200 and answer.content_type.startswith("text/plain; version=0.0.4")
    return samples_of(answer.text)


def test_every_request_is_counted_by_what_it_was_for(application):
    application.post(CHAT, ASK)
    with application.post(CHAT, {**ASK, "stream": True}) as stream:
        assert stream.data
    application.post("/v1/embeddings", {"model": "sandbox/embed", "input": "x"})
    application.get("/v1/models", headers={})
    application.client.options(CHAT)
    application.client.put(CHAT)
    application.get("/made/up")
    found = {name[1:]: value for name, value in scrape(application).items() if name[0] == "requests_total"}
    assert found == {
        ("", "200", "chat"): 2,
        ("", "200", "embeddings"): 1,
        ("invalid_api_key", "401", "models"): 1,
        ("", "200", "preflight"): 1,
        ("method_not_allowed", "405", "unknown"): 1,
        ("unknown_path", "404", "unknown"): 1,
    }
    assert ("requests_total", "", "200", "metrics") in scrape(application)


def test_what_clients_make_up_names_nothing(application):
    made_up = {"model": "made-up", "project_id": "made-up", "messages": [{"role": "user", "content": "made-up"}]}
    assert application.post(CHAT, made_up).status_code == 404
    application.post("/v1/made-up", made_up)
    application.post(CHAT, {**made_up, "model": "auto"}, {"x-api-key": "made-up"})
    assert "made-up" not in application.get("/metrics").text


def test_what_is_under_way_is_over_in_the_end(application):
    answers = [application.post(CHAT, {**ASK, "stream": True}) for _ in range(3)]
    found = scrape(application)
    assert (found["streams_open",], found["threads_busy",]) == (3, 3)
    for answer in answers:
        answer.close()
    application.post(CHAT, {**ASK, "messages": []})
    found = scrape(application)
    assert (found["streams_open",], found["threads_busy",]) == (0, 0)


def test_quotas_and_rests_are_read_when_they_are_asked_for(build_application):
    application = build_application(catalog=CATALOG)
    services = application.services
    (candidate,) = services.roster.inventory.candidates(services.roster.inventory.listed[0])
    booking = services.dispatcher.ledger.begin(candidate, Asked(10))
    found = scrape(application)
    assert found["quota_limit", "1", "one", "a", "rpm"] == 2 and found["quota_remaining", "1", "one", "a", "rpm"] == 1
    error = UpstreamRateLimited("x", upstream_status=429, retry_after_s=100)
    error.quota = [QuotaReading("rpm", limit=1, remaining=0)]
    services.dispatcher.ledger.failed(booking, error)
    found = scrape(application)
    assert found["quota_limit", "1", "one", "a", "rpm"] == 1 and found["quota_remaining", "1", "one", "a", "rpm"] == 0
    assert 90 < found["cooldown_seconds", "1", "one", "a"] <= 100
    assert found["attempts_total", "one", "rate_limited", "a"] == found["cooldowns_total", "one", "a"] == 1


def test_while_the_state_store_is_down_that_is_counted_and_the_rest_goes_on(build_application):
    class Down(MemoryStore):
        def snapshot(self):
            raise StateError("down")

    application = build_application(store=Down(), catalog=CATALOG, env={"GATEWAY_SANDBOX": "on"})
    assert application.post(CHAT, ASK).status_code == 200
    found = scrape(application)
    assert found["state_errors_total", "snapshot"] >= 1
    assert not any(name.startswith("quota_") for name, *_ in found)  # what is left is not known


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer secret\u00fc", 200),
        ("bearer  secret\u00fc", 200),
        ("Bearer other", 401),
        ("secret\u00fc", 401),
        ("Bearer sk-test", 401),
    ],
)
def test_a_token_keeps_the_figures_to_those_who_have_it(build_application, header, status):
    application = build_application({"METRICS_TOKEN": "secret\u00fc"})
    headers = {"Authorization": header.encode().decode("latin-1")} if header else {}
    answer = application.get("/metrics", headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.json["error"]["code"] == "invalid_api_key" and "METRICS_TOKEN" in answer.json["error"]["message"]
