"""Credentials: the keys that the environment holds for the catalog's providers, and what is missing for the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gateway.catalog import ACCOUNT_ID, URL_FORM, VISIBLE_ASCII, Catalog, is_url
from gateway.domain import Credential, ProviderRow
from gateway.errors import ConfigurationError
from gateway.settings import Settings

_ACCOUNT = re.compile(r"[A-Za-z0-9_.-]+")


def load_credentials(catalog: Catalog, settings: Settings) -> Mapping[str, tuple[Credential, ...]]:
    """Return the credentials of each provider that can be called; one that lacks a variable is absent.

    A provider that needs none has a single credential without a secret.

    :raises ConfigurationError: naming every variable that cannot be used, never its value.
    """
    problems: list[str] = []
    found: dict[str, tuple[Credential, ...]] = {}
    for row in catalog.providers.values():
        credentials = _credentials(row, settings, problems)
        if credentials:
            found[row.key] = credentials
    if problems:
        raise ConfigurationError(problems)
    return found


def _credentials(row: ProviderRow, settings: Settings, problems: list[str]) -> tuple[Credential, ...]:
    """Return a provider's credentials, () where it is not set up; what is wrong with its variables goes to `problems`."""
    secrets = _parts(settings, row.credential_env) if row.credential_env else [""]
    if not secrets:
        return ()
    if not all(VISIBLE_ASCII.fullmatch(secret) for secret in secrets if row.credential_env):
        problems.append(f"{row.credential_env} must hold keys of visible ASCII characters, without spaces")
    if problem := _base_url_problem(row, settings):
        problems.append(problem)
        return ()
    urls = [_base_url(row, settings, secret) for secret in secrets]
    if any(ACCOUNT_ID in url for url in urls):
        accounts = _parts(settings, row.account_id_env)
        if not accounts and row.credential_env is None:
            return ()
        if problem := _account_problem(row, accounts, len(secrets)):
            problems.append(problem)
            return ()
        each = accounts * len(secrets) if len(accounts) == 1 else accounts
        urls = [url.replace(ACCOUNT_ID, account) for url, account in zip(urls, each, strict=True)]
    distinct = dict.fromkeys(zip(urls, secrets, strict=True))
    return tuple(Credential(row.key, number, url, secret) for number, (url, secret) in enumerate(distinct, start=1))


def _base_url(row: ProviderRow, settings: Settings, secret: str) -> str:
    configured = settings.variable(row.base_url_env)
    if configured is None:
        by_prefix = (url for prefix, url in row.base_url_by_key_prefix.items() if secret.startswith(prefix))
        return next(by_prefix, row.base_url).rstrip("/")
    return configured.rstrip("/")


def _base_url_problem(row: ProviderRow, settings: Settings) -> str | None:
    configured = settings.variable(row.base_url_env)
    if configured is None:
        return None
    if not is_url(configured):
        return f"{row.base_url_env} must be {URL_FORM}"
    if ACCOUNT_ID in configured and row.account_id_env is None:
        return f"{row.base_url_env} holds {ACCOUNT_ID}, but its provider names no variable for one"
    return None


def _account_problem(row: ProviderRow, accounts: Sequence[str], keys: int) -> str | None:
    """Return why these account ids cannot be paired with that many keys, None where they can."""
    if not accounts:
        return f"{row.account_id_env} must be set beside {row.credential_env}"
    if not all(_ACCOUNT.fullmatch(account) for account in accounts):
        return f"{row.account_id_env} must hold account ids, separated by commas"
    if len(accounts) not in (1, keys):
        return (
            f"{row.account_id_env} must hold one account id or as many as {row.credential_env} has keys:"
            f" {keys}, not {len(accounts)}"
        )
    return None


def _parts(settings: Settings, variable: str | None) -> list[str]:
    return [part.strip() for part in (settings.variable(variable) or "").split(",") if part.strip()]


def missing_variables(row: ProviderRow, settings: Settings) -> tuple[str, ...]:
    base_url = settings.variable(row.base_url_env) or row.base_url
    needed = (row.credential_env, row.account_id_env if ACCOUNT_ID in base_url else None)
    return tuple(name for name in needed if name and not _parts(settings, name))
