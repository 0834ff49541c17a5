"""Puts the document together: every rule of the application, with what operations.py says of its view."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import Schema
from marshmallow.fields import Field
from werkzeug.routing import Rule

from gateway.api.description import errors, headers
from gateway.api.description.answers import ANSWERS
from gateway.api.description.contents import PARTS
from gateway.api.description.fields import shape_of
from gateway.api.description.operations import JSON, OPERATIONS, TAGS, Operation
from gateway.api.description.shapes import Shape

ABOUT = """One OpenAI-compatible API in front of several providers' free tiers: `model: "auto"` asks the healthiest one.

The paths below `/v1` answer without it too. Each request can carry its key as `Authorization: Bearer`, `x-api-key` or `api-key`.
Null in a field of a request counts as the field's absence, and fields that are not described here are kept.
Errors have one envelope, whatever failed; on `/v1/messages`, and wherever `anthropic-version` is sent, Anthropic's.
A path that there is not is 404 `unknown_path`, a method that does not work 405 `method_not_allowed`.
"""
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's clients send it."},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's clients send it."},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "As Azure's clients send it."},
    "metrics-token": {"type": "http", "scheme": "bearer", "description": "Of `/metrics` alone, where METRICS_TOKEN is set."},
}

_PLACE = re.compile(r"<(?:[^<>:]+:)?(\w+)>")  # Flask's placeholder in a rule


def build_document(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI document of an application. Takes some 50 ms.

    :raises KeyError: a path that operations.py does not know.
    """
    marshmallow = MarshmallowPlugin(schema_name_resolver=_component_name)
    spec = APISpec("AI gateway", "1", "3.1.0", [marshmallow], info={"description": ABOUT}, servers=[{"url": "/"}])
    assert marshmallow.converter is not None  # it is there with the spec
    marshmallow.converter.add_attribute_function(_shape_of)  # type: ignore[no-untyped-call]
    for name, about in TAGS.items():
        spec.tag({"name": name, "description": about})
    _add_components(spec)
    for rule in app.url_map.iter_rules():
        spec.path(_PLACE.sub(r"{\1}", rule.rule), operations=dict(_operations(app, rule)))
    return spec.to_dict()


def _shape_of(converter: object, field: Field[Any], ret: Shape) -> Shape:
    return shape_of(field, ret)


def _component_name(schema: type[Schema] | Schema) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.removesuffix("Schema").removesuffix("Request") + "Request"


def _add_components(spec: APISpec) -> None:
    for name, scheme in SECURITY_SCHEMES.items():
        spec.components.security_scheme(name, scheme)
    for name, shape in {**PARTS, **ANSWERS, **errors.envelopes()}.items():
        spec.components.schema(name, shape)
    for name, shape in headers.REQUEST_HEADERS.items():
        spec.components.parameter(name, "header", _described(shape))
    for name, shape in headers.ANSWER_HEADERS.items():
        spec.components.header(name, _described(shape))
    for name, response in errors.responses().items():
        spec.components.response(name, response)


def _described(shape: dict[str, Any]) -> dict[str, Any]:
    return {"description": shape["description"], "schema": {k: v for k, v in shape.items() if k != "description"}}


def _operations(app: Flask, rule: Rule) -> Iterator[tuple[str, dict[str, Any]]]:
    methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    for method in methods:
        id_ = rule.endpoint if len(methods) == 1 else f"{rule.endpoint}.{method.lower()}"
        yield method.lower(), {"operationId": id_, **_operation(app, rule.endpoint)}


def _operation(app: Flask, endpoint: str) -> dict[str, Any]:
    operation = OPERATIONS[endpoint]
    summary, _, more = (operation.summary or app.view_functions[endpoint].__doc__ or "").partition(". ")
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": summary.removesuffix("."),
        "description": " ".join(more.split()),
        "parameters": [*_in_path(operation), *_in_query(operation), *operation.takes],
        "responses": {
            **_answers(operation),
            **{str(status): errors.name_of(status, operation.envelope) for status in sorted(set(operation.errors))},
        },
        "security": list(operation.security),
    }
    if operation.body:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": operation.body()}}}
    return described


def _in_path(operation: Operation) -> list[dict[str, Any]]:
    return [{"in": "path", "name": name, "required": True, "schema": shape} for name, shape in operation.parameters.items()]


def _in_query(operation: Operation) -> list[dict[str, Any]]:
    return [{"in": "query", "schema": operation.query}] if operation.query else []


def _answers(operation: Operation) -> dict[str, Any]:
    if not operation.answers:
        return {}
    names = (*headers.IDS, *operation.tells)
    content = {media_type: {"schema": shape} for media_type, shape in operation.answers.items()}
    return {"200": {"description": "The answer.", "headers": {name: name for name in names}, "content": content}}
