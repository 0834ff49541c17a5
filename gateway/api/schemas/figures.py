"""The questions that figures answer: what may stand behind the `?`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from gateway.analytics.series import DAYS, JOURNAL_LENGTH, MINUTES
from gateway.api.schemas.envelope import IS_PROJECT_ID
from gateway.api.schemas.problems import invalid


def count(most: int, default: int, description: str) -> fields.Integer:
    expected = f"must be a whole number from 1 to {most}"
    return fields.Integer(
        load_default=default,
        validate=validate.Range(1, most, error=expected),
        error_messages={"invalid": expected, "too_large": expected},
        metadata={"description": description},
    )


class AnalyticsSchema(Schema):
    project_id = fields.String(
        load_default=None,
        validate=IS_PROJECT_ID,
        metadata={"description": "The figures of this project alone."},
    )
    days = count(DAYS.kept, 7, "How many days, today included.")
    minutes = count(MINUTES.kept, 0, "So many of the last minutes, too.")


class RequestsSchema(Schema):
    limit = count(JOURNAL_LENGTH, 50, "How many requests.")


def load_query(schema: Schema, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Return what a query asks for; what is empty is absent, and what nobody knows is left out.

    :raises InvalidRequest: naming the first argument that is wrong.
    """
    try:
        found: dict[str, Any] = schema.load({name: value for name, value in arguments.items() if value}, unknown=EXCLUDE)
        return found
    except ValidationError as error:
        name, messages = next(iter(error.messages_dict.items()))
        raise invalid(name, messages[0]) from None
