import http.client
import inspect
import socket
import ssl
from typing import Any

import pytest
import requests
import urllib3

from gateway import errors
from gateway.domain import Attempt
from gateway.errors import GatewayError, UpstreamError, UpstreamTimeout
from gateway.upstream.transport import map_error

NOBODY: Any = None  # in the place of a pool that the exceptions only name
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    499: "invalid_request_error",
    500: "server_error",
    502: "provider_error",
    503: "service_unavailable",
    504: "provider_error",
}
SPECIAL: dict[type, dict[str, Any]] = {
    errors.UpstreamTimeout: {"phase": "idle"},
    errors.CandidatesExhausted: {"quota_only": False},
}


def all_errors():
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)]
    return [kind for kind in found if kind is not errors.CapacityError]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_rendering_in_the_envelope(kind):
    error = kind("Do this.", **SPECIAL.get(kind, {}))
    body = error.to_body()["error"]
    assert list(body)[:4] == ["message", "type", "param", "code"]
    assert body["message"] == "Do this." and body["type"] == TYPES[error.status] and body["code"]
    assert error.failover in ("yes", "no", "once", "larger")
    assert error.cooldown_scope in ("none", "candidate", "model", "credential", "provider")


def test_attempts_are_listed_shortly_and_the_rest_is_counted():
    error = UpstreamError("x")
    error.attempts = [Attempt("p", f"m{n}", "500", 500, 1.23456) for n in range(11)]
    body = error.to_body()["error"]
    assert len(body["attempts"]) == 8 and body["attempts_omitted"] == 3
    assert body["attempts"][0] == {"provider": "p", "model": "m0", "status": 500, "reason": "500", "ms": 1.2}


def foreign_exceptions():
    """Every exception class of requests and urllib3, and those of the layers below that reach us."""
    modules = [requests.exceptions, urllib3.exceptions, http.client]
    members = [kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)]
    found = {kind for kind in members if not kind.__module__.startswith("email")}
    ours = {kind for kind in found if issubclass(kind, Exception) and not issubclass(kind, Warning)}
    return sorted(ours | {socket.gaierror, ssl.SSLError, ConnectionRefusedError, TimeoutError}, key=lambda kind: kind.__name__)


PROGRAMMING = {"JSONDecodeError", "CompatJSONDecodeError"}  # bodies are never decoded by requests


@pytest.mark.parametrize(
    "kind", [kind for kind in foreign_exceptions() if kind.__name__ not in PROGRAMMING], ids=lambda k: k.__name__
)
def test_every_foreign_exception_is_mapped(kind):
    assert isinstance(map_error(kind.__new__(kind)), UpstreamError)


@pytest.mark.parametrize("defect", [KeyError("x"), TypeError("x"), AttributeError("x"), AssertionError()])
def test_a_defect_of_ours_is_not_taken_for_a_provider_s(defect):
    assert map_error(defect) is None


def test_the_real_reason_is_found_inside_its_wrappers():
    refused = urllib3.exceptions.NewConnectionError(NOBODY, "refused")
    wrapped = requests.ConnectionError(urllib3.exceptions.MaxRetryError(NOBODY, "/", reason=refused))
    assert isinstance(map_error(wrapped), errors.UpstreamUnreachable)
    silent = requests.ConnectionError(urllib3.exceptions.ReadTimeoutError(NOBODY, "/", "x"))
    mapped = map_error(silent, "idle")
    assert isinstance(mapped, UpstreamTimeout) and mapped.phase == "idle"


def test_a_connection_is_closed_where_it_cannot_serve_another_request():
    closing = {kind.__name__ for kind in all_errors() if kind.closes_connection}
    assert closing == {"BodyBroken", "ClientGone", "Draining", "GatewayBusy", "PayloadTooLarge"}


def test_the_client_is_told_to_wait_by_the_gateway_alone():
    assert not any(kind.tells_retry_after for kind in all_errors() if issubclass(kind, UpstreamError))
    assert all(kind.tells_retry_after for kind in all_errors() if issubclass(kind, (errors.RequestError, errors.CapacityError)))
