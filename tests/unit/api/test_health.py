from gateway.errors import StateError
from gateway.state.memory import MemoryStore


class Down(MemoryStore):
    def ping(self):
        raise StateError("down")


def test_a_gateway_that_can_serve_is_ready(application):
    answer = application.get("/readyz", headers={})
    assert (answer.status_code, answer.json) == (200, {"status": "ok", "state_store": "ok"})


def test_without_its_store_it_is_degraded_and_still_ready(build_application):
    answer = build_application(store=Down()).get("/readyz", headers={})
    assert (answer.status_code, answer.json) == (200, {"status": "degraded", "state_store": "down"})


def test_while_draining_it_is_not_ready_but_lives(application):
    application.services.watch.drain()
    answer = application.get("/readyz", headers={})
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "draining")
    assert answer.headers["Retry-After"] == "1" and answer.headers["x-should-retry"] == "true"
    assert application.get("/healthz", headers={}).json == {"status": "ok"}
