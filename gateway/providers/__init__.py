"""Wire protocols. Every module here with an `Adapter` class is one; a catalog row names it by the module's name."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from gateway.providers.base import Provider

SHARED = frozenset({"base", "driver"})  # modules here that are no adapters


@cache
def adapter_names() -> tuple[str, ...]:
    """Return the names that a row's `adapter` can have, by the files alone: nothing is imported."""
    return tuple(name for _, name, _ in pkgutil.iter_modules(__path__) if name not in SHARED)


def load_adapter(name: str) -> type[Provider]:
    """Return the provider class of an adapter.

    :raises KeyError: there is no such adapter.
    """
    if name not in adapter_names():
        raise KeyError(name)
    adapter: type[Provider] = importlib.import_module(f"gateway.providers.{name}").Adapter
    return adapter
