"""How the modules may import each other: three layers, no circle, and a short list of what they share.

All imports count, also those inside functions, those for the type checker alone, and `import_module` of a literal name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("dmft", "sim", "compare")
#: What the simulation takes from the theory: what is asked, what a loss is, checks, and machinery without physics.
SHARED = ("dmft.models", "dmft.losses", "dmft.checks", "dmft.version", "dmft.progress", "dmft.compiled")


def modules_of(root: Path) -> dict[str, Path]:
    """Every module of the layers, by its dotted name."""
    found = {}
    for layer in LAYERS:
        for path in sorted((root / layer).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(source: str, known: Mapping[str, object], here: str = "") -> set[str]:
    """The modules among `known` that the source of module `here` imports; a package stands for its __init__."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{here}: relative import"
            within = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in known else str(node.module) for name in within}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return names & set(known)


def circles(edges: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """The sets of modules that reach each other (strongly connected components of more than one), sorted."""

    def reached(start: str) -> Iterator[str]:
        seen, left = {start}, [start]
        while left:
            for name in edges[left.pop()] - seen:
                seen.add(name)
                left.append(name)
                yield name

    reach = {name: set(reached(name)) for name in edges}
    return sorted({tuple(sorted({a} | {b for b in reach[a] if a in reach[b]})) for a in edges} - {(a,) for a in edges})


@pytest.fixture(scope="module")
def edges() -> dict[str, set[str]]:
    modules = modules_of(ROOT)
    return {name: imported(path.read_text(), modules, name) - {name} for name, path in modules.items()}


def test_the_graph_is_seen(edges: dict[str, set[str]]) -> None:
    assert len(edges) > 80
    assert "dmft.solver" in edges["dmft"]  # by import_module
    assert "dmft.models.model" in edges["sim.simulation"]
    assert "compare.figures.overlay" in edges["compare.agreement"]  # inside a function


def test_layers_import_downwards_alone(edges: dict[str, set[str]]) -> None:
    upwards = [
        (name, other)
        for name, others in edges.items()
        for other in sorted(others)
        if LAYERS.index(name.split(".")[0]) < LAYERS.index(other.split(".")[0])
    ]
    assert not upwards


def test_simulation_takes_no_solver_from_the_theory(edges: dict[str, set[str]]) -> None:
    """So theory and simulation cannot agree by sharing a mistake in the dynamics."""
    taken = {
        (name, other)
        for name, others in edges.items()
        if name.split(".")[0] == "sim"
        for other in others
        if other.split(".")[0] == "dmft" and not any(other == room or other.startswith(f"{room}.") for room in SHARED)
    }
    assert not taken


def test_no_module_imports_itself_in_a_circle(edges: dict[str, set[str]]) -> None:
    assert not circles(edges)


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}
    assert circles(graph) == [("b", "c")]
    known = {"dmft": 0, "dmft.wide": 0, "dmft.wide.row": 0}
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dmft.wide import row\n"
    source += "def f():\n    import dmft.wide\n    return import_module('dmft')\n"
    assert imported(source, known) == set(known)
