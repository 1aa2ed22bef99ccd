"""Products of queries with lists of keys that are read in place (`gather.c`): dot, sum and scatter.

`sparse.gather` computes the same in PyTorch, and is the oracle.

Shapes: B batch, H heads, n queries, m keys, h width, c columns.
"""

from __future__ import annotations

import ctypes

from torch import Tensor

from ressformer.layers.native.loader import address, in_threads, int64, library, usable

# Widest row that `gather.c` sums.
_WIDEST = 256


def gather_rows(kernel: str, operands: tuple[Tensor, Tensor], idx_Bnc: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Returns the result [B, H, ...] of a kernel of `gather.c`; None where it cannot run."""
    lib = library("gather") if usable(*operands) else None
    widest = max(operands[1].shape[-1], shape[-1])
    if lib is None or (kernel == "column_sum" and widest > _WIDEST):
        return None
    one, two = operands
    two = two if two.stride(-1) == 1 else two.contiguous()
    # Weights lie densely; rows of the operands may lie apart, as the heads of one projection do.
    one = one if kernel == "column_dot" and one.stride(-1) == 1 else one.contiguous()
    idx_Bnc = idx_Bnc.contiguous()
    out = one.new_zeros(shape) if kernel == "column_scatter" else one.new_empty(shape)
    if not out.numel() or not idx_Bnc.numel():
        return out.zero_()
    batch, heads = shape[:2]
    sizes = [heads, *idx_Bnc.shape[1:], two.shape[-1]]
    sizes = [heads, idx_Bnc.shape[1], shape[2], *sizes[2:]] if kernel == "column_scatter" else sizes
    strides = [(ctypes.c_int64 * 3)(*t.stride()[:3]) for t in ((one, two) if kernel == "column_dot" else (two,))]
    numbers = [int64(size) for size in sizes]
    held = [address(t) for t in (one, two, idx_Bnc, out)]

    def work(start: int, stop: int) -> None:
        lib[kernel](*held, int64(start), int64(stop), *numbers, *strides)

    in_threads(work, batch * heads)
    return out
