"""`python -m gateway check` against simulated providers and real stores: what it finds, tells, and keeps to itself."""

import json
import os
import subprocess
import sys
import time

import pytest

from gateway.cli import check as check_module
from gateway.cli import main
from tests.e2e.conftest import ROOT
from tests.e2e.simulator import errors, html, reply, stall

pytestmark = pytest.mark.e2e

SECRET = "sk-SECRET-of-a-client"
PROVIDERS = ("groq", "gemini", "workers_ai", "openrouter", "cerebras")


@pytest.fixture
def check(capsys, tmp_path):
    """Return a function that runs a check and returns its exit status, its findings by name, and all it printed."""

    def run(env, *arguments):
        environ = {"GATEWAY_API_KEY": f"ann:{SECRET}", "GATEWAY_DATA_DIR": str(tmp_path / "data"), **env}
        status = main(["check", "--json", *arguments], environ)
        printed = "".join(capsys.readouterr())
        return status, {found["what"]: (found["state"], found["detail"]) for found in json.loads(printed)}, printed

    return run


def test_all_is_well_where_every_key_is_accepted(simulator, check):
    status, found, printed = check(simulator.env())
    assert status == 0
    assert {what: found[what][0] for what in PROVIDERS} == dict.fromkeys(PROVIDERS, "ok")
    assert found["voyage_ai"] == ("unknown", "it has no call that costs nothing: the first request tells")
    assert {found[what][0] for what in ("settings", "client keys", "catalog", "state store")} == {"ok"}
    assert found["client keys"][1] == "ann"
    assert not simulator.calls()  # nothing that a provider counts
    assert SECRET not in printed


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_key_that_is_refused_is_a_problem(simulator, check, provider):
    env = {
        name: "SECRET-wrong-key" if name.endswith(("KEY", "TOKEN")) else value for name, value in simulator.env(provider).items()
    }
    status, found, printed = check(env)
    state, detail = found[provider]
    assert (status, state) == (1, "problem") and "refused" in detail
    assert any(name in detail for name in env if name.endswith(("KEY", "TOKEN"))) and "https://" in detail
    assert "SECRET" not in printed


def test_each_of_several_keys_is_tried(simulator, check):
    env = simulator.env("groq")
    status, found, printed = check({**env, "GROQ_API_KEY": f"{env['GROQ_API_KEY']},SECRET-wrong-key"})
    assert (status, found["groq key 1"][0], found["groq key 2"][0]) == (1, "ok", "problem")
    assert "SECRET" not in printed


FAILURES = {
    "quota": (errors.groq_rate_limit(), 0, "ok", "used up"),
    "outage": (reply(500, {"error": {"message": "SECRET"}}), 1, "problem", "status 500"),
    "edge": (html(403), 1, "problem", "reached"),
    "echo": (reply(401, {"error": {"message": "Incorrect API key: SECRET-of-groq"}}), 1, "problem", "refused"),
    "redirect": (reply(302, "", headers={"Location": "https://example.com/SECRET"}), 1, "problem", "status 302"),
    "no list": (reply(404, {"error": {"message": "no such path"}}), 1, "problem", "status 404"),
}


@pytest.mark.parametrize(("answer", "status", "state", "told"), FAILURES.values(), ids=list(FAILURES))
def test_whatever_a_provider_says_is_told_in_our_own_words(simulator, check, answer, status, state, told):
    simulator.always("groq", answer, method="GET")
    found_status, found, printed = check(simulator.env("groq"))
    assert (found_status, found["groq"][0]) == (status, state) and told in found["groq"][1]
    assert "SECRET" not in printed


def test_one_that_is_not_there_and_one_that_is_silent_end_in_time(simulator, check, monkeypatch):
    monkeypatch.setattr(check_module, "ANSWER_S", 0.5)
    simulator.always("groq", stall(), method="GET")
    env = {**simulator.env("groq", "cerebras"), "CEREBRAS_BASE_URL": f"http://127.0.0.1:{simulator.dead_port()}"}
    began = time.monotonic()
    status, found, _ = check(env)
    assert time.monotonic() - began < 3
    assert status == 1 and found["groq"][0] == found["cerebras"][0] == "problem"
    assert "GROQ_BASE_URL" in found["groq"][1] and "CEREBRAS_BASE_URL" in found["cerebras"][1]


def test_what_is_not_set_up_is_no_problem_and_says_what_it_needs(check):
    status, found, _ = check({})
    assert status == 0 and "sandbox" in found["catalog"][1]
    assert found["workers_ai"] == ("off", "set CLOUDFLARE_API_TOKEN and CLOUDFLARE_ACCOUNT_ID to use it")


def test_a_provider_without_a_model_is_a_problem(check, tmp_path):
    (tmp_path / "mine.toml").write_text('[[providers]]\nkey = "mine"\nbase_url = "http://127.0.0.1:1/v1"\n')
    status, found, _ = check({"GATEWAY_CATALOG": str(tmp_path / "mine.toml")})
    assert (status, found["mine"][0]) == (1, "problem") and "provider mine has no [[models]] row" in found["mine"][1]


def test_every_problem_of_the_configuration_is_told(check, tmp_path):
    catalog = tmp_path / "mine.toml"
    catalog.write_text("broken [")
    env = {"PORT": "x", "GROQ_API_KEY": "SECRET key", "GATEWAY_CATALOG": str(catalog), "STATE_URL": "redis://:SECRET@["}
    environ = {"GATEWAY_DATA_DIR": str(tmp_path), "GATEWAY_API_KEY": "k", **env}
    command = [sys.executable, "-m", "gateway", "check"]
    ended = subprocess.run(
        command, cwd=ROOT, env={"PATH": "/usr/bin:/bin", **environ}, capture_output=True, text=True, timeout=20
    )
    assert ended.returncode == 1 and not ended.stderr and "SECRET" not in ended.stdout
    assert all(name in ended.stdout for name in ("PORT", "GROQ_API_KEY", "mine.toml", "STATE_URL"))
    assert ended.stdout.splitlines()[-1] == "4 problems."


def test_offline_nobody_is_asked(simulator, check):
    status, found, _ = check({**simulator.env("groq"), "STATE_URL": "redis://127.0.0.1:1"}, "--offline")
    assert status == 0 and set(found) == {"settings", "client keys", "catalog"} and not simulator.requests


# --- the state store -------------------------------------------------------------------------------------------------


@pytest.mark.redis
def test_redis_is_asked_and_its_password_kept(check, own_redis):
    env = {"STATE_URL": own_redis.url}
    status, found, _ = check(env)
    assert (status, found["state store"][0]) == (0, "ok") and "Redis at 127.0.0.1:" in found["state store"][1]
    own_redis.hang()
    status, found, printed = check({"REDIS_URL": own_redis.url.replace("//", "//user:SECRET@")})
    own_redis.resume()
    assert (status, found["state store"][0]) == (1, "problem") and "REDIS_URL" in found["state store"][1]
    assert "SECRET" not in printed


def test_a_store_that_keeps_nothing_is_a_problem(check, tmp_path):
    (tmp_path / "data" / "state.sqlite3").mkdir(parents=True)  # no file can be there
    status, found, _ = check({})
    assert (status, found["state store"][0]) == (1, "problem") and "GATEWAY_DATA_DIR" in found["state store"][1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_a_problem(check, tmp_path):
    (tmp_path / "data").mkdir(mode=0o500)
    assert check({})[1]["state store"][0] == "problem"
