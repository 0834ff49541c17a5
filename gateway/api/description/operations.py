"""One row for each path and method, by the name of its view: what goes in, what comes out, and how it can fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from marshmallow import Schema, fields

from gateway.api.description import headers
from gateway.api.description.shapes import TEXT, Shape, about, any_of, const, record, ref
from gateway.api.schemas import (
    AnalyticsSchema,
    ChatSchema,
    CompletionSchema,
    EmbeddingSchema,
    MessagesSchema,
    RequestsSchema,
    RerankSchema,
    ResponsesSchema,
)

JSON, EVENTS, HTML = "application/json", "text/event-stream", "text/html"
METRICS = ("text/plain", "application/openmetrics-text")

TAGS: Mapping[str, str] = {
    "Chat": "Conversations and texts, whole or streamed, in the forms of four APIs, over the same models.",
    "Vectors": "Embeddings and reranking.",
    "Models": "What can be called.",
    "Figures": "What the gateway knows of its providers, and what was asked of it.",
    "Health": "For balancers and monitors; no key is needed.",
    "Pages": "For people; no key is needed.",
}

KEYS: tuple[Mapping[str, list[str]], ...] = ({"bearer": []}, {"x-api-key": []}, {"api-key": []})

_OF_BODIES = (400, 401, 413, 415, 429, 500, 503)
_OF_CALLS = (400, 401, 404, 413, 415, 429, 500, 502, 503, 504)
_OF_KEYS = (401, 429, 500)
_OF_PUBLIC = (429, 500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`answers`: the 200 by media type. `tells`: its headers beside the ids. `envelope`: whose errors, see errors.py.

    `summary`: where there is no view whose docstring could be it.
    """

    tag: str
    answers: Mapping[str, Shape]
    body: type[Schema] | None = None
    query: type[Schema] | None = None
    takes: tuple[str, ...] = ()
    tells: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()
    envelope: str = ""
    security: tuple[Mapping[str, list[str]], ...] = ()
    summary: str = ""
    parameters: Mapping[str, Shape] = field(default_factory=dict)  # in the path


# --- what queries hold where no schema reads them ------------------------------------------------------------------------


class CompletionRequest(CompletionSchema, ChatSchema):  # type: ignore[misc]  # `logprobs` is a number here
    """All fields of a chat but what has another name or meaning in a completion."""

    class Meta:
        exclude = ("messages", "top_logprobs")


class IncludeQuery(Schema):
    include = fields.String(
        metadata={
            "description": "capabilities, health, auto (the names that leave the choice to the gateway), aliases; with commas."
        }
    )


class RoutingQuery(Schema):
    model = fields.String(load_default="auto", metadata={"description": "As a request's `model`."})


# --- families ----------------------------------------------------------------------------------------------------------


def keyed(tag: str, answer: Shape, *errors: int, **more: object) -> Operation:
    """Return what a key opens."""
    operation = Operation(tag=tag, answers={JSON: answer}, security=KEYS, tells=headers.LIMITS, errors=(*errors, *_OF_KEYS))
    return replace(operation, **more)  # type: ignore[arg-type]


def public(tag: str, media_type: str, answer: Shape, *errors: int) -> Operation:
    """Return what needs no key, and is limited by address."""
    return Operation(tag=tag, answers={media_type: answer}, tells=headers.LIMITS, errors=(*errors, *_OF_PUBLIC))


def called(tag: str, body: type[Schema], answer: str, takes: tuple[str, ...], tells: tuple[str, ...]) -> Operation:
    """Return what asks a model, or for a dry run tells who would be asked."""
    return Operation(
        tag=tag,
        body=body,
        answers={JSON: any_of(ref(answer), ref("RoutingStatus"))},
        takes=takes,
        tells=(*tells, *headers.LIMITS),
        errors=_OF_CALLS,
        security=KEYS,
    )


def streamed(body: type[Schema], answer: str, events: Shape, envelope: str = "") -> Operation:
    operation = called("Chat", body, answer, headers.OF_CHATS, headers.SERVED_CHAT)
    return replace(operation, answers={**operation.answers, EVENTS: events}, envelope=envelope)


def events_of(chunk: str) -> Shape:
    """Return the shape of one event of a stream that has only `data: ` lines."""
    told = (
        f"With `stream: true`: each event is a line `data: ` with a {chunk}, the last one `data: [DONE]`. A stream that fails"
        ' after its beginning ends in `data: {"error": {...}}` and `data: [DONE]`.'
    )
    data = {**TEXT, "contentMediaType": JSON, "contentSchema": any_of(ref(chunk), ref("Error"))}
    return about(told, record({"data": any_of(const("[DONE]"), data)}))


def named_events(told: str) -> Shape:
    return about(f"With `stream: true`: {told}", record({"event": TEXT, "data": {**TEXT, "contentMediaType": JSON}}))


_MODEL_ID = {"model_id": about("It may hold `/`, `@` and `:`, plain or percent-encoded.", TEXT)}

OPERATIONS: Mapping[str, Operation] = {
    "chat.create_chat_completion": streamed(
        ChatSchema,
        "ChatCompletion",
        events_of("ChatCompletionChunk"),
    ),
    "responses.create_response": streamed(
        ResponsesSchema,
        "Response",
        named_events("from `response.created` to `response.completed`, `response.incomplete` or `response.failed`."),
    ),
    "responses.find_response": keyed(
        "Chat", {}, 404, answers={}, summary="There are no stored responses", parameters={"rest": TEXT}, tells=()
    ),
    "messages.create_message": streamed(
        MessagesSchema,
        "MessagesAnswer",
        named_events("from `message_start` to `message_stop`, or `error`."),
        "Messages",
    ),
    "messages.count_tokens": keyed("Chat", ref("TokenCount"), body=MessagesSchema, errors=_OF_BODIES, envelope="Messages"),
    "completions.create_completion": streamed(
        CompletionRequest,
        "TextCompletion",
        events_of("TextCompletion"),
    ),
    "embeddings.create_embeddings": called("Vectors", EmbeddingSchema, "EmbeddingList", headers.OF_CALLS, headers.SERVED_VECTORS),
    "rerank.rerank": called("Vectors", RerankSchema, "Ranking", headers.OF_CALLS, headers.SERVED_CHAT),
    "models.list_models": keyed(
        "Models",
        any_of(ref("ModelList"), ref("MessagesModelPage")),
        query=IncludeQuery,
        takes=("anthropic-version",),
        envelope="Either",
    ),
    "models.retrieve_model": keyed(
        "Models",
        any_of(ref("Model"), ref("MessagesModel")),
        400,
        404,
        query=IncludeQuery,
        takes=("anthropic-version",),
        envelope="Either",
        parameters=_MODEL_ID,
    ),
    "routing.routing": keyed("Figures", ref("RoutingStatus"), 400, 404, query=RoutingQuery),
    "routing.quota": keyed("Figures", ref("QuotaList"), 503),
    "figures.stats": keyed("Figures", ref("ProviderStats"), 503),
    "figures.analytics": keyed("Figures", ref("Analytics"), 400, 503, query=AnalyticsSchema),
    "figures.last_requests": keyed("Figures", ref("RequestList"), 400, 503, query=RequestsSchema),
    "metrics.metrics": replace(
        public("Figures", "text/plain", TEXT, 401), answers=dict.fromkeys(METRICS, TEXT), security=({}, {"metrics-token": []})
    ),
    "health.health": public("Health", JSON, ref("Health")),
    "health.healthz": replace(public("Health", JSON, ref("Alive")), errors=(500,), tells=()),
    "health.readyz": replace(public("Health", JSON, ref("Ready")), errors=(500, 503), tells=()),
    "messages.hello": public("Health", JSON, ref("Hello")),
    "index.index": replace(public("Pages", HTML, TEXT), answers={JSON: ref("Gateway"), HTML: TEXT}),
    "docs.openapi": public("Pages", JSON, ref("OpenApi")),
    "docs.docs": public("Pages", HTML, TEXT),
    "dashboard.dashboard": public("Pages", HTML, TEXT),
    **dict.fromkeys(
        ("index.static", "docs.static", "docs.swagger_static", "dashboard.static"),
        Operation(
            tag="Pages", answers={"*/*": {}}, errors=(404, 500), parameters={"filename": TEXT}, summary="A page's script or style"
        ),
    ),
}
