"""Tool calls of a stream: which piece belongs to which call, and their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway import jsonio
from gateway.upstream.shape.pieces import arguments_of, name_of, new_call_id


class _Call:
    """One call: told by its id or by the provider's index, numbered in the order of appearance."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.id = ""  # as the provider has it
        self.name = ""
        self.arguments: list[str] = []
        self.begun = False  # it was sent, with its name

    def is_complete(self) -> bool:
        """Whether its arguments are whole JSON, so that what comes cannot belong to it."""
        try:
            jsonio.loads("".join(self.arguments))
        except ValueError:
            return False
        return True


class CallTracker:
    """The tool calls of one choice."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[Any, _Call] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    @property
    def has_nameless(self) -> bool:
        """Whether a call waits for its name: without, nothing of it was sent."""
        return any(not call.begun for call in self._calls)

    def shape(self, raws: Any) -> list[dict[str, Any]]:
        """Return the pieces of a delta's `tool_calls` as OpenAI would send them."""
        if not isinstance(raws, list):
            raise TypeError("not a list of calls")
        fresh: list[_Call] = []  # begun in this delta: no other piece of it, but for one without a name, is theirs
        return [piece for raw in raws if raw is not None and (piece := self._shape(raw, fresh)) is not None]

    def missing_arguments(self) -> list[dict[str, Any]]:
        """Return the piece that calls without arguments lack: clients parse them as JSON, which \"\" is not."""
        bare = [call for call in self._calls if call.begun and not call.arguments]
        return [{"index": call.number, "function": {"arguments": "{}"}} for call in bare]

    def _shape(self, raw: Mapping[str, Any], fresh: list[_Call]) -> dict[str, Any] | None:
        function = raw.get("function") or raw
        arguments, name, call_id = arguments_of(function.get("arguments")), name_of(function.get("name")), name_of(raw.get("id"))
        if not (arguments or name or call_id):
            return None  # Workers AI ends each call with an element of nulls (2026-11: providers' own SDKs skip it too)
        call = self._find(raw.get("index"), call_id, name, fresh)
        call.id, call.name = call.id or call_id, call.name or name
        if arguments:
            call.arguments.append(arguments)
        if call.begun:
            return {"index": call.number, "function": {"arguments": arguments}} if arguments else None
        if not call.name:
            return None
        call.begun = True
        kept = {key: value for key, value in raw.items() if key == "extra_content"}
        shaped = {"name": call.name, "arguments": "".join(call.arguments)}
        return {"index": call.number, "id": call.id or new_call_id(), "type": "function", "function": shaped, **kept}

    def _find(self, index: Any, call_id: str, name: str, fresh: list[_Call]) -> _Call:
        if index is not None:
            call = self._by_index.get(index)
        else:
            call = next((c for c in self._calls if c.id and c.id == call_id), None)
            if call is None and not call_id and not name and self._calls:
                return self._calls[-1]  # arguments without an index or id continue the call before
        if call is None or (name and self._is_another(call, call_id, name, fresh)):
            call = _Call(len(self._calls))
            self._calls.append(call)
            fresh.append(call)
            if index is not None:
                self._by_index[index] = call
        return call

    def _is_another(self, call: _Call, call_id: str, name: str, fresh: list[_Call]) -> bool:
        """Whether a named piece under a known index is another call: some providers number every call 0."""
        if call_id and call.id:
            return call_id != call.id
        return bool(call.name) and (name != call.name or call in fresh or call.is_complete())
