"""Matrix products of runs of rows with different weights: the engine of the experts.

`torch.nn.functional.grouped_mm` does the work; it is wrapped as an operator of our own because torch's counter scores
it as 0 FLOPs, it refuses fp32 on the meta device and on CUDA, and its gradient is not under autocast. The operator
carries its FLOP formula, its shape rule and its gradient.

Shapes: T rows (sorted by group), E groups, i input width, o output width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grouped_mm
from torch.utils.flop_counter import register_flop_formula

# Runs shorter than this are lengthened.
_FEW = 8


def _runs(ends_E: Tensor) -> list[tuple[int, int]]:
    ends = ends_E.tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _fast(a: Tensor, b: Tensor) -> bool:
    """Tells whether torch's own kernel takes these: fp32 and half on CPU, on CUDA bf16 only; rows of whole 16 bytes."""
    aligned = all(x.stride(d) * x.element_size() % 16 == 0 for x in (a, b) for d in (-1, -2) if x.stride(d) != 1)
    return aligned and (a.dtype == torch.bfloat16 or (a.device.type == "cpu" and a.dtype != torch.float64))


def _steady(y_To: Tensor, x_Ti: Tensor, w_Eio: Tensor, ends_E: Tensor) -> Tensor:
    """Redoes runs of few rows as longer ones.

    BLAS sums one to three rows in another order, and how many tokens share an expert depends on later tokens, which
    would then show in the last bit of earlier logits.
    """
    for index, (start, end) in enumerate(_runs(ends_E)):
        if 0 < end - start < _FEW:
            x = torch.cat([x_Ti[start:end], x_Ti.new_zeros(_FEW, x_Ti.shape[1])])
            y_To[start:end] = (x @ w_Eio[index])[: end - start]
    return y_To


def rows_product(x_Ti: Tensor, w_Eio: Tensor, ends_E: Tensor, *, steady: bool) -> Tensor:
    """Computes `grouped_linear` without a gradient. `steady`: a row's bits do not depend on its run's length (CPU)."""
    if _fast(x_Ti, w_Eio):
        y_To = grouped_mm(x_Ti, w_Eio, offs=ends_E)
        return _steady(y_To, x_Ti, w_Eio, ends_E) if steady and x_Ti.device.type == "cpu" else y_To
    y_To = x_Ti.new_empty(x_Ti.shape[0], w_Eio.shape[-1])
    for index, (start, end) in enumerate(_runs(ends_E)):
        y_To[start:end] = x_Ti[start:end] @ w_Eio[index]
    return y_To


@torch.library.custom_op("ressformer::grouped_linear", mutates_args=())
def _grouped_linear(x_Ti: Tensor, w_Eio: Tensor, ends_E: Tensor) -> Tensor:
    return rows_product(x_Ti, w_Eio, ends_E, steady=True)


@_grouped_linear.register_fake
def _(x_Ti: Tensor, w_Eio: Tensor, ends_E: Tensor) -> Tensor:
    return x_Ti.new_empty(x_Ti.shape[0], w_Eio.shape[-1])


def outer_product(x_Ti: Tensor, g_To: Tensor, ends_E: Tensor) -> Tensor:
    """Computes each run's x^T g, [E, i, o]: the gradient of its weight."""
    if _fast(x_Ti.t(), g_To):
        return grouped_mm(x_Ti.t(), g_To, offs=ends_E)
    w_Eio = x_Ti.new_zeros(ends_E.numel(), x_Ti.shape[1], g_To.shape[1])
    for index, (start, end) in enumerate(_runs(ends_E)):
        w_Eio[index] = x_Ti[start:end].t() @ g_To[start:end]
    return w_Eio


@torch.library.custom_op("ressformer::grouped_outer", mutates_args=())
def _grouped_outer(x_Ti: Tensor, g_To: Tensor, ends_E: Tensor) -> Tensor:
    return outer_product(x_Ti, g_To, ends_E)


@_grouped_outer.register_fake
def _(x_Ti: Tensor, g_To: Tensor, ends_E: Tensor) -> Tensor:
    return x_Ti.new_empty(ends_E.numel(), x_Ti.shape[1], g_To.shape[1])


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, g_To: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x_Ti, w_Eio, ends_E = ctx.saved_tensors
    g_To = g_To.contiguous()
    g_x = _grouped_linear(g_To, w_Eio.transpose(1, 2), ends_E) if ctx.needs_input_grad[0] else None
    g_w = _grouped_outer(x_Ti, g_To, ends_E) if ctx.needs_input_grad[1] else None
    return g_x, g_w, None


_grouped_linear.register_autograd(_backward, setup_context=_keep)


@register_flop_formula([torch.ops.ressformer.grouped_linear])
def _linear_flops(x_Ti: Any, w_Eio: Any, ends_E: Any, *args: Any, **kwargs: Any) -> int:
    return int(2 * x_Ti[0] * w_Eio[1] * w_Eio[2])


@register_flop_formula([torch.ops.ressformer.grouped_outer])
def _outer_flops(x_Ti: Any, g_To: Any, ends_E: Any, *args: Any, **kwargs: Any) -> int:
    return int(2 * x_Ti[0] * x_Ti[1] * g_To[1])


def grouped_linear(x_Ti: Tensor, w_Eio: Tensor, ends_E: Tensor) -> Tensor:
    """Computes y[t] = x[t] @ w[g(t)], where group g holds rows ends[g-1]..ends[g].

    Args:
        x_Ti: rows sorted by group.
        w_Eio: one weight a group.
        ends_E: int32 ends of the groups' runs; the last equals T.

    Returns:
        [T, o].
    """
    result: Tensor = _grouped_linear(x_Ti, w_Eio, ends_E)
    return result
