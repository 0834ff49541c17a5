import threading
from typing import Any

import pytest

from gateway.routing import probes as module
from gateway.routing.probes import EXTEND_EVERY_S, LONGEST_S, PROBE_S, Probes
from gateway.state.base import Release
from gateway.state.memory import MemoryStore
from tests.state.conftest import eventually
from tests.unit.routing.conftest import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return MemoryStore(clock)


@pytest.fixture
def probes(store, clock):
    return Probes(store, clock)


def test_a_probe_is_given_back_once(probes, store):
    probe = probes.begin(("a", "b"))
    assert probe and probes.begin(("b", "c")) is None
    assert probes.end(probe) == [Release("a", probe.token), Release("b", probe.token)]
    assert probes.end(probe) == []


def test_the_lease_of_a_process_that_died_is_over_soon(probes, store, clock):
    assert probes.begin(("a",))
    clock.now += PROBE_S
    assert PROBE_S <= 30 and Probes(store, clock).begin(("a",))


def test_leases_are_extended_while_their_probes_are_under_way(probes, store, clock):
    probe = probes.begin(("a", "b"))
    for _ in range(10):
        clock.now += EXTEND_EVERY_S * 2  # every other time it came late
        assert probes.extend()
    assert store.snapshot().leases == {"a": clock.now + PROBE_S, "b": clock.now + PROBE_S}
    probes.end(probe)
    assert not probes.extend()
    clock.now += PROBE_S
    assert probes.begin(("a",))


def test_a_probe_whose_end_was_missed_does_not_hold_its_lease_for_ever(probes, store, clock):
    probes.begin(("a",))
    clock.now += LONGEST_S
    assert not probes.extend()


def test_the_thread_extends_and_lives_while_there_are_probes(store, clock, monkeypatch):
    before = threads()
    monkeypatch.setattr(module, "EXTEND_EVERY_S", 0.005)
    probes = Probes(store, clock)
    held: list[Any] = [probes.begin((name,)) for name in "ab"]
    assert len(threads() - before) == 1
    clock.now += 1
    eventually(lambda: set(store.snapshot().leases.values()), {clock.now + PROBE_S})
    for probe in held:
        probes.end(probe)
    eventually(lambda: threads() - before, set())
    assert probes.begin(("c",)) and len(threads() - before) == 1  # and comes again
    clock.now += LONGEST_S
    eventually(lambda: threads() - before, set())


def threads():
    return {thread for thread in threading.enumerate() if thread.name == "probes"}
