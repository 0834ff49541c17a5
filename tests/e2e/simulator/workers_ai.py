"""Cloudflare Workers AI, native and compatible. https://developers.cloudflare.com/workers-ai/ (2026-11)

Quirks: the account stands in the path, and a wrong one is a 404; the model id stands there too, `@` and `/` as they
are; answers and errors come in an envelope; without `max_tokens` an answer ends after 256 tokens; content is a string
on most models, never null. Natively, classic models have a form of their own (`response`, tool arguments as an object
without an id, JSON mode with a bare schema and a parsed answer, streamed with padding `p` and digits as numbers), newer
ones put an OpenAI completion into `result`. The compatible API has no envelope, and ends a tool call with a delta of
nulls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.e2e.simulator import errors
from tests.e2e.simulator.behaviours import Answer, Reply, Stream, reply
from tests.e2e.simulator.mind import Prompt, Turn, rank_documents, think, vector_of
from tests.e2e.simulator.openai_api import Json, OpenAIService, image_urls_of, inputs_of
from tests.e2e.simulator.service import Facts, Refused
from tests.e2e.simulator.wire import Request

ACCOUNT = "0123456789abcdef0123456789abcdef"
DEFAULT_MAX_TOKENS = 256
MAX_TEXTS = 100


@dataclass(frozen=True)
class WorkersFacts(Facts):
    """`classic`: answers in Cloudflare's own form. `thought_field`: where thoughts stand."""

    classic: bool = False
    thought_field: str = "reasoning_content"


class WorkersAI(OpenAIService):
    name = "workers_ai"
    prefix = "/cf"
    base = "/client/v4"
    test_key = "cf_test"
    catalog = {
        "@cf/meta/llama-3.3-70b-instruct-fp8-fast": WorkersFacts(classic=True, context=24000),
        "@cf/meta/llama-3.1-8b-instruct-fp8": WorkersFacts(classic=True, tools=False, context=32000),
        "@cf/meta/llama-3.2-3b-instruct": WorkersFacts(
            classic=True, tools=False, json_mode=False, json_schema=False, context=80000
        ),
        "@cf/meta/llama-4-scout-17b-16e-instruct": WorkersFacts(classic=True, vision=True),
        "@cf/mistralai/mistral-small-3.1-24b-instruct": WorkersFacts(classic=True, vision=True),
        "@cf/openai/gpt-oss-120b": WorkersFacts(reasons=True, thought_field="reasoning"),
        "@cf/openai/gpt-oss-20b": WorkersFacts(reasons=True, thought_field="reasoning"),
        "@cf/google/gemma-4-26b-a4b-it": WorkersFacts(reasons=True, vision=True),
        "@cf/zai-org/glm-4.7-flash": WorkersFacts(reasons=True),
        "@cf/qwen/qwen3-30b-a3b-fp8": WorkersFacts(reasons=True),
        "@cf/nvidia/nemotron-3-120b-a12b": WorkersFacts(reasons=True),
        "@cf/baai/bge-small-en-v1.5": WorkersFacts("embedding", dims=(384,)),
        "@cf/baai/bge-base-en-v1.5": WorkersFacts("embedding", dims=(768,)),
        "@cf/baai/bge-large-en-v1.5": WorkersFacts("embedding", dims=(1024,)),
        "@cf/baai/bge-m3": WorkersFacts("embedding", dims=(1024,)),
        "@cf/baai/bge-reranker-base": WorkersFacts("rerank"),
    }

    def env(self, root: str) -> dict[str, str]:
        base = f"{root}{self.prefix}{self.base}/accounts/{{account_id}}/ai"
        return {"CLOUDFLARE_API_TOKEN": self.test_key, "CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "WORKERS_AI_BASE_URL": base}

    def base_url(self, root: str) -> str:
        return f"{root}{self.prefix}{self.base}/accounts/{ACCOUNT}/ai"

    def model_of(self, request: Request) -> str | None:
        _, run, model = request.path.partition("/ai/run/")
        return model if run else super().model_of(request)

    def respond(self, request: Request) -> Answer:
        """Good accounts are those that begin as `ACCOUNT` does."""
        found = re.fullmatch(r"/client/v4/accounts/([0-9a-f]{32})/ai(/.*)", request.rest)
        if not found or not found[1].startswith(ACCOUNT[:8]) or "%" in request.rest:
            raise Refused(errors.workers_no_route(request.rest))
        if not self.is_good_key(request.key):
            raise Refused(errors.workers_bad_key())
        path = found[2]
        if request.method == "GET":
            return self.search_models(request) if path == "/models/search" else errors.workers_no_get()
        body = self.read_object(request)
        if path == "/v1/chat/completions":
            return self.chat(body)
        if path == "/v1/embeddings":
            return self.embed(body)
        if path.startswith("/run/"):
            return self.run(path.removeprefix("/run/"), body)
        raise Refused(errors.workers_no_route(request.rest))

    # --- refusals --------------------------------------------------------------------------------------------------

    def error(self, status: int, message: str, code: str | None = None, param: str | None = None) -> Reply:
        return errors.workers_bad_input(message)

    def unknown_model(self, model: str) -> Reply:
        return errors.workers_no_model(model)

    def check_chat(self, body: Json, facts: Facts) -> None:
        for position, message in enumerate(body["messages"]):
            content = message.get("content")
            kind = "null" if content is None else type(content).__name__.replace("list", "array")
            if not isinstance(content, str) and not (kind == "array" and facts.vision):
                self.mismatch(f"/messages/{position}/content", f"'{kind}' not in 'string'")
        if any(not url.startswith("data:") for url in image_urls_of(body)):
            self.mismatch("/messages/*/content", "image_url must be a data URL")
        limits = {"temperature": (0, 5), "top_p": (0.001, 1), "top_k": (1, 50), "seed": (1, 9999999999)}
        for name, (low, high) in limits.items():
            if body.get(name) is not None and not low <= body[name] <= high:
                self.mismatch(f"/{name}", f"'{body[name]}' is out of range [{low}, {high}]")
        form = (body.get("response_format") or {}).get("type", "text")
        if form != "text" and not facts.json_mode:
            raise Refused(errors.workers(400, 5025, "AiError: This model doesn't support JSON Schema.", result={}))
        if form != "text" and body.get("stream"):
            raise Refused(errors.workers(400, 5023, "AiError: JSON Mode is not supported with stream", result={}))

    def check_embeddings(self, body: Json, facts: Facts) -> None:
        self.check_texts(inputs_of(body), "/input")

    def check_texts(self, texts: list[str], place: str) -> None:
        if not texts or len(texts) > MAX_TEXTS:
            self.mismatch(place, f"array length must be in range [1, {MAX_TEXTS}]")

    def mismatch(self, place: str, problem: str) -> None:
        text = f"oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', Type mismatch of '{place}', {problem}"
        raise Refused(errors.workers_bad_input(text))

    # --- native ----------------------------------------------------------------------------------------------------

    def run(self, model: str, body: Json) -> Answer:
        facts = self.facts_of(model)
        if facts.kind == "embedding":
            return self.run_embedding(facts, body)
        if facts.kind == "rerank":
            return self.run_rerank(body)
        if isinstance(body.get("prompt"), str):
            body = {**body, "messages": [{"role": "user", "content": body["prompt"]}]}
        if not isinstance(body.get("messages"), list):
            self.mismatch("/messages", "'undefined' not in 'array'")
        self.check_chat(body, facts)
        turn = think(self.native_prompt(body, facts))
        assert isinstance(facts, WorkersFacts)
        if not facts.classic:
            body = {**body, "model": model}
            return self.chat_stream(turn, body, facts) if body.get("stream") else in_envelope(self.completion(turn, body))
        if body.get("stream"):
            return Stream(events=tuple(self.classic_events(turn)))
        return in_envelope(self.classic_result(turn, body))

    def native_prompt(self, body: Json, facts: Facts) -> Prompt:
        """The schema is bare here: OpenAI's wrapper is no schema that an answer could meet."""
        form = body.get("response_format") or {}
        schema = form.get("json_schema")
        if isinstance(schema, dict) and "schema" in schema:
            raise Refused(errors.workers(400, 5024, "AiError: JSON Mode couldn't be met", result={}))
        wrapped = {**body, "response_format": {"type": form.get("type"), "json_schema": {"schema": schema}}}
        return self.prompt(wrapped, facts)

    def classic_result(self, turn: Turn, body: Json) -> Json:
        response: Any = turn.text
        if (body.get("response_format") or {}).get("type") in ("json_object", "json_schema"):
            response = json.loads(turn.text)  # parsed already
        return {"response": None if turn.call else response, "tool_calls": self.classic_calls(turn), "usage": self.usage(turn)}

    def classic_calls(self, turn: Turn) -> list[Json]:
        return [{"name": turn.call[0], "arguments": turn.call[1]}] if turn.call else []

    def classic_events(self, turn: Turn) -> Iterator[Json]:
        for number, piece in enumerate(re.findall(r"\s+(?=\d\b)|\s*\S{1,12}|\s+", turn.text)):
            # A token that is a lone digit comes as a number (9router#1645).
            yield {"response": int(piece) if re.fullmatch(r"[0-9]", piece) else piece, "p": "abdefgh"[: number % 8]}
        if turn.call:
            yield {"response": "", "tool_calls": self.classic_calls(turn), "p": "ab"}
        yield {"response": "", "usage": self.usage(turn)}

    def run_embedding(self, facts: Facts, body: Json) -> Answer:
        texts = [body["text"]] if isinstance(body.get("text"), str) else list(body.get("text") or [])
        self.check_texts(texts, "/text")
        size, pooling = facts.dims[0], body.get("pooling") or "mean"
        # Vectors of the two poolings are not comparable; none of them comes with usage.
        data = [vector_of(text if pooling == "mean" else f"{pooling}:{text}", size) for text in texts]
        return in_envelope({"shape": [len(data), size], "data": data, "pooling": pooling})

    def run_rerank(self, body: Json) -> Answer:
        contexts = body.get("contexts")
        if not isinstance(body.get("query"), str) or not isinstance(contexts, list) or not contexts:
            self.mismatch("/", "required properties at '/' are 'query,contexts'")
        ranked = rank_documents(body["query"], [context["text"] for context in body["contexts"]])
        return in_envelope({"response": [{"id": index, "score": score} for index, score in ranked[: body.get("top_k")]]})

    def search_models(self, request: Request) -> Answer:
        tasks = {"chat": "Text Generation", "embedding": "Text Embeddings", "rerank": "Text Classification"}
        wanted = request.query.get("task")
        entries = [
            {
                "id": f"429b9e8b-0000-4000-8000-{number:012d}",
                "source": 1,
                "name": name,
                "description": "",
                "task": {"id": "c329a1f9", "name": tasks[facts.kind], "description": ""},
                "created_at": "2024-12-06 17:09:18",
                "tags": [],
                "properties": [{"property_id": "context_window", "value": str(facts.context)}],
            }
            for number, (name, facts) in enumerate(self.models.items())
            if not facts.retired and wanted in (None, tasks[facts.kind])
        ]
        size, page = int(request.query.get("per_page", 50)), int(request.query.get("page", 1))
        part = entries[(page - 1) * size : page * size]
        info = {"count": len(part), "page": page, "per_page": size, "total_count": len(entries)}
        return reply(200, {"success": True, "errors": [], "messages": [], "result": part, "result_info": info})

    # --- compatible, and newer models natively -----------------------------------------------------------------------

    def max_tokens(self, body: Json) -> int | None:
        return body.get("max_tokens") or DEFAULT_MAX_TOKENS  # `max_completion_tokens` is not known to count

    def completion(self, turn: Turn, body: Json) -> Json:
        return self.with_thought_field(super().completion(turn, body), body)

    def chunks(self, turn: Turn, body: Json) -> Iterator[Json]:
        for chunk in super().chunks(turn, body):
            yield self.with_thought_field(chunk, body)

    def with_thought_field(self, answer: Json, body: Json) -> Json:
        """Return the answer with thoughts in the field that this model uses."""
        facts = self.models[body["model"]]
        assert isinstance(facts, WorkersFacts)
        for choice in answer["choices"]:
            holder = choice.get("message") or choice.get("delta") or {}
            if "reasoning_content" in holder:
                holder[facts.thought_field] = holder.pop("reasoning_content")
        return answer

    def call_deltas(self, turn: Turn) -> Iterator[Json]:
        yield from super().call_deltas(turn)
        function = {"name": None, "arguments": ""}
        yield {"tool_calls": [{"index": 0, "id": None, "type": "function", "function": function}]}

    def ending(self, head: Json, turn: Turn, body: Json) -> Iterator[Json]:
        yield self.chunk(head, {}, turn.finish_reason)
        yield {**head, "object": "chat.completion.chunk", "choices": [], "usage": self.usage(turn)}


def in_envelope(result: Json) -> Reply:
    return reply(200, {"result": result, "success": True, "errors": [], "messages": []})


def early_finish(answer: Answer) -> Answer:
    """Return a compatible stream as seen in July 2026 (9router#1645), for `altered`.

    It has the finish reason also before the last content, two usage blocks, two [DONE], and no `choices[].index`.
    """
    assert isinstance(answer, Stream)
    chunks = [json.loads(json.dumps(event)) for event in answer.events]
    for chunk in chunks:
        for choice in chunk["choices"]:
            del choice["index"]
    finish = next(chunk for chunk in chunks if chunk["choices"] and chunk["choices"][0]["finish_reason"])
    return replace(answer, events=[*chunks[:2], finish, chunks[-1], *chunks[2:]], done="twice")
