"""What all workers share. The URL's scheme picks the store."""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import ConfigurationError
from gateway.state.base import StateStore
from gateway.state.sqlite import SqliteStore

SCHEMES = "sqlite:///file, redis://host:port/number or rediss://host:port/number"


def store_from_url(
    url: str, *, variable: str = "STATE_URL", tls_verify: bool = True, on_trouble: Callable[[int], None] = lambda lost: None
) -> StateStore:
    """Return the store behind `sqlite:///relative/path`, `sqlite:////absolute/path`, `redis://…` or `rediss://…`.

    Nothing is opened yet: a store that is down fails its verbs, not the start. `on_trouble` is told, from any thread, when
    changes could not be written: how many are lost, 0 where they only wait for its return.

    :raises ConfigurationError: no store is behind such a URL, which is not shown: it may hold a password. It names
        `variable`, which held it.
    """
    if url.startswith("sqlite:"):
        path = url.removeprefix("sqlite:///")
        if path in ("", url):
            raise ConfigurationError([f"{variable}: names no file; it is {SCHEMES}"])
        return SqliteStore(path, on_trouble=on_trouble)
    try:
        from gateway.state.redis import RedisStore  # the driver is needed by those alone who use it
    except ImportError:
        raise ConfigurationError([f"{variable}: needs the package redis (see requirements.txt)"]) from None
    try:
        return RedisStore(url, on_trouble=on_trouble, tls_verify=tls_verify)
    except Exception:  # whatever the driver has to say of it may quote it
        raise ConfigurationError([f"{variable}: cannot be read; it is {SCHEMES}"]) from None
