"""Embeddings, and likeness by them, without a model."""

from __future__ import annotations

import hashlib
import math
import re


def build_vector(text: str, size: int) -> list[float]:
    """Return a vector of length 1: the same for the same words, nearer the more words two texts share."""
    vector = [0.0] * size
    for word in re.findall(r"\w+", text.casefold()) or [text]:
        digest = _hash(word)
        for start in range(0, 16, 4):
            place = int.from_bytes(digest[start : start + 4])
            vector[(place >> 1) % size] += 1.0 if place & 1 else -1.0
    length = math.hypot(*vector)
    if length == 0:  # everything cancelled out
        vector[int.from_bytes(_hash(text)) % size] = length = 1.0
    return [value / length for value in vector]


def likeness(one: list[float], other: list[float]) -> float:
    """Return how much two vectors of length 1 have in common: 1 for the same, 0 for nothing."""
    return max(0.0, round(sum(a * b for a, b in zip(one, other, strict=True)), 6))


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
