"""The probes that this process has under way: one call each that sees whether what rested is back.

All workers and machines agree on one by a lease. A process can die in any second, so the lease is short; a probe may take
minutes, so its lease is extended for as long as the process has it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from gateway.state.base import Change, Extension, Release, StateStore

PROBE_S = 30.0  # how long the others wait for a probe whose process died
EXTEND_EVERY_S = 10.0  # twice missed, the lease still holds
LONGEST_S = 900.0  # then its end was missed, and it must not keep the others away for ever


@dataclass(frozen=True, slots=True)
class Probe:
    """A call that may find `scopes` recovered. `token` holds their leases."""

    scopes: tuple[str, ...]
    token: str


class Probes:
    """Thread-safe. The thread that extends leases runs while there are probes."""

    def __init__(self, store: StateStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._began_mono: dict[Probe, float] = {}
        self._lock = threading.Lock()
        self._extending = False

    def begin(self, scopes: tuple[str, ...]) -> Probe | None:
        """Take the leases; None where another call has one of them. Blocks as the store does."""
        token = self._store.lease(scopes, PROBE_S)
        if token is None:
            return None
        probe = Probe(scopes, token)
        with self._lock:
            self._began_mono[probe] = self._monotonic()
            if not self._extending:
                self._start()
        return probe

    def end(self, probe: Probe) -> list[Change]:
        """Return what gives its leases back, to be written; nothing the second time."""
        with self._lock:
            if self._began_mono.pop(probe, None) is None:
                return []
        return [Release(scope, probe.token) for scope in probe.scopes]

    def extend(self) -> bool:
        """Extend the leases of all probes under way; return whether there are any."""
        with self._lock:
            latest = self._monotonic() - LONGEST_S
            self._began_mono = {probe: began for probe, began in self._began_mono.items() if began > latest}
            probes = list(self._began_mono)
            self._extending = bool(probes)
        if probes:
            self._store.write([Extension(scope, probe.token, PROBE_S) for probe in probes for scope in probe.scopes])
        return bool(probes)

    def _start(self) -> None:
        with suppress(RuntimeError):  # no thread to be had: the lease ends early, which costs a call
            threading.Thread(target=keep_extending, args=(weakref.ref(self),), name="probes", daemon=True).start()
            self._extending = True


def keep_extending(reference: weakref.ref[Probes]) -> None:
    """Extend the leases every EXTEND_EVERY_S, until there are none."""
    time.sleep(EXTEND_EVERY_S)
    while (probes := reference()) and probes.extend():
        del probes
        time.sleep(EXTEND_EVERY_S)
