"""How often clients may ask: a key as all workers and machines count it, an address without one as this process does."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import ClientRateLimited
from gateway.routing.outlook import iso
from gateway.routing.verdict import LONG_RETRY_AFTER_S
from gateway.settings import RateLimit
from gateway.state.base import Charge, Refusal, StateStore

# A window slides by slots. A limit of few has a slot for each request, so that each comes back when it can; of many, nobody
# notices a sixtieth of the window.
FEW = 60
FINE_SLOTS, COARSE_SLOTS = 6000, 60  # of a window
MOST_ADDRESSES = 20_000  # that one process counts: beyond them, those that began first are forgotten
IPV6_PREFIX_BITS = 64  # what one subscriber has: within it, addresses cost nothing


_WORDS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a limit says of one request: whether it may pass, how many more may now, and in how many seconds there are more."""

    limit: RateLimit
    remaining: int
    more_in_s: float
    granted: bool = True


def refusal(allowance: Allowance, whose: str) -> ClientRateLimited:
    """Return the error of a request that was not granted. `whose`: "This key", or what else has the limit."""
    count, window_s = allowance.limit
    wait_s = max(1, math.ceil(allowance.more_in_s))
    error = ClientRateLimited(
        f"{whose} may send {count} requests a {_WORDS.get(window_s, f'{window_s} seconds')}. Try again in {wait_s} seconds.",
        retry_after_s=wait_s,
    )
    if wait_s > LONG_RETRY_AFTER_S:
        error.should_retry = False
        error.retry_at = iso(time.time() + wait_s)
    return error


class KeyLimit:
    """The limit of each key: never more than so many requests within the window. Thread-safe; blocks as the store does."""

    def __init__(self, limit: RateLimit, store: StateStore) -> None:
        self._limit = limit
        count, self._window_s = limit
        self._slot_s = self._window_s / (FINE_SLOTS if count <= FEW else COARSE_SLOTS)
        self._store = store

    def take(self, name: str) -> Allowance | None:
        """Count a request with the key of this name; None while the store does not answer: then nobody is refused."""
        now = self._store.now()
        charge = Charge(f"{name}|{self._window_s}", int(now / self._slot_s), 1, self._limit[0], now + self._window_s)
        answer = self._store.count(charge)
        if answer is None:
            return None
        if isinstance(answer, Refusal):
            return Allowance(self._limit, 0, (answer.fits_at or charge.counts_until) - now, granted=False)
        return Allowance(self._limit, answer.left, answer.more_at - now)


class AddressLimit:
    """The limit of each address: a window begins with its first request. Thread-safe, never blocks for long."""

    def __init__(self, limit: RateLimit, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._count, self._window_s = limit
        self._monotonic = monotonic
        self._windows: dict[str, tuple[int, float]] = {}  # (requests, when it ends), in the order in which they end
        self._lock = threading.Lock()

    def take(self, address: str) -> Allowance:
        """Count a request from this address."""
        who = subscriber_of(address)
        with self._lock:
            now = self._monotonic()
            self._forget(now)
            taken, ends_at = self._windows.get(who, (0, now + self._window_s))
            granted = taken < self._count
            if granted:
                self._windows[who] = (taken + 1, ends_at)
        return Allowance(self._limit, max(0, self._count - taken - 1), ends_at - now, granted)

    def _forget(self, now: float) -> None:
        """Drop the windows that are over, and one more where there is no place for another."""
        while self._windows:
            first = next(iter(self._windows))
            if self._windows[first][1] > now and len(self._windows) < MOST_ADDRESSES:
                return
            del self._windows[first]


def subscriber_of(address: str) -> str:
    """Return what stands for all addresses of the same subscriber: an IPv4 address, the /64 of an IPv6 one.

    What is no address (a Unix socket has none) stands for itself.
    """
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return address
    if known.ipv4_mapped:  # a client of IPv4 on a socket that takes both
        return str(known.ipv4_mapped)
    return f"{int(known) >> (128 - IPV6_PREFIX_BITS):x}/{IPV6_PREFIX_BITS}"
