"""OpenRouter: the tolerant one. https://openrouter.ai/docs/api-reference/overview, .../errors, .../limits (2026-11)

Quirks: drops silently what a backend cannot do; comments before the first event; every delta repeats the role and an
empty content; usage always comes, in a chunk of its own after the finish reason, with a choice whose finish reason is
null; thoughts in `reasoning` and `reasoning_details`; errors may sit in a 200; the model list needs no key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.e2e.simulator import errors
from tests.e2e.simulator.behaviours import Answer, Reply, Stream, reply
from tests.e2e.simulator.mind import Prompt, Turn, count_tokens, rank_documents
from tests.e2e.simulator.openai_api import Json, OpenAIService
from tests.e2e.simulator.service import CREATED, Facts, Refused
from tests.e2e.simulator.wire import Request

FREE_PER_DAY = 50
MANDATORY = ("openai/gpt-oss-20b:free",)  # cannot do without thinking


class OpenRouter(OpenAIService):
    name = "openrouter"
    prefix = "/openrouter"
    base = "/api/v1"
    test_key = "sk-or-v1-test"
    catalog = {
        "openrouter/free": Facts(reasons=True, vision=True, context=200000),
        "openai/gpt-oss-20b:free": Facts(reasons=True, max_output=32768),
        "nvidia/nemotron-3-super-120b-a12b:free": Facts(reasons=True, context=262144),
        "nvidia/nemotron-nano-12b-v2-vl:free": Facts(reasons=True, vision=True, context=128000),
        "google/gemma-4-31b-it:free": Facts(reasons=True, vision=True, context=262144, max_output=32768),
        "google/gemma-4-26b-a4b-it:free": Facts(reasons=True, vision=True, context=262144, max_output=32768),
        "cohere/north-mini-code:free": Facts(context=256000),
        "meta-llama/llama-3.3-70b-instruct:free": Facts(json_schema=False, context=65536),
        "openai/text-embedding-3-small": Facts("embedding", dims=(1536,)),
        "cohere/rerank-v3.5": Facts("rerank"),
    }

    def __init__(self) -> None:
        super().__init__()
        self.served = 0

    def env(self, root: str) -> dict[str, str]:
        return {"OPENROUTER_API_KEY": self.test_key, "OPENROUTER_BASE_URL": self.base_url(root)}

    def respond(self, request: Request) -> Answer:
        path = request.rest.removeprefix(self.base)
        if request.method == "GET" and path == "/models":
            return reply(200, self.models_list())  # public
        if request.method == "GET" and path == "/embeddings/models":
            return reply(200, self.models_list("embedding"))
        if request.method == "GET" and path == "/key":
            self.check_key(request)
            return reply(200, {"data": self.key_entry()})
        if request.method == "POST" and path == "/rerank":
            self.check_key(request)
            return self.rerank(self.read_object(request))
        return super().respond(request)

    # --- refusals --------------------------------------------------------------------------------------------------

    def check_key(self, request: Request) -> None:
        if not request.key:
            raise Refused(errors.openrouter_no_key())
        if not self.is_good_key(request.key):
            raise Refused(errors.openrouter_bad_key())

    def error(self, status: int, message: str, code: str | None = None, param: str | None = None) -> Reply:
        return errors.openrouter(status, message)

    def unknown_model(self, model: str) -> Reply:
        return errors.openrouter_no_endpoints(model)

    def check_chat(self, body: Json, facts: Facts) -> None:
        reasoning = body.get("reasoning") or {}
        effort = reasoning.get("effort")
        if effort and reasoning.get("max_tokens"):
            raise Refused(self.error(400, 'Only one of "reasoning.effort" and "reasoning.max_tokens" can be specified'))
        if effort and body.get("reasoning_effort") not in (None, effort):
            raise Refused(self.error(400, '"reasoning_effort" and "reasoning.effort" must be the same'))
        if "none" in (effort, body.get("reasoning_effort")) and body["model"] in MANDATORY:
            raise Refused(self.error(400, "Reasoning is mandatory for this endpoint and cannot be disabled."))

    def check_context(self, body: Json, facts: Facts, prompt_tokens: int) -> None:
        wanted = self.max_tokens(body) or 1
        if prompt_tokens + wanted > facts.context:
            raise Refused(errors.openrouter_context(facts.context, prompt_tokens, wanted))

    def prompt(self, body: Json, facts: Facts) -> Prompt:
        """What the backend lacks it drops silently, unless it is required: then there is no such backend."""
        unknown = lacked(body, facts)
        if unknown and (body.get("provider") or {}).get("require_parameters"):
            raise Refused(self.unknown_model(body["model"]))
        return super().prompt({name: value for name, value in body.items() if name not in unknown}, facts)

    # --- answers ---------------------------------------------------------------------------------------------------

    def chat(self, body: Json) -> Answer:
        names = [body.get("model"), *(body.get("models") or [])]
        live = [name for name in names if name in self.models and not self.models[name].retired]
        answer = super().chat({**body, "model": live[0] if live else names[0]})
        self.served += 1
        return answer

    def thinks(self, body: Json, facts: Facts) -> bool:
        reasoning = body.get("reasoning") or {}
        off = reasoning.get("effort") == "none" or reasoning.get("exclude") or reasoning.get("enabled") is False
        return super().thinks(body, facts) and not off

    def head(self, body: Json) -> Json:
        number = f"gen-{CREATED}-{next(self.numbers)}"
        return {"id": number, "provider": "Google", "model": body["model"], "created": CREATED}

    def thought(self, text: str) -> Json:
        if not text:
            return {}
        return {"reasoning": text, "reasoning_details": [{"type": "reasoning.text", "text": text, "format": None, "index": 0}]}

    def message(self, turn: Turn) -> Json:
        message = {**super().message(turn), "refusal": None}
        if turn.call:
            message["tool_calls"] = [{**call, "index": 0} for call in message["tool_calls"]]
        return message

    def usage(self, turn: Turn) -> Json:
        return {
            **super().usage(turn),
            "cost": 0,
            "is_byok": False,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "cost_details": {"upstream_inference_cost": None},
            "completion_tokens_details": {"reasoning_tokens": turn.thought_tokens},
        }

    def completion(self, turn: Turn, body: Json) -> Json:
        completion = super().completion(turn, body)
        completion["choices"][0]["native_finish_reason"] = turn.finish_reason.upper()
        return completion

    def chat_stream(self, turn: Turn, body: Json, facts: Facts) -> Stream:
        comments = ("OPENROUTER PROCESSING", "OPENROUTER PROCESSING")
        return Stream(200, events=tuple(self.chunks(turn, body)), comments=comments)

    def chunk(self, head: Json, delta: Json, finish_reason: str | None = None) -> Json:
        chunk = super().chunk(head, {"role": "assistant", "content": "", **delta}, finish_reason)
        chunk["choices"][0]["native_finish_reason"] = finish_reason and finish_reason.upper()
        return chunk

    def ending(self, head: Json, turn: Turn, body: Json) -> Iterator[Json]:
        yield self.chunk(head, {}, turn.finish_reason)
        yield {**self.chunk(head, {}), "usage": self.usage(turn)}

    def rerank(self, body: Json) -> Answer:
        self.facts_of(body.get("model"), "rerank")
        documents = [item if isinstance(item, str) else item["text"] for item in body["documents"]]
        ranked = rank_documents(body["query"], documents)[: body.get("top_n")]
        results = [{"index": index, "relevance_score": score, "document": {"text": documents[index]}} for index, score in ranked]
        usage = {"search_units": 1, "total_tokens": sum(count_tokens(text) for text in documents), "cost": 0}
        return reply(200, {"id": "gen-rerank", "model": body["model"], "provider": "Cohere", "results": results, "usage": usage})

    # --- what can be read ------------------------------------------------------------------------------------------

    def models_list(self, kind: str = "chat") -> Json:
        live = {name: facts for name, facts in self.models.items() if not facts.retired and facts.kind == kind}
        return {"data": [self.listed(name, facts) for name, facts in live.items()]}

    def listed(self, name: str, facts: Facts) -> Json:
        inputs = ["text", "image"] if facts.vision else ["text"]
        price = "0" if name.endswith(":free") or name == "openrouter/free" else "0.00000002"
        parameters = ["max_tokens", "response_format", "seed", "temperature", "tools", "tool_choice", "top_p"]
        return {
            "id": name,
            "canonical_slug": name.removesuffix(":free"),
            "name": name,
            "created": 1770000000,
            "context_length": facts.context,
            "architecture": {
                "input_modalities": inputs,
                "output_modalities": ["embeddings" if facts.kind == "embedding" else "text"],
                "tokenizer": "Other",
            },
            "pricing": {"prompt": price, "completion": price, "request": "0", "image": "0"},
            "top_provider": {"context_length": facts.context, "max_completion_tokens": facts.max_output, "is_moderated": False},
            "per_request_limits": None,
            "supported_parameters": parameters + (["reasoning"] if facts.reasons else []),
            "expiration_date": None,
        }

    def key_entry(self) -> dict[str, Any]:
        requests = {"limit": FREE_PER_DAY, "remaining": max(0, FREE_PER_DAY - self.served), "used": self.served}
        return {
            "label": "sk-or-v1-tes...",
            "limit": None,
            "limit_remaining": None,
            "usage": 0,
            "is_free_tier": True,
            "free_model_daily_requests": requests,
            "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
        }


def lacked(body: Json, facts: Facts) -> list[str]:
    """Return the parameters of a request that no backend of the model has."""
    form = (body.get("response_format") or {}).get("type", "text")
    has = {
        "response_format": form == "text" or (facts.json_schema if form == "json_schema" else facts.json_mode),
        "tools": facts.tools,
        "reasoning": facts.reasons,
    }
    return [name for name, known in has.items() if body.get(name) and not known]
