import stat
import threading

import pytest

from gateway import boot as boot_module
from gateway import keys as keys_module
from gateway.boot import greeting, load_configuration, state_warning
from gateway.errors import ConfigurationError, StateError
from gateway.keys import FILE_NAME, load_or_make_key
from gateway.settings import Settings
from gateway.state.memory import MemoryStore


def test_problems_of_settings_and_catalog_come_together(tmp_path):
    catalog = tmp_path / "mine.toml"
    catalog.write_text('[[models]]\nprovider = "nobody"\nid = "x"\n')
    with pytest.raises(ConfigurationError) as raised:
        load_configuration({"PORT": "x", "GATEWAY_CATALOG": str(catalog), "GATEWAY_DATA_DIR": str(tmp_path)})
    text = str(raised.value)
    assert "PORT" in text and "mine.toml" in text and "nobody" in text and "Traceback" not in text


CATALOG = '[[models]]\nid = "nobodys"\n[[providers]]\nkey = "new"\nadapter = "openai"\nbase_url = "ftp://x"\n'
FAULTS = [
    ({"PORT": "x", "GROQ_API_KEY": "a key"}, ["PORT", "GROQ_API_KEY"]),
    ({"GROQ_API_KEY": "a key", "GROQ_BASE_URL": "x"}, ["GROQ_API_KEY", "GROQ_BASE_URL"]),
    ({"GATEWAY_CATALOG": "none.toml", "GROQ_API_KEY": "a key"}, ["none.toml", "GROQ_API_KEY"]),
    ({"REDIS_URL": "redis://x", "PORT": "x"}, ["PORT", "GATEWAY_API_KEY must be set"]),
    ({"GATEWAY_DATA_DIR": "/dev/null/x", "PORT": "x"}, ["GATEWAY_DATA_DIR", "PORT"]),
    ({"REDIS_URL": "redis://[", "PORT": "x", "GATEWAY_API_KEY": "k"}, ["REDIS_URL: cannot", "PORT"]),
    ({"STATE_URL": "redis://[", "PORT": "x", "GATEWAY_API_KEY": "k"}, ["STATE_URL", "PORT"]),
    ({"GATEWAY_CATALOG": "faulty.toml"}, ["(nobodys): provider is missing", "unknown adapter 'openai'", "base_url must"]),
]


@pytest.mark.parametrize(("environ", "named"), FAULTS, ids=[" and ".join(case[0]) for case in FAULTS])
def test_every_problem_is_told_in_one_message(tmp_path, monkeypatch, environ, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faulty.toml").write_text(CATALOG)
    with pytest.raises(ConfigurationError) as raised:
        load_configuration(environ)
    assert all(any(part in problem for problem in raised.value.problems) for part in named)
    assert len(raised.value.problems) == len(named)


@pytest.mark.parametrize("faulty", [{"GATEWAY_API_KEY": "a b"}, {"GATEWAY_API_KEY_HASHES": "x"}])
def test_no_key_is_made_or_missed_beside_one_that_cannot_be_read(tmp_path, faulty):
    with pytest.raises(ConfigurationError) as raised:
        load_configuration({"GATEWAY_DATA_DIR": str(tmp_path), "REDIS_URL": "redis://x", **faulty})
    assert len(raised.value.problems) == 1 and not (tmp_path / FILE_NAME).exists()


def test_the_first_start_makes_a_key_and_the_next_finds_it(tmp_path):
    environ = {"GATEWAY_DATA_DIR": str(tmp_path / "data")}
    first = load_configuration(environ)
    assert first.made_key is not None and first.made_key.startswith("gw-") and len(first.made_key) >= 35
    assert load_configuration(environ).made_key == first.made_key
    assert stat.S_IMODE((tmp_path / "data" / FILE_NAME).stat().st_mode) == 0o600
    assert first.settings.api_keys == (("default", first.made_key),)


@pytest.mark.parametrize(
    "environ", [{"GATEWAY_API_KEY": "sk-1"}, {"GATEWAY_API_KEY_HASHES": f"a:{'0' * 64}"}, {"GATEWAY_ALLOW_ANONYMOUS": "true"}]
)
def test_no_key_is_made_where_the_operator_decided(tmp_path, environ):
    assert load_configuration({**environ, "GATEWAY_DATA_DIR": str(tmp_path)}).made_key is None
    assert not (tmp_path / FILE_NAME).exists()


def test_with_redis_a_missing_key_is_a_boot_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"GATEWAY_API_KEY must .* or GATEWAY_API_KEY_HASHES, .* keys new NAME"):
        load_configuration({"REDIS_URL": "redis://x", "GATEWAY_DATA_DIR": str(tmp_path)})


def test_many_processes_at_once_agree_on_one_key(tmp_path, monkeypatch):
    keys = []
    all_found_none = threading.Barrier(16, timeout=10)
    write_once = keys_module._write_once

    def write_together(path, key):
        all_found_none.wait()
        write_once(path, key)

    monkeypatch.setattr(keys_module, "_write_once", write_together)
    threads = [threading.Thread(target=lambda: keys.append(load_or_make_key(tmp_path / "d"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 16 and len(set(keys)) == 1
    assert [path.name for path in (tmp_path / "d").iterdir()] == [FILE_NAME]


def test_a_folder_that_cannot_be_used_is_told_without_a_traceback(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="GATEWAY_DATA_DIR"):
        load_or_make_key(tmp_path / "file")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"sk-somebody's"])
def test_a_key_file_that_holds_none_is_told(tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(ConfigurationError, match="holds no key"):
        load_or_make_key(tmp_path)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://0.0.0.0:80", "http://127.0.0.1:80"),
        ("http://[::]:80", "http://[::1]:80"),
        ("unix:/run/g.sock", "--unix-socket /run/g.sock http://localhost"),
    ],
)
def test_the_greeting_has_one_ready_curl_line(tmp_path, address, shown):
    configuration = load_configuration({"GATEWAY_DATA_DIR": str(tmp_path)})
    text = greeting(configuration, address)
    curls = [line for line in text.splitlines() if line.startswith("curl ")]
    assert len(curls) == 1 and str(configuration.made_key) in curls[0] and "sandbox" in text
    assert curls[0].startswith(f"curl {shown}/v1/chat/completions ")


def test_the_greeting_tells_whose_models_are_used_and_what_the_others_lack(tmp_path):
    environ = {"GATEWAY_DATA_DIR": str(tmp_path), "GATEWAY_API_KEY": "k", "GROQ_API_KEY": "g", "CEREBRAS_API_KEY": "c"}
    configuration = load_configuration(environ)
    (line,) = greeting(configuration, "http://x").splitlines()
    assert line.startswith(f"{len(configuration.inventory.listed)} models of groq, cerebras; not used: ")
    assert "workers_ai (CLOUDFLARE_API_TOKEN, CLOUDFLARE_ACCOUNT_ID)" in line and "sandbox" not in line


def test_the_greeting_keeps_a_configured_key_to_itself(tmp_path):
    environ = {"GATEWAY_DATA_DIR": str(tmp_path), "GATEWAY_API_KEY": "sk-hunter2", "GROQ_API_KEY": "gsk_hunter2"}
    configuration = load_configuration(environ)
    assert "hunter2" not in greeting(configuration, "http://x") + repr(configuration)


class SlowToBegin(MemoryStore):
    def __init__(self, refusals):
        super().__init__()
        self.refusals = refusals

    def ping(self):
        if self.refusals:
            self.refusals -= 1
            raise StateError("the store is busy")


@pytest.mark.parametrize(("refusals", "warned"), [(0, False), (3, False), (10**9, True)])
def test_a_state_store_that_is_slow_to_begin_is_no_alarm(monkeypatch, refusals, warned):
    monkeypatch.setattr(boot_module, "STORE_S", 0.1)
    monkeypatch.setattr(boot_module, "STORE_PAUSE_S", 0.001)
    monkeypatch.setattr(boot_module, "store_from_url", lambda url, **options: SlowToBegin(refusals))
    warning = state_warning(Settings.from_env({"REDIS_URL": "redis://x"}))
    assert bool(warning) is warned and (not warning or ("the store is busy" in warning and "REDIS_URL" in warning))
