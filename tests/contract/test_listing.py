"""The providers' own lists of models: read from the simulator's, and from what else may come in their place."""

import time

import pytest
import responses

from gateway import errors
from gateway.boot import load_configuration
from gateway.domain import Credential, ProviderRow
from gateway.providers import load_adapter
from gateway.upstream.transport import CallLimits, Transport
from gateway.upstream.watch import Handle
from tests.contract.compatible import Notes
from tests.e2e.simulator import Simulator

LISTED = ("groq", "gemini", "workers_ai", "openrouter", "cerebras")
BASE_URL = "http://list.test/v1"


@pytest.fixture(scope="module")
def simulator():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def http():
    with responses.RequestsMock() as mock:
        yield mock


def limits():
    return CallLimits(1, 5, 5, time.monotonic() + 5)


def build(adapter, *, keyless=False, discover=True):
    credential_env = None if keyless else "P_API_KEY"
    row = ProviderRow(key="p", adapter=adapter, base_url=BASE_URL, credential_env=credential_env, discover=discover)
    return load_adapter(adapter)(row, Transport(), Notes())


def list_models(adapter, *, base_url=BASE_URL, secret="s", keyless=False):
    return build(adapter, keyless=keyless).list_models(Credential("p", 1, base_url, secret), limits(), Handle())


def try_credential(adapter, *, base_url=BASE_URL, secret="s", discover=True):
    return build(adapter, discover=discover).try_credential(Credential("p", 1, base_url, secret), limits(), Handle())


# --- every protocol ----------------------------------------------------------------------------------------------------


def simulated(simulator, provider):
    """Return what the provider lists, and the rows that the catalog has of it."""
    inventory = load_configuration({"GATEWAY_API_KEY": "sk-1", **simulator.env(provider)}).inventory
    candidates = [candidate for model in inventory.listed for candidate in inventory.candidates(model)]
    adapter = load_adapter(candidates[0].provider.adapter)(candidates[0].provider, Transport(), Notes())
    listing = adapter.list_models(candidates[0].credential, limits(), Handle())
    return listing, [candidate.model for candidate in candidates]


@pytest.mark.parametrize("provider", LISTED)
def test_every_current_row_is_in_the_list_and_no_retired_one(simulator, provider):
    listing, models = simulated(simulator, provider)
    current = {model.upstream_id for model in models if model.status in ("active", "preview")}
    assert current <= listing.ids
    assert not {name for name, facts in simulator.services[provider].models.items() if facts.retired} & listing.ids


@pytest.mark.parametrize("provider", LISTED)
def test_the_catalogs_free_rows_are_free_there_too(simulator, provider):
    listing, models = simulated(simulator, provider)
    free = {m.upstream_id for m in models if m.status in ("active", "preview") and 0 not in m.limits.values()}
    assert free - set(listing.free) <= {"@cf/baai/bge-reranker-base"}  # its task is that of many that do not rerank
    assert set(listing.free) <= listing.ids


def test_voyage_and_the_sandbox_have_no_list():
    assert list_models("voyage_ai") is None
    assert list_models("sandbox") is None


@pytest.mark.parametrize("keyless", [True, False])
def test_models_are_free_where_the_server_is_ones_own(simulator, keyless):
    listing = list_models("openai_compatible", base_url=simulator.base_url("plain"), keyless=keyless)
    assert "plain-chat" in listing.ids
    assert ("plain-chat" in listing.free) is keyless


@pytest.mark.parametrize("provider", ["groq", "gemini", "workers_ai", "cerebras"])
def test_a_wrong_key_is_an_error(simulator, provider):
    adapter = provider
    with pytest.raises(errors.UpstreamCredentialRejected):
        list_models(adapter, base_url=simulator.base_url(provider), secret="wrong")


# --- trying a credential -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", LISTED)
def test_a_credential_is_tried_by_a_call_that_a_wrong_one_fails(simulator, provider):
    base_url, good = simulator.base_url(provider), simulator.services[provider].test_key
    assert try_credential(provider, base_url=base_url, secret=good) is True
    with pytest.raises(errors.UpstreamCredentialRejected):
        try_credential(provider, base_url=base_url, secret="wrong")


def test_no_credential_is_tried_where_no_call_would_tell():
    assert try_credential("voyage_ai") is False
    assert try_credential("sandbox") is False
    assert try_credential("openai_compatible", discover=False) is False


# --- what is free, by protocol -----------------------------------------------------------------------------------------


def test_groqs_list_is_freed_of_what_does_not_chat(http):
    windows = {
        "openai/gpt-oss-safeguard-20b": 131072,
        "whisper-large-v3": 448,
        "canopylabs/orpheus-v1-english": 4000,
        "playai-tts": 8192,
        "meta-llama/llama-prompt-guard-2-86m": 512,
        "unknown-window": None,
    }
    data = [{"id": id_, "active": True, "context_window": window} for id_, window in windows.items()]
    http.get(BASE_URL + "/models", json={"data": [*data, {"id": "gone", "active": False, "context_window": 131072}]})
    listing = list_models("groq")
    assert listing.ids == windows.keys()
    assert listing.free == ("openai/gpt-oss-safeguard-20b", "unknown-window")


def test_geminis_list_is_read_by_pages(http):
    def entry(name, *methods):
        return {"name": f"models/{name}", "supportedGenerationMethods": list(methods)}

    first = [
        entry("gemini-9-flash", "generateContent"),
        entry("gemini-9-pro-preview", "generateContent"),
        entry("gemini-9-flash-tts", "generateContent"),
        entry("gemini-9-flash-image", "generateContent"),
        entry("aqa", "generateAnswer"),
    ]
    url = BASE_URL + "/models"
    page = responses.matchers.query_param_matcher
    http.get(url, json={"models": first, "nextPageToken": "a b"}, match=[page({"pageSize": "1000"})])
    second = {"models": [entry("gemini-embedding-9", "embedContent")]}
    http.get(url, json=second, match=[page({"pageSize": "1000", "pageToken": "a b"})])
    listing = list_models("gemini")
    assert len(listing.ids) == 6 and "gemini-9-pro-preview" in listing.ids
    assert listing.free == ("gemini-9-flash", "gemini-embedding-9")
    assert http.calls[0].request.headers["x-goog-api-key"] == "s"


def test_workers_ais_list_is_read_by_pages(http):
    def page(names, total, task="Text Generation"):
        result = [{"id": "uuid", "name": name, "task": {"name": task}} for name in names]
        return {"success": True, "errors": [], "result": result, "result_info": {"total_count": total}}

    url = BASE_URL + "/models/search"
    http.get(url, json=page([f"@cf/a/{number}" for number in range(100)], 102))
    http.get(url, json=page(["@cf/zai-org/glm-5.2", "@cf/a/last"], 102))
    listing = list_models("workers_ai")
    assert len(listing.ids) == 102 and listing.free[-1] == "@cf/a/last" and len(listing.free) == 101
    assert [call.request.params["page"] for call in http.calls] == ["1", "2"]


def test_openrouters_free_models_are_those_without_prices(http):
    def entry(id_, price, *outputs):
        return {"id": id_, "pricing": {"prompt": price, "completion": price}, "architecture": {"output_modalities": outputs}}

    chat = [
        entry("a/b:free", "0", "text"),
        entry("openrouter/free", "0", "text"),
        entry("openrouter/auto", "-1", "text"),
        entry("a/b", "0.000001", "text"),
        entry("a/painter:free", "0", "image"),
    ]
    http.get(BASE_URL + "/models", json={"data": chat})
    http.get(BASE_URL + "/embeddings/models", json={"data": [entry("a/embed:free", "0", "embeddings")]})
    listing = list_models("openrouter")
    assert len(listing.ids) == 6 and listing.free == ("a/b:free", "openrouter/free", "a/embed:free")


# --- what is no list ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [{}, {"data": []}, {"data": None}, {"data": [{}]}, {"data": ["m"]}, {"data": [{"id": 7}]}, {"data": [{"id": []}]}, []],
)
@pytest.mark.parametrize("adapter", ["openai_compatible", "groq", "cerebras"])
def test_an_answer_without_models_is_garbled(http, adapter, body):
    http.get(BASE_URL + "/models", json=body)
    with pytest.raises(errors.UpstreamGarbled):
        list_models(adapter)


def test_a_list_without_an_end_is_garbled(http):
    http.get(BASE_URL + "/models", json={"models": [{"name": "models/m"}], "nextPageToken": "again"})
    with pytest.raises(errors.UpstreamGarbled):
        list_models("gemini")


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_failing_list_is_an_error(http, status):
    http.get(BASE_URL + "/models", body="<html>no</html>", status=status)
    with pytest.raises(errors.UpstreamError):
        list_models("groq")


def test_a_list_may_come_without_its_wrapper(http):
    http.get(BASE_URL + "/models", json=[{"id": "a"}, {"id": "b"}])
    assert list_models("openai_compatible").ids == {"a", "b"}
