from typing import Any, cast

import pytest

from gateway.boot import load_configuration
from gateway.domain import ChatRequest, Choice, EmbeddingRequest
from gateway.errors import InvalidRequest, ModelNotFound
from gateway.routing.candidates import Planner

CATALOG = """
[[providers]]
key = "a"
base_url = "http://a"
[[providers]]
key = "b"
base_url = "http://b"
[[providers]]
key = "locked"
base_url = "http://c"
credential_env = "LOCKED_KEY"
[[models]]
provider = "a"
id = "same"
[[models]]
provider = "b"
id = "same"
[[models]]
provider = "a"
id = "smart"
reasoning_tier = "high"
context_window = 1000
capabilities = ["streaming", "tools", "reasoning"]
[[models]]
provider = "b"
id = "eyes"
reasoning_tier = "low"
context_window = 4000
capabilities = ["streaming", "vision", "json_schema"]
[[models]]
provider = "a"
id = "old"
status = "legacy"
[[models]]
provider = "a"
id = "gone"
status = "retired"
replaced_by = "smart"
[[models]]
provider = "a"
id = "paid"
limits = { rpd = 0 }
[[models]]
provider = "locked"
id = "shut"
[[models]]
provider = "a"
id = "vectors"
kind = "embedding"
dimensions = [64, 32]
[aliases]
"both" = ["a/smart", "b/eyes"]
"""


class AnyProvider:  # all that a plan asks of one
    def __init__(self, refuses=()):
        self.refuses = refuses

    def cannot_serve(self, request, model):
        return "It cannot do that." if model.id in self.refuses else None


@pytest.fixture
def inventory(tmp_path):
    path = tmp_path / "catalog.toml"
    path.write_text(CATALOG)
    environ = {
        "GATEWAY_CATALOG": str(path),
        "GATEWAY_API_KEY": "sk-1",
        "GATEWAY_SANDBOX": "off",
        "GATEWAY_DATA_DIR": str(tmp_path),
    }
    return load_configuration(environ).inventory


def plan(inventory, *names, refuses=(), tokens=10, needs=(), **choice):
    wanted = Choice(names=names or ("auto",), **choice)
    request = ChatRequest(body={"messages": []}, choice=wanted, needs=frozenset(needs), prompt_tokens=tokens)
    providers: Any = dict.fromkeys(("a", "b"), AnyProvider(refuses))
    found = Planner(inventory, providers).plan_chat(request)
    pinned = [all(candidate.id in found.pinned for candidate in group) for group in found.choices]
    return [[candidate.model.name for candidate in group] for group in found.choices], pinned


@pytest.mark.parametrize(
    ("names", "groups", "pinned"),
    [
        (["auto"], [["a/same", "a/smart", "b/same", "b/eyes"]], [False]),
        (["same"], [["a/same", "b/same"]], [True]),
        (["b/same"], [["b/same"]], [True]),
        (["both"], [["a/smart", "b/eyes"]], [True]),
        (["old"], [["a/old"]], [True]),
        (["eyes", "smart"], [["b/eyes"], ["a/smart"]], [True, True]),
        (["eyes", "auto"], [["b/eyes"], ["a/same", "a/smart", "b/same"]], [True, False]),
        (["auto", "eyes", "old"], [["a/same", "a/smart", "b/same", "b/eyes"], ["a/old"]], [False, True]),
    ],
)
def test_names_become_choices_in_the_callers_order(inventory, names, groups, pinned):
    found, are_pinned = plan(inventory, *names)
    assert [sorted(group) for group in found] == [sorted(group) for group in groups] and are_pinned == pinned


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nope", "does not exist"),
        ("gone", "Use `smart`"),
        ("shut", "LOCKED_KEY"),
        ("nobody/same", "does not exist"),
        ("paid", "no quota"),
    ],
)
def test_a_name_that_cannot_be_served_is_not_found_and_says_what_to_do(inventory, name, says):
    with pytest.raises(ModelNotFound, match=says) as raised:
        plan(inventory, name)
    assert raised.value.param == "model" and raised.value.code == "model_not_found"


def test_a_name_that_nobody_has_is_told_the_ways_out(inventory):
    with pytest.raises(ModelNotFound, match=r"or send `auto`, or alias the name in \[aliases\] of GATEWAY_CATALOG"):
        plan(inventory, "gpt-4o-mini")
    with pytest.raises(ModelNotFound, match="or alias the name") as raised:
        Planner(inventory, {}).plan_embeddings(EmbeddingRequest(inputs=("a",), choice=Choice(names=("nope",))))
    assert "`auto`" not in raised.value.message  # vector spaces do not mix


def test_a_model_of_another_kind_is_sent_to_its_path(inventory):
    with pytest.raises(InvalidRequest, match="/v1/embeddings"):
        plan(inventory, "vectors")


@pytest.mark.parametrize(
    ("choice", "groups"),
    [({"force_provider": "b"}, [["b/same", "b/eyes"]]), ({"force_model": "same", "force_provider": "b"}, [["b/same"]])],
)
def test_force_headers_narrow_the_choice(inventory, choice, groups):
    assert plan(inventory, **choice)[0] == groups


@pytest.mark.parametrize("choice", [{"force_provider": "nope"}, {"force_model": "nope"}, {"force_provider": "locked"}])
def test_a_forced_name_that_nobody_has_is_not_found(inventory, choice):
    with pytest.raises(ModelNotFound):
        plan(inventory, **choice)


def test_a_forced_provider_that_nobody_knows_is_told_of_the_header_and_those_there_are(inventory):
    with pytest.raises(ModelNotFound, match=r"one of groq, gemini, .*locked") as raised:
        plan(inventory, force_provider="nope")
    assert raised.value.param == "x-gateway-force-provider"


@pytest.mark.parametrize(
    ("needs", "models"), [(["tools"], ["a/smart"]), (["vision"], ["b/eyes"]), (["json_mode"], ["b/eyes"]), ([], None)]
)
def test_a_needed_feature_leaves_only_models_that_have_it(inventory, needs, models):
    found = plan(inventory, needs=needs)[0]
    assert found == [models] if models else len(found[0]) == 4


def test_a_feature_that_no_model_asked_for_has_is_refused(inventory):
    with pytest.raises(InvalidRequest) as raised:
        plan(inventory, "same", needs=["vision"])
    assert raised.value.code == "unsupported_feature" and "images" in raised.value.message


def test_what_the_protocol_cannot_carry_goes_elsewhere_or_is_refused(inventory):
    assert plan(inventory, "both", refuses=["smart"])[0] == [["b/eyes"]]
    with pytest.raises(InvalidRequest, match="It cannot do that"):
        plan(inventory, "smart", refuses=["smart"])


@pytest.mark.parametrize(("level", "models"), [("low", ["a/smart", "b/eyes"]), ("medium", ["a/smart"]), ("high", ["a/smart"])])
def test_min_reasoning_level_is_a_hard_minimum(inventory, level, models):
    assert plan(inventory, min_reasoning_level=level)[0] == [models]


def test_min_reasoning_level_that_nobody_reaches_is_refused(inventory):
    with pytest.raises(InvalidRequest) as raised:
        plan(inventory, "same", min_reasoning_level="low")
    assert raised.value.param == "min_reasoning_level"


def test_windows_that_are_too_small_are_left_out(inventory):
    assert plan(inventory, "both", tokens=2000)[0] == [["b/eyes"]]


def test_an_estimate_alone_never_refuses(inventory):
    assert plan(inventory, "both", tokens=10**9)[0] == [["b/eyes"]]


@pytest.mark.parametrize(("size", "fits"), [(None, True), (64, True), (32, True), (33, False), (128, False)])
def test_embeddings_come_in_the_sizes_that_the_model_has(inventory, size, fits):
    request = EmbeddingRequest(inputs=("a",), choice=Choice(names=("vectors",)), dimensions=size)
    if fits:
        assert [candidate.model.id for candidate in Planner(inventory, {}).plan_embeddings(request).candidates] == ["vectors"]
    else:
        with pytest.raises(InvalidRequest, match="64, 32") as raised:
            Planner(inventory, {}).plan_embeddings(request)
        assert raised.value.param == "dimensions"


def test_embeddings_never_come_from_whatever_is_healthiest(inventory):
    with pytest.raises(InvalidRequest, match="Name a model"):
        Planner(inventory, {}).plan_embeddings(EmbeddingRequest(inputs=("a",), choice=Choice(names=("auto",))))


def test_auto_with_nobody_to_ask_says_what_to_set(tmp_path):
    environ = {"GATEWAY_API_KEY": "sk-1", "GATEWAY_SANDBOX": "off", "GATEWAY_DATA_DIR": str(tmp_path)}
    with pytest.raises(ModelNotFound, match="GROQ_API_KEY"):
        plan(load_configuration(environ).inventory)


def test_auto_where_the_only_provider_has_no_model_says_what_is_missing(tmp_path):
    (tmp_path / "mine.toml").write_text('[[providers]]\nkey = "mine"\nbase_url = "http://x"\n')
    environ = {"GATEWAY_CATALOG": str(tmp_path / "mine.toml"), "GATEWAY_API_KEY": "sk-1", "GATEWAY_DATA_DIR": str(tmp_path)}
    with pytest.raises(ModelNotFound, match=r"add a \[\[models\]\] row for `mine` to GATEWAY_CATALOG, or set GROQ_API_KEY"):
        plan(load_configuration(environ).inventory)


@pytest.mark.parametrize(
    ("name", "profile"), [("auto", "auto"), ("auto:fast", "auto:fast"), ("auto:smart", "auto:smart"), ("same", "auto")]
)
def test_an_auto_name_brings_its_profile(inventory, name, profile):
    request = ChatRequest(body={"messages": []}, choice=Choice(names=(name,)))
    providers: Any = dict.fromkeys(("a", "b"), AnyProvider())
    assert Planner(inventory, providers).plan_chat(request).profile == profile


def test_a_plan_tells_who_was_left_out_and_why(inventory):
    planner = Planner(inventory, cast(Any, dict.fromkeys(("a", "b"), AnyProvider(["smart"]))))
    request = ChatRequest(body={"messages": []}, choice=Choice(), prompt_tokens=5000, needs=frozenset())
    assert {(c.model.name, why) for c, why in planner.plan_chat(request).left_out} == {
        ("a/smart", "unsupported"),
        ("b/eyes", "context_window"),
    }


def test_what_is_kept_of_one_request_does_not_leak_into_another(inventory):
    planner = Planner(inventory, cast(Any, dict.fromkeys(("a", "b"), AnyProvider())))
    small, large = (ChatRequest(body={"messages": []}, prompt_tokens=tokens) for tokens in (10, 5000))
    sizes = [len(planner.plan_chat(request).candidates) for request in (small, large, small)]
    assert sizes == [4, 2, 4]
