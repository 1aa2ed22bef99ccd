"""The change between two sparse graphs on CPU in one pass over the rows (`graph_change.c`).

On short sequences the comparison costs more dispatching than arithmetic. The PyTorch operators of `sparse.graph`
compute the same, and are the oracle.

Shapes: B batch, n length, R = B n rows, k edges a row.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ressformer.layers.native.loader import Kernels, address, int64


class GraphChange(torch.autograd.Function):
    """Measures the change between two sparse graphs.

    `apply(lib, weight, before, idx, idx_before, mask or None)`, each [B, n, k] and the mask [B, n], returns the mean
    squared change over the union of the supports and the turnover.
    """

    @staticmethod
    def forward(
        ctx: Any, lib: Kernels, weight: Tensor, before: Tensor, idx: Tensor, idx_before: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        weight, before, idx, idx_before = (t.contiguous() for t in (weight, before, idx, idx_before))
        mask = None if mask is None else mask.contiguous()
        n, k = weight.shape[1:]
        same, back, sums = torch.empty_like(weight), torch.empty_like(before), (ctypes.c_double * 3)()
        ins = (address(t) for t in (idx, weight, idx_before, before, mask))
        sizes = (int64(size) for size in (weight.shape[0] * n, k, n))
        lib.change_forward(*ins, *sizes, address(same), address(back), sums)
        union = max(1.0, sums[2])
        ctx.save_for_backward(weight, before, same, back, mask)
        ctx.lib, ctx.union = lib, union
        turnover = weight.new_tensor(1.0 - sums[1] / union)
        ctx.mark_non_differentiable(turnover)
        return weight.new_tensor(sums[0] / union), turnover

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        weight, before, same, back, mask = ctx.saved_tensors
        d_weight, d_before = torch.empty_like(weight), torch.empty_like(before)
        by, rows, k = float(g) / ctx.union, weight.shape[0] * weight.shape[1], weight.shape[2]
        ins = (address(t) for t in (weight, before, same, back, mask))
        outs = address(d_weight), address(d_before)
        ctx.lib.change_backward(*ins, ctypes.c_float(by), int64(rows), int64(k), *outs)
        return None, d_weight, d_before, None, None, None
