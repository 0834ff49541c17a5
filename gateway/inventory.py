"""The inventory: what of the catalog can be called with the credentials at hand. Frozen once built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.catalog import SANDBOX, Catalog
from gateway.credentials import load_credentials, missing_variables
from gateway.domain import Candidate, Credential, Model
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Inventory:
    """What can be called with the credentials at hand.

    `stands_in`: no provider is usable, so the sandbox answers for every model and all providers count as usable.
    `listed` and `auto_models` keep the catalog's order. Limits, health and discovery are not judged here.
    """

    catalog: Catalog
    stands_in: bool
    usable_providers: frozenset[str]
    listed: tuple[Model, ...]
    auto_models: tuple[Model, ...]
    _candidates: Mapping[str, tuple[Candidate, ...]] = field(repr=False)
    _missing: Mapping[str, tuple[str, ...]] = field(repr=False)

    def candidates(self, model: Model) -> tuple[Candidate, ...]:
        """Return the model behind each credential of its provider, () where it is retired, has no quota or no provider."""
        return self._candidates.get(model.name, ())

    def missing_variables(self, provider: str) -> tuple[str, ...]:
        """Return the variables to set (one with `=`: to what) before this provider can be called, () where it can be."""
        return self._missing.get(provider, ())

    @property
    def empty_providers(self) -> tuple[str, ...]:
        """Return the providers that could be called, but for which the catalog has no model."""
        served = {model.provider for model in self.catalog.models}
        return tuple(key for key in self.catalog.providers if key in self.usable_providers and key not in served)


def build_inventory(catalog: Catalog, settings: Settings) -> Inventory:
    """Return what can be called now.

    :raises ConfigurationError: as `load_credentials`.
    """
    usable = dict(load_credentials(catalog, settings))
    sandbox = usable.pop(SANDBOX, ())
    if settings.sandbox == "off":
        sandbox = ()
    stands_in = bool(sandbox) and not usable
    if sandbox and settings.sandbox == "on":
        usable[SANDBOX] = sandbox
    if stands_in:
        candidates = {model.name: _stand_ins(catalog, model, sandbox) for model in catalog.models if _is_callable(model)}
        usable_providers, missing = frozenset(catalog.providers), {}
    else:
        offered = (model for model in catalog.models if _is_callable(model) and model.has_quota)
        candidates = {model.name: _own(catalog, model, usable) for model in offered}
        usable_providers = frozenset(usable)
        missing = {key: missing_variables(row, settings) for key, row in catalog.providers.items() if key not in usable}
        if SANDBOX in missing:
            missing[SANDBOX] = ("GATEWAY_SANDBOX=on",)
    listed = tuple(model for model in catalog.models if candidates.get(model.name))
    return Inventory(
        catalog=catalog,
        stands_in=stands_in,
        usable_providers=usable_providers,
        listed=listed,
        auto_models=tuple(model for model in listed if _is_for_auto(model)),
        _candidates=candidates,
        _missing=missing,
    )


def _own(catalog: Catalog, model: Model, usable: Mapping[str, tuple[Credential, ...]]) -> tuple[Candidate, ...]:
    row = catalog.providers[model.provider]
    return tuple(Candidate(row, model, credential) for credential in usable.get(model.provider, ()))


def _stand_ins(catalog: Catalog, model: Model, sandbox: tuple[Credential, ...]) -> tuple[Candidate, ...]:
    # Without the limits, which are those of the provider that it stands in for: every model answers, and goes on to.
    unlimited = replace(model, limits={})
    return tuple(Candidate(catalog.providers[SANDBOX], unlimited, credential) for credential in sandbox)


def _is_callable(model: Model) -> bool:
    return model.status != "retired"


def _is_for_auto(model: Model) -> bool:
    current = model.status in ("active", "preview") and model.has_quota
    return model.kind == "chat" and current and model.provider != SANDBOX
