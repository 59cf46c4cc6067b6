"""The wide engine stays readable: no function holds more than a reader can."""

import ast
from pathlib import Path

import pytest

import dmft.wide

LINES, LOCALS = 40, 15
FUNCTIONS = [
    pytest.param(node, id=f"{path.stem}.{node.name}")
    for path in sorted(Path(dmft.wide.__file__).parent.glob("*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef)
]


def local_names(function):
    """Names that the function binds itself: not its arguments, nor what its inner functions bind."""
    names, waiting = set(), list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            names |= {node.name} if isinstance(node, ast.FunctionDef) else set()
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        waiting += ast.iter_child_nodes(node)
    return names


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_fits_on_a_screen_and_in_a_head(function):
    assert function.end_lineno - function.lineno + 1 <= LINES
    assert len(local_names(function)) <= LOCALS


def test_locals_are_counted():
    code = "def f(a):\n    b, c = a, 1\n    def g(x):\n        y = x\n        return y\n    return [d for d in b]"
    assert local_names(ast.parse(code).body[0]) == {"b", "c", "g", "d"}
