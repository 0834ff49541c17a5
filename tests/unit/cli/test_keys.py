import pytest

from gateway.auth import ClientIdentity, Keyring
from gateway.cli import main
from gateway.settings import Settings


def test_a_new_key_is_printed_once_and_its_hash_line_lets_it_in(capsys):
    assert main(["keys", "new", "ann-1.x_y"], {}) == 0
    out, err = capsys.readouterr()
    key, line = out.splitlines()
    assert key.startswith("gw-") and len(key) > 40 and key not in line + err
    keyring = Keyring(Settings.from_env({"GATEWAY_API_KEY_HASHES": line}))
    assert keyring.identify({"x-api-key": key}) == ClientIdentity("ann-1.x_y")


def test_no_two_keys_are_the_same(capsys):
    for _ in range(3):
        main(["keys", "new", "ann"], {})
    assert len(set(capsys.readouterr().out.splitlines())) == 6


@pytest.mark.parametrize("name", ["", " ", "a b", "a:b", "a,b", "é", "a" * 65, "a\n"])
def test_a_name_that_the_setting_would_not_take_is_refused(capsys, name):
    with pytest.raises(SystemExit) as raised:
        main(["keys", "new", name], {})
    out, err = capsys.readouterr()
    assert raised.value.code == 2 and not out and "A-Za-z0-9._-" in err


@pytest.mark.parametrize("arguments", [[], ["keys"], ["keys", "new"], ["serve"]])
def test_whoever_asks_for_nothing_is_told_what_there_is(capsys, arguments):
    with pytest.raises(SystemExit) as raised:
        main(arguments, {})
    assert raised.value.code == 2 and "usage:" in capsys.readouterr().err
