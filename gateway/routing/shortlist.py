"""The best of a large group of candidates, so that a catalog of thousands of models costs a request next to nothing.

A small group is ranked whole by each request. Of a large one only the first part is, in the order that Shortlist keeps; the
next part follows when nobody of it is left. Each picture of the state (outlook.py) brings that order up to date a piece at a
time: who stands in front, whoever may be back, and a slice of all others.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from gateway.domain import Candidate
from gateway.routing.outlook import Moment
from gateway.routing.ranking import Scorer

WHOLE = 128  # up to so many are ranked whole: it takes a tenth of a millisecond
PART = 32  # of a larger group: more than one request can try, and enough near-equals to share the load
SLICES = 32  # pictures until everybody was looked at: some 8 seconds
MOST_KEPT = 64  # large groups, by who ranks them: names and needs that clients use

UNSEEN, BACK, OUT = 1.0, 2.0, -1.0  # no score is above 1: who was not seen yet is next, but after who may be back


class Shortlist:
    """The order of one large group. Thread-safe: who finds another looking goes on with the order as it is."""

    def __init__(self, group: Sequence[Candidate], scorer: Scorer) -> None:
        self.group = group
        self._scorer = scorer
        self._worth = [UNSEEN] * len(group)
        self._back_at: dict[int, float] = {}
        self._slice = 0
        self._seen: Moment | None = None
        self._looking = threading.Lock()
        self._positions = list(range(len(group)))
        self._order = tuple(group)

    def order(self, moment: Moment, now: float) -> Sequence[Candidate]:
        """Return all candidates, those first that seemed best when they were last looked at."""
        if moment is not self._seen and self._looking.acquire(blocking=False):
            try:
                self._look(moment, now)
                self._seen = moment
            finally:
                self._looking.release()
        return self._order

    def _look(self, moment: Moment, now: float) -> None:
        back = [position for position, at in self._back_at.items() if at <= now]
        for position in {*self._positions[:PART], *range(self._slice, len(self.group), SLICES), *back}:
            self._worth[position] = self._judge(position, moment, now)
        self._slice = (self._slice + 1) % SLICES
        self._positions.sort(key=self._worth.__getitem__, reverse=True)
        self._order = tuple([self.group[position] for position in self._positions])

    def _judge(self, position: int, moment: Moment, now: float) -> float:
        candidate = self.group[position]
        standing = moment.standing(candidate, now)
        self._back_at.pop(position, None)
        if standing.out:
            self._back_at[position] = standing.out.until
            return OUT
        score = self._scorer.score(candidate.model, standing.merits, 0)
        return BACK + score if standing.probes else score


class Shortlists:
    """The orders of all large groups that requests asked for lately. Thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], Shortlist] = OrderedDict()
        self._lock = threading.Lock()

    def parts(self, group: Sequence[Candidate], scorer: Scorer, moment: Moment, now: float) -> Iterator[Sequence[Candidate]]:
        """Yield a group in parts, the best first as far as is known: of a small group there is one."""
        if len(group) <= WHOLE:
            yield group
            return
        order = self._of(group, scorer).order(moment, now)
        for start in range(0, len(order), PART):
            yield order[start : start + PART]

    def _of(self, group: Sequence[Candidate], scorer: Scorer) -> Shortlist:
        key = (id(group), id(scorer))  # no other can have that: the list holds on to both
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = Shortlist(group, scorer)
            self._kept.move_to_end(key)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return found
