"""JSON Schema in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Shape = dict[str, Any]

ANY: Shape = {}
TEXT: Shape = {"type": "string"}
NUMBER: Shape = {"type": "number"}
WHOLE: Shape = {"type": "integer"}
FLAG: Shape = {"type": "boolean"}
OBJECT: Shape = {"type": "object"}
NULL: Shape = {"type": "null"}
MOMENT: Shape = {"type": "string", "format": "date-time"}


def ref(name: str) -> Shape:
    """Return a reference to one of the document's named shapes."""
    return {"$ref": f"#/components/schemas/{name}"}


def words(*allowed: str) -> Shape:
    return {"type": "string", "enum": list(allowed)}


def const(value: str) -> Shape:
    return {"type": "string", "const": value}


def list_of(item: Shape) -> Shape:
    return {"type": "array", "items": item}


def map_of(value: Shape) -> Shape:
    """Return the shape of an object with names of the data's own."""
    return {"type": "object", "additionalProperties": value}


def any_of(*shapes: Shape) -> Shape:
    return {"anyOf": list(shapes)}


def or_null(shape: Shape) -> Shape:
    """Return a shape that may be null instead; what may be anything already can."""
    if "anyOf" in shape:
        return {**shape, "anyOf": [*shape["anyOf"], NULL]}
    if "$ref" in shape:
        return any_of(shape, NULL)
    if "type" not in shape:
        return shape
    nullable = {**shape, "type": [shape["type"], "null"]}
    return {**nullable, "enum": [*shape["enum"], None]} if "enum" in shape else nullable


def record(always: Mapping[str, Shape], sometimes: Mapping[str, Shape] | None = None, about: str | None = None) -> Shape:
    """Return the shape of an object. Fields that nobody named may stand in it too."""
    shape: Shape = {"type": "object", "properties": {**always, **(sometimes or {})}, "required": list(always)}
    return {"description": about, **shape} if about else shape


def about(text: str, shape: Shape) -> Shape:
    """Return a shape with words about it."""
    return {**shape, "description": text}
