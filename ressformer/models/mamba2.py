"""Mamba-2 (Dao & Gu 2024, 2405.21060): a selective state space model with a scalar decay per head.

The mixer of its figure 6 (right): inputs x, B, C by projection, short convolution and SiLU; step sizes by projection
and softplus; the scan; a skip D x; RMS norm of the result times silu(z); output projection. One group of B and C for
all heads, no biases but that of the step sizes. The paper's model is this mixer alone, layer upon layer; here it
stands in the shell of all families, with a feed-forward network after it, so that families differ in their mixers
alone (the paper's section 9.2.3 has such stacks).

Shapes: B batch, n length, d width, D = expand * d, H heads, p head width, s state width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from ressformer.cost import Cost, group, linear, norm
from ressformer.decoder import init_linear
from ressformer.layers.experts.moe import autocast_off
from ressformer.layers.norms import RMSNorm
from ressformer.layers.recurrent.causal_conv import SiLUConv, silu_conv_cost
from ressformer.layers.recurrent.ssd import ssd, ssd_cost
from ressformer.recurrent import RecurrentConfig, at_least_fp32, decay_parameters


@dataclass(frozen=True, kw_only=True)
class Mamba2Config(RecurrentConfig):
    """Dials of Mamba-2, beside those of recurrent stacks.

    Attributes:
        n_heads: heads of expand * d / n_heads inputs, each with a decay of its own.
        expand: inputs D over d (the paper: 2).
        d_state: numbers s that each input writes to (the paper: 64 and more).
    """

    family: ClassVar[str] = "mamba2"

    expand: int = 2
    d_state: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.expand >= 1 and self.d_state >= 1, "expand and d_state must be at least 1")

    @property
    def inner(self) -> int:
        return self.expand * self.d_model

    @property
    def channels(self) -> int:
        """Of the convolution: x, B and C."""
        return self.inner + 2 * self.d_state

    @property
    def layer_state(self) -> int:
        return self.inner * self.d_state + (self.conv - 1) * self.channels

    def build_scan(self, *, out_scale: float) -> nn.Module:
        return SelectiveScan(self, out_scale=out_scale)

    def scan_cost(self, tokens: int) -> Cost:
        d, heads = self.d_model, self.n_heads
        return group(
            "selective_scan",
            linear("x_b_c", tokens, d, self.channels),
            silu_conv_cost(tokens, self.channels, self.conv),
            linear("step", tokens, d, heads),
            Cost(name="decay_skip", params=3 * heads),
            ssd_cost(tokens, heads, self.inner // heads, self.d_state, chunk=self.chunk),
            norm("out_norm", self.inner),
            linear("gate", tokens, d, self.inner),
            linear("out", tokens, self.inner, d),
        )


class SelectiveScan(nn.Module):
    """The mixer around `ssd`, in fp32 inside the recurrence."""

    def __init__(self, config: Mamba2Config, *, out_scale: float) -> None:
        super().__init__()
        d, heads = config.d_model, config.n_heads
        self.config = config
        self.x_b_c = nn.Linear(d, config.channels, bias=False)
        self.conv = SiLUConv(config.channels, config.conv)
        self.step = nn.Linear(d, heads, bias=False)
        self.log_rate_H, self.step_bias_H = decay_parameters(heads, slowest=1.0)
        self.skip_H = nn.Parameter(torch.ones(heads))
        self.gate = nn.Linear(d, config.inner, bias=False)
        self.out_norm = RMSNorm(config.inner)
        self.out = nn.Linear(config.inner, d, bias=False)
        for layer in (self.x_b_c, self.step, self.gate):
            init_linear(layer.weight)
        init_linear(self.out.weight, scale=out_scale)

    def forward(self, x_Bnd: Tensor) -> Tensor:
        config = self.config
        mixed_Bnc, raw_BnH = self.conv(self.x_b_c(x_Bnd)), self.step(x_Bnd)
        with autocast_off(x_Bnd.device.type):
            x_BnD, b_Bns, c_Bns = at_least_fp32(mixed_Bnc).split([config.inner, config.d_state, config.d_state], dim=-1)
            x_BnHp = x_BnD.unflatten(-1, (config.n_heads, -1))
            step_BnH = softplus(at_least_fp32(raw_BnH) + self.step_bias_H)
            log_a_BnH = -self.log_rate_H.exp() * step_BnH
            y_BnHp = ssd(x_BnHp * step_BnH.unsqueeze(-1), log_a_BnH, b_Bns, c_Bns, chunk=config.chunk)
            y_BnD = torch.addcmul(y_BnHp, x_BnHp, self.skip_H.unsqueeze(-1)).flatten(2)
        out_Bnd: Tensor = self.out(self.out_norm(y_BnD * silu(self.gate(x_Bnd))))
        return out_Bnd
