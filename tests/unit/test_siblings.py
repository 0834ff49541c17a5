import multiprocessing
import os

import pytest

from gateway.siblings import MOST_WORKERS, Siblings

fork = multiprocessing.get_context("fork")


class Sibling:
    """Another process that has said how much room it has, until `end`."""

    def __init__(self, siblings, number, free):
        def live(pipe):
            siblings.join(number)
            siblings.tell(free)
            pipe.send("told")
            pipe.recv()

        self.pipe, theirs = fork.Pipe()
        self.process = fork.Process(target=live, args=(theirs,), daemon=True)
        self.process.start()
        self.pipe.recv()

    def end(self):
        self.pipe.send("end")
        self.process.join()


@pytest.fixture
def siblings():
    siblings = Siblings()
    siblings.join(1)
    return siblings


def test_nobody_else_has_room_where_there_is_nobody_else(siblings):
    siblings.tell(5)
    assert not siblings.have_room()


@pytest.mark.parametrize(("free", "least", "room"), [(3, 1, True), (0, 1, False), (-2, 1, False), (3, 3, True), (3, 4, False)])
def test_another_has_as_much_room_as_it_says(siblings, free, least, room):
    other = Sibling(siblings, 2, free)
    assert siblings.have_room(least) is room
    other.end()


def test_who_has_ended_has_no_room(siblings):
    Sibling(siblings, 2, 3).end()
    assert not siblings.have_room()


def test_whose_number_is_another_user_s_process_by_now_has_no_room(siblings, monkeypatch):
    def forbid(pid, signal):
        raise PermissionError

    other = Sibling(siblings, 2, 3)
    monkeypatch.setattr(os, "kill", forbid)
    assert not siblings.have_room()
    other.end()


def test_lines_are_taken_again_after_many_reloads(siblings):
    Sibling(siblings, 2, 3).end()
    other = Sibling(siblings, 2 + MOST_WORKERS, 0)
    assert not siblings.have_room() and os.getpid()
    other.end()
