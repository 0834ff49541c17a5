"""Which candidates can serve a request: names, capabilities, reasoning tier and context window. Pure.

What is resting or out of quota is not decided here: that changes from moment to moment (outlook.py, attempts.py).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gateway.catalog import Named
from gateway.domain import REASONING_LEVELS, Candidate, ChatRequest, Choice, EmbeddingRequest, Kind, Model, RerankRequest
from gateway.errors import InvalidRequest, ModelNotFound
from gateway.inventory import Inventory
from gateway.providers.base import Provider

T = TypeVar("T")

ANSWER_FLOOR_TOKENS = 256  # room for an answer that makes a context window "fit"; clients ask for far more than they use
MOST_KEPT = 1000  # plans by names and features: clients use few of either

_PATHS: Mapping[Kind, str] = {"chat": "/v1/chat/completions", "embedding": "/v1/embeddings", "rerank": "/v1/rerank"}
_FEATURES = {
    "tools": "tools",
    "json_mode": "response_format json_object",
    "json_schema": "response_format json_schema",
    "vision": "images",
    "image_urls": "images by https URL (send them as data: URLs)",
    "reasoning": "reasoning",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Who may serve a request: the caller's choices in the caller's order, each with its candidates.

    `pinned`: the ids of those whose model the caller named, so that their order stands and each is worth a second try.
    `profile` is the auto name by whose weights candidates are ranked. `left_out` are those that cannot serve this request,
    and why.
    """

    choices: tuple[tuple[Candidate, ...], ...]
    pinned: frozenset[str] = frozenset()
    profile: str = "auto"
    left_out: tuple[tuple[Candidate, str], ...] = ()

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(candidate for choice in self.choices for candidate in choice)


@dataclass(frozen=True, slots=True)
class _Fitting:
    """A plan by names and features, with what each request has to be compared with."""

    plan: Plan
    picky: tuple[Candidate, ...]  # whose providers look at more of a request than what models can do
    windows: tuple[int, ...]  # the distinct context windows, the smallest first


class Planner:
    """Plans requests over one inventory. Thread-safe.

    Every plan is worked out once and kept: the same names, features and needs of room find the very same tuples again,
    so that what is known of a large group can be kept with it.
    """

    def __init__(self, inventory: Inventory, providers: Mapping[str, Provider]) -> None:
        self._inventory = inventory
        self._providers = providers
        self._kept: dict[Hashable, Any] = {}

    def plan_chat(self, request: ChatRequest) -> Plan:
        """Return who can serve a chat request.

        :raises ModelNotFound: a name that nobody has. :raises InvalidRequest: nobody asked for has a needed feature.
        """
        key: Hashable = (request.choice, request.needs)
        fitting = self._remember(key, lambda: self._fitting(self._plan_features(request)))
        refusals = self._refusals(fitting.picky, request)
        if refusals:
            key = (key, frozenset(refusals))
            fitting = self._remember(key, lambda: self._fitting(_keep_servable(fitting.plan, refusals)))
        window = _least_window(fitting.windows, request.prompt_tokens)
        return self._remember((key, window), lambda: _narrow(fitting.plan, _has_window(window), "context_window"))

    def _remember(self, key: Hashable, build: Callable[[], T]) -> T:
        found: T | None = self._kept.get(key)
        if found is None:
            found = build()
            if len(self._kept) < MOST_KEPT:
                self._kept[key] = found
        return found

    def _fitting(self, plan: Plan) -> _Fitting:
        # Not each of hundreds of models has to be asked about whose provider would only look at what it can do.
        own = {key for key, one in self._providers.items() if type(one).cannot_serve is not Provider.cannot_serve}
        picky = tuple(candidate for candidate in plan.candidates if candidate.provider.key in own)
        return _Fitting(plan, picky, tuple(sorted({candidate.model.context_window for candidate in plan.candidates})))

    def _refusals(self, candidates: Iterable[Candidate], request: ChatRequest) -> dict[str, str]:
        """Return why these candidates cannot serve a request, by id; those that can are missing."""
        reasons = ((c.id, self._providers[c.provider.key].cannot_serve(request, c.model)) for c in candidates)
        return {id_: why for id_, why in reasons if why}

    def plan_embeddings(self, request: EmbeddingRequest) -> Plan:
        """Return who can embed: only homes of the very model that was asked for, since vector spaces do not mix.

        :raises ModelNotFound: a name that nobody has. :raises InvalidRequest: the model cannot return such vectors.
        """
        plan = _plan(request.choice, "embedding", self._inventory)
        size = request.dimensions
        return _keep(plan, lambda c: size is None or _can_size(c.model, size), "dimensions", lambda: _size_missing(plan))

    def plan_rerank(self, request: RerankRequest) -> Plan:
        """Return who can rerank: only homes of the very model that was asked for, since each measures by its own scale.

        :raises ModelNotFound: a name that nobody has.
        """
        return _plan(request.choice, "rerank", self._inventory)

    def plan_name(self, name: str) -> Plan:
        """Return everybody whom a name stands for, of whichever kind. :raises ModelNotFound: nobody."""
        named = self._inventory.catalog.resolve(name)
        kinds = {model.kind for model in named.models} if named and not named.auto else set()
        kind: Kind = "chat" if "chat" in kinds or not kinds else kinds.pop()
        return _plan(Choice(names=(name,)), kind, self._inventory)

    def _plan_features(self, request: ChatRequest) -> Plan:
        plan = _plan(request.choice, "chat", self._inventory)
        plan = _keep(plan, lambda c: _tier_reached(request, c.model), "reasoning_tier", _tier_missing)
        for need in sorted(request.needs):
            plan = _keep(plan, _has(need), need, lambda need=need: _feature_missing(_FEATURES[need]))  # type: ignore[misc]
        return plan


_Group = tuple[tuple[Candidate, ...], str | None]  # with the auto name that stands for them, if one does


def _plan(choice: Choice, kind: Kind, inventory: Inventory) -> Plan:
    names = (choice.force_model,) if choice.force_model else choice.names
    named = [_candidates_named(name, kind, inventory) for name in names]
    profile = next((auto for _, auto in named if auto), "auto")
    groups = _without_repeats(named)
    choices = tuple(group for group, _ in groups)
    pinned = frozenset(candidate.id for group, auto in groups if not auto for candidate in group)
    if choice.force_provider is not None:
        choices = _only_provider(choices, choice, inventory)
    return Plan(choices, pinned, profile)


def _candidates_named(name: str, kind: Kind, inventory: Inventory) -> _Group:
    """Return the candidates behind a name, and the auto name where it leaves the choice to the gateway."""
    named = find_callable(name, inventory, kind)
    models = (*named.models, *inventory.auto_models) if named.auto else named.models
    return tuple(candidate for model in models for candidate in inventory.candidates(model)), named.auto


def find_callable(name: str, inventory: Inventory, kind: Kind | None = None) -> Named:
    """Return what a name stands for, less the models that cannot be called now. `kind` None: of any kind.

    :raises ModelNotFound: nobody is left; the message says what to use or to set instead.
    :raises InvalidRequest: the name stands for models of another kind.
    """
    named = inventory.catalog.resolve(name)
    if named is None:
        raise _unknown(name, kind)
    if named.auto:
        if kind not in (None, "chat"):
            raise InvalidRequest(f"Name a model for {_PATHS[kind]}: {_shown(name)} stands for chat models.", param="model")
        usable = _usable(named.models, inventory)
        if not usable and not inventory.auto_models:
            raise _nobody(inventory)
        return Named(usable, named.auto)
    fitting = [model for model in named.models if kind in (None, model.kind)]
    if kind and not fitting:
        path = _PATHS[named.models[0].kind]
        raise InvalidRequest(f"The model {_shown(name)} is not for {_PATHS[kind]}; use it with {path}.", param="model")
    living = [model for model in fitting if model.status != "retired"]
    if not living:
        raise _retired(name, fitting[0])
    usable = _usable(living, inventory)
    if not usable:
        raise _unusable(name, living, inventory)
    return Named(usable)


def _usable(models: Iterable[Model], inventory: Inventory) -> tuple[Model, ...]:
    return tuple(model for model in models if inventory.candidates(model))


def _unknown(name: str, kind: Kind | None) -> ModelNotFound:
    ways = "use one that GET /v1/models lists, "
    ways += "or send `auto`, or alias the name" if kind in (None, "chat") else "or alias the name"
    return ModelNotFound(f"The model {_shown(name)} does not exist: {ways} in [aliases] of GATEWAY_CATALOG.", param="model")


def _nobody(inventory: Inventory) -> ModelNotFound:
    first = next(iter(inventory.catalog.credential_variables), "a credential")
    todo = f"set {first} or another provider's key"
    if empty := inventory.empty_providers:
        todo = f"add a [[models]] row for {_shown(empty[0])} to GATEWAY_CATALOG, or {todo}"
    return ModelNotFound(f"No chat model has a usable provider: {todo}, and restart the gateway.", param="model")


def _retired(name: str, model: Model) -> ModelNotFound:
    instead = f" Use {_shown(model.replaced_by)} instead." if model.replaced_by else " GET /v1/models lists those that remain."
    return ModelNotFound(f"The model {_shown(name)} was retired by its provider.{instead}", param="model")


def _unusable(name: str, models: Iterable[Model], inventory: Inventory) -> ModelNotFound:
    if any(model.provider in inventory.usable_providers and not model.has_quota for model in models):
        message = f"The model {_shown(name)} has no quota at its provider's free tier. GET /v1/models lists those that have."
        return ModelNotFound(message, param="model")
    ways = dict.fromkeys(" and ".join(inventory.missing_variables(model.provider)) for model in models)
    todo = " or ".join(way for way in ways if way) or "GATEWAY_SANDBOX=on"
    return ModelNotFound(f"The model {_shown(name)} has no usable provider: set {todo} and restart the gateway.", param="model")


def _only_provider(
    choices: tuple[tuple[Candidate, ...], ...], choice: Choice, inventory: Inventory
) -> tuple[tuple[Candidate, ...], ...]:
    forced = choice.force_provider or ""
    if forced not in inventory.catalog.providers:
        known = ", ".join(inventory.catalog.providers)
        message = f"The provider {_shown(forced)} does not exist: name one of {known}, or leave the header out."
        raise ModelNotFound(message, param="x-gateway-force-provider")
    kept = tuple(tuple(c for c in group if forced in (c.provider.key, c.model.provider)) for group in choices)
    if any(kept):
        return tuple(group for group in kept if group)
    missing = inventory.missing_variables(forced)
    todo = f"set {' and '.join(missing)} and restart the gateway" if missing else "it serves none of the models asked for"
    raise ModelNotFound(f"The provider {_shown(forced)} cannot be used: {todo}.", param="model")


def _without_repeats(groups: Iterable[_Group]) -> list[_Group]:
    seen: set[str] = set()
    kept = []
    for group, auto in groups:
        fresh = tuple(candidate for candidate in group if not (candidate.id in seen or seen.add(candidate.id)))  # type: ignore[func-returns-value]
        if fresh:
            kept.append((fresh, auto))
    return kept


def _keep(plan: Plan, fits: Callable[[Candidate], bool], why: str, missing: Callable[[], InvalidRequest]) -> Plan:
    """Return the plan with those that fit; refuse where none of many does, pass on a plan that was empty."""
    kept = _narrow(plan, fits, why)
    if plan.choices and not kept.choices:
        raise missing()
    return kept


def _narrow(plan: Plan, fits: Callable[[Candidate], bool], why: str) -> Plan:
    left_out = tuple((candidate, why) for candidate in plan.candidates if not fits(candidate))
    if not left_out:
        return plan
    kept = (tuple(filter(fits, group)) for group in plan.choices)
    return replace(plan, choices=tuple(group for group in kept if group), left_out=plan.left_out + left_out)


def _has(need: str) -> Callable[[Candidate], bool]:
    enough = {need, "json_schema"} if need == "json_mode" else {need}  # who keeps to a schema can write JSON
    return lambda candidate: not enough.isdisjoint(candidate.model.capabilities)


def _tier_reached(request: ChatRequest, model: Model) -> bool:
    wanted = request.choice.min_reasoning_level
    if wanted is None:
        return True
    return model.reasoning_tier is not None and REASONING_LEVELS.index(model.reasoning_tier) >= REASONING_LEVELS.index(wanted)


def _tier_missing() -> InvalidRequest:
    return InvalidRequest(
        "None of the models asked for reaches min_reasoning_level; lower it or name another model.",
        param="min_reasoning_level",
        code="unsupported_feature",
    )


def _feature_missing(feature: str) -> InvalidRequest:
    message = f"None of the models asked for supports {feature}. GET /v1/models?include=capabilities shows which do."
    return InvalidRequest(message, param="model", code="unsupported_feature")


def _keep_servable(plan: Plan, refusals: Mapping[str, str]) -> Plan:
    first = next(iter(refusals.values()))
    refused = lambda: InvalidRequest(first, param="model", code="unsupported_feature")  # noqa: E731
    return _keep(plan, lambda c: c.id not in refusals, "unsupported", refused)


def _least_window(windows: Sequence[int], prompt_tokens: int) -> int:
    """Return the smallest window that is enough; where all seem too small, the largest: an estimate never refuses."""
    if not windows:
        return 0
    return windows[min(bisect_left(windows, prompt_tokens + ANSWER_FLOOR_TOKENS), len(windows) - 1)]


def _has_window(least: int) -> Callable[[Candidate], bool]:
    return lambda candidate: candidate.model.context_window >= least


def _can_size(model: Model, size: int) -> bool:
    if not model.dimensions:
        return True  # a row that names no sizes: the provider knows
    own = model.dimensions[0]
    return size in model.dimensions or (model.min_dimensions is not None and model.min_dimensions <= size <= own)


def _size_missing(plan: Plan) -> InvalidRequest:
    sizes = sorted({size for candidate in plan.candidates for size in candidate.model.dimensions}, reverse=True)
    return InvalidRequest(f"This model returns vectors of {', '.join(map(str, sizes))} dimensions.", param="dimensions")


def _shown(name: str | None) -> str:
    return "`" + "".join(char for char in (name or "")[:100] if char.isprintable()) + "`"
