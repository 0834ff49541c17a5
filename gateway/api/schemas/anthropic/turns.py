"""A conversation of turns made of content blocks, as OpenAI's messages.

Consecutive messages of one role are one turn. What a turn of the user holds of tools' results goes out before the rest of
it, as results must follow their calls. Blocks that only Anthropic's own models and servers can read (thoughts, what their
tools found) are left out: the text that was written from them is there.
"""

from __future__ import annotations

from typing import Any

from gateway.api.schemas.anthropic.blocks import Part, read_blocks, read_result, read_texts, read_user_block
from gateway.api.schemas.messages import write_json
from gateway.api.schemas.problems import invalid, missing, unsupported

Message = dict[str, Any]

# The first line of what Claude Code sends as system: it tells no model anything, and changes with every release and
# session, so that no provider could reuse what it computed of the long prompt behind it.
ATTRIBUTION = "x-anthropic-billing-header:"

_UNREADABLE = ("thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use")
_SERVERS_RESULT = "_tool_result"  # what their types end in


def load_turns(system: Any, raw: Any) -> Turns:
    """Return the conversation of `system` and `messages`.

    :raises InvalidRequest: naming the message, and the block in it, that cannot be served.
    """
    if raw is None:
        raise missing("messages", ": send a list of objects with role and content")
    if not isinstance(raw, list):
        raise invalid("messages", "must be a list of messages")
    if not raw:
        raise invalid("messages", "must have at least one message")
    turns = Turns(_read_system(system))
    for index, message in enumerate(raw):
        turns.add(message, f"messages[{index}]")
    turns.finish()
    return turns


class Turns:
    """Canonical messages, as far as turns are complete, and what they need of a model.

    `prefill`: the text of a last turn that is the assistant's, for the model to go on from.
    """

    def __init__(self, system: list[str]) -> None:
        self.messages: list[Message] = []
        self.needs: set[str] = set()
        self.prefill = ""
        self._system = system
        self._role = ""  # whose turn it is
        self._results: list[Message] = []
        self._parts: list[Part] = []
        self._calls: list[Message] = []

    def add(self, message: Any, where: str) -> None:
        """Read the next message. :raises InvalidRequest: it cannot be served as it is."""
        if not isinstance(message, dict):
            raise invalid(where, "must be an object with role and content")
        role = message.get("role")
        if role is None:
            raise missing(f"{where}.role", ": use user or assistant")
        if role not in ("user", "assistant", "system"):
            raise invalid(f"{where}.role", "must be user or assistant")
        if role == "system":
            self._add_system(read_texts(message.get("content"), f"{where}.content"))
            return
        self._begin(role)
        for block, place in read_blocks(message.get("content"), f"{where}.content"):
            if role == "assistant":
                self._add_assistants(block, place)
            else:
                self._add_users(block, place)

    def finish(self) -> None:
        """Complete the last turn."""
        last = self._role
        self._begin("")
        if self._system:
            self.messages.insert(0, {"role": "system", "content": "\n\n".join(self._system)})
        if not self.messages:
            raise invalid("messages", "must have a message that says something")
        if last == "assistant" and self.messages[-1]["role"] == "assistant" and "tool_calls" not in self.messages[-1]:
            self.prefill = self.messages[-1]["content"]

    def _begin(self, role: str) -> None:
        if role == self._role:
            return
        if self._role == "assistant":
            self._end_assistants()
        elif self._role == "user":
            self._end_users()
        self._role, self._results, self._parts, self._calls = role, [], [], []

    # --- system ------------------------------------------------------------------------------------------------------

    def _add_system(self, texts: list[str]) -> None:
        """Add what the operator says in between. Many models' templates refuse or skip it there, so that it becomes a
        note in the user's turn, marked as clients mark theirs.
        """
        if not self._role:
            self._system += texts
            return
        self._begin("user")
        self._parts += [{"type": "text", "text": f"<system-reminder>\n{text}\n</system-reminder>"} for text in texts]

    # --- the user ----------------------------------------------------------------------------------------------------

    def _add_users(self, block: dict[str, Any], where: str) -> None:
        if block["type"] == "tool_result":
            result, images, needs = read_result(block, where)
            self._results.append(result)
            self._parts += images
        else:
            parts, needs = read_user_block(block, where)
            self._parts += parts
        self.needs |= needs

    def _end_users(self) -> None:
        self.messages += self._results
        if self._parts or not self._results:
            self.messages.append({"role": "user", "content": _content(self._parts)})

    # --- the assistant -----------------------------------------------------------------------------------------------

    def _add_assistants(self, block: dict[str, Any], where: str) -> None:
        kind = block["type"]
        if kind == "tool_use":
            self._calls.append(read_call(block, where))
        elif kind == "text":
            self._parts += read_user_block(block, where)[0]
        elif kind == "compaction":
            self._parts += [{"type": "text", "text": text} for text in read_texts(block.get("content") or "", f"{where}.content")]
        elif kind not in _UNREADABLE and not kind.endswith(_SERVERS_RESULT):
            raise unsupported(f"{where}.type", "must be text, tool_use or thinking: other blocks cannot be passed on")

    def _end_assistants(self) -> None:
        text = "".join(part["text"] for part in self._parts)
        if self._calls:
            self.messages.append({"role": "assistant", "content": text or None, "tool_calls": self._calls})
        elif text:
            self.messages.append({"role": "assistant", "content": text})


def _read_system(raw: Any) -> list[str]:
    texts = [] if raw is None else read_texts(raw, "system")
    return [text for text in texts if not text.startswith(ATTRIBUTION)]


def _content(parts: list[Part]) -> str | list[Part]:
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def read_call(block: dict[str, Any], where: str) -> Message:
    """Return the tool call that a `tool_use` is. :raises InvalidRequest: it is malformed."""
    for name in ("id", "name"):
        if block.get(name) is None:
            raise missing(f"{where}.{name}")
        if not isinstance(block[name], str) or not block[name]:
            raise invalid(f"{where}.{name}", "must be a string that is not empty")
    given = block.get("input")
    if not isinstance(given, dict | None):
        raise invalid(f"{where}.input", "must be an object")
    function = {"name": block["name"], "arguments": write_json(given or {}, f"{where}.input")}
    return {"id": block["id"], "type": "function", "function": function}
