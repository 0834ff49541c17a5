"""Two workers, four providers whose quotas are of different kinds, and more requests than any one of them may serve.

Time is the test's own: ten minutes pass in a moment. What the providers allow is decided by what they count themselves.
"""

import bisect
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Any

import pytest

from gateway.domain import Usage
from gateway.errors import CandidatesExhausted, UpstreamRateLimited
from gateway.routing.attempts import AttemptLoop, Caller, Policy, Yield
from gateway.routing.candidates import Plan
from gateway.routing.ledger import Asked, Ledger
from gateway.upstream.watch import Handle
from tests.unit.routing.conftest import Answer, candidate

PER_MINUTE = 20  # what each provider allows
MINUTES = 10
TOKENS = 400  # of a request, about
LATENCY_S = (0.05, 0.4)  # until a call is at its provider: calls may overtake one another
OUR_MINUTE_S = 61.1  # how long a call counts at the gateway, with what a slot adds


@dataclass
class Fixed:
    """Counts from the beginning of each minute."""

    used: Counter = field(default_factory=Counter)

    def left(self, now):
        return PER_MINUTE - self.used[now // 60]

    def take(self, now):
        self.used[now // 60] += 1


@dataclass
class Sliding:
    """Looks back over the last sixty seconds."""

    taken: list = field(default_factory=list)

    def left(self, now):
        return PER_MINUTE - (bisect.bisect(self.taken, now) - bisect.bisect(self.taken, now - 60))

    def take(self, now):
        bisect.insort(self.taken, now)


@dataclass
class Bucket:
    """Fills up again all the time."""

    level: float = PER_MINUTE
    at: float = 0.0

    def left(self, now):
        level = min(PER_MINUTE, self.level + (now - self.at) * PER_MINUTE / 60) if self.at else self.level
        return int(level + 1e-9)

    def take(self, now):
        self.level = (min(PER_MINUTE, self.level + (now - self.at) * PER_MINUTE / 60) if self.at else self.level) - 1
        self.at = now


@dataclass
class Tokens(Sliding):
    """Counts tokens as well, those that were really used."""

    spent: list = field(default_factory=list)
    limit: int = PER_MINUTE * TOKENS

    def left(self, now):
        self.spent = [(at, tokens) for at, tokens in self.spent if at > now - 60]
        return super().left(now) if sum(tokens for _, tokens in self.spent) + TOKENS * 1.6 <= self.limit else 0


class World:
    def __init__(self, store, clock, seed=1):
        self.clock, self.chance = clock, random.Random(seed)
        kinds: dict[str, Any] = {"fixed": Fixed(), "sliding": Sliding(), "bucket": Bucket(), "tokens": Tokens()}
        limits = {key: {"rpm": PER_MINUTE} for key in kinds} | {"tokens": {"rpm": PER_MINUTE, "tpm": PER_MINUTE * TOKENS}}
        self.providers = kinds
        self.candidates = tuple(candidate(f"{key}/m", limits=limits[key]) for key in kinds)
        self.workers = [Ledger(store, clock) for _ in range(2)]
        self.policy = Policy(retry_after_patience_s=3, seats=BoundedSemaphore(1), draw=self.chance.random)
        self.began: dict[str, list[float]] = {key: [] for key in kinds}
        self.calls = self.throttled = self.served = self.offered = self.refused_though_there_was_room = 0

    def call(self, asked):
        provider, now = self.providers[asked.provider.key], self.clock.now + self.chance.uniform(*LATENCY_S)
        self.calls += 1
        self.began[asked.provider.key].append(self.clock.now)
        if provider.left(now) < 1:
            self.throttled += 1
            raise UpstreamRateLimited("slow down", upstream_status=429)
        provider.take(now)
        usage = Usage(TOKENS // 2, self.chance.randint(TOKENS // 4, TOKENS // 2))
        if isinstance(provider, Tokens):
            provider.spent.append((now, usage.total_tokens))
        return Yield(asked, Answer(), usage)

    def request(self):
        self.offered += 1
        loop = AttemptLoop(
            self.chance.choice(self.workers),
            self.policy,
            plan=Plan((self.candidates,)),
            asked=Asked(prompt_tokens=TOKENS // 2, output_tokens=TOKENS // 2),
            caller=Caller(request_id="r", handle=Handle(), asked_mono=time.monotonic()),
            ends_at_mono=time.monotonic() + 100,
        )
        room = any(self.had_room(key) for key in self.providers)
        try:
            loop.attempt_all(self.call)
        except CandidatesExhausted:
            self.refused_though_there_was_room += room
            return
        self.served += 1

    def had_room(self, key):
        """Whether fewer calls began within our minute than it allows; that its own is over, nobody outside can know."""
        return sum(at > self.clock.now - OUR_MINUTE_S for at in self.began[key][-PER_MINUTE:]) < PER_MINUTE

    def run(self, per_minute):
        """Offer requests at random moments, so many a minute, for MINUTES minutes."""
        end = self.clock.now + MINUTES * 60
        while self.clock.now < end:
            self.clock.now += self.chance.expovariate(per_minute / 60)
            self.request()


@pytest.fixture
def world(store, clock):
    return World(store, clock)


def test_a_pool_serves_what_its_quotas_allow_together(world, record_property):
    world.run(per_minute=3 * PER_MINUTE)
    record_property("figures", told(world, "three times what one may serve", world.offered))
    assert world.served >= 0.97 * world.offered and world.throttled == 0
    assert world.refused_though_there_was_room == 0


def test_a_pool_under_twice_its_load_is_used_to_the_full(world, record_property):
    world.run(per_minute=8 * PER_MINUTE)
    allowed = 4 * PER_MINUTE * MINUTES
    record_property("figures", told(world, "twice what all may serve", allowed))
    assert world.served >= 0.97 * allowed and world.throttled == 0
    assert world.refused_though_there_was_room == 0


def told(world, load, allowed):
    return (
        f"{load}: {world.served / allowed:.1%} of the {allowed} that could be served,"
        f" {world.throttled / max(1, world.calls):.2%} of {world.calls} calls throttled,"
        f" {world.refused_though_there_was_room} refused while a candidate had room"
    )
