"""One thread a process that writes: whoever waits with it shares one transaction.

Asks are answered, and wake it at once; submitted changes are gathered for WRITE_BEHIND_S, and nobody waits for them. Within
a transaction the changes come first, in the order given: what a thread submitted is kept before what it then asks for. While
the store is down, asks fail and changes wait.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from typing import Any, NamedTuple

from gateway.errors import StateError
from gateway.state.base import WAIT_S, WRITE_BEHIND_S

MAX_WAITING = 20_000  # changes: a store that keeps nothing must not fill the memory
MAX_TOGETHER = 500  # changes of one transaction: asks that wait for it wait for all of them
RETRY_S = 0.5  # between two tries to write to a store that is down
CLOSE_S = 1.0  # for what is pending when the process ends

Do = Callable[[Sequence[Any]], Sequence[Any]]  # does operations within a transaction, and returns an answer for each
Transaction = Callable[[], AbstractContextManager[Do]]


class Work(NamedTuple):
    operation: Any
    answer: Future[Any] | None  # None: submitted, nobody waits

    def begins(self) -> bool:
        """Return whether it is to be done: nobody has given it up. From here on it cannot be."""
        answer = self.answer
        return answer is None or answer.running() or (not answer.cancelled() and answer.set_running_or_notify_cancel())


class Writer:
    """The thread starts at first use, and again after `close`.

    `transaction` is entered in the thread alone. A StateError of it means that nothing was kept, and the store is down:
    changes are tried again later. Any other exception means that something in it cannot be kept: it is then repeated in
    halves, down to what is to blame. `on_trouble` is told how many changes are lost for good, 0 where they only wait.
    `on_end` is called in the thread as it ends.
    """

    def __init__(
        self, transaction: Transaction, on_trouble: Callable[[int], None], on_end: Callable[[], None] = lambda: None
    ) -> None:
        self._transaction = transaction
        self._on_trouble = on_trouble
        self._on_end = on_end
        self._wake = threading.Condition(threading.Lock())
        self._changes: deque[Work] = deque()
        self._asks: list[Work] = []
        self._due_mono = 0.0  # when the oldest change has been gathered for long enough
        self._down = False  # the last transaction failed
        self._thread: threading.Thread | None = None
        self._stopping = False
        atexit.register(weakly(self.close))

    def submit(self, changes: Sequence[Any], *, at_once: bool = False) -> None:
        """Have these kept soon, or as soon as can be. Does not block. Of more than MAX_WAITING the oldest are lost."""
        with self._wake:
            if not self._changes:
                self._due_mono = time.monotonic() + WRITE_BEHIND_S
                self._wake.notify()
            self._changes.extend(Work(change, None) for change in changes)
            lost = self._drop_oldest()
            if (at_once or len(self._changes) >= MAX_TOGETHER) and not self._down:
                self._due_mono = 0.0
                self._wake.notify()
            self._start()
        if lost:
            self._tell(lost)

    def ask(self, operation: Any) -> Any:
        """Do this now and return its answer. Blocks for at most WAIT_S.

        :raises StateError: it failed, or took too long: then it is not done later, unless it had just begun
        """
        answer: Future[Any] = Future()
        work = Work(operation, answer)
        with self._wake:
            self._asks.append(work)
            self._wake.notify()
            self._start()
        try:
            return answer.result(WAIT_S)
        except TimeoutError:
            answer.cancel()
            with self._wake, suppress(ValueError):
                self._asks.remove(work)
            raise StateError("the store is busy") from None

    def close(self) -> None:
        """Have what is pending written, and the thread end. Blocks for at most CLOSE_S; the next use starts it again.

        What cannot be written now is lost.
        """
        with self._wake:
            self._stopping = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join(CLOSE_S)

    def _drop_oldest(self) -> int:
        """Bound what waits; return how many changes that costs."""
        lost = max(0, len(self._changes) - MAX_WAITING)
        for _ in range(lost):
            self._changes.popleft()
        return lost

    def _start(self) -> None:
        self._stopping = False
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="state-writer", daemon=True)
            with suppress(RuntimeError):  # no thread to be had: the next use tries again
                thread.start()
                self._thread = thread

    # --- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while works := self._take():
            left = self._commit(works)
            self._down = bool(left)
            if left:
                self._put_back(left)

    def _take(self) -> list[Work]:
        """Wait for work and return it; none where the thread is to end."""
        with self._wake:
            while not self._asks and (delay := self._delay()) > 0:
                if self._stopping and not self._changes:
                    self._thread = None
                    with suppress(Exception):
                        self._on_end()  # before anybody can start another thread
                    return []
                self._wake.wait(delay if self._changes else None)
            works = [self._changes.popleft() for _ in range(min(MAX_TOGETHER, len(self._changes)))] + self._asks
            self._asks = []
            return works

    def _delay(self) -> float:
        """Return for how many seconds changes may still be gathered."""
        if not self._changes:
            return WRITE_BEHIND_S
        if self._stopping or (len(self._changes) >= MAX_TOGETHER and not self._down):
            return 0.0
        return self._due_mono - time.monotonic()

    def _commit(self, works: Sequence[Work]) -> list[Work]:
        """Do what can be done; return the changes that are to be tried again."""
        try:
            with self._transaction() as do:
                begun = [work for work in works if work.begins()]
                answers = do([work.operation for work in begun])
        except StateError as error:
            return self._fail(works, str(error))
        except Exception as error:
            if len(works) > 1:
                half = len(works) // 2
                return self._commit(works[:half]) + self._commit(works[half:])
            if self._fail(works, f"this cannot be kept: {type(error).__name__}"):
                self._tell(1)
            return []
        for work, answer in zip(begun, answers, strict=True):
            if work.answer is not None:
                work.answer.set_result(answer)
        return []

    def _fail(self, works: Sequence[Work], reason: str) -> list[Work]:
        """Tell those who wait; return the changes, for which nobody does."""
        for work in works:
            if work.answer is not None and work.begins():
                work.answer.set_exception(StateError(reason))
        return [work for work in works if work.answer is None]

    def _put_back(self, works: Sequence[Work]) -> None:
        with self._wake:
            self._changes.extendleft(reversed(works))
            self._due_mono = time.monotonic() + RETRY_S
            lost = len(self._changes) if self._stopping else self._drop_oldest()
            if self._stopping:
                self._changes.clear()
        self._tell(lost)

    def _tell(self, lost: int) -> None:
        with suppress(Exception):
            self._on_trouble(lost)


def weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls a method for as long as its object lives, and does not keep it alive."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := reference()) is not None:
            alive()

    return call
