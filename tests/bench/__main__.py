"""Measure how fast the gateway is.

    .venv/bin/python -m tests.bench             what its parts cost, a line a figure: a minute
    .venv/bin/python -m tests.bench load        all of it under load, beside others, as a table: three minutes

The load needs gcc and wrk (Debian: `apt-get install gcc libc6-dev wrk`) and a machine that does nothing else. LiteLLM's proxy is
measured too where its program is beside this interpreter or named: `--litellm /path/to/bin/litellm`.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from tests.bench.load.table import find_litellm, print_table

PARTS = ("validation", "decision", "stream", "figures", "state")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("parts", "load"), default="parts")
    parser.add_argument("--litellm", type=Path, default=find_litellm(), help="its program, to be measured too")
    parser.add_argument("--seconds", type=int, default=1, help="of a burst of load")
    parser.add_argument("--bursts", type=int, default=5, help="of each server for each line")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server outlives this
    if options.what == "load":
        print_table(options.seconds, options.bursts, options.litellm)
    else:
        measure_parts()


def measure_parts() -> None:
    """Measure each in a process of its own: none finds what another left in memory."""
    for part in PARTS:
        subprocess.run([sys.executable, "-m", f"tests.bench.{part}"], check=True)


if __name__ == "__main__":
    main()
