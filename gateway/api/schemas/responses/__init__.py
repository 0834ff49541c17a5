"""Requests to OpenAI's Responses API, read into the canonical form.

Formats, read 2026-11 in the types of the openai package 3.54: ResponseCreateParams and what it is made of.
"""
