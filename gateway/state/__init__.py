"""What all workers share. The URL's scheme picks the store."""

from __future__ import annotations

from gateway.state.base import StateStore
from gateway.state.sqlite import SqliteStore


def store_from_url(url: str, *, tls_verify: bool = True) -> StateStore:
    """Return the store behind `sqlite:///relative/path`, `sqlite:////absolute/path`, `redis://…` or `rediss://…`.

    Nothing is opened yet: a store that is down fails its verbs, not the start.
    """
    if url.startswith("sqlite:///"):
        return SqliteStore(url.removeprefix("sqlite:///"))
    from gateway.state.redis import RedisStore  # the driver is needed by those alone who use it

    return RedisStore(url, tls_verify=tls_verify)
