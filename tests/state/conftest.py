"""One store of each kind, with a clock that only tests move; a real redis-server on a free port of the loopback interface."""

import time
import uuid
from collections.abc import Iterator

import pytest

from gateway.errors import StateError
from gateway.state.base import Note, StateStore
from gateway.state.memory import MemoryStore
from gateway.state.redis import RedisStore
from gateway.state.sqlite import SqliteStore
from tests.state.patience import MODULES, PATIENCE_S

SHARED = ["sqlite", pytest.param("redis", marks=pytest.mark.redis)]


class Clock:
    """Epoch seconds, standing still."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


def eventually(check, expected=True):
    """Wait until `check()` returns what is expected, for PATIENCE_S at most; assert that it does."""
    until = time.monotonic() + PATIENCE_S
    while (found := check()) != expected and time.monotonic() < until:
        time.sleep(0.005)
    assert found == expected


def written(store: StateStore, *changes) -> None:
    """Write these, and wait until they are kept: changes are kept in order, so the last one shows it."""
    mark = f"mark-{uuid.uuid4()}"
    store.write([*changes, Note(mark, "kept", 60)])
    eventually(lambda: patiently(store.recall, [mark]), {mark: "kept"})


def patiently(verb, *arguments):
    """Ask again where a busy machine made the store late."""
    for _ in range(20):
        try:
            return verb(*arguments)
        except StateError:
            time.sleep(0.05)
    return verb(*arguments)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def patience(monkeypatch) -> None:
    """See tests/state/patience.py."""
    for module in MODULES:
        monkeypatch.setattr(module, "WAIT_S", PATIENCE_S)


@pytest.fixture
def lost() -> list[int]:
    """What `on_trouble` was told: how many changes are lost, 0 where they wait."""
    return []


@pytest.fixture(params=["memory", *SHARED])
def store(request, tmp_path, clock, lost, patience) -> Iterator[StateStore]:
    opened: StateStore
    if request.param == "memory":
        opened = MemoryStore(clock)
    elif request.param == "sqlite":
        opened = SqliteStore(tmp_path / "state.sqlite3", clock, lost.append)
    else:
        opened = RedisStore(request.getfixturevalue("empty_redis_url"), clock, lost.append)
    yield opened
    opened.close()


@pytest.fixture(params=SHARED)
def url(request, tmp_path) -> str:
    """Of a store that several processes can share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shared.sqlite3"
    return request.getfixturevalue("empty_redis_url")
