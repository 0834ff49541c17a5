"""What is known of every candidate at this moment, shared by the requests of one process for a moment.

A snapshot of the store is read at most every REFRESH_S, by the request that finds it old; the others go on with what is
there. What this process itself learns in between (a rest, a recovery, a lease, a reservation that was refused) is noted at
once, and again in a snapshot that was read before the store had it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from gateway.domain import Candidate
from gateway.routing import cooldown, headroom
from gateway.routing.evidence import UNKNOWN, Health, health_of
from gateway.routing.headroom import Quota
from gateway.routing.ranking import Merits, merits_of
from gateway.state.base import WRITE_BEHIND_S, Recovery, Rest, Snapshot, StateStore

REFRESH_S = 0.25  # how old the shared picture may be: what another worker learned is seen within this
REFRESH_PART = 0.02  # of a processor, at most, goes into reading the store: a large state is read less often,
RARELY_S = 1.0  # but as often as this
STALE_S = 2.0  # older than this it is waited for
BEHIND_S = 4 * WRITE_BEHIND_S  # for so long a snapshot may miss what this process wrote behind
PROBE_ANSWERS_S = 1.0  # when it is worth asking again whether a probe succeeded


@dataclass(frozen=True, slots=True)
class Out:
    """Why a candidate is not to be tried, and until when (epoch seconds; infinity: for good).

    `because` is "cooldown", "probing" (another call sees whether it is back), "quota", or "quota_too_small" for this one
    request. `for_quota`: a quota or a rate limit is the reason, so that `until` is a reset. `reason` is that of the rest
    which lasts longest, "" where nothing rests.
    """

    because: str
    until: float
    for_quota: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """One candidate as it stands: `out` None: it can be tried. `probes`: rests that are over but not yet proved so."""

    health: Health
    quotas: tuple[Quota, ...]
    merits: Merits
    out: Out | None = None
    probes: tuple[str, ...] = ()


class Moment:
    """One snapshot, and what follows from it for each candidate, worked out when it is asked for."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.rests = dict(snapshot.rests)
        self.leases = dict(snapshot.leases)
        self._standings: dict[str, tuple[Candidate, Standing]] = {}

    def standing(self, candidate: Candidate, now: float) -> Standing:
        """Return how a candidate stands at `now`, by the snapshot and what was noted since."""
        standings = self._standings  # what is worked out while another thread notes something goes with the old ones
        known = standings.get(candidate.id)
        if known and not (known[1].out and known[1].out.until <= now):
            return known[1]
        standing = self._work_out(candidate, max(now, self.snapshot.now))
        standings[candidate.id] = (candidate, standing)
        return standing

    def health(self, model_name: str) -> Health:
        evidence = self.snapshot.evidence.get(model_name)
        return UNKNOWN if evidence is None else health_of(evidence, self.snapshot.now)

    def note_rest(self, rest: Rest) -> None:
        """Take note of a scope's failures, unless later ones are known."""
        known = self.rests.get(rest.scope)
        if known is None or known.failed_at <= rest.failed_at:
            self.rests[rest.scope] = rest
            self._forget({rest.scope})

    def note_recoveries(self, recoveries: Iterable[Recovery]) -> None:
        for recovery in recoveries:
            known = self.rests.get(recovery.scope)
            if known and known.since <= recovery.began_at:
                self.rests.pop(recovery.scope, None)
                self._forget({recovery.scope})

    def note_lease(self, names: Iterable[str], until: float) -> None:
        self.leases.update(dict.fromkeys(names, until))
        self._forget(names)

    def note_release(self, names: Iterable[str]) -> None:
        for name in names:
            self.leases.pop(name, None)
        self._forget(names)

    def note_full(self, candidate: Candidate, standing: Standing, until: float) -> None:
        """Take note that a quota refused this candidate: it is out until then, or until the next snapshot."""
        self._standings[candidate.id] = (candidate, replace(standing, out=Out("quota", until, True)))

    def _forget(self, scopes: Iterable[str]) -> None:
        """Forget how those stand whom these scopes are about. A new dict: another thread may be working one out."""
        changed, known = set(scopes), self._standings.copy()  # in one step; while its items are listed, another may come
        self._standings = {id_: one for id_, one in known.items() if changed.isdisjoint(cooldown.scopes_over(one[0]))}

    def _work_out(self, candidate: Candidate, now: float) -> Standing:
        quotas = headroom.quotas_of(candidate, self.snapshot.counts, self.snapshot.limits, now)
        health = self.health(candidate.model.name)
        rests = [rest for scope in cooldown.scopes_over(candidate) if (rest := self.rests.get(scope)) and rest.until]
        probes = tuple(rest.scope for rest in rests if rest.until <= now)
        out = self._rest_out(rests, now) or self._quota_out(quotas) or self._probe_out(probes, now)
        return Standing(health, quotas, merits_of(candidate.model, health, headroom.share_left(quotas)), out, probes)

    def _rest_out(self, rests: list[Rest], now: float) -> Out | None:
        active = [rest for rest in rests if rest.until > now]
        if not active:
            return None
        longest = max(active, key=lambda rest: rest.until)
        return Out("cooldown", longest.until, all(map(cooldown.is_for_quota, active)), longest.reason)

    def _quota_out(self, quotas: tuple[Quota, ...]) -> Out | None:
        until = headroom.full_until(quotas)
        return None if until is None else Out("quota", until, True)

    def _probe_out(self, probes: tuple[str, ...], now: float) -> Out | None:
        probed = any(self.leases.get(scope, 0.0) > now for scope in probes)
        return Out("probing", now + PROBE_ANSWERS_S, False) if probed else None


Note = Callable[[Moment], None]


@dataclass(frozen=True, slots=True)
class Noted:
    """What this process did: the how manieth, and until when the store may not have kept it yet."""

    note: Note
    number: int
    until_mono: float


class Outlook:
    """The present moment. Thread-safe; `current` blocks as `StateStore.snapshot` does, and seldom.

    `busy` counts the seconds that this thread has worked.
    """

    def __init__(self, store: StateStore, monotonic: Callable[[], float], busy: Callable[[], float] = time.thread_time) -> None:
        self._store = store
        self._monotonic = monotonic
        self._busy = busy
        self._refreshing = threading.Lock()
        self._noting = threading.Lock()
        self._notes: list[Noted] = []
        self._noted = 0
        self._moment: Moment | None = None
        self._read_at_mono = 0.0
        self._good_for_s = REFRESH_S
        self._cost_s = 0.0

    def current(self, *, fresh: bool = False) -> Moment:
        """Return the picture, not older than it may be unless somebody is just reading it. `fresh`: read it anew."""
        moment, age_s = self._moment, self._age_s()
        if moment is not None and age_s < self._good_for_s and not fresh:
            return moment
        if moment is None or fresh or age_s > STALE_S:
            with self._refreshing:
                return self._refresh() if fresh else self._refresh_if_old()
        if not self._refreshing.acquire(blocking=False):
            return moment
        try:
            return self._refresh_if_old()
        finally:
            self._refreshing.release()

    def note(self, note: Note, *, behind_s: float = 0.0) -> None:
        """Take note of what the store was told, in the present picture and in the next if that may miss it.

        `behind_s`: how long the store may take to keep it, BEHIND_S for what is written behind.
        """
        with self._noting:
            self._notes.append(Noted(note, self._noted, self._monotonic() + behind_s))
            self._noted += 1
            if self._moment is not None:
                note(self._moment)

    def _age_s(self) -> float:
        return self._monotonic() - self._read_at_mono

    def _refresh_if_old(self) -> Moment:
        if self._moment is not None and self._age_s() < self._good_for_s:
            return self._moment  # somebody else read it while this thread waited
        return self._refresh()

    def _refresh(self) -> Moment:
        began, before_s = self._busy(), self._cost_s
        asked_mono, first = self._monotonic(), self._noted
        moment = Moment(self._store.snapshot())
        self._cost_s = self._busy() - began
        usual_s = min(before_s, self._cost_s)  # once it may be something else that takes long
        self._good_for_s = min(RARELY_S, max(REFRESH_S, usual_s / REFRESH_PART))
        with self._noting:
            self._notes = [noted for noted in self._notes if noted.number >= first or noted.until_mono > asked_mono]
            for noted in self._notes:
                noted.note(moment)
            self._moment, self._read_at_mono = moment, self._monotonic()
        return moment


def iso(epoch_s: float | None) -> str | None:
    """Return a moment in ISO 8601, None for none and for what never comes.

    In whole seconds, rounded up as Retry-After is: who comes back then does not come too early.
    """
    if epoch_s is None or math.isinf(epoch_s):
        return None
    return datetime.fromtimestamp(math.ceil(epoch_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
