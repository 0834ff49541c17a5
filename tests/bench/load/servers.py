"""The servers that are compared, each in a process group of its own on the loopback interface."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench.bodies import MODEL, SMALL

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
GUNICORN: list[str | Path] = [sys.executable, "-m", "gunicorn"]
KEY = "sk-bench"
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
PATH = "/v1/chat/completions"
WORKERS, THREADS = 2, 64
BOOT_S, STOP_S = 90.0, 10.0


@dataclass(frozen=True)
class Server:
    """A running server. `boot_s`: from its start to its first answer."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    boot_s: float

    def memory_mb(self) -> float:
        """Return the memory of all its processes; what they share counts once."""
        kilobytes = 0
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.getpgid(int(entry.name)) == self.process.pid:
                    found = re.search(r"^Pss:\s+(\d+)", (entry / "smaps_rollup").read_text(), re.MULTILINE)
                    kilobytes += int(found[1]) if found else 0
        return kilobytes / 1024

    def stop(self) -> None:
        stop(self.process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it, and then whatever else is in its group. Blocks for at most twice STOP_S."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_S)


def start(name: str, command: Sequence[str | Path], env: Mapping[str, str], port: int, folder: Path) -> Server:
    """Start a server and return it once it has answered, after at most BOOT_S. What it prints is in `folder`.

    :raises RuntimeError: it ended or did not answer; the message has the end of what it printed.
    """
    log = folder / f"{name}.log"
    variables = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), **env}
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        while not answers(port):
            if process.poll() is not None or time.monotonic() > began + BOOT_S:
                raise RuntimeError(f"{name} did not start:\n{log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.01)
    except BaseException:
        stop(process)
        raise
    return Server(name, process, port, time.monotonic() - began)


def answers(port: int) -> bool:
    with suppress(OSError, http.client.HTTPException):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=BOOT_S)) as connection:
            connection.request("POST", PATH, json.dumps(SMALL), HEADERS)
            return connection.getresponse().status == 200
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


Start = Callable[[Path, int], Server]  # in a folder, for the provider at a port


def start_provider(program: Path, folder: Path) -> Server:
    port = free_port()
    return start("bare provider", [program, str(port)], {}, port, folder)


def start_floor(folder: Path, provider: int) -> Server:
    port = free_port()
    command = [*GUNICORN, "-k", "gthread", "-w", str(WORKERS), "--threads", str(THREADS), "--keep-alive", "75"]
    command += ["--worker-connections", str(2 * THREADS), "-b", f"127.0.0.1:{port}", "-c", "/dev/null", "--chdir", str(HERE)]
    return start("floor", [*command, "floor:app"], {"FLOOR_UPSTREAM": f"http://127.0.0.1:{provider}{PATH}"}, port, folder)


def start_gateway(folder: Path, provider: int) -> Server:
    """Start it with all that is on by default: SQLite, metrics, a line of the log for each request."""
    port = free_port()
    env = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WEB_CONCURRENCY": str(WORKERS),
        "GATEWAY_THREADS": str(THREADS),
        "GATEWAY_API_KEY": KEY,
        "GATEWAY_DATA_DIR": str(folder / "data"),
        "GATEWAY_CATALOG": str(HERE / "unlimited.toml"),
        "GATEWAY_DISCOVERY": "off",  # the mock has no list of models
        "GROQ_API_KEY": "x",
        "GROQ_BASE_URL": f"http://127.0.0.1:{provider}/v1",
    }
    return start("gateway", [*GUNICORN, "app:app"], env, port, folder)


def starter_of_litellm(program: Path) -> Start:
    """Return what starts LiteLLM's proxy with its own defaults, but for what it would fetch from the net."""
    ask = "from importlib.metadata import version; print(version('litellm'))"
    program = program.absolute()
    version = subprocess.check_output([program.parent / "python", "-c", ask], text=True).strip()

    def start_litellm(folder: Path, provider: int) -> Server:
        port = free_port()
        served = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{provider}/v1", "api_key": "x"}
        config = {
            "model_list": [{"model_name": MODEL, "litellm_params": served}],
            "general_settings": {"master_key": KEY},
            "litellm_settings": {"disable_hf_tokenizer_download": True},  # streams would wait for it
        }
        (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
        command: list[str | Path] = [program, "--config", folder / "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # it would fetch a list of prices
        command += ["--num_workers", str(WORKERS), "--timeout_worker_healthcheck", "60"]  # a worker takes long to import
        return start(f"LiteLLM {version}", command, env, port, folder)

    return start_litellm
