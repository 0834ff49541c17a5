"""The folders are the architecture: imports point one way, and the README's map names every part."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GATEWAY = ROOT / "gateway"

# Each may import what stands in the rows above its own, and within itself.
LAYERS = (
    ("domain",),
    ("errors", "jsonio"),
    ("settings", "pace", "siblings", "serverlog", "admission", "logs"),
    ("auth", "catalog", "keys", "state", "telemetry", "upstream"),
    ("analytics", "credentials", "metrics", "providers", "surfaces"),
    ("inventory",),
    ("boot", "routing"),
    ("ratelimit",),
    ("services",),
    ("api", "lifecycle"),
    ("factory",),
    ("cli",),
    ("__main__",),
)
LAYER_OF = {part: number for number, layer in enumerate(LAYERS) for part in layer}
PROVIDERS_KNOW = {"domain", "errors", "jsonio", "upstream"}  # neither settings nor state: they are told what they need
BEHIND_A_BASE = ("providers", "state")  # known to the routing by their interfaces alone


def part_of(path: Path) -> str:
    return path.relative_to(GATEWAY).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Yield the modules of the gateway that a module imports, for its types too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by a relative name"
            names = [node.module or ""] if node.module != "gateway" else [f"gateway.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith("gateway."))


MODULES = sorted(path for path in GATEWAY.rglob("*.py") if path != GATEWAY / "__init__.py")
IMPORTS = sorted({(part_of(path), name) for path in MODULES for name in imports_of(path)})


def test_every_part_has_a_layer():
    assert {part_of(path) for path in MODULES} == set(LAYER_OF)


@pytest.mark.parametrize("part", LAYER_OF)
def test_imports_point_one_way(part):
    used = {name.split(".")[1] for importer, name in IMPORTS if importer == part} - {part}
    assert {other for other in used if LAYER_OF[other] >= LAYER_OF[part]} == set()


def test_providers_know_no_more_than_their_protocol():
    assert {name.split(".")[1] for part, name in IMPORTS if part == "providers"} <= {"providers", *PROVIDERS_KNOW}


@pytest.mark.parametrize("package", BEHIND_A_BASE)
def test_the_routing_knows_interfaces_alone(package):
    used = {name for part, name in IMPORTS if part == "routing" and name.split(".")[1] == package}
    assert used == {f"gateway.{package}.base"}


def test_the_map_of_the_readme_names_every_part():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = " ".join(re.findall(r"^    (\S.*?)   ", readme[readme.index("The folders are the architecture") :], flags=re.M))
    names = [f"{part}/" if (GATEWAY / part).is_dir() else f"{part}.py" for part in LAYER_OF]
    assert [name for name in names if name not in told] == []
