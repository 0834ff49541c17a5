"""The writing thread, with a transaction that tests can hold up and break."""

import threading
import time
from contextlib import contextmanager

import pytest

from gateway.errors import StateError
from gateway.state import writer as module
from gateway.state.base import WAIT_S, WRITE_BEHIND_S
from gateway.state.writer import MAX_TOGETHER, MAX_WAITING, Writer
from tests.state.conftest import eventually, patiently


class Book:
    """Keeps what it is given. `gate`: closed, a transaction does not begin. Raises what `down` holds; bad: "bad" is not kept."""

    def __init__(self):
        self.kept = []
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.down = None
        self.entered = threading.Event()

    @contextmanager
    def __call__(self):
        self.entered.set()
        self.gate.wait(10)
        if self.down:
            raise self.down
        batch = []

        def do(operations):
            if "bad" in operations:
                raise OverflowError("too large")
            batch.extend(operations)
            return [f"did {operation}" for operation in operations]

        yield do
        self.batches.append(batch)
        self.kept += batch


@pytest.fixture
def book():
    return Book()


@pytest.fixture
def hasty(book, lost):
    """The writer as it is."""
    opened = Writer(book, lost.append)
    yield opened
    book.gate.set()
    opened.close()


@pytest.fixture
def writer(patience, hasty):
    return hasty


def in_threads(*calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    return threads


def test_an_ask_is_answered_at_once_and_takes_waiting_changes_along(writer, book):
    writer.submit(["a", "b"])
    assert writer.ask("c") == "did c"
    assert book.batches == [["a", "b", "c"]]


def test_changes_are_gathered_and_then_kept_without_an_ask(writer, book):
    began = time.monotonic()
    for change in "abc":
        writer.submit([change])
    eventually(lambda: book.batches, [["a", "b", "c"]])
    assert time.monotonic() - began >= WRITE_BEHIND_S


def test_who_waits_for_one_transaction_shares_the_next(writer, book):
    book.gate.clear()
    threads = in_threads(lambda: writer.ask("first"))
    book.entered.wait(5)
    threads += in_threads(*[lambda: writer.ask("later")] * 5)
    eventually(lambda: len(writer._asks), 5)
    book.gate.set()
    for thread in threads:
        thread.join()
    assert book.batches == [["first"], ["later"] * 5]


def test_an_ask_that_nobody_waits_for_any_more_is_not_done_later(hasty, book):
    book.gate.clear()
    began = time.monotonic()
    for _ in range(2):  # one that the thread has taken already, and one that still waits for it
        with pytest.raises(StateError):
            hasty.ask("late")
    assert 2 * WAIT_S <= time.monotonic() - began < 4 * WAIT_S
    book.gate.set()
    assert patiently(hasty.ask, "next") == "did next"
    assert book.kept == ["next"]


def test_an_error_of_the_store_goes_to_each_asker_and_changes_wait_for_its_end(writer, book, lost, monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    book.gate.clear()
    book.down = StateError("disk full")
    errors = []

    def ask():
        try:
            writer.ask("x")
        except StateError as error:
            errors.append(str(error))

    writer.submit(["a", "b", "c"])
    book.entered.wait(5)
    threads = in_threads(ask, ask)
    eventually(lambda: len(writer._asks), 2)
    book.gate.set()
    for thread in threads:
        thread.join()
    assert errors == ["disk full"] * 2
    writer.submit(["d"])
    eventually(lambda: len(lost) > 3)  # it is tried again, and told
    book.down = None
    assert writer.ask("y") == "did y"
    assert book.kept == ["a", "b", "c", "d", "y"] and set(lost) == {0}


def test_while_the_store_is_down_it_is_not_tried_all_the_time(writer, book, lost, monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    book.down = StateError("disk full")
    began = time.monotonic()
    writer.submit(range(MAX_TOGETHER * 3))  # more than would wait for company
    while time.monotonic() < began + 0.3:
        writer.submit(["more"])
        time.sleep(0.001)
    assert 2 <= len(lost) <= 10
    book.down = None
    eventually(lambda: len(book.kept) > MAX_TOGETHER * 3)
    assert book.kept[: MAX_TOGETHER * 3] == list(range(MAX_TOGETHER * 3))


def test_an_outage_loses_only_what_is_too_much(writer, book, lost, monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    book.down = StateError("disk full")
    writer.submit(range(MAX_WAITING))
    eventually(lambda: len(lost) > 0)
    writer.submit(["x", "y"])
    eventually(lambda: sum(lost), 2)
    book.down = None
    eventually(lambda: len(book.kept), MAX_WAITING)
    assert book.kept[0] == 2 and book.kept[-1] == "y"


def test_what_waits_for_a_store_that_is_down_is_lost_at_the_end(writer, book, lost):
    book.down = StateError("disk full")
    writer.submit(["a", "b"])
    writer.close()
    assert sum(lost) == 2 and writer._thread is None


def test_one_that_cannot_be_kept_takes_no_other_down(writer, book, lost):
    writer.submit(["a", "b", "bad", "c", "bad"])
    assert writer.ask("d") == "did d"
    assert book.kept == ["a", "b", "c", "d"] and sum(lost) == 2
    with pytest.raises(StateError, match="OverflowError"):
        writer.ask("bad")


def test_of_too_many_changes_the_oldest_are_lost(writer, book, lost):
    book.gate.clear()
    writer.submit(["taken"] * MAX_TOGETHER)
    book.entered.wait(5)
    writer.submit(range(MAX_WAITING))
    writer.submit([MAX_WAITING, MAX_WAITING + 1])
    assert lost == [2]
    book.gate.set()
    eventually(lambda: len(book.kept), MAX_TOGETHER + MAX_WAITING)
    assert book.kept[MAX_TOGETHER:] == list(range(2, MAX_WAITING + 2))


def test_an_ask_does_not_wait_for_all_of_a_backlog(writer, book):
    book.gate.clear()
    writer.submit(range(MAX_TOGETHER * 4))
    book.entered.wait(5)
    threads = in_threads(lambda: writer.ask("urgent"))
    eventually(lambda: len(writer._asks), 1)
    book.gate.set()
    for thread in threads:
        thread.join()
    assert book.kept.index("urgent") <= 2 * MAX_TOGETHER


def test_a_callable_that_fails_does_not_end_the_thread(book):
    def fail(count):
        raise RuntimeError(count)

    writer = Writer(book, fail)
    writer.submit(["bad"])
    assert writer.ask("a") == "did a"
    writer.close()


def test_closing_writes_what_is_pending_at_once_and_ends_the_thread(book, lost, monkeypatch):
    monkeypatch.setattr(module, "WRITE_BEHIND_S", 9.0)
    ended = []
    writer = Writer(book, lost.append, lambda: ended.append(threading.current_thread().name))
    writer.close()
    writer.submit(["a"])
    writer.close()
    writer.close()
    assert book.kept == ["a"] and writer._thread is None and ended == ["state-writer"]
    assert writer.ask("b") == "did b"
    writer.close()


def test_closing_waits_for_a_second_at_most(writer, book, monkeypatch):
    others = set(threading.enumerate())
    monkeypatch.setattr(module, "CLOSE_S", 0.2)
    book.gate.clear()
    writer.submit(["a"])
    began = time.monotonic()
    writer.close()
    assert 0.2 <= time.monotonic() - began < 0.5
    writer.submit(["b"])  # used again while the thread still hangs: no second one is started
    book.gate.set()
    assert writer.ask("c") == "did c"
    assert book.kept == ["a", "b", "c"]
    assert [thread.name for thread in set(threading.enumerate()) - others] == ["state-writer"]


def test_where_no_thread_can_be_had_the_store_is_down(hasty, book, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("can't start new thread")))
        hasty.submit(["a"])
        with pytest.raises(StateError):
            hasty.ask("b")
    assert patiently(hasty.ask, "c") == "did c"
    assert book.kept == ["a", "c"]
