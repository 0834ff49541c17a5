"""The fields of the request schemas, as far as apispec's own reading of marshmallow does not know them."""

from __future__ import annotations

from typing import Any

from marshmallow import validate
from marshmallow.fields import Field

from gateway.api.description.contents import CONTENTS
from gateway.api.description.shapes import TEXT, Shape, any_of, list_of, or_null
from gateway.api.schemas.envelope import EnvelopeSchema, TextOrTexts


def shape_of(field: Field[Any], shape: Shape) -> Shape:
    """Return what stands in place of `shape`, which is apispec's, and is emptied."""
    own = {**shape, **pattern_of(field), **_texts(field), **_content(field)}
    shape.clear()
    if not own.get("default"):
        own.pop("default", None)  # what is not asked for
    return or_null(own) if isinstance(field.parent, EnvelopeSchema) and not field.required else own


def pattern_of(field: Field[Any]) -> Shape:
    """Return a text's pattern. Python's `match` begins at the beginning by itself; JSON Schema's finds it anywhere."""
    found = next((check for check in field.validators if isinstance(check, validate.Regexp)), None)
    return {"pattern": "^" + str(found.regex.pattern).removesuffix(r"\Z") + "$"} if found else {}


def _texts(field: Field[Any]) -> Shape:
    if not isinstance(field, TextOrTexts):
        return {}
    return list_of(TEXT) if field.only_list else any_of(TEXT, list_of(TEXT))


def _content(field: Field[Any]) -> Shape:
    """Return what is read by hand, in the field's schema or one that it is made of."""
    keys = ((kind, field.name) for kind in type(field.parent).__mro__)
    return next((CONTENTS[key] for key in keys if key in CONTENTS), {})
