"""Whose address a request comes from, where proxies stand in front: as many hops of X-Forwarded-* as the operator trusts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.middleware.proxy_fix import ProxyFix

from gateway.api.paths import WsgiApp

log = logging.getLogger("gateway")


def behind_proxies(app: WsgiApp, hops: int) -> WsgiApp:
    """Return the application as it stands behind so many proxies; behind none, it says once when one shows up."""
    return ProxyFix(app, x_for=hops, x_proto=hops) if hops else NoProxies(app)


class NoProxies:
    """Trust nobody's X-Forwarded-For, and warn of the first one."""

    def __init__(self, app: WsgiApp) -> None:
        self._app = app
        self._warned = False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not self._warned and "HTTP_X_FORWARDED_FOR" in environ:
            self._warned = True
            log.warning(
                "X-Forwarded-For is not trusted: whoever comes through a proxy shares its address and the limit of it;"
                " set TRUSTED_PROXY_HOPS to the number of proxies in front"
            )
        return self._app(environ, start_response)
