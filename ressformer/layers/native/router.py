"""The experts' router on CPU in one pass over the tokens (`router.c`): softmax, choice and losses.

On short sequences these cost more dispatching than arithmetic. The PyTorch operators of `experts.moe` compute the same,
and are the oracle.

Shapes: T tokens, E experts, e experts per token.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ressformer.layers.native.loader import Kernels, address, int64


class Route(torch.autograd.Function):
    """Routes by softmax: finds gates and experts [T, e], the weighted losses' sums and the load.

    `apply(lib, logits_TE, mask_T or None, e)` returns gate, expert, the balance loss E * sum_i load_i mean_i, the mean
    squared log-partition, and the load [E].
    """

    @staticmethod
    def forward(ctx: Any, lib: Kernels, logits: Tensor, mask: Tensor | None, e: int) -> tuple[Tensor, ...]:
        logits, mask = logits.contiguous(), None if mask is None else mask.contiguous()
        T, E = logits.shape
        probs, lse, sums = torch.empty_like(logits), logits.new_empty(T), logits.new_empty(2 * E + 2)
        gate, expert = logits.new_empty(T, e), torch.empty(T, e, dtype=torch.int64)
        outs = (address(t) for t in (probs, gate, expert, lse, sums))
        lib.route_forward(address(logits), address(mask), int64(T), int64(E), int64(e), *outs)
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
        ctx.lib.route_backward(*ins, d_square, int64(T), int64(E), int64(e), address(d_logits))
        return None, d_logits, None, None
