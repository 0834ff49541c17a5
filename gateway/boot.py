"""What is read and checked once, before the first request: settings, catalog, credentials, the client's key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.catalog import load_catalog
from gateway.errors import ConfigurationError, StateError
from gateway.inventory import Inventory, build_inventory
from gateway.keys import load_or_make_key
from gateway.providers import adapter_names
from gateway.settings import Settings
from gateway.state import store_from_url


@dataclass(frozen=True, slots=True)
class Configuration:
    """A gateway's settings and what it can call. `made_key` is the key of a first start, None where one was set."""

    settings: Settings
    inventory: Inventory
    made_key: str | None = None


def load_configuration(environ: Mapping[str, str]) -> Configuration:
    """Read and check everything.

    :raises ConfigurationError: with every problem of the settings and of the catalog at once.
    """
    problems: list[str] = []
    settings = Settings()
    try:
        settings = Settings.from_env(environ)
    except ConfigurationError as error:
        problems += error.problems
        catalog_path = environ.get("GATEWAY_CATALOG", "").strip()
        settings = Settings.from_env({"GATEWAY_CATALOG": catalog_path})
    inventory = None
    try:
        inventory = build_inventory(load_catalog(settings.catalog_path, adapter_names()), settings)
    except ConfigurationError as error:
        problems += error.problems
    try:
        store_from_url(settings.state_location, tls_verify=settings.state_tls_verify).close()
    except ConfigurationError as error:
        problems += error.problems
    if settings.shares_state and not settings.has_client_keys and not settings.allow_anonymous:
        problems.append("GATEWAY_API_KEY must be set: with Redis as the state store each machine would make its own")
    if problems or inventory is None:
        raise ConfigurationError(problems)
    if settings.has_client_keys or settings.allow_anonymous:
        return Configuration(settings, inventory)
    key = load_or_make_key(settings.data_dir)
    return Configuration(replace(settings, api_keys=(("default", key),)), inventory, made_key=key)


def greeting(configuration: Configuration) -> str:
    """Return what the operator reads once at a start: how it is doing, and where a key was made, a line to try it."""
    settings, inventory = configuration.settings, configuration.inventory
    lines = []
    if inventory.stands_in:
        lines.append("No provider has a key yet: the built-in sandbox answers for every model.")
        lines.append("Set GROQ_API_KEY, GEMINI_API_KEY or another provider's key and start again for real answers.")
    if settings.allow_anonymous:
        lines.append("GATEWAY_ALLOW_ANONYMOUS is on: whoever reaches this port can use it.")
    if configuration.made_key:
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
        lines.append("No GATEWAY_API_KEY is set, so this gateway made one. Try it:")
        lines.append("")
        lines.append(
            f"curl http://{host}:{settings.port}/v1/chat/completions -H 'Authorization: Bearer {configuration.made_key}' "
            '-H \'Content-Type: application/json\' -d \'{"model": "auto", "messages": [{"role": "user", "content": "Hello!"}]}\''
        )
        lines.append("")
    return "\n".join(lines)


def state_warning(settings: Settings) -> str | None:
    """Return what to tell the operator if the state store does not answer now, None if it does. Blocks for 100 ms at most."""
    store = store_from_url(settings.state_location, tls_verify=settings.state_tls_verify)
    try:
        store.ping()
    except StateError as error:
        return f"WARNING: the state store does not answer ({error}): quotas and cooldowns are not shared until it does."
    finally:
        store.close()
    return None
