import pytest

from gateway.errors import (
    UpstreamCredentialRejected,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamModelFailed,
    UpstreamModelGone,
    UpstreamOverloaded,
    UpstreamPaymentRequired,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.routing.cooldown import LONGEST_S, rest_s, scope_of, scopes_over
from tests.unit.routing.conftest import candidate


@pytest.mark.parametrize(
    ("error", "rests"),
    [
        (UpstreamRateLimited("x"), [10, 20, 30, 30]),
        (UpstreamRateLimited("x", retry_after_s=7), [7, 7, 7, 7]),
        (UpstreamRateLimited("x", retry_after_s=0), [1, 1, 1, 1]),
        (UpstreamRateLimited("x", retry_after_s=1e9), [LONGEST_S] * 4),
        (UpstreamUnreachable("x"), [10, 20, 30, 30]),
        (UpstreamFailed("x"), [0, 10, 20, 30]),
        (UpstreamTimeout("x", phase="idle"), [0, 10, 20, 30]),
        (UpstreamGarbled("x"), [0, 10, 20, 30]),
        (UpstreamOverloaded("x", retry_after_s=15), [0, 15, 20, 30]),
        (UpstreamQuotaExhausted("x"), [600] * 4),
        (UpstreamCredentialRejected("x"), [3600] * 4),
        (UpstreamModelGone("x"), [3600] * 4),
        (UpstreamPaymentRequired("x"), [21600] * 4),
    ],
)
def test_rests_are_as_long_as_the_error_deserves(error, rests):
    assert [rest_s(error, failures) for failures in (1, 2, 3, 4)] == rests


@pytest.mark.parametrize(
    ("error", "position"),
    [
        (UpstreamRateLimited("x"), 0),
        (UpstreamFailed("x"), 1),
        (UpstreamTimeout("x", phase="first_token"), 1),
        (UpstreamCredentialRejected("x"), 2),
        (UpstreamQuotaExhausted("x", account_wide=True), 2),
        (UpstreamUnreachable("x"), 3),
        (UpstreamTimeout("x", phase="connect"), 3),
    ],
)
def test_exactly_what_the_error_speaks_about_rests(error, position):
    asked = candidate("p/m")
    assert scope_of(error, asked) == scopes_over(asked)[position]


@pytest.mark.parametrize("error", [UpstreamRejected("x"), UpstreamModelFailed("x")])
def test_what_says_nothing_of_the_next_call_rests_nobody(error):
    assert scope_of(error, candidate("p/m")) == ""


def test_scopes_tell_credentials_apart_but_share_model_and_provider():
    one, other = scopes_over(candidate("p/m")), scopes_over(candidate("p/m", key=2))
    assert [a == b for a, b in zip(one, other, strict=True)] == [False, True, False, True]
