"""Settings: the one reader of environment variables, checked as a whole at boot."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from gateway.errors import ConfigurationError

T = TypeVar("T")
Switch = Literal["on", "off", "auto"]
RateLimit = tuple[int, int]  # (requests, seconds)

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
KEY_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")  # of a client's key
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[A-Za-z0-9_.-]+(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A key that clients may use: only the SHA-256 of it is kept."""

    name: str
    sha256: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting, with its default beside it. Tests construct it directly.

    `variables` is the environment that was read: the catalog names further variables in it (credentials and
    base URLs), see `variable`. `api_keys` empty and `allow_anonymous` false: a key is made at the first start.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 2
    threads: int = 64
    api_keys: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # (name, key)
    api_key_hashes: tuple[ClientKey, ...] = ()
    allow_anonymous: bool = False
    data_dir: Path = Path(".data")
    state_url: str = field(default="", repr=False)  # "": SQLite in the data folder
    state_tls_verify: bool = True
    catalog_path: Path | None = None
    discovery: bool = True
    sandbox: Switch = "auto"
    connect_timeout_s: float = 3.0
    first_token_timeout_s: float = 10.0
    idle_timeout_s: float = 20.0
    commit_budget_s: float = 60.0
    request_deadline_s: float = 300.0
    stream_max_s: float = 1800.0
    retry_after_patience_s: float = 3.0
    stream_rescue: bool = True
    list_auto: bool = False
    max_request_bytes: int = 32 * 1024 * 1024
    client_rate_limit: RateLimit | None = None
    public_rate_limit: RateLimit | None = (120, 60)
    trusted_proxy_hops: int = 0
    cors_origins: tuple[str, ...] = ("*",)
    metrics_token: str | None = field(default=None, repr=False)
    log_level: str = "info"
    log_format: str = "json"
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)  # scheme: proxy URL, which may hold a password
    no_proxy: str = ""
    ca_bundle: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read every variable of the contract; an empty one counts as unset.

        :raises ConfigurationError: naming every variable that cannot be read.
        """
        settings, problems = cls.gather(environ)
        if problems:
            raise ConfigurationError(problems)
        return settings

    @classmethod
    def gather(cls, environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
        """Return what could be read, with defaults in place of the rest, and what is wrong with the rest."""
        variables = {name: value.strip() for name, value in environ.items() if value.strip()}
        read = _Reader(variables)
        anonymous = read.boolean("GATEWAY_ALLOW_ANONYMOUS", False)
        settings = cls(
            host=read.text("HOST", "0.0.0.0" if "PORT" in variables else "127.0.0.1").strip("[]"),
            port=read.integer("PORT", 8000, at_least=0, at_most=65535),
            workers=read.integer("WEB_CONCURRENCY", 2, at_least=1),
            threads=read.integer("GATEWAY_THREADS", 64, at_least=2),
            api_keys=read.keys("GATEWAY_API_KEY"),
            api_key_hashes=read.hashes("GATEWAY_API_KEY_HASHES"),
            allow_anonymous=anonymous,
            data_dir=Path(read.text("GATEWAY_DATA_DIR", ".data")),
            state_url=read.state_url(),
            state_tls_verify=read.boolean("STATE_TLS_VERIFY", True),
            catalog_path=Path(variables["GATEWAY_CATALOG"]) if "GATEWAY_CATALOG" in variables else None,
            discovery=read.boolean("GATEWAY_DISCOVERY", True),
            sandbox=read.switch("GATEWAY_SANDBOX", "auto"),
            connect_timeout_s=read.seconds("CONNECT_TIMEOUT_S", 3),
            first_token_timeout_s=read.seconds("FIRST_TOKEN_TIMEOUT_S", 10),
            idle_timeout_s=read.seconds("IDLE_TIMEOUT_S", 20),
            # A Heroku-style router gives up on a request that has no first byte after 30 s.
            commit_budget_s=read.seconds("COMMIT_BUDGET_S", 25 if "DYNO" in variables else 60),
            request_deadline_s=read.seconds("REQUEST_DEADLINE_S", 300),
            stream_max_s=read.seconds("STREAM_MAX_S", 1800),
            retry_after_patience_s=read.seconds("RETRY_AFTER_PATIENCE_S", 3, at_least=0),
            stream_rescue=read.boolean("GATEWAY_STREAM_RESCUE", True),
            list_auto=read.boolean("GATEWAY_LIST_AUTO", False),
            max_request_bytes=read.integer("MAX_REQUEST_BYTES", 32 * 1024 * 1024, at_least=1),
            client_rate_limit=read.rate("CLIENT_RATE_LIMIT", None),
            public_rate_limit=read.rate("PUBLIC_RATE_LIMIT", (120, 60)),
            trusted_proxy_hops=read.integer("TRUSTED_PROXY_HOPS", 0, at_least=0),
            # Without a key any web page could spend the quotas: browsers are let in only where somebody says so.
            cors_origins=read.origins("CORS_ORIGINS", () if anonymous else ("*",)),
            metrics_token=variables.get("METRICS_TOKEN"),
            log_level=read.one_of("LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
            log_format=read.one_of("LOG_FORMAT", "text" if os.isatty(2) else "json", ("json", "text")),
            proxies=read.proxies(),
            no_proxy=variables.get("NO_PROXY") or variables.get("no_proxy") or "",
            ca_bundle=read.existing_path("REQUESTS_CA_BUNDLE" if "REQUESTS_CA_BUNDLE" in variables else "CURL_CA_BUNDLE"),
            variables=variables,
        )
        return settings, read.problems

    def variable(self, name: str | None) -> str | None:
        """Return the value of a variable that the catalog names, None where it is unset or unnamed."""
        return self.variables.get(name) if name else None

    @property
    def needs_key(self) -> bool:
        """Whether a key has to be made: the operator neither named one, be it unreadable, nor lets everybody in."""
        named = (self.variable(name) for name in ("GATEWAY_API_KEY", "GATEWAY_API_KEY_HASHES"))
        return not (self.api_keys or self.api_key_hashes or self.allow_anonymous or any(named))

    @property
    def bind(self) -> str:
        """Where to listen, as gunicorn takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def state_location(self) -> str:
        """The URL of the state store: the one that was set, or that of the embedded one."""
        return self.state_url or f"sqlite:///{self.data_dir / 'state.sqlite3'}"

    @property
    def state_variable(self) -> str:
        """The variable that tells where the state store is."""
        if not self.state_url:
            return "GATEWAY_DATA_DIR"
        return "REDIS_URL" if "REDIS_URL" in self.variables and "STATE_URL" not in self.variables else "STATE_URL"

    @property
    def shares_state(self) -> bool:
        """Whether several machines keep one state."""
        return self.state_url.startswith(("redis://", "rediss://"))


class _Reader:
    """Read variables one by one and gather what is wrong with them. Values of secrets are never repeated."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.problems: list[str] = []

    def _parse(self, name: str, default: T, parse: Callable[[str], T], expected: str, *, secret: bool = False) -> T:
        value = self._variables.get(name)
        if value is None:
            return default
        try:
            return parse(value)
        except ValueError:
            shown = "" if secret else f", not {value[:60]!r}"
            self.problems.append(f"{name} must be {expected}{shown}")
            return default

    def text(self, name: str, default: str) -> str:
        return self._variables.get(name, default)

    def origins(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        def parse(value: str) -> tuple[str, ...]:
            origins = tuple(part.strip() for part in value.split(",") if part.strip())
            if not all(_ORIGIN.fullmatch(origin) for origin in origins):
                raise ValueError
            return origins

        return self._parse(name, default, parse, "*, or origins like https://example.com, separated by commas")

    def existing_path(self, name: str) -> str | None:
        def parse(value: str) -> str:
            if not os.path.exists(value):
                raise ValueError
            return value

        return self._parse(name, None, parse, "the path of a file or folder that is there")

    def proxies(self) -> dict[str, str]:
        """Return the proxy of each scheme; that for all is read only where one of them has none of its own."""
        found: dict[str, str] = {}
        for scheme in ("http", "https", "all"):
            upper = f"{scheme}_proxy".upper()
            name = upper if upper in self._variables else upper.lower()
            url = None if len(found) == 2 else self._parse(name, None, _proxy, "a URL like http://host:port", secret=True)
            if url:
                found[scheme] = url
        return found

    def one_of(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        def parse(value: str) -> str:
            if value.lower() not in allowed:
                raise ValueError
            return value.lower()

        return self._parse(name, default, parse, "one of " + ", ".join(allowed))

    def boolean(self, name: str, default: bool) -> bool:
        return self._parse(name, default, _boolean, "true or false")

    def switch(self, name: str, default: Switch) -> Switch:
        def parse(value: str) -> Switch:
            if value.lower() == "auto":
                return "auto"
            return "on" if _boolean(value) else "off"

        return self._parse(name, default, parse, "on, off or auto")

    def integer(self, name: str, default: int, *, at_least: int, at_most: int | None = None) -> int:
        def parse(value: str) -> int:
            number = int(value)
            if number < at_least or (at_most is not None and number > at_most):
                raise ValueError
            return number

        limits = f"from {at_least} to {at_most}" if at_most is not None else f"of at least {at_least}"
        return self._parse(name, default, parse, f"a whole number {limits}")

    def seconds(self, name: str, default: float, *, at_least: float = 0.01) -> float:
        def parse(value: str) -> float:
            number = float(value)
            if not at_least <= number <= 86400:
                raise ValueError
            return number

        return self._parse(name, default, parse, f"a number of seconds from {at_least:g} to 86400")

    def rate(self, name: str, default: RateLimit | None) -> RateLimit | None:
        return self._parse(name, default, _rate, "a rate like 600/minute (second, minute, hour, day), or off")

    def keys(self, name: str) -> tuple[tuple[str, str], ...]:
        return self._parse(name, (), _keys, "key or name:key, several separated by commas", secret=True)

    def hashes(self, name: str) -> tuple[ClientKey, ...]:
        expected = "name:sha256hex, several separated by commas or new lines"
        return self._parse(name, (), _hashes, expected, secret=True)

    def state_url(self) -> str:
        name = "STATE_URL" if "STATE_URL" in self._variables else "REDIS_URL"

        def parse(value: str) -> str:
            if not value.startswith(("sqlite:///", "redis://", "rediss://")):
                raise ValueError
            return value

        return self._parse(name, "", parse, "sqlite:///path, redis://host or rediss://host", secret=True)


def _proxy(value: str) -> str:
    """Return a proxy's URL; one without a scheme is an http one, as elsewhere."""
    url = value if "://" in value else f"http://{value}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or not url.isascii() or " " in url:
        raise ValueError
    return url


def _boolean(value: str) -> bool:
    if value.lower() in ("true", "1", "yes", "on"):
        return True
    if value.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError


def _rate(value: str) -> RateLimit | None:
    if value.lower() in ("off", "none", "0"):
        return None
    count, _, unit = value.partition("/")
    if int(count) < 1 or unit.strip().rstrip("s") not in _SECONDS:
        raise ValueError
    return int(count), _SECONDS[unit.strip().rstrip("s")]


def _keys(value: str) -> tuple[tuple[str, str], ...]:
    keys = []
    for position, part in enumerate((part.strip() for part in value.split(",") if part.strip()), start=1):
        name, colon, key = part.partition(":")
        if not colon:
            name, key = ("default" if position == 1 else f"key-{position}"), part
        if not KEY_NAME.fullmatch(name) or not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError
        keys.append((name, key))
    if not keys:
        raise ValueError
    return tuple(keys)


def _hashes(value: str) -> tuple[ClientKey, ...]:
    found = []
    for part in filter(None, re.split(r"[,\s]+", value)):
        name, _, digest = part.partition(":")
        if not KEY_NAME.fullmatch(name) or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            raise ValueError
        found.append(ClientKey(name, digest.lower()))
    if not found:
        raise ValueError
    return tuple(found)
