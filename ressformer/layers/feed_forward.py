"""The feed-forward network of every stack (Vaswani et al. 2017, 1706.03762, section 3.3; GELU for ReLU).

Shapes: B batch, n length, d width, f width of the network.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.functional import gelu

from ressformer.cost import Cost, group, linear
from ressformer.decoder import init_linear


class FeedForward(nn.Module):
    """Applies two layers with GELU between them: d -> f -> d."""

    def __init__(self, d_model: int, d_ff: int, *, out_scale: float = 1.0) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)
        init_linear(self.up.weight, scale=math.sqrt(2.0))
        init_linear(self.down.weight, scale=out_scale)

    def forward(self, x_Bnd: Tensor) -> Tensor:
        y_Bnd: Tensor = self.down(gelu(self.up(x_Bnd)))
        return y_Bnd


def feed_forward_cost(tokens: int, d_model: int, d_ff: int) -> Cost:
    return group("feed_forward", linear("up", tokens, d_model, d_ff), linear("down", tokens, d_ff, d_model))
