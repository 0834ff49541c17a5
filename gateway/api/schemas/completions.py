"""Requests for OpenAI's legacy completions: a prompt becomes what the user says in a chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from marshmallow import fields

from gateway.api.schemas.chat import load_chat
from gateway.api.schemas.envelope import EnvelopeSchema, Flag, Headers, Text, load_envelope, whole
from gateway.api.schemas.problems import invalid, missing, unsupported
from gateway.domain import ChatRequest

MOST_LOGPROBS = 20  # of a chat; here the API itself had 5

_NOT_OURS = ("messages", "input", "echo", "suffix", "best_of", "logprobs", "top_logprobs")


class CompletionSchema(EnvelopeSchema):
    """The fields that chats do not have, or have otherwise."""

    prompt = fields.Raw(required=True, metadata={"description": "The text to answer: a string, or a list of one."})
    echo = Flag(metadata={"description": "Send the prompt before the text."})
    suffix = Text(metadata={"description": "Refused: chat models do not fill gaps."})
    best_of = whole(1, 128, "Ignored but for the header that says so: every text is sent as it was written.")
    logprobs = whole(0, MOST_LOGPROBS, "Return the probabilities of words, with as many alternatives.")


_SCHEMA = CompletionSchema()


class CompletionRequest(NamedTuple):
    """What is dispatched, and the prompt where the answer is to repeat it, else ""."""

    chat: ChatRequest
    echo: str


def load_completion(body: Mapping[str, Any], headers: Headers) -> CompletionRequest:
    """Return a client's request as a chat. `body` is not changed.

    :raises InvalidRequest: with the field at fault in `param`.
    """
    envelope = load_envelope(_SCHEMA, body)
    prompt = _read_prompt(envelope.get("prompt"))
    if envelope.get("suffix"):
        raise unsupported("suffix", "cannot be passed on: chat models do not fill gaps; send what stands before it alone")
    asked = {name: value for name, value in envelope.items() if name not in _NOT_OURS} | {"prompt": prompt}
    if "logprobs" in envelope:
        asked |= {"logprobs": True, "top_logprobs": envelope["logprobs"]}
    chat = load_chat(asked, headers)
    if envelope.get("best_of", 1) > chat.body.get("n", 1):
        chat = replace(chat, dropped=("best_of",))
    return CompletionRequest(chat, prompt if envelope.get("echo") else "")


def _read_prompt(raw: Any) -> str:
    prompt = raw[0] if isinstance(raw, list) and len(raw) == 1 else raw
    if prompt is None:
        raise missing("prompt", ": send a string")
    first = prompt[0] if isinstance(prompt, list) and prompt else prompt
    if isinstance(first, int) and not isinstance(first, bool):
        raise invalid("prompt", "is token ids, which only fit one model's tokenizer: send text")
    if isinstance(prompt, list) and prompt:
        raise unsupported("prompt", "must be one string: send a request for each of several")
    if not isinstance(prompt, str):
        raise invalid("prompt", "must be a string")
    return prompt
