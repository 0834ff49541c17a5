"""JSON Schema reduced to the subset of OpenAPI's that models before Gemini 2.5 read.

https://ai.google.dev/api/caching#Schema, read 2026-11-22. Newer models take JSON Schema as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A schema that refers to itself ends here, in objects without a structure; the second limit is for wide ones.
MAX_DEPTH = 12
MAX_NODES = 2000

_KEPT = frozenset(
    "type format title description nullable minItems maxItems required minProperties maxProperties minimum maximum "
    "minLength maxLength pattern example propertyOrdering default".split()
)
_FORMATS = frozenset({"enum", "date-time", "int32", "int64", "float", "double"})


def to_openapi(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with its references inlined and without what the API refuses."""
    return _Reducer(schema).reduce(schema, 0)


class _Reducer:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._nodes = 0

    def reduce(self, schema: Any, depth: int) -> dict[str, Any]:
        self._nodes += 1
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH or self._nodes > MAX_NODES:
            return {"type": "object"}
        schema = self._resolve(schema)
        reduced = {name: value for name, value in schema.items() if name in _KEPT}
        if isinstance(reduced.get("type"), list):
            del reduced["type"]  # becomes a union
        if reduced.get("format") not in _FORMATS:
            reduced.pop("format", None)
        reduced |= _reduce_enum(schema)
        if isinstance(schema.get("properties"), Mapping):
            reduced["properties"] = {name: self.reduce(inner, depth + 1) for name, inner in schema["properties"].items()}
        if "items" in schema:
            reduced["items"] = self.reduce(schema["items"], depth + 1)
        return reduced | self._reduce_union(schema, depth)

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the schema merged with what it refers to and with what else must hold (`allOf`)."""
        merged: dict[str, Any] = {}
        waiting = [schema]
        for part in waiting:  # grows while it is read; a circle of references ends it
            reference = part.get("$ref")
            if isinstance(reference, str) and len(waiting) <= MAX_DEPTH:
                waiting.append(self._find(reference))
            waiting += [inner for inner in part.get("allOf") or () if isinstance(inner, Mapping)]
            for name, value in part.items():
                if name == "properties" and isinstance(value, Mapping):
                    merged[name] = {**value, **merged.get(name, {})}
                elif name == "required" and isinstance(value, list):
                    merged[name] = list(dict.fromkeys([*merged.get(name, ()), *value]))
                else:
                    merged.setdefault(name, value)
        return merged

    def _find(self, reference: str) -> Mapping[str, Any]:
        found: Any = self._root
        for name in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(name, {}) if name and isinstance(found, Mapping) else found
        return found if isinstance(found, Mapping) else {}

    def _reduce_union(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        types = schema.get("type")
        variants = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(types, list):
            variants = [{"type": name} for name in types]
        if not isinstance(variants, list):
            return {}
        nullable = {"nullable": True} if {"type": "null"} in variants else {}
        variants = [variant for variant in variants if variant != {"type": "null"}]
        if len(variants) == 1:
            return self.reduce(variants[0], depth + 1) | nullable
        return {"anyOf": [self.reduce(variant, depth + 1) for variant in variants]} | nullable


def _reduce_enum(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the allowed values, where they are words: no others can be listed."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list) and values and all(isinstance(value, str) and value for value in values):
        return {"type": "string", "enum": values}
    return {}
