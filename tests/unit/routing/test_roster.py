from typing import Any, cast

import pytest

from gateway.boot import load_configuration
from gateway.catalog import Catalog
from gateway.domain import Model, ProviderRow
from gateway.inventory import Inventory, build_inventory
from gateway.routing.roster import Lists, Roster, gone_from, unknown_in
from gateway.settings import Settings

P = ProviderRow(key="p", base_url="http://p")


def row(id_, **fields):
    return Model(**({"provider": "p", "id": id_, "upstream_id": id_, "builtin": True} | fields))


CATALOG = Catalog(
    providers={"p": P},
    models=(
        row("here"),
        row("gone"),
        row("renamed", upstream_id="other-name"),
        row("new", status="preview"),
        row("old", status="legacy"),
        row("mine", builtin=False),
        row("retired", status="retired"),
    ),
)


def lists(*ids, free=()):
    return Lists({"p": frozenset(ids)}, {"p": free})


def test_active_and_preview_rows_that_are_not_listed_are_gone():
    assert gone_from(CATALOG, lists("here", "other-name")) == {"p/gone", "p/new"}


@pytest.mark.parametrize("said", [Lists({}, {}), lists("somebody", "else"), lists()], ids=["nothing", "none of ours", "empty"])
def test_a_list_that_knows_none_of_the_rows_is_not_believed(said):
    assert gone_from(CATALOG, said) == frozenset()


def test_free_models_that_no_row_names_are_reported():
    assert unknown_in(CATALOG, lists(free=("brand-new", "other-name", "retired", "old"))) == {"p": ("brand-new",)}


@pytest.fixture
def roster():
    settings = Settings(sandbox="off")
    return Roster(build_inventory(CATALOG, settings), cast(Any, {}), lambda catalog: build_inventory(catalog, settings))


def listed(roster):
    inventory: Inventory = roster.inventory
    return {model.id for model in inventory.listed}


def test_what_is_gone_is_not_listed_until_it_comes_back(roster):
    everything = listed(roster)
    roster.hear(lists("here", "other-name", "new"))
    assert everything - listed(roster) == {"gone"}
    roster.hear(lists("here", "other-name", "new", "gone"))
    assert listed(roster) == everything


def test_the_same_news_change_nothing(roster):
    roster.hear(lists("here"))
    planner = roster.planner
    roster.hear(lists("here"))
    assert roster.planner is planner


def test_the_built_in_catalog_is_judged_row_by_row(tmp_path):
    environ = {"GATEWAY_API_KEY": "k", "GATEWAY_DATA_DIR": str(tmp_path), "GROQ_API_KEY": "x"}
    catalog = load_configuration(environ).inventory.catalog
    gone = gone_from(catalog, Lists({"groq": frozenset({"openai/gpt-oss-20b"})}, {}))
    assert "groq/openai/gpt-oss-120b" in gone and "groq/openai/gpt-oss-20b" not in gone
    assert "groq/llama-3.3-70b-versatile" not in gone  # legacy
