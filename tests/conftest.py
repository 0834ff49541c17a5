"""How the tests run side by side; the application in this process (no socket, state in memory); a real redis-server."""

import fcntl
import gc
import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from gateway.boot import Configuration, load_configuration
from gateway.domain import Candidate
from gateway.factory import create_app
from gateway.state.base import StateStore
from gateway.state.memory import MemoryStore
from gateway.telemetry import RequestRecord, Telemetry
from tests.redis_server import RedisServer

PROCESSES = 4  # most tests with sockets wait more than they work
KEY = "sk-test"
AUTH = {"Authorization": f"Bearer {KEY}"}


# --- side by side ----------------------------------------------------------------------------------------------------


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run the tests of one file right here, and several files side by side."""
    files = {argument.partition("::")[0] for argument in config.args}
    return 0 if len(files) == 1 and Path(*files).is_file() else PROCESSES


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays, and there is much of it: do not look it through for garbage, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what waits much, and end with what is quick: so no process is the last for long. What is alone follows.

    It waits much over real connections, and where a file has few tests.
    """
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (_is_quiet(item), item.path.parent.name != "e2e", tests[item.path]))


class _Parts(LoadFileScheduling):  # type: ignore[misc]
    """Gives a process what the collection has together of a file: the quiet tests apart from the others."""

    @cached_property
    def _parts(self) -> dict[str, str]:
        runs = groupby(self.collection or (), super()._split_scope)
        return {nodeid: f"{number} {file}" for number, (file, run) in enumerate(runs) for nodeid in run}

    def _split_scope(self, nodeid: str) -> str:
        return self._parts[nodeid]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    return _Parts(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let no other test of this run work beside one that is marked `quiet`."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    folder = Path(item.config.option.basetemp).parent  # of all processes of this run
    with _turn(folder, alone=_is_quiet(item)):
        return (yield)


def _is_quiet(item: pytest.Item) -> bool:
    return item.get_closest_marker("quiet") is not None


@contextmanager
def _turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Wait for a turn among the processes that share a folder; it ends with the block."""
    with open(folder / "door", "w") as door, open(folder / "room", "w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(door, fcntl.LOCK_UN)  # who is alone keeps it closed, so that nobody overtakes
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests recorded as `figures`, whichever process they ran in."""
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, value in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(f"{report.nodeid}: {value}")


# --- the application -------------------------------------------------------------------------------------------------


@dataclass
class RecordingTelemetry(Telemetry):
    """Keeps what it was told."""

    requests: list[RequestRecord] = field(default_factory=list)
    attempts: list[tuple[str, str]] = field(default_factory=list)  # candidates' models and how they ended
    refused: list[str] = field(default_factory=list)  # ids of credentials
    failed_verbs: list[str] = field(default_factory=list)
    admitted: int = 0
    streams: int = 0

    def request_admitted(self) -> None:
        self.admitted += 1

    def stream_began(self) -> None:
        self.streams += 1

    def request_ended(self, record: RequestRecord) -> None:
        self.requests.append(record)

    def attempt_ended(self, candidate: Candidate, outcome: str, ms: float, *, rested: bool = False) -> None:
        self.attempts.append((candidate.model.name, outcome))

    def credential_refused(self, candidate: Candidate, reason: str) -> None:
        self.refused.append(candidate.credential.id)

    def state_failed(self, verb: str) -> None:
        self.failed_verbs.append(verb)


@dataclass
class Application:
    """A gateway in this process. `services` and `telemetry` tell what it did."""

    app: Flask
    telemetry: RecordingTelemetry

    @property
    def services(self):
        return self.app.extensions["gateway"]

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def get(self, path: str, headers: Mapping[str, str] = AUTH):
        return self.client.get(path, headers=headers)

    def post(self, path: str, body, headers: Mapping[str, str] | None = None):
        """Post JSON, or bytes as they are, with the key."""
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        return self.client.post(path, headers={**AUTH, **(headers or {})}, **data)


BuildApplication = Callable[..., Application]


@cache
def _load_once(*variables: tuple[str, str]) -> Configuration:
    """Load what many tests have in common, and none can change: the built-in catalog takes a while to read."""
    return load_configuration(dict(variables))


@pytest.fixture
def build_application(tmp_path: Path) -> BuildApplication:
    """Return a function that builds a gateway from environment variables, a catalog's text and a store."""

    def build(
        env: Mapping[str, str] | None = None, *, catalog: str | None = None, store: StateStore | None = None
    ) -> Application:
        environ = {"GATEWAY_API_KEY": KEY, "GATEWAY_DATA_DIR": "/nonexistent", **(env or {})}
        if catalog is not None:
            path = tmp_path / "catalog.toml"
            path.write_text(catalog)
            environ["GATEWAY_CATALOG"] = str(path)
        telemetry = RecordingTelemetry()
        configuration = _load_once(*environ.items())
        return Application(create_app(configuration, store=store or MemoryStore(), telemetry=telemetry), telemetry)

    return build


@pytest.fixture
def application(build_application: BuildApplication) -> Application:
    """A gateway without a provider: the sandbox stands in."""
    return build_application()


# --- redis -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests; a machine without the program skips them, but not in CI."""
    if shutil.which("redis-server") is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is missing")
        pytest.skip("needs redis-server")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def own_redis(redis_server: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """A server of one test's own, to be hung and stopped."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def empty_redis_url(redis_server: RedisServer) -> str:
    client = redis.Redis.from_url(redis_server.url)
    client.flushall()
    client.close()
    return redis_server.url
