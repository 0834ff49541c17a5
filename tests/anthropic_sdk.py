"""The `anthropic` package as a judge: its types are strict here, and its stream helper puts messages together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, ModelInfo, RawMessageStreamEvent
from anthropic.types.beta_error_response import BetaErrorResponse
from pydantic import BaseModel, TypeAdapter

from gateway.upstream.sse import EventParser

OURS = {"x_gateway"}  # what stands beside the API's own fields
_EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)

Json = dict[str, Any]


def check_message(body: Json) -> Json:
    """Return a message if it has every field that its type asks for, each of its type, and no other."""
    _refuse_others(Message.model_validate(body, strict=True))
    return body


def check_model(body: Json) -> Json:
    _refuse_others(ModelInfo.model_validate_json(json.dumps(body), strict=True))  # JSON has no dates
    return body


def check_error(body: Json) -> Json:
    _refuse_others(BetaErrorResponse.model_validate(body, strict=True))
    return body


def read_events(data: bytes) -> list[Json]:
    """Return the events of a stream, each checked; all have the name of their type."""
    parser, events = EventParser(), []
    for event in [*parser.feed(data), *parser.finish()]:
        body = json.loads(event.data)
        assert body["type"] == event.name
        events.append(check_event(body))
    return events


def check_event(body: Json) -> Json:
    if body["type"] == "ping":
        assert body == {"type": "ping"}
    elif body["type"] == "error":
        check_error(body)
    else:
        _refuse_others(_EVENTS.validate_python(body, strict=True))
    return body


def put_together(events: Iterable[Json]) -> Json:
    """Return the message that a client of the package has at the end of a stream. Checks the order of its events."""
    told = [event for event in events if event["type"] != "ping"]
    _check_order(told)
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in told:
        snapshot = accumulate_event(event=_EVENTS.validate_python(event), current_snapshot=snapshot, json_bufs=buffers)
    message: Json = snapshot.to_dict()
    return message


def _check_order(events: list[Json]) -> None:
    """Blocks come one after the other, numbered from 0, between a start and an end."""
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    index, is_open = 0, False
    for event in events[1:-2]:
        assert event["index"] == index
        if event["type"] == "content_block_delta":
            assert is_open and any(value for name, value in event["delta"].items() if name != "type")
            continue
        assert event["type"] == ("content_block_stop" if is_open else "content_block_start")
        index, is_open = (index + 1, False) if is_open else (index, True)
    assert not is_open


def _refuse_others(value: Any) -> None:
    for model in _models_in(value):
        assert not set(model.model_extra or ()) - OURS, f"{type(model).__name__} has no {model.model_extra}"


def _models_in(value: Any) -> Iterator[BaseModel]:
    if isinstance(value, BaseModel):
        yield value
        for name in type(value).model_fields:
            yield from _models_in(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from _models_in(item)
