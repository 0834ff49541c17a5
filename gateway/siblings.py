"""What the workers of one gateway tell each other, in memory that they share since before the fork: who has room.

The kernel gives a new connection to whichever worker asks first: of 1,000 streams on 2 workers of 600 threads, one took more
than 600 in two of five runs, and refused the rest while the other had 400 places free; of 16 clients one had 15, so that they
shared one processor (measured 2026-11).
"""

from __future__ import annotations

import mmap
from array import array

MOST_WORKERS = 512  # that live at a time, those that a reload replaces included


class Siblings:
    """A board with a line for each worker: how many places it has free; 0 where there is none.

    Make it in the master, which wipes the line of a worker that ended; each worker writes on its own line only.
    """

    def __init__(self) -> None:
        self._free = memoryview(mmap.mmap(-1, MOST_WORKERS * array("i").itemsize)).cast("i")
        self._own = 0

    def join(self, number: int) -> None:
        """Take the line of this process; `number` counts the workers that the master ever started."""
        self._own = number % MOST_WORKERS

    def tell(self, free: int) -> None:
        """Write how many requests more this process could take. Does not block."""
        self._free[self._own] = max(0, free)

    def wipe(self, number: int) -> None:
        """The worker of this number has ended, and perhaps could not say so."""
        self._free[number % MOST_WORKERS] = 0

    def have_room(self, least: int = 1) -> bool:
        """Whether any other worker could take at least so many requests more."""
        free = self._free.tolist()
        free[self._own] = 0
        return max(free) >= least
