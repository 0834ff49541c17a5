"""Stores that wait longer than they should, for tests that are not about that: on a busy machine they are late."""

from gateway.state import redis, sqlite, writer

PATIENCE_S = 5.0
MODULES = (redis, sqlite, writer)


def have_patience() -> None:
    """Have all stores of this process wait so long."""
    for module in MODULES:
        module.WAIT_S = PATIENCE_S  # type: ignore[attr-defined]
