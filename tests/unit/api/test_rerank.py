"""Reranking over the sandbox, in this process."""

from __future__ import annotations

import pytest

from gateway.api.schemas import load_rerank
from gateway.errors import InvalidRequest

DOCUMENTS = ["the cat sleeps", "a red dog barks", {"text": "a dog"}]
BODY = {"model": "sandbox/rerank", "query": "a red dog", "documents": DOCUMENTS}


def load(**fields):
    return load_rerank({**BODY, **fields}, {})


def test_documents_are_texts_or_objects_with_a_text():
    wanted = load(top_n=2, return_documents=True, project_id="p", models=["other"])
    assert wanted.documents == ("the cat sleeps", "a red dog barks", "a dog") and wanted.query == "a red dog"
    assert (wanted.top_n, wanted.return_documents, wanted.project_id) == (2, True, "p")
    assert wanted.choice.names == ("sandbox/rerank",)


@pytest.mark.parametrize(
    ("fields", "top_n"),
    [({}, None), ({"top_n": None}, None), ({"top_k": 2}, 2), ({"top_n": 1, "top_k": 2}, 1), ({"top_n": 99}, 99)],
)
def test_how_many_are_wanted(fields, top_n):
    assert load(**fields).top_n == top_n


def test_the_query_counts_with_each_document():
    short, long = load(query="a").prompt_tokens, load(query="a " * 100).prompt_tokens
    assert long - short >= 3 * 40


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_field"),
        ({"model": "auto"}, "model", "invalid_value"),
        ({"query": None}, "query", "missing_field"),
        ({"query": ""}, "query", "invalid_value"),
        ({"query": 3}, "query", "invalid_value"),
        ({"documents": None}, "documents", "missing_field"),
        ({"documents": "x"}, "documents", "invalid_value"),
        ({"documents": []}, "documents", "invalid_value"),
        ({"documents": ["x"] * 1001}, "documents", "invalid_value"),
        ({"documents": ["x", ""]}, "documents[1]", "invalid_value"),
        ({"documents": ["x", 3]}, "documents[1]", "invalid_value"),
        ({"documents": [{"title": "x"}]}, "documents[0].text", "missing_field"),
        ({"documents": [{"text": 3}]}, "documents[0].text", "invalid_value"),
        ({"top_n": 0}, "top_n", "invalid_value"),
        ({"return_documents": "yes"}, "return_documents", "invalid_value"),
    ],
)
def test_a_wrong_field_is_named(fields, param, code):
    with pytest.raises(InvalidRequest) as caught:
        load(**fields)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_the_best_come_first(application):
    answer = application.post("/v1/rerank", BODY)
    body = answer.json
    assert list(body) == ["object", "model", "results", "usage", "x_gateway"]
    assert (body["object"], body["model"]) == ("list", "sandbox/rerank")
    assert [result["index"] for result in body["results"]] == [1, 2, 0]
    assert all(list(result) == ["index", "relevance_score"] for result in body["results"])
    assert (
        body["usage"]["total_tokens"] > 0 and body["x_gateway"]["provider"] == answer.headers["x-gateway-provider"] == "sandbox"
    )
    (record,) = application.telemetry.requests
    assert (record.model, record.usage.total_tokens) == ("sandbox/rerank", body["usage"]["total_tokens"])


def test_only_the_best_are_returned_with_their_text_where_it_is_asked_for(application):
    body = application.post("/v1/rerank", {**BODY, "top_n": 2, "return_documents": True}).json
    assert [result["document"] for result in body["results"]] == [{"text": "a red dog barks"}, {"text": "a dog"}]


def test_every_reranker_of_the_catalog_is_one_in_the_sandbox(application):
    for model in ("rerank-2.5", "voyage_ai/rerank-2.5-lite", "@cf/baai/bge-reranker-base"):
        assert application.post("/v1/rerank", {**BODY, "model": model}).json["results"][0]["index"] == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {**BODY, "model": "voyage-3"}),
        ("/v1/chat/completions", {"model": "rerank-2.5", "messages": [{"role": "user", "content": "x"}]}),
        ("/v1/embeddings", {"model": "rerank-2.5", "input": "x"}),
    ],
)
def test_a_model_of_another_kind_is_refused_with_its_path(application, path, body):
    answer = application.post(path, body)
    assert answer.status_code == 400 and "use it with /v1/" in answer.json["error"]["message"]


def test_a_dry_run_asks_nobody(application):
    answer = application.post("/v1/rerank", BODY, {"x-gateway-dry-run": "1"})
    assert answer.json["candidates"][0]["model"] == "sandbox/rerank" and not application.telemetry.attempts


def test_it_is_not_for_everybody(application):
    assert application.client.post("/v1/rerank", json=BODY).status_code == 401
