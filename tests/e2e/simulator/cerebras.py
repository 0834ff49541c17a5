"""Cerebras. https://inference-docs.cerebras.ai/api-reference/chat-completions, .../support/{error,rate-limits} (2026-11)

Quirks: flat errors; unknown fields are refused; images as data URLs only; no JSON mode in a stream; strict schemas need
`additionalProperties: false` on every object; quota headers end in -day and -minute, resets are seconds with a
fraction; the last chunk has finish reason, usage and times together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from tests.e2e.simulator import errors
from tests.e2e.simulator.behaviours import Answer, Reply, reply
from tests.e2e.simulator.mind import Turn
from tests.e2e.simulator.openai_api import Json, OpenAIService, image_urls_of
from tests.e2e.simulator.service import CREATED, Facts, Refused, unknown_names
from tests.e2e.simulator.wire import Request

# The compatibility page (older) refuses penalties, logit_bias and service_tier, the SDK of 2026 types them: a strict
# simulator refuses.
TOP_LEVEL = frozenset(
    "messages model max_completion_tokens max_tokens temperature top_p stop seed stream stream_options n logprobs top_logprobs "
    "tools tool_choice parallel_tool_calls response_format prediction prompt_cache_key user reasoning_effort reasoning_format "
    "clear_thinking disable_reasoning".split()
)
MESSAGE_FIELDS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "tool_calls", "reasoning"},
    "tool": {"role", "content", "name", "tool_call_id"},
}
REQUESTS_PER_DAY = 14400
TOKENS_PER_MINUTE = 60000


class Cerebras(OpenAIService):
    name = "cerebras"
    prefix = "/cerebras"
    base = "/v1"
    test_key = "csk-test"
    catalog = {
        "gpt-oss-120b": Facts(reasons=True, efforts=("low", "medium", "high"), context=65536, max_output=40960),
        "qwen-3.8-27b": Facts(
            reasons=True, efforts=("none", "low", "medium", "high"), vision=True, context=65536, max_output=32768
        ),
        "zai-glm-4.7": Facts(reasons=True, efforts=("none",), context=65536, max_output=40960, retired=True),
        "llama-3.3-70b": Facts(context=65536, retired=True),
    }

    def __init__(self) -> None:
        super().__init__()
        self.served = 0

    def env(self, root: str) -> dict[str, str]:
        return {"CEREBRAS_API_KEY": self.test_key, "CEREBRAS_BASE_URL": self.base_url(root)}

    def respond(self, request: Request) -> Answer:
        if request.method == "GET" and request.rest == "/public/v1/models":
            return reply(200, {"object": "list", "data": [self.public_entry(name) for name in self.models]})
        return super().respond(request)

    # --- refusals --------------------------------------------------------------------------------------------------

    def check_key(self, request: Request) -> None:
        if not self.is_good_key(request.key):
            raise Refused(errors.cerebras_bad_key())

    def error(self, status: int, message: str, code: str | None = None, param: str | None = None) -> Reply:
        return errors.cerebras(status, message, "invalid_request_error", code or "invalid_request_error", param)

    def unknown_model(self, model: str) -> Reply:
        return errors.cerebras_model_gone(model)

    def check_chat(self, body: Json, facts: Facts) -> None:
        for name in unknown_names(body, TOP_LEVEL):
            self.refuse(f"body.{name}: property '{name}' is unsupported", name)
        for position, message in enumerate(body["messages"]):
            self.check_message(position, message, body["model"])
        images = image_urls_of(body)
        if images and not facts.vision:
            self.refuse("This model does not support image input", "messages")
        if any(not url.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for url in images):
            self.refuse("Image URLs are not supported: use a base64 data URL of a png or jpeg", "messages")
        if isinstance(body.get("stop"), list) and len(body["stop"]) > 4:
            self.refuse("stop: at most 4 sequences", "stop")
        self.check_format(body)
        effort = body.get("reasoning_effort")
        if effort is not None and effort not in facts.efforts:
            self.refuse(f"reasoning_effort '{effort}' is not supported for this model", "reasoning_effort")

    def check_message(self, position: int, message: Json, model: str) -> None:
        allowed = MESSAGE_FIELDS.get(str(message.get("role")))
        if allowed is None or (message["role"] == "developer" and "gpt-oss" not in model):
            self.refuse(f"messages.{position}.role: '{message.get('role')}' is not supported", "messages")
        for name in unknown_names(message, allowed):
            self.refuse(f"messages.{position}.{name}: property '{name}' is unsupported", "messages")

    def check_format(self, body: Json) -> None:
        form = body.get("response_format") or {}
        if form.get("type") == "json_object" and body.get("stream"):
            self.refuse("response_format json_object is not supported with stream", "response_format")
        wrapper = form.get("json_schema") or {}
        if wrapper.get("strict") and not is_closed(wrapper.get("schema")):
            self.refuse("'additionalProperties' is required to be set to false on every object in strict mode", "response_format")

    def refuse(self, message: str, param: str) -> NoReturn:
        raise Refused(errors.cerebras_invalid(message, param))

    # --- answers ---------------------------------------------------------------------------------------------------

    def headers(self, turn: Turn | None, facts: Facts) -> dict[str, str]:
        self.served += 1
        used = turn.prompt_tokens + turn.completion_tokens if turn else 0
        return {
            "x-ratelimit-limit-requests-day": str(REQUESTS_PER_DAY),
            "x-ratelimit-remaining-requests-day": str(max(1, REQUESTS_PER_DAY - self.served)),
            "x-ratelimit-reset-requests-day": "33011.382867",
            "x-ratelimit-limit-tokens-minute": str(TOKENS_PER_MINUTE),
            "x-ratelimit-remaining-tokens-minute": str(max(1, TOKENS_PER_MINUTE - used)),
            "x-ratelimit-reset-tokens-minute": "11.382867",
        }

    def thinks(self, body: Json, facts: Facts) -> bool:
        return super().thinks(body, facts) and body.get("reasoning_format") not in ("hidden", "none")

    def new_call_id(self) -> str:
        return f"b8847{next(self.numbers):04x}"

    def head(self, body: Json) -> Json:
        return {**super().head(body), "system_fingerprint": "fp_4635"}

    def thought(self, text: str) -> Json:
        return {"reasoning": text} if text else {}

    def message(self, turn: Turn) -> Json:
        message = super().message(turn)
        if turn.call:
            del message["content"]
        return message

    def usage(self, turn: Turn) -> Json:
        details = {"accepted_prediction_tokens": 0, "reasoning_tokens": turn.thought_tokens, "rejected_prediction_tokens": 0}
        return {**super().usage(turn), "completion_tokens_details": details, "prompt_tokens_details": {"cached_tokens": 0}}

    def completion(self, turn: Turn, body: Json) -> Json:
        completion = {**super().completion(turn, body), "time_info": self.time_info()}
        del completion["choices"][0]["logprobs"]
        return completion

    def time_info(self) -> dict[str, Any]:
        times = {"queue_time": 0.004, "prompt_time": 0.002, "completion_time": 0.017, "total_time": 0.026}
        return {**times, "created": CREATED + 0.5}

    def chunk(self, head: Json, delta: Json, finish_reason: str | None = None) -> Json:
        chunk = super().chunk(head, delta, finish_reason)
        del chunk["choices"][0]["logprobs"]
        return chunk

    def ending(self, head: Json, turn: Turn, body: Json) -> Iterator[Json]:
        yield {**self.chunk(head, {}, turn.finish_reason), "usage": self.usage(turn), "time_info": self.time_info()}

    def public_entry(self, model: str) -> Json:
        facts = self.models[model]
        limits = {"max_context_length": facts.context, "max_completion_tokens": facts.max_output, "requests_per_minute": 5}
        return {**self.model_entry(model), "limits": limits, "deprecated": facts.retired, "preview": False}


def is_closed(schema: Any) -> bool:
    """Return whether every object of a schema refuses further properties."""
    if isinstance(schema, list):
        return all(map(is_closed, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return False
    return all(is_closed(value) for value in schema.values())
