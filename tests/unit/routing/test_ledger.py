import pytest

from gateway.domain import QuotaReading, Usage
from gateway.errors import (
    StreamBroken,
    UpstreamCredentialRejected,
    UpstreamFailed,
    UpstreamModelFailed,
    UpstreamOverloaded,
    UpstreamPaymentRequired,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.routing.evidence import UNKNOWN, Health
from gateway.routing.ledger import Asked, Booking, Ledger, demand_of
from gateway.routing.outlook import REFRESH_S, Out
from gateway.routing.probes import EXTEND_EVERY_S, PROBE_S
from gateway.state.base import Charge, Failure
from gateway.state.memory import MemoryStore
from gateway.telemetry import Telemetry
from tests.unit.routing.conftest import Clock, candidate

ONE, OTHER = candidate("a/one"), candidate("a/other")
USUAL = Usage(10, 5)


class Bench:
    """Two workers with one store and one clock."""

    def __init__(self):
        self.clock = Clock()
        self.store = MemoryStore(self.clock)
        self.one, self.two = (Ledger(self.store, self.clock) for _ in range(2))

    def begin(self, ledger=None, who=ONE, **asked):
        self.clock.now += REFRESH_S  # as it is between requests: every worker looks anew
        return (ledger or self.one).begin(who, Asked(**({"prompt_tokens": 10} | asked)))

    def fail(self, error, who=ONE, ledger=None):
        booking = self.begin(ledger, who)
        assert isinstance(booking, Booking), booking
        return (ledger or self.one).failed(booking, error)

    def succeed(self, who=ONE, ledger=None, usage=USUAL, quota=()):
        booking = self.begin(ledger, who)
        assert isinstance(booking, Booking), booking
        self.one.answered(booking, quota, ttft_s=None)
        self.one.ended(booking, usage, ttft_s=None)

    def used(self, counter):
        return sum(slot.used for slot in self.store.snapshot().counts.get(counter, ()))


@pytest.fixture
def bench():
    return Bench()


def because(begun):
    return begun.because if isinstance(begun, Out) else None


def test_what_one_worker_learns_the_other_knows_a_moment_later(bench):
    bench.fail(UpstreamUnreachable("x"))
    assert because(bench.begin(bench.two)) == "cooldown"


def test_what_is_ample_is_counted_without_asking_the_store(bench, monkeypatch):
    rich = candidate("a/rich", limits={"rpd": 20_000, "tpd": 10_000_000})
    monkeypatch.setattr(bench.store, "reserve", None)
    bench.succeed(rich, usage=Usage(20, 30))
    assert (bench.used(f"{rich.id}|rpd"), bench.used(f"{rich.id}|tpd")) == (1, 50)


def test_after_a_rest_one_call_probes_and_no_other_of_any_worker(bench):
    bench.fail(UpstreamUnreachable("x"))
    bench.clock.now += 10
    assert isinstance(bench.begin(bench.one), Booking)
    assert because(bench.begin(bench.one)) == because(bench.begin(bench.two)) == "probing"


def test_a_probe_whose_worker_died_ends_by_itself(bench):
    bench.fail(UpstreamUnreachable("x"))
    bench.clock.now += 10
    bench.begin(bench.one)
    bench.clock.now += PROBE_S - 1
    assert because(bench.begin(bench.two)) == "probing"
    bench.clock.now += 1
    assert isinstance(bench.begin(bench.two), Booking)


def test_a_probe_is_waited_for_as_long_as_it_takes_and_no_failure_of_another_call_ends_it(bench):
    early = bench.begin(bench.two)
    bench.fail(UpstreamUnreachable("x"))
    bench.clock.now += 10
    probe = bench.begin(bench.one)
    bench.two.failed(early, UpstreamUnreachable("x"))  # from before the rest
    for _ in range(20):
        bench.clock.now += EXTEND_EVERY_S
        bench.one._probes.extend()
        assert because(bench.begin(bench.two)) == "probing"
    bench.one.failed(probe, UpstreamUnreachable("x"))
    assert because(bench.begin(bench.two)) == "cooldown"


@pytest.mark.parametrize("end", ["empty", "answered", "abandoned", "failed"])
def test_every_end_of_a_probe_gives_its_lease_back(bench, end):
    bench.fail(UpstreamUnreachable("x"))
    bench.clock.now += 10
    probe = bench.begin(bench.one)
    assert bench.store.snapshot().leases
    if end == "empty":
        bench.one.empty(probe)
    elif end == "answered":  # a stream goes on, but the provider is back
        bench.one.answered(probe, (), ttft_s=0.1)
    elif end == "abandoned":
        bench.one.abandoned(probe, Usage())
    else:
        bench.one.failed(probe, UpstreamUnreachable("x"))
    assert not bench.store.snapshot().leases and not bench.one.moment().leases


def test_what_a_worker_learns_while_it_looks_is_not_forgotten(bench):
    bench.succeed()
    begun = bench.begin()
    read = bench.store.snapshot

    def slowly():
        snapshot = read()
        bench.store.snapshot = read
        bench.one.failed(begun, UpstreamUnreachable("x"))  # another thread, just now
        return snapshot

    bench.store.snapshot = slowly
    bench.one.moment(fresh=True)
    assert because(bench.one.begin(ONE, Asked(10))) == "cooldown"


def test_a_success_ends_the_rest_for_everybody(bench):
    bench.fail(UpstreamUnreachable("x"))
    bench.clock.now += 10
    bench.succeed()
    assert isinstance(bench.begin(bench.two), Booking) and isinstance(bench.begin(bench.one, OTHER), Booking)
    assert not bench.store.snapshot().rests


def test_a_failed_probe_rests_longer_each_time_and_half_a_minute_at_most(bench):
    seconds = []
    for _ in range(5):
        rest = bench.fail(UpstreamUnreachable("x"))
        seconds.append(round(rest.until - bench.clock.now))
        bench.clock.now = rest.until
    assert seconds == [10, 20, 30, 30, 30]


def test_calls_that_began_before_the_rest_add_nothing(bench):
    early = [bench.begin() for _ in range(5)]
    bench.clock.now += 1
    rests = [bench.one.failed(booking, UpstreamUnreachable("x")) for booking in early]
    assert {rest.failures for rest in rests} == {1} and {rest.until for rest in rests} == {bench.clock.now + 10}


def test_failures_of_calls_that_ran_beside_one_another_are_not_two_in_a_row(bench):
    bench.succeed()
    beside = [bench.begin() for _ in range(4)]
    for booking in beside:
        bench.clock.now += 0.1
        rest = bench.one.failed(booking, UpstreamFailed("x", upstream_status=500))
        assert (rest.failures, rest.until) == (1, 0)
    rest = bench.fail(UpstreamFailed("x", upstream_status=500))
    assert (rest.failures, rest.until) == (2, bench.clock.now + 10)


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (UpstreamFailed("x", upstream_status=500), False),
        (UpstreamTimeout("x", phase="first_token"), False),
        (UpstreamOverloaded("x", upstream_status=503), True),  # it lets in nobody new, and goes on with those inside
        (UpstreamUnreachable("x"), True),
        (UpstreamRateLimited("x", retry_after_s=30), True),
        (UpstreamCredentialRejected("x"), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_answer_that_was_asked_for_before_a_rest_disproves_one_of_failures_in_a_row(bench, error, stays):
    bench.succeed()
    early = bench.begin()
    for _ in range(2):
        if isinstance(booking := bench.begin(), Booking):
            bench.one.failed(booking, error)
    assert because(bench.begin(bench.two)) == "cooldown"
    bench.one.answered(early, (), ttft_s=None)
    assert (because(bench.one.begin(ONE, Asked(10))) == "cooldown") is stays  # at once
    assert (because(bench.begin(bench.two)) == "cooldown") is stays


@pytest.mark.parametrize(("streams", "seconds"), [(True, 1.0), (False, 8.0)])
def test_a_model_is_silent_when_calls_wait_longer_than_it_ever_takes_and_none_is_answered(bench, streams, seconds):
    for _ in range(5):  # its first token comes soon, a whole answer takes eight seconds
        stream, whole = bench.begin(), bench.begin()
        bench.one.answered(stream, (), ttft_s=0.3)
        bench.one.ended(stream, USUAL, ttft_s=0.3)
        bench.clock.now += 8 - REFRESH_S
        bench.one.answered(whole, (), ttft_s=None)
        bench.one.ended(whole, USUAL, ttft_s=None)
    bench.begin(streams=streams)
    other = bench.begin(streams=streams)
    bench.clock.now += seconds - 2 * REFRESH_S
    assert not bench.one.silent_models()
    bench.clock.now += 3 * REFRESH_S
    assert bench.one.silent_models() == {"a/one"} and not bench.two.silent_models()
    bench.one.answered(other, (), ttft_s=0.3)  # it was slow with one call
    assert not bench.one.silent_models()


def test_nobody_is_silent_for_whom_no_call_waits(bench):
    for end in (lambda b: bench.one.abandoned(b, Usage()), lambda b: bench.one.answered(b, (), ttft_s=0.1)):
        booking = bench.begin(streams=True)
        end(booking)
        bench.clock.now += 100
        assert not bench.one.silent_models()


@pytest.mark.parametrize("heard", [True, False])
def test_calls_that_waited_side_by_side_in_vain_are_two_in_a_row_where_nobody_was_answered(bench, heard):
    bench.succeed()
    beside = [bench.begin() for _ in range(3)]
    if heard:
        bench.one.answered(beside.pop(), (), ttft_s=None)
    bench.clock.now += 10
    rests = [bench.one.failed(booking, UpstreamTimeout("x", phase="first_token")) for booking in beside[:2]]
    assert bool(rests[-1].until) is not heard


def broken(bench, who=ONE):
    """A stream that broke after its first token."""
    booking = bench.begin(who=who)
    assert isinstance(booking, Booking), booking
    bench.one.answered(booking, (), ttft_s=0.1)
    bench.clock.now += 2
    bench.one.broken(booking, StreamBroken("x"), USUAL)


def test_streams_that_break_rest_their_model_at_the_second_in_a_row(bench):
    bench.succeed()
    broken(bench)
    assert isinstance(bench.begin(bench.two), Booking)
    broken(bench)
    assert because(bench.begin(bench.two)) == "cooldown"


def test_a_whole_answer_between_two_that_broke_makes_up_for_the_first(bench):
    bench.succeed()
    broken(bench)
    bench.succeed()
    broken(bench)
    assert isinstance(bench.begin(bench.two), Booking)


def test_the_first_token_does_not_end_a_rest_that_broken_streams_made(bench):
    bench.succeed()
    for _ in range(2):
        broken(bench)
    bench.clock.now += 10
    probe = bench.begin()
    bench.one.answered(probe, (), ttft_s=0.1)
    assert because(bench.begin(bench.two)) == "probing"
    bench.one.broken(probe, UpstreamTimeout("x", phase="idle"), USUAL)
    assert bench.store.snapshot().rests["model:a/one"].until == bench.clock.now + 20
    bench.clock.now += 20
    bench.succeed()
    assert not bench.store.snapshot().rests and bench.one.moment(fresh=True).health("a/one").success_rate == 1.0


def test_a_stream_that_breaks_after_its_provider_answered_a_probe_does_not_rest_the_provider_again(bench):
    bench.succeed()
    bench.fail(UpstreamUnreachable("x"))
    bench.clock.now += 10
    broken(bench)
    assert set(bench.store.snapshot().rests) == {"model:a/one"}


def fails_lightly(bench):  # without a rest
    bench.fail(UpstreamModelFailed("x"))


@pytest.mark.parametrize("trial", [True, False])
def test_two_trials_in_a_row_erase_what_failed_once_the_answers_are_whole(bench, trial):
    rate = lambda: bench.one.moment(fresh=True).health("a/one").success_rate  # noqa: E731
    fails_lightly(bench)
    for before, after in ((1 / 2, 1 / 2), (2 / 3, 1 if trial else 2 / 3)):
        bench.clock.now += REFRESH_S
        booking = bench.one.begin(ONE, Asked(10), trial=trial)
        bench.one.answered(booking, (), ttft_s=0.1)
        assert rate() == pytest.approx(before, abs=0.01)
        bench.one.ended(booking, USUAL, ttft_s=0.1)
        assert rate() == pytest.approx(after, abs=0.01)


def test_a_failure_between_two_trials_begins_the_row_anew(bench):
    for fails in (True, True, False):
        if fails:
            fails_lightly(bench)
        bench.clock.now += REFRESH_S
        booking = bench.one.begin(ONE, Asked(10), trial=True)
        bench.one.answered(booking, (), ttft_s=None)
        bench.one.ended(booking, USUAL, ttft_s=None)
        assert (bench.one.moment(fresh=True).health("a/one").success_rate == 1) is not fails


def test_an_answer_that_disproves_a_rest_does_not_make_up_for_what_failed(bench):
    bench.succeed()
    early = bench.begin()
    for _ in range(2):
        bench.fail(UpstreamFailed("x", upstream_status=500))
    bench.one.answered(early, (), ttft_s=None)
    assert bench.one.moment(fresh=True).health("a/one").success_rate == pytest.approx(0.5, abs=0.01)


def test_a_success_that_began_before_a_rate_limit_does_not_end_it(bench):
    early = bench.begin()
    bench.fail(UpstreamRateLimited("x", retry_after_s=30))
    bench.one.answered(early, (), ttft_s=None)
    bench.one.ended(early, Usage(), ttft_s=None)
    assert because(bench.begin(bench.two)) == because(bench.begin(bench.one)) == "cooldown"


def test_a_probe_that_meets_another_refusal_ends_the_old_rest(bench):
    bench.fail(UpstreamUnreachable("x"))
    bench.clock.now += 10
    bench.fail(UpstreamCredentialRejected("x", upstream_status=401))
    assert set(bench.store.snapshot().rests) == {ONE.credential.id}


def test_a_probe_that_fails_in_another_way_rests_what_it_probed_again(bench):
    bench.succeed()
    bench.fail(UpstreamUnreachable("x"))
    bench.clock.now += 10
    bench.fail(UpstreamFailed("x", upstream_status=500))
    rests = bench.store.snapshot().rests
    assert rests["provider:a"].until == bench.clock.now + 20 and rests["model:a/one"].until == 0


def test_a_refused_request_ends_a_probe_well(bench):
    bench.fail(UpstreamRateLimited("x", retry_after_s=1))
    bench.clock.now += 1
    bench.fail(UpstreamRejected("x", upstream_status=400))
    assert not bench.store.snapshot().rests


def test_a_probe_that_nobody_waited_for_lets_the_next_call_probe(bench):
    bench.fail(UpstreamUnreachable("x"))
    bench.clock.now += 10
    bench.one.abandoned(bench.begin(), Usage(10))
    assert isinstance(bench.begin(bench.two), Booking)


def test_two_models_of_a_provider_that_fail_together_rest_it(bench):
    for who in (ONE, OTHER):
        bench.succeed(who)
    bench.fail(UpstreamFailed("x", upstream_status=500))
    assert "provider:a" not in bench.store.snapshot().rests
    bench.fail(UpstreamTimeout("x", phase="first_token"), OTHER, bench.two)
    assert because(bench.begin(bench.one, candidate("a/third"))) == "cooldown"


def test_a_used_up_minute_is_out_and_says_until_when(bench):
    limited = candidate("a/m", limits={"rpm": 2})
    first = bench.clock.now + REFRESH_S
    for ledger in (bench.one, bench.two):
        assert isinstance(bench.begin(ledger, limited), Booking)
    for ledger in (bench.one, bench.two):
        out = bench.begin(ledger, limited)
        assert because(out) == "quota" and out.until == pytest.approx(first + 61, abs=0.6)


def test_a_request_larger_than_a_whole_window_is_told_apart(bench):
    limited = candidate("a/m", limits={"tpm": 100}, max_output_tokens=10)
    assert because(bench.begin(who=limited, prompt_tokens=500)) == "quota_too_small"
    bench.clock.now += REFRESH_S
    assert isinstance(bench.one.begin(limited, Asked(500), capped=True), Booking)


@pytest.mark.parametrize(
    ("error", "tokens"),
    [
        (UpstreamFailed("x", upstream_status=500), 0),
        (UpstreamRateLimited("x", upstream_status=429), 0),
        (UpstreamUnreachable("x"), 0),
        (UpstreamTimeout("x", phase="first_token"), 10),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failed_call_gives_back_the_tokens_that_were_not_read(bench, error, tokens):
    limited = candidate("a/m", limits={"tpm": 1000, "rpm": 10})
    bench.fail(error, limited)
    assert bench.used(f"{limited.id}|tpm") == tokens and bench.used(f"{limited.id}|rpm") == 1


def test_real_usage_replaces_the_estimate(bench):
    limited = candidate("a/m", limits={"tpm": 1000})
    bench.begin(who=limited)
    assert bench.used(f"{limited.id}|tpm") == 310
    bench.succeed(limited, usage=Usage(12, 30))
    assert bench.used(f"{limited.id}|tpm") == 310 + 42


def test_remaining_nothing_stops_calls_until_the_providers_reset(bench):
    limited = candidate("a/m", limits={"rpd": 100}, clock="rolling")
    bench.succeed(limited, quota=[QuotaReading("rpd", 100, 0, 86.4)])
    assert because(bench.begin(bench.two, limited)) == "quota"
    bench.clock.now += 87
    assert isinstance(bench.begin(bench.two, limited), Booking)


def test_remaining_nothing_of_an_accounts_quota_stops_calls_of_all_its_models(bench):
    account = {"rpd": 50}
    one, other = (candidate(name, account_limits=account) for name in ("a/one", "a/other"))
    spent = UpstreamQuotaExhausted("x", upstream_status=429, retry_after_s=1)
    spent.quota = [QuotaReading("rpd", 50, 0, 600.0)]
    bench.fail(spent, one)
    out = bench.begin(bench.two, other)
    assert because(out) == "quota" and out.until == pytest.approx(bench.clock.now + 600, abs=1)
    assert bench.used(f"{one.credential.id}|rpd") == 50
    bench.clock.now += 601
    assert isinstance(bench.begin(bench.two, other), Booking)


@pytest.mark.parametrize("how", ["answered", "failed"])
def test_remaining_nothing_of_an_unknown_limit_stops_calls_until_its_reset(bench, how):
    told = [QuotaReading("rpm", None, 0, 40.0)]
    if how == "answered":
        bench.succeed(quota=told)
    else:
        limited = UpstreamRateLimited("x", upstream_status=429, retry_after_s=1)
        limited.quota = told
        bench.fail(limited)
    for ledger in (bench.one, bench.two):
        out = bench.begin(ledger)
        assert because(out) == "cooldown" and out.for_quota and out.until > bench.clock.now + 38
    assert isinstance(bench.begin(bench.two, OTHER), Booking)
    bench.clock.now += 40
    bench.succeed()
    assert not bench.store.snapshot().rests


def test_calls_in_flight_are_counted_until_their_end(bench):
    bookings = [bench.begin() for _ in range(3)]
    assert bench.one.calls_in_flight(ONE) == 3
    bench.one.abandoned(bookings[0], Usage())
    bench.one.failed(bookings[1], UpstreamRejected("x"))
    bench.one.answered(bookings[2], (), ttft_s=0.1)
    assert bench.one.calls_in_flight(ONE) == 1
    bench.one.ended(bookings[2], Usage(), ttft_s=0.1)
    assert bench.one.calls_in_flight(ONE) == 0


def test_the_callers_mistakes_and_leaving_clients_hurt_nobodys_health(bench):
    bench.succeed()
    before = bench.one.moment(fresh=True).health("a/one").success
    bench.fail(UpstreamRejected("x", upstream_status=400))
    bench.one.abandoned(bench.begin(), Usage())
    assert bench.one.moment(fresh=True).health("a/one").success == pytest.approx(before, rel=1e-3)


@pytest.mark.parametrize(
    ("asked", "row", "tokens"),
    [
        (Asked(100), {}, (100, 300)),  # what answers are like, not what they may be
        (Asked(100, 64000), {}, (100, 300)),
        (Asked(100, 50), {}, (100, 50)),
        (Asked(100), {"max_output_tokens": 20}, (100, 20)),
        (Asked(100, 64000), {"reserves_output": True, "limits": {"tpm": 8000}}, (100, 7900)),  # what the provider reserves
        (Asked(100, 500), {"reserves_output": True, "limits": {"tpm": 8000}}, (100, 500)),
        (Asked(100), {"reserves_output": True}, (100, 300)),
        (Asked(100, answers=3), {}, (100, 900)),
        (Asked(100, 50, answers=3), {}, (100, 150)),
        (Asked(100, 500, answers=3), {"reserves_output": True, "limits": {"tpm": 8000}}, (100, 1500)),
        (Asked(100, 5000, answers=3), {"reserves_output": True, "limits": {"tpm": 8000}}, (100, 7900)),
        (Asked(100, inputs=3), {"kind": "embedding"}, (100, 0)),
    ],
)
def test_a_request_is_expected_to_take_what_requests_are_like(asked, row, tokens):
    demand = demand_of(asked, candidate("a/m", **row), UNKNOWN)
    assert (demand.prompt_tokens, demand.output_tokens) == tokens and demand.calls == 1


def test_the_estimate_is_corrected_by_how_the_provider_counts():
    demand = demand_of(Asked(100), ONE, Health(prompt_ratio=1.2, answer_tokens=40.0))
    assert (demand.prompt_tokens, demand.output_tokens) == (120, 40)


def test_a_batch_of_texts_is_as_many_calls_as_the_provider_needs():
    assert demand_of(Asked(inputs=250), candidate("a/m", kind="embedding", batch=100), UNKNOWN).calls == 3


def test_two_workers_that_both_think_they_may_probe_are_told_apart_by_the_store(bench):
    bench.fail(UpstreamUnreachable("x"))
    bench.clock.now += 10
    for ledger in (bench.one, bench.two):
        ledger.moment(fresh=True)  # neither has seen the other's lease
    begun = [ledger.begin(ONE, Asked(10)) for ledger in (bench.one, bench.two)]
    assert isinstance(begun[0], Booking) and because(begun[1]) == "probing"


def test_a_probe_for_which_there_is_no_quota_is_given_back(bench):
    limited = candidate("a/m", limits={"tpm": 400})
    bench.fail(UpstreamUnreachable("x"), limited)
    bench.begin(who=candidate("a/m", limits={"tpm": 400}))  # takes what there is, after the rest
    bench.clock.now += 10
    bench.begin(bench.one, limited, prompt_tokens=90)
    bench.clock.now += PROBE_S + 1  # its probe's lease is over, its tokens are not quite
    bench.store.reserve([Charge(f"{limited.id}|tpm", 7, 300, 400, bench.clock.now + 60)])
    assert because(bench.begin(bench.one, limited, prompt_tokens=90)) == "quota"
    assert not bench.store.snapshot().leases


def test_a_request_that_finds_no_tokens_leaves_the_candidate_to_smaller_ones(bench):
    limited = candidate("a/m", limits={"tpm": 1000}, max_output_tokens=10)
    bench.begin(who=limited, prompt_tokens=500)
    assert because(bench.begin(who=limited, prompt_tokens=600)) == "quota"
    assert isinstance(bench.one.begin(limited, Asked(100)), Booking)


def test_single_failures_of_a_provider_that_answers_in_between_do_not_rest_it(bench):
    third = candidate("a/third")
    for who in (ONE, OTHER, third):
        bench.succeed(who)
    bench.fail(UpstreamFailed("x", upstream_status=500), ONE)
    bench.succeed(third)
    bench.clock.now += 1
    bench.fail(UpstreamFailed("x", upstream_status=500), OTHER)
    assert "provider:a" not in bench.store.snapshot().rests


def test_what_is_worked_out_while_a_rest_is_noted_does_not_hide_it(bench):
    moment = bench.one.moment(fresh=True)
    work_out = moment._work_out

    def slowly(who, now):
        standing = work_out(who, now)
        moment.note_rest(bench.store.fail(Failure("provider:a", "unreachable", now, (9.0,))))  # another thread, just now
        return standing

    moment._work_out = slowly
    moment.standing(ONE, bench.clock.now)
    moment._work_out = work_out
    assert moment.standing(ONE, bench.clock.now).out is not None


def test_a_refused_credential_is_told_once_for_each_rest(bench):
    told = []

    class Listener(Telemetry):
        def credential_refused(self, candidate, reason):
            told.append((candidate.credential.number, reason))

    ledger = Ledger(bench.store, bench.clock, telemetry=Listener())
    for booking in [bench.begin(ledger) for _ in range(3)]:
        ledger.failed(booking, UpstreamCredentialRejected("no", upstream_status=401))
    assert told == [(1, "credential")]
    bench.clock.now += 3601
    ledger.failed(bench.begin(ledger), UpstreamPaymentRequired("pay", upstream_status=402))
    assert told[1:] == [(1, "payment")]
    ledger.failed(bench.begin(ledger, candidate("b/m")), UpstreamFailed("x", upstream_status=500))
    assert len(told) == 2


ENDS = [
    (lambda ledger, booking: ledger.ended(booking, USUAL, ttft_s=None), "ok", False),
    (lambda ledger, booking: ledger.failed(booking, UpstreamRateLimited("x")), "failed:rate_limited", True),
    (lambda ledger, booking: ledger.failed(booking, UpstreamRejected("x")), "failed:rejected", False),
    (lambda ledger, booking: ledger.broken(booking, UpstreamTimeout("x", phase="idle"), USUAL), "failed:timeout", True),
    (lambda ledger, booking: ledger.empty(booking), "failed:empty", False),
    (lambda ledger, booking: ledger.abandoned(booking, USUAL), "abandoned", False),
]


@pytest.mark.parametrize(("end", "outcome", "rested"), ENDS, ids=[outcome for _, outcome, _ in ENDS])
def test_the_end_of_an_attempt_is_told_once(bench, end, outcome, rested):
    told = []

    class Listener(Telemetry):
        def attempt_ended(self, candidate, outcome, ms, *, rested=False):
            told.append((candidate, outcome, ms, rested))

    ledger = Ledger(bench.store, bench.clock, telemetry=Listener())
    booking = bench.begin(ledger)
    bench.clock.now += 2
    end(ledger, booking)
    assert told == [(ONE, outcome, 2000.0, rested)]
