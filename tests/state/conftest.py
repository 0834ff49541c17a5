"""One store of each kind; a real redis-server on a free port of the loopback interface."""

import os
import shutil
import socket
import subprocess
import time
from typing import Any

import pytest

from gateway.state.memory import MemoryStore
from gateway.state.redis import RedisStore
from gateway.state.sqlite import SqliteStore


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    if shutil.which("redis-server") is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is missing")
        pytest.skip("needs redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = str(tmp_path_factory.mktemp("redis"))
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    wait_for(RedisStore(url))
    yield url
    server.terminate()
    server.wait(10)


def wait_for(store):
    until = time.monotonic() + 10
    while True:
        try:
            store.ping()
            return store.close()
        except Exception:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def store(request, tmp_path):
    opened: Any
    if request.param == "memory":
        opened = MemoryStore()
    elif request.param == "sqlite":
        opened = SqliteStore(tmp_path / "state.sqlite3")
    else:
        opened = RedisStore(request.getfixturevalue("redis_url"))
        opened._redis.flushall()
    yield opened
    opened.close()
