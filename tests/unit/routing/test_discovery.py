import time
from typing import Any, cast

import pytest

from gateway.catalog import Catalog
from gateway.domain import Model, ProviderRow
from gateway.errors import StateError, UpstreamCredentialRejected, UpstreamFailed
from gateway.inventory import build_inventory
from gateway.providers.base import Listing
from gateway.routing.discovery import ANSWER_S, ASK_AGAIN_S, ASK_EVERY_S, KEEP_S, Discovery
from gateway.routing.roster import Roster
from gateway.settings import Settings
from gateway.state.guard import Guard
from gateway.state.memory import MemoryStore
from gateway.telemetry import Telemetry
from gateway.upstream.watch import Watch
from tests.unit.routing.conftest import Clock

CATALOG = Catalog(
    providers={key: ProviderRow(key=key, base_url=f"http://{key}", discover=key != "shy") for key in ("p", "q", "shy")},
    models=tuple(
        Model(provider=key, id=f"{key}-{n}", upstream_id=f"{key}-{n}", builtin=True) for key in ("p", "q", "shy") for n in (1, 2)
    ),
)


class Listed:
    """A provider that lists what it is told to. `passes`: called meanwhile."""

    def __init__(self, said, passes=lambda: None):
        self.said = said
        self.passes = passes
        self.asked = 0

    def list_models(self, credential, limits, handle):
        self.asked += 1
        self.handle = handle
        self.passes()
        said = self.said[credential.secret] if isinstance(self.said, dict) else self.said
        if isinstance(said, Exception):
            raise said
        return said


class Worker:
    def __init__(self, store, clock, providers, catalog=CATALOG, **variables):
        settings = Settings(sandbox="off", variables=variables)
        self.roster = Roster(build_inventory(catalog, settings), cast(Any, providers), lambda c: build_inventory(c, settings))
        self.discovery = Discovery(self.roster, cast(Any, providers), store, Watch(), clock)

    def look(self):
        self.discovery.look()
        return {model.id for model in self.roster.inventory.listed}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def providers():
    return {
        "p": Listed(Listing(frozenset({"p-1", "p-new"}), ("p-new",))),
        "q": Listed(Listing(frozenset({"q-1", "q-2"}), ())),
        "shy": Listed(Listing(frozenset({"shy-1"}), ())),
    }


@pytest.fixture
def workers(clock, providers):
    store = MemoryStore(clock)
    return [Worker(store, clock, providers) for _ in range(2)]


def test_one_worker_asks_and_every_worker_hears(workers, providers):
    assert [worker.look() for worker in workers] == [{"p-1", "q-1", "q-2", "shy-1", "shy-2"}] * 2
    assert {key: provider.asked for key, provider in providers.items()} == {"p": 1, "q": 1, "shy": 0}
    assert workers[1].roster.unknown_models == {"p": ("p-new",)}


def test_providers_are_asked_again_after_six_hours(workers, providers, clock):
    workers[0].look()
    clock.now += ASK_EVERY_S - 1
    workers[0].look()
    assert providers["p"].asked == 1
    providers["p"].said = Listing(frozenset({"p-1", "p-2"}), ())
    clock.now += 2
    assert "p-2" in workers[1].look() and providers["p"].asked == 2


def test_a_call_whose_deadline_passes_is_ended(workers, providers):
    def drip():
        handle = providers["p"].handle
        handle.arm(0.0)
        ended_by = time.monotonic() + 5
        while not handle.expired and time.monotonic() < ended_by:
            time.sleep(0.01)

    providers["p"].passes = drip
    workers[0].look()
    assert providers["p"].handle.expired


def test_a_list_that_fails_says_nothing_and_is_asked_for_again(workers, providers, clock):
    providers["p"].said = UpstreamFailed("down", upstream_status=500)
    assert workers[0].look() >= {"p-1", "p-2"}
    workers[1].look()
    assert providers["p"].asked == 1
    clock.now += ASK_AGAIN_S + 1
    workers[1].look()
    assert providers["p"].asked == 2


def test_what_was_known_stays_while_a_provider_is_down(workers, providers, clock):
    workers[0].look()
    providers["p"].said = UpstreamFailed("down", upstream_status=500)
    clock.now += ASK_EVERY_S + 1
    assert "p-2" not in workers[0].look()


def test_what_was_known_stays_while_the_store_is_late(clock, providers):
    class Late(MemoryStore):
        late = False

        def recall(self, keys):
            if self.late:
                raise StateError("busy")
            return super().recall(keys)

    store = Late(clock)
    guard = Guard(lambda on_trouble: store, Telemetry())
    worker = Worker(guard, clock, providers)
    known = worker.look()
    store.late, providers["p"].said = True, UpstreamFailed("down", upstream_status=500)
    assert worker.look() == known and providers["p"].asked == 1 and worker.roster.unknown_models == {"p": ("p-new",)}
    clock.now += KEEP_S
    assert worker.look() > known
    guard.close()


def test_a_provider_without_a_list_is_left_alone(workers, providers):
    providers["p"].said = None
    assert workers[0].look() >= {"p-1", "p-2"}


KEYED = Catalog(
    providers={"k": ProviderRow(key="k", base_url="http://k", credential_env="K_KEY")},
    models=tuple(Model(provider="k", id=f"k-{n}", upstream_id=f"k-{n}", builtin=True) for n in (1, 2)),
)
REJECTED = UpstreamCredentialRejected("no", upstream_status=401)
LISTED = Listing(frozenset({"k-1"}), ())


def test_a_credential_that_is_refused_leaves_the_question_to_the_next(clock):
    keyed = Listed({"bad": REJECTED, "good": LISTED, "other": LISTED})
    worker = Worker(MemoryStore(clock), clock, {"k": keyed}, KEYED, K_KEY="bad,good,other")
    assert worker.look() == {"k-1"} and keyed.asked == 2


def test_all_credentials_of_a_provider_together_get_the_time_of_one_list(clock):
    keyed = Listed(UpstreamFailed("down", upstream_status=500), lambda: setattr(clock, "now", clock.now + ANSWER_S * 0.6))
    Worker(MemoryStore(clock), clock, {"k": keyed}, KEYED, K_KEY="one,two,three").look()
    assert keyed.asked == 2
