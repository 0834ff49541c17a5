import pytest

from gateway.analytics.series import DAYS, JOURNAL_LENGTH, MINUTES
from gateway.errors import StateError
from gateway.state.memory import MemoryStore
from tests.conftest import AUTH
from tests.unit.routing.conftest import Clock

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
ASK = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hello"}]}
NOON = 1_800_014_400.0  # 2027-01-15


@pytest.fixture
def clock():
    clock = Clock()
    clock.now = NOON
    return clock


@pytest.fixture
def application(build_application, clock):
    return build_application({"GATEWAY_API_KEY": "alice:sk-test,bob:sk-bob"}, store=MemoryStore(clock))


def send(application, path=CHAT, headers=None, **fields):
    """Send a request and read the answer to its end."""
    with application.post(path, {**ASK, **fields}, headers) as answer:
        assert answer.data
        return answer.status_code


def analytics(application, query=""):
    answer = application.get(f"/v1/analytics{query}")
    assert answer.status_code == 200, answer.json
    return answer.json


def totals(application, query=""):
    body = analytics(application, query)
    return body["total_requests"], body["successful_requests"], body["failed_requests"]


def test_the_names_are_those_of_the_contract(application):
    send(application, project_id="p")
    body = analytics(application, "?minutes=2")
    entry = {"requests", "successful", "failed", "tokens"}
    assert set(body) == {
        *("total_requests", "successful_requests", "failed_requests", "success_rate", "tokens"),
        *("providers", "models", "projects", "keys", "days", "minutes"),
    }
    for name, key in (("providers", "sandbox"), ("models", "sandbox/echo"), ("projects", "p"), ("keys", "alice")):
        assert set(body[name]) == {key} and set(body[name][key]) == entry
    assert set(body["days"][-1]) == {"date", *entry} and body["days"][-1]["date"] == "2027-01-15"
    assert set(body["minutes"][-1]) == {"t", "requests", "successful", "ttft_ms_p50", "tokens", "providers"}
    assert body["minutes"][-1]["t"] == "2027-01-15T12:00:00Z" and body["minutes"][-1]["providers"] == {"sandbox": 1}
    assert set(body["tokens"]) == {"prompt", "completion", "total"} and body["tokens"]["total"] > 0
    assert "minutes" not in analytics(application)


CASES = {
    "a whole answer": (200, True, {}),
    "a stream": (200, True, {"stream": True}),
    "vectors": (200, True, {"path": EMBEDDINGS, "model": "sandbox/embed", "input": "x"}),
    "a stream that breaks": (200, False, {"model": "sandbox/cut", "stream": True}),
    "a provider that fails": (502, False, {"model": "sandbox/error"}),
    "a model that nobody has": (404, False, {"model": "nobody's"}),
    "a body that is wrong": (400, False, {"messages": []}),
    "vectors of nothing": (400, False, {"path": EMBEDDINGS, "model": "sandbox/embed", "input": ""}),
}


@pytest.mark.parametrize(("status", "successful", "fields"), CASES.values(), ids=list(CASES))
def test_every_request_is_counted_once(application, status, successful, fields):
    assert send(application, **fields) == status
    assert totals(application) == (1, int(successful), int(not successful))
    (entry,) = application.get("/v1/requests").json["data"]
    assert entry["status"] == status and entry["key"] == "alice"


def test_a_request_over_its_key_s_limit_failed(build_application):
    application = build_application({"CLIENT_RATE_LIMIT": "1/hour"})
    assert [send(application) for _ in range(2)] == [200, 429]
    body = application.services.figures.analytics(project=None, days=1, minutes=0)
    assert (body["total_requests"], body["failed_requests"]) == (2, 1)


def test_a_request_that_is_shed_failed(application):
    for _ in range(application.services.gate.places):
        application.services.gate.enter()
    assert send(application) == 503
    assert totals(application) == (1, 0, 1)


def test_a_client_that_left_was_not_answered_to_the_end(application):
    application.post(CHAT, {**ASK, "stream": True}).close()
    assert totals(application) == (1, 0, 1)
    assert application.get("/v1/requests").json["data"][0]["status"] == 499


@pytest.mark.parametrize(("rescue", "end"), [("1", "reset"), ("0", "broken")])
def test_how_a_stream_ended_stands_in_its_trail(application, rescue, end):
    send(application, headers={"x-gateway-rescue": rescue}, model="sandbox/cut", stream=True)
    assert application.get("/v1/requests").json["data"][0]["trail"] == f"sandbox/sandbox/cut:{end}"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (CHAT, {"Authorization": "Bearer wrong"}),
        (CHAT, {"x-gateway-dry-run": "1"}),
        (EMBEDDINGS, {"x-gateway-dry-run": "1"}),
        ("/v1/nothing", {}),
    ],
)
def test_what_asks_no_model_is_not_counted(application, path, headers):
    send(application, path, headers, model="sandbox/embed" if path == EMBEDDINGS else "auto", input="x")
    application.post("/v1/messages/count_tokens", {**ASK, "max_tokens": 9})
    for path in ("/v1/models", "/v1/quota", "/v1/analytics", "/v1/requests", "/health"):
        assert application.get(path).status_code == 200
    assert totals(application) == (0, 0, 0) and application.get("/v1/requests").json == {"object": "list", "data": []}


def test_figures_of_one_project(application):
    send(application, project_id="p")
    send(application, headers={"x-gateway-project-id": "p", "Authorization": "Bearer sk-bob"}, stream=True)
    send(application, project_id="q")
    send(application)
    body = analytics(application, "?project_id=p&minutes=1&days=1")
    assert body["total_requests"] == 2 and set(body["projects"]) == {"p"} and set(body["keys"]) == {"alice", "bob"}
    assert body["minutes"][0]["requests"] == 2 and body["minutes"][0]["ttft_ms_p50"] is not None
    assert totals(application) == (4, 4, 0) and totals(application, "?project_id=unknown") == (0, 0, 0)


def test_figures_of_days_and_minutes(application, clock):
    for day in range(10):
        clock.now = NOON + day * 86400
        for _ in range(day + 1):
            send(application)
    body = analytics(application, "?days=3&minutes=2")
    assert [day["requests"] for day in body["days"]] == [8, 9, 10] and body["total_requests"] == 27
    assert [minute["requests"] for minute in body["minutes"]] == [0, 10]
    assert totals(application) == (49, 49, 0) and totals(application, "?days=90") == (55, 55, 0)


def test_the_last_requests_come_newest_first_and_as_many_as_asked_for(application, clock):
    for number in range(60):
        clock.now += 1
        send(application, project_id=f"p{number}")
    newest = application.get("/v1/requests?limit=2").json
    assert newest["object"] == "list" and [entry["project_id"] for entry in newest["data"]] == ["p59", "p58"]
    assert len(application.get("/v1/requests").json["data"]) == 50
    assert len(application.get("/v1/requests?limit=1000").json["data"]) == 60
    assert set(newest["data"][0]) == {
        *("id", "t", "key", "project_id", "model", "served_by", "status", "attempts", "trail", "ttft_ms", "duration_ms"),
        "tokens",
    }


class Down(MemoryStore):
    def figures(self, *_, **__):
        raise StateError("down")

    newest = snapshot = figures


@pytest.mark.parametrize("path", ["/v1/analytics", "/v1/requests", "/v1/stats/providers", "/v1/quota"])
def test_figures_that_are_not_known_are_not_none(build_application, path):
    application = build_application(store=Down())
    answer = application.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    for path in ("/health", "/v1/models?include=health"):
        assert application.get(path).status_code == 200
    assert "gateway_sheds_total 0.0" in application.get("/metrics").text


@pytest.mark.parametrize("path", ["/v1/analytics", "/v1/requests"])
def test_figures_need_a_key(application, path):
    assert application.get(path, headers={}).status_code == 401


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("analytics?days=0", "days"),
        (f"analytics?days={DAYS.kept + 1}", "days"),
        ("analytics?days=many", "days"),
        ("analytics?days=1e3", "days"),
        (f"analytics?minutes={MINUTES.kept + 1}", "minutes"),
        ("analytics?minutes=-1", "minutes"),
        ("analytics?project_id=a%20b", "project_id"),
        (f"analytics?project_id={'x' * 65}", "project_id"),
        (f"requests?limit={JOURNAL_LENGTH + 1}", "limit"),
        (f"requests?limit={'9' * 5000}", "limit"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(application, query, param):
    answer = application.get(f"/v1/{query}")
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param), answer.json


def test_an_empty_question_is_none(application):
    assert application.client.get("/v1/analytics?project_id=&days=&minutes=&new=1", headers=AUTH).status_code == 200
