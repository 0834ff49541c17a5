"""A provider dies and comes back, while two workers serve a steady stream of requests, one at a time. Time is the test's own.

What it costs when many are under way at once: tests/unit/routing/test_flaky.py.
"""

import random
import time
from threading import BoundedSemaphore

import pytest

from gateway.domain import Usage
from gateway.errors import UpstreamFailed, UpstreamGarbled, UpstreamReset, UpstreamTimeout, UpstreamUnreachable
from gateway.routing.attempts import AttemptLoop, Caller, Policy, Yield
from gateway.routing.candidates import Plan
from gateway.routing.ledger import Asked, Ledger
from gateway.upstream.watch import Handle
from tests.unit.routing.conftest import Answer, candidate

DEATHS = {  # and how long each takes
    "unreachable": (UpstreamUnreachable("x"), 0.0),
    "no connection": (UpstreamTimeout("x", phase="connect"), 3.0),
    "500": (UpstreamFailed("x", upstream_status=500), 0.1),
    "reset": (UpstreamReset("x"), 0.1),
    "silent": (UpstreamTimeout("x", phase="first_token"), 10.0),
    "garbage": (UpstreamGarbled("x", upstream_status=200), 0.1),
}
EVERY_S = 0.4


class World:
    def __init__(self, store, clock):
        self.store, self.clock, self.chance = store, clock, random.Random(1)
        names = ("mortal/one", "mortal/two", "well/one", "fine/one")
        self.candidates = tuple(candidate(name) for name in names)
        self.workers = [Ledger(store, clock) for _ in range(2)]
        self.policy = Policy(retry_after_patience_s=3, seats=BoundedSemaphore(1), draw=self.chance.random)
        self.death = None
        self.requests = self.calls_of_the_dead = 0
        self.answered_by: list[str] = []

    def call(self, asked):
        if asked.provider.key == "mortal" and self.death:
            error, takes_s = self.death
            self.calls_of_the_dead += 1
            self.clock.now += takes_s
            raise error
        return Yield(asked, Answer(), Usage(10, 10), ttft_s=0.2)

    def request(self):
        self.requests += 1
        loop = AttemptLoop(
            self.chance.choice(self.workers),
            self.policy,
            plan=Plan((self.candidates,)),
            asked=Asked(prompt_tokens=10),
            caller=Caller(request_id="r", handle=Handle(), asked_mono=time.monotonic()),
            ends_at_mono=time.monotonic() + 100,
        )
        won = loop.attempt_all(self.call)
        self.answered_by.append(won.candidate.provider.key)
        if won.candidate.provider.key == "mortal":
            self.store.close()  # what is written a moment later would be written much later in the test's own time

    def pass_(self, seconds):
        """Let time pass, with a request every EVERY_S."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now += EVERY_S
            self.request()


@pytest.mark.parametrize("death", DEATHS)
def test_a_dead_provider_costs_little_and_is_back_within_half_a_minute(store, clock, death):
    world = World(store, clock)
    world.pass_(20)
    assert "mortal" in world.answered_by
    world.death, world.requests, world.answered_by = DEATHS[death], 0, []
    world.pass_(60)
    assert len(world.answered_by) == world.requests and "mortal" not in world.answered_by
    assert 1 <= world.calls_of_the_dead <= 4
    world.pass_(120)
    assert world.calls_of_the_dead <= 4 + 120 / 30
    world.death, world.answered_by = None, []
    world.pass_(30 + EVERY_S)
    assert "mortal" in world.answered_by
    world.answered_by = []
    world.pass_(20)
    assert world.answered_by.count("mortal") > len(world.answered_by) / 20  # not once alone: it has a share again
