"""What one decision costs: who is asked, and in which order. Run: `.venv/bin/python -m tests.bench.decision`

A catalog of 100 models that all fit, each with four quotas of which some is used, and evidence; a moment's picture that
requests share, as they do within a quarter of a second; and the making of that picture, four times a second.
"""

import random
import statistics
import time
from threading import BoundedSemaphore
from typing import Any, cast

from gateway.catalog import Catalog
from gateway.domain import ChatRequest, Model, ProviderRow, Usage, Window
from gateway.inventory import build_inventory
from gateway.routing.attempts import AttemptLoop, Caller, Policy
from gateway.routing.candidates import Planner
from gateway.routing.ledger import Asked, Ledger
from gateway.settings import Settings
from gateway.state.memory import MemoryStore
from gateway.upstream.watch import Handle

MODELS, PROVIDERS, ROUNDS = 100, 10, 2000


class Anything:
    def cannot_serve(self, request, model):
        return None


def build():
    providers = {f"p{n}": ProviderRow(key=f"p{n}", base_url="http://x") for n in range(PROVIDERS)}
    limits: dict[Window, int] = {"rpm": 1000, "rpd": 100_000, "tpm": 1_000_000, "tpd": 10_000_000}
    models = tuple(Model(provider=f"p{n % PROVIDERS}", id=f"m{n}", limits=limits) for n in range(MODELS))
    inventory = build_inventory(Catalog(providers=providers, models=models), Settings(sandbox="off"))
    ledger = Ledger(MemoryStore())
    for model in models:
        for _ in range(3):
            booking = cast(Any, ledger.begin(inventory.candidates(model)[0], Asked(100)))
            ledger.answered(booking, (), ttft_s=random.uniform(0.1, 2))
            ledger.ended(booking, Usage(100, 50), ttft_s=0.1)
    return Planner(inventory, cast(Any, dict.fromkeys(providers, Anything()))), ledger


def timed_us(work, rounds):
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)


def main():
    planner, ledger = build()
    request = ChatRequest(body={"messages": []}, prompt_tokens=100)
    policy = Policy(retry_after_patience_s=3, seats=BoundedSemaphore(1))
    caller = Caller(request_id="r", handle=Handle(), started_mono=time.monotonic())
    asked, ends_at = Asked(100), time.monotonic() + 1e6

    def decide():
        plan = planner.plan_chat(request)
        AttemptLoop(ledger, policy, plan=plan, asked=asked, caller=caller, ends_at_mono=ends_at)

    def picture():
        ledger.moment(fresh=True)
        decide()

    decide()
    decision = timed_us(decide, ROUNDS)
    print(f"one decision among {MODELS} candidates: {decision:.0f} us")
    print(f"the picture that decisions of a quarter of a second share: {timed_us(picture, 100) - decision:.0f} us")


if __name__ == "__main__":
    main()
