"""A real nginx on a free port of the loopback interface, with the block that the README tells users to copy."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import textwrap
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOOT_S = 10.0
FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
LISTEN = "listen 80;"
FIRST, SECOND = "server 127.0.0.1:8000", "# server 10.0.0.2:8000"


def program() -> str | None:
    """Return where nginx is, None where it is not installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def block_of_the_readme() -> str:
    readme = (ROOT / "README.md").read_text()
    found = re.search(r"^    upstream gateway \{\n(?:(?:    .*)?\n)*", readme, re.MULTILINE)
    assert found, "the README has no nginx block"
    return textwrap.dedent(found[0])


def with_ports(block: str, port: int, gateways: Sequence[int]) -> str:
    """Return the block with ports of this machine; a second gateway takes the place of the other machine."""
    changes = {LISTEN: f"listen 127.0.0.1:{port};", FIRST: f"server 127.0.0.1:{gateways[0]}"}
    if len(gateways) > 1:
        changes[SECOND] = f"server 127.0.0.1:{gateways[1]}"
    for old, new in changes.items():
        assert block.count(old) == 1, old
        block = block.replace(old, new)
    return block


class Nginx:
    """It runs until `stop`, in front of gateways on these ports, and keeps its files in `folder`."""

    def __init__(self, folder: Path, gateways: Sequence[int]) -> None:
        self._folder = folder
        until = time.monotonic() + BOOT_S
        while not self._starts(gateways, until):
            if time.monotonic() > until or "Address already in use" not in self.errors():
                raise RuntimeError(f"nginx did not start:\n{self.errors()}")

    def __enter__(self) -> Nginx:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def errors(self) -> str:
        path = self._folder / "error.log"
        return path.read_text() if path.exists() else ""

    def _starts(self, gateways: Sequence[int], until: float) -> bool:
        """Start it on a port that was free a moment ago; return False if somebody else took that meanwhile."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        configuration = self._folder / "nginx.conf"
        configuration.write_text(self._around(with_ports(block_of_the_readme(), self.port, gateways)))
        command = [program() or "nginx", "-p", str(self._folder), "-e", str(self._folder / "error.log"), "-c", str(configuration)]
        nowhere = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere)
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self._process.poll() is None
            time.sleep(0.02)
        self.stop()
        return False

    def _around(self, block: str) -> str:
        """Return a whole configuration: what Debian's nginx.conf has around the block, in this folder."""
        user = "user root;" if os.geteuid() == 0 else ""  # the folders of a test belong to nobody else
        folders = "\n".join(f"{name}_temp_path {self._folder / name};" for name in FOLDERS)
        return (
            f"daemon off;\nworker_processes 2;\npid {self._folder / 'nginx.pid'};\n{user}\n"
            "events { worker_connections 768; }\n"
            f"http {{\nsendfile on;\ntcp_nopush on;\ngzip on;\naccess_log off;\n{folders}\n{block}\n}}\n"
        )

    def stop(self) -> None:
        """End it at once: connections are closed."""
        self._process.terminate()
        self._process.wait(10)
