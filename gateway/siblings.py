"""What the workers of one gateway tell each other, in memory that they share since before the fork: who has room.

The kernel gives a new connection to whichever worker asks first: of 1,000 streams on 2 workers of 600 threads, one took more
than 600 in two of five runs, and refused the rest while the other had 400 places free; of 16 clients one had 15, so that they
shared one processor (measured 2026-11).
"""

from __future__ import annotations

import mmap
import os
from array import array
from contextlib import suppress

MOST_WORKERS = 512  # that live at a time, those that a reload replaces included

_LINE = 2  # cells, each an int


class Siblings:
    """A board with a line for each worker: its process id, and how many places it has free. 0 and 0: nobody.

    Make it in the master; each worker writes on its own line only.
    """

    def __init__(self) -> None:
        self._cells = memoryview(mmap.mmap(-1, MOST_WORKERS * _LINE * array("i").itemsize)).cast("i")
        self._line = self._pid = 0

    def join(self, number: int) -> None:
        """Take the line of this process; `number` counts the workers that the master ever started."""
        self._line, self._pid = number % MOST_WORKERS * _LINE, os.getpid()

    def tell(self, free: int) -> None:
        """Write how many requests more this process could take. Does not block."""
        self._cells[self._line], self._cells[self._line + 1] = self._pid, max(0, free)

    def have_room(self, least: int = 1) -> bool:
        """Whether any other worker, alive, could take at least so many requests more."""
        free = self._cells[1::_LINE].tolist()
        if max(free) < least:
            return False
        others = zip(self._cells[::_LINE].tolist(), free, strict=True)
        return any(room >= least and pid != self._pid and _is_alive(pid) for pid, room in others)


def _is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError, PermissionError):  # gone, or the number is another user's process by now
        os.kill(pid, 0)
        return True
    return False
