"""Input items of a Responses request: checked, references resolved, and made the messages of a chat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.api.schemas.messages import Conversation, write_json
from gateway.api.schemas.problems import invalid, missing, unsupported
from gateway.surfaces.responses.ids import is_thought, item_in
from gateway.surfaces.responses.request import Called, Item, Returned, Said, compose_messages
from gateway.surfaces.responses.tools import Toolbox, arguments_of

RawItem = dict[str, Any]

ROLES = ("user", "assistant", "system", "developer")
KINDS = ("message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning")

# Of tools that OpenAI's servers run, or that only its own models know: no chat model can be told of them.
_HOSTED = frozenset(
    {
        *("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "computer_call"),
        *("computer_call_output", "local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output"),
        *("apply_patch_call", "apply_patch_call_output", "mcp_list_tools", "mcp_call", "mcp_approval_request"),
        *("mcp_approval_response", "tool_search_call", "configuration_update"),
    }
)
_ADD_TOOLS = ("additional_tools", "tool_search_output")
_UNREADABLE_PARTS = ("input_file", "input_audio", "file", "input_video")

NOT_STORED = (
    "refers to an item that is not stored: nothing is, as with `store: false`. Send the item itself; clients do so when "
    "they are told `store: false`"
)


def read_items(raw: Any) -> list[tuple[int, RawItem]]:
    """Return the items of an `input`, each with its place; references are replaced by what their ids carry.

    :raises InvalidRequest: it is neither text nor items, or refers to what is not there.
    """
    if isinstance(raw, str):
        return [(0, {"role": "user", "content": raw})]
    if not isinstance(raw, list):
        raise invalid("input", "must be a string or a list of items")
    items = []
    for place, item in enumerate(raw):
        if not isinstance(item, dict):
            raise invalid(f"input[{place}]", "must be an object with a type")
        resolved = _resolve(item, place) if _kind_of(item, place) == "item_reference" else item
        if resolved is not None:
            items.append((place, resolved))
    return items


def _kind_of(item: RawItem, place: int) -> str:
    kind = item.get("type")
    if kind is None:
        if "role" in item:
            return "message"
        if "id" in item:
            return "item_reference"
        raise missing(f"input[{place}].type", ": use one of " + ", ".join(KINDS))
    if not isinstance(kind, str):
        raise invalid(f"input[{place}].type", "must be a string")
    return kind


def _resolve(reference: RawItem, place: int) -> RawItem | None:
    id_ = reference.get("id")
    if not isinstance(id_, str):
        raise invalid(f"input[{place}].id", "must be the id of an item")
    item = item_in(id_)
    if item is None and not is_thought(id_):
        raise unsupported(f"input[{place}].id", NOT_STORED)
    return item


def added_tools(items: list[tuple[int, RawItem]]) -> Iterator[tuple[str, Any]]:
    """Yield the lists of tools that stand in the input, each with its place."""
    for place, item in items:
        if _kind_of(item, place) in _ADD_TOOLS:
            yield f"input[{place}].tools", item.get("tools")


def converse(items: list[tuple[int, RawItem]], instructions: str | None, box: Toolbox) -> tuple[Conversation, list[str]]:
    """Return the conversation in instructions and items, and the kinds of items that were left out of it.

    :raises InvalidRequest: an item that cannot be served, or none that is a message.
    """
    conversation = Conversation("input")
    reader = _ItemReader(conversation, box)
    read = [item for place, raw in items if (item := reader.read(place, raw)) is not None]
    if not read:
        raise invalid("input", "must have at least one message")
    if instructions:
        conversation.messages.append({"role": "system", "content": instructions})
    for place, message in compose_messages(read):
        conversation.add(place, message)
    return conversation, list(dict.fromkeys(reader.left_out))


class _ItemReader:
    def __init__(self, conversation: Conversation, box: Toolbox) -> None:
        self._conversation = conversation
        self._box = box
        self.left_out: list[str] = []

    def read(self, place: int, item: RawItem) -> Item | None:
        """Return an item, None for one that no chat is told of."""
        where, kind = f"input[{place}]", _kind_of(item, place)
        if kind == "message":
            return _read_message(place, item)
        if kind in ("function_call", "custom_tool_call"):
            return self._read_call(place, item, is_custom=kind == "custom_tool_call")
        if kind in ("function_call_output", "custom_tool_call_output"):
            return self._read_output(place, item)
        if kind == "reasoning" or kind in _ADD_TOOLS:
            return None
        if kind in _HOSTED:
            self.left_out.append(f"input.{kind}")
            return None
        raise unsupported(f"{where}.type", f"must be one of {', '.join(KINDS)}: other items cannot be passed on")

    def _read_call(self, place: int, item: RawItem, *, is_custom: bool) -> Called:
        where = f"input[{place}]"
        name, namespace = _name_of(item, "name", where), item.get("namespace")
        if not isinstance(namespace, str | None):
            raise invalid(f"{where}.namespace", "must be a string")
        arguments = _read_input(item, where) if is_custom else _read_arguments(item, where)
        call_id = _name_of(item, "call_id" if item.get("call_id") else "id", where)
        return Called(place, call_id, self._box.function_of(name, namespace), arguments)

    def _read_output(self, place: int, item: RawItem) -> Returned:
        where = f"input[{place}]"
        call_id, output = _name_of(item, "call_id", where), item.get("output")
        if output is None or isinstance(output, str):
            return Returned(place, call_id, output or "")
        if not isinstance(output, list):
            return Returned(place, call_id, write_json(output, f"{where}.output"))
        parts = [self._read_part(part, f"{where}.output[{index}]") for index, part in enumerate(output)]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        images = tuple(part for part in parts if part["type"] == "image_url")
        return Returned(place, call_id, "\n".join(texts), images)

    def _read_part(self, part: Any, where: str) -> RawItem:
        _refuse_files(part, where)
        return self._conversation.read_part(part, where, takes_images=True)


def _read_message(place: int, item: RawItem) -> Said:
    where, role, content = f"input[{place}]", item.get("role"), item.get("content")
    if role is None:
        raise missing(f"{where}.role", ": use one of " + ", ".join(ROLES))
    if role not in ROLES:
        raise invalid(f"{where}.role", "must be one of " + ", ".join(ROLES))
    if "content" not in item:
        raise missing(f"{where}.content")
    for index, part in enumerate(content if isinstance(content, list) else ()):
        _refuse_files(part, f"{where}.content[{index}]")
    return Said(place, role, _as_text(content))


def _as_text(content: Any) -> Any:
    """Return content that is one text as that text: clients send it in a part, and not every server takes parts."""
    part = content[0] if isinstance(content, list) and len(content) == 1 else None
    is_text = isinstance(part, dict) and part.get("type") in ("input_text", "output_text") and isinstance(part.get("text"), str)
    return part["text"] if part and is_text else content


def _refuse_files(part: Any, where: str) -> None:
    if isinstance(part, dict) and part.get("type") in _UNREADABLE_PARTS:
        raise unsupported(f"{where}.type", "must be input_text or input_image: files and audio cannot be passed on")


def _read_input(item: RawItem, where: str) -> str:
    text = item.get("input")
    if not isinstance(text, str):
        raise invalid(f"{where}.input", "must be a string")
    return arguments_of(text)


def _read_arguments(item: RawItem, where: str) -> str:
    arguments = item.get("arguments")
    if not isinstance(arguments, str | dict | None):
        raise invalid(f"{where}.arguments", "must be a JSON object, or its text")
    return write_json(arguments, f"{where}.arguments") if isinstance(arguments, dict) else arguments or "{}"


def _name_of(item: RawItem, field: str, where: str) -> str:
    name = item.get(field)
    if name is None:
        raise missing(f"{where}.{field}")
    if not isinstance(name, str) or not name:
        raise invalid(f"{where}.{field}", "must be a string that is not empty")
    return name
