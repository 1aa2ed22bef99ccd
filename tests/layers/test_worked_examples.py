"""The examples in the modules' docstrings are true."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    "baselines.lsh",
    "baselines.sliding_window",
    "experts.dispatch",
    "sparse.block_selection",
    "sparse.entmax",
    "sparse.gather",
    "sparse.graph",
    "sparse.key_selection",
)


@pytest.mark.parametrize("name", MODULES)
def test_the_example_in_the_docstring_is_true(name: str) -> None:
    module = importlib.import_module(f"ressformer.layers.{name}")
    assert ">>>" in (module.__doc__ or "")
    failed, attempted = doctest.testmod(module)
    assert attempted and not failed
