"""Values that every layer speaks of: frozen, without I/O, with the unit in the name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["chat", "embedding", "rerank"]
Status = Literal["active", "preview", "legacy", "retired"]
Clock = Literal["utc", "pacific", "rolling"]
ReasoningLevel = Literal["low", "medium", "high"]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high"]
Window = Literal["rpm", "rpd", "tpm", "tpd", "neurons"]

REASONING_LEVELS: tuple[ReasoningLevel, ...] = ("low", "medium", "high")
REASONING_EFFORTS: tuple[ReasoningEffort, ...] = ("none", "minimal", "low", "medium", "high")
WINDOWS: tuple[Window, ...] = ("rpm", "rpd", "tpm", "tpd", "neurons")

# What a request can need of a model (`Model.capabilities`). "reasoning": it thinks before it answers;
# "image_urls": the upstream fetches images by https itself, others take data URLs only.
CAPABILITIES = ("streaming", "tools", "json_mode", "json_schema", "vision", "reasoning", "image_urls")

AUTO_NAMES = ("auto", "auto:fast", "auto:smart")


# --- catalog rows --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRow:
    """A provider as the catalog has it. `credential_env` None: it needs no credential."""

    key: str
    adapter: str = "openai_compatible"
    base_url: str
    base_url_env: str | None = None
    base_url_by_key_prefix: Mapping[str, str] = field(default_factory=dict)  # for credentials that begin so
    credential_env: str | None = None
    account_id_env: str | None = None
    docs: str | None = None
    read_on: str | None = None
    clock: Clock = "utc"
    account_limits: Mapping[Window, int] = field(default_factory=dict)
    discover: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as the catalog has it: what a client may name, what it can do, and what its free tier allows.

    `limits` lacks a window that is not limited; 0 means never a candidate. `dimensions` are those an embedding
    model can return, its own first; `min_dimensions` is set where every size from it up to the own one works.
    `reasoning_efforts` maps the gateway's level to what the provider takes: its own word, or a budget in tokens.
    `params` None: the adapter's list of parameters holds. `builtin` rows are judged by discovery, others never.
    `unlimited`: the operator wrote that there are no limits, and none that the provider names counts either.
    """

    provider: str
    id: str
    kind: Kind = "chat"
    created: int = 0
    reasoning_tier: ReasoningLevel | None = None
    context_window: int = 8192
    max_output_tokens: int | None = None
    capabilities: frozenset[str] = frozenset({"streaming"})
    limits: Mapping[Window, int] = field(default_factory=dict)
    unlimited: bool = False
    upstream_id: str = ""
    status: Status = "active"
    replaced_by: str | None = None
    quality: int | None = None
    dimensions: tuple[int, ...] = ()
    min_dimensions: int | None = None
    batch: int | None = None
    first_token_timeout_s: float | None = None
    reserves_output: bool = False
    params: frozenset[str] | None = None
    reasoning_efforts: Mapping[ReasoningEffort, str | int] = field(default_factory=dict)
    neurons_per_mtok: tuple[float, float] | None = None  # Workers AI's unit: (prompt, completion) per million tokens
    source: str | None = None
    confirmed: bool | None = None
    builtin: bool = False

    @property
    def name(self) -> str:
        """`provider/id`: the name that only this row has."""
        return f"{self.provider}/{self.id}"

    @property
    def has_quota(self) -> bool:
        """Whether the free tier offers it at all: a limit of 0 makes it nobody's candidate."""
        return 0 not in self.limits.values()

    @property
    def streams(self) -> bool:
        return self.kind == "chat" and "streaming" in self.capabilities

    @property
    def reasons(self) -> bool:
        return self.reasoning_tier is not None or "reasoning" in self.capabilities

    def effort(self, wanted: ReasoningEffort | None) -> str | int | None:
        """Return what the provider calls a reasoning effort, None where the model cannot be told one.

        A level that the model lacks becomes its nearest: the next higher one, else its highest. A model that
        reasons and whose row has no table takes OpenAI's own words.
        """
        if wanted is None or not self.reasons:
            return None
        if not self.reasoning_efforts:
            return wanted if "reasoning" in self.capabilities and not self.builtin else None
        offered = [level for level in REASONING_EFFORTS if level in self.reasoning_efforts]
        enough = [level for level in offered if REASONING_EFFORTS.index(level) >= REASONING_EFFORTS.index(wanted)]
        return self.reasoning_efforts[enough[0] if enough else offered[-1]]


@dataclass(frozen=True, slots=True)
class Credential:
    """One key of a provider, with the base URL it belongs to. `number` counts from 1, in the variable's order."""

    provider: str
    number: int
    base_url: str
    secret: str = field(default="", repr=False)
    id: str = field(init=False)  # for shared state: it survives reordering and tells nothing of the secret

    def __post_init__(self) -> None:
        digest = hashlib.sha256(f"{self.base_url} {self.secret}".encode()).hexdigest()
        object.__setattr__(self, "id", f"{self.provider}#{digest[:12]}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model behind one credential of one provider: what a single attempt is made on. Its names are built once."""

    provider: ProviderRow
    model: Model
    credential: Credential
    id: str = field(init=False)
    model_scope: str = field(init=False, repr=False)
    provider_scope: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", f"{self.credential.id}/{self.model.id}")
        object.__setattr__(self, "model_scope", f"model:{self.model.name}")
        object.__setattr__(self, "provider_scope", f"provider:{self.provider.key}")


# --- what clients ask ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which models the caller will accept.

    `names` are tried in the caller's order; one of AUTO_NAMES stands for every model that fits.
    """

    names: tuple[str, ...] = ("auto",)
    force_provider: str | None = None
    force_model: str | None = None
    min_reasoning_level: ReasoningLevel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A chat request in OpenAI's shape, checked and made canonical.

    `body` holds what the client sent for the model: `messages` (roles system, developer, user, assistant, tool),
    `tools` in the `{"type": "function", "function": {...}}` form, `tool_choice`, `response_format` and every field
    that the gateway does not know. Model names, token limits, reasoning, streaming and the gateway's own fields are
    taken out of it and stand in the attributes. `dropped` names what the client's surface has and no chat can be told,
    for the header that discloses it. It is shared by all attempts: never changed, only copied.
    """

    body: Mapping[str, Any]
    choice: Choice = Choice()
    stream: bool = False
    include_usage: bool = False
    max_output_tokens: int | None = None
    reasoning_effort: ReasoningEffort | None = None
    needs: frozenset[str] = frozenset()
    prompt_tokens: int = 0
    project_id: str | None = None
    dropped: tuple[str, ...] = ()

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        messages: Sequence[Mapping[str, Any]] = self.body["messages"]
        return messages


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """Texts to embed, in order. `dimensions` None: the model's own size. `input_type` is query or document."""

    inputs: tuple[str, ...]
    choice: Choice
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] = "float"
    input_type: str | None = None
    user: str | None = None
    prompt_tokens: int = 0
    project_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankRequest:
    """Texts to put in the order in which they answer a query. `top_n` None: all of them.

    `prompt_tokens` counts the query once for each document, since a model reads it with each.
    """

    query: str
    documents: tuple[str, ...]
    choice: Choice
    top_n: int | None = None
    return_documents: bool = False
    prompt_tokens: int = 0
    project_id: str | None = None


# --- what attempts yield -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer. `estimated`: counted by the gateway because the provider told nothing."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Scored:
    """How well a document answers the query, by the model's own measure. `index`: its place in the request."""

    index: int
    score: float


@dataclass(frozen=True, slots=True)
class QuotaReading:
    """What a provider's answer said of one window: None where it said nothing of that. `resets_in_s` from now."""

    window: Window
    limit: int | None = None
    remaining: int | None = None
    resets_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to one candidate, and how it ended: `outcome` is "ok", the failing status, or one word."""

    provider: str
    model: str
    outcome: str
    status: int | None = None
    ms: float = 0.0

    def to_body(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "model": self.model,
            "status": self.status,
            "reason": self.outcome,
            "ms": round(self.ms, 1),
        }

    @property
    def trail(self) -> str:
        return f"{self.provider}/{self.model}:{self.outcome}"
