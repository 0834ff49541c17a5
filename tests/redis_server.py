"""A real redis-server on a free port of the loopback interface."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

import redis

BOOT_S = 10.0


class RedisServer:
    """It runs until `stop`, or again from `start` on, and keeps nothing on disk. `options`: of its command line."""

    def __init__(self, folder: Path, *options: str, tls: bool = False, password: str = "") -> None:
        self._options = ["--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
        if password:
            self._options += ["--requirepass", password]
        self._password = password
        self._tls = tls
        until = time.monotonic() + BOOT_S
        while not self._starts_anywhere(until):
            if time.monotonic() > until:
                raise RuntimeError("redis-server did not start")

    def start(self) -> None:
        """Start it again where it was."""
        if not self._starts(time.monotonic() + BOOT_S):
            raise RuntimeError("redis-server did not start again")

    def _starts_anywhere(self, until: float) -> bool:
        """Start it on a port that was free a moment ago; return False if somebody else took that meanwhile."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"{'rediss' if self._tls else 'redis'}://127.0.0.1:{self.port}/0"
        return self._starts(until)

    def _starts(self, until: float) -> bool:
        ports = ["--port", "0", "--tls-port", str(self.port)] if self._tls else ["--port", str(self.port)]
        self._process = subprocess.Popen(["redis-server", *ports, *self._options], stdout=subprocess.DEVNULL)
        while time.monotonic() < until and self._process.poll() is None:
            if self._answers():
                return True
            time.sleep(0.02)
        self.stop()
        return False

    def _answers(self) -> bool:
        options = {"password": self._password} | ({"ssl_cert_reqs": "none"} if self._tls else {})
        with suppress(redis.RedisError), closing(redis.Redis.from_url(self.url, socket_timeout=1, **options)) as client:
            return bool(client.info("server")["process_id"] == self._process.pid)
        return False

    def hang(self) -> None:
        """Keep connections, and answer nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> None:
        self.resume()
        self._process.terminate()
        self._process.wait(10)
