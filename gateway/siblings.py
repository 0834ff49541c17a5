"""What the workers of one gateway tell each other, in memory that they share since before the fork: who has room.

The kernel gives a new connection to whichever worker asks first: of 1,000 streams on 2 workers of 600 threads, one took more
than 600 in two of five runs, and refused the rest while the other had 400 places free (measured 2026-11).
"""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import suppress

MOST_WORKERS = 512  # that live at a time, those that a reload replaces included

_ENTRY = struct.Struct("ii")  # process id, free places; 0 and 0: nobody


class Siblings:
    """A board with a line for each worker. Make it in the master; each worker writes on its own line only."""

    def __init__(self) -> None:
        self._board = mmap.mmap(-1, MOST_WORKERS * _ENTRY.size)
        self._line = 0

    def join(self, number: int) -> None:
        """Take the line of this process; `number` counts the workers that the master ever started."""
        self._line = number % MOST_WORKERS * _ENTRY.size

    def tell(self, free: int) -> None:
        """Write how many requests more this process could take. Does not block."""
        _ENTRY.pack_into(self._board, self._line, os.getpid(), max(0, free))

    def have_room(self) -> bool:
        """Whether any other worker, alive, could take a request."""
        own = os.getpid()
        return any(free and pid != own and _is_alive(pid) for pid, free in _ENTRY.iter_unpack(self._board))


def _is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
