import pytest

from gateway.api.schemas import load_embeddings
from gateway.domain import Choice, EmbeddingRequest
from gateway.errors import InvalidRequest


def load(headers=None, **fields) -> EmbeddingRequest:
    return load_embeddings({"model": "voyage-3", "input": "hello", **fields}, headers or {})


def refusal(headers=None, **fields) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        load(headers, **fields)
    assert caught.value.message.startswith(f"`{caught.value.param}` ")
    return caught.value


@pytest.mark.parametrize(
    ("sent", "inputs"),
    [
        ("hello", ("hello",)),
        (["b", "a", "b"], ("b", "a", "b")),
        ([" "], (" ",)),
        (["x"] * 2048, ("x",) * 2048),
    ],
)
def test_texts_keep_their_order(sent, inputs):
    assert load(input=sent).inputs == inputs


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": None}, "input", "missing_field"),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": 5}, "input", "invalid_value"),
        ({"input": {"text": "a"}}, "input", "invalid_value"),
        ({"input": ["a", "b", "c", ""]}, "input[3]", "invalid_value"),
        ({"input": ["a", None]}, "input[1]", "invalid_value"),
        ({"input": ["a", True]}, "input[1]", "invalid_value"),
        ({"input": ["a", []]}, "input[1]", "invalid_value"),
        ({"input": ["x"] * 2049}, "input", "invalid_value"),
        ({"model": None}, "model", "missing_field"),
        ({"model": ""}, "model", "missing_field"),
        ({"model": None, "models": ["a", "b"]}, "model", "missing_field"),
        ({"model": 5}, "model", "invalid_value"),
        ({"encoding_format": "int8"}, "encoding_format", "invalid_value"),
        ({"dimensions": 0}, "dimensions", "invalid_value"),
        ({"dimensions": 1.5}, "dimensions", "invalid_value"),
        ({"dimensions": "512"}, "dimensions", "invalid_value"),
        ({"input_type": "clustering"}, "input_type", "invalid_value"),
        ({"user": 5}, "user", "invalid_value"),
        ({"project_id": "a b"}, "project_id", "invalid_value"),
    ],
)
def test_a_wrong_field_is_refused(fields, param, code):
    error = refusal(**fields)
    assert (error.param, error.code) == (param, code)


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]], ["a", [5]], [7] * 3000])
def test_token_ids_are_told_what_to_change(tokens):
    assert "check_embedding_ctx_length=False" in refusal(input=tokens).message


@pytest.mark.parametrize("model", ["auto", "auto:fast", "auto:smart", " auto "])
def test_auto_is_no_embedding_model(model):
    error = refusal(model=model)
    assert (error.param, error.code) == ("model", "invalid_value")
    assert "cannot be compared" in error.message


def test_everything_that_is_asked_is_read():
    request = load(
        {"x-gateway-force-provider": "voyage_ai", "x-gateway-project-id": "p"},
        encoding_format="base64",
        dimensions=512.0,
        input_type="query",
        user="u",
        unknown={"a": 1},
    )
    assert request == EmbeddingRequest(
        inputs=("hello",),
        choice=Choice(names=("voyage-3",), force_provider="voyage_ai"),
        dimensions=512,
        encoding_format="base64",
        input_type="query",
        user="u",
        prompt_tokens=1,
        project_id="p",
    )


def test_nulls_count_as_absent():
    nulls = dict.fromkeys(("encoding_format", "dimensions", "input_type", "user", "project_id", "models"))
    assert load(**nulls) == load()
    assert load().encoding_format == "float"


@pytest.mark.parametrize(
    ("sent", "read"),
    [("query", "query"), ("document", "document"), ("search_query", "query"), ("search_document", "document"), (None, None)],
)
def test_input_type_is_query_or_document(sent, read):
    assert load(input_type=sent).input_type == read


def test_a_fallback_list_does_not_mix_models():
    assert load(models=["other"]).choice.names == ("voyage-3",)
