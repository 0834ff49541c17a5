"""What the views receive."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.auth import Keyring
from gateway.catalog import Inventory
from gateway.routing.dispatcher import Dispatcher
from gateway.settings import Settings
from gateway.state.base import StateStore
from gateway.telemetry import Telemetry
from gateway.upstream.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a request needs, built once by the factory."""

    settings: Settings
    inventory: Inventory
    keyring: Keyring
    dispatcher: Dispatcher
    store: StateStore
    telemetry: Telemetry
    watch: Watch
