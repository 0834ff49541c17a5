"""Embedding requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import fields

from gateway.api.schemas.envelope import EnvelopeSchema, Headers, Text, load_envelope, one_of, take_choice, take_project_id, whole
from gateway.api.schemas.problems import invalid, missing
from gateway.domain import AUTO_NAMES, EmbeddingRequest
from gateway.errors import InvalidRequest
from gateway.routing.tokens import estimate_texts

MAX_INPUTS = 2048  # as OpenAI's own API: clients split their batches by it

# Cohere's words beside Voyage's: the same two uses under other names.
INPUT_TYPES = {"query": "query", "document": "document", "search_query": "query", "search_document": "document"}


class EmbeddingSchema(EnvelopeSchema):
    model = Text(required=True, metadata={"description": "The model whose vectors to return: there is no `auto`."})
    input = fields.Raw(required=True, metadata={"description": "A text, or a list of texts."})
    encoding_format = one_of(("float", "base64"), "Numbers, or little-endian float32 in base64.")
    dimensions = whole(1, None, "The size of the vectors, where the model has several.")
    input_type = one_of(tuple(INPUT_TYPES), "What the texts are for, where the model tells queries from documents.")


_SCHEMA = EmbeddingSchema()


def load_embeddings(body: Mapping[str, Any], headers: Headers) -> EmbeddingRequest:
    """Return a client's request in canonical form. `body` is not changed; fields that are not known are left out.

    :raises InvalidRequest: with the field at fault in `param`.
    """
    envelope = load_envelope(_SCHEMA, body)
    _check_model(envelope.get("model", ""))
    envelope.pop("models", None)  # vectors of another model would not fit: there is nothing to fall back to
    inputs = _load_inputs(envelope.get("input"))
    input_type = envelope.get("input_type")
    return EmbeddingRequest(
        inputs=inputs,
        choice=take_choice(envelope, headers),
        dimensions=envelope.get("dimensions"),
        encoding_format=envelope.get("encoding_format", "float"),
        input_type=None if input_type is None else INPUT_TYPES[input_type],
        user=envelope.get("user"),
        prompt_tokens=estimate_texts(inputs),
        project_id=take_project_id(envelope, headers),
    )


def _check_model(model: str) -> None:
    if not model.strip():
        raise missing("model", ": name an embedding model")
    if model.strip() in AUTO_NAMES:
        raise invalid(
            "model", "must name one embedding model: vectors of different models cannot be compared, so there is no auto"
        )


def _load_inputs(raw: Any) -> tuple[str, ...]:
    if raw is None:
        raise missing("input", ": send a string or a list of strings")
    if isinstance(raw, str):
        if not raw:
            raise invalid("input", "must not be empty")
        return (raw,)
    if not isinstance(raw, list):
        raise invalid("input", "must be a string or a list of strings")
    if not raw:
        raise invalid("input", "must have at least one text")
    for index, text in enumerate(raw):
        if not isinstance(text, str) or not text:
            raise _wrong_input(text, f"input[{index}]")
    if len(raw) > MAX_INPUTS:
        raise invalid("input", f"must have at most {MAX_INPUTS} texts: send several requests")
    return tuple(raw)


def _wrong_input(value: Any, param: str) -> InvalidRequest:
    if value == "":
        return invalid(param, "must not be empty: leave it out")
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, int) and not isinstance(first, bool):
        return invalid(
            param,
            "is token ids, which only fit one model's tokenizer: send text (in LangChain, "
            "OpenAIEmbeddings(check_embedding_ctx_length=False))",
        )
    return invalid(param, "must be a string")
