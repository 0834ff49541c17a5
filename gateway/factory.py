"""The one composer: builds the services and the Flask application around them."""

from __future__ import annotations

import os
from collections.abc import Callable

from flask import Flask, Request, request
from flask.sessions import NullSession, SessionInterface, SessionMixin
from flask_cors import CORS

from gateway.admission import Gate
from gateway.analytics.deferred import Deferred
from gateway.analytics.reader import Reader
from gateway.analytics.recorder import Recorder
from gateway.api import (
    chat,
    completions,
    dashboard,
    docs,
    embeddings,
    exchange,
    figures,
    health,
    index,
    messages,
    metrics,
    models,
    replies,
    rerank,
    responses,
    routing,
)
from gateway.api.paths import CanonicalPaths
from gateway.api.proxies import behind_proxies
from gateway.auth import Keyring
from gateway.boot import Configuration, kept_configuration, load_configuration
from gateway.inventory import Inventory, build_inventory
from gateway.logs import set_up_logging
from gateway.metrics import PrometheusTelemetry
from gateway.providers import load_adapter
from gateway.providers.base import Notes, Provider
from gateway.ratelimit import AddressLimit, KeyLimit
from gateway.routing.discovery import Discovery
from gateway.routing.dispatcher import Dispatcher
from gateway.routing.roster import Roster
from gateway.services import Services
from gateway.settings import Settings
from gateway.state import store_from_url
from gateway.state.base import StateStore
from gateway.state.guard import Guard
from gateway.telemetry import FanOut, LogTelemetry, Telemetry
from gateway.upstream.transport import Transport
from gateway.upstream.watch import Watch


def create_app(
    configuration: Configuration | None = None,
    *,
    store: StateStore | None = None,
    telemetry: Telemetry | None = None,
) -> Flask:
    """Build the application. Without arguments it is what the gunicorn master checked, or else the environment says.

    `telemetry` stands in for the log.

    :raises ConfigurationError: the environment or the catalog is wrong.
    """
    configuration = configuration or kept_configuration() or load_configuration(os.environ)
    services = build_services(configuration, store=store, log=telemetry or LogTelemetry())
    set_up_logging(services.settings.log_level, as_json=services.settings.log_format == "json")
    app = Flask(__name__, static_folder=None)
    app.extensions["gateway"] = services
    app.session_interface = NoSessions()
    app.before_request(exchange.begin_exchange)
    surfaces = (chat, completions, embeddings, messages, rerank, responses, models)
    for part in (*surfaces, routing, figures, metrics, health, index, docs, dashboard):
        app.register_blueprint(part.bp)
    allow_browsers(app, services.settings)
    replies.register(app)
    paths = CanonicalPaths(app.wsgi_app, app.url_map)
    app.wsgi_app = behind_proxies(paths, services.settings.trusted_proxy_hops)  # type: ignore[method-assign, assignment]
    return app


class NoSessions(SessionInterface):
    """Nobody has a session here: keys come with each request."""

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        return _NO_SESSION

    def is_null_session(self, obj: object) -> bool:
        return True


_NO_SESSION = NullSession()


def build_services(configuration: Configuration, *, store: StateStore | None, log: Telemetry) -> Services:
    settings, inventory = configuration.settings, configuration.inventory
    prometheus = PrometheusTelemetry(settings.threads)
    watchers = FanOut(log, prometheus)
    guarded = Guard(lambda on_trouble: store or open_store(settings, on_trouble), watchers)
    deferred = Deferred(prometheus, Recorder(guarded))
    telemetry = FanOut(log, deferred)
    providers = build_providers(inventory, settings, guarded)
    watch = Watch()
    roster = Roster(inventory, providers, rebuild=lambda catalog: build_inventory(catalog, settings))
    return Services(
        settings=settings,
        roster=roster,
        keyring=Keyring(settings),
        key_limit=KeyLimit(settings.client_rate_limit, guarded) if settings.client_rate_limit else None,
        address_limit=AddressLimit(settings.public_rate_limit) if settings.public_rate_limit else None,
        dispatcher=Dispatcher(roster=roster, providers=providers, store=guarded, settings=settings, telemetry=telemetry),
        discovery=Discovery(roster, providers, guarded, watch),
        store=guarded,
        telemetry=telemetry,
        deferred=deferred,
        figures=Reader(guarded, catch_up=deferred.tell),
        metrics=prometheus,
        watch=watch,
        gate=Gate(settings.threads),
    )


def build_providers(inventory: Inventory, settings: Settings, notes: Notes) -> dict[str, Provider]:
    transport = Transport(
        pool_size=settings.threads, proxies=settings.proxies, no_proxy=settings.no_proxy, ca_bundle=settings.ca_bundle
    )

    called = (candidate for model in inventory.listed for candidate in inventory.candidates(model))
    rows = {candidate.provider.key: candidate.provider for candidate in called}
    return {key: load_adapter(row.adapter)(row, transport, notes) for key, row in rows.items()}


def open_store(settings: Settings, on_trouble: Callable[[int], None]) -> StateStore:
    return store_from_url(settings.state_location, tls_verify=settings.state_tls_verify, on_trouble=on_trouble)


def allow_browsers(app: Flask, settings: Settings) -> None:
    """Let pages of other origins call the API: keys travel in a header, never in a cookie."""
    if not settings.cors_origins:
        return
    CORS(
        app,
        origins=list(settings.cors_origins),
        expose_headers=list(replies.EXPOSED_HEADERS),
        max_age=600,
        send_wildcard=settings.cors_origins == ("*",),
    )
    tell_browser = app.after_request_funcs[None].pop()  # of every answer it asks a good deal, and only browsers listen
    app.after_request(lambda answer: tell_browser(answer) if "Origin" in request.headers else answer)
