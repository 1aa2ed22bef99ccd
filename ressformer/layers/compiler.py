"""What `torch.compile` must not look into."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def outside_compiler(function: Callable[P, R]) -> Callable[P, R]:
    """Makes `torch.compile` call the function without tracing it: nothing in it can be fused.

    Traced, sums on overlapping views would become copies.
    """
    kept: Callable[P, R] = torch.compiler.disable(function)
    return kept
