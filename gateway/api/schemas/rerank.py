"""Requests for reranking, in the form that Cohere, Jina and most others share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import fields

from gateway.api.schemas.envelope import (
    EnvelopeSchema,
    Flag,
    Headers,
    Text,
    load_envelope,
    take_choice,
    take_project_id,
    whole,
)
from gateway.api.schemas.problems import invalid, missing
from gateway.domain import AUTO_NAMES, RerankRequest
from gateway.routing.tokens import estimate_text, estimate_texts

MAX_DOCUMENTS = 1000  # as Cohere's and Voyage's own APIs


class RerankSchema(EnvelopeSchema):
    model = Text(required=True, metadata={"description": "The model that is to judge: there is no `auto`."})
    query = Text(required=True, metadata={"description": "What the documents are to answer."})
    documents = fields.Raw(required=True, metadata={"description": "Texts, or objects with a `text`."})
    top_n = whole(1, None, "How many of the best to return; absent: all.")
    top_k = whole(1, None, "Voyage's name of `top_n`.")
    return_documents = Flag(metadata={"description": "Return the documents with their scores."})


_SCHEMA = RerankSchema()


def load_rerank(body: Mapping[str, Any], headers: Headers) -> RerankRequest:
    """Return a client's request in canonical form. `body` is not changed; fields that are not known are left out.

    :raises InvalidRequest: with the field at fault in `param`.
    """
    envelope = load_envelope(_SCHEMA, body)
    _check_model(envelope.get("model", ""))
    envelope.pop("models", None)  # each model has a scale of its own: there is nothing to fall back to
    query = envelope.get("query")
    if query is None:
        raise missing("query", ": send a string")
    if not query:
        raise invalid("query", "must not be empty")
    documents = _load_documents(envelope.get("documents"))
    return RerankRequest(
        query=query,
        documents=documents,
        choice=take_choice(envelope, headers),
        top_n=envelope.get("top_n", envelope.get("top_k")),
        return_documents=envelope.get("return_documents", False),
        prompt_tokens=estimate_text(query) * len(documents) + estimate_texts(documents),
        project_id=take_project_id(envelope, headers),
    )


def _check_model(model: str) -> None:
    if not model.strip():
        raise missing("model", ": name a reranker")
    if model.strip() in AUTO_NAMES:
        raise invalid("model", "must name one reranker: scores of different models cannot be compared, so there is no auto")


def _load_documents(raw: Any) -> tuple[str, ...]:
    if raw is None:
        raise missing("documents", ": send a list of strings")
    if not isinstance(raw, list):
        raise invalid("documents", "must be a list of strings, or of objects with a text")
    if not raw:
        raise invalid("documents", "must have at least one document")
    if len(raw) > MAX_DOCUMENTS:
        raise invalid("documents", f"must have at most {MAX_DOCUMENTS} documents")
    return tuple(_read_document(document, f"documents[{index}]") for index, document in enumerate(raw))


def _read_document(document: Any, param: str) -> str:
    if isinstance(document, dict):
        document, param = document.get("text"), f"{param}.text"
        if document is None:
            raise missing(param)
    if not isinstance(document, str):
        raise invalid(param, "must be a string")
    if not document:
        raise invalid(param, "must not be empty: leave it out")
    return document
