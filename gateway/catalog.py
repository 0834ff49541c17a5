"""The catalog: providers, models and aliases, read from TOML and checked as a whole at boot.

`load_catalog` merges the operator's file over the built-in one. Which of it can be called is said elsewhere
(credentials.py, inventory.py). Everything here is frozen once built.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from marshmallow import Schema, ValidationError, fields

from gateway.domain import (
    AUTO_NAMES,
    CAPABILITIES,
    REASONING_EFFORTS,
    REASONING_LEVELS,
    WINDOWS,
    Model,
    ProviderRow,
)
from gateway.errors import ConfigurationError

BUILTIN_PATH = Path(__file__).with_name("catalog.toml")
SANDBOX = "sandbox"  # the key of the provider that needs no network, and stands in where no other is usable
SANDBOX_URL = "sandbox:"
VISIBLE_ASCII = re.compile(r"[!-~]+")  # what a header and a URL can carry as it is
ACCOUNT_ID = "{account_id}"  # in a base URL: the value of the row's account_id_env

_ID = re.compile(r"[!-+\--~]+")  # visible ASCII but for the comma: ids stand in headers and in comma-separated lists
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # no slash: `provider/id` is split at the first one
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")

_TOP_LEVEL = ("providers", "models", "aliases")
_MODEL_WINDOWS = tuple(window for window in WINDOWS if window != "neurons")

Identity = tuple[str, ...]  # (key,) of a provider, (provider, id) of a model
Row = dict[str, Any]


# --- what a request's `model` means --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Named:
    """What a name stands for: rows of any status, in the catalog's order, then `auto` where an auto name is meant."""

    models: tuple[Model, ...] = ()
    auto: str | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every row, retired ones included. `aliases` maps a name to what it stands for, in order."""

    providers: Mapping[str, ProviderRow]
    models: tuple[Model, ...]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _exact: Mapping[str, Named] = field(init=False, repr=False, compare=False)
    _patterns: Sequence[tuple[str, Named]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_id: dict[str, list[Model]] = {}
        for model in self.models:
            by_id.setdefault(model.id, []).append(model)
        named = {name: Named(auto=name) for name in AUTO_NAMES}
        named |= {model.name: Named((model,)) for model in self.models}
        ids = {id_: Named(tuple(models)) for id_, models in by_id.items()}
        aliases = {name: _named(targets, named | ids) for name, targets in self.aliases.items()}
        patterns = [(name[:-1], aliases.pop(name)) for name in self.aliases if name.endswith("*")]
        # The last one wins: an id, then an alias, then provider/id, then an auto name (contract, "Names of models").
        object.__setattr__(self, "_exact", named | aliases | ids)
        object.__setattr__(self, "_patterns", sorted(patterns, key=lambda pattern: -len(pattern[0])))

    def resolve(self, name: str) -> Named | None:
        """Return what a request's `model` stands for, None where nothing has that name. The longest pattern matches."""
        exact = self._exact.get(name)
        if exact is not None:
            return exact
        return next((named for prefix, named in self._patterns if name.startswith(prefix)), None)

    @property
    def credential_variables(self) -> tuple[str, ...]:
        """The variables that hold providers' keys, in the catalog's order."""
        return tuple(dict.fromkeys(row.credential_env for row in self.providers.values() if row.credential_env))

    def with_retired(self, names: Collection[str]) -> Catalog:
        """Return this catalog with these rows (`provider/id`) retired."""
        models = tuple(replace(model, status="retired") if model.name in names else model for model in self.models)
        return Catalog(self.providers, models, self.aliases)


def _named(targets: Iterable[str], names: Mapping[str, Named]) -> Named:
    """Return an alias's targets as one; a target that is not there (any more) is left out."""
    found = [names[target] for target in targets if target in names]
    models = {model.name: model for named in found for model in named.models}
    return Named(tuple(models.values()), next((named.auto for named in found if named.auto), None))


# --- schemas: one field, one reader; TOML has types, so nothing is coerced ------------------------------------------


class _Value(fields.Field[Any]):
    """A field read by a function that raises ValueError. `shown` false: the value might be a pasted secret."""

    default_error_messages = {"required": "is missing"}

    def __init__(self, expected: str, read: Callable[[Any], Any], *, required: bool = False, shown: bool = True) -> None:
        super().__init__(required=required)
        self._expected, self._read, self._shown = expected, read, shown

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            return self._read(value)
        except ValueError:
            raise ValidationError(f"must be {self._expected}" + (f", not {value!r:.60}" if self._shown else "")) from None


def _checked(value: Any, passes: bool) -> Any:
    if not passes:
        raise ValueError
    return value


def _is_whole(value: Any, at_least: int) -> bool:
    return type(value) is int and value >= at_least  # a bool is an int to isinstance


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


def _whole(at_least: int, at_most: int | None = None) -> _Value:
    expected = f"a whole number of at least {at_least}" if at_most is None else f"a whole number from {at_least} to {at_most}"
    return _Value(expected, lambda v: _checked(v, _is_whole(v, at_least) and (at_most is None or v <= at_most)))


def _one_of(*allowed: str) -> _Value:
    return _Value("one of " + ", ".join(allowed), lambda v: _checked(v, v in allowed))


def _flag() -> _Value:
    return _Value("true or false", lambda v: _checked(v, isinstance(v, bool)))


def _text() -> _Value:
    return _Value("a text", lambda v: _checked(v, isinstance(v, str) and v.strip() != ""))


def _matching(pattern: re.Pattern[str], expected: str, *, required: bool = False, shown: bool = True) -> _Value:
    def read(value: Any) -> Any:
        return _checked(value, isinstance(value, str) and pattern.fullmatch(value) is not None)

    return _Value(expected, read, required=required, shown=shown)


def _variable() -> _Value:
    # Not shown: whoever pastes a key in place of its name must not find it in the log.
    return _matching(_VARIABLE, "the name of an environment variable (A-Z, 0-9, _)", shown=False)


def _table(keys: Collection[str], expected: str, passes: Callable[[Any], bool]) -> _Value:
    """A table whose keys are known and whose values all pass."""

    def read(value: Any) -> Any:
        return _checked(value, isinstance(value, dict) and all(key in keys and passes(value[key]) for key in value))

    return _Value(f"a table of {', '.join(keys)} with {expected}", read)


def _limits(windows: Collection[str]) -> _Value:
    return _table(windows, "whole numbers of at least 0", lambda v: _is_whole(v, 0))


def _efforts() -> _Value:
    def passes(value: Any) -> bool:
        return _is_whole(value, -1) or (isinstance(value, str) and value != "")

    return _table(REASONING_EFFORTS, "the provider's words or budgets in tokens", passes)


def _texts(expected: str, allowed: Collection[str] | None = None) -> _Value:
    def read(value: Any) -> frozenset[str]:
        ok = isinstance(value, list) and all(isinstance(v, str) and (allowed is None or v in allowed) for v in value)
        return frozenset(_checked(value, ok))

    return _Value(expected, read)


def _read_dimensions(value: Any) -> tuple[int, ...]:
    sizes = value if isinstance(value, list) else [value]
    return tuple(_checked(sizes, len(sizes) > 0 and all(_is_whole(size, 1) for size in sizes)))


def _read_neurons(value: Any) -> tuple[float, float]:
    _checked(value, isinstance(value, list) and len(value) == 2 and all(_is_number(v) for v in value))
    return float(value[0]), float(value[1])


def _read_date(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime.date) else str(_checked(value, isinstance(value, str)))


def is_url(value: Any) -> bool:
    """Whether paths and the account id can be put to it, and it carries no secret of its own."""
    if not isinstance(value, str) or not VISIBLE_ASCII.fullmatch(value):
        return False
    try:
        parts = urlsplit(value)
        usable_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    bare = not (parts.query or parts.fragment or "@" in parts.netloc)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and usable_port and bare


URL_FORM = "an http:// or https:// URL without user, query and fragment"


def _read_prefixes(value: Any) -> Any:
    return _checked(value, isinstance(value, dict) and all(key and is_url(url) for key, url in value.items()))


class _ProviderSchema(Schema):
    key = _matching(_KEY, "a name of A-Z, a-z, 0-9, _, . and -", required=True)
    adapter = _text()
    base_url = _Value(URL_FORM, lambda v: _checked(v, v == SANDBOX_URL or is_url(v)), shown=False)
    base_url_env = _variable()
    base_url_by_key_prefix = _Value(f"a table of {URL_FORM}", _read_prefixes, shown=False)
    credential_env = _variable()
    account_id_env = _variable()
    docs = _text()
    read_on = _Value("a date", _read_date)
    clock = _one_of("utc", "pacific", "rolling")
    account_limits = _limits(WINDOWS)
    discover = _flag()
    enabled = _flag()


class _ModelSchema(Schema):
    provider = _matching(_KEY, "the key of a provider", required=True)
    id = _matching(_ID, "visible ASCII without spaces and commas", required=True)
    kind = _one_of("chat", "embedding", "rerank")
    created = _whole(0)
    reasoning_tier = _one_of(*REASONING_LEVELS)
    context_window = _whole(1)
    max_output_tokens = _whole(1)
    capabilities = _texts(f"a list of {', '.join(CAPABILITIES)}", CAPABILITIES)
    limits = _limits(_MODEL_WINDOWS)
    upstream_id = _matching(_ID, "visible ASCII without spaces and commas")
    status = _one_of("active", "preview", "legacy", "retired")
    replaced_by = _text()
    quality = _whole(0, 100)
    dimensions = _Value("a whole number of at least 1, or a list of them with the model's own first", _read_dimensions)
    min_dimensions = _whole(1)
    batch = _whole(1)
    first_token_timeout_s = _Value("a number of seconds above 0", lambda v: _checked(v, _is_number(v) and v > 0))
    reserves_output = _flag()
    params = _texts("a list of names of parameters")
    reasoning_efforts = _efforts()
    neurons_per_mtok = _Value("a list of two numbers, of the prompt and of the completion", _read_neurons)
    source = _text()
    confirmed = _flag()
    enabled = _flag()


_PROVIDER_SCHEMA = _ProviderSchema()  # building one costs more than reading a row with it
_MODEL_SCHEMA = _ModelSchema()


# --- loading --------------------------------------------------------------------------------------------------------


def load_catalog(path: Path | None, adapters: Collection[str]) -> Catalog:
    """Read the built-in catalog and merge the file at `path` over it; `adapters` are the names that rows may use.

    :raises ConfigurationError: naming every file, row and field that is wrong.
    """
    problems: list[str] = []
    sources = [_Source(BUILTIN_PATH, adapters, problems)]
    if path is not None:
        sources.append(_Source(path, adapters, problems))
    providers = _build_providers(sources, problems)
    models = _build_models(sources, providers, problems)
    aliases = _build_aliases(sources, models)
    if problems:
        raise ConfigurationError(problems)
    return Catalog(providers=providers, models=models, aliases=aliases)


class _Source:
    """One TOML file, its rows checked one by one. `claimed` are the identities of all rows, faulty ones too."""

    def __init__(self, path: Path, adapters: Collection[str], problems: list[str]) -> None:
        self.path = path
        self.builtin = path == BUILTIN_PATH
        self.written_at = 0
        self.claimed: set[Identity] = set()
        self._problems = problems
        self._adapters = adapters
        document = self._read()
        for name in document:
            if name not in _TOP_LEVEL:
                self.report(f"unknown table '{name}'{_hint(name, _TOP_LEVEL)}")
        self.providers = self._rows(document, "providers", _PROVIDER_SCHEMA, ("key",))
        self.models = self._rows(document, "models", _MODEL_SCHEMA, ("provider", "id"))
        self.aliases = self._aliases(document.get("aliases", {}))

    def report(self, problem: str) -> None:
        self._problems.append(f"{self.path}: {problem}")

    def _read(self) -> dict[str, Any]:
        try:
            self.written_at = int(self.path.stat().st_mtime)
            return tomllib.loads(self.path.read_bytes().decode("utf-8-sig"))
        except OSError as error:
            self.report(f"cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            self.report("is not UTF-8")
        except tomllib.TOMLDecodeError as error:
            self.report(f"is not TOML: {error}")
        return {}

    def _rows(self, document: Mapping[str, Any], name: str, schema: Schema, keys: tuple[str, ...]) -> dict[Identity, Row]:
        """Return the rows of one array of tables that are sound, by identity."""
        array = document.get(name, [])
        if not isinstance(array, list) or not all(isinstance(row, dict) for row in array):
            self.report(f"{name} must be tables, each headed [[{name}]]")
            return {}
        rows: dict[Identity, Row] = {}
        for position, row in enumerate(array, start=1):
            identity = tuple(row.get(key) for key in keys)
            named = all(isinstance(part, str) for part in identity)
            place = f"[[{name}]] {_place(identity, position)}"
            if named and identity in self.claimed:
                self.report(f"{place}: stands here twice")
            elif named:
                self.claimed.add(identity)
            try:
                rows[identity] = schema.load(row)
            except ValidationError as error:
                self._report_fields(place, error.messages_dict, schema)
            adapter = row.get("adapter")
            if schema is _PROVIDER_SCHEMA and isinstance(adapter, str) and adapter.strip() and adapter not in self._adapters:
                self.report(f"{place}: unknown adapter '{adapter}'{_hint(adapter, self._adapters)}")
        return rows

    def _report_fields(self, place: str, messages: Mapping[str, Any], schema: Schema) -> None:
        for name, found in messages.items():
            if name in schema.fields:
                self.report(f"{place}: {name} {found[0]}")
            else:
                self.report(f"{place}: unknown field '{name}'{_hint(name, schema.fields)}")

    def _aliases(self, table: Any) -> dict[str, tuple[str, ...]]:
        if not isinstance(table, dict):
            self.report("aliases must be a table, headed [aliases]")
            return {}
        return {name: tuple(targets) for name, targets in table.items() if self._is_alias(name, targets)}

    def _is_alias(self, name: str, targets: Any) -> bool:
        problem = None
        if not _ID.fullmatch(name) or "*" in name[:-1]:
            problem = "must be visible ASCII without spaces and commas, with * only at its end"
        elif name in AUTO_NAMES:
            problem = "is a name of the gateway's own"
        elif not isinstance(targets, list) or not targets or not all(isinstance(target, str) for target in targets):
            problem = "must be a list of names of models"
        if problem:
            self.report(f"[aliases] '{name}': {problem}")
        return problem is None


def _place(identity: Sequence[Any], position: int) -> str:
    """Return how messages name a row: by its identity, or by its position and what there is of an identity."""
    named = [part for part in identity if isinstance(part, str)]
    if len(named) == len(identity):
        return "/".join(named)
    return f"number {position}" + (f" ({named[0]})" if named else "")


def _hint(name: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(name, list(known), n=1)
    return f" (did you mean '{nearest[0]}'?)" if nearest else ""


def _merge(sources: Sequence[_Source], name: Literal["providers", "models"]) -> dict[Identity, Row]:
    """Return the rows of all files, a later file's fields over an earlier one's; rows that are taken away too."""
    merged: dict[Identity, Row] = {}
    for source in sources:
        for identity, row in getattr(source, name).items():
            merged[identity] = {**merged.get(identity, {}), **row, "source_file": source}
    return merged


def _build_providers(sources: Sequence[_Source], problems: list[str]) -> dict[str, ProviderRow]:
    merged = {key: row for (key,), row in _merge(sources, "providers").items() if row.get("enabled", True)}
    for key, row in merged.items():
        if problem := _provider_problem(row):
            row["source_file"].report(f"[[providers]] {key}: {problem}")
    return {} if problems else {key: ProviderRow(**_facts(row)) for key, row in merged.items()}


def _provider_problem(row: Row) -> str | None:
    """Return what is wrong with a merged row as a whole, None where nothing is."""
    if "base_url" not in row:
        return "base_url is missing"
    urls = [row["base_url"], *row.get("base_url_by_key_prefix", {}).values()]
    if "account_id_env" not in row and any(ACCOUNT_ID in url for url in urls):
        return f"account_id_env is missing, base_url holds {ACCOUNT_ID}"
    return None


def _build_models(sources: Sequence[_Source], providers: Mapping[str, ProviderRow], problems: list[str]) -> tuple[Model, ...]:
    keys: set[str] = set()
    for source in sources:
        keys |= {identity[0] for identity in source.claimed if len(identity) == 1}
        for provider, id_ in source.models:
            if provider not in keys:
                source.report(f"[[models]] {provider}/{id_}: unknown provider '{provider}'{_hint(provider, keys)}")
            if id_ in AUTO_NAMES:
                source.report(f"[[models]] {provider}/{id_}: id is a name of the gateway's own")
    if problems:
        return ()
    merged = _merge(sources, "models")
    return tuple(_build_model(row) for row in merged.values() if row.get("enabled", True) and row["provider"] in providers)


def _build_model(row: Row) -> Model:
    source = row["source_file"]
    capabilities = frozenset({"streaming"}) if row.get("kind", "chat") == "chat" else frozenset()
    defaults = {"created": source.written_at, "upstream_id": row["id"], "capabilities": capabilities}
    own = {} if source.builtin else source.models[row["provider"], row["id"]]
    unlimited = own.get("limits") == {}  # an empty table is a word of the operator's, an absent one is none
    return Model(**{**defaults, **_facts(row), "unlimited": unlimited, "builtin": source.builtin})


def _facts(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("enabled", "source_file")}


def _build_aliases(sources: Sequence[_Source], models: Iterable[Model]) -> dict[str, tuple[str, ...]]:
    """Return the aliases that stand for something: what they name may have been taken away, or its name be an id now."""
    merged = _merge(sources, "models")
    ids = {id_ for (_, id_), row in merged.items() if row.get("enabled", True)}
    rows = {identity for source in sources for identity in source.claimed if len(identity) == 2}
    targets = {*AUTO_NAMES, *(id_ for _, id_ in rows), *("/".join(row) for row in rows)}
    here = {*AUTO_NAMES, *(model.id for model in models), *(model.name for model in models)}
    aliases: dict[str, tuple[str, ...]] = {}
    for source in sources:
        # An id of the operator's may take the name of a built-in alias, which gives way: exact ids come first.
        taken = {id_ for _, id_ in source.models} if source.builtin else ids
        for name, named in source.aliases.items():
            if name in taken:
                source.report(f"[aliases] '{name}': is the id of a model")
            for target in named:
                if target not in targets:
                    source.report(f"[aliases] '{name}': unknown model '{target}'{_hint(target, targets)}")
            aliases[name] = named
    return {name: named for name, named in aliases.items() if name not in ids and any(target in here for target in named)}
