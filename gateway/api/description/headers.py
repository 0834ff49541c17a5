"""The headers that a request may carry, and those of answers."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.api.description.fields import pattern_of
from gateway.api.description.shapes import NUMBER, TEXT, WHOLE, Shape, about, words
from gateway.api.exchange import LONGEST_MAX_WAIT_S
from gateway.api.schemas.envelope import EnvelopeSchema

PROVIDER_NAME: Shape = {"type": "string", "pattern": "^[!-~]+$"}

# --- of requests -------------------------------------------------------------------------------------------------------

REQUEST_HEADERS: Mapping[str, Shape] = {
    "x-gateway-project-id": about(
        "A tag for analytics; `project_id` in the body goes before it.",
        {**TEXT, **pattern_of(EnvelopeSchema().fields["project_id"])},
    ),
    "x-gateway-force-provider": about("Ask this provider alone, such as `groq`.", PROVIDER_NAME),
    "x-gateway-force-model": about("Ask for this model, whatever the body names.", PROVIDER_NAME),
    "x-gateway-max-wait": about(
        f"How many seconds to wait for quota where none is left; more than {LONGEST_MAX_WAIT_S:.0f} count as that.",
        {**NUMBER, "minimum": 0},
    ),
    "x-gateway-dry-run": about("`1`: answer who would be asked, as `/v1/routing/status` does, and ask nobody.", TEXT),
    "x-gateway-rescue": about("`0`: a stream that breaks is not taken up by another provider.", TEXT),
    "x-stainless-read-timeout": about(
        "The client's own limit in seconds, as OpenAI's and Anthropic's packages send it: an answer comes, or an error, before.",
        NUMBER,
    ),
    "x-stainless-timeout": about("The same, where the other is absent.", NUMBER),
    "anthropic-version": about("Send it for Anthropic's form of lists and errors.", TEXT),
}

ROUTING = ("x-gateway-project-id", "x-gateway-force-provider", "x-gateway-force-model", "x-gateway-max-wait", "x-gateway-dry-run")
SDK_LIMITS = ("x-stainless-read-timeout", "x-stainless-timeout")
OF_CALLS = (*ROUTING, *SDK_LIMITS)
OF_CHATS = (*ROUTING, "x-gateway-rescue", *SDK_LIMITS)

# --- of answers --------------------------------------------------------------------------------------------------------

ANSWER_HEADERS: Mapping[str, Shape] = {
    "x-request-id": about("The id under which the gateway logs this request.", TEXT),
    "x-gateway-request-id": about("The same as `x-request-id`.", TEXT),
    "request-id": about("The same, for clients of Anthropic's API.", TEXT),
    "x-gateway-provider": about("Who answered, or was asked last.", TEXT),
    "x-gateway-model": about("The model that answered, or was asked last.", TEXT),
    "x-gateway-attempts": about("How many calls were made.", WHOLE),
    "x-gateway-trail": about("Each attempt and how it ended: `groq/llama-3.3-70b-versatile:429 cerebras/gpt-oss-120b:ok`.", TEXT),
    "x-gateway-reasoning-effort": about("The effort that was passed on; `auto`: the choice was the model's.", TEXT),
    "x-gateway-params-dropped": about("Parameters of the request that this provider does not take.", TEXT),
    "x-gateway-embedding-space": about(
        "Model and size of the vectors, `voyage-3@1024`: compare only vectors of one space.", TEXT
    ),
    "X-RateLimit-Limit": about("Requests that this gateway allows the key or address in a period; only under a limit.", WHOLE),
    "X-RateLimit-Remaining": about("How many of them are left.", WHOLE),
    "X-RateLimit-Reset": about("When there are more, in Unix seconds.", WHOLE),
    "Retry-After": about("After how many whole seconds to ask again.", {**WHOLE, "minimum": 1}),
    "x-should-retry": about("Whether to send the same again; OpenAI's and Anthropic's packages obey it.", words("true", "false")),
    "Allow": about("The methods that work.", TEXT),
}

IDS = ("x-request-id", "x-gateway-request-id")
LIMITS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
SERVED = (
    "x-gateway-provider",
    "x-gateway-model",
    "x-gateway-attempts",
    "x-gateway-trail",
    "x-gateway-reasoning-effort",
)
SERVED_CHAT = (*SERVED, "x-gateway-params-dropped")
SERVED_VECTORS = (*SERVED_CHAT, "x-gateway-embedding-space")
