"""Keep the roster true: ask each provider now and then which models it has, off the request path (contract §11).

One worker of all asks each, under a lease, every ASK_EVERY_S; every worker reads what was found. It reports and retires,
and adds nothing. A list that fails, is empty or cannot be read says nothing: what was known before stays.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway import jsonio
from gateway.domain import Credential
from gateway.errors import GatewayError
from gateway.inventory import Inventory
from gateway.providers.base import Listing, Provider
from gateway.routing.roster import Lists, Roster
from gateway.state.base import StateStore
from gateway.upstream.transport import CallLimits
from gateway.upstream.watch import Watch

log = logging.getLogger("gateway")

ASK_EVERY_S = 6 * 3600.0
LOOK_EVERY_S = 30.0  # how soon the other workers hear of it
FIRST_LOOK_S = 2.0  # after the start: requests come first
ASK_AGAIN_S = 600.0  # after a list that could not be read, and the lease of whoever asks
KEEP_S = 3 * ASK_EVERY_S  # what was found is believed through two failures to ask
ANSWER_S = 20.0  # for one provider's list: all of its pages, with as many credentials as it takes


class Discovery:
    """A daemon thread of one process. `start` after the fork."""

    def __init__(
        self,
        roster: Roster,
        providers: Mapping[str, Provider],
        store: StateStore,
        watch: Watch,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roster = roster
        self._providers = providers
        self._store = store
        self._watch = watch
        self._monotonic = monotonic
        self._credentials = credentials_to_ask(roster.inventory)
        self._found: dict[str, Any] = {}  # by provider, for KEEP_S: a store that does not answer says nothing

    def start(self) -> None:
        """Begin to look, a moment from now. Does nothing where no provider could be asked."""
        if self._credentials:
            threading.Thread(target=self._run, name="discovery", daemon=True).start()

    def _run(self) -> None:
        time.sleep(FIRST_LOOK_S)
        while True:
            try:
                self.look()
            except Exception as error:  # a thread that died would leave the roster as it is, for ever and unseen
                log.error("discovery failed", extra={"fields": {"exception": type(error).__name__}})
            time.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Take what is known into the roster; before that, ask the providers whose turn it is, if nobody else does."""
        now = self._store.now()
        found = {p: lists for p, lists in (self._found | self._recall()).items() if lists["at"] + KEEP_S > now}
        due = [p for p in self._credentials if p not in found or found[p]["at"] + ASK_EVERY_S <= now]
        for provider in due:
            if self._store.lease((_note(provider),), ASK_AGAIN_S) and (lists := self._ask(provider)):
                found[provider] = lists
        self._found = found
        self._heard(found)

    def _recall(self) -> dict[str, Any]:
        notes = self._store.recall([_note(provider) for provider in self._credentials])
        return {provider: jsonio.loads(notes[_note(provider)]) for provider in self._credentials if _note(provider) in notes}

    def _heard(self, found: Mapping[str, Any]) -> None:
        served = {provider: frozenset(lists["ids"]) for provider, lists in found.items()}
        self._roster.hear(Lists(served, {provider: tuple(lists["free"]) for provider, lists in found.items()}))

    def _ask(self, provider: str) -> dict[str, Any] | None:
        """Ask one provider, note what it has and return it; None where it says nothing."""
        deadline_mono = self._monotonic() + ANSWER_S
        for credential in self._credentials[provider]:
            listing = self._listing(provider, credential, deadline_mono)
            if listing is not None:
                found = {"at": self._store.now(), "ids": sorted(listing.ids), "free": list(listing.free)}
                self._store.remember(_note(provider), jsonio.dumps(found).decode(), KEEP_S)
                return found
        return None

    def _listing(self, provider: str, credential: Credential, deadline_mono: float) -> Listing | None:
        """Return the list that a credential is shown, None where it is shown none in time."""
        left_s = deadline_mono - self._monotonic()
        if left_s <= 0:
            return None
        limits = CallLimits(connect_s=left_s, first_token_s=left_s, idle_s=left_s, deadline_mono=deadline_mono)
        try:
            with self._watch.watched() as handle:
                return self._providers[provider].list_models(credential, limits, handle)
        except GatewayError as error:
            fields = {"provider": provider, "credential": credential.number, "why": error.code}
            log.warning("a provider's list of models could not be read", extra={"fields": fields})
            return None


def credentials_to_ask(inventory: Inventory) -> dict[str, tuple[Credential, ...]]:
    """Return the credentials of each provider that may be asked: rows say `discover = false` where there is no list."""
    found: dict[str, dict[str, Credential]] = {}
    for model in inventory.listed:
        for candidate in inventory.candidates(model):
            if candidate.provider.discover:
                found.setdefault(candidate.provider.key, {})[candidate.credential.id] = candidate.credential
    return {provider: tuple(credentials.values()) for provider, credentials in found.items()}


def _note(provider: str) -> str:
    return f"discovery:{provider}"
