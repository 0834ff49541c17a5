"""The store of several machines: Redis 5 or later, or Valkey; not Redis Cluster, since a script reads keys of many slots.

What must be atomic is Lua, one round trip each. Times come from the server's clock. Every key begins with `gw:`; what is
over expires by itself, or is dropped by the next snapshot, the slots of a counter every SWEEP_S.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import redis
from redis.commands.core import Script
from redis.connection import Connection, ConnectionPool, SSLConnection, parse_url
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import DataError, NoScriptError, ReadOnlyError, RedisError

from gateway.errors import StateError
from gateway.state.base import (
    CORRECTION,
    FORGET_S,
    OTHERS,
    WAIT_S,
    Adjustment,
    Change,
    Charge,
    Entries,
    Evidence,
    Extension,
    Failure,
    Figures,
    LearnedLimit,
    Lesson,
    Note,
    Place,
    Reading,
    Recovery,
    Refusal,
    Release,
    Reservation,
    Rest,
    Room,
    Slot,
    Snapshot,
    StateStore,
    Tally,
)
from gateway.state.memory import fits_at, has_notes, is_forgotten, new_token
from gateway.state.writer import Do, Writer

CONNECT_S = 2.0  # for the server to take a connection; nobody waits for that
KEEP_EVIDENCE_S = 30 * 86400.0  # a model that nobody used for so long is learned anew
SWEEP_S = 10.0  # where much is ample nothing else looks at each slot of a counter
INDEX, SWEPT = "gw:counters", "gw:swept"
LIMITS, RESTS, LEASES, EVIDENCE = "gw:limits", "gw:rests", "gw:leases", "gw:evidence"
COUNTER, UNSEEN, NOTE, JOURNAL = "gw:count:", "gw:unseen:", "gw:note:", "gw:journal:"
SERIES, FIGURES, GROUPS = "gw:series:", "gw:figures:", "gw:groups:"
MARK = "\x1f"  # between a series and a slot
KEEP_JOURNAL_S = 30 * 86400.0  # after its last entry
PING, PING_KEPT_MS = "gw:ping", 60_000
ABOUT_COUNTERS = ("reserve", "count", "adjust", "correct", "snapshot")
SCRIPTS = (*ABOUT_COUNTERS, "fail", "recover", "lease", "hold", "learn", "tally", "enter", "figures")

Command = tuple[Any, ...]


class RedisStore(StateStore):
    """Connections are opened at first use, so after the fork. `on_trouble`: see `store_from_url`.

    `clock`: instead of the server's, for tests.

    :raises ValueError, TypeError, RedisError: the driver cannot read the URL; the message may hold parts of it
    """

    def __init__(
        self,
        url: str,
        clock: Callable[[], float] | None = None,
        on_trouble: Callable[[int], None] = lambda lost: None,
        *,
        tls_verify: bool = True,
    ) -> None:
        self._redis = redis.Redis(connection_pool=build_pool(url, tls_verify=tls_verify))
        self._scripts: dict[str, Script] = {name: self._redis.register_script(load_script(name)) for name in SCRIPTS}
        self._clock = clock or time.monotonic  # nobody sets this one
        self._offset_s = 0.0 if clock else time.time() - time.monotonic()  # what the server's clock is ahead of it
        self._in_time = clock is not None  # whether the offset is known
        self._follows_server = clock is None
        self._on_trouble = on_trouble
        self._writer = Writer(self._transaction, on_trouble)

    def now(self) -> float:
        return self._clock() + self._offset_s

    def snapshot(self) -> Snapshot:
        asked_at, now = self._clock(), self._synced_now()
        with answered():
            answer = self._run("snapshot", [INDEX, SWEPT, LIMITS, RESTS, LEASES, EVIDENCE], [now, COUNTER, SWEEP_S])
            return self._read_snapshot(answer, asked_at, now)

    def _read_snapshot(self, answer: str, asked_at: float, now: float) -> Snapshot:
        server_time, counts, limits, rests, leases, evidence = json.loads(answer)
        self._follow(server_time, asked_at)
        slots = {counter: unpack_slots(packed, now) for counter, packed in in_pairs(counts)}
        known_limits = {counter: unpack_limit(packed) for counter, packed in in_pairs(limits)}
        known_rests = {scope: unpack_rest(scope, packed) for scope, packed in in_pairs(rests)}
        return Snapshot(
            now,
            {counter: some for counter, some in slots.items() if some},
            {counter: limit for counter, limit in known_limits.items() if limit.until > now},
            {scope: rest for scope, rest in known_rests.items() if not is_forgotten(rest, now)},
            {name: until for name, packed in in_pairs(leases) if (until := unpack_lease(packed)) > now},
            {model: unpack_evidence(packed) for model, packed in in_pairs(evidence)},
        )

    def reserve(self, charges: Sequence[Charge]) -> Reservation | Refusal:
        now = self._synced_now()
        arguments: list[Any] = [now]
        for charge in charges:
            arguments += [charge.counter, charge.slot, charge.amount, charge.limit, charge.counts_until]
        with answered():
            answer = self._run("reserve", [INDEX, *(COUNTER + charge.counter for charge in charges)], arguments)
            if not answer:
                return Reservation(tuple(charges))
            refused = charges[int(answer[0]) - 1]
            return Refusal(refused, fits_at(refused, unpack_slots(answer[1:], now)))

    def count(self, charge: Charge) -> Room | Refusal:
        now = self._synced_now()
        arguments = [now, charge.slot, charge.amount, charge.limit, charge.counts_until]
        with answered():
            refused, *rest = self._run("count", [UNSEEN + charge.counter], arguments)
            if refused:
                return Refusal(charge, fits_at(charge, unpack_slots(rest, now)))
            return Room(rest[0], float(rest[1]))

    def fail(self, failure: Failure) -> Rest:
        now = self._synced_now()
        arguments = [now, failure.scope, failure.began_at, failure.reason, FORGET_S, *failure.rests_s]
        with answered():
            return unpack_rest(failure.scope, self._run("fail", [RESTS], arguments))

    def lease(self, names: Sequence[str], seconds: float) -> str | None:
        now, token = self._synced_now(), new_token()
        with answered():
            return token if self._run("lease", [LEASES], [now, now + seconds, token, *names]) else None

    def write(self, changes: Sequence[Change]) -> None:
        self._writer.submit(changes, at_once=has_notes(changes))

    def recall(self, keys: Sequence[str]) -> dict[str, str]:
        if not keys:
            return {}
        with answered():
            values: Any = self._redis.mget([NOTE + key for key in keys])
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    def figures(self, series: str, first_slot: int, last_slot: int, *, group: str | None = None) -> Figures:
        begins = "" if group is None else pack_row(group, "").removesuffix('""]')
        with answered():
            answer = self._run("figures", [SERIES + series], [f"{FIGURES}{series}{MARK}", first_slot, last_slot, begins])
            return {
                Place(int(slot), *json.loads(row)): json.loads(amounts)
                for slot, rows in in_pairs(json.loads(answer))
                for row, amounts in in_pairs(rows)
            }

    def newest(self, journal: str, count: int) -> list[str]:
        with answered():
            entries: Any = self._redis.zrevrange(JOURNAL + journal, 0, count - 1) if count else []
        return list(entries)

    def ping(self) -> None:
        with answered():
            try:
                self._redis.set(PING, "", px=PING_KEPT_MS)  # a full server or a replica still answers what only reads
            except ReadOnlyError:
                self._redis.connection_pool.disconnect(inuse_connections=False)  # its name may be another server's by now
                raise

    def close(self) -> None:
        self._writer.close()
        self._redis.connection_pool.disconnect()

    # --- time --------------------------------------------------------------------------------------------------------

    def _synced_now(self) -> float:
        """Return the store's time, after asking the server for it where nobody did yet."""
        if not self._in_time:
            asked_at = self._clock()
            with answered():
                server_time: Any = self._redis.time()
            self._follow(server_time, asked_at)
        return self.now()

    def _follow(self, server_time: Sequence[Any], asked_at: float) -> None:
        """Learn from what the server's clock (seconds, microseconds) showed between `asked_at` and now."""
        if self._follows_server:
            seconds, microseconds = server_time
            self._offset_s = int(seconds) + int(microseconds) / 1e6 - (asked_at + self._clock()) / 2
            self._in_time = True

    # --- scripts -----------------------------------------------------------------------------------------------------

    def _run(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return self._scripts[name](keys, arguments)

    @contextmanager
    def _transaction(self) -> Iterator[Do]:
        """What the writer's thread does a batch in. There is nothing to undo: each command stands or falls by itself.

        A server that takes nothing says so before, so that the batch can be tried again whole.
        """
        self.ping()
        yield self._keep

    def _keep(self, changes: Sequence[Change]) -> list[Any]:
        now = self._synced_now()
        commands = [self._command(change, now) for change in changes]
        try:
            answers = self._send(commands)
            missing = [command for command, answer in zip(commands, answers, strict=True) if isinstance(answer, NoScriptError)]
            if missing:  # a server that is new or was emptied
                for script in self._scripts.values():
                    self._redis.script_load(script.script)
                answers = [answer for answer in answers if not isinstance(answer, NoScriptError)] + self._send(missing)
        except (RedisError, OSError) as error:
            if isinstance(error, DataError):
                raise
            answers = [error] * len(changes)  # some may have been kept: a second time they would count twice
        if failed := sum(isinstance(answer, Exception) for answer in answers):
            self._on_trouble(failed)
        return answers

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return pipeline.execute(raise_on_error=False)

    def _command(self, change: Change, now: float) -> Command:
        match change:
            case Adjustment(counter, slot, amount, counts_until):
                return self._call("adjust", [INDEX, COUNTER + counter], now, counter, slot, amount, counts_until)
            case Reading(counter, limit, used, until, limit_until):
                keys = [INDEX, COUNTER + counter, LIMITS]
                said = [limit_until if limit is not None else 0.0, "" if used is None else used, until]
                return self._call("correct", keys, now, counter, CORRECTION, "" if limit is None else limit, *said)
            case Recovery(scope, began_at):
                return self._call("recover", [RESTS], scope, began_at)
            case Lesson(model, values, half_life_s, forget):
                positions = [position + 1 for position in forget]
                keep_until = now + KEEP_EVIDENCE_S
                return self._call("learn", [EVIDENCE], now, keep_until, model, half_life_s, len(values), *values, *positions)
            case Release(name, token):
                return self._call("hold", [LEASES], now, name, token, "")
            case Extension(name, token, seconds):
                return self._call("hold", [LEASES], now, name, token, now + seconds)
            case Note(key, value, ttl_s):
                return "SET", NOTE + key, value, "PX", max(1, round(ttl_s * 1000))
            case Tally(series, slot, key, amounts, keep_until, group, most_groups):
                period = f"{series}{MARK}{slot}"
                keys = [SERIES + series, FIGURES + period, GROUPS + period]
                most = -1 if most_groups is None or group in ("", OTHERS) else most_groups
                rows = [pack_row(group, key), pack_row(OTHERS, key)]
                flat = [part for pair in amounts.items() for part in pair]
                return self._call("tally", keys, now, keep_until, slot, most, group, *rows, *flat)
            case Entries(journal, entries, most):
                flat = [part for entry in entries for part in entry]
                return self._call("enter", [JOURNAL + journal], most, int(KEEP_JOURNAL_S), *flat)

    def _call(self, name: str, keys: Sequence[str], *arguments: Any) -> Command:
        return "EVALSHA", self._scripts[name].sha, len(keys), *keys, *arguments


class _ConnectsAside:
    """Connects in a thread of its own: a name, a handshake and a password take what they take, but nobody waits for longer
    than WAIT_S. What comes later is there for whoever asks next.
    """

    _connecting: Future[None] | None = None

    def connect(self) -> None:
        if self._connecting is None:
            if self.is_connected:  # type: ignore[attr-defined]
                return
            self._connecting = start_aside(super().connect)  # type: ignore[misc]
        connecting = self._connecting
        try:
            connecting.result(WAIT_S)
        except FutureTimeout:
            raise NoConnection("not connected yet") from None
        finally:
            if connecting.done():
                self._connecting = None


class Link(_ConnectsAside, Connection):
    pass


class TlsLink(_ConnectsAside, SSLConnection):
    pass


def start_aside(call: Callable[[], None]) -> Future[None]:
    """Call something in a thread of its own. :raises NoConnection: no thread can be had."""
    answer: Future[None] = Future()

    def run() -> None:
        try:
            call()
            answer.set_result(None)
        except BaseException as error:
            answer.set_exception(error)

    try:
        threading.Thread(target=run, name="state-connect", daemon=True).start()
    except RuntimeError:
        raise NoConnection("no thread to connect in") from None
    return answer


def build_pool(url: str, *, tls_verify: bool) -> ConnectionPool:
    """Return connections to be, none of which waits longer than WAIT_S for anything, or tries twice."""
    options: dict[str, Any] = parse_url(url) | {  # type: ignore[no-untyped-call]  # ours go first: an URL may ask for other time-outs
        "decode_responses": True,
        "driver_info": None,  # two round trips less
        "max_connections": 10_000,  # a thread uses one at a time: the threads are the limit
        "protocol": 2,  # another round trip less
        "retry": None,
        "socket_connect_timeout": CONNECT_S,
        "socket_timeout": WAIT_S,
    }
    if options.get("connection_class") is SSLConnection:
        options |= {"connection_class": TlsLink, "ssl_cert_reqs": "required" if tls_verify else "none"}
    else:
        options["connection_class"] = Link
    pool = ConnectionPool(**options)
    pool.make_connection()  # says now, and not at each use, that there is no such option; connects nothing
    return pool


@cache
def load_script(name: str) -> str:
    folder = Path(__file__).with_name("lua")
    names = ["counter", name] if name in ABOUT_COUNTERS else [name]
    return "\n".join(folder.joinpath(f"{name}.lua").read_text() for name in names)


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Let what the server or the way to it did be a StateError; what cannot be sent at all keeps its own exception."""
    try:
        yield
    except DataError:
        raise
    except (RedisError, OSError) as error:
        raise StateError(f"Redis does not answer: {type(error).__name__}") from error


@contextmanager
def answered() -> Iterator[None]:
    """Let whatever went wrong be a StateError, an answer that is none of ours too."""
    try:
        with mapped_errors():
            yield
    except (DataError, ValueError, TypeError) as error:
        raise StateError(f"Redis cannot be asked this: {type(error).__name__}") from error


# --- what the scripts pack -------------------------------------------------------------------------------------------


def in_pairs(flat: Sequence[Any] | Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the pairs of a flat list; Lua's JSON writes an empty one as {}."""
    every = iter(flat)
    return zip(every, every, strict=True)


def unpack_slots(flat: Sequence[str], now: float) -> tuple[Slot, ...]:
    """Return the slots that still count."""
    slots = []
    for number, packed in in_pairs(flat):
        used, _, ends = packed.partition(" ")
        if (counts_until := float(ends)) > now:
            slots.append(Slot(int(number), int(used), counts_until))
    return tuple(slots)


def unpack_limit(packed: str) -> LearnedLimit:
    until, limit = packed.split(" ")
    return LearnedLimit(int(limit), float(until))


def unpack_rest(scope: str, packed: str) -> Rest:
    _, until, since, failures, failed_at, reason = packed.split(" ", 5)
    return Rest(scope, float(until), float(since), int(failures), reason, float(failed_at))


def pack_row(group: str, key: str) -> str:
    """Return the name of figures within their slot: a group's begin alike."""
    return json.dumps([group, key], ensure_ascii=False, separators=(",", ":"))


def unpack_lease(packed: str) -> float:
    return float(packed.partition(" ")[0])


def unpack_evidence(packed: str) -> Evidence:
    _, at, *sums = packed.split(" ")
    return Evidence(tuple(map(float, sums)), float(at))
