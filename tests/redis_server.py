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
    """It runs until `stop`, and keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        until = time.monotonic() + BOOT_S
        while not self._starts(folder, until):
            if time.monotonic() > until:
                raise RuntimeError("redis-server did not start")

    def _starts(self, folder: Path, until: float) -> bool:
        """Start it on a port that was free a moment ago; return False if somebody else took that meanwhile."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while time.monotonic() < until and self._process.poll() is None:
            if self._answers():
                return True
            time.sleep(0.02)
        self.stop()
        return False

    def _answers(self) -> bool:
        with suppress(redis.RedisError), closing(redis.Redis.from_url(self.url, socket_timeout=1)) as client:
            return bool(client.info("server")["process_id"] == self._process.pid)
        return False

    def hang(self) -> None:
        """Keep connections, and answer nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.resume()
        self._process.terminate()
        self._process.wait(10)
