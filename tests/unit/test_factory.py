from dataclasses import replace
from typing import Any

import pytest

from gateway import boot, factory
from gateway.boot import keep_configuration, load_configuration
from gateway.factory import build_providers, build_services, create_app
from gateway.state.memory import MemoryStore
from tests.conftest import RecordingTelemetry


@pytest.fixture
def configuration(tmp_path):
    return load_configuration({"GATEWAY_API_KEY": "k", "GATEWAY_DATA_DIR": str(tmp_path), "GROQ_API_KEY": "g"})


def test_the_application_is_built_from_what_the_master_checked(configuration, monkeypatch):
    monkeypatch.setattr(boot, "_kept", [])
    keep_configuration(configuration)
    assert create_app().extensions["gateway"].settings is configuration.settings


def test_only_providers_that_can_be_called_are_built(configuration):
    assert set(build_providers(configuration.inventory, configuration.settings, MemoryStore())) == {"groq"}


def test_the_store_is_opened_as_the_settings_say_and_its_troubles_are_told(configuration, monkeypatch):
    telemetry = RecordingTelemetry()
    given: dict[str, Any] = {}
    monkeypatch.setattr(factory, "store_from_url", lambda url, **options: given.update(options, url=url) or MemoryStore())
    settings = replace(configuration.settings, state_url="redis://x", state_tls_verify=False)
    build_services(replace(configuration, settings=settings), store=None, log=telemetry)
    given.pop("on_trouble")(3)
    assert telemetry.failed_verbs == ["write"] and given == {"url": "redis://x", "tls_verify": False}
