"""Requests made of the description, and what comes back: no defect, and nothing that the description does not say."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi import checks

from gateway.api.description import build_document
from gateway.api.description.operations import EVENTS, JSON, OPERATIONS
from gateway.boot import load_configuration
from gateway.factory import create_app
from gateway.state.memory import MemoryStore
from tests.conftest import AUTH, KEY, RecordingTelemetry

pytestmark = pytest.mark.slow

EXAMPLES = 6  # of each operation, and as many of a model that there is
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]

ECHO = "sandbox/echo"
PLAIN: dict[str, dict[str, Any]] = {
    "chat.create_chat_completion": {"model": ECHO, "messages": [{"role": "user", "content": "Hello!"}]},
    "responses.create_response": {"model": ECHO, "input": "Hello!"},
    "messages.create_message": {"model": ECHO, "messages": [{"role": "user", "content": "Hello!"}]},
    "messages.count_tokens": {"messages": [{"role": "user", "content": "Hello!"}]},
    "completions.create_completion": {"model": ECHO, "prompt": "Hello!"},
    "embeddings.create_embeddings": {"model": "sandbox/embed", "input": ["Hello!"]},
    "rerank.rerank": {"model": "sandbox/rerank", "query": "Hello!", "documents": ["a", "b"], "return_documents": True},
}
STREAMED = {view: body | {"stream": True} for view, body in PLAIN.items() if OPERATIONS[view].answers.get(EVENTS)}
# Nothing is stored, and files of pages have no names that could be made up.
NEVER_FOUND = {"responses.find_response", *(name for name in OPERATIONS if name.endswith("static"))}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory):
    """Return the operations that the description of a gateway with nothing but its sandbox names, by the name of their view."""
    environ = {
        "GATEWAY_API_KEY": KEY,
        "GATEWAY_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "PUBLIC_RATE_LIMIT": "100000/minute",
        "GATEWAY_THREADS": "100000",  # nobody here closes an answer, and so gives its place back
        "GATEWAY_SANDBOX": "on",
    }
    app = create_app(load_configuration(environ), store=MemoryStore(), telemetry=RecordingTelemetry())
    schema = schemathesis.openapi.from_dict(build_document(app))
    schema.app = app
    found: dict[str, list[Any]] = {}
    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]  # one that cannot be read raises
        view = ".".join(operation.definition.raw["operationId"].split(".")[:2])
        found.setdefault(view, []).append(operation)
    return found


def explore(operation, known=lambda case: None):
    """Send requests made of an operation's description, `known` changing each before."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def send(case):
        known(case)
        answer = case.call(headers=AUTH)
        statuses.add(answer.status_code)
        assert answer.status_code != 500
        case.validate_response(answer, checks=CHECKS)

    statuses: set[int] = set()
    send()
    return statuses


@pytest.mark.parametrize("view", OPERATIONS)
def test_whatever_the_description_allows_is_answered_as_it_says(described, view):
    for operation in described[view]:
        assert explore(operation)


@pytest.mark.parametrize("view", PLAIN)
def test_models_that_there_are_answer_as_it_says(described, view):
    def ask_one_that_there_is(case):
        if isinstance(case.body, dict):
            case.body["model"] = PLAIN[view].get("model", ECHO)
            case.body.pop("models", None)
        for name in ("x-gateway-force-provider", "x-gateway-force-model"):
            case.headers.pop(name, None)

    assert [explore(operation, ask_one_that_there_is) for operation in described[view]]


@pytest.mark.parametrize(("view", "body"), [*PLAIN.items(), *STREAMED.items()])
def test_a_plain_request_is_answered_as_it_says(described, view, body):
    case = described[view][0].Case(body=body, media_type=JSON)
    answer = case.call(headers=AUTH)
    assert answer.status_code == 200
    case.validate_response(answer, checks=CHECKS)


@pytest.mark.parametrize("view", [name for name in OPERATIONS if name not in {*PLAIN, *NEVER_FOUND}])
def test_what_can_be_read_is_as_it_says(described, view):
    place = {"model_id": "sandbox%2Fecho"} if OPERATIONS[view].parameters else {}
    case = described[view][0].Case(path_parameters=place)
    answer = case.call(headers=AUTH)
    assert answer.status_code == 200
    case.validate_response(answer, checks=CHECKS)
