"""Embeddings by `batchEmbedContents`.

https://ai.google.dev/gemini-api/docs/embeddings, read 2026-11-22.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.domain import EmbeddingRequest, Model
from gateway.providers.driver import Vectors

_TASKS: Mapping[str, str] = {"query": "RETRIEVAL_QUERY", "document": "RETRIEVAL_DOCUMENT"}

# gemini-embedding-2 ignores taskType: what a text is for stands before it.
# 2026-06: https://github.com/embeddings-benchmark/mteb/pull/4851 measured what it costs to leave it out
_PROMPTS: Mapping[str, str] = {"query": "task: search result | query: {}", "document": "title: none | text: {}"}
_TAKES_TASK = "gemini-embedding-001"

OWN_DIMENSIONS = 3072


def encode_inputs(inputs: Sequence[str], request: EmbeddingRequest, model: Model) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the body, and the names of the parameters that had to be left out."""
    settings: dict[str, Any] = {"model": f"models/{model.upstream_id}"}
    if request.dimensions is not None:
        settings["outputDimensionality"] = request.dimensions
    prompt, kind = "{}", request.input_type or ""
    if kind in _TASKS and model.upstream_id == _TAKES_TASK:
        settings["taskType"] = _TASKS[kind]
    elif kind in _PROMPTS:
        prompt = _PROMPTS[kind]
    # One content for each text: several parts of one content become one vector.
    requests = [{**settings, "content": {"parts": [{"text": prompt.replace("{}", text)}]}} for text in inputs]
    dropped = [name for name, lost in (("input_type", kind and kind not in _TASKS), ("user", request.user)) if lost]
    return {"requests": requests}, tuple(dropped)


def read_vectors(payload: Any, model: Model) -> Vectors:
    """Return the vectors, shortened ones brought to length 1."""
    own = model.dimensions[0] if model.dimensions else OWN_DIMENSIONS
    vectors = [[float(number) for number in item["values"]] for item in payload["embeddings"]]
    tokens = (payload.get("usageMetadata") or {}).get("promptTokenCount")
    # 2026-11: of 001's vectors only the full ones have length 1.
    vectors = [vector if len(vector) >= own else _normalised(vector) for vector in vectors]
    return Vectors(vectors, tokens if isinstance(tokens, int) else None)


def _normalised(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    return [number / length for number in vector] if length else vector
