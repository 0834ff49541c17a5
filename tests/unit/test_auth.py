import pytest

from gateway.auth import ANONYMOUS, ClientIdentity, Keyring, sha256_of
from gateway.errors import Unauthenticated
from gateway.settings import ClientKey, Settings

KEYS = Settings(api_keys=(("ann", "sk-ann"), ("bob", "sk-bob")), api_key_hashes=(ClientKey("eve", sha256_of("sk-eve")),))


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"authorization": "Bearer sk-ann"}, "ann"),
        ({"authorization": "bearer   sk-bob "}, "bob"),
        ({"x-api-key": "sk-bob"}, "bob"),
        ({"api-key": "sk-eve"}, "eve"),
        ({"authorization": "Bearer wrong", "x-api-key": "sk-ann"}, "ann"),
        ({"authorization": "Basic sk-ann", "api-key": "sk-bob"}, "bob"),
    ],
)
def test_one_valid_key_in_any_header_is_enough(headers, name):
    assert Keyring(KEYS).identify(headers) == ClientIdentity(name)


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer "}, {"authorization": "Bearer sk-an"}, {"authorization": "sk-ann"}, {"x-api-key": "sk-\xe9"}],
)
def test_anything_else_is_refused_without_repeating_it(headers):
    with pytest.raises(Unauthenticated) as raised:
        Keyring(KEYS).identify(headers)
    assert "sk-" not in raised.value.message


def test_anonymous_clients_pass_only_where_allowed():
    keyring = Keyring(Settings(allow_anonymous=True, api_keys=(("ann", "sk-ann"),)))
    assert keyring.identify({}) == ANONYMOUS and keyring.identify({"x-api-key": "nope"}) == ANONYMOUS
    assert keyring.identify({"x-api-key": "sk-ann"}) == ClientIdentity("ann")
