import time
from contextlib import suppress

import pytest

from gateway.errors import (
    CandidatesExhausted,
    ClientGone,
    StreamBroken,
    UpstreamContextTooLong,
    UpstreamCredentialRejected,
    UpstreamError,
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
from gateway.routing.attempts import MAX_ATTEMPTS
from gateway.routing.ledger import Asked, Booking
from gateway.state.base import Recovery
from tests.unit.routing.conftest import candidate

A, A2, B, C = candidate("a/one"), candidate("a/two"), candidate("b/one"), candidate("c/one")
A_OTHER_KEY = candidate("a/one", key=2)


def failed(status=500):
    return UpstreamFailed("down", upstream_status=status)


@pytest.mark.parametrize(
    "error",
    [
        UpstreamUnreachable("x"),
        UpstreamReset("x"),
        UpstreamTimeout("x", phase="first_token"),
        UpstreamTimeout("x", phase="connect"),
        UpstreamRateLimited("x", upstream_status=429),
        UpstreamQuotaExhausted("x", upstream_status=429),
        UpstreamQuotaTooSmall("x", upstream_status=413),
        UpstreamPaymentRequired("x", upstream_status=402),
        UpstreamOverloaded("x", upstream_status=503),
        UpstreamCredentialRejected("x", upstream_status=401),
        UpstreamModelGone("x", upstream_status=404),
        UpstreamRejected("x", upstream_status=400),
        UpstreamModelFailed("x", upstream_status=400),
        UpstreamFailed("x", upstream_status=500),
        UpstreamGarbled("x", upstream_status=200),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failing_provider_is_not_felt(pool, error):
    won = pool.dispatch([A, B], {"a/one": error, "b/one": "ok"})
    assert won.value == "b/one" and pool.calls == ["a/one", "b/one"]
    assert [attempt.trail for attempt in pool.loop.attempts] == [f"a/one:{error.outcome}", "b/one:ok"]


def test_refused_content_is_the_answer_at_once(pool):
    with pytest.raises(UpstreamRefusedContent) as raised:
        pool.dispatch([A, B], {"a/one": UpstreamRefusedContent("no", upstream_status=400), "b/one": "ok"})
    assert pool.calls == ["a/one"] and raised.value.status == 400
    assert pool.store.snapshot().rests == {}


def test_a_rejected_request_goes_to_one_other_provider_and_then_the_first_refusal_is_the_answer(pool):
    first = UpstreamRejected("first", upstream_status=400)
    script = {"a/one": first, "a/two": "ok", "b/one": UpstreamRejected("second", upstream_status=422), "c/one": "ok"}
    with pytest.raises(UpstreamRejected, match="first") as raised:
        pool.dispatch([A, A2, B, C], script)
    assert pool.calls == ["a/one", "b/one"] and raised.value.status == 400 and raised.value.tried == 2


def test_a_rejected_request_without_another_provider_is_refused(pool):
    with pytest.raises(UpstreamRejected):
        pool.dispatch([A, A2], {"a/one": UpstreamRejected("no", upstream_status=400), "a/two": "ok"})
    assert pool.calls == ["a/one"]


def test_a_rejected_request_goes_to_the_next_provider_that_can_be_asked(pool):
    limited = candidate("b/m", limits={"rpm": 1})
    refusing = UpstreamRejected("no", upstream_status=400)

    def takes_the_last_place_at_b(candidate):  # of another request, after this one looked
        assert isinstance(pool.ledger.begin(limited, Asked(1)), Booking)
        raise refusing

    pool.clock.now += 1
    script = {"a/one": takes_the_last_place_at_b, "b/m": "ok", "c/one": "ok"}
    assert pool.dispatch([[A], [limited], [C]], script).value == "c/one" and pool.calls == ["a/one", "c/one"]


def test_an_empty_answer_to_a_rejected_request_goes_to_nobody_else(pool):
    script = {"a/one": UpstreamRejected("no", upstream_status=400), "b/one": "empty", "c/one": "ok"}
    assert pool.dispatch([[A], [B], [C]], script).value == "b/one" and pool.calls == ["a/one", "b/one"]


def test_a_rejected_request_hurts_nobody(pool):
    with pytest.raises(UpstreamRejected):
        pool.dispatch([A], {"a/one": UpstreamRejected("no", upstream_status=400)})
    assert pool.dispatch([A], {"a/one": "ok"}).value == "a/one"


def test_a_context_that_is_too_long_goes_only_to_larger_windows(pool):
    small, same, larger = (candidate(f"{p}/m", context_window=size) for p, size in (("a", 100), ("b", 100), ("c", 200)))
    error = UpstreamContextTooLong("long", upstream_status=400)
    pool.dispatch([small, same, larger], {"a/m": error, "b/m": "ok", "c/m": "ok"})
    assert pool.calls == ["a/m", "c/m"]


def test_a_context_that_fits_nowhere_is_told_in_the_words_that_clients_parse(pool):
    error = UpstreamContextTooLong("long", upstream_status=400, limit_tokens=100, prompt_tokens=150)
    with pytest.raises(UpstreamContextTooLong) as raised:
        pool.dispatch([candidate("a/m", context_window=100)], {"a/m": error})
    expected = "This model's maximum context length is 100 tokens. However, your messages resulted in 150 tokens."
    assert raised.value.message.startswith(expected) and raised.value.status == 400


def test_a_rejected_credential_leaves_out_its_models_but_not_another_credential(pool):
    script = {"a/one": UpstreamCredentialRejected("no", upstream_status=401), "a/two": "ok", "a/one#2": "ok"}
    assert pool.dispatch([A, A2, A_OTHER_KEY], script).value == "a/one#2"
    assert pool.calls == ["a/one", "a/one#2"]


def test_an_unreachable_provider_leaves_out_all_of_it(pool):
    pool.dispatch([A, A2, A_OTHER_KEY, B], {"a/one": UpstreamUnreachable("no"), "b/one": "ok"})
    assert pool.calls == ["a/one", "b/one"]


def test_after_two_failures_of_a_provider_auto_tries_another_first(pool):
    models = [candidate(f"a/{n}") for n in range(4)]
    script = {f"a/{n}": failed() for n in range(4)} | {"b/one": "ok"}
    pool.dispatch([*models, B], script)
    assert pool.calls == ["a/0", "a/1", "b/one"]


def test_no_more_attempts_than_allowed_are_made(pool):
    models = [candidate(f"p{n}/m") for n in range(MAX_ATTEMPTS + 2)]
    with pytest.raises(UpstreamFailed) as raised:
        pool.dispatch(models, {model.model.name: failed() for model in models})
    assert len(pool.calls) == MAX_ATTEMPTS and raised.value.status == 502 and raised.value.tried == MAX_ATTEMPTS


def test_rate_limits_that_hide_one_who_was_not_tried_do_not_speak_for_it(pool):
    models = [candidate(f"p{n}/m") for n in range(MAX_ATTEMPTS + 1)]
    limited = UpstreamRateLimited("x", upstream_status=429, retry_after_s=30)
    with pytest.raises(CandidatesExhausted) as raised:
        pool.dispatch(models, {model.model.name: limited for model in models})
    assert (raised.value.status, raised.value.code, raised.value.retry_after_s) == (503, "no_healthy_provider", 1)
    assert "1 more could not be tried" in raised.value.message


def test_a_pinned_model_is_not_waited_for_when_no_attempt_is_left(pool):
    models = [candidate(f"p{n}/m") for n in range(MAX_ATTEMPTS)]
    script = {model.model.name: UpstreamModelGone("x", upstream_status=404) for model in models[:-1]}
    with pytest.raises(UpstreamFailed):
        pool.dispatch([[model] for model in models], {**script, models[-1].model.name: failed()}, pinned=True)
    assert len(pool.calls) == MAX_ATTEMPTS and pool.handle.waits == []


def test_the_last_attempt_tells_the_final_status(pool):
    with pytest.raises(UpstreamTimeout) as raised:
        pool.dispatch([A, B], {"a/one": failed(), "b/one": UpstreamTimeout("slow", phase="first_token")})
    assert (raised.value.status, raised.value.code, raised.value.provider) == (504, "upstream_timeout", "b")


def test_a_spent_budget_is_a_time_out(pool):
    with pytest.raises(UpstreamTimeout):
        pool.dispatch([A], {"a/one": "ok"}, ends_in_s=0)
    assert pool.calls == []


@pytest.mark.parametrize(
    ("other", "rate"), [("ok", 0.0), ("empty", None), (failed(), None)], ids=["speaks", "is silent", "fails"]
)
def test_an_empty_answer_is_a_failure_where_another_has_something_to_say(pool, other, rate):
    with suppress(UpstreamFailed):
        pool.dispatch([A, B], {"a/one": "empty", "b/one": other})
    assert pool.calls == ["a/one", "b/one"]
    assert pool.ledger.moment(fresh=True).health("a/one").success_rate == rate


@pytest.mark.parametrize("phase", ["first_token", "total"])
@pytest.mark.parametrize(
    ("is_over", "budget_s", "blamed"),
    [
        (False, 60.0, True),  # the attempt had its own whole limit
        (True, 60.0, False),  # an impatient client, or others took the time
        (True, 0.0, True),  # it had all of the gateway's own budget
    ],
)
def test_nobody_is_blamed_for_a_request_that_was_over_too_soon(pool, phase, is_over, budget_s, blamed, monkeypatch):
    monkeypatch.setattr(pool.ledger, "_monotonic", time.monotonic)  # as the loop's own

    def time_out(asked):
        pool.loop.budget_s = budget_s
        if is_over:
            pool.loop.ends_at_mono = time.monotonic()
        return UpstreamTimeout("slow", phase=phase)

    with pytest.raises(UpstreamTimeout) as raised:
        pool.dispatch([A], {"a/one": time_out})
    assert [attempt.outcome for attempt in raised.value.attempts] == ["timeout"] and raised.value.tried == 1
    assert bool(pool.store.snapshot().rests) is blamed
    assert (pool.ledger.moment(fresh=True).health("a/one").success_rate == 0.0) is blamed
    assert pool.ledger.calls_in_flight(A) == 0


def test_an_empty_stop_moves_on_and_is_good_enough_from_the_last(pool):
    assert pool.dispatch([A, B], {"a/one": "empty", "b/one": "ok"}).value == "b/one"
    assert pool.calls == ["a/one", "b/one"]
    assert pool.dispatch([A, B], {"a/one": "empty", "b/one": "empty"}).value == "a/one"
    assert pool.calls == ["b/one", "a/one"]  # what answered before goes first


def test_a_client_that_left_stops_everything_and_hurts_nobody(pool):
    with pytest.raises(ClientGone):
        pool.dispatch([A, B], {"a/one": ClientGone("left"), "b/one": "ok"})
    assert pool.calls == ["a/one"]
    assert [attempt.trail for attempt in pool.loop.attempts] == ["a/one:client_closed_request"]
    assert pool.dispatch([A], {"a/one": "ok"}).value == "a/one"


def test_what_rests_is_not_asked(pool):
    limited = UpstreamRateLimited("slow down", upstream_status=429, retry_after_s=30)
    pool.dispatch([A, B], {"a/one": limited, "b/one": "ok"})
    pool.dispatch([A, B], {"b/one": "ok"})
    assert pool.calls == ["b/one"]
    pool.clock.now += 31
    pool.dispatch([A, B], {"a/one": "ok", "b/one": "ok"})
    assert pool.calls[0] in ("a/one", "b/one")


def test_a_5xx_rests_a_model_that_never_answered_at_once(pool):
    for expected in (["a/one"], []):
        with pytest.raises((UpstreamFailed, CandidatesExhausted)):
            pool.dispatch([A], {"a/one": failed()})
        assert pool.calls == expected


def test_one_5xx_does_not_rest_a_model_but_the_second_in_a_row_does(pool):
    pool.dispatch([A], {"a/one": "ok"})
    for expected in (["a/one"], ["a/one"], []):
        try:
            pool.dispatch([A], {"a/one": failed()})
        except (UpstreamFailed, CandidatesExhausted):
            assert pool.calls == expected


def test_a_success_takes_earlier_failures_back(pool):
    for step in ("ok", failed(), "ok", failed()):
        try:
            pool.dispatch([A], {"a/one": step})
        except UpstreamFailed:
            pass
    assert pool.dispatch([A], {"a/one": "ok"}).value == "a/one"


@pytest.mark.parametrize(
    "error",
    [UpstreamRateLimited("x", upstream_status=429, retry_after_s=7), UpstreamQuotaTooSmall("x", upstream_status=413)],
)
def test_rate_limits_alone_are_told_as_quota(pool, error):
    with pytest.raises(CandidatesExhausted) as raised:
        pool.dispatch([A], {"a/one": error})
    assert (raised.value.status, raised.value.code) == (429, "quota_exhausted")


def test_a_rate_limit_after_another_failure_is_a_bad_gateway(pool):
    with pytest.raises(UpstreamError) as raised:
        pool.dispatch([A, B], {"a/one": failed(), "b/one": UpstreamRateLimited("x", upstream_status=429)})
    assert (raised.value.status, raised.value.code) == (502, "upstream_error")


def test_a_used_up_quota_is_refused_without_a_call_and_says_until_when(pool):
    limited = candidate("a/m", limits={"rpm": 1})
    pool.dispatch([limited], {"a/m": "ok"})
    with pytest.raises(CandidatesExhausted) as raised:
        pool.dispatch([limited], {"a/m": "ok"})
    assert pool.calls == [] and raised.value.status == 429 and 1 <= (raised.value.retry_after_s or 0) <= 60
    assert [(entry.outcome, entry.model) for entry in raised.value.attempts] == [("quota", "m")] and raised.value.tried == 0


def test_a_day_without_quota_tells_sdks_not_to_sleep_through_it(pool):
    limited = candidate("a/m", limits={"rpd": 1})
    pool.dispatch([limited], {"a/m": "ok"})
    with pytest.raises(CandidatesExhausted) as raised:
        pool.dispatch([limited], {"a/m": "ok"})
    assert raised.value.should_retry is False and str(raised.value.retry_at).endswith("T00:00:00Z")


def test_resting_after_failures_is_no_healthy_provider(pool):
    with pytest.raises(UpstreamUnreachable):
        pool.dispatch([A], {"a/one": UpstreamUnreachable("no")})
    with pytest.raises(CandidatesExhausted) as raised:
        pool.dispatch([A], {"a/one": "ok"})
    assert (raised.value.status, raised.value.code, round(raised.value.retry_after_s or 0)) == (503, "no_healthy_provider", 10)


def test_nobody_to_ask_at_all_is_no_healthy_provider(pool):
    with pytest.raises(CandidatesExhausted) as raised:
        pool.dispatch([], {})
    assert raised.value.status == 503


def test_failed_attempts_give_their_tokens_back_but_not_the_request(pool):
    limited = candidate("a/m", limits={"rpm": 3, "tpm": 10})
    for _ in range(3):
        with pytest.raises(UpstreamFailed):
            pool.dispatch([limited], {"a/m": UpstreamFailed("x", upstream_status=500)})
        pool.store.write([Recovery("model:a/m", pool.clock.now)])
    with pytest.raises(CandidatesExhausted):
        pool.dispatch([limited], {"a/m": "ok"})


# --- pinned -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [failed(), UpstreamReset("x"), UpstreamOverloaded("x", upstream_status=503)])
def test_a_pinned_model_is_tried_once_more_after_a_short_pause(pool, error):
    assert pool.dispatch([A], {"a/one": [error, "ok"]}, pinned=True).value == "a/one"
    assert pool.calls == ["a/one", "a/one"] and pool.handle.waits == [0.2]
    assert [attempt.trail for attempt in pool.loop.attempts] == [f"a/one:{error.outcome}", "a/one:ok"]


@pytest.mark.parametrize(
    ("error", "patience_s", "waits"),
    [
        (failed(), 0, [0.2]),  # patience is for what a provider tells
        (UpstreamFailed("x", upstream_status=503, retry_after_s=2), 3, [2]),
        (UpstreamFailed("x", upstream_status=503, retry_after_s=4), 3, []),
        (UpstreamFailed("x", upstream_status=503, retry_after_s=0), 3, [0.2]),
        (UpstreamRateLimited("x", upstream_status=429, retry_after_s=0), 3, [0.2]),
        (UpstreamRateLimited("x", upstream_status=429, retry_after_s=0.05), 3, [0.2]),
    ],
)
def test_a_second_try_waits_for_what_was_told_and_never_goes_out_at_once(pool, error, patience_s, waits):
    pool.dispatch([[A], [B]], {"a/one": [error, "ok"], "b/one": "ok"}, pinned=True, patience_s=patience_s)
    assert pool.handle.waits == waits and pool.calls == (["a/one", "a/one"] if waits else ["a/one", "b/one"])


def test_a_second_try_that_does_not_fit_in_the_budget_is_not_waited_for(pool):
    limited = UpstreamRateLimited("x", upstream_status=429, retry_after_s=2)
    pool.dispatch([[A], [B]], {"a/one": limited, "b/one": "ok"}, pinned=True, ends_in_s=1)
    assert pool.calls == ["a/one", "b/one"] and pool.handle.waits == []


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("phase", ["first_token", "idle", "total"])
def test_a_silent_upstream_is_asked_once_whatever_keys_there_are(pool, pinned, phase):
    pool.dispatch([A], {"a/one": "ok"})  # it is known to answer: one silence does not rest it
    script = {"a/one": UpstreamTimeout("silent", phase=phase), "a/one#2": "ok", "b/one": "ok"}
    assert pool.dispatch([[A], [A_OTHER_KEY], [B]], script, pinned=pinned).value == "b/one"
    assert pool.calls == ["a/one", "b/one"]


def test_a_pinned_model_is_tried_no_third_time(pool):
    pool.dispatch([[A], [B]], {"a/one": failed(), "b/one": "ok"}, pinned=True)
    assert pool.calls == ["a/one", "a/one", "b/one"]


def test_a_short_retry_after_of_a_pinned_model_is_waited_out_once(pool):
    limited = UpstreamRateLimited("x", upstream_status=429, retry_after_s=2)
    assert pool.dispatch([A], {"a/one": [limited, "ok"]}, pinned=True).value == "a/one"
    assert pool.handle.waits == [2]
    assert pool.dispatch([A], {"a/one": "ok"}).value == "a/one"  # the success took the rest back


@pytest.mark.parametrize(
    "error",
    [
        UpstreamRateLimited("x", upstream_status=429, retry_after_s=4),
        UpstreamRateLimited("x", upstream_status=429),
        UpstreamTimeout("x", phase="first_token"),
        UpstreamUnreachable("x"),
        UpstreamModelGone("x", upstream_status=404),
        UpstreamQuotaTooSmall("x", upstream_status=413, retry_after_s=1),
    ],
    ids=["long Retry-After", "no Retry-After", "silence", "unreachable", "gone", "too small a quota"],
)
def test_a_pinned_model_that_would_fail_again_is_not_asked_again(pool, error):
    pool.dispatch([[A], [B]], {"a/one": error, "b/one": "ok"}, pinned=True)
    assert pool.calls == ["a/one", "b/one"] and pool.handle.waits == []


def test_auto_moves_on_at_once(pool):
    pool.dispatch([A, B], {"a/one": failed(), "b/one": "ok"})
    assert pool.calls == ["a/one", "b/one"] and pool.handle.waits == []


def test_the_auto_behind_a_pinned_model_moves_on_at_once(pool):
    models = [candidate(f"b/{n}") for n in range(4)]
    script = {"a/one": failed(), **{f"b/{n}": UpstreamModelFailed("x") for n in range(1, 4)}, "b/0": failed(), "c/one": "ok"}
    pool.dispatch([[A], [*models, C]], script, pinned=1)
    assert pool.calls == ["a/one", "a/one", "b/0", "b/1", "c/one"] and len(pool.handle.waits) == 1


def test_a_client_that_leaves_during_the_pause_ends_it(pool):
    pool.handle.end("client_gone")
    with pytest.raises(ClientGone):
        pool.dispatch([A], {"a/one": failed()}, pinned=True)
    assert pool.calls == ["a/one"]


def test_the_callers_order_stands_before_everything(pool):
    pool.dispatch([[B], [A]], {"a/one": "ok", "b/one": "ok"}, pinned=True)
    assert pool.calls == ["b/one"]


def test_a_stream_that_broke_after_the_commit_is_no_attempt_s_business():
    assert StreamBroken("x").failover == "no"


# --- what is known from before ----------------------------------------------------------------------------------------


def rest(pool, candidate, error):
    booking = pool.ledger.begin(candidate, Asked(10))
    pool.ledger.failed(booking, error)


def test_one_that_may_be_back_is_asked_first_and_a_single_one(pool):
    for dead in (A, B):
        rest(pool, dead, UpstreamUnreachable("x"))
    pool.clock.now += 10
    script = {"a/one": UpstreamUnreachable("x"), "b/one": UpstreamUnreachable("x"), "c/one": "ok"}
    assert pool.dispatch([A, B, C], script).value == "c/one"
    assert len(pool.calls) == 2 and pool.calls[0] in ("a/one", "b/one")


def test_what_may_be_back_is_the_last_resort_of_all_others(pool):
    for dead in (A, B):
        rest(pool, dead, UpstreamUnreachable("x"))
    pool.clock.now += 10
    script = {"a/one": UpstreamUnreachable("x"), "b/one": "ok", "c/one": failed()}
    assert pool.dispatch([A, B, C], script).value == "b/one"


def test_a_candidate_that_another_call_probes_is_left_out(pool):
    rest(pool, A, UpstreamUnreachable("x"))
    pool.clock.now += 10
    assert pool.ledger.begin(A, Asked(10)).probe  # the other call
    assert pool.dispatch([A, B], {"b/one": "ok"}).value == "b/one"
    with pytest.raises(CandidatesExhausted) as raised:
        pool.dispatch([A], {})
    assert [entry.outcome for entry in raised.value.attempts] == ["probing"] and raised.value.status == 503


def test_a_request_that_seems_larger_than_a_quota_is_tried_there_last(pool):
    small, large = candidate("a/m", limits={"tpm": 100}), candidate("b/m")
    assert pool.dispatch([small, large], {"b/m": "ok"}, prompt_tokens=500).value == "b/m"
    assert pool.dispatch([small, large], {"a/m": "ok", "b/m": failed()}, prompt_tokens=500).value == "a/m"
    assert pool.calls == ["b/m", "a/m"]


def test_a_limit_of_zero_is_never_asked(pool):
    with pytest.raises(CandidatesExhausted) as raised:
        pool.dispatch([candidate("a/m", limits={"tpm": 0})], {})
    assert raised.value.retry_after_s is None and raised.value.should_retry is False


def test_now_and_then_one_that_its_failures_keep_behind_is_asked_first(pool):
    names = {"a/one": "ok", "b/one": "ok"}
    pool.dispatch([A], {"a/one": "ok"})
    pool.ledger.should_have_spoken([B] * 4)  # no rest, but a bad record
    assert pool.dispatch([A, B], names).value == "a/one"
    pool.draw = lambda: 0.99
    assert pool.dispatch([A, B], names).value == "b/one"
    assert pool.ledger.moment(fresh=True).health("b/one").success_rate == pytest.approx(1 / 5)
    assert pool.dispatch([A, B], names).value == "b/one"
    assert pool.ledger.moment(fresh=True).health("b/one").success_rate == 1.0  # its second answer begins a new record
    pool.draw = lambda: 0.0
    assert pool.loop_over([A, B]).lineup.next_turn().candidate.id in (A.id, B.id)


@pytest.mark.parametrize("behind", [[B, C], [A] * 4], ids=["though it is the best", "and not for a trial before"])
def test_one_that_keeps_others_waiting_is_asked_last(pool, behind):
    pool.dispatch([A], {"a/one": "ok"})
    pool.ledger.should_have_spoken(behind)
    pool.ledger.begin(A, Asked(10, streams=True))
    pool.clock.now += 9
    pool.draw = lambda: 0.99
    assert pool.dispatch([A, B, C], {"a/one": "ok", "b/one": failed(), "c/one": failed()}).value == "a/one"
    assert pool.calls[-1] == "a/one" and len(pool.calls) == 3


def test_a_trial_that_fails_is_followed_by_the_best(pool):
    pool.dispatch([A], {"a/one": "ok"})
    pool.ledger.should_have_spoken([B] * 4)
    pool.draw = lambda: 0.99
    assert pool.dispatch([A, B, C], {"a/one": "ok", "b/one": failed(), "c/one": "ok"}).value in ("a/one", "c/one")
    assert pool.calls[0] == "b/one" and len(pool.calls) == 2


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_a_caller_who_consents_waits_for_the_soonest_reset(pool):
    one, two = candidate("a/m", limits={"rpm": 1}), candidate("b/m", limits={"rpm": 1})
    pool.dispatch([one], {"a/m": "ok"})
    pool.clock.now += 20
    pool.dispatch([two], {"b/m": "ok"})
    pool.clock.now += 11
    assert pool.dispatch([one, two], {"a/m": "ok"}, max_wait_s=40).value == "a/m"
    assert pool.handle.waits == [pytest.approx(30.02)]


@pytest.mark.parametrize("max_wait_s", [0, 29])
def test_a_reset_that_does_not_fit_is_refused_at_once(pool, max_wait_s):
    limited = candidate("a/m", limits={"rpm": 1})
    pool.dispatch([limited], {"a/m": "ok"})
    pool.clock.now += 31
    with pytest.raises(CandidatesExhausted) as raised:
        pool.dispatch([limited], {}, max_wait_s=max_wait_s)
    assert pool.handle.waits == [] and raised.value.retry_after_s == pytest.approx(30)


def test_a_reset_beyond_the_budget_is_not_waited_for(pool):
    limited = candidate("a/m", limits={"rpm": 1})
    pool.dispatch([limited], {"a/m": "ok"})
    with pytest.raises(CandidatesExhausted):
        pool.dispatch([limited], {}, max_wait_s=60, ends_in_s=20)
    assert pool.handle.waits == []


def test_who_consents_waits_while_another_call_probes(pool):
    rest(pool, A, UpstreamUnreachable("x"))
    pool.clock.now += 10
    other = pool.ledger.begin(A, Asked(10))
    assert other.probe
    wait = pool.handle.wait

    def wait_and_see(seconds):
        if len(pool.handle.waits) == 1:
            pool.ledger.answered(other, (), ttft_s=None)
        return wait(seconds)

    pool.handle.wait = wait_and_see
    assert pool.dispatch([A], {"a/one": "ok"}, max_wait_s=5).value == "a/one"
    assert pool.handle.waits == [pytest.approx(1.02)] * 2


def test_a_rate_limit_met_by_the_request_itself_is_waited_out(pool):
    limited = UpstreamRateLimited("x", upstream_status=429, retry_after_s=5)
    assert pool.dispatch([A], {"a/one": [limited, "ok"]}, max_wait_s=10).value == "a/one"
    assert pool.handle.waits == [pytest.approx(5.02)]


def test_other_failures_are_not_waited_for(pool):
    with pytest.raises(UpstreamFailed):
        pool.dispatch([A], {"a/one": failed()}, max_wait_s=60)
    assert pool.handle.waits == []


def test_waits_together_are_no_longer_than_what_the_caller_consented_to(pool):
    limited = UpstreamRateLimited("x", upstream_status=429, retry_after_s=20)
    with pytest.raises(CandidatesExhausted):
        pool.dispatch([A], {"a/one": limited}, max_wait_s=50)
    assert pool.handle.waits == [pytest.approx(20.02)] * 2 and len(pool.calls) == 3


def test_where_all_seats_are_taken_nobody_else_waits(pool):
    limited = UpstreamRateLimited("x", upstream_status=429, retry_after_s=5)
    assert pool.seats.acquire(blocking=False)
    with pytest.raises(CandidatesExhausted):
        pool.dispatch([A], {"a/one": limited}, max_wait_s=50)
    pool.seats.release()
    assert pool.dispatch([A], {"a/one": "ok"}, max_wait_s=50).value == "a/one"


def test_a_client_that_leaves_ends_its_wait(pool):
    limited = UpstreamRateLimited("x", upstream_status=429, retry_after_s=5)
    pool.handle.ended = "client_gone"
    with pytest.raises(ClientGone):
        pool.dispatch([A], {"a/one": limited}, max_wait_s=50)
    assert pool.seats.acquire(blocking=False)


def test_a_defect_of_ours_leaves_no_booking_open(pool):
    with pytest.raises(ZeroDivisionError):
        pool.dispatch([A], {"a/one": ZeroDivisionError()})
    assert pool.ledger.calls_in_flight(A) == 0


def test_a_wait_of_a_minute_at_most_is_left_to_sdks(pool):
    limited = candidate("a/m", limits={"rpm": 1})
    pool.dispatch([limited], {"a/m": "ok"})
    with pytest.raises(CandidatesExhausted) as raised:
        pool.dispatch([limited], {})
    assert raised.value.retry_after_s == 60 and raised.value.should_retry is None and raised.value.retry_at is None


def test_a_refused_provider_is_not_the_last_resort_either(pool):
    small, other = candidate("a/x", limits={"tpm": 5}), candidate("a/y")
    with pytest.raises(UpstreamRejected):
        pool.dispatch([small, other], {"a/y": UpstreamRejected("no", upstream_status=400), "a/x": "ok"}, prompt_tokens=50)
    assert pool.calls == ["a/y"]
