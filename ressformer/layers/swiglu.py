"""The gated feed-forward network of today's Transformers (SwiGLU, Shazeer 2020, 2002.05202).

Shapes: B batch, n length, d width, f hidden width.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.functional import silu

from ressformer.cost import Cost, group, linear
from ressformer.decoder import init_linear


class SwiGLU(nn.Module):
    """W3 (silu(W1 x) * W2 x): three matrices of d x f, no biases."""

    def __init__(self, d_model: int, d_ff: int, *, out_scale: float = 1.0) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, 2 * d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)
        init_linear(self.up.weight, scale=math.sqrt(2.0))
        init_linear(self.down.weight, scale=out_scale)

    def forward(self, x_Bnd: Tensor) -> Tensor:
        gate_Bnf, value_Bnf = self.up(x_Bnd).chunk(2, dim=-1)
        y_Bnd: Tensor = self.down(silu(gate_Bnf) * value_Bnf)
        return y_Bnd


def swiglu_cost(tokens: int, d_model: int, d_ff: int) -> Cost:
    """Three products of d x f a token."""
    return group("feed_forward", linear("up", tokens, d_model, 2 * d_ff), linear("down", tokens, d_ff, d_model))
