"""How a real gunicorn starts with our settings, and what its workers start from."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT

pytestmark = pytest.mark.e2e

START_S = 15.0


@contextmanager
def started(tmp_path, env, *arguments):
    """Start gunicorn and yield its process and the file it prints to, once it listens."""
    environ = {"PATH": "/usr/bin:/bin", "GATEWAY_DATA_DIR": str(tmp_path / "data"), "GATEWAY_DISCOVERY": "off", **env}
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "gunicorn", "app:app", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=out, stderr=out, start_new_session=True)
    try:
        until(lambda: "Listening on" in log.read_text())
        yield process, log
    finally:
        process.terminate()
        process.wait(10)


def until(holds):
    end = time.monotonic() + START_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def workers_of(process):
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return {int(pid) for pid in path.read_text().split()}


def has_ipv6():
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


ADDRESSES = [({"PORT": "0", "HOST": "127.0.0.1"}, ()), ({}, ("-b", "127.0.0.1:0"))]
if has_ipv6():
    ADDRESSES.append(({"PORT": "0", "HOST": "::1"}, ()))


@pytest.mark.parametrize(("env", "arguments"), ADDRESSES)
def test_the_curl_line_is_printed_once_and_works_as_it_stands(tmp_path, env, arguments):
    with started(tmp_path, env, *arguments) as (_, log):
        until(lambda: "\ncurl " in log.read_text() and log.read_text().endswith("\n\n"))
        (line,) = [line for line in log.read_text().splitlines() if line.startswith("curl ")]
        answer = subprocess.run(["bash", "-c", f"{line} -sS -m 10"], capture_output=True, text=True, timeout=20)
    assert '"object":"chat.completion"' in answer.stdout
    assert log.read_text().count("Listening on") == 1


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_a_worker_starts_from_what_the_master_checked(tmp_path):
    catalog = tmp_path / "mine.toml"
    catalog.write_text('[[models]]\nprovider = "groq"\nid = "mine"\n')
    env = {"PORT": "0", "HOST": "127.0.0.1", "GATEWAY_API_KEY": "k", "GATEWAY_CATALOG": str(catalog), "WEB_CONCURRENCY": "1"}
    with started(tmp_path, env) as (process, log):
        url = re.findall(r"http://\S+", log.read_text())[0]
        until(lambda: workers_of(process))
        first = workers_of(process)
        catalog.write_text("broken [")
        for worker in first:
            os.kill(worker, signal.SIGKILL)
        until(lambda: workers_of(process) - first)
        command = ["curl", "-sS", "-m", "10", f"{url}/v1/models/mine", "-H", "Authorization: Bearer k"]
        assert '"id":"mine"' in subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
        assert process.poll() is None


def test_problems_of_settings_keys_and_catalog_are_one_short_message(tmp_path):
    environ = {"PATH": "/usr/bin:/bin", "PORT": "x", "GROQ_API_KEY": "a key", "GATEWAY_CATALOG": str(tmp_path / "none.toml")}
    command = [sys.executable, "-m", "gunicorn", "app:app"]
    ended = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert [line.split()[1] for line in ended.stderr.splitlines()[1:]] == ["PORT", f"{tmp_path / 'none.toml'}:", "GROQ_API_KEY"]
