"""Anthropic's API, as far as answers go: a chat's answer becomes a message, whole or in events. Pure.

Formats, read 2026-11 in the types of the anthropic package 2.14: Message, RawMessageStreamEvent, BetaErrorResponse; and
https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from gateway.surfaces.messages.errors import error_body
from gateway.surfaces.messages.models import model_info, model_page
from gateway.surfaces.messages.stream import MessageForm
from gateway.surfaces.messages.terms import Terms
from gateway.surfaces.messages.whole import message_of

__all__ = ["MessageForm", "Terms", "error_body", "message_of", "model_info", "model_page"]
