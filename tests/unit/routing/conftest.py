"""Candidates, a clock and a ledger that the routing tests share."""

import time
from dataclasses import dataclass
from threading import BoundedSemaphore

import pytest

from gateway.domain import Candidate, Credential, Model, ProviderRow, Usage
from gateway.routing.attempts import AttemptLoop, Caller, Policy, Yield
from gateway.routing.candidates import Plan
from gateway.routing.ledger import Asked, Ledger
from gateway.state.memory import MemoryStore
from gateway.upstream.watch import Handle


def candidate(name, *, key=1, clock="utc", account_limits=None, credential_env=None, **model):
    """`candidate("groq/llama")`: a model of a provider, behind its credential number `key`."""
    provider, _, model_id = name.partition("/")
    limits = account_limits or {}
    row = ProviderRow(key=provider, base_url="http://x", clock=clock, account_limits=limits, credential_env=credential_env)
    return Candidate(row, Model(provider=provider, id=model_id, **model), Credential(provider, key, "http://x", f"secret-{key}"))


class Clock:
    def __init__(self, now=1_800_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


class PatientHandle(Handle):
    """Notes what would have been waited for, and lets the clock pass."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock
        self.waits = []

    def wait(self, seconds):
        self.waits.append(seconds)
        self.clock.now += seconds
        return self.ended is not None


@dataclass(frozen=True)
class Answer:
    dropped: tuple = ()
    quota: tuple = ()


@dataclass
class Pool:
    """A store, a clock and a loop over scripted candidates."""

    clock: Clock
    store: MemoryStore
    handle: PatientHandle

    def __post_init__(self):
        self.ledger = Ledger(self.store, self.clock)
        self.seats = BoundedSemaphore(1)
        self.draw = lambda: 0.0

    def loop_over(self, choices, *, pinned=False, patience_s=3.0, ends_in_s=100.0, max_wait_s=0.0, effort=None, **asked):
        groups = choices if choices and isinstance(choices[0], (list, tuple)) else [choices]
        self.ledger.moment(fresh=True)  # as a request a quarter of a second later would see it
        caller = Caller(request_id="req_1", handle=self.handle, asked_mono=time.monotonic(), max_wait_s=max_wait_s)
        return AttemptLoop(
            self.ledger,
            Policy(
                retry_after_patience_s=patience_s, seats=self.seats, jitter=lambda least, most: least, draw=lambda: self.draw()
            ),
            plan=Plan(tuple(tuple(group) for group in groups), self._pinned(groups, pinned)),
            asked=Asked(**({"prompt_tokens": 10, "output_tokens": 0} | asked)),
            effort=effort,
            caller=caller,
            ends_at_mono=time.monotonic() + ends_in_s,
        )

    def _pinned(self, groups, pinned):
        """All of them, none, or those of the first choices."""
        count = len(groups) if pinned is True else int(pinned)
        return frozenset(one.id for group in groups[:count] for one in group)

    def dispatch(self, choices, script, **options):
        """Run one loop; `script` gives each candidate's outcomes by its name: an error, "ok", "empty", or a function that
        is called first and may raise."""
        self.calls: list[str] = []
        outcomes = {name: list(steps) if isinstance(steps, list) else [steps] for name, steps in script.items()}

        def call(asked):
            name = asked.model.name if asked.credential.number == 1 else f"{asked.model.name}#{asked.credential.number}"
            self.calls.append(name)
            step = outcomes[name].pop(0) if len(outcomes[name]) > 1 else outcomes[name][0]
            if callable(step):
                step = step(asked) or "ok"
            if isinstance(step, Exception):
                raise step
            return Yield(name, Answer(), Usage(10), empty=step == "empty")

        self.loop = self.loop_over(choices, **options)
        return self.loop.attempt_all(call)


@pytest.fixture
def pool():
    clock = Clock()
    return Pool(clock, MemoryStore(clock), PatientHandle(clock))
