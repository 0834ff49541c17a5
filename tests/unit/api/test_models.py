import pytest

from tests.anthropic_sdk import check_model
from tests.conftest import AUTH

FIELDS = ["id", "object", "created", "owned_by", "provider", "reasoning_tier", "supports_streaming"]
CATALOG = """
[[providers]]
key = "a"
base_url = "http://127.0.0.1:9"
[[providers]]
key = "b"
base_url = "http://127.0.0.1:9"
credential_env = "B_KEY"
[[models]]
provider = "b"
id = "chat"
reasoning_tier = "high"
[[models]]
provider = "a"
id = "chat"
created = 7
reasoning_tier = "low"
[[models]]
provider = "a"
id = "vectors"
kind = "embedding"
[[models]]
provider = "a"
id = "old"
status = "retired"
replaced_by = "chat"
[[models]]
provider = "a"
id = "none-left"
limits = { rpd = 0 }
[[models]]
provider = "b"
id = "locked"
[aliases]
"first-of-two" = ["b/chat", "a/chat"]
"to-vectors" = ["vectors"]
"to-nobody" = ["b/locked"]
"to-auto" = ["auto"]
"gone" = ["old"]
"any-*" = ["a/chat"]
"""


@pytest.fixture
def gateway(build_application):
    return build_application(catalog=CATALOG)


def listed(gateway, query=""):
    return {entry["id"]: entry for entry in gateway.get(f"/v1/models{query}").json["data"]}


def test_the_list_has_exactly_the_fields_of_the_contract(gateway):
    models = listed(gateway)
    assert sorted(models) == ["chat", "vectors"] and all(list(entry) == FIELDS for entry in models.values())
    assert list(models["chat"].values()) == ["chat", "model", 7, "a", "a", "low", True]
    assert models["vectors"]["supports_streaming"] is False


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?include=auto", {"auto", "auto:fast", "auto:smart"}),
        ("?include=aliases", {"first-of-two", "to-vectors", "to-auto"}),
        ("?include=aliases,%20auto", {"first-of-two", "to-vectors", "to-auto", "auto", "auto:fast", "auto:smart"}),
        ("?include[]=aliases&include[]=auto", {"first-of-two", "to-vectors", "to-auto", "auto", "auto:fast", "auto:smart"}),
        ("?include=nonsense", set()),
    ],
)
def test_names_are_listed_where_asked_for_and_somebody_can_be_called(gateway, query, names):
    assert set(listed(gateway, query)) == {"chat", "vectors"} | names


def test_auto_is_listed_unasked_where_the_operator_wants_it(build_application):
    models = listed(build_application({"GATEWAY_LIST_AUTO": "true"}, catalog=CATALOG))
    assert [models[name]["provider"] for name in ("auto", "auto:fast", "auto:smart")] == ["gateway"] * 3


def test_auto_is_not_listed_where_no_chat_model_can_be_called(build_application):
    vectors = (
        '[[providers]]\nkey = "a"\nbase_url = "http://127.0.0.1:9"\n[[models]]\nprovider = "a"\nid = "v"\nkind = "embedding"\n'
    )
    gateway = build_application({"GATEWAY_LIST_AUTO": "true"}, catalog=vectors)
    assert set(listed(gateway)) == {"v"} and gateway.get("/v1/models/auto").status_code == 404


def test_an_alias_is_described_by_the_first_of_its_models_that_can_be_called(gateway):
    models = listed(gateway, "?include=aliases,capabilities,health")
    assert models["first-of-two"] == {**models["chat"], "id": "first-of-two"}
    assert models["to-vectors"]["capabilities"]["kind"] == "embedding" and not models["to-vectors"]["supports_streaming"]
    assert models["to-auto"]["provider"] == "gateway" and "health" not in models["to-auto"]


@pytest.mark.parametrize(
    ("name", "id_", "provider"),
    [
        ("chat", "chat", "a"),
        ("a/chat", "chat", "a"),
        ("first-of-two", "first-of-two", "a"),
        ("any-thing", "any-thing", "a"),
        ("auto:fast", "auto:fast", "gateway"),
        ("to-auto", "to-auto", "gateway"),
        ("vectors", "vectors", "a"),
    ],
)
def test_a_model_is_found_by_every_name_that_a_request_may_use(gateway, name, id_, provider):
    answer = gateway.get(f"/v1/models/{name}")
    assert (answer.status_code, answer.json["id"], answer.json["provider"]) == (200, id_, provider)


def test_a_model_is_retrieved_as_it_is_listed(gateway):
    query = "?include=capabilities&include=health"
    assert gateway.get(f"/v1/models/chat{query}").json == listed(gateway, query)["chat"]
    assert listed(gateway, query)["chat"]["capabilities"]["context_window"] == 8192
    assert listed(gateway, query)["chat"]["health"]["healthy"] is True


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobody's", "does not exist"),
        ("old", "retired by its provider. Use `chat` instead."),
        ("gone", "retired by its provider. Use `chat` instead."),
        ("locked", "set B_KEY and restart"),
        ("b/chat", "set B_KEY and restart"),
        ("to-nobody", "set B_KEY and restart"),
        ("none-left", "no quota"),
        ("sandbox/echo", "set GATEWAY_SANDBOX=on and restart"),
    ],
)
def test_a_model_that_cannot_be_called_is_refused_as_a_request_for_it_is(gateway, name, said):
    refused = gateway.get(f"/v1/models/{name}")
    asked = gateway.post("/v1/chat/completions", {"model": name, "messages": [{"role": "user", "content": "x"}]})
    assert refused.status_code == asked.status_code == 404
    assert refused.json == asked.json and said in refused.json["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/chat"])
def test_models_are_not_for_everybody(gateway, path):
    assert gateway.get(path, headers={}).status_code == 401


# --- Anthropic's form ----------------------------------------------------------------------------------------------------

ANTHROPIC = {**AUTH, "anthropic-version": "2023-06-01"}


def test_clients_of_anthropics_api_get_its_list_of_chat_models(gateway):
    page = gateway.get("/v1/models?limit=1000&include=auto", ANTHROPIC).json
    assert [check_model(entry)["id"] for entry in page["data"]] == ["chat", "auto", "auto:fast", "auto:smart"]
    assert page["data"][0] == {
        "type": "model",
        "id": "chat",
        "display_name": "chat",
        "created_at": "1970-01-01T00:00:07Z",
        "lifecycle": "active",
    }
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, "chat", "auto:smart")
    assert gateway.get("/v1/models/chat", ANTHROPIC).json == page["data"][0]
    assert gateway.get("/v1/models/nobody's", ANTHROPIC).json["error"]["type"] == "not_found_error"


def test_a_list_of_none_is_a_page_too(build_application):
    empty = build_application({"GATEWAY_SANDBOX": "off"}).get("/v1/models", ANTHROPIC).json
    assert empty == {"data": [], "has_more": False, "first_id": None, "last_id": None}
