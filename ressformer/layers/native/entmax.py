"""Entmax and sparsemax of rows, forward and backward (`entmax.c`): a row stays in the first-level cache.

`sparse.entmax` computes the same in PyTorch, and is the oracle.

Shapes: R rows, L row length.
"""

from __future__ import annotations

import ctypes

from torch import Tensor

from ressformer.layers.native.loader import in_threads, int64, library, usable

# Elements that a thread takes at least.
_BLOCK = 131_072


def entmax_rows(function: str, tensors: tuple[Tensor, ...]) -> bool:
    """Runs a row kernel of `entmax.c` over tensors of equal shape [R, L]; False where there is none."""
    lib = library("entmax") if usable(*tensors) else None
    if lib is None:
        return False
    rows, length = tensors[0].shape
    held = [t.contiguous() for t in tensors]

    def work(start: int, stop: int) -> None:
        at = [ctypes.c_void_p(t.data_ptr() + 4 * start * length) for t in held]
        lib[function](*at, int64(stop - start), int64(length))

    in_threads(work, rows, smallest=max(1, _BLOCK // length))
    return True
