"""How the application and gunicorn meet: what a worker does that Flask cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.workers.gthread import ThreadWorker


class Worker(ThreadWorker):
    """gunicorn's thread worker, which closes a connection when the application says so."""

    def load_wsgi(self) -> None:
        super().load_wsgi()
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
