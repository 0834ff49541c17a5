"""Real faults under real stores: full disks, sudden deaths, damaged files, servers that refuse, hang and come back."""

import json
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

from gateway.errors import StateError
from gateway.state import guard as guard_module
from gateway.state import store_from_url
from gateway.state.base import WAIT_S, Adjustment, Charge, Note, Reservation
from gateway.state.guard import Guard
from tests.redis_server import RedisServer
from tests.state.conftest import eventually, patiently
from tests.state.test_guard import Witness
from tests.state.test_processes import RESERVE, WRITE, python

ENDS = time.time() + 600
SLACK_S = 0.15  # for a machine that is busy with other things


def used(store, counter="a"):
    return sum(slot.used for slot in patiently(store.snapshot).counts.get(counter, ()))


def aside(folder: Path):
    return [file for file in folder.iterdir() if ".corrupt-" in file.name and file.name.endswith("Z")]


def is_whole(path):
    database = sqlite3.connect(path)
    try:
        return database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        database.close()


@pytest.fixture
def witness():
    return Witness()


@pytest.fixture
def guarded(witness, monkeypatch):
    """Return a function that opens a store behind a guard."""
    monkeypatch.setattr(guard_module, "LOOK_EVERY_S", 0.02)
    opened = []

    def open_guard(url, **options):
        guard = Guard(lambda on_trouble: store_from_url(url, on_trouble=on_trouble, **options), witness)
        opened.append(guard)
        return guard

    yield open_guard
    for guard in opened:
        guard.close()


def in_time(verb, *arguments):
    began = time.monotonic()
    answer = verb(*arguments)
    assert time.monotonic() - began < WAIT_S + SLACK_S
    return answer


def is_up(guard, counter="up"):
    """Whether quotas are kept: of two reservations against a limit of one, one is refused."""
    name = f"{counter}-{random.random()}"
    return [isinstance(guard.reserve([Charge(name, 1, 1, 1, ENDS)]), Reservation) for _ in range(2)] == [True, False]


def serves_without(guard):
    """No verb fails, waits, or refuses, while the store is down."""
    for _ in range(3):
        assert isinstance(in_time(guard.reserve, [Charge("full", 1, 9, 1, ENDS)]), Reservation)
        in_time(guard.snapshot)
        in_time(guard.write, [Note("k", "v", 9)])
        in_time(guard.recall, ["k"])
        in_time(guard.lease, ["l"], 1)


# --- SQLite ------------------------------------------------------------------------------------------------------------


def test_processes_that_meet_a_damaged_file_set_it_aside_once_and_lose_nothing_after(tmp_path):
    path = tmp_path / "state.sqlite3"
    path.write_bytes(b"\xff" * 50_000)
    workers = [python(RESERVE, f"sqlite:///{path}") for _ in range(4)]
    granted = sum(int(worker.communicate(timeout=60)[0]) for worker in workers)
    store = store_from_url(f"sqlite:///{path}")
    assert granted <= used(store) == 50 and len(aside(tmp_path)) == 1
    store.close()


def test_a_file_that_is_damaged_under_running_processes_is_replaced(tmp_path):
    path = tmp_path / "state.sqlite3"
    workers = [python(WRITE, f"sqlite:///{path}") for _ in range(3)]
    for worker in workers:
        worker.stdout.readline()
    time.sleep(0.3)
    with open(path, "r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    with open(f"{path}-wal", "r+b") as file:
        file.truncate(0)
    eventually(lambda: len(aside(tmp_path)), 1)
    store = store_from_url(f"sqlite:///{path}")
    before = used(store)
    eventually(lambda: used(store) > before + 20)
    for worker in workers:
        worker.kill()
        worker.communicate()
    assert len(aside(tmp_path)) == 1 and is_whole(path)
    store.close()


def test_sudden_deaths_in_the_middle_of_writes_leave_a_whole_file(tmp_path):
    path = tmp_path / "state.sqlite3"
    written = 0
    for _ in range(6):
        workers = [python(WRITE, f"sqlite:///{path}") for _ in range(2)]
        for worker in workers:
            worker.stdout.readline()
        time.sleep(random.uniform(0.1, 0.5))
        moments = []
        for worker in workers:
            worker.kill()
            moments.append([float(line) for line in worker.communicate()[0].splitlines()[:-1]])
        assert is_whole(path)
        written += sum(moment < times[-1] - 0.5 for times in moments for moment in times)
        store = store_from_url(f"sqlite:///{path}")
        assert used(store) >= written
        assert isinstance(patiently(store.reserve, [Charge("b", 1, 1, 99, ENDS)]), Reservation)  # no lock is left
        store.close()
    assert not aside(tmp_path)


FULL_DISK = """
import json, resource, sys, time
from gateway.errors import StateError
from gateway.state import store_from_url
from gateway.state.base import Adjustment, Charge, Note

def works(verb, *arguments):
    try:
        verb(*arguments)
        return True
    except StateError:
        return False

def both():
    return [any(works(store.snapshot) for _ in range(9)), works(store.ping)]

ends = time.time() + 600
store = store_from_url(sys.argv[1])
said = []
for _ in range(50):
    if works(store.reserve, [Charge("a", 1, 1, 9, ends)]) and works(store.snapshot):
        break
said.append(both())
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
store.write([Adjustment("b", 1, 7, ends), Note("n", "x" * 50_000, 60)])
time.sleep(0.3)
said.append(both())
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
for _ in range(100):
    if works(store.ping) and works(store.recall, ["n"]) and "n" in store.recall(["n"]):
        break
    time.sleep(0.05)
said.append(both())
said.append({name: sum(slot.used for slot in slots) for name, slots in store.snapshot().counts.items()})
print(json.dumps(said), flush=True)
store.close()
"""


def test_a_full_disk_stops_writes_not_reads_and_loses_nothing(tmp_path):
    worker = python(FULL_DISK, f"sqlite:///{tmp_path}/state.sqlite3")
    said = json.loads(worker.communicate(timeout=60)[0])
    assert said[:3] == [[True, True], [True, False], [True, True]]
    assert said[3]["b"] == 7 and 1 <= said[3]["a"] <= 9


@pytest.mark.quiet
def test_a_file_that_another_program_locks_fails_nobody_and_loses_nothing(tmp_path, guarded, witness):
    path = tmp_path / "state.sqlite3"
    guard = guarded(f"sqlite:///{path}")
    eventually(lambda: is_up(guard))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    guard.write([Adjustment("b", 1, 7, ENDS)])
    eventually(lambda: len(witness.told), 1)
    serves_without(guard)
    other.execute("ROLLBACK")
    other.close()
    eventually(lambda: is_up(guard) and len(witness.told) == 2)
    eventually(lambda: used(guard, "b"), 7)


@pytest.mark.quiet
def test_a_process_that_hangs_with_the_lock_holds_nobody_up(tmp_path, guarded, witness):
    path = tmp_path / "state.sqlite3"
    guard = guarded(f"sqlite:///{path}")
    eventually(lambda: is_up(guard))
    script = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, f"{path}.lock"], stdout=subprocess.PIPE)
    assert holder.stdout and holder.stdout.readline()
    guard.write([Adjustment("b", 1, 7, ENDS)])
    guard.reserve([])
    eventually(lambda: len(witness.told), 1)
    serves_without(guard)
    holder.kill()
    holder.communicate()
    eventually(lambda: is_up(guard) and used(guard, "b") == 7)


# --- Redis -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def admin(own_redis):
    client = redis.Redis.from_url(own_redis.url)
    yield client
    client.close()


@pytest.mark.quiet
@pytest.mark.redis
def test_a_redis_that_is_killed_and_comes_back_is_used_again(own_redis, guarded, witness):
    guard = guarded(own_redis.url)
    eventually(lambda: is_up(guard))
    own_redis.kill()
    guard.write([Adjustment("b", 1, 7, ENDS)])
    eventually(lambda: len(witness.told), 1)
    serves_without(guard)
    own_redis.start()
    eventually(lambda: is_up(guard) and len(witness.told) == 2)
    eventually(lambda: used(guard, "b"), 7)  # what was written meanwhile


@pytest.mark.quiet
@pytest.mark.redis
def test_a_redis_that_hangs_holds_nobody_up(own_redis, guarded, witness):
    guard = guarded(own_redis.url)
    eventually(lambda: is_up(guard))
    own_redis.hang()
    in_time(guard.snapshot)
    eventually(lambda: len(witness.told), 1)
    serves_without(guard)
    own_redis.resume()
    eventually(lambda: is_up(guard) and len(witness.told) == 2)


@pytest.mark.quiet
@pytest.mark.redis
@pytest.mark.parametrize("refusal", ["full", "replica", "cannot save"])
def test_a_redis_that_takes_nothing_is_down_though_it_can_be_read(own_redis, admin, guarded, witness, refusal):
    guard = guarded(own_redis.url)
    eventually(lambda: is_up(guard))
    if refusal == "full":
        admin.config_set("maxmemory", "1kb")
    elif refusal == "replica":
        admin.replicaof("127.0.0.1", "1")
    else:
        admin.config_set("min-replicas-to-write", "1")
    guard.write([Adjustment("b", 1, 7, ENDS)])
    with pytest.raises(StateError):
        guard.ping()
    eventually(lambda: len(witness.told), 1)
    serves_without(guard)
    admin.config_set("maxmemory", "0")
    admin.config_set("min-replicas-to-write", "0")
    admin.replicaof("NO", "ONE")
    eventually(lambda: is_up(guard) and len(witness.told) == 2)
    guard.ping()
    eventually(lambda: used(guard, "b"), 7)


@pytest.fixture
def start_redis(redis_server, tmp_path):
    """Return a function that starts a server with options."""
    started = []

    def start(*options, **more):
        started.append(RedisServer(tmp_path, *options, **more))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.mark.quiet
@pytest.mark.redis
def test_a_wrong_password_is_an_outage_that_does_not_show_it(start_redis, guarded, witness):
    server = start_redis(password="right")
    guard = guarded(server.url.replace("://", "://:wrong-secret@"))
    serves_without(guard)
    eventually(lambda: len(witness.told), 1)
    assert "Authentication" in witness.told[0] and "secret" not in witness.told[0]
    right = guarded(server.url.replace("://", "://:right@"))
    eventually(lambda: is_up(right))


@pytest.fixture
def certificate(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", certificate, "-subj", "/CN=x"], check=True, capture_output=True)
    return ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)]


@pytest.mark.quiet
@pytest.mark.redis
def test_a_certificate_that_nobody_vouches_for_is_refused_unless_told_otherwise(start_redis, certificate, guarded, witness):
    server = start_redis(*certificate, "--tls-auth-clients", "no", tls=True)
    careful = guarded(server.url)
    serves_without(careful)
    eventually(lambda: len(witness.told), 1)
    careless = guarded(server.url, tls_verify=False)
    eventually(lambda: is_up(careless))
    assert not is_up(careful)


@pytest.mark.quiet
@pytest.mark.redis
def test_a_name_that_takes_long_to_be_found_holds_nobody_up(own_redis, guarded, monkeypatch):
    found, look_up = threading.Event(), socket.getaddrinfo

    def slowly(*arguments):
        found.wait(10)
        return look_up(*arguments)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    guard = guarded(own_redis.url)
    serves_without(guard)
    found.set()
    eventually(lambda: is_up(guard))
