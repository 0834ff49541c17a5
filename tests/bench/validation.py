"""What reading a client's request costs, from its JSON's value on. Run: `.venv/bin/python -m tests.bench.validation`

Processor time of the best of many rounds: other work on the machine does not show.
"""

import time

from gateway.api.schemas import load_chat
from tests.bench.bodies import LARGE, SMALL

ROUNDS = 50


def best_us(body, times):
    """Return the microseconds of one reading, each round being so many."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(times):
            load_chat(body, {})
        rounds.append(time.thread_time() - began)
    return min(rounds) / times * 1e6


def main():
    print(f"a small request, read: {best_us(SMALL, 200):.1f} us")
    print(f"a conversation of 1 MB, read: {best_us(LARGE, 1) / 1000:.2f} ms")


if __name__ == "__main__":
    main()
