"""The store of several machines: Redis. What must be atomic is Lua, one round trip each; times come from its clock.

Every key begins with `gw:`. Counters and notes expire by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import redis

from gateway.errors import StateError
from gateway.state.base import Charge, Reservation, Rest, Snapshot, StateStore

WAIT_S = 0.1  # for a connection, and for an answer
KEEP_S = 3600.0  # counters outlive their window: an answer may be settled late
REST_KEEP_S = 3600  # and a streak of failures the rest it led to


class RedisStore(StateStore):
    """A Redis server or a compatible one. Connections are opened at first use, so after the fork."""

    def __init__(self, url: str, *, tls_verify: bool = True) -> None:
        options: dict[str, Any] = {"ssl_cert_reqs": "required" if tls_verify else "none"} if url.startswith("rediss:") else {}
        self._redis = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S, retry=None, **options
        )
        self._reserve, self._settle, self._observe, self._rest = (
            self._redis.register_script(load_script(name)) for name in ("reserve", "settle", "observe", "rest")
        )

    def snapshot(self, counters: Sequence[tuple[str, int]], scopes: Sequence[str]) -> Snapshot:
        with mapped_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for counter, bucket in counters:
                pipeline.get(counter_key(counter, bucket))
            for scope in scopes:
                pipeline.hmget(f"gw:rest:{scope}", ["until", "failures", "reason"])
            answers = pipeline.execute()
        used = {key: int(value) for key, value in zip(counters, answers, strict=False) if value is not None}
        rests = zip(scopes, answers[len(counters) :], strict=True)
        return Snapshot(used, {scope: Rest(scope, float(r[0]), int(r[1]), r[2]) for scope, r in rests if r[0] is not None})

    def reserve(self, charges: Sequence[Charge]) -> Reservation | Charge:
        if not charges:
            return Reservation()
        arguments = [part for charge in charges for part in (charge.amount, charge.limit, expiry(charge.resets_at))]
        with mapped_errors():
            refused = int(self._reserve(keys_of(charges), arguments))
        return charges[refused - 1] if refused else Reservation(tuple(charges))

    def settle(self, reservation: Reservation, amounts: Mapping[str, int]) -> None:
        charges = reservation.charges
        changes = [amounts.get(charge.counter, charge.amount) - charge.amount for charge in charges]
        if any(changes):
            arguments = [
                part for charge, change in zip(charges, changes, strict=True) for part in (change, expiry(charge.resets_at))
            ]
            with mapped_errors():
                self._settle(keys_of(charges), arguments)

    def observe_quota(self, counter: str, bucket: int, used: int, resets_at: float) -> None:
        with mapped_errors():
            self._observe([counter_key(counter, bucket)], [used, expiry(resets_at)])

    def rest(self, rest: Rest) -> None:
        with mapped_errors():
            self._rest([f"gw:rest:{rest.scope}"], [repr(rest.until), rest.failures, rest.reason, REST_KEEP_S])

    def recover(self, scopes: Sequence[str]) -> None:
        if scopes:
            with mapped_errors():
                self._redis.delete(*(f"gw:rest:{scope}" for scope in scopes))

    def remember(self, key: str, value: str, ttl_s: float) -> None:
        with mapped_errors():
            self._redis.set(f"gw:note:{key}", value, px=max(1, round(ttl_s * 1000)))

    def recall(self, keys: Sequence[str]) -> dict[str, str]:
        if not keys:
            return {}
        with mapped_errors():
            values: Any = self._redis.mget([f"gw:note:{key}" for key in keys])
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    def ping(self) -> None:
        with mapped_errors():
            self._redis.ping()

    def close(self) -> None:
        self._redis.close()


def counter_key(counter: str, bucket: int) -> str:
    return f"gw:count:{counter}:{bucket}"


def keys_of(charges: Sequence[Charge]) -> list[str]:
    return [counter_key(charge.counter, charge.bucket) for charge in charges]


def expiry(resets_at: float) -> int:
    """Return when a counter may go, in whole epoch seconds."""
    return round(resets_at + KEEP_S)


@contextmanager
def mapped_errors() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise StateError(f"Redis does not answer: {type(error).__name__}") from error


@cache
def load_script(name: str) -> str:
    return Path(__file__).with_name("lua").joinpath(f"{name}.lua").read_text()
