"""The OpenAPI document says what there is, all of it, and nothing else."""

import re
from typing import get_args

import pytest
from marshmallow import fields
from openapi_spec_validator import validate

from gateway import errors
from gateway.api import replies, schemas
from gateway.api.description.contents import CONTENTS
from gateway.api.description.operations import OPERATIONS


@pytest.fixture
def document(application):
    return application.get("/openapi.json", headers={}).json


def operations(document):
    return {(path, method.upper()): it for path, methods in document["paths"].items() for method, it in methods.items()}


def test_it_is_valid(document):
    validate(document)
    assert document["openapi"].startswith("3.1")


def test_every_path_and_method_is_in_it_and_nothing_else(application, document):
    rules = application.app.url_map.iter_rules()
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in rules
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert set(operations(document)) == served
    assert set(OPERATIONS) == {rule.endpoint for rule in application.app.url_map.iter_rules()}


def test_every_operation_says_what_it_does(document):
    assert [place for place, it in operations(document).items() if not it["summary"]] == []


def test_a_key_is_asked_for_wherever_one_is_needed(application, document):
    def refuses(path, method):
        answer = application.client.open(re.sub(r"\{\w+\}", "x", path), method=method)
        return answer.status_code == 401

    asked = {place for place, it in operations(document).items() if it["security"] and {} not in it["security"]}
    assert asked == {place for place in operations(document) if refuses(*place)}
    assert set(document["components"]["securitySchemes"]) == {"bearer", "x-api-key", "api-key", "metrics-token"}


def kinds_of_errors(kind=errors.GatewayError):
    return {kind}.union(*map(kinds_of_errors, kind.__subclasses__()))


def test_every_error_is_in_it(document):
    told = kinds_of_errors() - {errors.ClientGone}  # whom nobody is left to tell
    codes = {kind.code for kind in told} | set(get_args(errors.InvalidCode)) | {"quota_exhausted"}
    error = document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]
    assert set(error["code"]["enum"]) == codes
    assert set(error["type"]["enum"]) == {kind.type for kind in told}
    described = "".join(response["description"] for response in document["components"]["responses"].values())
    assert {code for code in codes if f"`{code}`" not in described} == set()


@pytest.mark.parametrize(
    ("name", "status", "codes"),
    [
        ("Unauthorized", 401, {"invalid_api_key"}),
        ("NotFound", 404, {"model_not_found", "unknown_path"}),
        ("MethodNotAllowed", 405, {"method_not_allowed"}),
        ("TooManyRequests", 429, {"rate_limit_exceeded", "quota_exhausted"}),
        ("ServiceUnavailable", 503, {"no_healthy_provider", "gateway_busy", "draining"}),
    ],
)
def test_each_status_names_its_codes(document, name, status, codes):
    assert set(re.findall(r"- `(\w+)`", document["components"]["responses"][name]["description"])) == codes


def test_every_header_that_browsers_may_read_is_in_it(document):
    assert set(replies.EXPOSED_HEADERS) <= {name.lower() for name in document["components"]["headers"]}


def test_what_schemas_leave_to_readers_is_described():
    kinds = [getattr(schemas, name) for name in schemas.__all__ if name.endswith("Schema")]
    raw = {(kind, name) for kind in kinds for name, field in kind().fields.items() if type(field) is fields.Raw}
    assert raw and raw <= set(CONTENTS)


REQUIRED = [
    ("/v1/chat/completions", "ChatRequest", ["messages"]),
    ("/v1/completions", "CompletionRequest", ["prompt"]),
    ("/v1/embeddings", "EmbeddingRequest", ["input", "model"]),
    ("/v1/rerank", "RerankRequest", ["documents", "model", "query"]),
    ("/v1/responses", "ResponsesRequest", ["input"]),
    ("/v1/messages", "MessagesRequest", ["messages"]),
]


@pytest.mark.parametrize(("path", "name", "required"), REQUIRED)
def test_fields_that_it_calls_required_are(application, document, path, name, required):
    assert sorted(document["components"]["schemas"][name]["required"]) == required
    whole = {"prompt": "a", "input": "a", "model": "sandbox/embed", "documents": ["a"], "query": "a", "messages": []}
    for field in required:
        body = {other: whole[other] for other in required if other != field}
        answer = application.post(path, body)
        assert answer.status_code == 400 and f"`{field}` is missing" in answer.text.replace(f"{field}: ", f"`{field}` ")
