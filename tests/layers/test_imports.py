"""No two files of the package import each other, however deep inside a function, and no import of its own is hidden."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import ressformer

PACKAGE = Path(ressformer.__file__).parent
FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imports(path: Path) -> set[str]:
    """The package's own modules that a file imports; `from folder import file` counts for the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & set(FILES)


def test_imports_run_one_way() -> None:
    assert "ressformer.decoder" in imports(FILES["ressformer.stack"])
    graph = {name: imports(path) - {name} for name, path in FILES.items()}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError where files import each other
    assert order.index("ressformer.cost") < order.index("ressformer.decoder")


def test_folders_of_layers_do_not_import_each_other_in_turn() -> None:
    def folder(name: str) -> str:
        return FILES[name].parent.relative_to(PACKAGE).as_posix()

    graph: dict[str, set[str]] = {}
    for name, path in FILES.items():
        if folder(name).startswith("layers/"):
            mine = {folder(other) for other in imports(path)} - {folder(name)}
            graph.setdefault(folder(name), set()).update(other for other in mine if other.startswith("layers/"))
    assert list(TopologicalSorter(graph).static_order())
    assert "layers/native" in graph["layers/sparse"] and "layers/native" in graph["layers/experts"]
    assert graph["layers/native"] == set()


def test_an_import_inside_a_function_says_why() -> None:
    """Only a library that is slow to load may be hidden there, and the line says so."""
    for name, path in FILES.items():
        lines = path.read_text().splitlines()
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Import | ast.ImportFrom):
                        assert "ressformer" not in ast.unparse(node) and "#" in lines[node.lineno - 1], name
