"""The bodies of answers. Answers of models may hold further fields of their providers'."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.api.description.shapes import (
    ANY,
    FLAG,
    MOMENT,
    NUMBER,
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
from gateway.domain import REASONING_LEVELS

_FINISH = words("stop", "length", "tool_calls", "content_filter")
_COUNT = {"requests": WHOLE, "successful": WHOLE, "failed": WHOLE, "tokens": ref("Tokens")}
_HEALTH = {
    "provider": TEXT,
    "healthy": FLAG,
    "success_rate": or_null(NUMBER),
    "avg_latency_ms": or_null(NUMBER),
    "ttft_ms": or_null(NUMBER),
    "in_cooldown": FLAG,
    "cooldown_until": or_null(MOMENT),
    "daily_requests": WHOLE,
    "daily_limit": or_null(WHOLE),
}

MODELS: Mapping[str, Shape] = {
    "Model": record(
        {
            "id": about("What a request's `model` takes.", TEXT),
            "object": const("model"),
            "created": about("Unix seconds.", WHOLE),
            "owned_by": TEXT,
            "provider": TEXT,
            "reasoning_tier": or_null(words(*REASONING_LEVELS)),
            "supports_streaming": about("False for embeddings and rerankers.", FLAG),
        },
        {
            "capabilities": about("With `?include=capabilities`.", ref("Capabilities")),
            "health": about("With `?include=health`.", ref("ModelHealth")),
        },
    ),
    "Capabilities": record(
        {
            "kind": words("chat", "embedding", "rerank"),
            "context_window": WHOLE,
            "max_output_tokens": or_null(WHOLE),
            "tools": FLAG,
            "json_mode": FLAG,
            "json_schema": FLAG,
            "vision": FLAG,
        }
    ),
    "ModelList": record({"object": const("list"), "data": list_of(ref("Model"))}),
    "MessagesModel": record(
        {"type": const("model"), "id": TEXT, "display_name": TEXT, "created_at": MOMENT},
        about="With the header `anthropic-version`.",
    ),
    "MessagesModelPage": record(
        {"data": list_of(ref("MessagesModel")), "has_more": FLAG, "first_id": or_null(TEXT), "last_id": or_null(TEXT)}
    ),
}

SERVED: Mapping[str, Shape] = {
    "XGateway": record(
        {
            "provider": TEXT,
            "model": TEXT,
            "attempts": WHOLE,
            "reasoning_effort": about("`auto`: the choice was the model's.", TEXT),
            "request_id": TEXT,
        },
        {
            "estimated": about("The provider did not count the tokens.", FLAG),
            "rescued": about("The stream broke, and another provider finished it.", FLAG),
            "trail": TEXT,
        },
    ),
    "Usage": record({"prompt_tokens": WHOLE, "completion_tokens": WHOLE, "total_tokens": WHOLE}),
}

CHATS: Mapping[str, Shape] = {
    "ChatCompletion": record(
        {
            "id": TEXT,
            "object": const("chat.completion"),
            "created": WHOLE,
            "model": TEXT,
            "choices": list_of(record({"index": WHOLE, "message": ref("Answer"), "finish_reason": _FINISH}, {"logprobs": ANY})),
            "usage": ref("Usage"),
            "x_gateway": ref("XGateway"),
        }
    ),
    "Answer": record(
        {"role": const("assistant"), "content": or_null(TEXT)},
        {"reasoning_content": about("The model's thoughts.", TEXT), "tool_calls": list_of(ref("ToolCall"))},
    ),
    "ChatCompletionChunk": record(
        {
            "id": TEXT,
            "object": const("chat.completion.chunk"),
            "created": WHOLE,
            "model": TEXT,
            "choices": list_of(record({"index": WHOLE, "delta": OBJECT, "finish_reason": or_null(_FINISH)})),
        },
        {
            "usage": about("In one last chunk without choices, where `stream_options.include_usage` asks for it.", ref("Usage")),
            "x_gateway": about("In the chunk with the finish reason.", ref("XGateway")),
        },
        "One event of a stream.",
    ),
    "TextCompletion": record(
        {
            "id": TEXT,
            "object": const("text_completion"),
            "created": WHOLE,
            "model": TEXT,
            "choices": list_of(
                record({"index": WHOLE, "text": TEXT, "finish_reason": or_null(TEXT), "logprobs": or_null(OBJECT)})
            ),
        },
        {"usage": ref("Usage"), "x_gateway": ref("XGateway")},
        "A whole answer, or one event of a stream.",
    ),
    "Response": record(
        {
            "id": TEXT,
            "object": const("response"),
            "created_at": NUMBER,
            "status": words("completed", "incomplete", "failed", "in_progress"),
            "error": or_null(OBJECT),
            "incomplete_details": or_null(OBJECT),
            "model": TEXT,
            "output": list_of(record({"type": TEXT, "id": TEXT}, about="A message, a call, or thoughts.")),
            "usage": or_null(record({"input_tokens": WHOLE, "output_tokens": WHOLE, "total_tokens": WHOLE})),
        },
        {"x_gateway": ref("XGateway")},
        "What the request said of tools, text and limits is repeated beside these fields.",
    ),
    "MessagesAnswer": record(
        {
            "id": TEXT,
            "type": const("message"),
            "role": const("assistant"),
            "model": TEXT,
            "content": list_of(record({"type": words("text", "thinking", "tool_use")})),
            "stop_reason": or_null(TEXT),
            "stop_sequence": or_null(TEXT),
            "usage": record({"input_tokens": WHOLE, "output_tokens": WHOLE}),
            "x_gateway": ref("XGateway"),
        }
    ),
    "TokenCount": record({"input_tokens": WHOLE}),
}

VECTORS: Mapping[str, Shape] = {
    "EmbeddingList": record(
        {
            "object": const("list"),
            "data": list_of(
                record(
                    {
                        "object": const("embedding"),
                        "index": WHOLE,
                        "embedding": any_of(list_of(NUMBER), about("Little-endian float32 in base64.", TEXT)),
                    }
                )
            ),
            "model": TEXT,
            "usage": record({"prompt_tokens": WHOLE, "total_tokens": WHOLE}),
            "x_gateway": ref("XGateway"),
        }
    ),
    "Ranking": record(
        {
            "object": const("list"),
            "model": TEXT,
            "results": about(
                "The best first; `index` is the place in the request.",
                list_of(record({"index": WHOLE, "relevance_score": NUMBER}, {"document": record({"text": TEXT})})),
            ),
            "usage": record({"total_tokens": WHOLE}),
            "x_gateway": ref("XGateway"),
        }
    ),
}

FIGURES: Mapping[str, Shape] = {
    "RoutingStatus": record(
        {
            "object": const("routing_status"),
            "model": TEXT,
            "candidates": list_of(
                record(
                    {
                        "provider": TEXT,
                        "model": TEXT,
                        "credential": about("Its number.", WHOLE),
                        "rank": about("Null when out.", or_null(WHOLE)),
                        "score": or_null(NUMBER),
                        "terms": about("What the score is made of.", map_of(NUMBER)),
                        "out_because": or_null(TEXT),
                        "until": or_null(MOMENT),
                        "probe": about("A rest is over, and one request sees whether it is back.", FLAG),
                    }
                )
            ),
            "unknown_upstream_models": about("Models that only the provider knows, by provider.", map_of(list_of(TEXT))),
        }
    ),
    "QuotaList": record(
        {
            "object": const("quota"),
            "data": list_of(
                record(
                    {
                        "provider": TEXT,
                        "model": about("Null: all of the account.", or_null(TEXT)),
                        "credential": WHOLE,
                        "window": about("rpm, rpd, tpm, tpd or neurons.", TEXT),
                        "limit": NUMBER,
                        "used": NUMBER,
                        "remaining": NUMBER,
                        "resets_at": or_null(MOMENT),
                        "exhausted_at": about("At the present rate.", or_null(MOMENT)),
                        "source": words("catalog", "provider"),
                    }
                )
            ),
        }
    ),
    "ProviderStats": record(
        {
            "stats": list_of(
                record(
                    {
                        "provider": TEXT,
                        "total_models": WHOLE,
                        "active_models": WHOLE,
                        "total_attempts": WHOLE,
                        "success_rate": or_null(NUMBER),
                        "throttle_count": WHOLE,
                        "throttle_rate": NUMBER,
                        "avg_latency_ms": or_null(NUMBER),
                        "cooldown_events": WHOLE,
                        "models_in_cooldown": WHOLE,
                        "failure_breakdown": map_of(WHOLE),
                    }
                )
            )
        }
    ),
    "Tokens": record({"prompt": WHOLE, "completion": WHOLE, "total": WHOLE}),
    "Count": record(_COUNT),
    "Analytics": record(
        {
            "total_requests": WHOLE,
            "successful_requests": WHOLE,
            "failed_requests": WHOLE,
            "success_rate": or_null(NUMBER),
            "tokens": ref("Tokens"),
            **dict.fromkeys(("providers", "models", "projects", "keys"), map_of(ref("Count"))),
            "days": list_of(record({"date": {"type": "string", "format": "date"}, **_COUNT})),
        },
        {
            "minutes": about(
                "With `?minutes=`.",
                list_of(
                    record(
                        {
                            "t": MOMENT,
                            "requests": WHOLE,
                            "successful": WHOLE,
                            "ttft_ms_p50": or_null(NUMBER),
                            "tokens": ref("Tokens"),
                            "providers": about("Requests of each.", map_of(WHOLE)),
                        }
                    )
                ),
            )
        },
    ),
    "RequestList": record(
        {
            "object": const("list"),
            "data": list_of(
                record(
                    {
                        "id": TEXT,
                        "t": about("When it ended.", MOMENT),
                        "key": about("The name of the key.", or_null(TEXT)),
                        "project_id": or_null(TEXT),
                        "model": about("As asked for.", or_null(TEXT)),
                        "served_by": or_null(TEXT),
                        "status": about("499: the client left.", WHOLE),
                        "attempts": WHOLE,
                        "trail": TEXT,
                        "ttft_ms": or_null(NUMBER),
                        "duration_ms": NUMBER,
                        "tokens": or_null(ref("Tokens")),
                    }
                )
            ),
        }
    ),
    "ModelHealth": record(_HEALTH),
    "Health": record({"status": words("ok", "degraded"), "models": map_of(ref("ModelHealth"))}),
}

PROCESS: Mapping[str, Shape] = {
    "Alive": record({"status": const("ok")}),
    "Ready": record({"status": words("ok", "degraded"), "state_store": words("ok", "down")}),
    "Hello": record({"message": TEXT}),
    "Gateway": record({"object": const("gateway")}, about="Where to go from here."),
    "OpenApi": record({"openapi": TEXT, "info": OBJECT, "paths": OBJECT}),
}

ANSWERS: Mapping[str, Shape] = {**MODELS, **SERVED, **CHATS, **VECTORS, **FIGURES, **PROCESS}
