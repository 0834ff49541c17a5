"""Made-up values for JSON schemas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import unquote


class Examples:
    """Makes values that fit a JSON schema. `pattern`, `not` and `uniqueItems` are not looked at.

    Optional parts are left out where the schema names required ones, and in the depth, where schemas repeat
    themselves. A schema that is endless, or huge, is refused with a ValueError; a broken one with what it causes.
    """

    LAVISH_DEPTH: ClassVar[int] = 4
    MAX_DEPTH: ClassVar[int] = 50
    MAX_PARTS: ClassVar[int] = 10_000
    MAX_ITEMS: ClassVar[int] = 100
    MAX_LENGTH: ClassVar[int] = 1000
    FORMATS: ClassVar[Mapping[str, str]] = {
        "date": "2026-01-31",
        "time": "12:00:00Z",
        "date-time": "2026-01-31T12:00:00Z",
        "duration": "PT1H",
        "email": "someone@example.com",
        "hostname": "example.com",
        "ipv4": "192.0.2.1",
        "ipv6": "2001:db8::1",
        "uri": "https://example.com/",
        "uuid": "123e4567-e89b-42d3-a456-426614174000",
    }

    def __init__(self, root: Any) -> None:
        self._root = root
        self._parts = 0

    def make(self, schema: Any, depth: int = 0) -> Any:
        """Return a value that fits."""
        flat = self._flatten(schema, depth)
        for key in ("const", "default"):
            if key in flat:
                return flat[key]
        for key in ("enum", "examples"):
            if flat.get(key):
                return flat[key][0]
        kind = self._kind(flat)
        if kind == "object":
            return self._make_object(flat, depth)
        if kind == "array":
            return self._make_array(flat, depth)
        if kind in ("integer", "number"):
            return self._make_number(flat, whole=kind == "integer")
        if kind in ("boolean", "null"):
            return True if kind == "boolean" else None
        return self._make_string(flat)

    def _flatten(self, schema: Any, depth: int) -> dict[str, Any]:
        """Return a schema with what it refers to and is composed of; of alternatives the first, in the depth null."""
        if schema is True:
            return {}
        flat = {key: value for key, value in schema.items() if key not in ("$ref", "allOf", "anyOf", "oneOf")}
        self._parts += 1 + len(flat.get("properties") or ())
        if depth > self.MAX_DEPTH or self._parts > self.MAX_PARTS:
            raise ValueError("an endless or a huge schema")
        parts = list(schema.get("allOf") or ())
        parts += [self._resolve(schema["$ref"])] if "$ref" in schema else []
        parts += [self._choose(schema[key], depth) for key in ("anyOf", "oneOf") if schema.get(key)]
        for part in parts:
            more = self._flatten(part, depth + 1)
            properties = {**(more.get("properties") or {}), **(flat.get("properties") or {})}
            required = [*(flat.get("required") or ()), *(more.get("required") or ())]
            flat = {**more, **flat, "properties": properties, "required": required}
        return flat

    def _choose(self, alternatives: Sequence[Any], depth: int) -> Any:
        nothing = {"type": "null"}
        wanted = [part for part in alternatives if (part == nothing) == (depth > self.LAVISH_DEPTH)]
        return (wanted or alternatives)[0]

    def _resolve(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise ValueError("a reference to another document")
        target = self._root
        for name in unquote(reference[1:]).split("/")[1:]:
            key = name.replace("~1", "/").replace("~0", "~")
            target = target[int(key)] if isinstance(target, list) else target[key]
        return target

    def _kind(self, flat: Mapping[str, Any]) -> str:
        kind = flat.get("type")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        if kind is None:
            kind = "object" if flat.get("properties") else "array" if flat.get("items") else "string"
        return str(kind)

    def _make_object(self, flat: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = flat.get("properties") or {}
        others = flat.get("additionalProperties")
        names = flat.get("required") or (properties if depth <= self.LAVISH_DEPTH else ())
        return {name: self.make(properties.get(name, others or True), depth + 1) for name in names}

    def _make_array(self, flat: Mapping[str, Any], depth: int) -> list[Any]:
        items = flat.get("items", True)
        places, others = (items, True) if isinstance(items, list) else (flat.get("prefixItems") or [], items)
        wanted = max(flat.get("minItems", 0), len(places), 1 if depth <= self.LAVISH_DEPTH else 0)
        wanted = min(wanted, flat.get("maxItems", self.MAX_ITEMS), self.MAX_ITEMS)
        rest = [] if others is False else [others] * (wanted - len(places))
        return [self.make(part, depth + 1) for part in [*places, *rest][:wanted]]

    def _make_string(self, flat: Mapping[str, Any]) -> str:
        text = self.FORMATS.get(flat.get("format", ""), "example")
        least, most = flat.get("minLength", 0), flat.get("maxLength", self.MAX_LENGTH)
        return text.ljust(min(least, self.MAX_LENGTH), "e")[:most]

    def _make_number(self, flat: Mapping[str, Any], *, whole: bool) -> int | float:
        """Return 1 or another number within the bounds, 1 where none of the likely ones fits."""
        step = flat.get("multipleOf", 1)
        above, below = flat.get("exclusiveMinimum", -math.inf), flat.get("exclusiveMaximum", math.inf)
        least, most = flat.get("minimum", -math.inf), flat.get("maximum", math.inf)
        low, high = max(least, above), min(most, below)
        likely: list[int | float] = [1, 0, step]
        likely += [math.ceil(low / step) * step, (math.floor(low / step) + 1) * step] if low > -math.inf else []
        likely += [math.floor(high / step) * step, (math.ceil(high / step) - 1) * step] if high < math.inf else []
        if math.isfinite(low) and math.isfinite(high) and not whole and "multipleOf" not in flat:
            likely.append((low + high) / 2)

        def fits(number: int | float) -> bool:
            stepped = "multipleOf" not in flat or math.isclose(round(number / step) * step, number)
            return stepped and least <= number <= most and above < number < below

        return next((int(number) if whole else number for number in likely if fits(number)), 1)
