"""The exact shape of OpenAI's answers, whatever a provider made of it. Pure.

Formats: https://platform.openai.com/docs/api-reference/chat/object and .../chat/streaming
"""

from gateway.upstream.shape.chunks import ChunkShaper, plain_text_of
from gateway.upstream.shape.pieces import arguments_of, new_call_id, new_id, reading, text_of
from gateway.upstream.shape.thoughts import ThoughtSplitter
from gateway.upstream.shape.usage import estimate_usage, read_usage, usage_of
from gateway.upstream.shape.whole import answer_chars, is_empty_stop, repair_completion

__all__ = [
    "ChunkShaper",
    "ThoughtSplitter",
    "answer_chars",
    "arguments_of",
    "estimate_usage",
    "is_empty_stop",
    "new_call_id",
    "new_id",
    "plain_text_of",
    "read_usage",
    "reading",
    "repair_completion",
    "text_of",
    "usage_of",
]
