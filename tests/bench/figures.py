"""What counting costs: on a request's own path, aside, and when somebody asks. Run: `.venv/bin/python -m tests.bench.figures`

The best of many rounds, in processor time where it is a request's, so that other work on the machine hardly shows. Figures at
the most that there can be: as many projects a day as have names, with three models each, over as many days as are kept.
"""

import os
import tempfile
import time
from pathlib import Path

from gateway.analytics.deferred import Deferred
from gateway.analytics.reader import Reader
from gateway.analytics.recorder import Recorder
from gateway.analytics.series import DAYS, MOST_PROJECTS, day_key
from gateway.domain import Attempt, Usage
from gateway.metrics import PrometheusTelemetry, Shared, WorkerNumbers, count_as_worker
from gateway.state.base import Tally
from gateway.state.sqlite import SqliteStore
from gateway.telemetry import RequestRecord
from tests.unit.routing.conftest import candidate

REQUESTS, ROUNDS, MODELS, WORKERS = 100, 50, 100, 4
CANDIDATES = [candidate(f"provider-{n % 10}/a-model-with-a-name-{n}") for n in range(MODELS)]


def record(number, at):
    served = CANDIDATES[number % MODELS]
    return RequestRecord(
        f"req_{number:024}",
        surface="chat",
        for_models=True,
        admitted=True,
        streamed=True,
        key="default",
        project_id=f"p{number % 5}",
        model="auto",
        served_by=served.model.name,
        status=200,
        attempts=[Attempt(served.provider.key, served.model.id, "ok", 200, 20.0)],
        ttft_ms=100.0,
        duration_ms=200.0,
        ended_at=at,
        usage=Usage(100, 50),
    )


def count(telemetry, number, at):
    telemetry.request_admitted()
    telemetry.stream_began()
    telemetry.attempt_ended(CANDIDATES[number % MODELS], "ok", 20.0)
    telemetry.request_ended(record(number, at))


def wait_for(store):
    while store._writer._changes:
        time.sleep(0.005)
    time.sleep(0.02)


def best_ms(rounds, work):
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return min(times)


def main():
    numbers = WorkerNumbers()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = numbers.folder
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "state.sqlite3")
        for _ in range(WORKERS):
            count_as_worker(numbers.take())
            prometheus = PrometheusTelemetry(64)
            deferred = Deferred(prometheus, Recorder(store))
            for number in range(MODELS):
                count(deferred, number, store.now())
            deferred.tell()
        wait_for(store)
        on_path, aside = [], []
        for _ in range(ROUNDS):
            began = time.process_time()
            for number in range(REQUESTS):
                count(deferred, number % 10, store.now())
            told = time.process_time()
            deferred.tell()
            wait_for(store)
            on_path.append((told - began) / REQUESTS * 1e6)
            aside.append((time.process_time() - told) / REQUESTS * 1e6)
        print(f"on a request's path: {min(on_path):.1f} us")
        print(f"aside, of {REQUESTS} at a time, written to SQLite: {min(aside):.1f} us a request")
        scrape_ms = best_ms(ROUNDS, lambda: prometheus.expose("", Shared((), ())))
        print(f"/metrics of {MODELS} models and {WORKERS} workers: {scrape_ms:.1f} ms")
        fill(store)
        reader = Reader(store, catch_up=deferred.tell)
        for days in (1, 7, DAYS.kept):
            took_ms = best_ms(5, lambda days=days: reader.analytics(project=None, days=days, minutes=60))
            print(f"/v1/analytics of {days} days with {MOST_PROJECTS} projects each: {took_ms:.0f} ms")
        took_ms = best_ms(5, lambda: reader.analytics(project="p7", days=DAYS.kept, minutes=60))
        print(f"of one project, {DAYS.kept} days: {took_ms:.0f} ms")
        store.close()
        print(f"the file: {os.path.getsize(Path(folder) / 'state.sqlite3') / 1e6:.0f} MB")
    numbers.close()


def fill(store):
    today = DAYS.slot_of(store.now())
    amounts = {"requests": 123, "successful": 120, "prompt": 123_456, "completion": 54_321}
    for day in range(today - DAYS.kept + 1, today + 1):
        for project in range(MOST_PROJECTS):
            keys = [day_key("default", CANDIDATES[(project + n) % MODELS].model.name) for n in range(3)]
            store.write([Tally(DAYS.name, day, key, amounts, DAYS.keep_until(day), f"p{project}", MOST_PROJECTS) for key in keys])
        wait_for(store)


if __name__ == "__main__":
    main()
