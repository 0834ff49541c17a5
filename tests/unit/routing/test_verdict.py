import pytest

from gateway.errors import (
    UpstreamContextTooLong,
    UpstreamCredentialRejected,
    UpstreamError,
    UpstreamFailed,
    UpstreamModelGone,
    UpstreamQuotaTooSmall,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.routing.outlook import Out
from gateway.routing.verdict import Defeat, verdict_on
from tests.unit.routing.conftest import candidate

NOW = 1_800_000_000.0
FAILED = UpstreamFailed("down", upstream_status=500)
LIMITED = UpstreamRateLimited("slow down", upstream_status=429)
TOO_SMALL = UpstreamQuotaTooSmall("large", upstream_status=413)
SILENT = UpstreamTimeout("silent", phase="first_token")
LONG = UpstreamContextTooLong("long", upstream_status=400)


def quota(in_s):
    return Out("quota", NOW + in_s, True)


def resting(in_s, reason="failed"):
    return Out("cooldown", NOW + in_s, False, reason)


def verdict(errors=(), outs=(), *, untried=0, spent=False, last=None):
    outs = [out if isinstance(out, tuple) else (candidate("a/m"), out) for out in outs]
    return verdict_on(
        Defeat(errors=errors, outs=outs, untried=untried, spent=spent, prompt_tokens=10, largest_window=8192, now=NOW, last=last)
    )


@pytest.mark.parametrize(
    ("errors", "outs", "spent", "status", "code"),
    [
        ([], [quota(5)], False, 429, "quota_exhausted"),
        ([], [quota(5), resting(3)], False, 503, "no_healthy_provider"),
        ([], [resting(3)], False, 503, "no_healthy_provider"),
        ([LIMITED], [quota(5)], False, 429, "quota_exhausted"),
        ([LIMITED, LIMITED], [quota(5), resting(5)], False, 503, "no_healthy_provider"),
        ([LIMITED, FAILED], [quota(5), resting(5)], False, 502, "upstream_error"),
        ([FAILED, LIMITED], [quota(5), resting(5)], False, 502, "upstream_error"),
        ([FAILED, SILENT], [resting(5)], False, 504, "upstream_timeout"),
        ([SILENT, FAILED], [resting(5)], False, 502, "upstream_error"),
        ([FAILED], [], True, 504, "upstream_timeout"),
        ([LIMITED], [quota(5)], True, 429, "quota_exhausted"),
        ([], [quota(5)], True, 429, "quota_exhausted"),
        ([FAILED, LONG], [], True, 400, "context_length_exceeded"),
    ],
)
def test_the_final_status(errors, outs, spent, status, code):
    error = verdict(errors, outs, spent=spent)
    assert (error.status, error.code) == (status, code)
    assert (error.should_retry is False) is (status == 504)


def test_time_that_was_over_before_anybody_could_be_asked_is_a_spent_budget():
    error = verdict([], [quota(5)], untried=1, spent=True)
    assert (error.status, error.code, error.should_retry) == (504, "upstream_timeout", False)


@pytest.mark.parametrize(
    ("in_s", "retry_after_s", "retry_at"),
    [
        (0.2, 1.0, None),
        (59.5, 59.5, None),
        (60.0, 60.0, None),
        (61.0, 60.0, None),  # a whole minute of ours
        (61.2, 61.2, "2027-01-15T08:01:02Z"),  # Retry-After tells 62: the moment must not be before that
        (3600.0, 3600.0, "2027-01-15T09:00:00Z"),
    ],
)
def test_when_to_come_back(in_s, retry_after_s, retry_at):
    error = verdict([], [quota(in_s), quota(in_s + 500)])
    assert error.retry_after_s == pytest.approx(retry_after_s) and error.retry_at == retry_at
    assert error.should_retry is (False if retry_at else None)
    assert retry_at is None or f"Try again after {retry_at}." in error.message


def test_whoever_was_not_tried_may_have_room():
    error = verdict([LIMITED] * 6, [quota(30)] * 6, untried=2)
    assert (error.status, error.code, error.retry_after_s, error.should_retry) == (503, "no_healthy_provider", 1.0, None)
    assert "6 models" in error.message and "2 more could not be tried" in error.message and "Every" not in error.message


@pytest.mark.parametrize(("errors", "outs"), [([TOO_SMALL], []), ([], [Out("quota_too_small", float("inf"), True)])])
def test_a_request_that_is_larger_than_every_quota_is_told_so(errors, outs):
    error = verdict(errors, outs)
    assert (error.status, error.retry_after_s, error.should_retry) == (429, None, False)
    assert "larger than the quota" in error.message


def test_a_context_that_is_too_long_is_told_in_the_words_that_clients_parse():
    error = verdict([LONG], [])
    expected = "This model's maximum context length is 8192 tokens. However, your messages resulted in 8193 tokens."
    assert error.message.startswith(expected)


def test_a_rate_limit_among_other_failures_is_told_as_the_upstream_s_words():
    error = verdict([FAILED, LIMITED], [quota(5)])
    assert type(error) is UpstreamError and error.message == "slow down" and error.upstream_status == 429


GROQ, GROQ_2 = (candidate("groq/llama", key=number, credential_env="GROQ_API_KEY") for number in (1, 2))
OTHER = candidate("other/m", credential_env="OTHER_KEY")


@pytest.mark.parametrize(
    ("outs", "told"),
    [
        (
            [(GROQ, "credential")],
            "groq refused its key 1. Replace the key (GROQ_API_KEY) and restart the gateway; `python -m gateway check` tests it.",
        ),
        (
            [(GROQ, "credential"), (GROQ_2, "credential"), (OTHER, "credential")],
            "groq refused its key 1, groq refused its key 2, other refused its key 1. Replace the key (GROQ_API_KEY, OTHER_KEY)",
        ),
        ([(GROQ, "payment")], "groq wants to be paid for its key 1. See to "),
        ([(GROQ, "unreachable"), (GROQ_2, "unreachable")], "groq could not be reached. Check "),
        ([(candidate("a/old", replaced_by="new"), "model_gone")], "a does not offer `old` to this key. Use `new` instead."),
        ([(GROQ, "model_gone")], "groq does not offer `llama` to this key. GET /v1/models lists others."),
        ([(GROQ, "failed")], "groq failed a moment ago, and rests."),
        ([(GROQ, "failed"), (OTHER, "credential")], "Every model that could serve this request is resting"),
    ],
)
def test_a_cause_that_all_who_rest_have_in_common_is_said(outs, told):
    error = verdict([], [(candidate, resting(30, reason)) for candidate, reason in outs])
    assert error.message.startswith(told) and "Try again after" in error.message and "secret-" not in error.message
    assert (error.status, error.code) == (503, "no_healthy_provider")


def test_a_quota_among_those_who_rest_is_no_common_cause():
    error = verdict([], [(GROQ, resting(30, "credential")), (OTHER, quota(5))])
    assert error.message.startswith("Every model that could serve this request is resting")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UpstreamFailed("The provider failed."), "groq failed. Try again later, or name another model."),
        (
            UpstreamReset("The provider's connection broke off."),
            "groq's connection broke off. Try again later, or name another model.",
        ),
        (UpstreamFailed("Out of memory"), "groq: Out of memory. Try again later, or name another model."),
        (
            UpstreamUnreachable("The provider could not be reached."),
            "groq could not be reached. Check the network and its base_url in the catalog; `python -m gateway check` tests it.",
        ),
        (
            UpstreamCredentialRejected("Invalid API Key"),
            "groq: Invalid API Key. Replace the key (GROQ_API_KEY) and restart the gateway; `python -m gateway check` tests it.",
        ),
        (UpstreamModelGone("The provider does not have it."), "groq does not have it. GET /v1/models lists others."),
        (UpstreamRejected("`seed` is too large"), "`seed` is too large"),  # of the request, in the provider's own words
    ],
)
def test_a_failure_is_told_with_who_it_was_and_what_to_do(error, told):
    assert verdict([error], last=GROQ).message == told


def test_a_legacy_model_that_is_missing_is_told_with_its_successor():
    gone = UpstreamModelGone("The model was decommissioned.")
    assert verdict([gone], last=candidate("a/old", replaced_by="new")).message.endswith("decommissioned. Use `new` instead.")
