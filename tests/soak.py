"""Much traffic of every kind against a real gunicorn, and what it leaves behind: threads, sockets, memory, odd answers.

    .venv/bin/python -m tests.soak --requests 200000 --minutes 60      mixed requests, one after the other on 64 connections
    .venv/bin/python -m tests.soak --streams 1000                      as many streams open at once

Providers and clients run in processes of their own. Prints figures; ends with 1 where something is not as it should be.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import random
import resource
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from gateway.lifecycle import SPARE_THREADS
from tests.e2e.conftest import Gateway, open_gateway
from tests.e2e.simulator import (
    Behaviour,
    Connection,
    Simulator,
    cut_after,
    delay,
    empty,
    hang_up,
    html,
    reply,
    reset_after,
    restream,
    stall,
    stall_after,
)

spawn = multiprocessing.get_context("spawn")

UPSTREAMS = 2  # processes that play providers
CLIENTS = 2  # processes that play clients
PROVIDERS = 128  # so many that those which rest after failures are not missed
NAMED = 4  # of them in a request
WORKERS = 2
THREADS = 64  # of each worker
SAMPLE_S = 2.0
QUIET_S = 10.0  # how long connections may take to end when nobody asks any more
WARM_UP = 0.05  # of the requests
MOST_GROWTH = 0.05  # of a process's memory over the second half
EXTRA_THREADS = 8  # of a worker, beside those that serve: watch, lingering, writer, ...
WORDS = "one two three"
TEXT = f"echo: {WORDS}"
LEAVES_AFTER_S = 0.05
START_ALL_S = 8.0  # for all threads to have started: half a head holds one for 10 s
MOST_TOLD = 20  # odd requests, in all

FAULTS: dict[str, Behaviour] = {
    "hang-up": hang_up(),
    "reset": hang_up(reset=True),
    "silence": stall(),
    "500": reply(500, {"error": {"message": "Nothing doing."}}),
    "429": reply(429, {"error": {"message": "Nothing doing."}}, {"Retry-After": "1"}),
    "html": html(503),
    "empty": empty(),
    "error in a 200": reply(200, {"error": {"message": "Nothing doing.", "code": 503}}),
    "half an answer": reply(200, '{"choices": [{"mess'),
    "cut": cut_after(n_bytes=600),
    "reset later": reset_after(n_bytes=600),
    "silence later": stall_after(n_bytes=600),
}
SLOW: dict[str, Behaviour] = {
    "late": delay(5.0),
    "slow": restream(pause_s=1.0),
    "trickle": restream(pause_s=3.0),  # seven events: as long as it takes to open a thousand streams, and some seconds more
}


# --- providers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Upstreams:
    """Simulated providers, each in a process of its own."""

    processes: Sequence[Any]
    pipes: Sequence[Pipe]
    ports: Sequence[int]

    def open_connections(self) -> int:
        for pipe in self.pipes:
            pipe.send("connections")
        return sum(pipe.recv() for pipe in self.pipes)


@contextmanager
def running_upstreams() -> Iterator[Upstreams]:
    pairs = [spawn.Pipe() for _ in range(UPSTREAMS)]
    processes = [spawn.Process(target=play_provider, args=(theirs,), daemon=True) for _, theirs in pairs]
    for process in processes:
        process.start()
    pipes = [ours for ours, _ in pairs]
    try:
        yield Upstreams(processes, pipes, [pipe.recv() for pipe in pipes])
    finally:
        for pipe in pipes:
            pipe.send("end")
        for process in processes:
            process.join(10)


def play_provider(pipe: Pipe) -> None:
    """Tell the port, then answer questions until told to end."""
    allow_many_files()
    with Simulator() as simulator:
        simulator.always("plain", Mood())
        pipe.send(simulator.port)
        while True:
            if pipe.poll(0.5):
                if pipe.recv() == "end":
                    return
                pipe.send(simulator.open_connections)
            del simulator.requests[:]


class Mood:
    """Behaves as the prompt asks. A fault comes once, from the provider that it names; asked again, that is faithful too."""

    def __init__(self) -> None:
        self._had: set[str] = set()

    def __call__(self, connection: Connection) -> None:
        body = connection.request.json or {}
        wish = str((body.get("messages") or [{}])[0].get("content", ""))
        name, _, whose = wish.partition(" of ")
        behaviour = SLOW.get(name)
        if name in FAULTS and whose.startswith(f"{body['model']}#") and wish not in self._had:
            behaviour = FAULTS[name]
            self._had.add(wish)
        (behaviour or connection.faithful())(connection)


# --- clients -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of request, how often it comes, and which outcomes it may have: a status and a word."""

    name: str
    weight: int
    ask: Callable[[Client], str]
    may_be: frozenset[str]


class Client:
    """One connection that asks one thing after the other."""

    def __init__(self, port: int, key: str, seed: int) -> None:
        self.port = port
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.random = random.Random(seed)
        self.connection = self.connect()
        self.last_id = ""  # of the latest answer's request
        self.last_end = b""  # of that answer
        self.named: list[str] = []  # models, in the latest chat

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request("POST", path, data, {**self.headers, **(headers or {})})
        response = self.connection.getresponse()
        self.last_id = response.headers["x-request-id"]
        data = response.read()
        self.last_end = data[-500:]
        return response.status, data

    def chat_body(self, *, stream: bool, fault: str = "", alone: bool = False) -> dict[str, Any]:
        numbers = self.random.sample(range(PROVIDERS), 1 if alone else NAMED)
        wish = f"{fault} of p{numbers[0]}#{self.random.getrandbits(64):x}"
        messages = [{"role": "system", "content": wish}, {"role": "user", "content": WORDS}]
        self.named = [f"p{number}/m" for number in numbers]
        return {"models": self.named, "messages": messages, "max_tokens": 8, "stream": stream}

    def chat(self, **options: Any) -> str:
        status, data = self.post("/v1/chat/completions", self.chat_body(**options))
        return f"{status} {judge_stream(data) if options['stream'] and status == 200 else judge_whole(data)}"

    def fault(self, *, stream: bool, alone: bool = False) -> str:
        return self.chat(stream=stream, fault=self.random.choice(list(FAULTS)), alone=alone)

    def embed(self) -> str:
        status, data = self.post("/v1/embeddings", {"model": "embed", "input": [WORDS] * self.random.randint(1, 8)})
        return f"{status} {'answer' if b'embedding' in data else 'error'}"

    def leave(self, *, stream: bool) -> str:
        """Ask for something slow on a connection of its own, and close it after a moment."""
        fault = self.random.choice(["late", "slow"]) if stream else "late"
        connection = self.connect()
        body = json.dumps(self.chat_body(stream=stream, fault=fault)).encode()
        connection.request("POST", "/v1/chat/completions", body, self.headers)
        time.sleep(LEAVES_AFTER_S)
        connection.close()
        return "left"

    def mistake(self) -> str:
        body, headers = self.random.choice(
            [
                (b"{", {}),
                ({"model": "nope", "messages": [{"role": "user", "content": "x"}]}, {}),
                ({"messages": []}, {}),
                ({}, {"Authorization": "Bearer nope"}),
            ]
        )
        status, data = self.post("/v1/chat/completions", body, headers)
        return f"{status} {judge_whole(data)}"

    def explain(self) -> str:
        """Return how the latest answer ended, and who of those that it named is out now."""
        outs = []
        for model in self.named:
            connection = self.connect()
            connection.request("GET", f"/v1/routing/status?model={model}", headers=self.headers)
            candidates = json.loads(connection.getresponse().read()).get("candidates", [])
            outs += [f"{model} {each['out_because']} until {each['until']}" for each in candidates if each["out_because"]]
            connection.close()
        return f"of {', '.join(self.named)} are out: {', '.join(outs) or 'none'}; the answer ended in {self.last_end!r}"

    def look(self) -> str:
        path = self.random.choice(["/healthz", "/v1/models", "/health", "/v1/routing/status"])
        self.connection.request("GET", path, headers=self.headers)
        response = self.connection.getresponse()
        response.read()
        return f"{response.status}"


def judge_whole(data: bytes) -> str:
    body = json.loads(data)
    if "error" in body:
        attempts = body["error"].get("attempts", [])
        awake = {attempt["provider"] for attempt in attempts if attempt["reason"] not in ("cooldown", "probing")}
        return "others rest" if len(attempts) >= NAMED and len(awake) < 2 else "error"
    choice = body["choices"][0]
    return "answer" if (choice["message"]["content"], choice["finish_reason"]) == (TEXT, "stop") else "wrong"


def judge_stream(data: bytes) -> str:
    """Return what a stream was: an answer, an honest break, or wrong."""
    *events, done, nothing = data.split(b"\n\n")
    if (done, nothing) != (b"data: [DONE]", b""):
        return "wrong"
    items = [json.loads(event.removeprefix(b"data: ")) for event in events]
    choices = [item["choices"][0] for item in items if "choices" in item]
    text = "".join(choice["delta"].get("content", "") for choice in choices)
    if "error" in items[-1]:
        return "break" if TEXT.startswith(text) else "wrong"
    return "answer" if (text, choices[-1]["finish_reason"]) == (TEXT, "stop") else "wrong"


ANSWERED = frozenset({"200 answer"})
FAILED = frozenset({"429 error", "502 error", "503 error", "504 error"})
RESTING = frozenset({"429 others rest", "502 others rest", "503 others rest", "504 others rest"})  # all that were named
KINDS = [
    Kind("whole", 40, lambda client: client.chat(stream=False), ANSWERED | RESTING),
    Kind("streamed", 33, lambda client: client.chat(stream=True), ANSWERED | RESTING),
    Kind("embeddings", 10, lambda client: client.embed(), ANSWERED),
    Kind("fault, whole", 3, lambda client: client.fault(stream=False), ANSWERED | RESTING),
    Kind("fault, streamed", 3, lambda client: client.fault(stream=True), ANSWERED | RESTING),
    Kind("fault, whole, alone", 1, lambda client: client.fault(stream=False, alone=True), ANSWERED | FAILED),
    Kind("fault, streamed, alone", 1, lambda client: client.fault(stream=True, alone=True), ANSWERED | FAILED | {"200 break"}),
    Kind("leaves, whole", 2, lambda client: client.leave(stream=False), frozenset({"left"})),
    Kind("leaves, streamed", 3, lambda client: client.leave(stream=True), frozenset({"left"})),
    Kind("mistake", 2, lambda client: client.mistake(), frozenset({"400 error", "401 error", "404 error"})),
    Kind("look", 2, lambda client: client.look(), frozenset({"200"})),
]


@dataclass
class Tally:
    """What clients saw. `times` are seconds, by kind; `odd`: requests that nothing explains, by id, and what was seen of them."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    odd: dict[str, str] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)

    def add(self, kind: str, outcome: str, took_s: float) -> None:
        self.outcomes[kind, outcome] += 1
        self.times.setdefault(kind, []).append(took_s)

    def merge(self, other: Tally) -> None:
        self.outcomes += other.outcomes
        self.odd |= other.odd
        for kind, times in other.times.items():
            self.times.setdefault(kind, []).extend(times)

    def unexplained(self) -> dict[tuple[str, str], int]:
        may_be = {kind.name: kind.may_be for kind in KINDS}
        return {key: count for key, count in self.outcomes.items() if key[1] not in may_be[key[0]]}


def play_clients(port: int, key: str, seeds: Sequence[int], left: Any, ends_at: float, results: Any) -> None:
    """Ask, on a connection and thread for each seed, until nothing is left to ask or the time is over."""
    tallies = [Tally() for _ in seeds]
    threads = [
        threading.Thread(target=ask_much, args=(Client(port, key, seed), left, ends_at, tally))
        for seed, tally in zip(seeds, tallies, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for tally in tallies[1:]:
        tallies[0].merge(tally)
    results.put(tallies[0])


def ask_much(client: Client, left: Any, ends_at: float, tally: Tally) -> None:
    weights = [kind.weight for kind in KINDS]
    while time.time() < ends_at:
        with left.get_lock():
            if left.value <= 0:
                break
            left.value -= 1
        (kind,) = client.random.choices(KINDS, weights)
        client.last_id, client.last_end, client.named = "", b"", []
        began = time.monotonic()
        try:
            outcome = kind.ask(client)
        except (OSError, http.client.HTTPException, ValueError) as error:
            outcome = f"no answer: {type(error).__name__}"
            client.connection.close()
        if outcome not in kind.may_be:
            with suppress(OSError, http.client.HTTPException, ValueError):
                tally.odd[client.last_id] = f"{kind.name}: {outcome}; {client.explain()}"
        tally.add(kind.name, outcome, time.monotonic() - began)
    client.connection.close()


# --- what processes hold -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """What one process of the gateway holds. `clients` and `upstreams` are its connections to either side."""

    rss_kb: int
    threads: int
    files: int
    clients: int
    upstreams: int


def look_at(gateway: Gateway, ports: Sequence[int]) -> dict[int, Held]:
    """Return what the master and each worker hold now, by process id."""
    sockets = read_sockets()
    children = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()
    return {pid: look_at_process(pid, gateway.port, ports, sockets) for pid in (gateway.pid, *map(int, children))}


def look_at_process(pid: int, port: int, ports: Sequence[int], sockets: Mapping[str, tuple[int, int]]) -> Held:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    ends = [sockets[link] for link in links if link in sockets]
    return Held(
        rss_kb=int(status["VmRSS"].split()[0]),
        threads=int(status["Threads"]),
        files=len(links),
        clients=sum(here == port and there != 0 for here, there in ends),
        upstreams=sum(there in ports for _, there in ends),
    )


def read_sockets() -> dict[str, tuple[int, int]]:
    """Return the two ports of every TCP socket of this machine, by the name that /proc/<pid>/fd has for it."""
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        here, there = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
        found[f"socket:[{fields[9]}]"] = (here, there)
    return found


@dataclass
class Watcher:
    """Samples of what the processes held, by how much of the work was done (from 0 to 1)."""

    gateway: Gateway
    ports: Sequence[int]
    samples: list[tuple[float, dict[int, Held]]] = field(default_factory=list)

    def look(self, done: float) -> dict[int, Held]:
        held = look_at(self.gateway, self.ports)
        self.samples.append((done, held))
        return held

    def growth(self, pid: int) -> float:
        """Return how much more memory than at the least a process had at the most, over the second half."""
        sizes = [held[pid].rss_kb for done, held in self.samples if done >= 0.5 and pid in held]
        return max(sizes) / min(sizes) - 1 if sizes else 0.0

    def at(self, done: float, pid: int) -> Held | None:
        return min(self.samples, key=lambda sample: abs(sample[0] - done))[1].get(pid)


# --- the soak ----------------------------------------------------------------------------------------------------------


def catalog_of(ports: Sequence[int]) -> str:
    rows = []
    for number in range(PROVIDERS):
        url = f"http://127.0.0.1:{ports[number % len(ports)]}/plain/v1"
        rows.append(f'[[providers]]\nkey = "p{number}"\nbase_url = "{url}"')
        rows.append(f'[[models]]\nprovider = "p{number}"\nid = "m"\nupstream_id = "p{number}"\nlimits = {{}}')
        rows.append(f'[[models]]\nprovider = "p{number}"\nid = "embed"\nkind = "embedding"\ndimensions = 8\nlimits = {{}}')
    return "\n".join(rows)


@contextmanager
def running_gateway(upstreams: Upstreams, threads: int, patience_s: float) -> Iterator[Gateway]:
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        catalog = Path(folder) / "soak.toml"
        catalog.write_text(catalog_of(upstreams.ports))
        env = {"GATEWAY_CATALOG": str(catalog), "GATEWAY_SANDBOX": "off", "PUBLIC_RATE_LIMIT": "off"}
        limits = {"FIRST_TOKEN_TIMEOUT_S": str(patience_s), "IDLE_TIMEOUT_S": str(patience_s)}
        data_dir = Path(folder) / "data"
        data_dir.mkdir()
        with open_gateway({**env, **limits}, data_dir, workers=WORKERS, threads=threads, app="tests.e2e.hurried:app") as gateway:
            yield gateway


def soak(requests: int, concurrency: int, minutes: float) -> bool:
    """Send mixed requests; return whether all was as it should be."""
    began, ends_at = time.monotonic(), time.time() + minutes * 60
    with running_upstreams() as upstreams, running_gateway(upstreams, THREADS, patience_s=2) as gateway:
        watcher = Watcher(gateway, upstreams.ports)
        start_all_threads(watcher)
        left, results = spawn.Value("q", requests), spawn.Queue()
        shares = [list(range(number, concurrency, CLIENTS)) for number in range(CLIENTS)]
        processes = [
            spawn.Process(target=play_clients, args=(gateway.port, gateway.key, seeds, left, ends_at, results))
            for seeds in shares
        ]
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes) and results.qsize() < CLIENTS:
            time.sleep(SAMPLE_S)
            watcher.look(1 - max(0, left.value) / requests)
        tally = Tally()
        for _ in processes:
            tally.merge(results.get(timeout=60))
        took_s = time.monotonic() - began
        after = wait_until_quiet(watcher)
        problems = [*problems_of(tally, watcher, after, concurrency), *problems_in_log(gateway, tally)]
        report(tally, watcher, after, upstreams.open_connections(), took_s)
    return told(problems)


def start_all_threads(watcher: Watcher) -> None:
    """Have each worker start every thread that it may have, so that memory is compared at equal numbers of them."""
    all_threads = THREADS + SPARE_THREADS
    connections = [socket.create_connection(("127.0.0.1", watcher.gateway.port)) for _ in range(WORKERS * all_threads + THREADS)]
    for connection in connections:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
    until = time.monotonic() + START_ALL_S
    while time.monotonic() < until:
        _, *workers = look_at(watcher.gateway, watcher.ports).values()
        if len(workers) == WORKERS and all(held.threads > all_threads for held in workers):
            break
        time.sleep(0.1)
    for connection in connections:
        connection.close()


def wait_until_quiet(watcher: Watcher) -> dict[int, Held]:
    """Return what is held when clients have gone: their connections are given QUIET_S to end."""
    until = time.monotonic() + QUIET_S
    while True:
        held = watcher.look(1.0)
        if time.monotonic() > until or not any(each.clients for each in held.values()):
            return held
        time.sleep(0.5)


def problems_of(tally: Tally, watcher: Watcher, after: Mapping[int, Held], concurrency: int) -> Iterator[str]:
    for (kind, outcome), count in tally.unexplained().items():
        yield f"{count} x {kind}: {outcome}"
    for pid, held in after.items():
        if (growth := watcher.growth(pid)) > MOST_GROWTH:
            yield f"process {pid} grew by {growth:.1%} over the second half"
        if held.clients:
            yield f"process {pid} still holds {held.clients} connections of clients"
        if held.upstreams > concurrency * UPSTREAMS:  # to each as many as were needed at a time
            yield f"process {pid} holds {held.upstreams} connections to providers, for {concurrency} requests at a time"
        if held.threads > THREADS + SPARE_THREADS + EXTRA_THREADS:
            yield f"process {pid} has {held.threads} threads"
    first = next(iter(watcher.samples))[1]
    if after.keys() != first.keys():
        yield f"the processes are not the same as at the start: {sorted(first)}, {sorted(after)}"


def problems_in_log(gateway: Gateway, tally: Tally) -> Iterator[str]:
    lines = gateway.log().splitlines()
    odd = [line for line in lines if "internal error" in line or "Traceback" in line or "failed" in line]
    if odd:
        yield f"{len(odd)} odd lines in the log, such as {odd[0][:500]}"
    for id_, seen in list(tally.odd.items())[:MOST_TOLD]:
        yield f"odd: {seen}; its line: {next((line for line in lines if id_ and id_ in line), 'none')}"
    gone = sum('"status":499' in line.replace(" ", "") for line in lines)
    left = sum(count for (_, outcome), count in tally.outcomes.items() if outcome == "left")
    if gone != left:
        yield f"{left} clients left, {gone} are in the log"


def report(tally: Tally, watcher: Watcher, after: Mapping[int, Held], connections: int, took_s: float) -> None:
    total = sum(tally.outcomes.values())
    print(f"{total} requests in {took_s:.0f} s: {total / took_s:.0f} a second\n")
    print("| kind | outcomes | median ms | 99th percentile ms |\n| --- | --- | --- | --- |")
    for kind in KINDS:
        times = sorted(tally.times.get(kind.name, [0.0]))
        outcomes = ", ".join(f"{count} x {outcome}" for (name, outcome), count in tally.outcomes.items() if name == kind.name)
        median, late = times[len(times) // 2], times[len(times) * 99 // 100]
        print(f"| {kind.name} | {outcomes} | {median * 1000:.0f} | {late * 1000:.0f} |")
    print(
        "\n| process | MB at 5% | at 50% | at 75% | at the end | growth, 2nd half | threads at 50% | then | files | connections |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for number, (pid, held) in enumerate(after.items()):
        sizes = [watcher.at(done, pid) for done in (WARM_UP, 0.5, 0.75, 1.0)]
        cells = [f"{size.rss_kb / 1024:.1f}" if size else "-" for size in sizes]
        name = f"worker {number}" if number else "master"
        half = watcher.at(0.5, pid)
        threads = [str(half.threads) if half else "-", str(held.threads)]
        cells += [f"{watcher.growth(pid):.1%}", *threads, str(held.files), f"{held.clients} in, {held.upstreams} out"]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\nThe providers see {connections} connections.")


def told(problems: Sequence[str]) -> bool:
    print("\n".join(["", *(f"PROBLEM: {problem}" for problem in problems)]) if problems else "\nAll is as it should be.")
    return not problems


# --- many streams ------------------------------------------------------------------------------------------------------


def stream_at_once(count: int, threads: int) -> bool:
    """Open many streams at once; return whether each was answered whole."""
    with running_upstreams() as upstreams, running_gateway(upstreams, threads, patience_s=30) as gateway:
        watcher, results = Watcher(gateway, upstreams.ports), spawn.Queue()
        share = [count // CLIENTS + (number < count % CLIENTS) for number in range(CLIENTS)]
        processes = [spawn.Process(target=play_streams, args=(gateway.port, gateway.key, size, results)) for size in share]
        began = time.monotonic()
        for process in processes:
            process.start()
        most, checks = 0, []
        while any(process.is_alive() for process in processes) and results.qsize() < CLIENTS:
            asked = time.monotonic()
            if gateway.get("/healthz").status != 200:
                checks.append(float("inf"))
            checks.append(time.monotonic() - asked)
            held = watcher.look(0.0)
            most = max(most, sum(each.upstreams for each in held.values()))
            time.sleep(0.2)
        tally = Tally()
        for _ in processes:
            tally.merge(results.get(timeout=60))
        outcomes, times = tally.outcomes, sorted(tally.times["stream"])
        print(f"{count} streams on 2 workers of {threads} threads, in {time.monotonic() - began:.0f} s; most at once: {most}")
        print("by worker:", [each.upstreams for each in max((s[1] for s in watcher.samples), key=open_in).values()])
        print("outcomes:", ", ".join(f"{number} x {outcome}" for (_, outcome), number in outcomes.items()))
        print(f"first word after {times[len(times) // 2]:.2f} s in the middle, {times[-1]:.2f} s at the latest")
        print(f"/healthz meanwhile: {max(checks) * 1000:.0f} ms at the slowest of {len(checks)}")
        sizes = [f"{each.rss_kb / 1024:.0f} MB" for each in max((s[1] for s in watcher.samples), key=open_in).values()]
        print("memory at that time (master, workers):", ", ".join(sizes))
        failed = count - outcomes["stream", "200 answer"]
        return told([f"{failed} streams failed"] if failed else [])


def open_in(held: Mapping[int, Held]) -> int:
    return sum(each.upstreams for each in held.values())


def play_streams(port: int, key: str, count: int, results: Any) -> None:
    allow_many_files()
    tally, lock = Tally(), threading.Lock()

    def ask(seed: int) -> None:
        client, began = Client(port, key, seed), time.monotonic()
        first_s = 0.0
        try:
            body = client.chat_body(stream=True, fault="trickle")
            client.connection.request("POST", "/v1/chat/completions", json.dumps(body).encode(), client.headers)
            response = client.connection.getresponse()
            data = response.read1()
            first_s = time.monotonic() - began
            data += response.read()
            outcome = f"{response.status} {judge_stream(data) if response.status == 200 else judge_whole(data)}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            outcome = f"no answer: {type(error).__name__}"
        client.connection.close()
        with lock:
            tally.add("stream", outcome, first_s)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(tally)


def allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=60.0, help="the longest that it may take")
    parser.add_argument("--streams", type=int, help="open as many streams at once instead")
    parser.add_argument("--threads", type=int, default=600, help="of each worker, for --streams")
    asked = parser.parse_args()
    allow_many_files()
    if asked.streams:
        sound = stream_at_once(asked.streams, asked.threads)
    else:
        sound = soak(asked.requests, asked.concurrency, asked.minutes)
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
