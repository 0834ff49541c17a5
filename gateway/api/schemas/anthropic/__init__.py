"""Requests to Anthropic's Messages API, read into the canonical form.

Formats, read 2026-11 in the types of the anthropic package 2.14: MessageCreateParams and what it is made of.
"""
