"""The short convolution that any model may switch on.

Shapes: B batch, n length, d width, w kernel width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ressformer.cost import Cost


class ShortConv(nn.Module):
    """Convolves depthwise and causally, with a residual: x_t + sum_o c_o * x_{t-o}, o = 0..w-1.

    Gives a model a cue to the immediate neighbours. It starts as the identity (c = 0), so switching it on changes
    nothing before the first update.
    """

    def __init__(self, d_model: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.taps_dw = nn.Parameter(torch.zeros(d_model, width))

    def forward(self, x_Bnd: Tensor) -> Tensor:
        x_Bdn = pad(x_Bnd.transpose(1, 2), (self.width - 1, 0))
        y_Bdn = nn.functional.conv1d(x_Bdn, self.taps_dw.unsqueeze(1), groups=x_Bnd.shape[-1])
        return x_Bnd + y_Bdn.transpose(1, 2)


def short_conv(d_model: int, width: int) -> nn.Module:
    """Makes the convolution, or the identity for width 0."""
    return ShortConv(d_model, width) if width else nn.Identity()


def short_conv_cost(tokens: int, d_model: int, width: int) -> Cost:
    """Charges one multiply-accumulate per channel and tap."""
    return Cost(name="short_conv", params=d_model * width, flops=2.0 * tokens * d_model * width)
