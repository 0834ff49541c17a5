"""What is read and checked once, before the first request: settings, catalog, credentials, the client's key."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from gateway.catalog import SANDBOX, load_catalog
from gateway.errors import ConfigurationError, StateError
from gateway.inventory import Inventory, build_inventory
from gateway.keys import load_or_make_key
from gateway.providers import adapter_names
from gateway.settings import Settings
from gateway.state import store_from_url
from gateway.state.base import StateStore

T = TypeVar("T")

STORE_S = 2.0  # for the state store: nobody waits yet, and a slow disk takes longer to begin a file than a verb may
STORE_PAUSE_S = 0.1  # between two tries


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
    settings, problems = Settings.gather(environ)

    def check(step: Callable[[], T]) -> T | None:
        try:
            return step()
        except ConfigurationError as error:
            problems.extend(error.problems)
            return None

    catalog = check(lambda: load_catalog(settings.catalog_path, adapter_names()))
    # Keys are looked at beside a broken file too: most of them belong to providers that are built in.
    known = catalog or load_catalog(None, adapter_names())
    inventory = check(lambda: build_inventory(known, settings))
    check(lambda: open_store(settings).close())
    made_key = check(lambda: find_key(settings)) if settings.needs_key else None
    if problems or inventory is None:
        raise ConfigurationError(problems)
    if made_key:
        settings = replace(settings, api_keys=(("default", made_key),))
    return Configuration(settings, inventory, made_key)


_kept: list[Configuration] = []  # at most one; a process that has none reads the environment


def keep_configuration(configuration: Configuration) -> None:
    """Keep what the gunicorn master checked for the workers that it forks.

    A worker that read the files itself would fail to start on one that broke since, and take the gateway down with it.
    """
    _kept[:] = [configuration]


def kept_configuration() -> Configuration | None:
    """Return what was kept, None in a process without such a master."""
    return _kept[0] if _kept else None


def find_key(settings: Settings) -> str:
    """Return the key of a gateway that was given none.

    :raises ConfigurationError: there is nowhere to keep it.
    """
    if settings.shares_state:
        problem = "GATEWAY_API_KEY must be set: with Redis as the state store each machine would make its own"
        ways = "or GATEWAY_API_KEY_HASHES, a line of which `python -m gateway keys new NAME` makes"
        raise ConfigurationError([f"{problem}; {ways}"])
    return load_or_make_key(settings.data_dir)


def greeting(configuration: Configuration, address: str) -> str:
    """Return what the operator reads once at a start: how it is doing, and where a key was made, a line to try it.

    `address` is where gunicorn listens: a URL without a path, or `unix:` and a path.
    """
    settings, inventory = configuration.settings, configuration.inventory
    lines = []
    if inventory.stands_in:
        lines.append("No provider has a key yet: the built-in sandbox answers for every model.")
        some = ", ".join(inventory.catalog.credential_variables[:2])
        lines.append(f"Set {some} or another provider's key and start again for real answers.")
    else:
        lines.append(_in_use(inventory))
    if settings.allow_anonymous:
        lines.append("GATEWAY_ALLOW_ANONYMOUS is on: whoever reaches this port can use it.")
    if configuration.made_key:
        lines.append("No GATEWAY_API_KEY is set, so this gateway made one. Try it:")
        lines.append("")
        lines.append(
            f"curl {_reachable(address)}/v1/chat/completions -H 'Authorization: Bearer {configuration.made_key}' "
            '-H \'Content-Type: application/json\' -d \'{"model": "auto", "messages": [{"role": "user", "content": "Hello!"}]}\''
        )
        lines.append("")
    return "\n".join(lines)


def _in_use(inventory: Inventory) -> str:
    """Return how many models of whom can be called, and what the other providers lack."""
    providers = ", ".join(dict.fromkeys(model.provider for model in inventory.listed))
    keys = (key for key in inventory.catalog.providers if key != SANDBOX)
    unused = [f"{key} ({', '.join(lacks)})" for key in keys if (lacks := inventory.missing_variables(key))]
    rest = f"; not used: {', '.join(unused)}" if unused else ""
    return f"{len(inventory.listed)} models of {providers or 'nobody'}{rest}"


def _reachable(address: str) -> str:
    """Return what to give curl on this machine for an address that a server listens at."""
    if address.startswith("unix:"):
        return f"--unix-socket {address.removeprefix('unix:')} http://localhost"
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def open_store(settings: Settings) -> StateStore:
    """Return the state store, for a look at it. :raises ConfigurationError: there is none at such a place."""
    return store_from_url(settings.state_location, variable=settings.state_variable, tls_verify=settings.state_tls_verify)


def ask_patiently(ask: Callable[[], T]) -> T:
    """Return what a state store answers, asked again while it does not: the first try also opens it. Blocks for STORE_S.

    :raises StateError: it never did.
    """
    ends_mono = time.monotonic() + STORE_S
    while True:
        try:
            return ask()
        except StateError:
            if time.monotonic() >= ends_mono:
                raise
            time.sleep(STORE_PAUSE_S)


def state_warning(settings: Settings) -> str | None:
    """Return what to tell the operator if the state store does not answer, None if it does. Blocks for STORE_S at most."""
    store = open_store(settings)
    try:
        ask_patiently(store.ping)
    except StateError as error:
        told = f"the state store does not answer ({error}): quotas and cooldowns are not shared until it does"
        return f"WARNING: {told}. See to {settings.state_variable}; `python -m gateway check` tests it."
    finally:
        store.close()
    return None
