import multiprocessing

import pytest

from gateway.siblings import MOST_WORKERS, Siblings

fork = multiprocessing.get_context("fork")


def tell_elsewhere(siblings, number, free):
    """Let another process say how much room it has, and end without a word."""

    def live():
        siblings.join(number)
        siblings.tell(free)

    process = fork.Process(target=live)
    process.start()
    process.join()


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
    tell_elsewhere(siblings, 2, free)
    assert siblings.have_room(least) is room


def test_who_has_ended_has_no_room(siblings):
    tell_elsewhere(siblings, 2, 3)
    siblings.wipe(2)
    assert not siblings.have_room()


def test_lines_are_taken_again_after_many_reloads(siblings):
    tell_elsewhere(siblings, 2, 3)
    tell_elsewhere(siblings, 2 + MOST_WORKERS, 0)
    assert not siblings.have_room()
