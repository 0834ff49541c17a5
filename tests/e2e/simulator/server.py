"""The simulator: one port, a provider below each path prefix, scripts that change how they behave, and a record."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from tests.e2e.simulator.behaviours import Behaviour, Reply
from tests.e2e.simulator.cerebras import Cerebras
from tests.e2e.simulator.gemini import Gemini
from tests.e2e.simulator.groq import Groq
from tests.e2e.simulator.openai_api import Plain
from tests.e2e.simulator.openrouter import OpenRouter
from tests.e2e.simulator.service import Service
from tests.e2e.simulator.voyage_ai import VoyageAI
from tests.e2e.simulator.wire import Connection, PeerClosed, Request
from tests.e2e.simulator.workers_ai import WorkersAI

SERVICES: tuple[type[Service], ...] = (Groq, Gemini, WorkersAI, OpenRouter, Cerebras, VoyageAI, Plain)


@dataclass(frozen=True)
class Rule:
    """Which requests a behaviour is for; None: any."""

    behaviour: Behaviour
    provider: str
    method: str
    model: str | None
    key: str | None

    def matches(self, request: Request) -> bool:
        return (
            request.provider == self.provider
            and request.method == self.method
            and self.model in (None, request.model)
            and self.key in (None, request.key)
        )


class Simulator:
    """All providers on one port of the loopback interface, until it is closed. Thread-safe.

    Unscripted, each answers as its documentation says. `requests` has every request in order of arrival. `keeps_alive`
    False: each request has a connection of its own, so that a broken one is never repeated as a stale one.
    """

    def __init__(self, *, keeps_alive: bool = True) -> None:
        self._keeps_alive = keeps_alive
        self.requests: list[Request] = []
        self._rules: list[Rule] = []
        self._constant: list[Rule] = []
        self._changed = threading.Condition()
        self._connections: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        self._held: list[socket.socket] = []  # sockets that only keep a port
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.reset()
        self._acceptor = threading.Thread(target=self._accept, name="simulator", daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- where it is -----------------------------------------------------------------------------------------------

    def base_url(self, provider: str) -> str:
        """Return what stands for the provider's documented base URL (contract §1)."""
        return self.services[provider].base_url(self.url)

    @staticmethod
    def key_prefix(provider: str) -> str:
        """Return what every credential begins with that the provider accepts."""
        return next(kind.test_key for kind in SERVICES if kind.name == provider)

    def env(self, *providers: str) -> dict[str, str]:
        """Return the gateway's variables that make it use these providers here, all of the catalog's for none."""
        variables: dict[str, str] = {}
        for provider in providers or tuple(self.services):
            variables |= self.services[provider].env(self.url)
        return variables

    def dead_port(self) -> int:
        """Return a port that refuses connections as long as the simulator runs."""
        held = socket.socket()
        held.bind(("127.0.0.1", 0))
        self._held.append(held)
        port: int = held.getsockname()[1]
        return port

    def deaf_port(self) -> int:
        """Return a port that never completes a connection: its backlog is full (Linux drops what comes then)."""
        held = socket.create_server(("127.0.0.1", 0), backlog=0)
        port: int = held.getsockname()[1]
        self._held.append(held)
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            self._held.append(filler)
        return port

    # --- scripts ---------------------------------------------------------------------------------------------------

    def script(
        self, provider: str, *behaviours: Behaviour, method: str = "POST", model: str | None = None, key: str | None = None
    ) -> None:
        """Queue behaviours for the next requests, one each; a queue goes before what `always` says."""
        self._add(self._rules, behaviours, provider, method, model, key)

    def always(
        self, provider: str, behaviour: Behaviour, *, method: str = "POST", model: str | None = None, key: str | None = None
    ) -> None:
        """Behave so for every request from now on; the latest that matches holds."""
        self._add(self._constant, (behaviour,), provider, method, model, key)

    def _add(
        self, rules: list[Rule], behaviours: tuple[Behaviour, ...], provider: str, method: str, model: str | None, key: str | None
    ) -> None:
        if provider not in self.services:
            raise KeyError(provider)
        with self._changed:
            rules.extend(Rule(behaviour, provider, method, model, key) for behaviour in behaviours)

    def reset(self) -> None:
        """Forget scripts and records, revive nothing: as if just started. Running answers go on."""
        with self._changed:
            self.services: dict[str, Service] = {kind.name: kind() for kind in SERVICES}
            self._rules.clear()
            self._constant.clear()
            self.requests = []

    def revive(self, provider: str, model: str) -> None:
        """Serve a retired model until the next reset."""
        self.services[provider].revive(model)

    # --- records ---------------------------------------------------------------------------------------------------

    def calls(self, provider: str | None = None, model: str | None = None) -> list[Request]:
        """Return the POST requests so far, of one provider and model where they are given."""
        with self._changed:
            return [
                request
                for request in self.requests
                if request.method == "POST" and provider in (None, request.provider) and model in (None, request.model)
            ]

    def wait_for_calls(self, count: int, provider: str | None = None, timeout_s: float = 5.0) -> list[Request]:
        """Block until that many POST requests have arrived, at most `timeout_s`; return them."""
        until = time.monotonic() + timeout_s
        while len(calls := self.calls(provider)) < count:
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise AssertionError(f"{len(calls)} calls to {provider or 'any provider'} within {timeout_s} s, not {count}")
            with self._changed:
                self._changed.wait(min(left_s, 0.05))
        return calls

    @property
    def open_connections(self) -> int:
        """How many TCP connections clients keep, idle ones included."""
        with self._changed:
            return len(self._connections)

    # --- serving ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        for number, sock in enumerate(self._accepted(), start=1):
            connection = Connection(sock, number, keeps_alive=self._keeps_alive)
            thread = threading.Thread(target=self._serve, args=(connection,), name=f"simulator-{number}", daemon=True)
            with self._changed:
                self._connections.add(connection)
                self._threads = [known for known in self._threads if known.is_alive()]
                self._threads.append(thread)
                thread.start()

    def _accepted(self) -> Iterator[socket.socket]:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self._closing:
                sock.close()
                return
            yield sock

    def _serve(self, connection: Connection) -> None:
        try:
            while connection.is_open and (request := connection.read_request()):
                self._answer(connection, request)
        except PeerClosed:
            pass  # in the middle of a request: there is nothing to record
        finally:
            connection.close()
            with self._changed:
                self._connections.discard(connection)

    def _answer(self, connection: Connection, request: Request) -> None:
        service = next((known for known in self.services.values() if request.path.startswith(known.prefix + "/")), None)
        if service is None:
            connection.begin(request, lambda: Reply(404, body="no provider has this prefix"))
            connection.faithful()(connection)
            return
        request.provider, request.rest = service.name, request.path.removeprefix(service.prefix)
        request.model = service.model_of(request)
        behaviour = self._admit(request)
        connection.begin(request, cache(lambda: service.answer(request)))
        try:
            (behaviour or connection.faithful())(connection)
            request.end("answered")
        except PeerClosed:
            request.end("stopped" if self._closing else "client_closed")
            connection.is_open = False

    def _admit(self, request: Request) -> Behaviour | None:
        """Record a request; return its scripted behaviour, None for the faithful one."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            for rule in self._rules:
                if rule.matches(request):
                    self._rules.remove(rule)
                    return rule.behaviour
            return next((rule.behaviour for rule in reversed(self._constant) if rule.matches(request)), None)

    def close(self) -> None:
        """End every connection and thread."""
        self._closing = True
        with suppress(OSError):  # wakes the accepting thread on every system
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._acceptor.join(5)
        self._listener.close()
        with self._changed:
            connections, threads = list(self._connections), list(self._threads)
        for connection in connections:
            connection.stop()
        for thread in threads:
            thread.join(5)
        for held in self._held:
            held.close()
