"""What attempts mean for the state that all workers share: reservations, probes, failures, and what is learned.

The store's verbs in terms of candidates. An attempt begins with `begin`, which gives a booking, and ends in the first of
`failed`, `ended`, `empty`, `broken` and `abandoned`: what comes after that changes nothing, so that whoever holds a
booking can make sure of its end. An answer is `answered` in between.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway.domain import Candidate, QuotaReading, Usage
from gateway.errors import UpstreamError, UpstreamReset, UpstreamTimeout
from gateway.routing import cooldown, evidence, headroom
from gateway.routing.evidence import Health
from gateway.routing.headroom import Demand
from gateway.routing.outlook import BEHIND_S, PROBE_ANSWERS_S, Moment, Out, Outlook, Standing
from gateway.routing.probes import PROBE_S, Probe, Probes
from gateway.routing.ranking import Scorer
from gateway.routing.shortlist import Shortlists
from gateway.state.base import Change, Charge, Failure, Reading, Recovery, Refusal, Reservation, Rest, StateStore
from gateway.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks, whoever serves it.

    `output_tokens`: the most that the client will take of each of its `answers`, None: any. `streams`: it waits for a first
    token only.
    """

    prompt_tokens: int = 0
    output_tokens: int | None = None
    answers: int = 1
    inputs: int = 0  # texts to embed or to score
    streams: bool = False


@dataclass(slots=True, eq=False)
class Booking:
    """An attempt under way: what it took in advance, and since when (the store's epoch seconds, and monotonic ones).

    `disproved`: which failures the answer makes up for once it is whole. `closes`: what failed before is over then; with a
    `trial`, if it is the second in a row. The ledger closes it (`open` False), once.
    """

    candidate: Candidate
    charges: tuple[Charge, ...]
    probe: Probe | None
    asked: Asked
    began_at: float
    began_mono: float
    trial: bool = False
    closes: bool = False
    disproved: Sequence[Recovery] = ()
    open: bool = True


class Ledger:
    """Thread-safe; blocks as the store does. `telemetry` is told of the end of each attempt."""

    def __init__(
        self, store: StateStore, monotonic: Callable[[], float] = time.monotonic, *, telemetry: Telemetry | None = None
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._telemetry = telemetry or Telemetry()
        self._outlook = Outlook(store, monotonic)
        self._shortlists = Shortlists()
        self._probes = Probes(store, monotonic)
        self._in_flight: dict[str, int] = {}
        self._waiting: dict[str, dict[Booking, None]] = {}  # by model: those without an answer yet, the oldest first
        self._heard_mono: dict[str, float] = {}  # by model: when it last answered this process
        self._answered_at: dict[str, float] = {}  # by provider: when it last answered this process
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the time of everything in here: the store's epoch seconds."""
        return self._store.now()

    def moment(self, *, fresh: bool = False) -> Moment:
        """Return what is known now, at most a quarter of a second old; `fresh`: read anew."""
        return self._outlook.current(fresh=fresh)

    def standing(self, candidate: Candidate) -> Standing:
        """Return how a candidate stands now."""
        return self.moment().standing(candidate, self.now())

    def parts(self, group: Sequence[Candidate], scorer: Scorer) -> Iterator[Sequence[Candidate]]:
        """Yield the candidates of a group in parts to be ranked one after the other, the best first as far as is known."""
        return self._shortlists.parts(group, scorer, self.moment(), self.now())

    def calls_in_flight(self, candidate: Candidate) -> int:
        """Return how many calls of this process run on a candidate."""
        return self._in_flight.get(candidate.id, 0)

    def silent_models(self) -> set[str]:
        """Return the names of models for which calls of this process wait longer than usual, and none was answered meanwhile.

        One that is only slow with one call has answered another since.
        """
        if not self._waiting:
            return set()
        moment, now_mono = self.moment(), self._monotonic()
        with self._lock:
            oldest = [next(iter(bookings)) for bookings in self._waiting.values()]
        return {name for booking in oldest if self._is_silent(name := booking.candidate.model.name, booking, moment, now_mono)}

    def _is_silent(self, name: str, oldest: Booking, moment: Moment, now_mono: float) -> bool:
        waits_s = now_mono - max(oldest.began_mono, self._heard_mono.get(name, 0.0))
        if waits_s <= evidence.LEAST_USUAL_S:
            return False
        return waits_s > evidence.usual_s(moment.health(name), streams=oldest.asked.streams)

    # --- the beginning of an attempt -----------------------------------------------------------------------------------

    def begin(
        self, candidate: Candidate, asked: Asked, *, insist: bool = False, capped: bool = False, trial: bool = False
    ) -> Booking | Out:
        """Take headroom, and the probe where a rest has just ended; or return why this candidate is not to be tried.

        `insist`: a rest that this request itself caused does not count. `capped`: take no more of a quota than there is
        of it at all, though the request seems larger. `trial`: two whole answers in a row show that what failed is over.
        """
        moment = self.moment()
        standing = moment.standing(candidate, self.now())
        if standing.out and not (insist and standing.out.because in ("cooldown", "probing")):
            return standing.out
        probe = None
        if standing.probes and not insist:
            probe = self._probe(standing.probes)
            if probe is None:
                return Out("probing", self.now() + PROBE_ANSWERS_S, False)
        demand = demand_of(asked, candidate, standing.health)
        charges = headroom.build_charges(candidate, standing.quotas, demand, self.now(), capped=capped)
        scarce, ample = headroom.split_by_scarcity(charges, standing.quotas)
        taken = self._store.reserve(scarce) if scarce else Reservation()
        if isinstance(taken, Refusal):
            self._store.write(self._released(probe))
            return self._refused(moment, candidate, standing, taken)
        if ample:
            self._store.write(headroom.build_counts(ample))
        booking = Booking(candidate, (*taken.charges, *ample), probe, asked, self.now(), self._monotonic(), trial)
        self._count(booking, 1)
        return booking

    def _probe(self, scopes: tuple[str, ...]) -> Probe | None:
        probe, until = self._probes.begin(scopes), self.now() + PROBE_S
        self._outlook.note(lambda moment: moment.note_lease(scopes, until))  # somebody's, if not ours
        return probe

    def _released(self, probe: Probe | None) -> list[Change]:
        releases = self._probes.end(probe) if probe else []
        if probe and releases:
            self._outlook.note(lambda moment: moment.note_release(probe.scopes), behind_s=BEHIND_S)
        return releases

    def _refused(self, moment: Moment, candidate: Candidate, standing: Standing, refusal: Refusal) -> Out:
        if refusal.fits_at is None:
            return Out("quota_too_small", float("inf"), True)
        if refusal.charge.amount <= 1:  # nobody else's request would fit either
            moment.note_full(candidate, standing, refusal.fits_at)
        return Out("quota", refusal.fits_at, True)

    # --- its end -------------------------------------------------------------------------------------------------------

    def failed(self, booking: Booking, error: UpstreamError) -> Rest | None:
        """Record a failed attempt; return the failures of what it speaks about, None where it says nothing of the next call."""
        if not booking.open:
            return None
        candidate = booking.candidate
        # A provider that went silent or broke off has read the prompt; one that refused has not.
        read = isinstance(error, UpstreamReset | UpstreamTimeout) and error.cooldown_scope == "model"
        changes = self._settled(booking, Usage(booking.asked.prompt_tokens if read else 0))
        changes += self._readings(candidate, error.quota)
        if error.hurts_health:
            changes.append(evidence.lesson_of_failure(candidate.model.name))
        rest = self._close_failed(booking, error, changes)
        self._rest_where_spent(candidate, error.quota)
        return rest

    def broken(self, booking: Booking, error: UpstreamError, usage: Usage) -> None:
        """Record a stream that broke after it had begun to answer."""
        if not booking.open:
            return
        changes = self._settled(booking, usage)
        changes.append(evidence.lesson_of_failure(booking.candidate.model.name))
        self._close_failed(booking, error, changes, broke=True)

    def empty(self, booking: Booking) -> None:
        """Record an answer with nothing in it: the upstream is there. Whether that was a failure, others show."""
        self._close(booking, self._settled(booking, Usage(booking.asked.prompt_tokens)), "failed:empty")

    def should_have_spoken(self, candidates: Sequence[Candidate]) -> None:
        """Record that another had something to say where these answered with nothing."""
        self._store.write([evidence.lesson_of_failure(candidate.model.name) for candidate in candidates])

    def abandoned(self, booking: Booking, usage: Usage) -> None:
        """Record an attempt that nobody waits for any more: it says nothing of anybody's health."""
        self._close(booking, self._settled(booking, usage), "abandoned")

    def answered(self, booking: Booking, quota: Sequence[QuotaReading], *, ttft_s: float | None) -> None:
        """Record that a candidate answers, which ends its rests. `ttft_s` None: the answer was not streamed.

        Failures in a row, and the rests that broken answers made, end with the answer: it may break too.
        """
        candidate, rests, now = booking.candidate, self.moment().rests, self.now()
        self._answered_at[candidate.provider.key] = now
        self._heard_mono[candidate.model.name] = self._monotonic()
        self._waits_no_more(booking)
        known = [rest for scope in cooldown.scopes_over(candidate) if (rest := rests.get(scope))]
        over = [rest for rest in known if cooldown.ends_at_first_token(rest)]
        open_ = [rest for rest in known if not cooldown.ends_at_first_token(rest)]
        booking.disproved = _disproved(open_, booking, now)
        booking.closes = _probed(open_, booking)
        lesson = evidence.lesson_of_success(candidate.model.name, ttft_s=ttft_s, closes=_probed(over, booking))
        changes: list[Change] = [*self._recovered(_disproved(over, booking, now)), lesson, *self._readings(candidate, quota)]
        if not any(rest.until for rest in open_):
            changes += self._released(booking.probe)
            booking.probe = None
        self._store.write(changes)
        self._rest_where_spent(candidate, quota)

    def ended(self, booking: Booking, usage: Usage, *, ttft_s: float | None) -> None:
        """Record that an answer is complete. `ttft_s` None: it came in one piece."""
        name = booking.candidate.model.name
        took_s = self._monotonic() - booking.began_mono
        whole_s = took_s if ttft_s is None else None
        lesson = evidence.lesson_of_end(
            name,
            usage,
            booking.asked.prompt_tokens,
            answers=booking.asked.answers,
            whole_s=whole_s,
            speaking_s=took_s if ttft_s is None else took_s - ttft_s,
            closes=booking.closes or (booking.trial and self.moment().health(name).passed_trial),
            is_trial=booking.trial,
        )
        self._close(booking, [*self._settled(booking, usage), *self._recovered(booking.disproved), lesson], "ok")

    def _recovered(self, recoveries: Sequence[Recovery]) -> Sequence[Recovery]:
        if recoveries:
            self._outlook.note(lambda moment: moment.note_recoveries(recoveries), behind_s=BEHIND_S)
        return recoveries

    def _readings(self, candidate: Candidate, quota: Sequence[QuotaReading]) -> list[Reading]:
        return headroom.build_readings(candidate, quota, self.moment().snapshot.limits, self.now()) if quota else []

    def _rest_where_spent(self, candidate: Candidate, quota: Sequence[QuotaReading]) -> None:
        """Let a candidate rest until the reset of a window that has nothing left, where no quota of ours says so."""
        moment, now = self.moment(), self.now()
        until = headroom.spent_until(candidate, quota, moment.snapshot.limits, now) if quota else None
        if until is not None and until > now:
            self._fail(cooldown.spent(candidate, now, until - now))

    def _settled(self, booking: Booking, usage: Usage) -> list[Change]:
        return [*headroom.build_adjustments(booking.charges, usage, booking.candidate.model)]

    def _close_failed(self, booking: Booking, error: UpstreamError, changes: list[Change], *, broke: bool = False) -> Rest | None:
        candidate, moment = booking.candidate, self.moment()
        before = moment.health(candidate.model.name).answered_before
        failure = cooldown.failure_of(error, candidate, began_at=booking.began_at, answered_before=before, broke=broke)
        known = moment.rests.get(failure.scope) if failure else None
        # Two that waited side by side in vain, while nobody was answered, are no chance.
        unheard = isinstance(error, UpstreamTimeout) and self._heard_mono.get(candidate.model.name, 0.0) < booking.began_mono
        counts = failure is not None and (unheard or not cooldown.ran_beside(failure, known))
        rest = self._fail_and_spread(failure, candidate) if failure and counts else known
        if error.alerts_operator and rest and not (known and known.since == rest.since):
            self._telemetry.credential_refused(candidate, error.reason)
        probed = [scope for scope in booking.probe.scopes if not (failure and scope == failure.scope)] if booking.probe else []
        if failure and error.hurts_health:
            for scope in probed:
                self._fail(cooldown.failed_probe(scope, moment.rests.get(scope), failure))
        else:  # it did answer, if only to refuse: what they rested for is over
            changes += self._recovered([Recovery(scope, booking.began_at) for scope in probed])
        self._close(booking, changes, f"failed:{error.reason}", rested=bool(rest and rest.since >= booking.began_at))
        return rest

    def _fail(self, failure: Failure) -> Rest:
        rest = self._store.fail(failure)
        self._outlook.note(lambda moment: moment.note_rest(rest))
        return rest

    def _fail_and_spread(self, failure: Failure, candidate: Candidate) -> Rest:
        rest = self._fail(failure)
        known = list(self.moment().rests.values())  # other threads note theirs meanwhile
        # What failed before the provider answered again was one model's trouble, or one call's.
        answered_at = self._answered_at.get(candidate.provider.key, 0.0)
        models = f"model:{candidate.provider.key}/"
        siblings = [rest for rest in known if rest.scope.startswith(models) and rest.failed_at > answered_at]
        spreads = cooldown.provider_failure(failure, candidate, siblings, self.now())
        return self._fail(spreads) if spreads else rest

    def _close(self, booking: Booking, changes: Sequence[Change], outcome: str, *, rested: bool = False) -> None:
        if not booking.open:
            return
        booking.open = False
        self._waits_no_more(booking)
        self._count(booking, -1)
        self._store.write([*changes, *self._released(booking.probe)])
        ms = (self._monotonic() - booking.began_mono) * 1000
        self._telemetry.attempt_ended(booking.candidate, outcome, ms, rested=rested)

    def _count(self, booking: Booking, change: int) -> None:
        id_ = booking.candidate.id
        with self._lock:
            left = self._in_flight.get(id_, 0) + change
            if left > 0:
                self._in_flight[id_] = left
            else:
                self._in_flight.pop(id_, None)
            if change > 0:
                self._waiting.setdefault(booking.candidate.model.name, {})[booking] = None

    def _waits_no_more(self, booking: Booking) -> None:
        name = booking.candidate.model.name
        with self._lock:
            waiting = self._waiting.get(name, {})
            waiting.pop(booking, None)
            if not waiting:
                self._waiting.pop(name, None)


def _disproved(rests: Sequence[Rest], booking: Booking, now: float) -> list[Recovery]:
    return [Recovery(rest.scope, cooldown.disproved_since(rest, booking.began_at, now)) for rest in rests]


def _probed(rests: Sequence[Rest], booking: Booking) -> bool:
    """Whether an attempt began after one of these rests did, so that it saw whether that is over."""
    return any(rest.until and rest.since <= booking.began_at for rest in rests)


def demand_of(asked: Asked, candidate: Candidate, health: Health) -> Demand:
    """Return what a request will about take of a candidate: never all the tokens that it may, but those that it is like to.

    Where the provider itself reserves all that may come, so does the gateway, up to what a minute holds.
    """
    model = candidate.model
    prompt = round(asked.prompt_tokens * health.prompt_ratio)
    if model.kind != "chat":
        return Demand(prompt, 0, calls=-(-asked.inputs // (model.batch or max(1, asked.inputs))))
    most = min(asked.output_tokens or model.max_output_tokens or 1 << 30, model.max_output_tokens or 1 << 30)
    if model.reserves_output and asked.output_tokens:
        most *= asked.answers
        return Demand(prompt, max(0, min(most, model.limits.get("tpm", most) - prompt)))
    return Demand(prompt, min(most, round(health.answer_tokens)) * asked.answers)
