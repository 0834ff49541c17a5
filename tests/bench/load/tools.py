"""What makes the load: wrk for whole answers, `streams.c` for streamed ones. Each blocks for its seconds and a little more."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.load.servers import HEADERS, HERE, PATH, Server

MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
SPARE_S = 60.0  # of a tool, for what is under way


@dataclass(frozen=True)
class Burst:
    """What a server did for some seconds: `rate` is of answers, or of the events of streams, a second."""

    rate: float
    p50_ms: float = 0.0


class Tools:
    """Compiled into `folder`.

    :raises SystemExit: gcc or wrk is not there.
    """

    def __init__(self, folder: Path, seconds: int) -> None:
        if missing := [name for name in ("gcc", "wrk") if not shutil.which(name)]:
            raise SystemExit(f"needs {' and '.join(missing)}; on Debian: apt-get install gcc libc6-dev wrk")
        self._folder = folder
        self._seconds = seconds
        self.provider = self._compile("provider")
        self._streams = self._compile("streams")

    def _compile(self, name: str) -> Path:
        subprocess.run(["gcc", "-O2", "-o", self._folder / name, HERE / f"{name}.c"], check=True)
        return self._folder / name

    def whole(self, server: Server, body: Any, connections: int) -> Burst:
        """Ask for whole answers.

        :raises RuntimeError: not all of them were right.
        """
        script = self._folder / "request.lua"
        headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in HEADERS.items())
        script.write_text(f'wrk.method = "POST"\n{headers}wrk.body = [==[{json.dumps(body)}]==]\n')
        command = ["wrk", "-t1", f"-c{connections}", f"-d{self._seconds}", "--timeout", "30", "--latency", "-s", str(script)]
        told = self._run(*command, f"http://127.0.0.1:{server.port}{PATH}")
        rate, median = re.search(r"Requests/sec:\s+([\d.]+)", told), re.search(r"50%\s+([\d.]+)(us|ms|s)", told)
        if "Non-2xx" in told or "Socket errors" in told or not rate or not median:
            raise RuntimeError(f"{server.name} failed:\n{told}")
        return Burst(float(rate[1]), float(median[1]) * MS[median[2]])

    def streamed(self, server: Server, body: Any, connections: int) -> Burst:
        """Ask for streams; as `whole`."""
        request = self._folder / "request.http"
        content = json.dumps(body)
        head = {"Host": "127.0.0.1", "Content-Length": len(content), **HEADERS}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        request.write_bytes(f"POST {PATH} HTTP/1.1\r\n{lines}\r\n{content}".encode())
        told = json.loads(self._run(str(self._streams), str(server.port), str(request), str(connections), str(self._seconds)))
        if told["failures"]:
            raise RuntimeError(f"{server.name} failed: {told}")
        return Burst(told["events_per_s"])

    def _run(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=self._seconds + SPARE_S).stdout
