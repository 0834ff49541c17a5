"""What requests hold where their schemas read it by hand: conversations, tools, and the answer's form.

Only what everybody needs to know. The readers (gateway/api/schemas) take more: other APIs' spellings, and fields that ride along.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.api.description.shapes import (
    FLAG,
    OBJECT,
    TEXT,
    WHOLE,
    Shape,
    about,
    any_of,
    const,
    list_of,
    map_of,
    or_null,
    record,
    ref,
    words,
)
from gateway.api.schemas import (
    ChatSchema,
    CompletionSchema,
    EmbeddingSchema,
    MessagesSchema,
    RerankSchema,
    ResponsesSchema,
)
from gateway.api.schemas.chat import EFFORTS, GenerationSchema
from gateway.api.schemas.embeddings import MAX_INPUTS
from gateway.api.schemas.envelope import MAX_NAME_LENGTH, MAX_NAMES
from gateway.api.schemas.messages import MAX_CALLS
from gateway.api.schemas.rerank import MAX_DOCUMENTS
from gateway.api.schemas.responses import items
from gateway.api.schemas.responses.request import SUMMARIES, VERBOSITIES

NOT_EMPTY: Shape = {**TEXT, "minLength": 1}
TOOL_NAME: Shape = {**TEXT, "pattern": "^[A-Za-z0-9_.:-]{1,128}$"}
EFFORT: Shape = words(*EFFORTS)
MODELS: Shape = {**list_of({**NOT_EMPTY, "maxLength": MAX_NAME_LENGTH}), "maxItems": MAX_NAMES}
JSON_SCHEMA = about("A JSON schema.", OBJECT)


def at_least_one(item: Shape, most: int | None = None) -> Shape:
    limits = {"minItems": 1} if most is None else {"minItems": 1, "maxItems": most}
    return {**list_of(item), **limits}


def content_of(*parts: str) -> Shape:
    """Return the shape of content: a text, or parts of these names."""
    return any_of(TEXT, list_of(any_of(*map(ref, parts)) if len(parts) > 1 else ref(*parts)))


# --- named shapes ------------------------------------------------------------------------------------------------------

IMAGE_URL: Shape = {
    **TEXT,
    "pattern": r"^(https?://[^\s/]\S*|data:image/[\w.+-]+;base64,.+)$",
    "description": "An http(s) URL, which a provider fetches, or a base64 data URL (`data:image/png;base64,...`).",
}

PARTS: Mapping[str, Shape] = {
    "TextPart": record({"type": const("text"), "text": TEXT}),
    "ImagePart": record(
        {"type": const("image_url"), "image_url": record({"url": IMAGE_URL}, {"detail": words("auto", "low", "high")})}
    ),
    "FunctionCall": record({"name": NOT_EMPTY}, {"arguments": about("A JSON object as text.", TEXT)}),
    "ToolCall": record({"id": TEXT, "function": ref("FunctionCall")}, {"type": const("function")}),
    "Message": any_of(
        record({"role": const("user"), "content": content_of("TextPart", "ImagePart")}, {"name": TEXT}),
        record({"role": words("system", "developer"), "content": content_of("TextPart")}),
        record(
            {"role": const("assistant")},
            {
                "content": or_null(content_of("TextPart")),
                "tool_calls": {**list_of(ref("ToolCall")), "maxItems": MAX_CALLS},
                "reasoning_content": TEXT,
            },
        ),
        record({"role": const("tool"), "tool_call_id": NOT_EMPTY, "content": content_of("TextPart")}),
    ),
    "Function": record({"name": TOOL_NAME}, {"description": TEXT, "parameters": JSON_SCHEMA, "strict": FLAG}),
    "Tool": record({"type": const("function"), "function": ref("Function")}),
    "ToolChoice": any_of(
        words("none", "auto", "required"), record({"type": const("function"), "function": record({"name": TOOL_NAME})})
    ),
    "ResponseFormat": any_of(
        record({"type": words("text", "json_object")}),
        record({"type": const("json_schema"), "json_schema": record({"name": TEXT, "schema": JSON_SCHEMA}, {"strict": FLAG})}),
    ),
    "ImageBlock": record({"type": const("image"), "source": ref("ImageSource")}),
    "ToolUse": record({"type": const("tool_use"), "id": TEXT, "name": TOOL_NAME, "input": OBJECT}),
    "ToolResult": record(
        {"type": const("tool_result"), "tool_use_id": TEXT},
        {"content": content_of("TextPart", "ImageBlock"), "is_error": FLAG},
    ),
    "Thinking": record({"type": const("thinking"), "thinking": TEXT}, {"signature": TEXT}),
    "ImageSource": any_of(
        record({"type": const("base64"), "media_type": TEXT, "data": TEXT}),
        record({"type": const("url"), "url": IMAGE_URL}),
    ),
    "OutputFormat": record({"type": const("json_schema"), "schema": JSON_SCHEMA}),
    "Turn": any_of(
        record({"role": const("user"), "content": content_of("TextPart", "ImageBlock", "ToolResult")}),
        record({"role": const("assistant"), "content": content_of("TextPart", "ToolUse", "Thinking")}),
    ),
    "MessagesTool": record({"name": TOOL_NAME, "input_schema": JSON_SCHEMA}, {"description": TEXT}),
    "InputPart": any_of(
        record({"type": words("input_text", "output_text"), "text": TEXT}),
        record({"type": const("input_image"), "image_url": IMAGE_URL}, {"detail": TEXT}),
        record({"type": const("refusal"), "refusal": TEXT}),
    ),
    "InputItem": any_of(
        record({"role": words(*items.ROLES), "content": content_of("InputPart")}, {"type": const("message")}),
        record({"type": const("function_call"), "call_id": NOT_EMPTY, "name": TOOL_NAME, "arguments": TEXT}),
        record({"type": const("function_call_output"), "call_id": NOT_EMPTY, "output": content_of("InputPart")}),
        record({"type": const("custom_tool_call"), "call_id": NOT_EMPTY, "name": TOOL_NAME, "input": TEXT}),
        record({"type": const("custom_tool_call_output"), "call_id": NOT_EMPTY, "output": content_of("InputPart")}),
        record({"type": const("reasoning")}, {"summary": list_of(OBJECT)}),
    ),
    "TextFormat": any_of(
        record({"type": words("text", "json_object")}),
        record({"type": const("json_schema"), "name": TEXT, "schema": JSON_SCHEMA}, {"strict": FLAG}),
    ),
    "ResponsesTool": any_of(
        record(
            {"type": const("function"), "name": TOOL_NAME},
            {"description": TEXT, "parameters": or_null(JSON_SCHEMA), "strict": or_null(FLAG)},
        ),
        record({"type": const("custom"), "name": TOOL_NAME}, {"description": TEXT, "format": OBJECT}),
        record({"type": const("namespace"), "name": TOOL_NAME, "tools": list_of(ref("ResponsesTool"))}, {"description": TEXT}),
    ),
}

# --- fields, by the schema that has them --------------------------------------------------------------------------------

CONTENTS: Mapping[tuple[type, str | None], Shape] = {
    (GenerationSchema, "models"): MODELS,
    (ChatSchema, "messages"): at_least_one(ref("Message")),
    (ChatSchema, "stream_options"): record({}, {"include_usage": or_null(FLAG)}),
    (ChatSchema, "tools"): list_of(ref("Tool")),
    (ChatSchema, "tool_choice"): ref("ToolChoice"),
    (ChatSchema, "response_format"): ref("ResponseFormat"),
    (ChatSchema, "reasoning"): record({}, {"effort": or_null(EFFORT), "enabled": FLAG}),
    (ChatSchema, "text"): record({}, {"format": ref("TextFormat"), "verbosity": or_null(words(*VERBOSITIES))}),
    (CompletionSchema, "prompt"): any_of(TEXT, at_least_one(TEXT, 1)),
    (EmbeddingSchema, "input"): any_of(NOT_EMPTY, at_least_one(NOT_EMPTY, MAX_INPUTS)),
    (RerankSchema, "documents"): at_least_one(any_of(NOT_EMPTY, record({"text": NOT_EMPTY})), MAX_DOCUMENTS),
    (ResponsesSchema, "input"): any_of(TEXT, at_least_one(ref("InputItem"))),
    (ResponsesSchema, "tools"): list_of(ref("ResponsesTool")),
    (ResponsesSchema, "tool_choice"): any_of(
        words("none", "auto", "required"),
        record({"type": words("function", "custom"), "name": TOOL_NAME}),
        record({"type": const("allowed_tools"), "mode": words("auto", "required"), "tools": list_of(OBJECT)}),
    ),
    (ResponsesSchema, "reasoning"): record({}, {"effort": or_null(EFFORT), "summary": or_null(words(*SUMMARIES))}),
    (ResponsesSchema, "text"): record({}, {"format": ref("TextFormat"), "verbosity": or_null(words(*VERBOSITIES))}),
    (ResponsesSchema, "metadata"): map_of(TEXT),
    (MessagesSchema, "models"): MODELS,
    (MessagesSchema, "messages"): at_least_one(ref("Turn")),
    (MessagesSchema, "system"): any_of(TEXT, list_of(record({"type": const("text"), "text": TEXT}))),
    (MessagesSchema, "tools"): list_of(ref("MessagesTool")),
    (MessagesSchema, "tool_choice"): record({"type": words("auto", "any", "none", "tool")}, {"name": TOOL_NAME}),
    (MessagesSchema, "thinking"): record({"type": words("enabled", "adaptive", "disabled")}, {"budget_tokens": WHOLE}),
    (MessagesSchema, "output_config"): record({}, {"effort": EFFORT, "format": ref("OutputFormat")}),
    (MessagesSchema, "output_format"): ref("OutputFormat"),
    (MessagesSchema, "metadata"): record({}, {"user_id": or_null(TEXT)}),
}
