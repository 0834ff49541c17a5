"""What the views receive."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.admission import Gate
from gateway.analytics.deferred import Deferred
from gateway.analytics.reader import Reader
from gateway.auth import Keyring
from gateway.metrics import PrometheusTelemetry
from gateway.ratelimit import AddressLimit, KeyLimit
from gateway.routing.discovery import Discovery
from gateway.routing.dispatcher import Dispatcher
from gateway.routing.roster import Roster
from gateway.settings import Settings
from gateway.state.guard import Guard
from gateway.telemetry import Telemetry
from gateway.upstream.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a request needs, built once by the factory. A limit that is None is off."""

    settings: Settings
    roster: Roster
    keyring: Keyring
    key_limit: KeyLimit | None
    address_limit: AddressLimit | None
    dispatcher: Dispatcher
    discovery: Discovery
    store: Guard
    telemetry: Telemetry
    deferred: Deferred
    figures: Reader
    metrics: PrometheusTelemetry
    watch: Watch
    gate: Gate
