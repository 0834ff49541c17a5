"""Legacy completions with the official `openai` package, and reranking, against a real gunicorn and the simulated providers."""

from __future__ import annotations

import openai
import pytest

from tests.e2e.simulator import reply

pytestmark = pytest.mark.e2e

CHAT = {"groq": "groq/openai/gpt-oss-20b", "workers_ai": "@cf/google/gemma-4-26b-a4b-it", "plain": "plain/any-model"}
RERANK = {"voyage_ai": "rerank-2.5", "workers_ai": "@cf/baai/bge-reranker-base", "plain": "plain/ranker"}
CATALOG = """
[[providers]]
key = "plain"
base_url = "{url}"

[[models]]
provider = "plain"
id = "any-model"

[[models]]
provider = "plain"
id = "ranker"
kind = "rerank"
batch = 2

[[models]]
provider = "plain"
id = "ranker-that-fails"
kind = "rerank"

[[providers]]
key = "voyage_ai"
account_limits = {{}}

[aliases]
"voyage-fails" = ["voyage_ai/rerank-2.5-lite", "plain/ranker"]
"plain-fails" = ["voyage_ai/rerank-2.5", "plain/ranker-that-fails"]
"""
DOCUMENTS = ["a cat", "the red dog", {"text": "a dog"}, "red", "nothing"]
QUERY = {"query": "the red dog", "documents": DOCUMENTS}


@pytest.fixture(scope="module")
def gateway(simulator, start_gateway, tmp_path_factory):
    catalog = tmp_path_factory.mktemp("catalog") / "mine.toml"
    catalog.write_text(CATALOG.format(url=simulator.base_url("plain")))
    return start_gateway({**simulator.env(), "GATEWAY_CATALOG": str(catalog)}, workers=1)


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.mark.parametrize("provider", CHAT)
def test_a_completion_whole_and_streamed(client, provider):
    asked = {"model": CHAT[provider], "prompt": "Say hello", "max_tokens": 100}
    raw = client.completions.with_raw_response.create(**asked, echo=True)
    whole = raw.parse()
    assert whole.object == "text_completion" and whole.choices[0].finish_reason == "stop"
    assert whole.choices[0].text.startswith("Say helloecho: ") and whole.usage.total_tokens > 0
    assert raw.headers["x-gateway-provider"] == provider == whole.x_gateway["provider"]
    chunks = list(client.completions.create(**asked, echo=True, stream=True, stream_options={"include_usage": True}))
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].text and chunks[-1].usage.total_tokens > 0
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["stop"]


def test_a_completion_that_cannot_be_served_is_the_packages_own_error(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.completions.create(model="auto", prompt=["one", "two"])
    assert (raised.value.param, raised.value.code) == ("prompt", "unsupported_feature")


@pytest.mark.parametrize("provider", RERANK)
def test_documents_are_ranked(gateway, simulator, provider):
    answer = gateway.post("/v1/rerank", {"model": RERANK[provider], **QUERY, "top_n": 3, "return_documents": True})
    body = answer.json
    assert [result["index"] for result in body["results"]] == [1, 2, 3]
    assert [result["document"]["text"] for result in body["results"]] == ["the red dog", "a dog", "red"]
    scores = [result["relevance_score"] for result in body["results"]]
    assert scores == sorted(scores, reverse=True) and scores[0] == 1
    assert body["usage"]["total_tokens"] > 0 and answer.headers["x-gateway-provider"] == provider
    assert len(simulator.calls(provider)) == (3 if provider == "plain" else 1)  # two documents a call


def test_all_documents_come_back_where_nobody_says_how_many(gateway):
    for model in RERANK.values():
        results = gateway.post("/v1/rerank", {"model": model, **QUERY}).json["results"]
        assert sorted(result["index"] for result in results) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "failing", "model", "other"),
    [
        ("voyage-fails", "voyage_ai", "rerank-2.5-lite", "plain"),
        ("plain-fails", "plain", "ranker-that-fails", "voyage_ai"),
    ],
)
def test_another_home_of_the_same_ranker_stands_in(gateway, simulator, name, failing, model, other):
    simulator.always(failing, reply(500, {"detail": "oh"}), model=model)
    answer = gateway.post("/v1/rerank", {"model": name, **QUERY})
    assert (answer.status, answer.headers["x-gateway-provider"]) == (200, other)


def test_a_ranker_that_nobody_has_is_not_found(gateway):
    answer = gateway.post("/rerank", {"model": "none", **QUERY})
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
