"""How the application and gunicorn meet: what a worker does that Flask cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from flask import Flask
from gunicorn.workers.gthread import ThreadWorker

from gateway.services import Services


class Worker(ThreadWorker):
    """gunicorn's thread worker, which looks after the gateway's own threads, and closes a connection when it is told to."""

    def load_wsgi(self) -> None:
        super().load_wsgi()
        gateway: Services = cast(Flask, self.wsgi).extensions["gateway"]
        if gateway.settings.discovery:
            gateway.discovery.start()
        self.wsgi = closes_on_request(self.wsgi)


def closes_on_request(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Obey `Connection: close` of an answer.

    gunicorn drops the header and keeps the connection (2026-11, gunicorn 27.0.1), though the rest of a refused body
    may still stand before the next request on it.
    """

    def wrapped(environ: Any, start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if ("Connection", "close") in headers:
                start_response.__self__.force_close()
            return start_response(status, headers, exc_info)

        return app(environ, start)

    return wrapped
