"""Load on a real gunicorn while its workers are killed: what is lost, and whether all else is right and counted.

    .venv/bin/python -m tests.kill_load --minutes 5 --concurrency 64 --every 20

Whole answers, streams and embeddings, of providers that are well. Every so many seconds the worker that has the most
connections is killed (SIGKILL). Prints figures; ends with 1 where an answer is wrong, where more is lost than the killed
workers had connections, or where /v1/analytics is off by more than 1%.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any

from tests.e2e.conftest import Gateway
from tests.soak import (
    CLIENTS,
    KINDS,
    THREADS,
    Client,
    allow_many_files,
    look_at,
    running_gateway,
    running_upstreams,
    spawn,
    told,
)

ASKED = [kind for kind in KINDS if kind.name in ("whole", "streamed", "embeddings")]
RIGHT = "200 answer"
LOST = "lost"
LOST_WITHIN_S = 2.0  # of a kill: what is lost later than that, it does not explain
MOST_MISCOUNTED = 0.01
COUNTED_S = 2.0  # after which all that was answered is counted
LAST_S = 60.0  # for clients to end after their time


@dataclass
class Seen:
    """What clients saw, by kind and outcome. `ended_at`, `lost_at`: epoch seconds; `times`: how long answers took, in seconds."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    ended_at: list[float] = field(default_factory=list)
    lost_at: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def add(self, kind: str, outcome: str, took_s: float) -> None:
        self.outcomes[kind, outcome] += 1
        (self.lost_at if outcome == LOST else self.ended_at).append(time.time())
        self.times.append(took_s)

    def merge(self, other: Seen) -> None:
        self.outcomes += other.outcomes
        self.ended_at += other.ended_at
        self.lost_at += other.lost_at
        self.times += other.times

    @property
    def right(self) -> int:
        return sum(number for (_, outcome), number in self.outcomes.items() if outcome == RIGHT)

    def longest_gap_s(self) -> float:
        """Return for how long nobody was answered at the most."""
        ends = sorted(self.ended_at)
        return max((later - earlier for earlier, later in pairwise(ends)), default=0.0)


@dataclass(frozen=True)
class Kill:
    """A killed worker. `at`: epoch seconds; `connections`: of clients, and at most one request is under way on each."""

    at: float
    connections: int

    def lost(self, seen: Seen) -> int:
        return sum(0 <= moment - self.at <= LOST_WITHIN_S for moment in seen.lost_at)


# --- clients -----------------------------------------------------------------------------------------------------------


def play_clients(port: int, key: str, seeds: Sequence[int], stays: int, ends_at: float, results: Any) -> None:
    """Ask, on a connection and thread for each seed, until the time is over."""
    all_seen = [Seen() for _ in seeds]
    threads = [
        threading.Thread(target=ask_much, args=(Client(port, key, seed), stays, ends_at, seen))
        for seed, seen in zip(seeds, all_seen, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seen in all_seen[1:]:
        all_seen[0].merge(seen)
    results.put(all_seen[0])


def ask_much(client: Client, stays: int, ends_at: float, seen: Seen) -> None:
    """Ask, with a new connection after so many requests, so that a worker that is new gets its share of them."""
    weights = [kind.weight for kind in ASKED]
    for number in count(client.random.randrange(stays)):
        if time.time() > ends_at:
            break
        if number % stays == 0:
            client.connection.close()  # the next request opens another
        (kind,) = client.random.choices(ASKED, weights)
        began = time.monotonic()
        try:
            outcome = kind.ask(client)
        except TimeoutError:
            outcome = "no answer in time"
        except (OSError, http.client.HTTPException):
            outcome = LOST
            client.connection.close()
        except ValueError as error:
            outcome = f"unreadable: {type(error).__name__}"
        seen.add(kind.name, outcome, time.monotonic() - began)
    client.connection.close()


# --- kills -------------------------------------------------------------------------------------------------------------


def kill_one(gateway: Gateway) -> Kill:
    """Kill the worker with the most connections; it is halted first, so that they are those that it dies with."""
    workers = {pid: held.clients for pid, held in look_at(gateway, ()).items() if pid != gateway.pid}
    victim = max(workers, key=workers.__getitem__)
    os.kill(victim, signal.SIGSTOP)
    connections = look_at(gateway, ())[victim].clients
    at = time.time()
    os.kill(victim, signal.SIGKILL)
    return Kill(at, connections)


def kill_much(gateway: Gateway, every_s: float, ends_at: float) -> list[Kill]:
    """Kill a worker every so many seconds; return after the last, in time for those that it leaves to go on."""
    kills = []
    next_at = time.time() + every_s
    while next_at < ends_at - LOST_WITHIN_S:
        time.sleep(max(0.0, next_at - time.time()))
        kills.append(kill_one(gateway))
        next_at += every_s
    return kills


# --- what came of it ---------------------------------------------------------------------------------------------------


def run(minutes: float, concurrency: int, every_s: float, stays: int) -> bool:
    """Return whether all was as it should be."""
    with running_upstreams() as upstreams, running_gateway(upstreams, THREADS, patience_s=10) as gateway:
        began, ends_at = time.time(), time.time() + minutes * 60
        results = spawn.Queue()
        shares = [range(number, concurrency, CLIENTS) for number in range(CLIENTS)]
        processes = [
            spawn.Process(target=play_clients, args=(gateway.port, gateway.key, list(seeds), stays, ends_at, results))
            for seeds in shares
        ]
        for process in processes:
            process.start()
        kills = kill_much(gateway, every_s, ends_at)
        seen = Seen()
        for _ in processes:
            seen.merge(results.get(timeout=ends_at - time.time() + LAST_S))
        took_s = time.time() - began
        time.sleep(COUNTED_S)
        counted = gateway.get("/v1/analytics?days=2").json["total_requests"]
        report(seen, kills, counted, took_s)
        return told([*problems_of(seen, kills, counted), *problems_in_log(gateway)])


def problems_of(seen: Seen, kills: Sequence[Kill], counted: int) -> Iterator[str]:
    for (kind, outcome), number in seen.outcomes.items():
        if outcome not in (RIGHT, LOST):
            yield f"{number} x {kind}: {outcome}"
    for kill in kills:
        if kill.lost(seen) > kill.connections:
            yield f"{kill.lost(seen)} requests were lost with a worker that had {kill.connections} connections"
    if unexplained := len(seen.lost_at) - sum(kill.lost(seen) for kill in kills):
        yield f"{unexplained} requests were lost, and no worker had been killed"
    if abs(counted - seen.right) > MOST_MISCOUNTED * seen.right:
        yield f"{counted} requests are in the figures, {seen.right} were answered"


def problems_in_log(gateway: Gateway) -> Iterator[str]:
    odd = [line for line in gateway.log().splitlines() if "internal error" in line or "Traceback" in line]
    if odd:
        yield f"{len(odd)} odd lines in the log, such as {odd[0][:500]}"
    if late := gateway.log().count("the state store does not answer"):
        yield f"the state store did not answer for a while, {late} times: what was counted meanwhile is lost"


def report(seen: Seen, kills: Sequence[Kill], counted: int, took_s: float) -> None:
    total, answered, times = sum(seen.outcomes.values()), seen.right, sorted(seen.times)
    print(f"{total} requests in {took_s:.0f} s: {total / took_s:.0f} a second; {len(kills)} workers killed")
    for (kind, outcome), number in sorted(seen.outcomes.items()):
        print(f"  {number} x {kind}: {outcome}")
    print(f"lost with each kill, of connections: {', '.join(f'{kill.lost(seen)} of {kill.connections}' for kill in kills)}")
    print(f"answered {answered}, in /v1/analytics {counted}: off by {(counted - answered) / max(1, answered):+.3%}")
    print(f"not counted with each kill: {(answered - counted) / answered * took_s / max(1, len(kills)):.3f} s of all requests")
    spread = [times[len(times) * percent // 100] * 1000 for percent in (50, 99)]
    print(f"time of a request: median {spread[0]:.0f} ms, 99th percentile {spread[1]:.0f} ms, longest {times[-1] * 1000:.0f} ms")
    print(f"longest time without any answer: {seen.longest_gap_s() * 1000:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--every", type=float, default=20.0, metavar="SECONDS", help="between two kills")
    parser.add_argument("--stays", type=int, default=50, metavar="REQUESTS", help="that a client sends on one connection")
    asked = parser.parse_args()
    allow_many_files()
    sys.exit(0 if run(asked.minutes, asked.concurrency, asked.every, asked.stays) else 1)


if __name__ == "__main__":
    main()
