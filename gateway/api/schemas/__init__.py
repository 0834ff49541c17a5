"""Reading and checking what clients send. Pure: no Flask in here."""

from gateway.api.schemas.anthropic.request import MessagesSchema, load_message_request
from gateway.api.schemas.body import read_json
from gateway.api.schemas.chat import ChatSchema, load_chat
from gateway.api.schemas.completions import CompletionSchema, load_completion
from gateway.api.schemas.custom import custom_names
from gateway.api.schemas.embeddings import EmbeddingSchema, load_embeddings
from gateway.api.schemas.figures import AnalyticsSchema, RequestsSchema, load_query
from gateway.api.schemas.rerank import RerankSchema, load_rerank
from gateway.api.schemas.responses.request import ResponsesSchema, load_response

__all__ = [
    "AnalyticsSchema",
    "ChatSchema",
    "CompletionSchema",
    "EmbeddingSchema",
    "MessagesSchema",
    "RequestsSchema",
    "RerankSchema",
    "ResponsesSchema",
    "custom_names",
    "load_chat",
    "load_completion",
    "load_embeddings",
    "load_message_request",
    "load_query",
    "load_rerank",
    "load_response",
    "read_json",
]
