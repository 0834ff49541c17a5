"""An independent judge of the Responses API: the models of the `openai` package, held strictly, and the order of events.

Whatever a test compares, answers and streams go through here first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

# What the package's models lack: the gateway's own, and what OpenAI's servers send without saying so.
EXTRAS = {"Response": {"x_gateway", "store"}, "ResponseCustomToolCall": {"status"}}
ENDS = ("response.completed", "response.incomplete", "response.failed")

_RESPONSE = TypeAdapter(Response)
_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def judge_response(body: Mapping[str, Any]) -> Response:
    """Return a whole response as the package reads it, after a strict look at every field."""
    response = _RESPONSE.validate_json(json.dumps(body), strict=True)
    _refuse_extras(response)
    return response


def judge_stream(raw: bytes | str) -> list[dict[str, Any]]:
    """Return the events of a stream that is well formed, strictly typed, numbered, and in the order of the API."""
    events = list(read_events(raw.encode() if isinstance(raw, str) else raw))
    for number, event in enumerate(events):
        _refuse_extras(_EVENT.validate_json(json.dumps(event), strict=True))
        assert event["sequence_number"] == number
    _Replay().play(events)
    return events


def read_events(raw: bytes) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream: each has its name, one line of data, and nothing else; comments may stand between."""
    lines = [line for line in raw.split(b"\n") if not line.startswith(b": ")]
    assert b"\r" not in raw and raw.endswith(b"\n\n")
    for start in range(0, len(lines) - 1, 3):
        name, data, blank = lines[start : start + 3]
        event = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode() and data.startswith(b"data: {") and blank == b""
        yield event


def output_of(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what a stream put together: its last event has been compared with the pieces already."""
    output: list[dict[str, Any]] = events[-1]["response"]["output"]
    return output


def without_ids(output: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name not in ("id", "call_id")} for item in output]


def _refuse_extras(value: Any) -> None:
    if isinstance(value, BaseModel):
        extras = set(value.model_extra or ()) - EXTRAS.get(type(value).__name__, set())
        assert not extras, f"{type(value).__name__} has no {extras}"
        for name in type(value).model_fields:
            _refuse_extras(getattr(value, name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_extras(item)


class _Replay:
    """Puts items together from their pieces, and compares them with what `done` events and the end say of them."""

    def __init__(self) -> None:
        self.done: list[dict[str, Any]] = []
        self.item: dict[str, Any] | None = None  # the open one
        self.part: dict[str, Any] | None = None
        self.text = ""

    def play(self, events: Sequence[dict[str, Any]]) -> None:
        first, second, last = events[0], events[1], events[-1]
        assert [first["type"], second["type"]] == ["response.created", "response.in_progress"]
        assert first["response"] == second["response"] and first["response"]["status"] == "in_progress"
        assert last["type"] in ENDS and last["type"] == f"response.{last['response']['status']}"
        for event in events[2:-1]:
            self._play(event)
        assert self.item is None and self.part is None
        assert last["response"]["output"] == self.done
        assert last["response"]["id"] == first["response"]["id"]

    def _play(self, event: dict[str, Any]) -> None:
        kind = event["type"].removeprefix("response.")
        assert event["output_index"] == len(self.done)
        if kind == "output_item.added":
            assert self.item is None
            self.item = event["item"]
            return
        assert self.item is not None
        if kind == "output_item.done":
            self._finish(event["item"])
            return
        assert event["item_id"] == self.item["id"]
        if kind.endswith("part.added"):
            self._begin_part(event)
        elif kind.endswith(".delta"):
            self.text += event["delta"]
        elif kind.endswith("part.done"):
            self._finish_part(event)
        else:
            assert event[kind_of_text(kind)] == self.text

    def _begin_part(self, event: dict[str, Any]) -> None:
        assert self.part is None and self.item is not None
        parts = self.item["summary"] if self.item["type"] == "reasoning" else self.item["content"]
        assert event.get("content_index", event.get("summary_index")) == len(parts)
        self.part, self.text = event["part"], ""

    def _finish_part(self, event: dict[str, Any]) -> None:
        assert self.part is not None and self.item is not None
        name = "refusal" if self.part["type"] == "refusal" else "text"
        whole = {**self.part, name: self.text}
        assert {k: v for k, v in event["part"].items() if k != "logprobs"} == {k: v for k, v in whole.items() if k != "logprobs"}
        self.item["summary" if self.item["type"] == "reasoning" else "content"].append(event["part"])
        self.part, self.text = None, ""

    def _finish(self, item: dict[str, Any]) -> None:
        assert self.part is None and self.item is not None
        for field in ("arguments", "input"):
            if field in self.item:
                self.item[field], self.text = self.text, ""
        if "status" in self.item:
            self.item["status"] = item["status"]
        assert item == self.item and item.get("status") in (None, "completed", "incomplete")
        self.done.append(item)
        self.item = None


def kind_of_text(kind: str) -> str:
    """Return the field in which the `done` event of a text has it."""
    return {"function_call_arguments.done": "arguments", "custom_tool_call_input.done": "input", "refusal.done": "refusal"}.get(
        kind, "text"
    )
