"""Stores between processes: one limit, a sudden death, an end without close."""

import subprocess
import sys
import time
from typing import Any

import pytest

from gateway.errors import ConfigurationError
from gateway.state import store_from_url
from gateway.state.base import Charge, Reservation
from tests.state.conftest import patiently

ENDS = time.time() + 600

RESERVE = """
import sys, time
from gateway.state import store_from_url
from gateway.state.base import Charge, Reservation
from gateway.errors import StateError
from tests.state.patience import have_patience
have_patience()  # a store that is late may have kept what it did not grant
store = store_from_url(sys.argv[1])
granted = 0
for _ in range(40):
    for _ in range(100):
        try:
            granted += isinstance(store.reserve([Charge("a", 1, 1, 50, time.time() + 600)]), Reservation)
            break
        except StateError:
            time.sleep(0.01)
print(granted, flush=True)
"""
WRITE = """
import sys, time
from gateway.state import store_from_url
from gateway.state.base import Adjustment
store = store_from_url(sys.argv[1])
for number in range(100_000):
    store.write([Adjustment("a", 1, 1, time.time() + 600)])
    print(time.time(), flush=True)
    time.sleep(0.005)
"""
END = """
import sys, time
from gateway.state import store_from_url
from gateway.state.base import Adjustment
store_from_url(sys.argv[1]).write([Adjustment("a", 1, 1, time.time() + 600)] * 1200)
"""


def python(script, url):
    return subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def store(url):
    opened = store_from_url(url)
    yield opened
    opened.close()


def used(store):
    return sum(slot.used for slot in patiently(store.snapshot).counts.get("a", ()))


def reserve(store):
    return isinstance(patiently(store.reserve, [Charge("a", 1, 1, 10_000, ENDS)]), Reservation)


def test_processes_keep_one_limit_together(url, store):
    workers = [python(RESERVE, url) for _ in range(3)]
    assert sum(int(worker.communicate(timeout=30)[0]) for worker in workers) == 50 == used(store)


def test_a_killed_process_loses_what_it_wrote_last_at_most(url, store):
    worker = python(WRITE, url)
    with worker:
        lines = [worker.stdout.readline() for _ in range(200)]
        worker.kill()
        lines += worker.stdout.readlines()
    moments = [float(line) for line in lines if line.endswith("\n")]
    recent = sum(moment > moments[-1] - 0.5 for moment in moments)
    assert len(moments) - recent <= used(store) <= len(moments) + 1
    assert used(store) > 0 and reserve(store)  # and no lock of it is left


def test_a_process_that_just_ends_writes_what_is_pending(url, store):
    worker = python(END, url)
    began = time.monotonic()
    assert worker.wait(30) == 0 and time.monotonic() - began < 10
    worker.communicate()
    assert used(store) == 1200


@pytest.mark.parametrize(
    "url_",
    [
        "mysql://user:secret@host/db",
        "redis://user:secret@host:port/0",
        "redis://:secret@host:6379/0?no_such_option=secret",
        "redis://:secret@host:6379/0?socket_timeout=secret",
        "redis://:secret@[::1/0",
        "sqlite:///",
        "sqlite://secret.db",
        "sqlite:secret.db",
        "",
        "secret",
    ],
)
def test_a_url_that_names_no_store_is_said_without_showing_it(url_):
    with pytest.raises(ConfigurationError) as raised:
        store_from_url(url_)
    assert raised.value.problems[0].startswith("STATE_URL: ")
    assert "secret" not in str(raised.value) and len(raised.value.problems) == 1
    assert raised.value.__context__ is None or raised.value.__suppress_context__


def test_certificates_are_verified_unless_told_otherwise():
    for verify, wanted in ((True, "CERT_REQUIRED"), (False, "CERT_NONE")):
        store: Any = store_from_url("rediss://127.0.0.1:1/0", tls_verify=verify)
        connection = store._redis.connection_pool.make_connection()
        assert connection.cert_reqs.name == wanted and connection.check_hostname is verify
        store.close()


def test_the_redis_driver_is_not_loaded_without_need(tmp_path):
    script = "import sys; from gateway.state import store_from_url; store_from_url(sys.argv[1]); print('redis' in sys.modules)"
    worker = python(script, f"sqlite:///{tmp_path}/a.sqlite3")
    assert worker.communicate(timeout=30)[0] == "False\n"
