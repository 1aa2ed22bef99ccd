"""Gated DeltaNet (Yang, Kautz & Hatamizadeh 2024, 2412.06464): a linear recurrence that forgets and overwrites.

The mixer of its figure 1: queries, keys and values by projection, short convolution and SiLU; queries and keys of
length 1; the decay of Mamba-2, a = exp(-exp(A) softplus(W_a x + bias)), and the strength b = sigmoid(W_b x) per head;
the gated delta rule; RMS norm of each head's output, times silu(W_g x); output projection. Shell and feed-forward
network are those of all families here (the paper: RMS norm and SwiGLU, which are switches).

Shapes: B batch, n length, d width, H heads, k key width, v value width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from ressformer.cost import Cost, group, linear, norm
from ressformer.decoder import init_linear
from ressformer.layers.experts.moe import autocast_off
from ressformer.layers.norms import RMSNorm, unit_length
from ressformer.layers.recurrent.causal_conv import SiLUConv, silu_conv_cost
from ressformer.layers.recurrent.delta_rule import delta_rule_cost, gated_delta_rule
from ressformer.recurrent import RecurrentConfig, at_least_fp32, decay_parameters


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNetConfig(RecurrentConfig):
    """Dials of Gated DeltaNet, beside those of recurrent stacks.

    Attributes:
        n_heads: heads of keys d / n_heads wide.
        expand: width of a value over that of a key (the paper: 2).
    """

    family: ClassVar[str] = "gated_deltanet"

    n_heads: int = 2
    expand: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.expand >= 1, f"expand must be at least 1, got {self.expand}")

    @property
    def key_width(self) -> int:
        return self.d_model // self.n_heads

    @property
    def value_width(self) -> int:
        return self.expand * self.key_width

    @property
    def channels(self) -> int:
        """Of the convolution: queries, keys and values."""
        return (2 + self.expand) * self.d_model

    @property
    def layer_state(self) -> int:
        return self.n_heads * self.key_width * self.value_width + (self.conv - 1) * self.channels

    def build_scan(self, *, out_scale: float) -> nn.Module:
        return GatedDeltaRule(self, out_scale=out_scale)

    def scan_cost(self, tokens: int) -> Cost:
        d, heads, inner = self.d_model, self.n_heads, self.expand * self.d_model
        return group(
            "gated_delta_rule",
            linear("qkv", tokens, d, self.channels),
            silu_conv_cost(tokens, self.channels, self.conv),
            linear("decay_strength", tokens, d, 2 * heads),
            Cost(name="decay", params=2 * heads),
            delta_rule_cost(tokens, heads, self.key_width, self.value_width, chunk=self.chunk),
            norm("out_norm", self.value_width),
            linear("gate", tokens, d, inner),
            linear("out", tokens, inner, d),
        )


class GatedDeltaRule(nn.Module):
    """The mixer around `gated_delta_rule`, in fp32 inside the recurrence."""

    def __init__(self, config: GatedDeltaNetConfig, *, out_scale: float) -> None:
        super().__init__()
        d, heads, inner = config.d_model, config.n_heads, config.expand * config.d_model
        self.config = config
        self.qkv = nn.Linear(d, config.channels, bias=False)
        self.conv = SiLUConv(config.channels, config.conv)
        self.decay_strength = nn.Linear(d, 2 * heads, bias=False)
        self.log_rate_H, self.step_bias_H = decay_parameters(heads, slowest=0.01)
        self.gate = nn.Linear(d, inner, bias=False)
        self.out_norm = RMSNorm(config.value_width)
        self.out = nn.Linear(inner, d, bias=False)
        for layer in (self.qkv, self.decay_strength, self.gate):
            init_linear(layer.weight)
        init_linear(self.out.weight, scale=out_scale)

    def forward(self, x_Bnd: Tensor) -> Tensor:
        config = self.config
        mixed_Bnc = self.conv(self.qkv(x_Bnd))
        rates_BnH = self.decay_strength(x_Bnd)
        with autocast_off(x_Bnd.device.type):
            mixed_Bnc, rates_BnH = at_least_fp32(mixed_Bnc), at_least_fp32(rates_BnH)
            step_BnH, strength_BnH = rates_BnH.chunk(2, dim=-1)
            widths = [config.d_model, config.d_model, config.expand * config.d_model]
            q_BnHk, k_BnHk, v_BnHv = (t.unflatten(-1, (config.n_heads, -1)) for t in mixed_Bnc.split(widths, dim=-1))
            y_BnHv = gated_delta_rule(
                unit_length(q_BnHk, scale=config.key_width**-0.5),
                unit_length(k_BnHk),
                v_BnHv,
                -self.log_rate_H.exp() * softplus(step_BnH + self.step_bias_H),
                strength_BnH.sigmoid(),
                chunk=config.chunk,
            )
            y_BnHv = self.out_norm(y_BnHv)
        out_Bnd: Tensor = self.out(y_BnHv.flatten(2) * silu(self.gate(x_Bnd)))
        return out_Bnd
