"""No file of `tasks` imports itself in a circle, imports inside of functions counted."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

TASKS = Path(__file__).resolve().parents[2] / "tasks"


def test_imports_have_no_circle() -> None:
    modules = {
        ".".join(("tasks", *path.relative_to(TASKS).with_suffix("").parts)): path for path in TASKS.rglob("*.py")
    }
    arrows: dict[str, set[str]] = {}
    for name, path in modules.items():
        found = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
        arrows[name] = {module for module in found if module in modules}
    order = list(TopologicalSorter(arrows).static_order())  # raises CycleError
    assert order.index("tasks.item") < order.index("tasks.shortcuts") < order.index("tasks.base")
