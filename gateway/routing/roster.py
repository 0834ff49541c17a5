"""Who there is at present: the inventory of the catalog, less what providers say they no longer have.

Discovery (routing/discovery.py) tells; requests read one immutable picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.catalog import Catalog
from gateway.inventory import Inventory
from gateway.providers.base import Provider
from gateway.routing.candidates import Planner


@dataclass(frozen=True, slots=True)
class Lists:
    """What providers' own lists say, by provider: ids that they serve, and those among them that are free (upstream ids)."""

    served: Mapping[str, frozenset[str]]
    free: Mapping[str, tuple[str, ...]]


class Roster:
    """The present inventory. `rebuild` makes one from a catalog with other statuses, as the boot did."""

    def __init__(self, inventory: Inventory, providers: Mapping[str, Provider], rebuild: Callable[[Catalog], Inventory]) -> None:
        self._catalog = inventory.catalog
        self._providers = providers
        self._rebuild = rebuild
        self._told: Lists | None = None
        self.unknown_models: Mapping[str, tuple[str, ...]] = {}
        self._present = (inventory, Planner(inventory, providers))

    @property
    def inventory(self) -> Inventory:
        return self._present[0]

    @property
    def planner(self) -> Planner:
        return self._present[1]

    def hear(self, lists: Lists) -> None:
        """Retire what is gone and take back what has returned. Does nothing where nothing changed."""
        if lists == self._told:
            return
        self._told = lists
        inventory = self._rebuild(self._catalog.with_retired(gone_from(self._catalog, lists)))
        self.unknown_models = unknown_in(self._catalog, lists)
        self._present = (inventory, Planner(inventory, self._providers))


def gone_from(catalog: Catalog, lists: Lists) -> frozenset[str]:
    """Return the names of rows that their providers no longer have: active and preview ones of the built-in catalog.

    A list that has none of a provider's rows is not believed: it speaks of something else, or in other words.
    """
    judged = [model for model in catalog.models if model.builtin and model.status in ("active", "preview")]
    gone = set()
    for provider, served in lists.served.items():
        rows = [model for model in judged if model.provider == provider]
        if any(model.upstream_id in served for model in rows):
            gone |= {model.name for model in rows if model.upstream_id not in served}
    return frozenset(gone)


def unknown_in(catalog: Catalog, lists: Lists) -> dict[str, tuple[str, ...]]:
    """Return, by provider, the free models of its list that no row of the catalog names, of whatever status."""
    known = {(model.provider, model.upstream_id) for model in catalog.models}
    found = {provider: tuple(sorted(id_ for id_ in ids if (provider, id_) not in known)) for provider, ids in lists.free.items()}
    return {provider: ids for provider, ids in found.items() if ids}
