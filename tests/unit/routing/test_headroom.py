from datetime import UTC, datetime

import pytest

from gateway.domain import Usage
from gateway.routing.headroom import bucket_of, build_charges, settled_amounts
from tests.unit.routing.conftest import candidate


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "clock", "now", "resets_at"),
    [
        ("rpm", "utc", "2026-11-22T10:00:59", "2026-11-22T10:01:00"),
        ("tpm", "pacific", "2026-11-22T10:00:00", "2026-11-22T10:01:00"),
        ("rpd", "utc", "2026-11-22T23:59:59", "2026-11-23T00:00:00"),
        ("neurons", "utc", "2026-11-22T00:00:00", "2026-11-23T00:00:00"),
        ("rpd", "pacific", "2026-11-22T07:59:59", "2026-11-22T08:00:00"),
        ("rpd", "pacific", "2026-11-22T08:00:00", "2026-11-23T08:00:00"),
        ("rpd", "pacific", "2026-07-01T12:00:00", "2026-07-02T07:00:00"),
        ("rpd", "pacific", "2026-11-01T07:30:00", "2026-11-02T08:00:00"),  # the day has 25 hours
    ],
)
def test_a_window_ends_by_the_providers_clock(window, clock, now, resets_at):
    bucket, ends = bucket_of(window, clock, at(now))
    assert ends == at(resets_at)
    assert bucket_of(window, clock, ends - 1)[0] == bucket and bucket_of(window, clock, ends)[0] != bucket


def test_a_request_takes_from_the_model_s_and_the_account_s_quotas():
    asked = candidate(
        "w/m", limits={"rpm": 5, "tpm": 100}, account_limits={"rpd": 50, "neurons": 1000}, neurons_per_mtok=(30_000, 200_000)
    )
    charges = {charge.counter: (charge.amount, charge.limit) for charge in build_charges(asked, 200, 0)}
    model, account = asked.id, asked.credential.id
    assert charges == {
        f"{model}|rpm": (1, 5),
        f"{model}|tpm": (200, 100),
        f"{account}|rpd": (1, 50),
        f"{account}|neurons": (6, 1000),
    }


def test_settling_puts_real_usage_in_the_place_of_the_estimate():
    asked = candidate("w/m", limits={"rpm": 5, "tpd": 100}, account_limits={"neurons": 1000}, neurons_per_mtok=(30_000, 200_000))
    amounts = settled_amounts(build_charges(asked, 200, 0), Usage(100, 10), asked.model)
    assert amounts == {f"{asked.id}|tpd": 110, f"{asked.credential.id}|neurons": 5}


def test_two_credentials_count_apart_and_neither_tells_its_secret():
    one, other = candidate("w/m", limits={"rpm": 1}), candidate("w/m", key=2, limits={"rpm": 1})
    counters = {charge.counter for asked in (one, other) for charge in build_charges(asked, 1, 0)}
    assert len(counters) == 2 and not any("secret" in counter for counter in counters)
