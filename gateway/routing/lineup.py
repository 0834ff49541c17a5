"""Who may still be tried for one request, in which order, and who is out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from gateway.domain import Candidate, ReasoningEffort
from gateway.errors import UpstreamError, UpstreamRateLimited, UpstreamTimeout
from gateway.routing import cooldown
from gateway.routing.candidates import Plan
from gateway.routing.ledger import Ledger
from gateway.routing.outlook import Out
from gateway.routing.ranking import TRIAL_PART, Merits, left_behind, rank, scorer_for
from gateway.state.base import Rest

FAILURES_OF_A_PROVIDER = 2  # then `auto` tries another provider first


@dataclass(frozen=True, slots=True)
class Turn:
    """A candidate to try now.

    `insist`: although it rests, since this very request failed on it. `capped`: although the request seems larger than
    its quota, since nobody else is left. `trial`: to see whether its failures are over.
    """

    candidate: Candidate
    insist: bool = False
    capped: bool = False
    trial: bool = False


class Lineup:
    """The candidates of one plan as they stand for one request. `draw()` (from 0 to 1) decides among near-equals.

    They line up part by part: of thousands only those that may get a turn.
    """

    def __init__(self, plan: Plan, ledger: Ledger, effort: ReasoningEffort | None, draw: Callable[[], float]) -> None:
        self._plan = plan
        self._ledger = ledger
        self._scorer = scorer_for(plan.profile, effort)
        self._draw = draw
        self._failures: Counter[str] = Counter()  # by provider
        self.form()

    def form(self) -> None:
        """Decide from what is known now who is tried, in which order, and who is out."""
        self._again: Turn | None = None
        self._outs: dict[str, tuple[Candidate, Out]] = {}
        self._waiting: list[Candidate] = []
        self._oversized: list[Candidate] = []  # whose quota seems smaller than this request
        self._trials: set[str] = set()
        self._conditions: list[Callable[[Candidate], bool]] = []  # that this request met on its way
        self._behind = self._parts()
        self._call_up()

    def _parts(self) -> Iterator[list[Candidate]]:
        for group in self._plan.choices:
            for part in self._ledger.parts(group, self._scorer):
                yield self._ranked(part)

    def _ranked(self, part: Iterable[Candidate]) -> list[Candidate]:
        """Return candidates in the order to try them.

        One that may be back goes first, a single one; others like it go last, after those that keep other calls waiting. Now
        and then one is next that was left behind.
        """
        moment, now, silent = self._ledger.moment(), self._ledger.now(), self._ledger.silent_models()
        healthy: list[tuple[Candidate, float, Merits]] = []
        probes: list[tuple[Candidate, float]] = []
        for candidate in part:
            standing = moment.standing(candidate, now)
            if standing.out:
                self._outs[candidate.id] = (candidate, standing.out)
                continue
            score = self._scorer.score(candidate.model, standing.merits, self._ledger.calls_in_flight(candidate))
            if standing.probes:
                probes.append((candidate, score))
            else:
                healthy.append((candidate, score, standing.merits))
        back = rank(probes, self._draw)
        ranked = rank([(candidate, score) for candidate, score, _ in healthy], self._draw)
        if silent:
            ranked.sort(key=lambda candidate: candidate.model.name in silent)  # the others first, each in order
            healthy = [entry for entry in healthy if entry[0].model.name not in silent]
        return [*back[:1], *self._with_trial(ranked, healthy), *back[1:]]

    def _with_trial(self, ranked: list[Candidate], healthy: list[tuple[Candidate, float, Merits]]) -> list[Candidate]:
        if self._draw() < 1.0 - TRIAL_PART:
            return ranked
        behind = rank(left_behind(healthy), self._draw)
        self._trials.update(candidate.id for candidate in behind[:1])
        return [*behind[:1], *(candidate for candidate in ranked if candidate.id not in self._trials)]

    def _call_up(self, *, everybody: bool = False) -> None:
        """Have somebody wait, if there is anybody left. `everybody`: all who are left."""
        while everybody or not self._waiting:
            part = next(self._behind, None)
            if part is None:
                return
            self._waiting += [c for c in part if all(fits(c) for fits in self._conditions)]

    # --- who is next -------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> tuple[Candidate, ...]:
        """Everybody whose turn may still come, in order."""
        self._call_up(everybody=True)
        again = (self._again.candidate,) if self._again else ()
        return (*again, *self._waiting, *self._oversized)

    @property
    def is_over(self) -> bool:
        """Whether nobody is left."""
        self._call_up()
        return not (self._again or self._waiting or self._oversized)

    def next_turn(self) -> Turn | None:
        """Return whose turn it is; None where nobody is left."""
        if self._again:
            turn, self._again = self._again, None
            return turn
        self._call_up()
        if self._waiting:
            candidate = self._waiting.pop(self._position_of_next())
            return Turn(candidate, trial=candidate.id in self._trials)
        return Turn(self._oversized.pop(0), capped=True) if self._oversized else None

    def _position_of_next(self) -> int:
        """Return who is next: without a pinned order, a provider that failed twice comes after the others."""
        pinned = self._plan.pinned
        if self._waiting[0].id in pinned:
            return 0
        free = (entry for entry in enumerate(self._waiting) if entry[1].id not in pinned)
        good = (n for n, c in free if self._failures[c.provider.key] < FAILURES_OF_A_PROVIDER)
        return next(good, 0)

    # --- what came of a turn -------------------------------------------------------------------------------------------

    def refused(self, turn: Turn, out: Out) -> None:
        """Note that the candidate could not be asked."""
        self._outs[turn.candidate.id] = (turn.candidate, out)
        if out.because == "quota_too_small" and not turn.capped:
            self._oversized.append(turn.candidate)

    def asked(self, turn: Turn) -> None:
        """Note that the candidate is being asked: it is not out."""
        self._outs.pop(turn.candidate.id, None)

    def failed(self, turn: Turn, error: UpstreamError, rest: Rest | None) -> None:
        """Note that the candidate failed, and leave out everybody whom this failure rests too."""
        self._failures[turn.candidate.provider.key] += 1
        self.broke(turn.candidate, error)
        if not rest or rest.until <= self._ledger.now():
            return
        out = Out("cooldown", rest.until, isinstance(error, UpstreamRateLimited), rest.reason)
        for one in (turn.candidate, *self._waiting, *self._oversized):  # of the others the moment knows by now
            if rest.scope in cooldown.scopes_over(one):
                self._outs[one.id] = (one, out)
        self._keep(lambda c: rest.scope not in cooldown.scopes_over(c))

    def broke(self, candidate: Candidate, error: UpstreamError) -> None:
        """Leave a silent upstream alone, whichever credential is next: it is never asked twice."""
        if isinstance(error, UpstreamTimeout):
            scope = cooldown.scope_of(error, candidate)
            self._keep(lambda c: scope not in cooldown.scopes_over(c))

    def try_again(self, turn: Turn) -> None:
        """Let the same candidate go next once more."""
        self._again = replace(turn, insist=True)

    def keep_larger(self, turn: Turn) -> None:
        """Keep only those whose context window is larger than that of the candidate which failed."""
        self._keep(lambda c: c.model.context_window > turn.candidate.model.context_window)

    def keep_elsewhere(self, turn: Turn) -> None:
        """Keep only candidates of other providers."""
        self._keep(lambda c: c.provider.key != turn.candidate.provider.key)

    def _keep(self, fits: Callable[[Candidate], bool]) -> None:
        self._conditions.append(fits)
        self._waiting, self._oversized = list(filter(fits, self._waiting)), list(filter(fits, self._oversized))

    # --- who is out --------------------------------------------------------------------------------------------------

    @property
    def outs(self) -> Mapping[str, tuple[Candidate, Out]]:
        """Who is not to be tried and why, by the candidate's id."""
        self._call_up(everybody=True)
        return self._outs

    @property
    def soonest(self) -> float:
        """When the first of those who are out may be tried again (epoch seconds); infinity: never."""
        return min((out.until for _, out in self.outs.values()), default=float("inf"))
