"""The OpenAI protocol as such: what the compatible providers share, and `plain`, a lenient server that speaks just this."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from tests.e2e.simulator.behaviours import Answer, Reply, Stream, reply
from tests.e2e.simulator.mind import Prompt, Turn, count_tokens, rank_documents, think, tokens_of, vector_of
from tests.e2e.simulator.service import CREATED, Facts, Refused, Service
from tests.e2e.simulator.wire import Request

Json = dict[str, Any]


class OpenAIService(Service):
    """Chat, embeddings and models in OpenAI's form, over hooks in which providers differ."""

    # --- what providers differ in ------------------------------------------------------------------------------------

    def check_key(self, request: Request) -> None:
        if not self.is_good_key(request.key):
            raise Refused(self.error(401, "Incorrect API key provided", "invalid_api_key"))

    def check_chat(self, body: Json, facts: Facts) -> None:
        """Refuse what this provider refuses. :raises Refused: so it does."""

    def check_context(self, body: Json, facts: Facts, prompt_tokens: int) -> None:
        """As `check_chat`, of what prompt and answer together have of the window."""

    def check_embeddings(self, body: Json, facts: Facts) -> None:
        """As `check_chat`."""

    def error(self, status: int, message: str, code: str | None = None, param: str | None = None) -> Reply:
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        return reply(status, {"error": error})

    def unknown_model(self, model: str) -> Reply:
        return self.error(404, f"The model `{model}` does not exist", "model_not_found", "model")

    def thinks(self, body: Json, facts: Facts) -> bool:
        return facts.reasons and body.get("reasoning_effort") != "none"

    def max_tokens(self, body: Json) -> int | None:
        return body.get("max_completion_tokens") or body.get("max_tokens")

    def headers(self, turn: Turn | None, facts: Facts) -> dict[str, str]:
        return {}

    def new_call_id(self) -> str:
        return f"call_{next(self.numbers):08d}"

    def head(self, body: Json) -> Json:
        """Return what an answer and each of its chunks begin with, without `object`."""
        return {"id": f"chatcmpl-{next(self.numbers)}", "created": CREATED, "model": body["model"]}

    def message(self, turn: Turn) -> Json:
        calls = {"tool_calls": [self.call(turn)]} if turn.call else {}
        return {"role": "assistant", "content": None if turn.call else turn.text, **self.thought(turn.thoughts), **calls}

    def thought(self, text: str) -> Json:
        """Return the fields of a message or delta that carry a thought, {} for none."""
        return {"reasoning_content": text} if text else {}

    def call(self, turn: Turn) -> Json:
        assert turn.call
        name, arguments = turn.call
        function = {"name": name, "arguments": json.dumps(arguments)}
        return {"id": self.new_call_id(), "type": "function", "function": function}

    def call_deltas(self, turn: Turn) -> Iterator[Json]:
        """Yield the deltas of a tool call: its beginning, then its arguments in pieces."""
        call = self.call(turn)
        arguments = call["function"]["arguments"]
        yield {"tool_calls": [{"index": 0, **call, "function": {"name": call["function"]["name"], "arguments": ""}}]}
        for piece in tokens_of(arguments):
            yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}

    def usage(self, turn: Turn) -> Json:
        return {
            "prompt_tokens": turn.prompt_tokens,
            "completion_tokens": turn.completion_tokens,
            "total_tokens": turn.prompt_tokens + turn.completion_tokens,
        }

    def ending(self, head: Json, turn: Turn, body: Json) -> Iterator[Json]:
        """Yield the chunks after the last content: the finish reason, and usage where this provider puts it."""
        yield self.chunk(head, {}, turn.finish_reason)
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**head, "object": "chat.completion.chunk", "choices": [], "usage": self.usage(turn)}

    # --- what they share -----------------------------------------------------------------------------------------------

    def respond(self, request: Request) -> Answer:
        self.check_key(request)
        path = request.rest.removeprefix(self.base)
        if request.method == "POST" and path == "/chat/completions":
            return self.chat(self.read_object(request))
        if request.method == "POST" and path == "/embeddings":
            return self.embed(self.read_object(request))
        if request.method == "GET" and path == "/models":
            return reply(200, self.models_list())
        if request.method == "GET" and path.startswith("/models/"):
            self.facts_of(path.removeprefix("/models/"))
            return reply(200, self.model_entry(path.removeprefix("/models/")))
        return self.error(404, f"Unknown request URL: {request.method} {request.rest}.", "unknown_url")

    def read_object(self, request: Request) -> Json:
        body = request.json
        if not isinstance(body, dict):
            raise Refused(self.error(400, "We could not parse the JSON body of your request."))
        return body

    def facts_of(self, model: Any, kind: str | None = None) -> Facts:
        facts = self.models.get(str(model))
        if facts is None or facts.retired or (kind and facts.kind != kind):
            raise Refused(self.unknown_model(str(model)))
        return facts

    def chat(self, body: Json) -> Answer:
        facts = self.facts_of(body.get("model"), "chat")
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            raise Refused(self.error(400, "'messages' : minimum number of items is 1", param="messages"))
        self.check_chat(body, facts)
        prompt = self.prompt(body, facts)
        self.check_context(body, facts, prompt.tokens)
        turn = think(prompt)
        if body.get("stream"):
            return self.chat_stream(turn, body, facts)
        return Reply(200, self.headers(turn, facts), body=self.completion(turn, body))

    def prompt(self, body: Json, facts: Facts) -> Prompt:
        form = body.get("response_format") or {}
        stops = body.get("stop") or []
        return Prompt(
            messages=[(message["role"], text_of(message.get("content"))) for message in body["messages"]],
            tools=tools_of(body),
            tool_choice=tool_choice_of(body),
            wants_json=form.get("type") in ("json_object", "json_schema"),
            schema=(form.get("json_schema") or {}).get("schema"),
            max_tokens=self.max_tokens(body),
            stops=[stops] if isinstance(stops, str) else stops,
            thinks=self.thinks(body, facts),
        )

    def completion(self, turn: Turn, body: Json) -> Json:
        choice = {"index": 0, "message": self.message(turn), "logprobs": None, "finish_reason": turn.finish_reason}
        return {**self.head(body), "object": "chat.completion", "choices": [choice], "usage": self.usage(turn)}

    def chat_stream(self, turn: Turn, body: Json, facts: Facts) -> Stream:
        return Stream(200, self.headers(turn, facts), events=tuple(self.chunks(turn, body)))

    def chunks(self, turn: Turn, body: Json) -> Iterator[Json]:
        head = self.head(body)
        yield self.chunk(head, {"role": "assistant", "content": ""})
        for token in tokens_of(turn.thoughts):
            yield self.chunk(head, self.thought(token))
        for token in tokens_of(turn.text):
            yield self.chunk(head, {"content": token})
        for delta in self.call_deltas(turn) if turn.call else ():
            yield self.chunk(head, delta)
        yield from self.ending(head, turn, body)

    def chunk(self, head: Json, delta: Json, finish_reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}

    def embed(self, body: Json) -> Answer:
        facts = self.facts_of(body.get("model"), "embedding")
        self.check_embeddings(body, facts)
        inputs = inputs_of(body)
        vectors = [vector_of(text, body.get("dimensions") or facts.dims[0]) for text in inputs]
        tokens = sum(len(tokens_of(text)) for text in inputs)
        return reply(
            200,
            {
                "object": "list",
                "data": embedding_items(vectors, body.get("encoding_format")),
                "model": body["model"],
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            },
        )

    def models_list(self) -> Json:
        live = [name for name, facts in self.models.items() if not facts.retired]
        return {"object": "list", "data": [self.model_entry(name) for name in live]}

    def model_entry(self, model: str) -> Json:
        return {"id": model, "object": "model", "created": CREATED, "owned_by": self.name}


SMALL = Facts(context=8192, max_output=8192)


class Plain(OpenAIService):
    """Any OpenAI-compatible server (Ollama, vLLM, llama.cpp): takes every field, every model, and every key or none.

    Models whose name has "embed" embed (8 numbers); one whose name has "think" thinks; any model reranks. The window is
    that of a small machine, and what does not fit is refused as vLLM does it.
    """

    name = "plain"
    prefix = "/plain"
    base = "/v1"
    test_key = "plain_test"
    catalog = {"plain-chat": SMALL, "plain-think": replace(SMALL, reasons=True), "plain-embed": Facts("embedding", dims=(8,))}

    def check_key(self, request: Request) -> None:
        pass

    def respond(self, request: Request) -> Answer:
        if request.method == "POST" and request.rest == self.base + "/rerank":
            return self.rerank(self.read_object(request))
        return super().respond(request)

    def rerank(self, body: Json) -> Answer:
        """Answer as vLLM and llama.cpp do."""
        ranked = rank_documents(body["query"], body["documents"])[: body.get("top_n")]
        results = [{"index": index, "relevance_score": score} for index, score in ranked]
        tokens = sum(count_tokens(text) + count_tokens(body["query"]) for text in body["documents"])
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return reply(200, {"model": body["model"], "results": results, "usage": usage})

    def facts_of(self, model: Any, kind: str | None = None) -> Facts:
        if "embed" in str(model):
            return Facts("embedding", dims=(8,))
        return replace(SMALL, reasons="think" in str(model))

    def check_context(self, body: Json, facts: Facts, prompt_tokens: int) -> None:
        wanted, window = self.max_tokens(body) or 1, facts.context
        told = f"This model's maximum context length is {window} tokens"
        if prompt_tokens >= window:
            self.refuse(f"{told}. However, your request has {prompt_tokens} input tokens. Please reduce the length of the input.")
        if prompt_tokens + wanted > window:
            self.refuse(
                f"'max_tokens' or 'max_completion_tokens' is too large: {wanted}. {told} and your request has {prompt_tokens} "
                f"input tokens ({wanted} > {window} - {prompt_tokens})."
            )

    def refuse(self, message: str) -> NoReturn:
        raise Refused(reply(400, {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}))


# --- reading OpenAI's request ------------------------------------------------------------------------------------------


def text_of(content: Any) -> str:
    """Return the text of a message's content: a string, parts, or null."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def tools_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return name and schema of each function, flat or in OpenAI's form."""
    functions = [tool.get("function") or tool for tool in body.get("tools") or []]
    return {function["name"]: function.get("parameters") or {} for function in functions if "name" in function}


def tool_choice_of(body: Mapping[str, Any]) -> str:
    choice = body.get("tool_choice") or "auto"
    return choice if isinstance(choice, str) else str((choice.get("function") or choice).get("name"))


def image_urls_of(body: Mapping[str, Any]) -> list[str]:
    """Return the URL of every image part."""
    parts = [part for message in body["messages"] if isinstance(message.get("content"), list) for part in message["content"]]
    return [part["image_url"]["url"] for part in parts if part.get("type") == "image_url"]


def inputs_of(body: Mapping[str, Any]) -> list[str]:
    inputs = body.get("input")
    return [inputs] if isinstance(inputs, str) else list(inputs or [])


def embedding_items(vectors: list[list[float]], encoding_format: str | None) -> list[Json]:
    """Return OpenAI's list of embeddings; base64 is little-endian float32."""

    def encode(vector: list[float]) -> Any:
        if encoding_format != "base64":
            return vector
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

    return [{"object": "embedding", "index": index, "embedding": encode(vector)} for index, vector in enumerate(vectors)]
