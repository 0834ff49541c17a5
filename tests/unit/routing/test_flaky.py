"""Many requests at once over providers that fail by chance, or are dead for a while. Time is the test's own."""

import heapq
import random
import threading
import time
from dataclasses import dataclass, field
from threading import BoundedSemaphore

import pytest

from gateway.domain import Usage
from gateway.errors import CandidatesExhausted, UpstreamError, UpstreamFailed, UpstreamTimeout
from gateway.routing.attempts import AttemptLoop, Caller, Policy, Yield
from gateway.routing.candidates import Plan
from gateway.routing.ledger import Asked, Ledger
from gateway.state.memory import MemoryStore
from gateway.upstream.watch import Handle
from tests.unit.routing.conftest import Answer, Clock, candidate

PROVIDERS, AT_ONCE, WORKERS = 6, 32, 2
ANSWER_S = (0.5, 3.0)  # shortest and longest
FIRST_TOKEN_S = 0.3
SILENCE_S = 10.0


class Stage:
    """Threads of which one runs at a time: whoever sleeps lets the next wake, and time jumps there."""

    def __init__(self, clock):
        self.clock = clock
        self.sleepers: list[tuple[float, int, threading.Event]] = []
        self.sleeps = 0
        self.over = threading.Event()

    def sleep(self, seconds):
        awake = self._lie_down(seconds)
        self._wake_next()
        awake.wait()

    def play(self, parts):
        for part in parts:
            threading.Thread(target=self._play_part, args=(part, self._lie_down(0.0)), daemon=True).start()
        self._wake_next()
        assert self.over.wait(60)

    def _play_part(self, part, awake):
        awake.wait()
        part()
        self._wake_next()

    def _lie_down(self, seconds):
        self.sleeps += 1
        awake = threading.Event()
        heapq.heappush(self.sleepers, (self.clock.now + seconds, self.sleeps, awake))
        return awake

    def _wake_next(self):
        if not self.sleepers:
            self.over.set()
            return
        at, _, awake = heapq.heappop(self.sleepers)
        self.clock.now = max(self.clock.now, at)
        awake.set()


@dataclass
class World:
    """Clients that ask again as soon as they are answered. `failure()` is what a call ends in that fails."""

    fails: float  # share of calls
    failure_s: float
    failure: type[UpstreamError] | None = None
    dead: tuple[float, float] = (0.0, 0.0)  # from when to when one provider answers nothing
    streams: bool = False
    providers: int = PROVIDERS
    at_once: int = AT_ONCE
    seed: int = 1
    served_by: list = field(default_factory=list)  # (second, provider)
    lost: int = 0
    asked_of_the_dead: int = 0

    def __post_init__(self):
        self.clock, self.chance = Clock(), random.Random(self.seed)
        self.began = self.clock.now
        self.stage = Stage(self.clock)
        store = MemoryStore(self.clock)
        self.ledgers = [Ledger(store, self.clock) for _ in range(WORKERS)]
        self.policy = Policy(retry_after_patience_s=3, seats=BoundedSemaphore(1), draw=self.chance.random)
        self.plan = Plan((tuple(candidate(f"p{n}/m") for n in range(self.providers)),))

    @property
    def second(self):
        return self.clock.now - self.began

    def call(self, asked):
        dies = asked.provider.key == "p0" and self.dead[0] <= self.second < self.dead[1]
        self.asked_of_the_dead += dies
        if dies or self.chance.random() < self.fails:
            self.stage.sleep(self.failure_s)
            silent = self.failure_s >= SILENCE_S
            raise UpstreamTimeout("x", phase="first_token") if silent else UpstreamFailed("x", upstream_status=500)
        if self.streams:
            self.stage.sleep(FIRST_TOKEN_S)
            return Yield(asked, Answer(), None, ttft_s=FIRST_TOKEN_S)
        self.stage.sleep(self.chance.uniform(*ANSWER_S))
        return Yield(asked, Answer(), Usage(10, 10))

    def request(self, ledger):
        loop = AttemptLoop(
            ledger,
            self.policy,
            plan=self.plan,
            asked=Asked(10, streams=self.streams),
            caller=Caller(request_id="r", handle=Handle(), asked_mono=time.monotonic()),
            ends_at_mono=time.monotonic() + 1000,
        )
        try:
            won = loop.attempt_all(self.call)
            if self.streams:
                self.stage.sleep(self.chance.uniform(*ANSWER_S))
                ledger.ended(won.booking, Usage(10, 10), ttft_s=FIRST_TOKEN_S)
            self.served_by.append((self.second, won.candidate.provider.key))
        except (CandidatesExhausted, UpstreamError):
            self.lost += 1
            self.stage.sleep(1.0)

    def run(self, seconds):
        def client(ledger):
            while self.second < seconds:
                self.request(ledger)

        self.stage.play([lambda n=n: client(self.ledgers[n % WORKERS]) for n in range(self.at_once)])

    def run_steadily(self, seconds, *, a_second):
        """Send requests whether or not others were answered."""

        def client(at, ledger):
            self.stage.sleep(at)
            self.request(ledger)

        moments = [self.chance.uniform(0, seconds) for _ in range(round(seconds * a_second))]
        self.stage.play([lambda at=at, n=n: client(at, self.ledgers[n % WORKERS]) for n, at in enumerate(moments)])

    @property
    def share_served(self):
        return len(self.served_by) / (len(self.served_by) + self.lost)


@pytest.mark.parametrize("failure_s", [0.1, 1.5, SILENCE_S], ids=["at once", "after a while", "by silence"])
def test_failures_by_chance_do_not_rest_a_pool_that_is_asked_much_at_once(failure_s, capsys):
    world = World(fails=0.2, failure_s=failure_s)
    world.run(seconds=180)
    with capsys.disabled():
        print(f"\n{world.share_served:.2%} of {len(world.served_by)} served where every fifth call fails, {AT_ONCE} at once")
    assert world.share_served > 0.995


@pytest.mark.parametrize(
    ("failure_s", "streams", "a_second", "most"),
    [
        (0.1, False, 1.0, 4),
        (0.1, False, 2.5, 5),  # two may be under way at once
        (SILENCE_S, True, 1.0, 5),
        (SILENCE_S, True, 5.0, 5),
        (SILENCE_S, True, 10.0, 6),
        (SILENCE_S, False, 1.0, 5),
        (SILENCE_S, False, 5.0, 8),  # whole answers may take three seconds: so long nobody knows
    ],
)
def test_one_of_four_providers_that_dies_costs_little_in_its_first_minute(failure_s, streams, a_second, most):
    asked = []
    for seed in range(5):
        world = World(fails=0.0, failure_s=failure_s, dead=(30, 90), seed=seed, providers=4, streams=streams)
        world.run_steadily(90, a_second=a_second)
        asked.append(world.asked_of_the_dead)
        assert not world.lost
    assert sum(asked) / len(asked) <= most


@pytest.mark.parametrize("at_once", [4, AT_ONCE])
@pytest.mark.parametrize("fails", [0.0, 0.05])
@pytest.mark.parametrize("failure_s", [0.1, SILENCE_S], ids=["at once", "by silence"])
def test_a_provider_that_was_dead_is_soon_in_use_again(failure_s, fails, at_once):
    world = World(fails=fails, failure_s=failure_s, dead=(40, 100), at_once=at_once)
    world.run(seconds=200)
    back = [second for second, provider in world.served_by if provider == "p0" and second > 100]
    assert back[0] <= 130 and world.share_served > 0.99
    assert len(back) > sum(second > 100 for second, _ in world.served_by) / PROVIDERS / 5  # and not once alone
