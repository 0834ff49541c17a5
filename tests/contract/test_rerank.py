"""Reranking in each protocol: the call, its answer, and calls that are too large for one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import responses

from gateway import errors
from gateway.domain import Candidate, Choice, Credential, Model, ProviderRow, RerankRequest, Scored
from gateway.providers import openai_compatible, voyage_ai, workers_ai
from gateway.providers.gemini import Adapter as Gemini
from gateway.upstream.transport import Transport
from gateway.upstream.watch import Handle
from tests.contract.compatible import FIXTURES, Notes, limits

BASES = {
    "plain": "http://some.test/v1",
    "voyage_ai": "https://api.voyageai.com/v1",
    "workers_ai": "https://api.cloudflare.com/client/v4/accounts/0/ai",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
}
ADAPTERS: dict[str, Any] = {
    "plain": openai_compatible.Adapter,
    "voyage_ai": voyage_ai.Adapter,
    "workers_ai": workers_ai.Adapter,
    "gemini": Gemini,
}
URLS = {
    "plain": BASES["plain"] + "/rerank",
    "voyage_ai": BASES["voyage_ai"] + "/rerank",
    "workers_ai": BASES["workers_ai"] + "/run/ranker",
}
DOCUMENTS = ("cat", "red dog", "dog")


@pytest.fixture
def http():
    with responses.RequestsMock() as mock:
        yield mock


def candidate(provider: str, batch: int | None = None) -> Candidate:
    model = Model(provider=provider, id="ranker", upstream_id="ranker", kind="rerank", batch=batch)
    return Candidate(ProviderRow(key=provider, base_url=BASES[provider]), model, Credential(provider, 1, BASES[provider], "key"))


def adapter(provider: str) -> Any:
    return ADAPTERS[provider](candidate(provider).provider, Transport(), Notes())


def asked(documents=DOCUMENTS, **fields: Any) -> RerankRequest:
    return RerankRequest(query="red dog", documents=tuple(documents), choice=Choice(names=("ranker",)), **fields)


def rerank(provider: str, request: RerankRequest | None = None, batch: int | None = None):
    return adapter(provider).rerank(request or asked(), candidate(provider, batch), limits(), Handle())


# --- the call ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("plain", {"model": "ranker", "query": "red dog", "documents": list(DOCUMENTS), "top_n": 2}),
        ("voyage_ai", {"model": "ranker", "query": "red dog", "documents": list(DOCUMENTS), "top_k": 2}),
        ("workers_ai", {"query": "red dog", "contexts": [{"text": text} for text in DOCUMENTS], "top_k": 2}),
    ],
)
def test_the_call_is_in_the_providers_words(provider, body):
    call = adapter(provider).encode_rerank(DOCUMENTS, 2, asked(), candidate(provider))
    assert (call.request.url, json.loads(call.request.body), call.dropped) == (URLS[provider], body, ())
    assert call.request.headers["Authorization"] == "Bearer key"


def test_a_protocol_without_reranking_hurts_nobody(http):
    with pytest.raises(errors.UpstreamModelFailed) as caught:
        rerank("gemini")
    assert caught.value.cooldown_scope == "none" and not http.calls


# --- the answer ----------------------------------------------------------------------------------------------------

ROWS: list[dict[str, Any]] = [
    {"index": 1, "relevance_score": 0.9},
    {"index": 2, "relevance_score": 0.5},
    {"index": 0, "relevance_score": -3},
]
RANKED = [Scored(1, 0.9), Scored(2, 0.5), Scored(0, -3)]


@pytest.mark.parametrize(
    ("provider", "payload", "tokens"),
    [
        ("plain", {"results": ROWS, "usage": {"total_tokens": 7}}, 7),
        ("plain", {"results": ROWS, "meta": {"billed_units": {"search_units": 1}}}, None),  # Cohere
        ("plain", {"results": [*reversed(ROWS)], "usage": None}, None),
        ("plain", [{"index": row["index"], "score": row["relevance_score"]} for row in ROWS], None),  # text-embeddings-inference
        ("voyage_ai", {"object": "list", "data": ROWS, "model": "ranker", "usage": {"total_tokens": 7}}, 7),
        (
            "workers_ai",
            {
                "result": {"response": [{"id": row["index"], "score": row["relevance_score"]} for row in ROWS]},
                "success": True,
                "errors": [],
                "messages": [],
            },
            None,
        ),
    ],
)
def test_every_form_of_answer_is_read(http, provider, payload, tokens):
    http.post(URLS[provider], json=payload)
    answer = rerank(provider)
    assert (answer.results, answer.total_tokens) == (RANKED, tokens)


@pytest.mark.parametrize(
    "payload",
    [
        {"results": []},
        {"results": ROWS[:2]},
        {"results": [*ROWS[:2], {"index": 3, "relevance_score": 0}]},
        {"results": [*ROWS[:2], {"index": -1, "relevance_score": 0}]},
        {"results": [*ROWS, ROWS[0]]},
        {"results": [*ROWS[:2], {"index": 0, "relevance_score": "high"}]},
        {"results": [*ROWS[:2], {"index": 0, "relevance_score": 1e300}]},
        {"results": [*ROWS[:2], {"index": 0}]},
        {"results": None},
        {"object": "list"},
    ],
)
def test_an_answer_that_is_none_is_garbled(http, payload):
    http.post(URLS["plain"], json=payload)
    with pytest.raises(errors.UpstreamGarbled):
        rerank("plain")


def test_a_provider_that_ignores_how_many_are_wanted_is_cut(http):
    http.post(URLS["plain"], json={"results": ROWS})
    assert rerank("plain", asked(top_n=1)).results == RANKED[:1]


# --- several calls -------------------------------------------------------------------------------------------------


def test_documents_over_a_calls_limit_are_scored_in_several_and_put_together(http):
    def answer(request):
        body = json.loads(request.body)
        assert len(body["documents"]) <= 2 and body["top_n"] == min(2, len(body["documents"]))
        rows = [{"index": index, "relevance_score": float(text)} for index, text in enumerate(body["documents"])]
        rows.sort(key=lambda row: -row["relevance_score"])
        return 200, {}, json.dumps({"results": rows[: body["top_n"]], "usage": {"total_tokens": 10}})

    http.add_callback(responses.POST, URLS["plain"], callback=answer, content_type="application/json")
    found = rerank("plain", asked(["1", "5", "4", "2", "3"], top_n=2), batch=2)
    assert found.results == [Scored(1, 5.0), Scored(2, 4.0)] and found.total_tokens == 30 and len(http.calls) == 3


def test_a_call_of_voyages_never_holds_more_tokens_than_it_takes(http):
    request = asked([f"{number}" + "x" * 400_000 for number in range(5)])  # two of them, and the query with each, fill 600,000
    groups = list(adapter("voyage_ai").split_documents(request, candidate("voyage_ai").model))
    assert [len(group) for group in groups] == [2, 2, 1]
    wide = RerankRequest(query="x" * 400_000, documents=("a",) * 5, choice=Choice())
    assert [len(group) for group in adapter("voyage_ai").split_documents(wide, candidate("voyage_ai").model)] == [2, 2, 1]
    assert [len(group) for group in adapter("voyage_ai").split_documents(asked(), candidate("voyage_ai", 2).model)] == [2, 1]


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "status", "payload", "kind"),
    [
        ("plain", 404, {"error": {"message": "model not found", "code": "model_not_found"}}, errors.UpstreamModelGone),
        ("plain", 200, {"error": {"message": "overloaded", "code": 503}}, errors.UpstreamOverloaded),
        ("voyage_ai", 400, {"detail": "Model ranker is not supported. Supported models are []."}, errors.UpstreamModelGone),
        (
            "workers_ai",
            429,
            {"success": False, "errors": [{"code": 4006, "message": "AiError: used up your daily free allocation"}]},
            errors.UpstreamQuotaExhausted,
        ),
        ("workers_ai", 500, "<html>", errors.UpstreamFailed),
    ],
)
def test_a_failure_means_what_it_does_elsewhere(http, provider, status, payload, kind):
    body = {"body": payload} if isinstance(payload, str) else {"json": payload}
    http.post(URLS[provider], status=status, **body)
    with pytest.raises(errors.UpstreamError) as caught:
        rerank(provider)
    assert type(caught.value) is kind


def test_voyage_names_the_documents_where_they_are_too_long():
    detail = json.loads((FIXTURES / "voyage_ai" / "context_400.json").read_bytes())
    error = adapter("voyage_ai").classify_error(400, {}, detail, candidate("voyage_ai"))
    assert isinstance(error, errors.UpstreamContextTooLong) and error.param == "documents"
