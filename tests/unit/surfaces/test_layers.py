"""Surfaces translate values: they know the layers below, and neither HTTP nor routing nor any provider."""

import ast
from pathlib import Path

import pytest

import gateway

ROOT = Path(gateway.__file__).parent / "surfaces"
ALLOWED = ("gateway.domain", "gateway.errors", "gateway.jsonio", "gateway.upstream.sse")


def imports_of(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    sources = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return named | {f"{node.module}.{alias.name}" for node in sources for alias in node.names}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_surface_imports_only_what_is_below_it(path):
    own = f"gateway.surfaces.{path.relative_to(ROOT).parts[0]}"
    ours = {name for name in imports_of(path) if name.startswith("gateway") and not name.startswith(own)}
    assert {name for name in ours if not name.startswith(ALLOWED)} == set()
