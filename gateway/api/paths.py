"""One spelling for every path. Clients leave `/v1` out, write it twice, double slashes and append one (contract §2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.routing import Map

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
PREFIX = "v1"
ASKED_PATH = "gateway.asked_path"  # in the environ: the path as the client sent it


class CanonicalPaths:
    """Rewrite each path to the one its route is registered under, without a redirect.

    Which routes live below `/v1` and which do not is read from the application's own map.
    """

    def __init__(self, app: WsgiApp, routes: Map) -> None:
        self._app = app
        rules = [rule.rule.strip("/").split("/") for rule in routes.iter_rules()]
        self._below_prefix = {rule[1] for rule in rules if rule[0] == PREFIX and len(rule) > 1}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ[ASKED_PATH] = environ.get("PATH_INFO", "")
        environ["PATH_INFO"] = self.canonical(environ[ASKED_PATH])
        return self._app(environ, start_response)

    def canonical(self, path: str) -> str:
        """Return the path as its route has it; one that nobody knows comes back tidied."""
        segments = [segment for segment in path.split("/") if segment]
        while segments and segments[0] == PREFIX:
            segments.pop(0)
        if segments and segments[0] in self._below_prefix:
            segments.insert(0, PREFIX)
        return "/" + "/".join(segments)
