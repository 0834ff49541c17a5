"""Who is asking: a client's key becomes an identity."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.errors import Unauthenticated
from gateway.settings import ClientKey, Settings


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """The name of the key that a client used."""

    name: str


ANONYMOUS = ClientIdentity("anonymous")


class Keyring:
    """The keys that may use this gateway. Only their SHA-256 is kept; comparing takes the same time for each."""

    def __init__(self, settings: Settings) -> None:
        plain = (ClientKey(name, sha256_of(key)) for name, key in settings.api_keys)
        self._keys = (*plain, *settings.api_key_hashes)
        self._allow_anonymous = settings.allow_anonymous

    def identify(self, headers: Mapping[str, str]) -> ClientIdentity:
        """Return whose key a request carries, in any of the headers that clients use; one valid key is enough.

        The names of `headers` are in lower case.

        :raises Unauthenticated: there is no key, or no valid one.
        """
        if identity := self.find(headers):
            return identity
        if self._allow_anonymous:
            return ANONYMOUS
        if any(_keys_in(headers)):
            raise Unauthenticated("Incorrect API key provided. Use a key of this gateway, not of a provider.")
        raise Unauthenticated("You didn't provide an API key. Send it in the header `Authorization: Bearer YOUR_KEY`.")

    def find(self, headers: Mapping[str, str]) -> ClientIdentity | None:
        """Return whose valid key a request carries, None where it carries none."""
        for key in _keys_in(headers):
            digest = sha256_of(key)
            matches = [known.name for known in self._keys if hmac.compare_digest(known.sha256, digest)]
            if matches:
                return ClientIdentity(matches[0])
        return None


def sha256_of(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _keys_in(headers: Mapping[str, str]) -> Iterable[str]:
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        yield token.strip()
    for name in ("x-api-key", "api-key"):
        if key := headers.get(name, "").strip():
            yield key
