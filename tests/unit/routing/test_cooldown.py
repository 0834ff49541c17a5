import pytest

from gateway.errors import (
    StreamBroken,
    UpstreamCredentialRejected,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamModelFailed,
    UpstreamModelGone,
    UpstreamOverloaded,
    UpstreamPaymentRequired,
    UpstreamQuotaExhausted,
    UpstreamQuotaTooSmall,
    UpstreamRateLimited,
    UpstreamRefusedContent,
    UpstreamRejected,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.routing.cooldown import failed_probe, failure_of, is_for_quota, provider_failure, scopes_over
from gateway.state.base import Failure, Rest
from tests.unit.routing.conftest import candidate

ONE = candidate("a/m")
GROWING = (10.0, 20.0, 30.0)
SILENT = (10.0, 20.0)  # and the ten seconds of a probe: half a minute


def rests(error, answered_before=True):
    failure = failure_of(error, ONE, began_at=1.0, answered_before=answered_before)
    return failure and (failure.scope, failure.rests_s)


@pytest.mark.parametrize(
    ("error", "growing"),
    [
        (UpstreamFailed("x"), GROWING),
        (UpstreamOverloaded("x"), GROWING),
        (UpstreamReset("x"), GROWING),
        (UpstreamGarbled("x"), GROWING),
        (StreamBroken("x"), GROWING),
        (UpstreamTimeout("x", phase="first_token"), SILENT),
        (UpstreamTimeout("x", phase="idle"), SILENT),
        (UpstreamTimeout("x", phase="total"), SILENT),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'phase', '')}",
)
def test_a_passing_failure_rests_at_the_second_in_a_row_or_at_once_if_the_model_never_answered(error, growing):
    assert rests(error) == ("model:a/m", (0.0, *growing))
    assert rests(error, answered_before=False) == ("model:a/m", growing)


@pytest.mark.parametrize(
    ("error", "scope", "seconds"),
    [
        (UpstreamUnreachable("x"), "provider:a", GROWING),
        (UpstreamTimeout("x", phase="connect"), "provider:a", GROWING),
        (UpstreamRateLimited("x", retry_after_s=7), ONE.id, (7,)),
        (UpstreamRateLimited("x", retry_after_s=0.2), ONE.id, (1.0,)),
        (UpstreamRateLimited("x", retry_after_s=0.0), ONE.id, (1.0, *GROWING)),  # soon, or whenever
        (UpstreamRateLimited("x", retry_after_s=1e9), ONE.id, (26 * 3600.0,)),
        (UpstreamQuotaExhausted("x", retry_after_s=0.0), ONE.id, (1.0, 600.0)),
        (UpstreamFailed("x", retry_after_s=0.0), "model:a/m", (0.0, *GROWING)),
        (UpstreamUnreachable("x", retry_after_s=0.0), "provider:a", GROWING),
        (UpstreamFailed("x", retry_after_s=1e9), "model:a/m", (26 * 3600.0,) * 3),
        (UpstreamCredentialRejected("x", retry_after_s=5), ONE.credential.id, (3600.0,)),
        (UpstreamRateLimited("x"), ONE.id, GROWING),
        (UpstreamQuotaExhausted("x"), ONE.id, (600.0,)),
        (UpstreamQuotaExhausted("x", account_wide=True, retry_after_s=5000), ONE.credential.id, (5000,)),
        (UpstreamQuotaExhausted("x", retry_after_s=1e9), ONE.id, (26 * 3600.0,)),
        (UpstreamCredentialRejected("x"), ONE.credential.id, (3600.0,)),
        (UpstreamPaymentRequired("x"), ONE.credential.id, (6 * 3600.0,)),
        (UpstreamModelGone("x"), "model:a/m", (3600.0,)),
        (UpstreamOverloaded("x", retry_after_s=15), "model:a/m", (15, 20.0, 30.0)),
    ],
)
def test_what_a_failure_rests_and_for_how_long(error, scope, seconds):
    assert rests(error) == (scope, seconds)


@pytest.mark.parametrize(
    "error",
    [UpstreamRejected("x"), UpstreamRefusedContent("x"), UpstreamModelFailed("x"), UpstreamQuotaTooSmall("x", retry_after_s=5)],
    ids=lambda error: type(error).__name__,
)
def test_what_says_nothing_of_the_next_call_rests_nobody(error):
    assert rests(error) is None


def rest(scope, failed_at, reason="failed", failures=1):
    return Rest(scope, failures=failures, reason=reason, failed_at=failed_at)


@pytest.mark.parametrize(("reason", "growing"), [("failed", GROWING), ("timeout", SILENT)])
def test_two_models_that_fail_within_ten_seconds_rest_their_provider(reason, growing):
    failure = Failure("model:a/m", reason, 90.0, (0.0, *growing))
    spread = provider_failure(failure, ONE, [rest("model:a/m", 99.0), rest("model:a/other", 91.0)], now=100.0)
    assert spread == Failure("provider:a", reason, 90.0, growing)


@pytest.mark.parametrize(("reason", "growing"), [("failed", GROWING), ("timeout", SILENT)])
def test_a_provider_that_cost_more_than_two_calls_already_rests_longest_at_once(reason, growing):
    failure = Failure("model:a/m", reason, 90.0, (0.0, *growing))
    rests = [rest("model:a/m", 99.0), rest("model:a/other", 91.0, failures=2)]
    assert provider_failure(failure, ONE, rests, now=100.0) == Failure("provider:a", reason, 90.0, growing[-1:])


@pytest.mark.parametrize(
    ("reason", "before_s", "after_s"),
    [("failed", 10, 20), ("failed", 20, 30), ("failed", 30, 30), ("failed", 600, 30), ("timeout", 10, 20), ("timeout", 20, 20)],
)
def test_what_was_probed_in_vain_rests_longer(reason, before_s, after_s):
    known = Rest("provider:a", until=100.0 + before_s, since=100.0, failures=1)
    failure = Failure("model:a/m", reason, 130.0, GROWING)
    assert failed_probe("provider:a", known, failure) == Failure("provider:a", reason, 130.0, (after_s,))


@pytest.mark.parametrize(
    ("failure", "others"),
    [
        (Failure("model:a/m", "failed", 90.0, GROWING), [rest("model:a/m", 99.0)]),
        (Failure("model:a/m", "failed", 90.0, GROWING), [rest("model:a/other", 89.0)]),
        (Failure("model:a/m", "failed", 90.0, GROWING), [rest("model:a/other", 99.0, "model_gone")]),
        (Failure("model:a/m", "model_gone", 90.0, GROWING), [rest("model:a/other", 99.0)]),
        (Failure(ONE.id, "rate_limited", 90.0, GROWING), [rest("model:a/other", 99.0)]),
    ],
    ids=["itself", "long ago", "gone", "is gone", "rate limited"],
)
def test_other_failures_say_nothing_of_the_provider(failure, others):
    assert provider_failure(failure, ONE, others, now=100.0) is None


def test_a_candidate_rests_with_its_model_its_credential_and_its_provider():
    assert scopes_over(ONE) == (ONE.id, "model:a/m", ONE.credential.id, "provider:a")


def test_rests_of_quota_end_in_a_reset():
    assert is_for_quota(rest("x", 0, "rate_limited")) and is_for_quota(rest("x", 0, "quota"))
    assert not is_for_quota(rest("x", 0, "failed"))
