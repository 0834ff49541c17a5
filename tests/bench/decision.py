"""What one decision costs: who is asked, and in which order. Run: `.venv/bin/python -m tests.bench.decision`

A catalog of 100 models that all fit, and one of 2,000, each model with four quotas of which some is used, and evidence; a
moment's picture that requests share, as they do within a quarter of a second; and the making of that picture, the state
store's part of it (here in memory) apart. Figures are of processor time, so that a busy machine does not spoil them.
"""

import random
import statistics
import time
from threading import BoundedSemaphore
from typing import Any, cast

from gateway.catalog import Catalog
from gateway.domain import ChatRequest, Model, ProviderRow, Usage, Window
from gateway.inventory import build_inventory
from gateway.providers.base import Provider
from gateway.routing.attempts import AttemptLoop, Caller, Policy
from gateway.routing.candidates import Planner
from gateway.routing.ledger import Asked, Ledger
from gateway.settings import Settings
from gateway.state.memory import MemoryStore
from gateway.upstream.watch import Handle

PROVIDERS = 10


class Plain:
    """All that a plan asks of a provider."""

    cannot_serve = Provider.cannot_serve


def build(models_count):
    rows = {f"p{n}": ProviderRow(key=f"p{n}", base_url="http://x") for n in range(PROVIDERS)}
    limits: dict[Window, int] = {"rpm": 1000, "rpd": 100_000, "tpm": 1_000_000, "tpd": 10_000_000}
    models = tuple(Model(provider=f"p{n % PROVIDERS}", id=f"m{n}", limits=limits) for n in range(models_count))
    inventory = build_inventory(Catalog(providers=rows, models=models), Settings(sandbox="off"))
    store = MemoryStore()
    ledger = Ledger(store)
    for model in models:
        for _ in range(3):
            booking = cast(Any, ledger.begin(inventory.candidates(model)[0], Asked(100)))
            ledger.answered(booking, (), ttft_s=random.uniform(0.1, 2))
            ledger.ended(booking, Usage(100, 50), ttft_s=0.1)
    return Planner(inventory, cast(Any, dict.fromkeys(rows, Plain()))), ledger, store


def timed_us(work, rounds):
    times = []
    for _ in range(rounds):
        began = time.thread_time()
        work()
        times.append((time.thread_time() - began) * 1e6)
    return statistics.median(times)


def measure(models_count, rounds):
    planner, ledger, store = build(models_count)
    request = ChatRequest(body={"messages": []}, prompt_tokens=100)
    policy = Policy(retry_after_patience_s=3, seats=BoundedSemaphore(1))
    caller = Caller(request_id="r", handle=Handle(), asked_mono=time.monotonic())
    asked, ends_at = Asked(100), time.monotonic() + 1e6

    def decide():
        plan = planner.plan_chat(request)
        AttemptLoop(ledger, policy, plan=plan, asked=asked, caller=caller, ends_at_mono=ends_at)

    def picture():
        ledger.moment(fresh=True)
        decide()

    for _ in range(40):
        picture()
    decision, snapshot = timed_us(decide, rounds), timed_us(store.snapshot, 30)
    whole = timed_us(picture, 60)
    print(f"{models_count} models, a decision: {decision:.0f} us")
    print(f"{models_count} models, a picture: {whole - snapshot - decision:.0f} us, and {snapshot:.0f} us the store for it")


def main():
    measure(100, 2000)
    measure(2000, 2000)


if __name__ == "__main__":
    main()
