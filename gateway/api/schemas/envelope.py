"""The fields around a request's content: checked by marshmallow, and those for the gateway itself taken out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Protocol

from marshmallow import INCLUDE, Schema, ValidationError, fields, validate

from gateway.api.schemas.problems import invalid
from gateway.domain import Choice
from gateway.errors import InvalidRequest

MAX_NAMES = 20
MAX_NAME_LENGTH = 256  # names go into logs and figures
MAX_INTEGER = 2**63 - 1  # what JSON readers of other languages can hold

_PROJECT_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_PROJECT_ID_EXPECTED = "must be 1 to 64 of the characters A-Za-z0-9._:-"
IS_PROJECT_ID = validate.Regexp(rf"(?:{_PROJECT_ID.pattern})\Z", error=_PROJECT_ID_EXPECTED)
_VISIBLE_ASCII = re.compile(r"[!-~]+")


class Headers(Protocol):
    """A request's headers: a dict with names in lower case, or a mapping that does not care."""

    def get(self, name: str, default: str, /) -> str: ...


# --- fields: as marshmallow's, without its conversions -------------------------------------------------------------


class Number(fields.Float):
    """A finite number, kept as it came: marshmallow's own takes strings and turns 0 into 0.0."""

    default_error_messages = {"invalid": "must be a number"}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.make_error("invalid")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.make_error("invalid")
        return value


class Whole(fields.Integer):
    """A whole number. 1.0 counts as one: some languages have no other numbers."""

    default_error_messages = {"invalid": "must be a whole number"}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.make_error("invalid")
        return value


class Flag(fields.Boolean):
    """true or false, and not a word for it."""

    default_error_messages = {"invalid": "must be true or false"}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class Text(fields.String):
    default_error_messages = {"invalid": "must be a string"}


class Object(fields.Dict):
    default_error_messages = {"invalid": "must be an object"}


class TextOrTexts(fields.Field[Any]):
    """A string or a list of strings; `only_list` refuses the single one."""

    def __init__(self, *, only_list: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.only_list = only_list

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if isinstance(value, str) and not self.only_list:
            return value
        if not isinstance(value, list):
            raise ValidationError("must be a list of strings" if self.only_list else "must be a string or a list of strings")
        for index, item in enumerate(value):
            if not isinstance(item, str):
                raise ValidationError({index: ["must be a string"]})
        return value


def number(least: float, most: float, about: str) -> Number:
    limits = validate.Range(least, most, error=f"must be a number from {least:g} to {most:g}")
    return Number(validate=limits, metadata={"description": about})


def whole(least: int | None, most: int | None, about: str) -> Whole:
    bounds = [] if least in (None, -MAX_INTEGER) else [f"of at least {least}"]
    bounds += [] if most is None else ["within 64 bits" if most == MAX_INTEGER else f"of at most {most}"]
    expected = " ".join(["must be a whole number", " and ".join(bounds)]).strip()
    return Whole(validate=validate.Range(least, most, error=expected), metadata={"description": about})


def one_of(words: tuple[str, ...], about: str) -> Text:
    return Text(validate=validate.OneOf(words, error="must be one of " + ", ".join(words)), metadata={"description": about})


class EnvelopeSchema(Schema):
    """What every request can hold beside its content."""

    class Meta:
        unknown = INCLUDE

    model = Text(metadata={"description": "A model id, `provider/id`, an alias, or for chat `auto`."})
    project_id = Text(
        validate=IS_PROJECT_ID,
        metadata={"description": "A tag for analytics."},
    )
    user = Text(metadata={"description": "The caller's own name for the end user, passed on where a provider takes it."})


# --- reading -------------------------------------------------------------------------------------------------------


def load_envelope(schema: Schema, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a body that are not null, known ones checked, in the client's order. `body` is left as it is.

    :raises InvalidRequest: naming the first field, in the schema's order, that is wrong.
    """
    envelope = {name: value for name, value in body.items() if value is not None}
    # Field by field, not `schema.load`: of some thirty fields a request has five, and the first problem is enough.
    for name, field in schema.load_fields.items():
        if name in envelope:
            try:
                envelope[name] = field.deserialize(envelope[name])
            except ValidationError as error:
                raise _locate_problem(name, error) from None
    return envelope


def _locate_problem(name: str, error: ValidationError) -> InvalidRequest:
    param, found = name, error.messages
    while isinstance(found, dict):
        key, found = next(iter(found.items()))
        param += f"[{key}]"
    return invalid(param, found[0])


def take_choice(envelope: dict[str, Any], headers: Headers) -> Choice:
    """Take the fields that name models out of an envelope, and join them with the headers that force one.

    :raises InvalidRequest: a header with characters that no name has, or too many names.
    """
    model = envelope.pop("model", "").strip()
    names = [name.strip() for name in envelope.pop("models", ())]
    if len(model) > MAX_NAME_LENGTH:
        raise invalid("model", f"must have at most {MAX_NAME_LENGTH} characters")
    for index, name in enumerate(names):
        if not 0 < len(name) <= MAX_NAME_LENGTH:
            raise invalid(f"models[{index}]", f"must be the name of a model, of at most {MAX_NAME_LENGTH} characters")
    if model and not (names and model == "auto"):
        names.insert(0, model)
    names = list(dict.fromkeys(names)) or ["auto"]
    if len(names) > MAX_NAMES:
        raise invalid("models", f"must have at most {MAX_NAMES} names")
    return Choice(
        names=tuple(names),
        force_provider=_read_name(headers, "x-gateway-force-provider"),
        force_model=_read_name(headers, "x-gateway-force-model"),
        min_reasoning_level=envelope.pop("min_reasoning_level", None),
    )


def _read_name(headers: Headers, header: str) -> str | None:
    name = headers.get(header, "").strip()
    if not name:
        return None
    if not _VISIBLE_ASCII.fullmatch(name):
        raise invalid(header, "must be a name of visible ASCII characters, without spaces")
    return name


def take_project_id(envelope: dict[str, Any], headers: Headers) -> str | None:
    """Take the project's tag out of an envelope; without one there, return the header's, None where neither has one.

    :raises InvalidRequest: the header's tag is not one.
    """
    in_body: str | None = envelope.pop("project_id", None)
    header = headers.get("x-gateway-project-id", "").strip()
    if in_body or not header:
        return in_body
    if not _PROJECT_ID.fullmatch(header):
        raise invalid("x-gateway-project-id", _PROJECT_ID_EXPECTED)
    return header
