"""What a step of ReSSFormer does beside its matrix products, in C kernels for CPU (`parts.c`).

On short sequences the router's softmax, choice and losses, and the comparison of two graphs, cost more dispatching than
arithmetic. The PyTorch operators of `moe` and `graph` compute the same, and are the oracle.

Shapes: T tokens, E experts, e experts per token; R rows, k edges a row.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ressformer.layers.native.loader import address


def _number(value: int) -> ctypes.c_int64:
    return ctypes.c_int64(value)


class Route(torch.autograd.Function):
    """Softmax router: gates and experts [T, e], the weighted losses' sums and the load.

    `apply(lib, logits_TE, mask_T or None, e)` returns gate, expert, the balance loss E * sum_i load_i mean_i, the mean
    squared log-partition, and the load [E].
    """

    @staticmethod
    def forward(ctx: Any, lib: ctypes.CDLL, logits: Tensor, mask: Tensor | None, e: int) -> tuple[Tensor, ...]:
        logits, mask = logits.contiguous(), None if mask is None else mask.contiguous()
        T, E = logits.shape
        probs, lse, sums = torch.empty_like(logits), logits.new_empty(T), logits.new_empty(2 * E + 2)
        gate, expert = logits.new_empty(T, e), torch.empty(T, e, dtype=torch.int64)
        outs = (address(t) for t in (probs, gate, expert, lse, sums))
        lib.route_forward(address(logits), address(mask), _number(T), _number(E), _number(e), *outs)
        total = max(1.0, float(sums[-1]))
        load, mean = sums[:E] / (total * e), sums[E : 2 * E] / total
        ctx.save_for_backward(probs, gate, expert, lse, mask, load)
        ctx.lib, ctx.total = lib, total
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(expert, load)
        return gate, expert, E * (load * mean).sum(), sums[2 * E] / total, load

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g_gate: Tensor | None, _: None, g_balance: Tensor | None, g_z: Tensor | None, __: None
    ) -> tuple[Tensor | None, ...]:
        probs, gate, expert, lse, mask, load = ctx.saved_tensors
        (T, E), e = probs.shape, gate.shape[1]
        g_gate = torch.zeros_like(gate) if g_gate is None else g_gate.contiguous()
        d_mean = load * ((0.0 if g_balance is None else float(g_balance)) * E / ctx.total)
        d_square = ctypes.c_float(0.0 if g_z is None else float(g_z) / ctx.total)
        d_logits = torch.empty_like(probs)
        ins = (address(t) for t in (probs, gate, expert, lse, mask, g_gate, d_mean))
        ctx.lib.route_backward(*ins, d_square, _number(T), _number(E), _number(e), address(d_logits))
        return None, d_logits, None, None


class Change(torch.autograd.Function):
    """Change between two sparse graphs.

    `apply(lib, weight, before, idx, idx_before, mask or None)`, each [B, n, k] and the mask [B, n], returns the mean
    squared change over the union of the supports and the turnover.
    """

    @staticmethod
    def forward(
        ctx: Any, lib: ctypes.CDLL, weight: Tensor, before: Tensor, idx: Tensor, idx_before: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        weight, before, idx, idx_before = (t.contiguous() for t in (weight, before, idx, idx_before))
        mask = None if mask is None else mask.contiguous()
        n, k = weight.shape[1:]
        same, back, sums = torch.empty_like(weight), torch.empty_like(before), (ctypes.c_double * 3)()
        ins = (address(t) for t in (idx, weight, idx_before, before, mask))
        sizes = (_number(size) for size in (weight.shape[0] * n, k, n))
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
        ctx.lib.change_backward(*ins, ctypes.c_float(by), _number(rows), _number(k), *outs)
        return None, d_weight, d_before, None, None, None
