"""Voyage AI: embeddings in its own words, and what its one-line errors mean."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import responses

from gateway import errors
from gateway.domain import Candidate, ChatRequest, Choice, Credential, EmbeddingRequest, Model, ProviderRow
from gateway.providers.voyage_ai import Adapter, split_by_size
from gateway.upstream.transport import CallLimits, Transport
from gateway.upstream.watch import Handle

FIXTURES = Path(__file__).parent / "fixtures" / "voyage_ai"
BASE_URL = "https://api.voyageai.com/v1"
URL = BASE_URL + "/embeddings"
ROW = ProviderRow(key="voyage_ai", base_url=BASE_URL)
VOYAGE = Model(provider="voyage_ai", id="voyage-3", upstream_id="voyage-3", kind="embedding", dimensions=(1024,), batch=1000)
FLEXIBLE = Model(provider="voyage_ai", id="voyage-4", upstream_id="voyage-4", kind="embedding", dimensions=(1024, 256, 512, 2048))


class Notes(dict[str, str]):
    def remember(self, key: str, value: str, ttl_s: float) -> None:
        self[key] = value

    def recall(self, keys: Any) -> dict[str, str]:
        return {key: self[key] for key in keys if key in self}


def load(name: str) -> Any:
    return json.loads((FIXTURES / name).read_bytes())


def candidate(model: Model = VOYAGE) -> Candidate:
    return Candidate(ROW, model, Credential("voyage_ai", 1, BASE_URL, "pa-of-a-test"))


def embedding(*inputs: str, **fields: Any) -> EmbeddingRequest:
    return EmbeddingRequest(inputs=inputs or ("a",), choice=Choice(), **fields)


def limits() -> CallLimits:
    return CallLimits(connect_s=1, first_token_s=5, idle_s=5, deadline_mono=time.monotonic() + 10)


@pytest.fixture
def adapter() -> Adapter:
    return Adapter(ROW, Transport(), Notes())


@pytest.fixture
def http():
    with responses.RequestsMock() as mock:
        yield mock


def sent_body(adapter: Adapter, request: EmbeddingRequest, model: Model = VOYAGE) -> dict[str, Any]:
    body = adapter.encode_embeddings(request.inputs, request, candidate(model)).request.body
    assert body is not None
    return json.loads(body)


# --- requests --------------------------------------------------------------------------------------------------------


def test_inputs_go_out_without_openais_own_parameters(adapter):
    call = adapter.encode_embeddings(["a", "b"], embedding("a", "b", user="u"), candidate())
    assert call.request.url == URL
    assert call.request.headers["Authorization"] == "Bearer pa-of-a-test"
    assert json.loads(call.request.body) == {"model": "voyage-3", "input": ["a", "b"], "truncation": False}
    assert call.dropped == ("user",)


def test_the_kind_of_input_is_passed_on(adapter):
    assert sent_body(adapter, embedding(input_type="query"))["input_type"] == "query"


@pytest.mark.parametrize(
    ("model", "dimensions", "expected"),
    [(FLEXIBLE, 512, 512), (FLEXIBLE, 1024, None), (FLEXIBLE, None, None), (VOYAGE, 1024, None)],
)
def test_dimensions_get_voyages_name_where_they_are_not_the_models_own(adapter, model, dimensions, expected):
    body = sent_body(adapter, embedding(dimensions=dimensions), model)
    assert body.get("output_dimension") == expected
    assert "dimensions" not in body


def test_chat_is_refused_before_anybody_is_asked(adapter):
    request = ChatRequest(body={"messages": [{"role": "user", "content": "hi"}]})
    assert adapter.cannot_serve(request, VOYAGE)


# --- answers ---------------------------------------------------------------------------------------------------------


def test_vectors_come_in_the_order_of_the_inputs_with_all_tokens_as_the_prompts(adapter, http):
    http.post(URL, json=load("embeddings.json"))
    answer = adapter.embed(embedding("a", "b"), candidate(), limits(), Handle())
    assert (answer.vectors, answer.prompt_tokens) == ([[0.1, 0.2], [0.3, 0.4]], 4)


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [([4, 4], [2]), ([4, 7], [1, 1]), ([30, 4], [1, 1]), ([4, 30, 4], [1, 1, 1]), ([5, 5, 5, 5, 5], [2, 2, 1]), ([], [])],
)
def test_inputs_are_cut_into_calls_by_size(sizes, groups):
    texts = [chr(97 + number) * size for number, size in enumerate(sizes)]
    calls = list(split_by_size(texts, most_bytes=10))
    assert [len(call) for call in calls] == groups
    assert [text for call in calls for text in call] == texts


def test_a_call_never_holds_more_tokens_than_the_model_takes(adapter, http):
    def answer(request):
        texts = json.loads(request.body)["input"]
        rows = [{"index": index, "embedding": [float(text[0])]} for index, text in enumerate(texts)]
        return 200, {}, json.dumps({"data": rows, "usage": {"total_tokens": 10 * len(texts)}})

    http.add_callback(responses.POST, URL, callback=answer, content_type="application/json")
    texts = [f"{number}" + "x" * 100_000 for number in range(5)]  # two of them fill 120,000 tokens
    answered = adapter.embed(embedding(*texts), candidate(), limits(), Handle())
    assert len(http.calls) == 3
    assert answered.vectors == [[0.0], [1.0], [2.0], [3.0], [4.0]]
    assert answered.prompt_tokens == 50


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "payload", "expected"),
    [
        (400, load("unknown_model_400.json"), errors.UpstreamModelGone),
        (400, load("batch_tokens_400.json"), errors.UpstreamContextTooLong),
        (400, load("context_400.json"), errors.UpstreamContextTooLong),
        (400, {"detail": "output_dimension 512 is not valid for model voyage-3"}, errors.UpstreamRejected),
        (401, {"detail": "Provided API key is invalid."}, errors.UpstreamCredentialRejected),
        (403, {"detail": "Forbidden"}, errors.UpstreamUnreachable),
        (403, "<html>Forbidden</html>", errors.UpstreamUnreachable),
        (422, {"detail": [{"loc": ["body", "input"], "msg": "field required"}]}, errors.UpstreamRejected),
        (422, {"detail": [{"loc": ["body", "x"], "msg": "extra fields not permitted"}]}, errors.UpstreamModelFailed),
        (429, load("no_payment_method_429.json"), errors.UpstreamRateLimited),
        (500, {"detail": "Internal server error"}, errors.UpstreamFailed),
        (502, "upstream connect error", errors.UpstreamOverloaded),
        (503, "no healthy upstream", errors.UpstreamOverloaded),
        (504, "upstream request timeout", errors.UpstreamOverloaded),
    ],
)
def test_status_and_detail_decide_what_an_error_means(adapter, status, payload, expected):
    error = adapter.classify_error(status, {}, payload, candidate())
    assert type(error) is expected
    assert error.upstream_status == status


@pytest.mark.parametrize(
    ("fixture", "counts"), [("batch_tokens_400.json", (120000, 124417)), ("context_400.json", (32000, None))]
)
def test_inputs_that_do_not_fit_are_told_with_the_numbers(adapter, fixture, counts):
    error = adapter.classify_error(400, {}, load(fixture), candidate())
    assert isinstance(error, errors.UpstreamContextTooLong)
    assert (error.limit_tokens, error.prompt_tokens) == counts
    assert error.param == "input"


def test_a_list_of_details_reaches_the_client_as_text(adapter):
    error = adapter.classify_error(422, {}, {"detail": [{"msg": "field required"}]}, candidate())
    assert "field required" in error.message


def test_a_missing_payment_method_limits_the_minute_of_the_whole_account(adapter):
    error = adapter.classify_error(429, {}, load("no_payment_method_429.json"), candidate())
    assert type(error) is errors.UpstreamRateLimited
    assert error.cooldown_scope == "credential"
    assert error.retry_after_s is None


def test_a_failure_reaches_the_caller_through_the_driver(adapter, http):
    http.post(URL, status=400, json=load("unknown_model_400.json"))
    with pytest.raises(errors.UpstreamModelGone):
        adapter.embed(embedding("a"), candidate(), limits(), Handle())
