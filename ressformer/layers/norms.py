"""Norms of the shell, by name, and RMS norm with a gradient of few passes.

RMSNorm is Zhang & Sennrich 2019 (1910.07467, eq. 4): y = x / sqrt(mean(x^2) + eps) * w. Torch writes its
gradient on CPU as a chain of elementwise operators that takes five times LayerNorm's; here LayerNorm's kernel computes
it, told that the mean is 0.

Shapes: `...d` any leading dimensions, d width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

NORMS = ("layer", "rms")
EPS = 1e-5


class _RMS(torch.autograd.Function):
    """`apply(x, w, eps)`; w is a gain [d]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, w, r)
        y: Tensor = (x * r).mul_(w)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w, r = ctx.saved_tensors
        g, width, mask = g.contiguous(), [x.shape[-1]], [True, True, False]
        d_x, d_w, _ = torch.ops.aten.native_layer_norm_backward(g, x, width, torch.zeros_like(r), r, w, None, mask)
        # LayerNorm's gradient subtracts the mean of g w, which RMS norm does not.
        return d_x.add_((g * w).mean(dim=-1, keepdim=True).mul_(r)), d_w, None


def rms_norm(x: Tensor, w_d: Tensor, eps: float = EPS) -> Tensor:
    """RMS norm over the last dimension with gain `w_d`; fp32 or fp64 on CPU takes the quick gradient."""
    quick = x.device.type in ("cpu", "meta") and x.dtype == w_d.dtype and x.dtype in (torch.float32, torch.float64)
    if quick and not torch.compiler.is_compiling():
        y: Tensor = _RMS.apply(x, w_d, eps)  # type: ignore[no-untyped-call]
        return y
    return nn.functional.rms_norm(x, w_d.shape, w_d.to(x.dtype), eps)


class _Unit(torch.autograd.Function):
    """`apply(x, eps, scale)`: scale x / sqrt(sum x^2 + eps)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, scale: float) -> Tensor:
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().add_(eps).rsqrt_().mul_(scale)
        y: Tensor = x * r
        ctx.save_for_backward(y, r)
        ctx.scale = scale
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        y, r = ctx.saved_tensors
        along = (g * y).sum(dim=-1, keepdim=True).mul_(ctx.scale**-2)
        return torch.addcmul(g, y, along, value=-1).mul_(r), None, None


def unit_length(x: Tensor, eps: float = 1e-6, scale: float = 1.0) -> Tensor:
    """Vectors of the last dimension brought to the length `scale`; zeros stay zeros."""
    y: Tensor = _Unit.apply(x, eps, scale)  # type: ignore[no-untyped-call]
    return y


class RMSNorm(nn.Module):
    """RMS norm with a gain of width d."""

    def __init__(self, width: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


def make_norm(kind: str, width: int) -> nn.Module:
    """The norm of that name, with a gain and no bias: layer | rms."""
    return RMSNorm(width) if kind == "rms" else nn.LayerNorm(width, bias=False)


class QKNorm(nn.Module):
    """RMS norm of each head's queries and keys, with one gain for all heads' queries and one for keys (2302.05442).

    `parts=1` is for families whose queries and keys are one vector.
    """

    def __init__(self, head_width: int, parts: int = 2) -> None:
        super().__init__()
        self.gains_Ph = nn.Parameter(torch.ones(parts, head_width))

    def forward(self, x_BZnh: Tensor) -> Tensor:
        """Vectors [B, Z, n, h]: the first half of Z queries, the second keys; with one part all alike."""
        gains_Ph = self.gains_Ph
        parts = x_BZnh.chunk(len(gains_Ph), dim=1)
        return torch.cat([rms_norm(part, gain_h) for part, gain_h in zip(parts, gains_Ph, strict=True)], dim=1)
