"""Fixtures: a simulator of all providers, and real gateways (gunicorn with our gunicorn.conf.py) that are pointed at it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.errors import StateError
from gateway.state import store_from_url
from gateway.state.base import Recovery
from tests.e2e.simulator import Simulator

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-test"
BOOT_S = 15.0
LISTENING = re.compile(r"^Listening on http://\S+:(\d+)", re.MULTILINE)
TIMEOUT_S = 30.0  # of one read of a helper


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", metavar="FILE", help="where test_faults.py writes what became of each fault, as Markdown")


# --- fixtures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """One simulator for a module's tests, so that their gateway may live as long; each test finds it reset."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def fresh_simulator(request: pytest.FixtureRequest) -> None:
    if "simulator" in request.fixturenames:
        request.getfixturevalue("simulator").reset()


@pytest.fixture(scope="module")
def start_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    """Return a function that starts a gateway: `start_gateway(env, data_dir=None)`, with the options of `open_gateway`.

    What a test does not stop itself is stopped after the module. Where gateways should not outlive a test, use
    `with start_gateway(...) as gateway:`.
    """
    started: list[Gateway] = []

    def start(env: Mapping[str, str], *, data_dir: Path | None = None, **options: Any) -> Gateway:
        gateway = open_gateway(env, data_dir or tmp_path_factory.mktemp("gateway"), **options)
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        gateway.stop()


# --- a running gateway ----------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """A whole answer; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Line:
    """A line of a stream as it came, its end included. `t`: seconds since the request was sent."""

    t: float
    data: bytes

    @property
    def json(self) -> Any:
        """The object of a data line, None for [DONE] and everything else."""
        text = self.data.removeprefix(b"data: ").strip()
        return json.loads(text) if self.data.startswith(b"data: ") and text != b"[DONE]" else None


class LineStream:
    """A running answer: iterate over its lines; leaving the `with` block closes the connection, finished or not.

    `is_whole` tells after the last line whether the body ended properly, rather than with the connection.
    """

    def __init__(self, port: int, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        self._start = time.monotonic()
        self._connection.request("POST", path, body, dict(headers))
        self._response = self._connection.getresponse()
        self.head_t = time.monotonic() - self._start
        self.status = self._response.status
        self.headers = _lower(self._response)
        self.is_whole = False

    def __iter__(self) -> Iterator[Line]:
        rest = b""
        with suppress(http.client.IncompleteRead, ConnectionError):
            while data := self._response.read1():  # `readline` takes a cut body for a whole one
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    yield Line(time.monotonic() - self._start, line + b"\n")
            self.is_whole = True
        if rest:
            yield Line(time.monotonic() - self._start, rest)

    def __enter__(self) -> LineStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def objects(self) -> list[Any]:
        """Return the rest of the stream: the object of each data line, without [DONE]."""
        return [found for line in self if (found := line.json) is not None]


class Gateway:
    """A running gateway. `log` is what it has printed so far, `data_dir` where its state lives."""

    def __init__(self, process: subprocess.Popen[bytes], workers: int, key: str, data_dir: Path, log_path: Path) -> None:
        self.process = process
        self.port = 0  # until it listens
        self.workers = workers
        self.key = key
        self.data_dir = data_dir
        self.pid = process.pid
        self._log_path = log_path

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """Post JSON, or bytes as they are."""
        return self.request("POST", path, body, headers)

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request on a connection of its own, with the key unless `headers` bring an Authorization."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, _encode(body), self._headers(headers))
            response = connection.getresponse()
            return Answer(response.status, _lower(response), response.read())
        finally:
            connection.close()

    def stream(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> LineStream:
        """Post and return once the headers are here. Use it in a `with` block."""
        return LineStream(self.port, path, _encode(body) or b"", self._headers(headers))

    def _headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **(headers or {})}

    def forget_failures(self) -> None:
        """Let no failure so far rest a provider. For a gateway of one worker, which knows it when this returns."""
        assert self.workers == 1, "the others would hear of it later"
        until = time.monotonic() + TIMEOUT_S
        while not self._recover_all() or self._rests_somebody():  # a broken stream is noted just after its end
            assert time.monotonic() < until
            time.sleep(0.05)

    def _recover_all(self) -> bool:
        """End all rests; return False where the store was late, which is nobody's failure: it is to be asked again."""
        with closing(store_from_url(f"sqlite:///{self.data_dir}/state.sqlite3")) as store:
            try:
                rests = store.snapshot().rests
            except StateError:
                return False
            if rests:
                store.write([Recovery(scope, store.now()) for scope in rests])
        return True

    def _rests_somebody(self) -> bool:
        """Whether a chat model is resting; for the answer the gateway reads its state anew."""
        candidates = self.get("/v1/routing/status?model=auto").json["candidates"]
        return any(candidate["out_because"] in ("cooldown", "probing") for candidate in candidates)

    def terminate(self) -> None:
        """Send SIGTERM to the master and return at once."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def stop(self, grace_s: float = 5.0) -> int:
        """End it: SIGTERM to the master, SIGKILL to its process group after `grace_s`; return the master's exit code."""
        self.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_s)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.process.wait(5)


StartGateway = Callable[..., Gateway]


def open_gateway(
    env: Mapping[str, str], data_dir: Path, *, workers: int = 2, threads: int = 16, key: str = KEY, app: str = "app:app"
) -> Gateway:
    """Start a gateway on a port that the system chooses and return it once it answers /healthz, after at most 15 s.

    The environment is `env` and next to nothing else: discovery is off unless `env` says otherwise. `app` is what
    gunicorn loads.

    :raises RuntimeError: it ended or did not answer; the message has what it printed.
    """
    log_path = data_dir.parent / f"{data_dir.name}.log"
    variables = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(data_dir),
        "HOST": "127.0.0.1",
        "PORT": "0",
        "WEB_CONCURRENCY": str(workers),
        "GATEWAY_THREADS": str(threads),
        "GATEWAY_API_KEY": key,
        "GATEWAY_DATA_DIR": str(data_dir),
        "GATEWAY_DISCOVERY": "off",
        **env,
    }
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", app],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    gateway = Gateway(process, workers, key, data_dir, log_path)
    if not _answers(gateway):
        code = gateway.stop(grace_s=1)
        raise RuntimeError(f"the gateway did not start (exit code {code}):\n{gateway.log()[-8000:]}")
    return gateway


def _answers(gateway: Gateway) -> bool:
    until = time.monotonic() + BOOT_S
    while time.monotonic() < until and gateway.process.poll() is None:
        if listening := LISTENING.search(gateway.log()):
            gateway.port = int(listening[1])
            with suppress(OSError, http.client.HTTPException):
                if gateway.get("/healthz").status == 200:
                    return True
        time.sleep(0.02)
    return False


def _encode(body: Any) -> bytes | None:
    return body if body is None or isinstance(body, bytes) else json.dumps(body).encode()


def _lower(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}
