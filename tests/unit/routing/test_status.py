import pytest

from gateway.catalog import Catalog
from gateway.domain import Model, ProviderRow, QuotaReading
from gateway.errors import UpstreamCredentialRejected, UpstreamFailed
from gateway.inventory import build_inventory
from gateway.routing.ledger import Asked, Ledger
from gateway.routing.outlook import REFRESH_S
from gateway.routing.status import health_status, model_health, quota_status
from gateway.settings import Settings
from gateway.state.base import Place
from gateway.state.memory import MemoryStore
from tests.unit.routing.conftest import Clock

CATALOG = Catalog(
    providers={"k": ProviderRow(key="k", base_url="http://k", credential_env="K_KEY")},
    models=(Model(provider="k", id="m", limits={"rpd": 1000}), Model(provider="k", id="free")),
)
INVENTORY = build_inventory(CATALOG, Settings(sandbox="off", variables={"K_KEY": "one,two,three"}))
M = CATALOG.models[0]


class CountingStore(MemoryStore):
    snapshots = 0

    def snapshot(self):
        self.snapshots += 1
        return super().snapshot()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return CountingStore(clock)


@pytest.fixture
def ledger(store, clock):
    return Ledger(store, clock)


def fail(ledger, number, error):
    ledger.failed(ledger.begin(INVENTORY.candidates(M)[number], Asked(10)), error)


def test_a_day_allows_each_credential_as_much(ledger):
    models = health_status(INVENTORY, ledger, {})["models"]
    assert (models["m"]["daily_limit"], models["free"]["daily_limit"]) == (3000, None)
    assert model_health(M, INVENTORY, ledger, {})["daily_limit"] == 3000


def test_a_day_is_told_as_among_the_quotas_with_what_the_provider_said_of_it(ledger, clock):
    one, free = INVENTORY.candidates(M)[0], CATALOG.models[1]
    for candidate in (one, INVENTORY.candidates(free)[0]):
        ledger.answered(ledger.begin(candidate, Asked(10)), [], ttft_s=None)
    ledger.answered(ledger.begin(one, Asked(10)), [QuotaReading("rpd", 200, 50, 4000.0)], ttft_s=None)
    clock.now += REFRESH_S
    today = {Place(1, "", name): {"attempts": 7.0} for name in (M.name, free.name)}
    models = health_status(INVENTORY, ledger, today)["models"]
    told = [quota for quota in quota_status(INVENTORY, ledger)["data"] if quota["model"] == "m"]
    assert models["m"]["daily_requests"] == sum(quota["used"] for quota in told) == 150
    assert models["m"]["daily_limit"] == sum(quota["limit"] for quota in told) == 2200
    assert (models["free"]["daily_requests"], models["free"]["daily_limit"]) == (7, None)  # nobody limits it: what was tried


def test_a_model_is_healthy_while_one_credential_is(ledger, clock):
    for number in range(3):
        body = health_status(INVENTORY, ledger, {})
        assert body["status"] == "ok" and body["models"]["m"]["healthy"] and not body["models"]["m"]["in_cooldown"]
        fail(ledger, number, UpstreamCredentialRejected("no", upstream_status=401))
    body = health_status(INVENTORY, ledger, {})
    assert body["status"] == "degraded" and body["models"]["m"]["in_cooldown"]


def test_health_is_told_from_what_requests_share(ledger, store, clock):
    for _ in range(100):
        health_status(INVENTORY, ledger, {})
    assert store.snapshots == 1
    clock.now += REFRESH_S
    health_status(INVENTORY, ledger, {})
    assert store.snapshots == 2


def test_what_this_process_learned_shows_at_once_and_a_rest_that_is_over_no_more(ledger, store, clock):
    health_status(INVENTORY, ledger, {})
    fail(ledger, 0, UpstreamFailed("x", upstream_status=500))
    assert health_status(INVENTORY, ledger, {})["models"]["m"]["cooldown_until"] == "2027-01-15T08:00:10Z"
    ledger.moment()  # is a moment old already
    clock.now += 10
    assert health_status(INVENTORY, ledger, {})["models"]["m"]["healthy"]
