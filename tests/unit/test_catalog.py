"""The catalog file, the merge over it, names of models, credentials, and what is usable."""

import time

import pytest

from gateway.catalog import BUILTIN_PATH, SANDBOX, load_catalog
from gateway.credentials import load_credentials
from gateway.domain import CAPABILITIES, Model, ProviderRow
from gateway.errors import ConfigurationError
from gateway.inventory import build_inventory
from gateway.settings import Settings

ADAPTERS = ("cerebras", "gemini", "groq", "openai_compatible", "openrouter", "sandbox", "voyage_ai", "workers_ai")
REAL = ("groq", "gemini", "workers_ai", "openrouter", "cerebras", "voyage_ai")

OLLAMA = """
[[providers]]
key = "ollama"
base_url = "http://localhost:11434/v1"
[[models]]
provider = "ollama"
id = "qwen3"
"""


@pytest.fixture(scope="module")
def builtin():
    return load_catalog(None, ADAPTERS)


@pytest.fixture
def load(tmp_path):
    def merged(text):
        path = tmp_path / "extra.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_catalog(path, ADAPTERS)

    return merged


def settings(sandbox="auto", **variables):
    return Settings(sandbox=sandbox, variables=variables)


def row(catalog, provider, id_):
    return next((model for model in catalog.models if (model.provider, model.id) == (provider, id_)), None)


def names(models):
    return [model.name for model in models]


# --- the built-in file ---------------------------------------------------------------------------------------------


def test_builtin_catalog_has_the_providers_of_the_contract(builtin):
    assert tuple(builtin.providers) == (*REAL, "sandbox")
    workers = builtin.providers["workers_ai"]
    assert (workers.credential_env, workers.account_id_env, workers.base_url_env) == (
        "CLOUDFLARE_API_TOKEN",
        "CLOUDFLARE_ACCOUNT_ID",
        "WORKERS_AI_BASE_URL",
    )
    assert workers.account_limits == {"neurons": 10000}
    assert builtin.providers["openrouter"].account_limits == {"rpm": 20, "rpd": 50}
    assert builtin.providers["voyage_ai"].account_limits == {"rpm": 3, "tpm": 10000}
    clocks = {key: provider.clock for key, provider in builtin.providers.items()}
    assert (clocks["groq"], clocks["gemini"], clocks["workers_ai"]) == ("rolling", "pacific", "utc")
    assert builtin.providers["groq"].read_on == "2026-11-22"


@pytest.mark.parametrize(
    ("provider", "id_", "tier", "status"),
    [
        ("groq", "llama-3.3-70b-versatile", None, "legacy"),
        ("gemini", "gemini-2.0-flash", None, "legacy"),
        ("gemini", "gemini-2.0-flash-thinking-exp", "high", "legacy"),
        ("workers_ai", "@cf/meta/llama-3.3-70b-instruct-fp8-fast", None, "active"),
        ("voyage_ai", "voyage-3", None, "legacy"),
    ],
)
def test_published_ids_are_there_with_their_date(builtin, provider, id_, tier, status):
    model = row(builtin, provider, id_)
    assert (model.created, model.reasoning_tier, model.status) == (1714000000, tier, status)


def test_builtin_rows_hold_together(builtin):
    ids = {model.id for model in builtin.models}
    for model in builtin.models:
        assert model.builtin and model.created and model.upstream_id == model.id
        assert model.streams == (model.kind == "chat")
        assert model.replaced_by is None or model.replaced_by in ids
        assert not model.reasoning_efforts or "reasoning" in model.capabilities
        assert bool(model.dimensions) == (model.kind == "embedding")
        assert model.source or model.provider == SANDBOX
        assert (model.quality is not None) == (model.kind == "chat" and model.provider != SANDBOX)
        assert model.reserves_output == (model.provider in ("groq", "cerebras"))
        if model.provider == "workers_ai":
            assert model.neurons_per_mtok  # the account's only daily limit is counted in them
        if "image_urls" in model.capabilities:
            assert "vision" in model.capabilities and model.provider in ("groq", "openrouter", SANDBOX)


@pytest.mark.parametrize(
    ("name", "efforts"),
    [
        ("groq/openai/gpt-oss-120b", {"low": "low", "medium": "medium", "high": "high"}),
        ("groq/qwen/qwen3.6-27b", {"none": "none", "low": "default", "medium": "default", "high": "default"}),
        ("workers_ai/@cf/zai-org/glm-4.7-flash", {"none": "none", "low": "low", "medium": "medium", "high": "high"}),
        ("gemini/gemini-2.5-flash", {"none": 0, "low": 1024, "medium": 8192, "high": 24576}),
        ("gemini/gemini-2.5-pro", {"low": 1024, "medium": 8192, "high": 24576}),
        ("gemini/gemini-3.5-flash", {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}),
        ("gemini/gemini-3.8-flash", {"low": "LOW", "medium": "MEDIUM", "high": "HIGH"}),
        ("gemini/gemini-2.0-flash-thinking-exp", {}),
        ("gemini/gemma-4-31b-it", {}),
        ("groq/groq/compound", {}),
        ("google/gemma-4-31b-it:free", {"none": "none", "low": "low", "medium": "medium", "high": "high"}),
        ("google/gemma-4-26b-a4b-it:free", {"none": "none", "low": "low", "medium": "medium", "high": "high"}),
    ],
)
def test_reasoning_is_steered_in_the_providers_words(builtin, name, efforts):
    (model,) = builtin.resolve(name).models
    assert model.reasoning_efforts == efforts


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("gemini/gemini-3.8-flash", {"rpm": 5, "rpd": 20}),
        ("gemini/gemini-3.5-flash", {"rpm": 5, "rpd": 20, "tpm": 250000}),
        ("gemini/gemini-3.1-pro-preview", {"rpm": 0, "rpd": 0, "tpm": 0}),
        ("groq/qwen/qwen3.8-27b", {"rpm": 30, "rpd": 1000, "tpm": 8000, "tpd": 200000}),
        ("groq/groq/compound", {"rpm": 30, "rpd": 250, "tpm": 70000}),
        ("openrouter/openrouter/free", {}),
    ],
)
def test_unknown_limits_start_as_the_contract_says(builtin, name, limits):
    (model,) = builtin.resolve(name).models
    assert model.limits == limits


def test_embedding_rows_name_their_sizes_with_the_own_one_first(builtin):
    sizes = {m.id: (m.dimensions, m.min_dimensions, m.batch) for m in builtin.models if m.kind == "embedding"}
    assert sizes["gemini-embedding-001"] == ((3072,), 128, 100)
    assert sizes["voyage-3"] == ((1024,), None, 1000)
    assert sizes["voyage-4"] == ((1024, 256, 512, 2048), None, 1000)
    assert sizes["@cf/baai/bge-m3"] == ((1024,), None, 100)


def test_sandbox_has_the_models_of_the_contract(builtin):
    kinds = {model.id: model.kind for model in builtin.models if model.provider == SANDBOX}
    chat = ("echo", "tools", "slow-first-token", "cut", "stall", "rate-limited", "error")
    assert kinds == {
        **{f"sandbox/{name}": "chat" for name in chat},
        "sandbox/embed": "embedding",
        "sandbox/rerank": "rerank",
    }
    assert row(builtin, SANDBOX, "sandbox/echo").capabilities == set(CAPABILITIES) - {"reasoning"}


def test_every_builtin_alias_names_several_homes(builtin):
    for name, targets in builtin.aliases.items():
        named = builtin.resolve(name)
        assert named.auto or len({model.provider for model in named.models}) == len(targets) > 1


# --- merging -------------------------------------------------------------------------------------------------------


def test_minimal_rows_get_the_defaults(load, tmp_path):
    catalog = load(OLLAMA)
    assert catalog.providers["ollama"] == ProviderRow(key="ollama", base_url="http://localhost:11434/v1")
    written_at = int((tmp_path / "extra.toml").stat().st_mtime)
    assert row(catalog, "ollama", "qwen3") == Model(provider="ollama", id="qwen3", upstream_id="qwen3", created=written_at)


def test_a_changed_row_replaces_the_fields_it_names_whole(load, builtin):
    before = row(builtin, "groq", "openai/gpt-oss-20b")
    catalog = load('[[models]]\nprovider = "groq"\nid = "openai/gpt-oss-20b"\nlimits = { rpm = 60 }')
    after = row(catalog, "groq", "openai/gpt-oss-20b")
    assert after.limits == {"rpm": 60}
    assert (after.capabilities, after.created, after.quality) == (before.capabilities, before.created, before.quality)
    assert (after.builtin, row(catalog, "groq", "openai/gpt-oss-120b").builtin) == (False, True)
    assert names(catalog.models) == names(builtin.models)  # it keeps its place


def test_an_empty_table_of_limits_says_that_there_are_none(load, builtin):
    free = next(model for model in builtin.models if not model.limits and model.kind == "chat")
    rows = [("groq", "openai/gpt-oss-20b", "limits = {}"), ("groq", "new", ""), (free.provider, free.id, "quality = 9")]
    catalog = load("".join(f'[[models]]\nprovider = "{key}"\nid = "{id_}"\n{fields}\n' for key, id_, fields in rows))
    unlimited = {model.name: model.unlimited for model in catalog.models}
    assert unlimited["groq/openai/gpt-oss-20b"] and not unlimited["groq/new"] and not unlimited[free.name]
    assert not any(model.unlimited for model in builtin.models)


def test_a_changed_provider_keeps_its_other_fields(load):
    catalog = load('[[providers]]\nkey = "openrouter"\naccount_limits = { rpm = 20, rpd = 1000 }')
    provider = catalog.providers["openrouter"]
    assert (provider.account_limits, provider.adapter) == ({"rpm": 20, "rpd": 1000}, "openrouter")


def test_enabled_false_takes_a_model_away_and_out_of_its_aliases(load):
    catalog = load('[[models]]\nprovider = "groq"\nid = "qwen/qwen3.8-27b"\nenabled = false')
    assert catalog.resolve("groq/qwen/qwen3.8-27b") is None
    assert names(catalog.resolve("qwen3.8-27b").models) == ["cerebras/qwen-3.8-27b"]


def test_enabled_false_takes_a_provider_away_with_its_models_and_empty_aliases(load):
    catalog = load("".join(f'[[providers]]\nkey = "{key}"\nenabled = false\n' for key in ("groq", "cerebras")))
    assert not {"groq", "cerebras"} & {*catalog.providers, *(model.provider for model in catalog.models)}
    assert "qwen3.8-27b" not in catalog.aliases
    assert catalog.resolve("qwen3.8-27b") is None


def test_an_id_of_the_operator_may_take_the_name_of_a_builtin_alias(load):
    catalog = load(OLLAMA.replace("qwen3", "gpt-oss-large"))
    assert names(catalog.resolve("gpt-oss-large").models) == ["ollama/gpt-oss-large"]
    assert "gpt-oss-large" not in catalog.aliases


def test_a_model_that_does_not_chat_does_not_stream_by_default(load):
    model = row(load(OLLAMA + 'kind = "rerank"'), "ollama", "qwen3")
    assert model.capabilities == frozenset()


def test_all_fields_of_a_row_are_read(load):
    catalog = load(
        OLLAMA
        + """
created = 5
kind = "embedding"
upstream_id = "qwen3:0.6b"
dimensions = [1024, 512]
min_dimensions = 32
batch = 7
params = ["model", "input"]
first_token_timeout_s = 2.5
neurons_per_mtok = [1, 2.5]
reasoning_efforts = { low = "l", high = -1 }
confirmed = false
"""
    )
    assert row(catalog, "ollama", "qwen3") == Model(
        provider="ollama",
        id="qwen3",
        created=5,
        kind="embedding",
        capabilities=frozenset(),
        upstream_id="qwen3:0.6b",
        dimensions=(1024, 512),
        min_dimensions=32,
        batch=7,
        params=frozenset({"model", "input"}),
        first_token_timeout_s=2.5,
        neurons_per_mtok=(1.0, 2.5),
        reasoning_efforts={"low": "l", "high": -1},
        confirmed=False,
    )


def test_a_byte_order_mark_is_no_error(load):
    assert "ollama" in load(b"\xef\xbb\xbf" + OLLAMA.encode()).providers


def test_two_thousand_rows_load_quickly(load):
    models = "".join(f'[[models]]\nprovider = "groq"\nid = "m{n}"\nlimits = {{ rpm = 1 }}\n' for n in range(2000))
    began = time.process_time()
    catalog = load(models)
    assert time.process_time() - began < 2  # about 0.4 s; generous for slow machines
    assert len(catalog.resolve("m1999").models) == 1


# --- what is wrong with a file -------------------------------------------------------------------------------------

MODEL = '[[models]]\nprovider = "groq"\nid = "new"\n'
PROVIDER = '[[providers]]\nkey = "new"\nbase_url = "https://example.com/v1"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("models = [", "is not TOML: "),
        (b"\xff", "is not UTF-8"),
        ("[[model]]\nid = 'x'", "unknown table 'model' (did you mean 'models'?)"),
        ("[models]\nid = 'x'", "models must be tables, each headed [[models]]"),
        ("aliases = 1", "aliases must be a table, headed [aliases]"),
        ('[[models]]\nid = "x"', "[[models]] number 1 (x): provider is missing"),
        ('[[models]]\nprovider = "groq"', "[[models]] number 1 (groq): id is missing"),
        ('[[models]]\nprovider = "grok"\nid = "x"', "[[models]] grok/x: unknown provider 'grok' (did you mean 'groq'?)"),
        (MODEL + "contxt_window = 1", "[[models]] groq/new: unknown field 'contxt_window' (did you mean 'context_window'?)"),
        (MODEL + MODEL, "[[models]] groq/new: stands here twice"),
        (PROVIDER + PROVIDER, "[[providers]] new: stands here twice"),
        (MODEL.replace("new", "a b"), "[[models]] groq/a b: id must be visible ASCII without spaces and commas"),
        (MODEL.replace("new", "a,b"), "[[models]] groq/a,b: id must be visible ASCII"),
        (MODEL.replace("new", "é"), "[[models]] groq/é: id must be visible ASCII"),
        (MODEL.replace("new", "auto:fast"), "[[models]] groq/auto:fast: id is a name of the gateway's own"),
        (MODEL + 'kind = "image"', "kind must be one of chat, embedding, rerank, not 'image'"),
        (MODEL + 'status = "gone"', "status must be one of active, preview, legacy, retired"),
        (MODEL + 'reasoning_tier = "max"', "reasoning_tier must be one of low, medium, high"),
        (MODEL + 'capabilities = ["tool"]', "capabilities must be a list of streaming, tools"),
        (MODEL + 'capabilities = "tools"', "capabilities must be a list of"),
        (MODEL + "limits = { rps = 1 }", "limits must be a table of rpm, rpd, tpm, tpd with whole numbers of at least 0"),
        (MODEL + "limits = { rpm = -1 }", "limits must be"),
        (MODEL + "limits = { rpm = true }", "limits must be"),
        (MODEL + "limits = { neurons = 1 }", "limits must be"),
        (MODEL + "quality = 101", "quality must be a whole number from 0 to 100, not 101"),
        (MODEL + "quality = true", "quality must be a whole number from 0 to 100, not True"),
        (MODEL + "created = -1", "created must be a whole number of at least 0"),
        (MODEL + "created = 1.0", "created must be a whole number"),
        (MODEL + "context_window = 0", "context_window must be a whole number of at least 1"),
        (MODEL + 'batch = "10"', "batch must be a whole number"),
        (MODEL + "enabled = 1", "enabled must be true or false"),
        (MODEL + "dimensions = []", "dimensions must be"),
        (MODEL + "dimensions = [1, 0]", "dimensions must be"),
        (MODEL + "neurons_per_mtok = [1]", "neurons_per_mtok must be a list of two numbers"),
        (MODEL + "first_token_timeout_s = 0", "first_token_timeout_s must be a number of seconds above 0"),
        (MODEL + "first_token_timeout_s = inf", "first_token_timeout_s must be"),
        (MODEL + 'reasoning_efforts = { max = "x" }', "reasoning_efforts must be a table of none, minimal, low"),
        (MODEL + "reasoning_efforts = { low = 1.5 }", "reasoning_efforts must be"),
        ('[[providers]]\nkey = "new"', "[[providers]] new: base_url is missing"),
        ('[[providers]]\nbase_url = "http://x"', "[[providers]] number 1: key is missing"),
        ('[[providers]]\nkey = "a/b"\nbase_url = "http://x"', "[[providers]] a/b: key must be a name of"),
        (PROVIDER + 'adapter = "grop"', "[[providers]] new: unknown adapter 'grop' (did you mean 'groq'?)"),
        (PROVIDER + 'clock = "cet"', "clock must be one of utc, pacific, rolling"),
        (PROVIDER + "account_limits = { rpm = 1.5 }", "account_limits must be a table of rpm, rpd, tpm, tpd, neurons"),
        (PROVIDER + "read_on = 3", "read_on must be a date"),
        (PROVIDER.replace("https://example.com", "ftp://x"), "base_url must be an http:// or https:// URL"),
        (PROVIDER.replace("https://example.com", "https://"), "base_url must be"),
        (PROVIDER.replace("example.com", "example.com:99999"), "base_url must be"),
        (PROVIDER.replace("example.com", "user:pass@example.com"), "base_url must be"),
        (PROVIDER.replace("/v1", "/v1?key=x"), "base_url must be"),
        (PROVIDER.replace("/v1", "/{account_id}"), "account_id_env is missing, base_url holds {account_id}"),
        (PROVIDER + 'base_url_by_key_prefix = { "x-" = "nowhere" }', "base_url_by_key_prefix must be a table of"),
        ('[aliases]\n"gpt-oss-120b" = ["auto"]', "[aliases] 'gpt-oss-120b': is the id of a model"),
        ('[aliases]\n"auto" = ["gpt-oss-120b"]', "[aliases] 'auto': is a name of the gateway's own"),
        (
            '[aliases]\nx = ["gemini-3.8-flas"]',
            "[aliases] 'x': unknown model 'gemini-3.8-flas' (did you mean 'gemini-3.8-flash'?)",
        ),
        ('[aliases]\nx = ["gpt-oss-large"]', "[aliases] 'x': unknown model 'gpt-oss-large'"),
        ('[aliases]\nx = "auto"', "[aliases] 'x': must be a list of names of models"),
        ("[aliases]\nx = []", "[aliases] 'x': must be a list of names of models"),
        (
            '[aliases]\n"a*b" = ["auto"]',
            "[aliases] 'a*b': must be visible ASCII without spaces and commas, with * only at its end",
        ),
        ('[aliases]\n"a b" = ["auto"]', "[aliases] 'a b': must be visible ASCII"),
    ],
)
def test_a_faulty_file_is_refused_with_its_place(load, tmp_path, text, problem):
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    (line,) = caught.value.problems
    assert line.startswith(f"{tmp_path / 'extra.toml'}: ")
    assert problem in line


def test_all_problems_are_told_at_once(load):
    with pytest.raises(ConfigurationError) as caught:
        load(PROVIDER + "discover = 1\n" + MODEL + "batch = 0\nqualty = 1\n" + '[aliases]\n"voyage-3" = ["groq/new", "nothing"]')
    assert [line.partition("extra.toml: ")[2] for line in caught.value.problems] == [
        "[[providers]] new: discover must be true or false, not 1",
        "[[models]] groq/new: batch must be a whole number of at least 1, not 0",
        "[[models]] groq/new: unknown field 'qualty' (did you mean 'quality'?)",
        "[aliases] 'voyage-3': is the id of a model",
        "[aliases] 'voyage-3': unknown model 'nothing'",
    ]


def test_a_key_pasted_in_place_of_its_variable_is_not_repeated(load):
    with pytest.raises(ConfigurationError) as caught:
        load(PROVIDER + 'credential_env = "gsk_abc123"')
    assert "credential_env must be the name of an environment variable" in str(caught.value)
    assert "gsk_abc123" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: cannot be read: No such file"):
        load_catalog(tmp_path / "nowhere.toml", ADAPTERS)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_catalog(tmp_path, ADAPTERS)


def test_an_adapter_that_is_not_installed_stops_the_builtin_catalog_too():
    with pytest.raises(ConfigurationError, match=r"\[\[providers\]\] groq: unknown adapter 'groq'") as caught:
        load_catalog(None, [adapter for adapter in ADAPTERS if adapter != "groq"])
    assert caught.value.problems[0].startswith(str(BUILTIN_PATH))


# --- names of models -----------------------------------------------------------------------------------------------

NAMES = """
[[providers]]
key = "groq-like"
base_url = "http://x"
[[models]]
provider = "groq-like"
id = "openai/gpt-oss-20b"
[[models]]
provider = "groq-like"
id = "groq/compound"
[[models]]
provider = "groq-like"
id = "voyage_ai/voyage-4"
[[models]]
provider = "groq-like"
id = "mini"

[aliases]
"voyage_ai/voyage-3" = ["mini"]
"mine" = ["voyage-3", "auto:fast", "mini", "groq-like/mini"]
"gpt-4o-mini" = ["auto"]
"gpt-4*" = ["auto:smart"]
"gpt-*" = ["gpt-oss-120b"]
"""


@pytest.mark.parametrize(
    ("name", "models", "auto"),
    [
        ("openai/gpt-oss-20b", ["groq/openai/gpt-oss-20b", "groq-like/openai/gpt-oss-20b"], None),  # all of that id
        ("groq/openai/gpt-oss-20b", ["groq/openai/gpt-oss-20b"], None),
        ("groq/compound", ["groq/groq/compound", "groq-like/groq/compound"], None),  # an id that holds a provider's name
        ("groq/groq/compound", ["groq/groq/compound"], None),
        ("groq-like/groq/compound", ["groq-like/groq/compound"], None),
        ("llama-3.1-8b-instant", ["groq/llama-3.1-8b-instant"], None),  # retired rows are named too
        ("@cf/baai/bge-m3", ["workers_ai/@cf/baai/bge-m3"], None),
        ("voyage_ai/voyage-4", ["groq-like/voyage_ai/voyage-4"], None),  # an id before provider/id
        ("voyage_ai/voyage-3", ["groq-like/mini"], None),  # an alias before provider/id
        ("mine", ["voyage_ai/voyage-3", "groq-like/mini"], "auto:fast"),
        ("auto", [], "auto"),
        ("auto:smart", [], "auto:smart"),
        ("gpt-4o-mini", [], "auto"),  # the exact alias before the pattern
        ("gpt-4.1", [], "auto:smart"),  # the longest pattern
        ("gpt-oss-120b", ["cerebras/gpt-oss-120b"], None),  # an id before any pattern
        ("gpt-9", ["cerebras/gpt-oss-120b"], None),
    ],
)
def test_names_are_resolved_in_the_order_of_the_contract(load, name, models, auto):
    named = load(NAMES).resolve(name)
    assert (names(named.models), named.auto) == (models, auto)


@pytest.mark.parametrize(
    "name", ["", "nothing", "groq/", "groq/voyage-3", "nobody/voyage-3", "auto:best", "Voyage-3", "groq/auto"]
)
def test_an_unknown_name_is_none(builtin, name):
    assert builtin.resolve(name) is None


# --- credentials ---------------------------------------------------------------------------------------------------


def credentials(catalog, **variables):
    return load_credentials(catalog, settings(**variables))


def test_a_provider_without_its_credential_is_absent(builtin):
    assert set(credentials(builtin, CLOUDFLARE_ACCOUNT_ID="acc", GROQ_API_KEY=" , ")) == {SANDBOX}


def test_a_provider_that_needs_no_credential_has_one_without_a_secret(load):
    (credential,) = credentials(load(OLLAMA.replace("/v1", "/v1/")))["ollama"]
    assert (credential.secret, credential.base_url, credential.number) == ("", "http://localhost:11434/v1", 1)


def test_each_key_of_a_variable_is_a_credential(builtin):
    found = credentials(builtin, GROQ_API_KEY="k1, k2,,k1", GROQ_BASE_URL="http://localhost:1/v1/")["groq"]
    assert [(c.number, c.secret, c.base_url) for c in found] == [
        (1, "k1", "http://localhost:1/v1"),
        (2, "k2", "http://localhost:1/v1"),
    ]


@pytest.mark.parametrize(
    ("token", "account", "expected"),
    [
        ("t1", "a1", [("t1", "a1")]),
        ("t1,t2", "a1,a2", [("t1", "a1"), ("t2", "a2")]),
        ("t1,t2", "a1", [("t1", "a1"), ("t2", "a1")]),
    ],
)
def test_account_ids_pair_with_tokens(builtin, token, account, expected):
    found = credentials(builtin, CLOUDFLARE_API_TOKEN=token, CLOUDFLARE_ACCOUNT_ID=account)["workers_ai"]
    url = "https://api.cloudflare.com/client/v4/accounts/{}/ai"
    assert [(c.secret, c.base_url) for c in found] == [(t, url.format(a)) for t, a in expected]


def test_an_own_base_url_may_do_without_an_account(builtin):
    (credential,) = credentials(builtin, CLOUDFLARE_API_TOKEN="t", WORKERS_AI_BASE_URL="http://localhost:1/ai")["workers_ai"]
    assert credential.base_url == "http://localhost:1/ai"


@pytest.mark.parametrize(
    ("variables", "urls"),
    [
        ({"VOYAGE_API_KEY": "pa-1,al-2"}, ["https://api.voyageai.com/v1", "https://ai.mongodb.com/v1"]),
        ({"VOYAGE_API_KEY": "al-2", "VOYAGE_BASE_URL": "https://eu.ai.mongodb.com/v1"}, ["https://eu.ai.mongodb.com/v1"]),
    ],
)
def test_a_key_may_choose_its_host_by_its_prefix(builtin, variables, urls):
    assert [credential.base_url for credential in credentials(builtin, **variables)["voyage_ai"]] == urls


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"CLOUDFLARE_API_TOKEN": "hidden"}, "CLOUDFLARE_ACCOUNT_ID must be set beside CLOUDFLARE_API_TOKEN"),
        (
            {"CLOUDFLARE_API_TOKEN": "hidden,t2,t3", "CLOUDFLARE_ACCOUNT_ID": "a,b"},
            "CLOUDFLARE_ACCOUNT_ID must hold one account id or as many as CLOUDFLARE_API_TOKEN has keys: 3, not 2",
        ),
        ({"CLOUDFLARE_API_TOKEN": "t", "CLOUDFLARE_ACCOUNT_ID": "hidden/x"}, "CLOUDFLARE_ACCOUNT_ID must hold account ids"),
        ({"GROQ_API_KEY": "hidden key"}, "GROQ_API_KEY must hold keys of visible ASCII characters, without spaces"),
        ({"GROQ_API_KEY": "hidden\nkey"}, "GROQ_API_KEY must hold keys"),
        ({"GROQ_API_KEY": "hiddené"}, "GROQ_API_KEY must hold keys"),
        ({"GROQ_API_KEY": "k", "GROQ_BASE_URL": "hidden.example"}, "GROQ_BASE_URL must be an http:// or https:// URL"),
        ({"GROQ_API_KEY": "k", "GROQ_BASE_URL": "http://hidden/{account_id}"}, "GROQ_BASE_URL holds {account_id}"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_without_its_value(builtin, variables, problem):
    with pytest.raises(ConfigurationError) as caught:
        credentials(builtin, **variables)
    (line,) = caught.value.problems
    assert problem in line
    assert "hidden" not in line


def test_all_variables_that_cannot_be_used_are_named_at_once(builtin):
    with pytest.raises(ConfigurationError) as caught:
        credentials(builtin, GROQ_API_KEY="a b", GEMINI_API_KEY="a b", CLOUDFLARE_API_TOKEN="t")
    assert [line.split()[0] for line in caught.value.problems] == ["GROQ_API_KEY", "GEMINI_API_KEY", "CLOUDFLARE_ACCOUNT_ID"]


# --- inventory -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switch", "keys", "stands_in", "usable"),
    [
        ("auto", {}, True, {*REAL, SANDBOX}),
        ("on", {}, True, {*REAL, SANDBOX}),
        ("off", {}, False, set()),
        ("auto", {"GROQ_API_KEY": "k"}, False, {"groq"}),
        ("on", {"GROQ_API_KEY": "k"}, False, {"groq", SANDBOX}),
        ("off", {"GROQ_API_KEY": "k"}, False, {"groq"}),
    ],
)
def test_which_providers_are_usable(builtin, switch, keys, stands_in, usable):
    inventory = build_inventory(builtin, settings(switch, **keys))
    assert inventory.stands_in is stands_in
    assert inventory.usable_providers == usable
    assert {model.provider for model in inventory.listed} == usable


def test_the_sandbox_stands_in_for_every_model_without_its_limits(builtin):
    inventory = build_inventory(builtin, settings())
    assert names(inventory.listed) == names(model for model in builtin.models if model.status != "retired")
    for model in inventory.listed:
        (candidate,) = inventory.candidates(model)
        assert (candidate.provider.key, candidate.credential.provider) == (SANDBOX, SANDBOX)
        assert (candidate.model.name, candidate.model.limits) == (model.name, {})
    assert inventory.missing_variables("groq") == ()


def test_a_model_has_one_candidate_for_each_credential(builtin):
    inventory = build_inventory(builtin, settings(GEMINI_API_KEY="k1,k2"))
    model = row(builtin, "gemini", "gemini-3.5-flash")
    candidates = inventory.candidates(model)
    assert [candidate.credential.secret for candidate in candidates] == ["k1", "k2"]
    assert all(candidate.model is model and candidate.provider.key == "gemini" for candidate in candidates)
    assert inventory.candidates(row(builtin, "groq", "openai/gpt-oss-20b")) == ()


def test_retired_models_are_neither_listed_nor_called(builtin):
    for chosen in (settings(), settings(GROQ_API_KEY="k")):
        inventory = build_inventory(builtin, chosen)
        retired = row(builtin, "groq", "llama-3.1-8b-instant")
        assert retired not in inventory.listed
        assert inventory.candidates(retired) == ()


@pytest.mark.parametrize("chosen", [settings(), settings("on", GEMINI_API_KEY="k", GROQ_API_KEY="k")])
def test_auto_leaves_out_what_should_not_be_chosen_unasked(builtin, chosen):
    inventory = build_inventory(builtin, chosen)
    auto = {model.name: model for model in inventory.auto_models}
    assert {"groq/openai/gpt-oss-120b", "gemini/gemini-3-flash-preview"} <= auto.keys()
    assert "groq/llama-3.3-70b-versatile" not in auto  # legacy
    assert "gemini/gemini-3.1-pro-preview" not in auto  # a limit of 0
    assert {model.kind for model in auto.values()} == {"chat"}
    assert SANDBOX not in {model.provider for model in auto.values()}
    assert {"groq/llama-3.3-70b-versatile", "sandbox/sandbox/echo"} <= set(names(inventory.listed))


@pytest.mark.parametrize(
    ("variables", "provider", "missing"),
    [
        ({"GROQ_API_KEY": "k"}, "gemini", ("GEMINI_API_KEY",)),
        ({"GROQ_API_KEY": "k"}, "workers_ai", ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_ACCOUNT_ID")),
        ({"GROQ_API_KEY": "k", "CLOUDFLARE_ACCOUNT_ID": "a"}, "workers_ai", ("CLOUDFLARE_API_TOKEN",)),
        ({"GROQ_API_KEY": "k", "WORKERS_AI_BASE_URL": "http://x"}, "workers_ai", ("CLOUDFLARE_API_TOKEN",)),
        ({"GROQ_API_KEY": "k"}, "groq", ()),
        ({"GROQ_API_KEY": "k"}, "sandbox", ("GATEWAY_SANDBOX=on",)),
        ({"GROQ_API_KEY": "k"}, "nobody", ()),
    ],
)
def test_what_to_set_is_named(builtin, variables, provider, missing):
    assert build_inventory(builtin, settings(**variables)).missing_variables(provider) == missing


def test_a_local_provider_is_usable_by_itself(load):
    inventory = build_inventory(load(OLLAMA), settings())
    assert not inventory.stands_in
    assert inventory.usable_providers == {"ollama"}
    assert names(inventory.auto_models) == ["ollama/qwen3"]


def test_without_a_sandbox_row_nothing_stands_in(load):
    inventory = build_inventory(load(f'[[providers]]\nkey = "{SANDBOX}"\nenabled = false'), settings("on"))
    assert (inventory.stands_in, inventory.listed, inventory.usable_providers) == (False, (), frozenset())
