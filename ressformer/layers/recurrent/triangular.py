"""Inverses of unit lower triangular matrices, charged.

An operator of our own, because torch's counter scores a triangular solve as 0 FLOPs. It is charged what substitution
takes: c(c-1)(c-2)/6 multiply-accumulates for a c x c matrix, 2 FLOPs each; its gradient is two full products.

Shapes: P matrices, c their size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula


@torch.library.custom_op("ressformer::unit_lower_inverse", mutates_args=())
def _unit_lower_inverse(a_Pcc: Tensor) -> Tensor:
    eye_cc = torch.eye(a_Pcc.shape[-1], dtype=a_Pcc.dtype, device=a_Pcc.device).expand_as(a_Pcc)
    t_Pcc: Tensor = torch.linalg.solve_triangular(a_Pcc, eye_cc, upper=False, unitriangular=True).tril().contiguous()
    return t_Pcc


@_unit_lower_inverse.register_fake
def _(a_Pcc: Tensor) -> Tensor:
    return a_Pcc.new_empty(a_Pcc.shape)


def _keep(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(output)


def _backward(ctx: Any, g_Pcc: Tensor) -> Tensor:
    """d(T^-1) = -T^-1 dT T^-1, below the diagonal."""
    (t_Pcc,) = ctx.saved_tensors
    back_Pcc = t_Pcc.mT
    g_a_Pcc: Tensor = -(back_Pcc @ g_Pcc @ back_Pcc).tril(-1)
    return g_a_Pcc


_unit_lower_inverse.register_autograd(_backward, setup_context=_keep)


@register_flop_formula([torch.ops.ressformer.unit_lower_inverse])
def _flops(a_Pcc: Any, *args: Any, **kwargs: Any) -> int:
    return int(a_Pcc[0] * inverse_flops(a_Pcc[-1]))


def unit_lower_inverse(a_Pcc: Tensor) -> Tensor:
    """The inverse of I + strictly_lower(a), [P, c, c]; what `a` holds on and above the diagonal is not read."""
    result: Tensor = _unit_lower_inverse(a_Pcc)
    return result


def inverse_flops(c: int) -> int:
    """FLOPs of one inverse by substitution."""
    return c * (c - 1) * (c - 2) // 3
