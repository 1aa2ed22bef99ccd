"""Depthwise causal convolution over the last few tokens, followed by SiLU: what recurrent mixers put before their scan.

An operator of our own, because torch's depthwise conv1d with its transposes takes four times as long on CPU as the same
sum in the channels-last layout that [B, n, d] is already in. It carries its FLOP formula (one multiply-accumulate per
channel, tap and token), its shape rule and its gradient.

Shapes: B batch, n length, d channels, w taps.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, silu
from torch.utils.flop_counter import register_flop_formula

from ressformer.cost import Cost


def _depthwise(x_Bnd: Tensor, taps_dw: Tensor) -> Tensor:
    """Correlation with zeros around it: [B, n + w - 1, d]; place j reads x[j - w + 1 .. j]."""
    d, w = taps_dw.shape
    rows_Bd1n = x_Bnd.transpose(1, 2).unsqueeze(2)
    y_Bd1m = conv2d(rows_Bd1n, taps_dw[:, None, None, :], groups=d, padding=(0, w - 1))
    return y_Bd1m.squeeze(2).transpose(1, 2)


@torch.library.custom_op("ressformer::causal_conv", mutates_args=())
def _causal_conv(x_Bnd: Tensor, taps_dw: Tensor) -> Tensor:
    return _depthwise(x_Bnd, taps_dw)[:, : x_Bnd.shape[1]].contiguous()


@_causal_conv.register_fake
def _(x_Bnd: Tensor, taps_dw: Tensor) -> Tensor:
    return x_Bnd.new_empty(x_Bnd.shape)


@torch.library.custom_op("ressformer::causal_conv_backward", mutates_args=())
def _causal_conv_backward(g_Bnd: Tensor, x_Bnd: Tensor, taps_dw: Tensor) -> tuple[Tensor, Tensor]:
    (_, n, d), w = x_Bnd.shape, taps_dw.shape[1]
    d_x = _depthwise(g_Bnd, taps_dw.flip(1))[:, w - 1 :].contiguous()
    d_taps_dw = torch.zeros_like(taps_dw)
    for back in range(min(w, n)):
        rows_Td = (x_Bnd[:, : n - back] * g_Bnd[:, back:]).view(-1, d)
        d_taps_dw[:, w - 1 - back] = (rows_Td.new_ones(1, len(rows_Td)) @ rows_Td)[0]
    return d_x, d_taps_dw


@_causal_conv_backward.register_fake
def _(g_Bnd: Tensor, x_Bnd: Tensor, taps_dw: Tensor) -> tuple[Tensor, Tensor]:
    return x_Bnd.new_empty(x_Bnd.shape), taps_dw.new_empty(taps_dw.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, g_Bnd: Tensor) -> tuple[Tensor, Tensor]:
    grads: tuple[Tensor, Tensor] = _causal_conv_backward(g_Bnd.contiguous(), *ctx.saved_tensors)
    return grads


_causal_conv.register_autograd(_backward, setup_context=_keep)


@register_flop_formula([torch.ops.ressformer.causal_conv])
def _flops(x_Bnd: Any, taps_dw: Any, *args: Any, **kwargs: Any) -> int:
    return int(2 * math.prod(x_Bnd) * taps_dw[1])


@register_flop_formula([torch.ops.ressformer.causal_conv_backward])
def _backward_flops(g_Bnd: Any, x_Bnd: Any, taps_dw: Any, *args: Any, **kwargs: Any) -> int:
    return int(4 * math.prod(x_Bnd) * taps_dw[1])


class SiLUConv(nn.Module):
    """silu(sum_o c_o x_{t-o}), o = 0..w-1, per channel; taps start as torch's Conv1d draws them, as in the papers."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.taps_dw = nn.Parameter(torch.empty(channels, width).uniform_(-(width**-0.5), width**-0.5))

    def forward(self, x_Bnd: Tensor) -> Tensor:
        y_Bnd: Tensor = _causal_conv(x_Bnd.contiguous(), self.taps_dw.to(x_Bnd.dtype))
        return silu(y_Bnd)


def silu_conv_cost(tokens: int, channels: int, width: int) -> Cost:
    """One multiply-accumulate per channel and tap."""
    return Cost(name="conv", params=channels * width, flops=2.0 * tokens * channels * width)
