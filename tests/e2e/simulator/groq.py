"""Groq: the strictest of the OpenAI-compatible ones. https://console.groq.com/docs/openai, .../errors, .../rate-limits (2026-11)

Quirks: refuses every property that it does not know, also within messages; tokens asked for count against the minute
before they are made (413); quota headers on each answer, with Go durations; a tool call comes whole in one delta;
usage stands twice in the chunk with the finish reason; an error in mid-stream is a named event without [DONE] after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from tests.e2e.simulator import errors
from tests.e2e.simulator.behaviours import Reply
from tests.e2e.simulator.mind import Turn
from tests.e2e.simulator.openai_api import Json, OpenAIService, image_urls_of, text_of
from tests.e2e.simulator.service import CREATED, Facts, Refused, unknown_names
from tests.e2e.simulator.wire import Request


@dataclass(frozen=True)
class GroqFacts(Facts):
    """`tpm`: tokens of a minute, as the free tier has them."""

    tpm: int = 8000


GPT_OSS = GroqFacts(reasons=True, efforts=("low", "medium", "high"))
QWEN = GroqFacts(reasons=True, efforts=("none", "default"), vision=True, json_schema=False, max_output=16384)
COMPOUND = GroqFacts(tools=False, json_schema=False, max_output=8192, tpm=70_000)

TOP_LEVEL = frozenset(
    "messages model max_completion_tokens max_tokens temperature top_p stop seed stream stream_options tools tool_choice "
    "parallel_tool_calls response_format reasoning_effort reasoning_format include_reasoning service_tier user "
    "disable_tool_validation documents citation_options search_settings compound_custom n".split()
)
# Typed by the SDK, and "not currently supported" or "not supported by any model"; whether a value is refused is not
# confirmed: a strict simulator refuses.
UNSUPPORTED = frozenset("logprobs top_logprobs logit_bias frequency_penalty presence_penalty metadata store".split())
MESSAGE_FIELDS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "reasoning"},
    "tool": {"role", "content", "tool_call_id"},
}
REQUESTS_PER_DAY = 1000


class Groq(OpenAIService):
    name = "groq"
    prefix = "/groq"
    base = "/openai/v1"
    test_key = "gsk_test"
    catalog = {
        "openai/gpt-oss-120b": GPT_OSS,
        "openai/gpt-oss-20b": GPT_OSS,
        "openai/gpt-oss-safeguard-20b": GPT_OSS,
        "qwen/qwen3.6-27b": QWEN,
        "qwen/qwen3.8-27b": GroqFacts(
            reasons=True, efforts=("none", "default", "low", "medium", "high"), vision=True, json_schema=False, max_output=16384
        ),
        "groq/compound": COMPOUND,
        "groq/compound-mini": COMPOUND,
        "llama-3.3-70b-versatile": GroqFacts(json_schema=False, max_output=32768, retired=True),
        "llama-3.1-8b-instant": GroqFacts(json_schema=False, max_output=131072, retired=True),
    }

    def __init__(self) -> None:
        super().__init__()
        self.served = 0

    def env(self, root: str) -> dict[str, str]:
        return {"GROQ_API_KEY": self.test_key, "GROQ_BASE_URL": self.base_url(root)}

    # --- refusals --------------------------------------------------------------------------------------------------

    def check_key(self, request: Request) -> None:
        if not self.is_good_key(request.key):
            raise Refused(errors.groq_bad_key())

    def error(self, status: int, message: str, code: str | None = None, param: str | None = None) -> Reply:
        return errors.groq(status, message, code=code)

    def unknown_model(self, model: str) -> Reply:
        return errors.groq_model_gone(model)

    def check_chat(self, body: Json, facts: Facts) -> None:
        for name in unknown_names(body, TOP_LEVEL):
            if name in UNSUPPORTED:
                self.refuse(f"'{name}' : property '{name}' is unsupported")
            self.refuse(f"property '{name}' is unsupported")
        if body.get("n") not in (None, 1):
            self.refuse("'n' : number must be at most 1")
        self.check_ranges(body, facts)
        for position, message in enumerate(body["messages"]):
            self.check_message(position, message, facts)
        if image_urls_of(body) and not facts.vision:
            self.refuse("messages must be strings: this model does not support image content")
        if body.get("tools") and not facts.tools:
            self.refuse(f"`tool calling` is not supported with this model: {body['model']}")
        self.check_format(body, facts)
        self.check_reasoning(body, facts)
        self.check_size(body, facts)

    def check_ranges(self, body: Json, facts: Facts) -> None:
        if not 0 <= (body.get("temperature") or 0) <= 2:
            self.refuse("'temperature' : number must be at most 2")
        if isinstance(body.get("stop"), list) and len(body["stop"]) > 4:
            self.refuse("'stop' : maximum number of items is 4")
        if len(body.get("tools") or []) > 128:
            self.refuse("'tools' : maximum number of items is 128")
        for name in ("max_completion_tokens", "max_tokens"):
            if (body.get(name) or 1) > facts.max_output:
                self.refuse(
                    f"`{name}` must be less than or equal to `{facts.max_output}`, "
                    f"the maximum value for `{name}` is less than the `context_window` for this model"
                )

    def check_message(self, position: int, message: Json, facts: Facts) -> None:
        role = message.get("role")
        allowed = MESSAGE_FIELDS.get(str(role))
        if allowed is None:
            self.refuse(f"'messages.{position}' : discriminator property 'role' has invalid value")
        if not facts.reasons:
            allowed = allowed - {"reasoning"}  # seen in April 2025: history with `reasoning` is for reasoning models
        place = f"'messages.{position}'"
        for name in unknown_names(message, allowed):
            self.refuse(
                f"{place} : for 'role:{role}' the following must be satisfied[({place} : property '{name}' is unsupported)]"
            )
        for part in message["content"] if isinstance(message.get("content"), list) else []:
            for name in unknown_names(part, {"type", "text", "image_url"}):
                self.refuse(f"{place} : for 'role:{role}' the following must be satisfied[(property '{name}' is unsupported)]")

    def check_format(self, body: Json, facts: Facts) -> None:
        form = (body.get("response_format") or {}).get("type", "text")
        if form == "json_schema" and not facts.json_schema:
            self.refuse("'response_format.type' : value is not one of the allowed values ['text','json_object']")

    def check_reasoning(self, body: Json, facts: Facts) -> None:
        effort, shape = body.get("reasoning_effort"), body.get("reasoning_format")
        given = [name for name in ("reasoning_effort", "reasoning_format", "include_reasoning") if body.get(name) is not None]
        if given and not facts.reasons:
            self.refuse(f"`{given[0]}` is not supported with this model")
        if effort is not None and effort not in facts.efforts:
            allowed = " or ".join(f"`{name}`" for name in facts.efforts)
            self.refuse(f"`reasoning_effort` must be one of {allowed}")
        if shape is not None and body.get("include_reasoning") is not None:
            self.refuse("`include_reasoning` and `reasoning_format` cannot both be set")
        has_form = (body.get("response_format") or {}).get("type", "text") != "text"
        if shape == "raw" and (body.get("tools") or has_form):
            self.refuse("`reasoning_format` must be `parsed` or `hidden` when using JSON mode or tools")

    def check_size(self, body: Json, facts: Facts) -> None:
        tpm = tpm_of(facts)
        characters = sum(len(text_of(message.get("content"))) for message in body["messages"])
        requested = characters // 4 + (self.max_tokens(body) or 0)
        if requested > tpm:
            raise Refused(errors.groq_too_large(body["model"], tpm, requested))

    def refuse(self, message: str) -> NoReturn:
        raise Refused(errors.groq(400, message))

    # --- answers ---------------------------------------------------------------------------------------------------

    def headers(self, turn: Turn | None, facts: Facts) -> dict[str, str]:
        self.served += 1
        used = turn.prompt_tokens + turn.completion_tokens if turn else 0
        tpm = tpm_of(facts)
        return {
            "x-ratelimit-limit-requests": str(REQUESTS_PER_DAY),
            "x-ratelimit-limit-tokens": str(tpm),
            "x-ratelimit-remaining-requests": str(max(1, REQUESTS_PER_DAY - self.served)),
            "x-ratelimit-remaining-tokens": str(max(1, tpm - used)),
            "x-ratelimit-reset-requests": "2m59.56s",
            "x-ratelimit-reset-tokens": f"{used * 60 / tpm:.3g}s",
            "x-request-id": f"req_01k{next(self.numbers)}",
            "x-groq-region": "fra",
        }

    def thinks(self, body: Json, facts: Facts) -> bool:
        hidden = body.get("include_reasoning") is False or body.get("reasoning_format") == "hidden"
        return super().thinks(body, facts) and not hidden

    def new_call_id(self) -> str:
        return f"fc_{next(self.numbers):08d}-0000-4000-8000-000000000000"

    def head(self, body: Json) -> Json:
        return {**super().head(body), "system_fingerprint": "fp_699d877a58"}

    def thought(self, text: str) -> Json:
        return {"reasoning": text} if text else {}

    def message(self, turn: Turn) -> Json:
        message = super().message(turn)
        if turn.call:
            del message["content"]
        return message

    def usage(self, turn: Turn) -> Json:
        usage = {"queue_time": 0.005, "prompt_time": 0.004, "completion_time": 0.07, "total_time": 0.074, **super().usage(turn)}
        if turn.thoughts:
            usage["completion_tokens_details"] = {"reasoning_tokens": turn.thought_tokens}
        return usage

    def completion(self, turn: Turn, body: Json) -> Json:
        marks = {"usage_breakdown": None, "service_tier": "on_demand", "x_groq": {"id": "req_01k", "seed": 47864733}}
        completion = {**super().completion(turn, body), **marks}
        if self.is_raw(body) and turn.thoughts:
            message = completion["choices"][0]["message"]
            message["content"] = f"<think>\n{message.pop('reasoning')}\n</think>\n\n{message.get('content') or ''}"
        return completion

    def is_raw(self, body: Json) -> bool:
        """Whether thoughts stand inside the content: the default of the qwen family without tools and JSON mode."""
        form = (body.get("response_format") or {}).get("type", "text")
        free = not body.get("tools") and form == "text" and body.get("include_reasoning") is None
        default = "raw" if "qwen" in body["model"] and free else "parsed"
        return bool(body.get("reasoning_format", default) == "raw")

    def chunks(self, turn: Turn, body: Json) -> Iterator[Json]:
        if self.is_raw(body) and turn.thoughts:
            thought = f"<think>\n{turn.thoughts}\n</think>\n\n"
            turn = Turn(thought + turn.text, turn.prompt_tokens, call=turn.call, is_cut=turn.is_cut)
        for number, chunk in enumerate(super().chunks(turn, body)):
            delta = chunk["choices"][0]["delta"]
            if "reasoning" in delta:
                delta["channel"] = "analysis"
            yield {**chunk, "x_groq": {"id": "req_01k", "seed": 12}} if number == 0 else chunk

    def call_deltas(self, turn: Turn) -> Iterator[Json]:
        yield {"tool_calls": [{**self.call(turn), "index": 0}]}

    def ending(self, head: Json, turn: Turn, body: Json) -> Iterator[Json]:
        usage = self.usage(turn)
        yield {**self.chunk(head, {}, turn.finish_reason), "x_groq": {"id": "req_01k", "usage": usage}, "usage": usage}

    def model_entry(self, model: str) -> Json:
        facts = self.models[model]
        return {
            "id": model,
            "object": "model",
            "created": CREATED,
            "owned_by": "Groq",
            "active": True,
            "context_window": facts.context,
            "public_apps": None,
            "max_completion_tokens": facts.max_output,
        }


def tpm_of(facts: Facts) -> int:
    assert isinstance(facts, GroqFacts)
    return facts.tpm
