"""What a start or a reload would find: each part of the configuration, and for each problem what to do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal
from urllib.parse import urlsplit

from gateway.boot import Configuration, ask_patiently, load_configuration, open_store
from gateway.catalog import SANDBOX
from gateway.credentials import load_credentials, missing_variables
from gateway.domain import Credential, ProviderRow
from gateway.errors import (
    ConfigurationError,
    StateError,
    UpstreamCredentialRejected,
    UpstreamError,
    UpstreamPaymentRequired,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.factory import build_providers
from gateway.providers.base import Provider
from gateway.settings import Settings
from gateway.state.base import Charge, StateStore
from gateway.state.memory import MemoryStore
from gateway.upstream.transport import CallLimits
from gateway.upstream.watch import Watch

ANSWER_S = 10.0  # for one provider; all are asked at once
LAST_S = 2.0  # beyond that, for a name that is not resolved: no time limit reaches there

State = Literal["ok", "off", "unknown", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """How one part is. "off": not set up, which is no problem; "unknown": nothing tells before the first request.

    `detail` says of a problem what to do. It holds no credential, and nothing that a provider wrote.
    """

    what: str
    state: State
    detail: str


def is_well(findings: Sequence[Finding]) -> bool:
    return all(finding.state != "problem" for finding in findings)


def examine(environ: Mapping[str, str], *, offline: bool = False) -> list[Finding]:
    """Return how everything is. `offline`: without state store and providers. Blocks for about ANSWER_S at most."""
    try:
        configuration = load_configuration(environ)
    except ConfigurationError as error:
        return [Finding("configuration", "problem", problem) for problem in error.problems]
    findings = [*_read(configuration)]
    if not offline:
        findings.append(check_store(configuration.settings))
        findings += check_providers(configuration)
    return findings


# --- what was read ---------------------------------------------------------------------------------------------------


def _read(configuration: Configuration) -> list[Finding]:
    settings, inventory = configuration.settings, configuration.inventory
    size = f"{settings.workers} workers of {settings.threads} threads, at {settings.bind}"
    callable_ = f"{len(inventory.listed)} models can be called"
    if inventory.stands_in:
        callable_ += ": no provider has a key, so the sandbox answers for all of them"
    found = [
        Finding("settings", "ok", size),
        Finding("client keys", "ok", _describe_keys(configuration)),
        Finding("catalog", "ok", f"{callable_} (with {settings.catalog_path})" if settings.catalog_path else callable_),
    ]
    return found + [Finding(key, "problem", _no_row(key)) for key in inventory.empty_providers]


def _no_row(provider: str) -> str:
    return f'provider {provider} has no [[models]] row: add one with provider = "{provider}" and the id of a model that it serves'


def _describe_keys(configuration: Configuration) -> str:
    settings = configuration.settings
    if configuration.made_key:
        return f"none is set: the one in {settings.data_dir} is used"
    names = [name for name, _ in settings.api_keys] + [key.name for key in settings.api_key_hashes]
    anyone = ["GATEWAY_ALLOW_ANONYMOUS lets in whoever comes"] if settings.allow_anonymous else []
    return "; ".join(anyone + [", ".join(names)] * bool(names))


# --- the state store -------------------------------------------------------------------------------------------------


def check_store(settings: Settings) -> Finding:
    """Ask the state store and write to it."""
    store = open_store(settings)
    try:
        milliseconds = ask_patiently(lambda: _time_write(store)) * 1000
    except StateError as error:
        remedy = "requests would be served, but quotas, rests and limits not be shared"
        return Finding(
            "state store",
            "problem",
            f"{_place_of(settings)} cannot be used ({error}); {remedy}: see to {settings.state_variable}",
        )
    finally:
        store.close()
    return Finding("state store", "ok", f"{_place_of(settings)} takes what is written within {milliseconds:.1f} ms")


def _time_write(store: StateStore) -> float:
    """Return how many seconds a write takes. :raises StateError: the store does not answer or does not keep it."""
    store.ping()
    began = time.monotonic()
    store.count(Charge("check", 0, 1, 1_000_000, store.now() + 1))
    return time.monotonic() - began


def _place_of(settings: Settings) -> str:
    """Return where the state is, without what a URL may hold of a password."""
    if not settings.shares_state:
        return f"SQLite in {settings.state_location.removeprefix('sqlite:///')}"
    parts = urlsplit(settings.state_location)
    return f"Redis at {parts.hostname}:{parts.port or 6379}"


# --- providers -------------------------------------------------------------------------------------------------------


def check_providers(configuration: Configuration) -> list[Finding]:
    """Try every key of every provider by a call that costs nothing, all at once; say what the others need."""
    settings, inventory = configuration.settings, configuration.inventory
    providers = build_providers(inventory, settings, MemoryStore())
    usable = load_credentials(inventory.catalog, settings)
    done = (SANDBOX, *inventory.empty_providers)
    rows = [row for row in inventory.catalog.providers.values() if row.key not in done]
    watch = Watch()
    trials = [
        Trial(row, credential, providers.get(row.key), watch, of=len(usable[row.key]))
        for row in rows
        for credential in usable.get(row.key, ())
    ]
    ends_mono = time.monotonic() + ANSWER_S + LAST_S
    found = [trial.finding(ends_mono) for trial in trials]
    unset = {row.key: " and ".join(missing_variables(row, settings)) for row in rows if row.key not in usable}
    return found + [Finding(key, "off", f"set {variables} to use it") for key, variables in unset.items()]


class Trial:
    """A call that tells whether a credential is any good, in a thread of its own."""

    def __init__(self, row: ProviderRow, credential: Credential, provider: Provider | None, watch: Watch, *, of: int) -> None:
        self._row = row
        self._credential = credential
        self._provider = provider
        self._watch = watch
        self._what = row.key if of == 1 else f"{row.key} key {credential.number}"
        self._found = Finding(self._what, "problem", f"no answer within {ANSWER_S + LAST_S:.0f} s; {self._way()}")
        self._thread = threading.Thread(target=self._run, name=self._what, daemon=True)
        self._thread.start()

    def finding(self, ends_mono: float) -> Finding:
        """Return what was found. Blocks until then at most."""
        self._thread.join(max(0.0, ends_mono - time.monotonic()))
        return self._found

    def _run(self) -> None:
        try:
            self._found = Finding(self._what, *self._judge())
        except Exception as error:  # its text may hold anything
            self._found = Finding(self._what, "problem", f"could not be tried: {type(error).__name__}")

    def _judge(self) -> tuple[State, str]:
        if self._provider is None:
            return "unknown", "none of its models can be called"
        limits = CallLimits(ANSWER_S, ANSWER_S, ANSWER_S, time.monotonic() + ANSWER_S)
        try:
            with self._watch.watched() as handle:
                tried = self._provider.try_credential(self._credential, limits, handle)
        except UpstreamError as error:
            return self._explain(error)
        if not tried:
            return "unknown", "it has no call that costs nothing: the first request tells"
        return "ok", "the key is accepted" if self._credential.secret else "it answers"

    def _explain(self, error: UpstreamError) -> tuple[State, str]:
        status = f" (status {error.upstream_status})" if error.upstream_status else ""
        if isinstance(error, UpstreamCredentialRejected | UpstreamPaymentRequired):
            return "problem", f"the key is refused{status}; {self._key()}"
        if isinstance(error, UpstreamRateLimited):
            return "ok", f"it answers, but its rate limit or quota is used up at present{status}"
        if isinstance(error, UpstreamUnreachable | UpstreamTimeout):
            return "problem", f"it cannot be reached{status}; {self._way()}"
        if error.upstream_status == 404:
            return "problem", self._nothing_at()
        return "problem", f"it fails{status}: {error.reason}; try again later, or {self._way()}"

    def _key(self) -> str:
        variables = " and ".join(filter(None, (self._row.credential_env, self._row.account_id_env)))
        return f"check {variables or 'its row in the catalog'}, or make a new key ({self._row.docs or 'where it is hosted'})"

    def _nothing_at(self) -> str:
        if self._row.base_url_env:  # a provider with calls of its own, perhaps
            return f"nothing there (status 404): does {self._row.base_url_env} end as in {self._row.base_url}?"
        return f"nothing at {self._credential.base_url}/models (status 404): does base_url end in /v1?"

    def _way(self) -> str:
        return f"check the network, HTTPS_PROXY and {self._row.base_url_env or 'its base_url in the catalog'}"


# --- how it is shown -------------------------------------------------------------------------------------------------


def render_table(findings: Sequence[Finding]) -> str:
    """Return a line for each finding, and one for all of them."""
    width = max(len(finding.what) for finding in findings)
    lines = [f"{finding.what:{width}}  {finding.state:7}  {finding.detail}" for finding in findings]
    problems = sum(finding.state == "problem" for finding in findings)
    verdict = "All is well." if not problems else "1 problem." if problems == 1 else f"{problems} problems."
    return "\n".join([*lines, "", verdict])


def render_json(findings: Sequence[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings], indent=2)
