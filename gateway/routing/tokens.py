"""How many tokens a prompt will about be, without a tokenizer.

Each model has its own tokenizer, and loading one costs more than the guess is worth: the estimate only reserves quota
and sorts out context windows that are clearly too small. It never refuses a request by itself, and each model's ratio
(evidence.py) corrects it by what the provider counts.

How near it is, against the vocabularies of o200k (gpt-oss), cl100k, Llama 3, DeepSeek V4, Mistral's Tekken and Gemma 3
(2026-11; 111 texts of 1 to 40 thousand characters, of which 41 were not fitted): the estimate over the median of the six,
and over whichever has most and fewest tokens.

    English prose, Markdown             1.00 to 1.16    0.95 to 1.17
    code, HTML, SQL                     0.93 to 1.22    0.86 to 1.28
    JSON, YAML, TOML                    0.93 to 1.08    0.75 to 1.14
    logs, tables, URLs                  1.05 to 1.16    0.65 to 1.16    some have a token for each digit, others for three
    hashes, UUIDs                       1.09 to 1.22    0.77 to 1.24
    base64                              0.91 to 0.93    0.84 to 0.96
    digits without an end               1.73            0.57 to 1.73
    Spanish, French, German, Italian    0.92 to 1.11    0.81 to 1.21
    other languages in Latin letters    0.60 to 1.47    0.58 to 1.53    Swahili least, Vietnamese most
    Cyrillic, Greek, Hebrew, Arabic     0.92 to 1.26    0.44 to 1.52    Kazakh 0.66
    Chinese, Japanese, Korean           0.99 to 1.08    0.62 to 1.44
    India, Thai                         0.73 to 1.24    0.31 to 2.12    vocabularies differ up to fivefold
    Georgian, Burmese, Khmer, Lao       0.28 to 1.78    0.18 to 3.68
    emoji                               0.94 to 1.03    0.50 to 1.91
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

from gateway import jsonio

MESSAGE_TOKENS = 4  # the role and the marks around a message
TOOL_TOKENS = 8  # the same around the definition of a tool
PROMPT_TOKENS = 3  # the opening of the answer
IMAGE_TOKENS = 1000  # tiles of a middling picture: providers count 85 to 2,500, by size and not by bytes

# Of a long text so many pieces of so many characters are read, evenly spread over it: its kinds are counted in a
# millisecond, and to a hundredth or two.
PIECES, PIECE = 64, 512

# What a character adds to the tokens of a text, whatever it is: English has some five or six to a token.
TOKENS_PER_CHARACTER = 0.135
# And beside that, by its kind; then two in a row, which often are one token, or where one must begin: in camelCase, and where
# digits meet letters (hashes, base64).
KINDS: Mapping[str, Iterable[int]] = {
    "A": b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0": b"0123456789",
    ".": b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    " ": b" ",
    "|": b"\n\r\t",
    # By the first byte in UTF-8.
    "e": range(0xC2, 0xCE),  # Latin letters with accents
    "g": range(0xCE, 0xD0),  # Greek
    "c": range(0xD0, 0xD4),  # Cyrillic
    "h": range(0xD4, 0xD8),  # Armenian, Hebrew
    "r": range(0xD8, 0xE0),  # Arabic
    "i": (0xE0,),  # the scripts of India, Thai, Lao
    "t": (0xE1,),  # Georgian, Burmese, Khmer, Ethiopic
    "v": (0xBA, 0xBB),  # after that one: Latin letters with the accents of Vietnamese
    "p": (0xE2,),  # typographic marks and symbols
    "k": (0xE3,),  # kana
    "j": range(0xE4, 0xEA),  # Chinese characters
    "o": range(0xEA, 0xEE),  # Hangul
    "f": (0xEE, 0xEF),  # full width
    "m": range(0xF0, 0x100),  # emoji
}
ASCII_TOKENS: Mapping[bytes, float] = {
    b"A": 0.46,
    b"AA": -0.82,
    b"aA": 0.95,
    b"0": 0.44,
    b"a0": 0.66,
    b"0a": 0.66,
    b"A0": 0.66,
    b"0A": 0.66,
    b".": 0.79,
    b"..": -1.0,
    b" ": 0.32,
    b"  ": -0.74,
    b"|": 0.65,
}
OTHER_TOKENS: Mapping[bytes, float] = {
    b"e": 1.45,
    b"g": 0.28,
    b"c": 0.14,
    b"h": 0.45,
    b"r": 0.22,
    b"i": 0.37,
    b"t": 0.97,
    b"tv": -1.0,
    b"p": 0.6,
    b"k": 0.58,
    b"j": 0.68,
    b"o": 0.49,
    b"f": 1.2,
    b"m": 1.97,
}


def _kinds_of_bytes() -> bytes:
    kinds = bytearray(b"a" * 0x80 + b"-" * 0x80)  # letters, and the further bytes of characters
    for kind, members in KINDS.items():
        for byte in members:
            kinds[byte] = ord(kind)
    return bytes(kinds)


_KINDS_OF_BYTES = _kinds_of_bytes()


def estimate_text(text: str) -> int:
    """Return about how many tokens a text has: 0 for none, at least 1 for some. Takes a millisecond at most."""
    return ceil(_estimate(text))


def estimate_texts(texts: Sequence[str]) -> int:
    """Return about how many tokens texts have together; of thousands it takes as long as of one."""
    return max(estimate_text(" ".join(texts)), len(texts))


def _estimate(text: str) -> float:
    length = len(text)
    if length > PIECES * PIECE:
        sample = "".join([text[start : start + PIECE] for start in range(0, length, -(-length // PIECES))])
        return _estimate(sample) * length / len(sample)
    kinds = text.encode("utf-8", "surrogatepass").translate(_KINDS_OF_BYTES)
    tokens = length * TOKENS_PER_CHARACTER
    tokens += sum([kinds.count(kind) * amount for kind, amount in ASCII_TOKENS.items()])
    if not text.isascii():
        tokens += sum([kinds.count(kind) * amount for kind, amount in OTHER_TOKENS.items()])
    return tokens


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
