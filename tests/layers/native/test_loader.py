"""The door to the C kernels: the only one, whole, and not needed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

import ressformer
from ressformer.layers.native import loader

PACKAGE = Path(ressformer.__file__).parent
NATIVE = PACKAGE / "layers" / "native"
KERNELS = sorted(path.stem for path in NATIVE.glob("*.c"))


@pytest.fixture
def fresh_loader():
    """Kernels are looked for anew, before and after."""
    loader._load.cache_clear()
    yield
    loader._load.cache_clear()


def imported(path: Path) -> set[str]:
    """The modules that a file imports, at whatever depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_every_kernel_has_one_binding_of_its_name():
    assert {"attention", "entmax", "router", "topk"} == set(KERNELS)
    bindings = {path.stem for path in NATIVE.glob("*.py")} - {"__init__", "loader"}
    assert bindings == set(KERNELS)


def test_nobody_else_calls_c():
    for path in PACKAGE.rglob("*.py"):
        if path.parent != NATIVE:
            assert "ctypes" not in imported(path), path


def test_kernels_know_nothing_of_what_they_serve():
    for path in NATIVE.glob("*.py"):
        assert {name for name in imported(path) if name.startswith("ressformer")} <= {
            "ressformer.layers.native.loader"
        }, path


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_builds_where_a_compiler_is_and_is_absent_where_none_is(name, fresh_loader, monkeypatch):
    assert loader.library(name) is not None
    loader._load.cache_clear()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert loader.library(name) is None
    assert loader.eager_kernels(name, torch.zeros(2)) is None


def test_kernels_can_be_switched_off():
    with loader.use_native(False):
        assert all(loader.library(name) is None for name in KERNELS)
        assert not loader.usable(torch.zeros(2))
