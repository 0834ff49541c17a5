"""The conversation of a chat request, made canonical in one pass.

A message that needs no change stays the very object that was sent; one that does is copied. Fields that the gateway
does not know ride along: what a provider does not take, its adapter leaves out.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from gateway import jsonio
from gateway.api.schemas.problems import invalid, missing, unsupported

Message = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")

UNWRITABLE = "must be JSON without infinite numbers, and not nested too deeply"
MAX_CALLS = 128  # of one message; more than any model makes at once

_PLAIN_FIELDS = {"role", "content"}
_SPEAKERS = ("user", "assistant", "system", "developer")
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_IMAGE_PARTS = ("image_url", "input_image", "image")
_WEB_URL = re.compile(r"https?://[^\s/]\S*", re.IGNORECASE)
_DATA_URL = re.compile(r"data:image/[\w.+-]+(?:;[\w.+-]+=[\w.+-]+)*;base64,.", re.IGNORECASE)


class _Pending(NamedTuple):
    """A tool call whose result has not come yet. `generated`: the client knows no id of it."""

    id: str
    name: str
    generated: bool


def load_messages(raw: Any, field: str = "messages") -> Conversation:
    """Return the canonical messages of a list, and what they need of a model. `field` is where they stood, for errors.

    :raises InvalidRequest: naming the message, and the place in it, that cannot be served.
    """
    if not isinstance(raw, list):
        raise invalid(field, "must be a list of messages")
    if not raw:
        raise invalid(field, "must have at least one message")
    conversation = Conversation(field)
    for index, message in enumerate(raw):
        conversation.add(index, message)
    return conversation


def load_prompt(raw: Any) -> Conversation:
    """Return the conversation in a `prompt` that stands in place of `messages`: a text, or a list of one.

    :raises InvalidRequest: several prompts, or token ids.
    """
    prompt = raw[0] if isinstance(raw, list) and len(raw) == 1 else raw
    if not isinstance(prompt, str):
        raise invalid("prompt", "must be one string")
    return load_text(prompt)


def load_text(text: str) -> Conversation:
    return load_messages([{"role": "user", "content": text}])


class Conversation:
    """Canonical messages, as far as they are read, and the tool calls in them that wait for a result."""

    def __init__(self, field: str) -> None:
        self.messages: list[Message] = []
        self.needs: set[str] = set()
        self._field = field
        self._pending: list[_Pending] = []

    def add(self, index: int, message: Any) -> None:
        """Read the next message.

        :raises InvalidRequest: it cannot be served as it is.
        """
        if not isinstance(message, dict):
            raise invalid(f"{self._field}[{index}]", "must be an object with role and content")
        role = message.get("role")
        if message.keys() == _PLAIN_FIELDS and role in _SPEAKERS and isinstance(message["content"], str):
            self.messages.append(message)  # nearly all of a long conversation: nothing to read in it
        elif role == "user" or role == "system" or role == "developer":
            self.messages.append(self._read_spoken(index, message))
        elif role == "assistant":
            self.messages.append(self._read_assistant(index, message))
        elif role == "tool" or role == "function":
            self.messages.append(self._read_result(index, message))
        elif role is None:
            raise missing(f"{self._field}[{index}].role", ": use one of " + ", ".join(ROLES))
        else:
            raise invalid(f"{self._field}[{index}].role", "must be one of " + ", ".join(ROLES))

    # --- by role -----------------------------------------------------------------------------------------------------

    def _read_spoken(self, index: int, message: Message) -> Message:
        if "content" not in message:
            raise missing(f"{self._field}[{index}].content")
        content = self._read_content(index, message)
        if content is message["content"] and "tool_calls" not in message:
            return message
        return {**_without_calls(message), "content": content}

    def _read_assistant(self, index: int, message: Message) -> Message:
        changes: Message = {}
        calls = message.get("tool_calls")
        if calls:
            changes["tool_calls"] = calls = self._read_calls(index, calls)
        elif message.get("function_call"):
            changes["tool_calls"] = calls = [self._read_function_call(index, message["function_call"])]
        if not calls or message.get("content") is not None:
            changes["content"] = self._read_content(index, message)
        left_out = {"function_call"} if calls else {"function_call", "tool_calls"}
        if left_out.isdisjoint(message) and all(message.get(name) is value for name, value in changes.items()):
            return message
        return {name: value for name, value in message.items() if name not in left_out} | changes

    def _read_result(self, index: int, message: Message) -> Message:
        content = self._read_content(index, message)
        if isinstance(content, list):
            content = "".join(part["text"] for part in content)
        call_id = self._match_call(index, message)
        unchanged = content is message.get("content") and call_id is message.get("tool_call_id")
        if unchanged and message["role"] == "tool" and "tool_calls" not in message:
            return message
        return {**_without_calls(message), "role": "tool", "tool_call_id": call_id, "content": content}

    # --- tool calls ----------------------------------------------------------------------------------------------------

    def _read_calls(self, index: int, raw: Any) -> list[Message]:
        where = f"{self._field}[{index}].tool_calls"
        if not isinstance(raw, list):
            raise invalid(where, "must be a list of tool calls")
        if len(raw) > MAX_CALLS:
            raise invalid(where, f"must have at most {MAX_CALLS} calls")
        self._pending = []
        calls = [self._read_call(raw[i], f"{where}[{i}]", f"call_{index}_{i}") for i in range(len(raw))]
        return raw if all(call is sent for call, sent in zip(calls, raw, strict=True)) else calls

    def _read_call(self, call: Any, where: str, generated_id: str) -> Message:
        if not isinstance(call, dict):
            raise invalid(where, "must be an object with id and function")
        if call.get("type") not in (None, "function"):
            raise unsupported(f"{where}.type", "must be function: other calls cannot be passed on")
        call_id = call.get("id") or None
        if not isinstance(call_id, str | None):
            raise invalid(f"{where}.id", "must be a string")
        if "function" in call:
            function = _read_function(call["function"], f"{where}.function")
        else:  # the flat form
            function = _read_function({k: call[k] for k in ("name", "arguments") if k in call}, where)
        self._pending.append(_Pending(call_id or generated_id, function["name"], call_id is None))
        if call_id and call.get("type") and call.get("function") is function:
            return call
        rest = {name: value for name, value in call.items() if name not in ("name", "arguments")}
        return {**rest, "id": call_id or generated_id, "type": "function", "function": function}

    def _read_function_call(self, index: int, raw: Any) -> Message:
        """Return OpenAI's older form, one call without an id, as a tool call."""
        function = _read_function(raw, f"{self._field}[{index}].function_call")
        call_id = f"call_{index}_0"
        self._pending = [_Pending(call_id, function["name"], True)]
        return {"id": call_id, "type": "function", "function": function}

    def _match_call(self, index: int, message: Message) -> str:
        """Return the id of the call that a result answers.

        An id that was sent and is known holds. Otherwise the result belongs to the first waiting call of its name, else
        to the first one; but an id that was sent is only overruled by calls whose id the client cannot know.
        """
        call_id = message.get("tool_call_id") or None
        if not isinstance(call_id, str | None):
            raise invalid(f"{self._field}[{index}].tool_call_id", "must be a string")
        waiting = self._pending if call_id is None else [call for call in self._pending if call.id == call_id]
        waiting = waiting or [call for call in self._pending if call.generated]
        if waiting:
            call = next((call for call in waiting if call.name == message.get("name")), waiting[0])
            self._pending.remove(call)
            return call_id if call_id == call.id else call.id
        if call_id is None and message["role"] == "function":
            raise invalid(f"{self._field}[{index}].role", "must follow the assistant message whose function_call it answers")
        if call_id is None:
            raise missing(f"{self._field}[{index}].tool_call_id", ": name the tool call that this message answers")
        return call_id  # of a call that the client has cut from its history, or answers twice: the provider's to judge

    # --- content -------------------------------------------------------------------------------------------------------

    def _read_content(self, index: int, message: Message) -> str | list[Any]:
        """Return the content of a message: a text as it is, parts in OpenAI's form, "" for nothing."""
        content = message.get("content")
        if isinstance(content, str):
            return content
        where = f"{self._field}[{index}].content"
        if content is None or content == []:
            return ""
        if not isinstance(content, list):
            raise invalid(where, "must be a string or a list of parts")
        takes_images = message["role"] == "user"
        parts = [self.read_part(part, f"{where}[{i}]", takes_images) for i, part in enumerate(content)]
        return content if all(part is sent for part, sent in zip(parts, content, strict=True)) else parts

    def read_part(self, part: Any, where: str, takes_images: bool) -> Message:
        """Return a content part in OpenAI's form.

        :raises InvalidRequest: it is none, or one that cannot be passed on; `where` it stood.
        """
        if isinstance(part, str):
            return {"type": "text", "text": part}
        if not isinstance(part, dict):
            raise invalid(where, "must be an object with a type")
        kind = part.get("type")
        if kind is None:
            raise missing(f"{where}.type", ": use text or image_url")
        if not isinstance(kind, str):
            raise invalid(f"{where}.type", "must be a string")
        if kind in _TEXT_PARTS:
            return _read_text(part, where, _TEXT_PARTS[kind])
        if kind not in _IMAGE_PARTS:
            raise unsupported(f"{where}.type", "must be text or image_url: other parts cannot be passed on")
        if not takes_images:
            raise unsupported(f"{where}.type", "must be text here: send images in a user message")
        image, needs = read_image(part, where)
        self.needs |= needs
        return image


def _without_calls(message: Message) -> Message:
    """Return a message as all but assistants can send it: only they call tools."""
    return {name: value for name, value in message.items() if name != "tool_calls"}


def _read_text(part: Message, where: str, key: str) -> Message:
    if key not in part:
        raise missing(f"{where}.{key}")
    text = "" if part[key] is None else part[key]
    if not isinstance(text, str):
        raise invalid(f"{where}.{key}", "must be a string")
    if part["type"] == "text" and text is part["text"]:
        return part
    return {"type": "text", "text": text}


def read_image(part: Message, where: str) -> tuple[Message, set[str]]:
    """Return a part that holds an image, of OpenAI's or Anthropic's types, in the canonical form, and what it needs of a model.

    :raises InvalidRequest: it is no image, or one that cannot be passed on.
    """
    kind = part["type"]
    if kind == "image":
        url, where_url, image = _read_source(part.get("source"), f"{where}.source"), f"{where}.source", None
    else:
        image = part.get("image_url")
        where_url = f"{where}.image_url.url" if isinstance(image, dict) else f"{where}.image_url"
        url = image.get("url") if isinstance(image, dict) else image
    if kind == "input_image" and url is None and part.get("file_id"):
        raise unsupported(f"{where}.file_id", "cannot be read: send the image itself, as a data URL in image_url")
    if url is None:
        raise missing(where_url, ": send an https or data URL of the image")
    if not isinstance(url, str) or not (_DATA_URL.match(url) or _WEB_URL.fullmatch(url)):
        raise invalid(where_url, "must be an http(s) URL or a base64 data URL of an image (data:image/png;base64,...)")
    needs = {"vision"} if url[:5].lower() == "data:" else {"vision", "image_urls"}
    if kind == "image_url" and isinstance(image, dict):
        return part, needs
    detail = part.get("detail") or (image.get("detail") if isinstance(image, dict) else None)
    if detail == "original":  # the Responses API's, for its own models
        detail = "high"
    return {"type": "image_url", "image_url": {"url": url, "detail": detail} if detail else {"url": url}}, needs


def _read_source(source: Any, where: str) -> Any:
    """Return the URL that Anthropic's source of an image amounts to, None where it names none."""
    if source is None:
        raise missing(where)
    if not isinstance(source, dict):
        raise invalid(where, "must be an object")
    if source.get("type") == "url":
        return source.get("url")
    if source.get("type") != "base64":
        raise unsupported(f"{where}.type", "must be base64 or url")
    media_type, data = source.get("media_type"), source.get("data")
    if not isinstance(media_type, str):
        raise invalid(f"{where}.media_type", "must be the image's type, such as image/png")
    if not isinstance(data, str):
        raise invalid(f"{where}.data", "must be the image in base64")
    return f"data:{media_type};base64,{data}"


def _read_function(function: Any, where: str) -> Message:
    """Return the name and arguments of a call, the arguments as a JSON text."""
    if not isinstance(function, dict):
        raise invalid(where, "must be an object with name and arguments")
    name, arguments = function.get("name"), function.get("arguments")
    if name is None:
        raise missing(f"{where}.name")
    if not isinstance(name, str) or not name:
        raise invalid(f"{where}.name", "must be the name of a tool")
    if arguments is None or arguments == "":
        return {**function, "arguments": "{}"}
    if isinstance(arguments, str):
        return function
    if not isinstance(arguments, dict):
        raise invalid(f"{where}.arguments", "must be a JSON object, or its text")
    return {**function, "arguments": write_json(arguments, f"{where}.arguments")}


def write_json(value: Any, param: str) -> str:
    """Return the JSON text of a value from a client's body.

    :raises InvalidRequest: it holds a number that JSON cannot (1e999 is read as infinite), or is nested too deeply.
    """
    try:
        return jsonio.dumps(value).decode()
    except (ValueError, RecursionError):
        raise invalid(param, UNWRITABLE) from None
