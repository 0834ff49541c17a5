"""How many tokens a prompt will about be, without a tokenizer.

Each model has its own tokenizer, and loading one costs more than the guess is worth: the estimate only reserves quota
and sorts out context windows that are clearly too small. It never refuses a request by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from gateway import jsonio

# English prose has 4 to 4.5 characters a token in every current vocabulary.
TOKENS_PER_CHARACTER = 1 / 4
# Brackets, quotes and operators are about every second time a token of their own: code and JSON get near 2.5 characters.
TOKENS_PER_MARK = 1 / 2
# Beside the quarter that each has as a character: numbers are cut into groups of two or three digits, and capitals stand
# where words are not in the vocabulary (base64). 2026-11, against o200k: with these, logs and tables come within a tenth of
# the truth, hashes and base64 at half of it or more; without them, at two thirds, and a third.
TOKENS_PER_DIGIT = 1 / 4
TOKENS_PER_CAPITAL = 2 / 5
# UTF-8 bytes beyond one a character tell how far a script is from ASCII: with 0.3 tokens for each, Chinese or Thai (two
# more bytes) have 1.2 characters a token, Cyrillic or Arabic (one more) 1.8, an emoji (three more) is one by itself.
TOKENS_PER_EXTRA_BYTE = 0.3

MESSAGE_TOKENS = 4  # the role and the marks around a message
TOOL_TOKENS = 8  # the same around the definition of a tool
PROMPT_TOKENS = 3  # the opening of the answer
IMAGE_TOKENS = 1000  # tiles of a middling picture: providers count 85 to 2,500, by size and not by bytes

_DIGITS = b"0123456789"
_CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MARKS = b"\"'`{}[]()<>:;,.=+-*/\\|&_#@$%!?~^\n"


def estimate_text(text: str) -> int:
    """Return about how many tokens a text has: 0 for none, at least 1 for some. Takes 3 ms for a megabyte."""
    data = text.encode("utf-8", "surrogatepass")
    extra_bytes = len(data) - len(text)
    return ceil(
        len(text) * TOKENS_PER_CHARACTER
        + _count(data, _MARKS) * TOKENS_PER_MARK
        + _count(data, _DIGITS) * TOKENS_PER_DIGIT
        + _count(data, _CAPITALS) * TOKENS_PER_CAPITAL
        + extra_bytes * TOKENS_PER_EXTRA_BYTE
    )


def _count(data: bytes, wanted: bytes) -> int:
    return len(data) - len(data.translate(None, wanted))


def estimate_messages(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None) -> int:
    """Return about how many tokens a prompt has. Both arguments are canonical, as in `ChatRequest.body`.

    Images count by their number: the length of a data URL says nothing.

    :raises ValueError: `tools` hold a number that JSON cannot.
    """
    texts: list[str] = []  # joined, so that thousands of short messages cost as much as one long text
    images = 0
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif content:
            spoken = [part["text"] for part in content if part["type"] == "text"]
            texts += spoken
            images += len(content) - len(spoken)
        for call in message.get("tool_calls") or ():
            texts += (call["function"]["name"], call["function"]["arguments"])
    tokens = PROMPT_TOKENS + MESSAGE_TOKENS * len(messages) + IMAGE_TOKENS * images + estimate_text(" ".join(texts))
    if tools:
        tokens += TOOL_TOKENS * len(tools) + estimate_text(jsonio.dumps(tools).decode())
    return tokens
