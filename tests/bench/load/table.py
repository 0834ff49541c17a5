"""The gateway beside a bare provider, the floor (`floor.py`) and LiteLLM's proxy, as a table in Markdown.

The servers take turns, a burst each, so that a machine that drifts does so for all of them; figures are medians of the bursts.
The load's tools leave answers under way when their time is up: after each burst is a pause, so that the next has the machine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench.bodies import LARGE, SMALL, STREAMED
from tests.bench.load.servers import Server, Start, start_floor, start_gateway, start_provider, starter_of_litellm
from tests.bench.load.tools import Burst, Tools

PAUSE_S = 0.4


class Row(NamedTuple):
    """A line of the table: figures by server, in the unit that `what` names."""

    what: str
    figures: Mapping[str, float]

    def markdown(self) -> str:
        cells = [number(figure) for figure in self.figures.values()]
        ratio = self.figures["gateway"] / self.figures["floor"]
        return f"| {self.what} | {' | '.join(cells)} | {ratio:.2f} |"


def head(servers: Sequence[Server]) -> str:
    return f"| | {' | '.join(server.name for server in servers)} | gateway / floor |\n|{' --- |' * (len(servers) + 2)}"


def number(value: float) -> str:
    """Return it with three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def print_table(seconds: int, bursts: int, litellm: Path | None) -> None:
    """Measure and print, which takes two or three minutes with bursts as they are by default."""
    starts: list[Start] = [start_floor, start_gateway, *([starter_of_litellm(litellm)] if litellm else [])]
    with tempfile.TemporaryDirectory() as path, ExitStack() as running:
        folder = Path(path)
        tools = Tools(folder, seconds)
        servers = [start_provider(tools.provider, folder)]
        running.callback(servers[0].stop)
        for start in starts:
            servers.append(start(folder, servers[0].port))
            running.callback(servers[-1].stop)
        print(head(servers), flush=True)
        for row in measure(tools, servers, bursts):
            print(row.markdown(), flush=True)


def measure(tools: Tools, servers: Sequence[Server], bursts: int) -> Iterator[Row]:
    idle = {server.name: server.memory_mb() for server in servers}
    for server in servers:
        tools.whole(server, SMALL, connections=16)  # so that all are warm
        tools.streamed(server, STREAMED, connections=16)

    def medians(burst: Callable[[Server], Burst]) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Return rates and times by server."""
        seen: dict[str, list[Burst]] = {server.name: [] for server in servers}
        for _ in range(bursts):
            for server in servers:
                seen[server.name].append(burst(server))
                time.sleep(PAUSE_S)
        return (
            {name: median(each.rate for each in found) for name, found in seen.items()},
            {name: median(each.p50_ms for each in found) for name, found in seen.items()},
        )

    for connections in (1, 16, 64):
        rates, times = medians(partial(tools.whole, body=SMALL, connections=connections))
        plural = "s" * (connections > 1)
        yield Row(f"whole answers, {connections} connection{plural}: p50, ms", times)
        yield Row(f"whole answers, {connections} connection{plural}: requests a second", rates)
    rates, _ = medians(partial(tools.streamed, body=STREAMED, connections=32))
    yield Row("streams, 32 connections: chunks a second", rates)
    _, times = medians(partial(tools.whole, body=LARGE, connections=1))
    yield Row("a conversation of 1 MB: p50, ms", times)
    yield Row("from the start to the first answer, s", {server.name: server.boot_s for server in servers})
    yield Row("memory before all that, MB", idle)
    yield Row("memory after all that, MB", {server.name: server.memory_mb() for server in servers})


def find_litellm() -> Path | None:
    """Return LiteLLM's program beside this interpreter, None where there is none."""
    program = Path(sys.executable).parent / "litellm"
    return program if program.exists() else None
