"""Adapters are found by their files: a module or a package with an `Adapter`."""

import pytest

from gateway.providers import adapter_names, load_adapter
from gateway.providers.base import Provider


def test_every_protocol_is_an_adapter_and_what_they_share_is_none():
    protocols = {"cerebras", "gemini", "groq", "openai_compatible", "openrouter", "sandbox", "voyage_ai", "workers_ai"}
    assert set(adapter_names()) == protocols


@pytest.mark.parametrize("name", adapter_names())
def test_an_adapter_is_a_provider(name):
    assert issubclass(load_adapter(name), Provider)


@pytest.mark.parametrize("name", ["base", "driver", "gemini.encode", "nobody", ""])
def test_anything_else_is_unknown(name):
    with pytest.raises(KeyError):
        load_adapter(name)
