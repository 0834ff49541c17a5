"""Gemini, both APIs. https://ai.google.dev/api/generate-content, .../docs/thought-signatures, .../docs/openai (2026-11)

Quirks of the native one: the model and the verb stand in the path; events end in CRLF CRLF and there is no [DONE];
usage comes with every event, cumulative, thoughts counted apart; a tool call ends with STOP; Gemini 3 issues a
signature with a function call and demands it back; a bad key is a 400; Pro models have a free quota of 0; a budget
that thinking used up leaves a candidate without parts.
Quirks of the compatible one: errors stand in a list of one; tool calls have no index and may end in `stop`; the
signature travels in `extra_content`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import unquote

from tests.e2e.simulator import errors
from tests.e2e.simulator.behaviours import Answer, Reply, Stream, reply
from tests.e2e.simulator.mind import Prompt, Turn, count_tokens, think, tokens_of, vector_of
from tests.e2e.simulator.openai_api import Json, OpenAIService
from tests.e2e.simulator.service import Facts, Refused, Service, unknown_names
from tests.e2e.simulator.wire import Request

FLASH_3 = Facts(reasons=True, efforts=("MINIMAL", "LOW", "MEDIUM", "HIGH"), vision=True, context=1048576)
FLASH_2_5 = Facts(reasons=True, vision=True, context=1048576)
GEMMA = Facts(reasons=True, vision=True, context=262144, max_output=32768)
MODELS = {
    "gemini-3.8-flash": Facts(reasons=True, efforts=("LOW", "MEDIUM", "HIGH"), vision=True, context=1048576),
    "gemini-3.5-flash": FLASH_3,
    "gemini-3.5-flash-lite": FLASH_3,
    "gemini-3.1-flash-lite": FLASH_3,
    "gemini-3-flash-preview": FLASH_3,
    "gemini-3.1-pro-preview": Facts(reasons=True, efforts=("LOW", "MEDIUM", "HIGH"), vision=True, context=1048576),
    "gemini-2.5-flash": FLASH_2_5,
    "gemini-2.5-flash-lite": FLASH_2_5,
    "gemini-2.5-pro": FLASH_2_5,
    "gemma-4-31b-it": GEMMA,
    "gemma-4-26b-a4b-it": GEMMA,
    "gemini-2.0-flash": Facts(vision=True, context=1048576, max_output=8192, retired=True),
    "gemini-2.0-flash-thinking-exp": Facts(tools=False, json_mode=False, vision=True, context=1048576, retired=True),
    "gemini-embedding-001": Facts("embedding", context=2048, dims=(3072,)),
    "gemini-embedding-2": Facts("embedding", context=8192, dims=(3072,)),
}
BUDGETS = {"gemini-2.5-flash": (0, 24576), "gemini-2.5-flash-lite": (512, 24576), "gemini-2.5-pro": (128, 32768)}

# Signature values that skip the check, for calls made elsewhere (thought-signatures FAQ).
SENTINELS = ("context_engineering_is_the_way_to_go", "skip_thought_signature_validator")
MAX_BATCH = 100


def sign(name: str) -> str:
    """Return the signature that the simulator issues with a call of this function."""
    return base64.b64encode(f"signed:{name}".encode()).decode()


def wants_signatures(model: str) -> bool:
    return model.startswith("gemini-3")


# --- what the native API knows: every name, in camel case; snake case is read too --------------------------------------

# A name stands for what it holds: a dictionary for an object, a list of one for an array, None for anything.
_ANY = None
_SCHEMA_KEYS = (
    "type format title description nullable enum items minItems maxItems properties required minProperties maxProperties minimum "
    "maximum minLength maxLength pattern example anyOf propertyOrdering default additionalProperties defs ref"
).split()
_SCHEMA: dict[str, Any] = dict.fromkeys(_SCHEMA_KEYS)
_FUNCTION_CALL = {"id": _ANY, "name": _ANY, "args": _ANY}
_PART = {
    "text": _ANY,
    "inlineData": {"mimeType": _ANY, "data": _ANY},
    "fileData": {"mimeType": _ANY, "fileUri": _ANY},
    "functionCall": _FUNCTION_CALL,
    "functionResponse": {"id": _ANY, "name": _ANY, "response": _ANY},
    "executableCode": _ANY,
    "codeExecutionResult": _ANY,
    "thought": _ANY,
    "thoughtSignature": _ANY,
}
_CONTENT = {"role": _ANY, "parts": [_PART]}
_DECLARATION = {
    "name": _ANY,
    "description": _ANY,
    "parameters": _SCHEMA,
    "parametersJsonSchema": _ANY,
    "response": _SCHEMA,
    "responseJsonSchema": _ANY,
}
_GENERATION_CONFIG = {
    **dict.fromkeys(
        "temperature topP topK maxOutputTokens stopSequences seed candidateCount presencePenalty frequencyPenalty "
        "responseMimeType responseJsonSchema responseLogprobs logprobs responseModalities mediaResolution speechConfig "
        "imageConfig".split()
    ),
    "responseSchema": _SCHEMA,
    "thinkingConfig": {"thinkingBudget": _ANY, "thinkingLevel": _ANY, "includeThoughts": _ANY},
}
GENERATE = {
    "systemInstruction": _CONTENT,
    "contents": [_CONTENT],
    "tools": [{"functionDeclarations": [_DECLARATION], "googleSearch": _ANY, "codeExecution": _ANY, "urlContext": _ANY}],
    "toolConfig": {"functionCallingConfig": {"mode": _ANY, "allowedFunctionNames": _ANY}},
    "generationConfig": _GENERATION_CONFIG,
    "safetySettings": [{"category": _ANY, "threshold": _ANY}],
    **dict.fromkeys(("cachedContent", "labels", "serviceTier", "store", "model")),
}
EMBED = {"model": _ANY, "content": _CONTENT, "taskType": _ANY, "title": _ANY, "outputDimensionality": _ANY}
TASK_TYPES = (
    "RETRIEVAL_QUERY RETRIEVAL_DOCUMENT SEMANTIC_SIMILARITY CLASSIFICATION CLUSTERING QUESTION_ANSWERING FACT_VERIFICATION "
    "CODE_RETRIEVAL_QUERY"
).split()


def camel(value: Any, known: Any, place: str = "") -> Any:
    """Return a request with its names in camel case.

    :raises Refused: it has a name that the API does not know, at any depth.
    """
    if isinstance(known, list) and isinstance(value, list):
        return [camel(item, known[0], f"{place}[{number}]") for number, item in enumerate(value)]
    if not isinstance(known, dict) or not isinstance(value, dict):
        return value
    read = {}
    for name, item in value.items():
        camel_name = re.sub(r"_(\w)", lambda match: match[1].upper(), name)
        if camel_name not in known:
            raise Refused(errors.gemini_unknown_name(name, place))
        snake_name = re.sub(r"([A-Z])", r"_\1", camel_name).lower()
        read[camel_name] = camel(item, known[camel_name], f"{place}.{snake_name}".lstrip("."))
    return read


def invalid(message: str) -> NoReturn:
    raise Refused(errors.gemini_invalid(message))


# --- native ------------------------------------------------------------------------------------------------------------


class Gemini(Service):
    name = "gemini"
    prefix = "/gemini"
    base = "/v1beta"
    test_key = "AIza_test"
    catalog = MODELS

    def __init__(self) -> None:
        super().__init__()
        self.compat = GeminiCompat(self.models)

    def env(self, root: str) -> dict[str, str]:
        return {"GEMINI_API_KEY": self.test_key, "GEMINI_BASE_URL": self.base_url(root)}

    def model_of(self, request: Request) -> str | None:
        found = re.search(r"/models/([^:/]+):", request.path)
        return found[1] if found else super().model_of(request)

    def respond(self, request: Request) -> Answer:
        if request.rest.startswith("/v1beta/openai/"):
            return self.compat.answer(request)
        key = request.headers.get("x-goog-api-key") or request.query.get("key")
        if not key:
            raise Refused(errors.gemini_missing_key())
        if not self.is_good_key(key):
            raise Refused(errors.gemini_bad_key())
        if request.method == "GET":
            return self.list_models(request)
        return self.run(request)

    def run(self, request: Request) -> Answer:
        found = re.fullmatch(r"/v1beta/models/([^:]+):(\w+)", unquote(request.rest))
        if not found:
            raise Refused(errors.gemini(404, "NOT_FOUND", "Requested entity was not found."))
        model, verb = found[1], found[2]
        facts = self.models.get(model)
        kind = "embedding" if verb in ("embedContent", "batchEmbedContents") else "chat"
        if facts is None or facts.retired or facts.kind != kind:
            raise Refused(errors.gemini_not_found(model, verb))
        body = request.json
        if not isinstance(body, dict):
            invalid("Invalid JSON payload received. Unexpected end of string.")
        if verb == "batchEmbedContents":
            return self.embed_batch(model, body)
        if verb == "embedContent":
            return reply(200, {"embedding": self.embedding(model, camel(body, EMBED))})
        if verb == "countTokens":
            return reply(200, {"totalTokens": count_tokens(json.dumps(body.get("contents")))})
        is_stream = verb == "streamGenerateContent"
        return self.generate(model, facts, camel(body, GENERATE), is_stream, request.query.get("alt") == "sse")

    # --- chat --------------------------------------------------------------------------------------------------------

    def generate(self, model: str, facts: Facts, body: Json, is_stream: bool, is_sse: bool) -> Answer:
        if "-pro" in model:
            raise Refused(errors.gemini_not_free(model))
        config = body.get("generationConfig") or {}
        check_config(model, facts, config, has_tools=bool(body.get("tools")))
        check_tools(body)
        check_contents(model, body)
        turn = think(prompt_of(facts, body, config))
        shows_thoughts = bool((config.get("thinkingConfig") or {}).get("includeThoughts"))
        headers = {"Server-Timing": "gfet4t7; dur=812"}
        if not is_stream:
            return Reply(200, headers, body=self.whole(model, turn, shows_thoughts))
        events = list(self.events(model, turn, shows_thoughts))
        if not is_sse:
            return Reply(200, headers, body=events)  # without alt=sse: one JSON list
        texts = [json.dumps(event, ensure_ascii=False) for event in events]
        return Stream(200, headers, events=texts, line_end="\r\n", done=False)

    def whole(self, model: str, turn: Turn, shows_thoughts: bool) -> Json:
        parts = [{"text": turn.thoughts, "thought": True}] if turn.thoughts and shows_thoughts else []
        parts += self.answer_parts(model, turn)
        content = {"parts": parts, "role": "model"} if parts else {"role": "model"}
        return self.event(model, turn, content, finish_reason(turn))

    def answer_parts(self, model: str, turn: Turn) -> list[Json]:
        if turn.call is None:
            return [{"text": turn.text}] if turn.text else []
        name, arguments = turn.call
        call: Json = {"functionCall": {"name": name, "args": arguments}}
        return [{**call, "thoughtSignature": sign(name)} if wants_signatures(model) else call]

    def events(self, model: str, turn: Turn, shows_thoughts: bool) -> Iterator[Json]:
        for number, token in enumerate(tokens_of(turn.thoughts) if shows_thoughts else [], start=1):
            yield self.event(model, turn, {"parts": [{"text": token, "thought": True}], "role": "model"}, None, 0, number)
        tokens = [[{"text": token}] for token in tokens_of(turn.text)] or [self.answer_parts(model, turn)]
        for number, parts in enumerate(tokens, start=1):
            content = {"parts": parts, "role": "model"} if parts else {"role": "model"}
            is_last = number == len(tokens)
            yield self.event(model, turn, content, finish_reason(turn) if is_last else None, None if is_last else number)

    def event(
        self,
        model: str,
        turn: Turn,
        content: Json,
        finish: str | None,
        text_tokens: int | None = None,
        thought_tokens: int | None = None,
    ) -> Json:
        """Return a GenerateContentResponse; the tokens are those so far, None: all. Counts of zero are left out."""
        text = turn.text_tokens if text_tokens is None else text_tokens
        thought = turn.thought_tokens if thought_tokens is None else thought_tokens
        counts = {"promptTokenCount": turn.prompt_tokens, "candidatesTokenCount": text, "thoughtsTokenCount": thought}
        counts["totalTokenCount"] = sum(counts.values())
        usage: Json = {name: count for name, count in counts.items() if count}
        usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": turn.prompt_tokens}]
        candidate = {"content": content, **({"finishReason": finish} if finish else {}), "index": 0}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "3SE-aKjd"}

    # --- embeddings and models ---------------------------------------------------------------------------------------

    def embed_batch(self, model: str, body: Json) -> Answer:
        requests = camel(body, {"requests": [EMBED]}).get("requests") or []
        if len(requests) > MAX_BATCH:
            invalid(f"* BatchEmbedContentsRequest.requests: at most {MAX_BATCH} requests can be in one batch\n")
        if any(request.get("model") != f"models/{model}" for request in requests):
            invalid("* BatchEmbedContentsRequest.requests: model must match the one in the URL\n")
        answer: Json = {"embeddings": [self.embedding(model, request) for request in requests]}
        if model == "gemini-embedding-2":  # others tell no usage
            tokens = sum(count_tokens(parts_text(request["content"])) for request in requests)
            answer["usageMetadata"] = {"promptTokenCount": tokens}
        return reply(200, answer)

    def embedding(self, model: str, request: Json) -> Json:
        size = request.get("outputDimensionality") or self.models[model].dims[0]
        if not 128 <= size <= 3072:
            invalid("* EmbedContentRequest.output_dimensionality: must be between 128 and 3072\n")
        if request.get("taskType") not in (None, *TASK_TYPES):
            invalid(f"Invalid value at 'task_type' (type.googleapis.com/...TaskType), \"{request['taskType']}\"")
        if request.get("title") and request.get("taskType") != "RETRIEVAL_DOCUMENT":
            invalid("* EmbedContentRequest.title: only valid when task_type is RETRIEVAL_DOCUMENT\n")
        # All parts of a content become one vector. Cut vectors are not of length 1: only the full one is.
        return {"values": vector_of(parts_text(request["content"]), 3072)[:size]}

    def list_models(self, request: Request) -> Answer:
        live = {name: facts for name, facts in self.models.items() if not facts.retired}
        entries = [self.model_entry(name, facts) for name, facts in live.items()]
        if request.rest != "/v1beta/models":
            name = request.rest.removeprefix("/v1beta/")
            found = [entry for entry in entries if entry["name"] == name]
            return reply(200, found[0]) if found else errors.gemini_not_found(name.removeprefix("models/"))
        size = int(request.query.get("pageSize", 50))
        start = int(request.query.get("pageToken", 0))
        more = {"nextPageToken": str(start + size)} if start + size < len(entries) else {}
        return reply(200, {"models": entries[start : start + size], **more})

    def model_entry(self, name: str, facts: Facts) -> Json:
        methods = ["generateContent", "countTokens"] if facts.kind == "chat" else ["embedContent"]
        return {
            "name": f"models/{name}",
            "version": "001",
            "displayName": name,
            "inputTokenLimit": facts.context,
            "outputTokenLimit": facts.max_output,
            "supportedGenerationMethods": methods,
            **({"thinking": True} if facts.reasons else {}),
        }


def finish_reason(turn: Turn) -> str:
    return "MAX_TOKENS" if turn.is_cut else "STOP"  # also after a tool call


def parts_text(content: Mapping[str, Any]) -> str:
    return "".join(part.get("text", "") for part in content.get("parts") or [])


def prompt_of(facts: Facts, body: Json, config: Json) -> Prompt:
    contents = ([{"role": "system", **body["systemInstruction"]}] if body.get("systemInstruction") else []) + body["contents"]
    declarations = [item for tool in body.get("tools") or [] for item in tool.get("functionDeclarations") or []]
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    allowed = calling.get("allowedFunctionNames") or []
    thinking = config.get("thinkingConfig") or {}
    return Prompt(
        messages=[message_of(content) for content in contents],
        tools={item["name"]: item.get("parametersJsonSchema") or item.get("parameters") or {} for item in declarations},
        tool_choice=allowed[0] if allowed else calling.get("mode", "AUTO").lower(),
        wants_json=config.get("responseMimeType") == "application/json",
        schema=config.get("responseJsonSchema") or config.get("responseSchema"),
        max_tokens=config.get("maxOutputTokens"),
        stops=config.get("stopSequences") or [],
        thinks=facts.reasons and thinking.get("thinkingBudget") != 0,
    )


def message_of(content: Json) -> tuple[str, str]:
    parts = content.get("parts") or []
    results = [part["functionResponse"]["response"] for part in parts if "functionResponse" in part]
    if results:
        return "tool", ", ".join(json.dumps(result, ensure_ascii=False) for result in results)
    return str(content.get("role", "user")), parts_text(content)


# --- what the native API refuses ---------------------------------------------------------------------------------------


def check_config(model: str, facts: Facts, config: Json, *, has_tools: bool) -> None:
    if model.startswith("gemini-3") and (config.get("presencePenalty") or config.get("frequencyPenalty")):
        invalid(f"Penalty is not enabled for this model: models/{model}")
    if config.get("responseMimeType") == "application/json" and has_tools and not model.startswith("gemini-3"):
        invalid("Function calling with a response mime type: 'application/json' is unsupported")
    if (config.get("responseSchema") or config.get("responseJsonSchema")) and config.get(
        "responseMimeType"
    ) != "application/json":
        invalid(
            "* GenerateContentRequest.generation_config.response_mime_type: must be application/json with a response schema\n"
        )
    if len(config.get("stopSequences") or []) > 5:
        invalid("* GenerateContentRequest.generation_config.stop_sequences: at most 5 are allowed\n")
    if (config.get("maxOutputTokens") or 1) > facts.max_output:
        invalid(f"The maximum tokens must be in the range from 1 (inclusive) to {facts.max_output + 1} (exclusive).")
    check_schema(config.get("responseSchema"), "generation_config.response_schema")
    check_thinking(model, facts, config.get("thinkingConfig"))


def check_thinking(model: str, facts: Facts, thinking: Json | None) -> None:
    if thinking is None:
        return
    budget, level = thinking.get("thinkingBudget"), thinking.get("thinkingLevel")
    if not facts.reasons:
        invalid("Thinking is not enabled for this model")
    if budget is not None and level is not None:
        invalid("You can only set only one of thinking budget and thinking level.")
    if level is not None and model in BUDGETS:
        invalid("Thinking level is not supported for this model.")
    if level is not None and facts.efforts and level not in facts.efforts:
        invalid(f"Thinking level {level} is not supported for this model.")
    if budget is not None and model in BUDGETS:
        low, high = BUDGETS[model]
        if budget != -1 and not low <= budget <= high and not (budget == 0 and "flash" in model):
            invalid(f"The thinking budget {budget} is invalid. Please choose a value between {low} and {high}.")


def check_tools(body: Json) -> None:
    for number, tool in enumerate(body.get("tools") or []):
        for index, declaration in enumerate(tool.get("functionDeclarations") or []):
            place = f"tools[{number}].function_declarations[{index}]"
            if not re.fullmatch(r"[A-Za-z_][\w.:-]{0,127}", declaration.get("name", "")):
                invalid(f"* GenerateContentRequest.{place}.name: Invalid function name.\n")
            if declaration.get("parameters") and declaration.get("parametersJsonSchema"):
                invalid(f"* {place}: parameters and parameters_json_schema are mutually exclusive\n")
            check_schema(declaration.get("parameters"), f"{place}.parameters")
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    if calling.get("mode", "AUTO") not in ("AUTO", "ANY", "NONE", "VALIDATED"):
        invalid("Invalid value at 'tool_config.function_calling_config.mode'")
    if calling.get("allowedFunctionNames") and calling.get("mode") not in ("ANY", "VALIDATED"):
        invalid("Allowed function names should only be set when the mode is ANY or VALIDATED.")


def check_schema(schema: Any, place: str) -> None:
    """Refuse keywords beyond the OpenAPI subset; `...JsonSchema` fields take them."""
    if not isinstance(schema, dict):
        return
    for name in unknown_names(schema, set(_SCHEMA_KEYS)):
        raise Refused(errors.gemini_unknown_name(name, place))
    for name, item in (schema.get("properties") or {}).items():
        check_schema(item, f"{place}.properties[{list(schema['properties']).index(name)}].value")
    check_schema(schema.get("items"), f"{place}.items")


def check_contents(model: str, body: Json) -> None:
    contents = body.get("contents") or []
    if not contents:
        invalid("* GenerateContentRequest.contents: contents is not specified\n")
    calls = 0  # in the turn before
    for position, content in enumerate(contents):
        if content.get("role", "user") not in ("user", "model"):
            invalid("Please use a valid role: user, model.")
        parts = content.get("parts") or []
        if not parts or not all(parts):
            invalid(f"* GenerateContentRequest.contents[{position}].parts: contents.parts must not be empty.\n")
        for part in parts:
            check_part(part)
        results = sum("functionResponse" in part for part in parts)
        if results and results != calls:
            invalid(
                "Please ensure that the number of function response parts is equal to the number of function call parts "
                "of the function call turn."
            )
        check_signature(model, position, parts)
        calls = sum("functionCall" in part for part in parts)


def check_part(part: Json) -> None:
    if "inlineData" in part:
        try:
            base64.b64decode(part["inlineData"].get("data", ""), validate=True)
        except binascii.Error:
            invalid("Invalid value at 'contents[0].parts[0].inline_data.data' (TYPE_BYTES), Base64 decoding failed")
        if not part["inlineData"].get("mimeType"):
            invalid("Unable to submit request because it must have a mimeType parameter")
    if "fileData" in part and not part["fileData"].get("fileUri", "").startswith("https://generativelanguage.googleapis.com/"):
        invalid("Invalid or unsupported file uri")  # the API fetches nothing but what was uploaded to it
    if "functionResponse" in part and not isinstance(part["functionResponse"].get("response"), dict):
        invalid("Invalid value at 'contents.parts.function_response.response' (type.googleapis.com/google.protobuf.Struct)")
    if "functionCall" in part and not isinstance(part["functionCall"].get("args", {}), dict):
        invalid("Invalid value at 'contents.parts.function_call.args' (type.googleapis.com/google.protobuf.Struct)")


def check_signature(model: str, position: int, parts: list[Json]) -> None:
    """Demand the signature of the first call of a parallel group, as it was issued."""
    calls = [part for part in parts if "functionCall" in part]
    if not calls or not wants_signatures(model):
        return
    name, signature = calls[0]["functionCall"].get("name", ""), calls[0].get("thoughtSignature")
    if not signature:
        raise Refused(errors.gemini_missing_signature(name, position + 1))
    if signature != sign(name) and signature not in SENTINELS:
        invalid("Thought signature is not valid.")


# --- compatible --------------------------------------------------------------------------------------------------------

COMPAT_TOP_LEVEL = frozenset(
    "messages model max_tokens max_completion_tokens temperature top_p stop n stream stream_options tools tool_choice "
    "parallel_tool_calls response_format reasoning_effort extra_body".split()
)


class GeminiCompat(OpenAIService):
    name = "gemini"
    prefix = "/gemini"
    base = "/v1beta/openai"
    test_key = Gemini.test_key

    def __init__(self, models: dict[str, Facts]) -> None:
        super().__init__()
        self.models = models

    def answer(self, request: Request) -> Answer:
        answer = super().answer(request)
        return errors.in_list(answer) if isinstance(answer, Reply) and answer.status != 200 else answer

    def check_key(self, request: Request) -> None:
        if not self.is_good_key(request.headers.get("authorization", "").removeprefix("Bearer ")):
            raise Refused(errors.gemini_bad_key())

    def error(self, status: int, message: str, code: str | None = None, param: str | None = None) -> Reply:
        return errors.gemini(status, "NOT_FOUND" if status == 404 else "INVALID_ARGUMENT", message)

    def unknown_model(self, model: str) -> Reply:
        return errors.gemini_not_found(model)

    def facts_of(self, model: Any, kind: str | None = None) -> Facts:
        return super().facts_of(str(model).removeprefix("models/"), kind)

    def check_chat(self, body: Json, facts: Facts) -> None:
        for name in unknown_names(body, COMPAT_TOP_LEVEL):
            raise Refused(errors.gemini_unknown_name(name))
        google = (body.get("extra_body") or {}).get("google") or {}
        if body.get("reasoning_effort") and google.get("thinking_config"):
            invalid("reasoning_effort and thinking_config cannot both be set")
        if "-pro" in body["model"]:
            raise Refused(errors.gemini_not_free(body["model"]))
        for position, message in enumerate(body["messages"]):
            self.check_calls(body["model"], position, message.get("tool_calls") or [])

    def check_calls(self, model: str, position: int, calls: list[Json]) -> None:
        parts = [
            {
                "functionCall": {"name": call["function"]["name"]},
                "thoughtSignature": ((call.get("extra_content") or {}).get("google") or {}).get("thought_signature"),
            }
            for call in calls
        ]
        check_signature(model.removeprefix("models/"), position, parts)

    def check_embeddings(self, body: Json, facts: Facts) -> None:
        for name in unknown_names(body, {"model", "input", "dimensions", "encoding_format"}):
            raise Refused(errors.gemini_unknown_name(name))
        if isinstance(body.get("input"), list) and len(body["input"]) > MAX_BATCH:
            invalid(f"* BatchEmbedContentsRequest.requests: at most {MAX_BATCH} requests can be in one batch\n")

    def new_call_id(self) -> str:
        return f"call_{next(self.numbers)}"

    def thought(self, text: str) -> Json:
        return {}

    def message(self, turn: Turn) -> Json:
        message = super().message(turn)
        if turn.call:
            del message["content"]
        return message

    def call(self, turn: Turn) -> Json:
        assert turn.call
        return {**super().call(turn), "extra_content": {"google": {"thought_signature": sign(turn.call[0])}}}

    def usage(self, turn: Turn) -> Json:
        """Thoughts are in the total only."""
        return {**super().usage(turn), "completion_tokens": turn.text_tokens}

    def chunks(self, turn: Turn, body: Json) -> Iterator[Json]:
        head = self.head(body)
        has_usage = (body.get("stream_options") or {}).get("include_usage")
        pieces: list[Json] = [{"content": token} for token in tokens_of(turn.text)]
        if turn.call:
            pieces = [{"tool_calls": [self.call(turn)]}]  # without an index
        finish = "stop" if turn.call else turn.finish_reason
        for number, piece in enumerate(pieces, start=1):
            is_last = number == len(pieces)
            chunk = self.chunk(head, {"role": "assistant", **piece}, finish if is_last else None)
            yield {**chunk, "usage": {**self.usage(turn), "completion_tokens": number}} if has_usage else chunk

    def model_entry(self, model: str) -> Json:
        return {"id": f"models/{model}", "object": "model", "owned_by": "google"}
