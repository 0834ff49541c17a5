"""What the state store's verbs cost, and how many it does. Run: `.venv/bin/python -m tests.bench.state`

SQLite in a temporary folder and, where it is installed, a real redis-server; the shared state of 100 models with four quotas
each. One thread alone, then 16 of one process. These are times on the clock: other work on the machine shows.
"""

import shutil
import tempfile
import threading
import time
from itertools import chain
from pathlib import Path
from statistics import quantiles

from gateway.state import store_from_url
from gateway.state.base import Adjustment, Charge, Lesson, Note, Recovery
from tests.redis_server import RedisServer
from tests.state.patience import have_patience

MODELS, THREADS, SECONDS = 100, 16, 1.0
WRITES = 3200  # of WRITE_CHANGES each: fewer changes than the store lets wait
WINDOWS = {"rpm": 1, "rpd": 1, "tpm": 300, "tpd": 300}
KEPT_S = 30.0


def charges(number, now):
    """Return what a request takes of a model's four quotas."""
    until = now + 3600
    return [Charge(f"model-{number}/{window}", 1, amount, 10**12, until) for window, amount in WINDOWS.items()]


def settlement(number, now):
    """Return what is written after an answer: tokens by the provider's count, and what was learned."""
    until = now + 3600
    returned = [Adjustment(f"model-{number}/{window}", 1, -20, until) for window in ("tpm", "tpd")]
    return [*returned, Recovery(f"model-{number}", now), Lesson(f"model-{number}", (1.0, 1.0, 0.2, 50.0), 600.0)]


def run(threads, work):
    """Have so many threads do `work(thread, times)`; return what each did took, in seconds, and all of it together."""
    times: list[list[float]] = [[] for _ in range(threads)]
    workers = [threading.Thread(target=work, args=(number, times[number])) for number in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return list(chain.from_iterable(times)), time.perf_counter() - began


def timed(verb, times):
    began = time.perf_counter()
    verb()
    times.append(time.perf_counter() - began)


def asking(verb):
    """Return work that asks one question after the other until the time is up."""

    def work(number, times):
        ends = time.perf_counter() + SECONDS
        while time.perf_counter() < ends:
            timed(lambda: verb((number * 7 + len(times)) % MODELS), times)

    return work


def report(what, threads, times, took):
    p99_ms = quantiles(times, n=100)[98] * 1000
    print(f"{what}, {threads} thread{'s' * (threads > 1)}: {len(times) / took:,.0f}/s, p99 {p99_ms:.2f} ms", flush=True)


def wait_until_kept(store, mark):
    store.write([Note(mark, "kept", 60)])
    until = time.monotonic() + KEPT_S
    while not store.recall([mark]):
        if time.monotonic() > until:
            raise RuntimeError("the store does not keep what is written")
        time.sleep(0.001)


def measure(name, store):
    now = store.now()
    for number in range(MODELS):
        store.reserve(charges(number, now))
        store.write(settlement(number, now))
    wait_until_kept(store, "filled")
    for threads in (1, THREADS):
        report(f"{name}, reserve", threads, *run(threads, asking(lambda number: store.reserve(charges(number, now)))))
        report(f"{name}, snapshot", threads, *run(threads, asking(lambda number: store.snapshot())))
        measure_writes(name, store, threads, now)


def measure_writes(name, store, threads, now):
    """As the others, but the rate is of what is kept, and p99 of what the writer waits: not for that."""

    def work(number, times):
        for turn in range(WRITES // threads):
            changes = settlement((number * 7 + turn) % MODELS, now)
            timed(lambda changes=changes: store.write(changes), times)

    times, took = run(threads, work)
    began = time.perf_counter()
    wait_until_kept(store, f"written by {threads}")
    report(f"{name}, write", threads, times, took + time.perf_counter() - began)


def refuse_loss(lost):
    if lost:
        print(f"{lost} changes were lost: the figures are of no use")


def main():
    have_patience()  # late answers are to show in p99
    with tempfile.TemporaryDirectory() as folder:
        store = store_from_url(f"sqlite:///{folder}/state.sqlite3", on_trouble=refuse_loss)
        measure("SQLite", store)
        store.close()
        if not shutil.which("redis-server"):
            print("Redis: not measured, redis-server is not installed")
            return
        server = RedisServer(Path(folder))
        try:
            store = store_from_url(server.url, on_trouble=refuse_loss)
            measure("Redis", store)
            store.close()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
