"""Reading and checking what clients send. Pure: no Flask in here."""

from gateway.api.schemas.anthropic import MessagesSchema, load_message_request
from gateway.api.schemas.body import read_json
from gateway.api.schemas.chat import ChatSchema, load_chat
from gateway.api.schemas.embeddings import EmbeddingSchema, load_embeddings

__all__ = ["ChatSchema", "EmbeddingSchema", "MessagesSchema", "load_chat", "load_embeddings", "load_message_request", "read_json"]
