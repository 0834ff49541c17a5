import logging
import os
import threading
import time

import pytest

from gateway.logs import GATHER_S, Gathering


class Stream:
    """Keeps what is written at a time. While `blocked` is clear, nothing is taken."""

    def __init__(self):
        self.written: list[str] = []
        self.takes = threading.Event()
        self.takes.set()

    def write(self, text):
        self.takes.wait(10)
        self.written.append(text)

    def flush(self):
        pass


@pytest.fixture
def stream():
    return Stream()


def record(message, level=logging.INFO):
    return logging.LogRecord("gateway", level, __file__, 1, message, (), None)


def wait_for(condition):
    until = time.monotonic() + 5
    while not condition() and time.monotonic() < until:
        time.sleep(GATHER_S / 5)
    return condition()


def test_lines_are_written_together_soon(stream):
    gathering = Gathering(stream)
    for message in ("one", "two"):
        gathering.handle(record(message))
    assert wait_for(lambda: stream.written) and stream.written == ["one\ntwo\n"]
    gathering.handle(record("three"))
    assert wait_for(lambda: len(stream.written) == 2)


def test_a_warning_is_written_at_once_with_what_stands_before_it(stream):
    gathering = Gathering(stream)
    gathering.handle(record("one"))
    gathering.handle(record("beware", logging.WARNING))
    assert stream.written == ["one\nbeware\n"]


def test_who_logs_does_not_wait_for_who_reads(stream):
    gathering = Gathering(stream)
    stream.takes.clear()
    for _ in range(3):
        gathering.handle(record("one"))
        time.sleep(2 * GATHER_S)  # the writer is in the stream by now
    stream.takes.set()
    assert wait_for(lambda: "".join(stream.written) == "one\n" * 3)


def test_a_process_that_was_forked_writes_its_lines_too(tmp_path):
    with (tmp_path / "log").open("w") as file:
        gathering = Gathering(file)
        gathering.handle(record("parent"))
        gathering.flush()
        pid = os.fork()
        if pid == 0:
            gathering.handle(record("child"))
            time.sleep(4 * GATHER_S)
            os._exit(0)
        os.waitpid(pid, 0)
    assert (tmp_path / "log").read_text() == "parent\nchild\n"
