"""The documented failures of each provider, as answers (and, where a stream can fail, as events).

Sources: the providers' error pages and exchanges that users published, as of 2026-11; `reply` shapes them:
groq wraps in `error`, gemini too (its compatible API in a list of one), workers_ai has an envelope, openrouter repeats
the status as `code`, cerebras is flat, voyage_ai has `detail` only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any

from tests.e2e.simulator.behaviours import Reply, StreamEvent, reply

# --- groq: https://console.groq.com/docs/errors --------------------------------------------------------------------

GROQ_WINDOWS = {
    "rpm": ("requests", "requests per minute (RPM)"),
    "rpd": ("requests", "requests per day (RPD)"),
    "tpm": ("tokens", "tokens per minute (TPM)"),
    "tpd": ("tokens", "tokens per day (TPD)"),
}


def groq(
    status: int,
    message: str,
    type: str = "invalid_request_error",
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Reply:
    error = {"message": message, "type": type, **({"code": code} if code else {}), **more}
    return reply(status, {"error": error}, headers)


def groq_rate_limit(
    model: str = "openai/gpt-oss-120b",
    window: str = "tpm",
    limit: int = 8000,
    used: int = 7900,
    requested: int = 400,
    wait: str = "2.25s",
) -> Reply:
    """429 of one window (rpm, rpd, tpm, tpd); `wait` is a Go duration, `retry-after` the whole seconds of it.

    The quota headers are those of every answer: requests of the day, tokens of the minute, whichever window was met.
    """
    kind, words = GROQ_WINDOWS[window]
    message = (
        f"Rate limit reached for model `{model}` in organization `org_01x` service tier `on_demand` on {words}: "
        f"Limit {limit}, Used {used}, Requested {requested}. Please try again in {wait}. "
        "Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing"
    )
    headers = {"retry-after": str(ceil(go_seconds(wait)))}
    for name, counted, usual in (("requests", "rpd", (1000, 987)), ("tokens", "tpm", (8000, 7421))):
        most, left = (limit, max(0, limit - used)) if counted == window else usual
        reset = wait if counted == window else "2m59.56s" if name == "requests" else "4.34s"
        headers |= {
            f"x-ratelimit-limit-{name}": str(most),
            f"x-ratelimit-remaining-{name}": str(left),
            f"x-ratelimit-reset-{name}": reset,
        }
    return groq(429, message, kind, "rate_limit_exceeded", headers)


def go_seconds(duration: str) -> float:
    """Return the seconds of a Go duration such as 9m38.016s."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([0-9.]+)(ms|s|m|h)", duration))


def groq_too_large(model: str = "openai/gpt-oss-20b", limit: int = 8000, requested: int = 12328) -> Reply:
    """413: this one request is larger than a minute's tokens."""
    message = (
        f"Request too large for model `{model}` in organization `org_01x` service tier `on_demand` on tokens per minute (TPM): "
        f"Limit {limit}, Requested {requested}, please reduce your message size and try again. "
        "Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing"
    )
    return groq(413, message, "tokens", "rate_limit_exceeded", param=None)


def groq_bad_key() -> Reply:
    return groq(401, "Invalid API Key", code="invalid_api_key")


def groq_model_gone(model: str) -> Reply:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return groq(404, message, code="model_not_found")


def groq_decommissioned(model: str) -> Reply:
    message = f"The model `{model}` has been decommissioned and is no longer supported."
    return groq(400, message, code="model_decommissioned")


def groq_tool_use_failed() -> Reply:
    message = "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details."
    return groq(400, message, code="tool_use_failed", failed_generation='<function=get_x{"a": 1}</function>')


def groq_json_validate_failed() -> Reply:
    message = "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details."
    return groq(400, message, code="json_validate_failed", failed_generation="Sure! Here is")


def groq_context_length() -> Reply:
    message = "Please reduce the length of the messages or completion."
    return groq(400, message, code="context_length_exceeded", param="messages")


def groq_flex_capacity() -> Reply:
    return groq(498, "Flex tier capacity exceeded.", "capacity_exceeded", "capacity_exceeded")


def groq_server_error(status: int = 500) -> Reply:
    return groq(status, "Internal Server Error", "internal_server_error")


def groq_stream_error() -> StreamEvent:
    """A named event in mid-stream; the stream ends after it without [DONE]."""
    error = {
        "message": "Tool call validation failed: attempted to call tool 'get_y' which was not in request.tools",
        "type": "invalid_request_error",
        "code": "tool_use_failed",
        "failed_generation": '{"name": "get_y", "arguments": {}}',
        "status_code": 400,
    }
    return "error", {"error": error}


# --- gemini: https://ai.google.dev/gemini-api/docs/troubleshooting -------------------------------------------------

_RPC = "type.googleapis.com/google.rpc."
_FREE = "generativelanguage.googleapis.com/generate_content_free_tier"
GEMINI_QUOTAS = {
    "rpm": (f"{_FREE}_requests", "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
    "rpd": (f"{_FREE}_requests", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
    "tpm": (f"{_FREE}_input_token_count", "GenerateContentInputTokensPerModelPerMinute-FreeTier"),
}


def gemini(status: int, rpc_status: str, message: str, details: list[dict[str, Any]] | None = None) -> Reply:
    error: dict[str, Any] = {"code": status, "message": message, "status": rpc_status}
    if details is not None:
        error["details"] = details
    return reply(status, {"error": error})


def in_list(answer: Reply) -> Reply:
    """Return an error as Gemini's compatible API has it: in a list of one."""
    return replace(answer, body=[answer.body])


def gemini_invalid(message: str) -> Reply:
    return gemini(400, "INVALID_ARGUMENT", message)


def gemini_unknown_name(name: str, place: str = "") -> Reply:
    at = f" at '{place}'" if place else ""
    text = f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.'
    violation = {"description": text, **({"field": place} if place else {})}
    return gemini(400, "INVALID_ARGUMENT", text, [{"@type": _RPC + "BadRequest", "fieldViolations": [violation]}])


def gemini_quota(model: str = "gemini-3.5-flash", window: str = "rpd", limit: int = 20, retry_s: float = 20.22) -> Reply:
    """429 of one window (rpm, rpd, tpm). `retry_s` tells nothing of which: a day's quota has shown 22 s as well as 9 h."""
    metric, quota_id = GEMINI_QUOTAS[window]
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
        "head to: https://ai.google.dev/gemini-api/docs/rate-limits. \n"
        f"* Quota exceeded for metric: {metric}, limit: {limit}, model: {model}\nPlease retry in {retry_s}s."
    )
    violation = {
        "quotaMetric": metric,
        "quotaId": quota_id,
        "quotaDimensions": {"location": "global", "model": model},
        "quotaValue": str(limit),
    }
    link = {"description": "Learn more about Gemini API quotas", "url": "https://ai.google.dev/gemini-api/docs/rate-limits"}
    return gemini(
        429,
        "RESOURCE_EXHAUSTED",
        message,
        [
            {"@type": _RPC + "Help", "links": [link]},
            {"@type": _RPC + "QuotaFailure", "violations": [violation]},
            {"@type": _RPC + "RetryInfo", "retryDelay": f"{int(retry_s)}s"},
        ],
    )


def gemini_not_free(model: str) -> Reply:
    """429 with a limit of 0: the model is not on the free tier."""
    return gemini_quota(model, "rpd", 0)


def gemini_exhausted() -> Reply:
    """429 in its short form, without details."""
    return gemini(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).")


def gemini_bad_key() -> Reply:
    """400, not 401."""
    message = "API key not valid. Please pass a valid API key."
    metadata = {"service": "generativelanguage.googleapis.com"}
    return gemini(
        400,
        "INVALID_ARGUMENT",
        message,
        [
            {"@type": _RPC + "ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com", "metadata": metadata},
            {"@type": _RPC + "LocalizedMessage", "locale": "en-US", "message": message},
        ],
    )


def gemini_missing_key() -> Reply:
    message = "Method doesn't allow unregistered callers (callers without established identity)."
    return gemini(403, "PERMISSION_DENIED", message)


def gemini_location() -> Reply:
    return gemini(400, "FAILED_PRECONDITION", "User location is not supported for the API use.")


def gemini_payment() -> Reply:
    return gemini(402, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.")


def gemini_not_found(model: str, verb: str = "generateContent") -> Reply:
    message = (
        f"models/{model} is not found for API version v1beta, or is not supported for {verb}. "
        "Call ModelService.ListModels to see the list of available models and their supported methods."
    )
    return gemini(404, "NOT_FOUND", message)


def gemini_missing_signature(name: str, position: int) -> Reply:
    message = (
        "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, "
        "and missing thought_signature may lead to degraded model performance. Additional data, function call "
        f"`default_api:{name}` , position {position}. "
        "Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
    )
    return gemini_invalid(message)


def gemini_overloaded() -> Reply:
    return gemini(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")


def gemini_internal() -> Reply:
    return gemini(500, "INTERNAL", "An internal error has occurred. Please retry.")


def gemini_blocked(reason: str = "PROHIBITED_CONTENT") -> Reply:
    """A 200 without candidates: the prompt was blocked."""
    usage = {"promptTokenCount": 9, "totalTokenCount": 9}
    return reply(200, {"promptFeedback": {"blockReason": reason}, "usageMetadata": usage, "modelVersion": "gemini-3.5-flash"})


def gemini_finish(reason: str = "SAFETY") -> Reply:
    """A 200 whose candidate ended with that reason and without any part."""
    candidate = {"content": {"role": "model"}, "finishReason": reason, "index": 0}
    usage = {"promptTokenCount": 9, "totalTokenCount": 9}
    return reply(200, {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-3.5-flash"})


# --- workers_ai: https://developers.cloudflare.com/workers-ai/platform/errors/ --------------------------------------


def workers(status: int, code: int, message: str, *more: tuple[int, str], result: Any = None) -> Reply:
    errors = [{"message": text, "code": number} for number, text in [(code, message), *more]]
    return reply(status, {"errors": errors, "success": False, "result": result, "messages": []})


def workers_bad_input(details: str) -> Reply:
    return workers(400, 5006, f"AiError: Bad input: Error: {details} (9f2c6d1e-0000-4000-8000-000000000000)", result={})


def workers_no_model(model: str) -> Reply:
    return workers(400, 5007, f"AiError: No such model {model} or task", result={})


def workers_no_route(path: str) -> Reply:
    """404 for a wrong account id or an encoded model id: easily mistaken for an unknown model."""
    text = f"Could not route to {path}, perhaps your object identifier is invalid?"
    return workers(404, 7003, text, (7000, "No route for that URI"))


def workers_bad_key(status: int = 401) -> Reply:
    """`status` is 401 or 403: both were seen."""
    return workers(status, 10000, "Authentication error")


def workers_day_quota() -> Reply:
    message = (
        "AiError: you have used up your daily free allocation of 10,000 neurons, please upgrade to Cloudflare's Workers Paid "
        "plan if you would like to continue usage."
    )
    return workers(429, 4006, message, result={})


def workers_account_limited() -> Reply:
    return workers(429, 3036, "AiError: Account limited: you have used up your daily free allocation", result={})


def workers_capacity() -> Reply:
    return workers(429, 3040, "AiError: Capacity temporarily exceeded, please try again.", result={})


def workers_rate_limit() -> Reply:
    return workers(429, 3021, "AiError: Rate limit exceeded", result={})


def workers_paid_only() -> Reply:
    return workers(403, 5035, "AiError: This model requires the Workers Paid plan", result={})


def workers_no_get() -> Reply:
    return workers(405, 7001, "GET not supported for requested URI.")


# --- openrouter: https://openrouter.ai/docs/api-reference/errors ---------------------------------------------------


def openrouter(
    status: int, message: str, metadata: dict[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> Reply:
    error = {"message": message, "code": status, **({"metadata": metadata} if metadata is not None else {})}
    return reply(status, {"error": error, "user_id": "user_2x"}, headers)


def openrouter_free_limit(window: str = "per-day", limit: int = 50, reset_at: float | None = None) -> Reply:
    """429 of the platform, for all free models: `window` is per-day, per-min or per-day-high-balance."""
    reset_ms = str(int((reset_at or time.time() + 60) * 1000))
    headers = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset_ms}
    hint = " Add 10 credits to unlock 1000 free model requests per day" if window == "per-day" else ""
    message = f"Rate limit exceeded: free-models-{window}.{hint}"
    return openrouter(429, message, {"headers": headers, "provider_name": None}, headers)


def openrouter_backend(status: int = 429, raw: Any = None) -> Reply:
    """The backend refused or failed; the account is not limited. `raw` is text, JSON in text, or an object."""
    text = "google/gemma-4-31b-it:free is temporarily rate-limited upstream. Please retry shortly"
    return openrouter(status, "Provider returned error", {"raw": text if raw is None else raw, "provider_name": "Google"})


def openrouter_in_200(code: int = 502) -> Reply:
    """A failure that came too late for the status."""
    return replace(openrouter(code, "Provider returned error", {"provider_name": "Google"}), status=200)


def openrouter_no_key() -> Reply:
    return reply(401, {"error": {"message": "No auth credentials found", "code": 401}})


def openrouter_bad_key() -> Reply:
    return reply(401, {"error": {"message": "User not found.", "code": 401}})


def openrouter_payment() -> Reply:
    message = "Insufficient credits. Add more using https://openrouter.ai/settings/credits"
    return openrouter(402, message)


def openrouter_no_endpoints(model: str) -> Reply:
    return openrouter(404, f"No endpoints found for {model}.")


def openrouter_context(limit: int = 65536, prompt: int = 70000, wanted: int = 1) -> Reply:
    message = (
        f"This endpoint's maximum context length is {limit} tokens. However, you requested about {prompt + wanted} tokens "
        f"({prompt} of text input, {wanted} in the output). Please reduce the length of either one, or use the "
        '"middle-out" transform to compress your prompt automatically.'
    )
    return openrouter(400, message)


def openrouter_moderation() -> Reply:
    metadata = {"reasons": ["violence"], "flagged_input": "...", "provider_name": "Google", "model_slug": "google/gemma-4-31b-it"}
    return openrouter(403, "Your input was flagged", metadata)


def openrouter_stream_error(code: int | str = 502, *, recorded: bool = False) -> StreamEvent:
    """An error chunk after tokens; [DONE] follows. `recorded`: as seen in traffic, else as documented."""
    error = {"code": code, "message": "Token limit reached" if recorded else "Provider disconnected"}
    choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None if recorded else "error"}
    return {
        "id": "gen-sim",
        "object": "chat.completion.chunk",
        "created": 1795300000,
        "model": "x",
        "error": error,
        "choices": [choice],
    }


# --- cerebras: https://inference-docs.cerebras.ai/support/error ----------------------------------------------------


def cerebras(
    status: int, message: str, type: str, code: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> Reply:
    return reply(status, {"message": message, "type": type, "param": param, "code": code}, headers)


def cerebras_invalid(message: str, param: str | None = None, code: str = "invalid_request_error") -> Reply:
    return cerebras(400, message, "invalid_request_error", code, param)


def cerebras_bad_key() -> Reply:
    return cerebras(401, "Wrong API Key", "invalid_request_error", "wrong_api_key", "api_key")


def cerebras_payment() -> Reply:
    message = "Payment required to access this resource. Visit your billing tab."
    return cerebras(402, message, "payment_required_error", "payment_required", "quota")


def cerebras_model_gone(model: str) -> Reply:
    message = f"Model {model} does not exist or you do not have access to it."
    return cerebras(404, message, "not_found_error", "model_not_found", "model")


def cerebras_request_quota(retry_after_s: float = 12) -> Reply:
    message = "Requests per minute limit exceeded - too many requests sent."
    headers = {"retry-after": f"{retry_after_s:g}"}
    return cerebras(429, message, "too_many_requests_error", "request_quota_exceeded", "quota", headers)


def cerebras_token_quota(retry_after_s: float = 12) -> Reply:
    message = "Tokens per minute limit exceeded - too many tokens processed."
    headers = {"retry-after": f"{retry_after_s:g}"}
    return cerebras(429, message, "too_many_tokens_error", "token_quota_exceeded", "quota", headers)


def cerebras_queue() -> Reply:
    """Overload, not quota."""
    message = "We're experiencing high traffic right now! Please try again soon."
    return cerebras(429, message, "too_many_requests_error", "queue_exceeded", "queue")


def cerebras_context_length(length: int = 70000, limit: int = 65536) -> Reply:
    message = f"Please reduce the length of the messages or completion. Current length is {length} while limit is {limit}"
    return cerebras_invalid(message, "messages", "context_length_exceeded")


def cerebras_stream_error(status: int = 500) -> StreamEvent:
    error = {"id": "", "type": "server_error", "message": "Encountered a server error", "param": "", "code": "server_error"}
    return {"error": error, "status_code": status}


# --- voyage_ai: https://docs.voyageai.com/docs/error-codes ---------------------------------------------------------


def voyage(status: int, detail: Any, headers: Mapping[str, str] | None = None) -> Reply:
    return reply(status, {"detail": detail}, headers)


def voyage_bad_key() -> Reply:
    return voyage(401, "Provided API key is invalid.")


def voyage_unknown_model(model: str, supported: list[str]) -> Reply:
    """400, not 404."""
    return voyage(400, f"Model {model} is not supported. Supported models are {supported}.")


def voyage_rate_limit() -> Reply:
    message = (
        "You have not yet added your payment method in the billing page and will have reduced rate limits of 3 RPM and 10K TPM. "
        "To unlock our standard rate limits, please add a payment method in the billing page for the appropriate organization in "
        "the user dashboard (https://dashboard.voyageai.com/). "
        "The free tokens (200M tokens for Voyage series 3) will still apply."
    )
    return voyage(429, message)


def voyage_batch_tokens(model: str = "voyage-3", limit: int = 120000, got: int = 124417) -> Reply:
    message = (
        f"Request to model '{model}' failed. The max allowed tokens per submitted batch is {limit}. Your batch has {got} tokens "
        "after truncation. Please lower the number of tokens in the batch."
    )
    return voyage(400, message)


def voyage_malformed(*problems: str) -> Reply:
    """422, whose `detail` is a list."""
    return voyage(422, [{"loc": ["body"], "msg": problem, "type": "value_error"} for problem in problems])
