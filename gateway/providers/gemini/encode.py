"""A chat request as the body of `generateContent`.

https://ai.google.dev/api/generate-content, read 2026-11-22. Any name that the API does not know is answered with 400.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.domain import ChatRequest, Model
from gateway.providers.gemini.family import Family
from gateway.providers.gemini.messages import Conversation
from gateway.providers.gemini.schema import to_openapi
from gateway.providers.openai_compatible.fields import is_loss

Body = dict[str, Any]

MAX_STOPS = 5
_INT32 = 2**31

# OpenAI's name and Gemini's, in generationConfig.
_SAMPLING = {"temperature": "temperature", "top_p": "topP", "top_k": "topK", "seed": "seed", "stop": "stopSequences"}
_PENALTIES = {"presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty"}
_COUNT = {"n": "candidateCount"}
_GENERATION = {**_SAMPLING, **_PENALTIES, **_COUNT}

_STRUCTURE = frozenset({"tools", "tool_choice", "response_format"})

# What Google's compatible endpoint makes of the words for models that take a budget only.
# 2026-11: https://ai.google.dev/gemini-api/docs/openai
_BUDGETS: Mapping[str, int] = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}


def build_body(request: ChatRequest, model: Model, family: Family, signatures: Mapping[str, str]) -> tuple[Body, tuple[str, ...]]:
    """Return the body, and the names of the parameters that had to be left out."""
    given = {name: value for name, value in request.body.items() if value is not None and name != "messages"}
    allowed = model.params if model.params is not None else _default_params(family)
    taken = {name: value for name, value in given.items() if name in allowed and name in _GENERATION.keys() | _STRUCTURE}
    dropped = [name for name, value in given.items() if name not in taken and is_loss(name, value)]

    sampling = {name: value for name, value in taken.items() if name in _GENERATION}
    adapted = {name: _adapt(name, value) for name, value in sampling.items()}
    dropped += [name for name, value in sampling.items() if adapted[name] != _as_listed(name, value)]
    config = {_GENERATION[name]: value for name, value in adapted.items()}
    config |= _response_format(taken.get("response_format"), family)
    if request.max_output_tokens is not None:
        config["maxOutputTokens"] = min(request.max_output_tokens, model.max_output_tokens or request.max_output_tokens)
    effort = _effort(request, model, family)
    if request.reasoning_effort is not None and effort is None:
        dropped.append("reasoning_effort")
    config |= _thinking(effort, model, family, hidden=request.reasoning_effort == "none")

    conversation = Conversation.of(request.messages, family, signatures)
    body: Body = {"contents": conversation.contents}
    if conversation.system:
        body["systemInstruction"] = {"parts": conversation.system}
    body |= _tools(taken.get("tools"), taken.get("tool_choice"), family)
    if config:
        body["generationConfig"] = config
    return body, tuple(dropped)


def _default_params(family: Family) -> frozenset[str]:
    names = _SAMPLING.keys() | _STRUCTURE
    if family.takes_penalties:
        names |= _PENALTIES.keys()
    if family.takes_candidate_count:
        names |= _COUNT.keys()
    return frozenset(names)


def _adapt(name: str, value: Any) -> Any:
    """Return the nearest that the API takes: it refuses more stops, and a seed of more than 32 bits (OpenAI's has 64)."""
    value = _as_listed(name, value)
    if name == "stop":
        return value[:MAX_STOPS]
    if name == "seed" and isinstance(value, int):
        return value if -_INT32 <= value < _INT32 else value % _INT32
    return value


def _as_listed(name: str, value: Any) -> Any:
    if name != "stop":
        return value
    return [stop for stop in ([value] if isinstance(value, str) else value) if stop]


# --- form of the answer ----------------------------------------------------------------------------------------------


def _response_format(wanted: Mapping[str, Any] | None, family: Family) -> Body:
    kind = (wanted or {}).get("type")
    if wanted is None or kind not in ("json_object", "json_schema"):
        return {}
    config: Body = {"responseMimeType": "application/json"}
    schema = (wanted.get("json_schema") or {}).get("schema")
    if kind == "json_schema" and isinstance(schema, Mapping):
        if family.takes_json_schema:
            config["responseJsonSchema"] = schema
        else:
            config["responseSchema"] = to_openapi(schema)
    return config


# --- thinking --------------------------------------------------------------------------------------------------------


def _effort(request: ChatRequest, model: Model, family: Family) -> str | int | None:
    """Return the level or budget to ask for, None where the caller or the model leaves it open."""
    effort = model.effort(request.reasoning_effort) if family.takes_thinking else None
    if isinstance(effort, str) and family.thinks_by_budget:
        return _BUDGETS.get(effort.lower())
    return None if effort == "none" else effort  # there is no such level


def _thinking(effort: str | int | None, model: Model, family: Family, *, hidden: bool) -> Body:
    """Return the field; `hidden` thoughts of a model that cannot do without are not asked for."""
    if effort == 0:
        return {"thinkingConfig": {"thinkingBudget": 0}}  # thoughts are refused where there are none
    config: Body = {}
    if isinstance(effort, int):
        config["thinkingBudget"] = effort
    elif effort is not None:
        config["thinkingLevel"] = effort.upper()
    if model.reasons and not hidden and not family.is_open and (config or family.thinks_unasked):
        config["includeThoughts"] = True
    return {"thinkingConfig": config} if config else {}


# --- tools -----------------------------------------------------------------------------------------------------------


def _tools(tools: list[Mapping[str, Any]] | None, choice: Any, family: Family) -> Body:
    functions = [tool["function"] for tool in tools or () if isinstance(tool.get("function"), Mapping)]
    if not functions:
        return {}
    body: Body = {"tools": [{"functionDeclarations": [_declaration(function, family) for function in functions]}]}
    calling = _calling(choice)
    if calling:
        body["toolConfig"] = {"functionCallingConfig": calling}
    return body


def _declaration(function: Mapping[str, Any], family: Family) -> Body:
    declaration: Body = {"name": function["name"]}
    if function.get("description"):
        declaration["description"] = function["description"]
    parameters = function.get("parameters")
    if isinstance(parameters, Mapping) and parameters:
        if family.takes_json_schema:
            declaration["parametersJsonSchema"] = parameters
        elif parameters.get("properties"):  # an object without properties is refused in this form
            declaration["parameters"] = to_openapi(parameters)
    return declaration


def _calling(choice: Any) -> Body | None:
    if isinstance(choice, str):
        mode = {"none": "NONE", "auto": "AUTO", "required": "ANY"}.get(choice)
        return {"mode": mode} if mode else None
    name = ((choice or {}).get("function") or {}).get("name")
    return {"mode": "ANY", "allowedFunctionNames": [name]} if name else None
