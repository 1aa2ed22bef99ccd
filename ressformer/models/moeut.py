"""MoEUT: a looped Transformer whose feed-forward networks are experts (Csordás et al. 2024, 2405.16039).

The control for ReSSFormer that has both of what loops need, shared depth and the weights that sharing removes, and
nothing of its memory, sparse attention or graph. As in the paper: `group` different layers, gone through again and
again (one layer in a loop is group=1); sigma-MoE experts with a balance loss by entropy; "peri-layernorm": a norm
stands only before what ends in a softmax or sigmoid, so queries, keys and routers read norm(x), values and experts x
itself. Experts start independent. Not as in the paper: attention is dense, not SwitchHead, and experts use GELU, as
all feed-forward networks here.

Shapes: B batch, n length, d width, H heads, h head width, E experts, e experts per token, f expert width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ressformer.cost import Cost, Shape, Spread, group, norm
from ressformer.decoder import Core, CoreOutput, ModelConfig, init_linear, mean_cosine
from ressformer.dials import DEPTH, Dial, of_experts, with_own
from ressformer.layers.attention import attention_cost, merge_heads, split_heads
from ressformer.layers.experts.moe import MoEConfig, moe_cost
from ressformer.layers.experts.sigma_moe import SigmaExperts
from ressformer.layers.norms import make_norm
from ressformer.layers.rotary import Rotary
from ressformer.layers.short_conv import short_conv, short_conv_cost


@dataclass(frozen=True, kw_only=True)
class MoEUTConfig(ModelConfig):
    """Dials of MoEUT.

    Attributes:
        n_layers: layers that a token passes through, repetitions counted.
        group: different layers G; layer i runs with the weights of layer i mod G.
        n_experts, top_e, d_expert: experts of each layer, experts per token, width of one.
        balance: weight of the balance loss (the paper: 0.01).
    """

    family: ClassVar[str] = "moeut"
    version: ClassVar[int] = 2
    fill: ClassVar[str] = "d_expert"
    depth_field: ClassVar[str] = "n_layers"
    switches: ClassVar[Mapping[str, str]] = {
        **ModelConfig.switches,
        "n_layers": "depth of the loop",
        "top_e": "how many experts a token passes through",
    }

    embedding_std: float = 0.125  # 1 / sqrt(64): no norm stands before values and experts to repair a smaller one
    n_layers: int = 4
    group: int = 2
    n_experts: int = 8
    top_e: int = 2
    d_expert: int = 64
    balance: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.group >= 1 and self.n_layers >= 1, "group and n_layers must be at least 1")
        self.require(self.n_layers >= self.group, f"n_layers={self.n_layers} does not reach group={self.group}")
        self.require(self.n_experts >= 2, f"n_experts must be at least 2, got {self.n_experts}")
        self.require(self.d_expert >= 1 and self.balance >= 0, "d_expert must be positive and balance not negative")
        self.require(1 <= self.top_e <= self.n_experts, f"top_e={self.top_e} must be in 1..n_experts={self.n_experts}")
        self.require((self.d_model // self.n_heads) % 2 == 0, "rotary positions need an even head width")

    @property
    def looped(self) -> bool:
        return True

    @property
    def moe(self) -> MoEConfig:
        return MoEConfig(
            n_experts=self.n_experts,
            top_e=self.top_e,
            d_expert=self.d_expert,
            balance=self.balance,
            router_z=0.0,
            expert_copies=False,
        )

    def build_core(self, *, length: int, max_length: int, causal: bool) -> Core:
        return MoEUTCore(self, causal=causal)

    def core_cost(self, shape: Shape) -> Cost:
        n, d = shape.length, self.d_model
        # It serves twice: once for queries and keys, once for values.
        conv = (short_conv_cost(n, d, self.short_conv).times(2),) if self.short_conv else ()
        experts = moe_cost(n, d, self.moe)
        layer = group("layer", norm("qk_norm", d), *conv, attention_cost(shape, d), norm("router_norm", d), experts)
        runs = [len(range(i, self.n_layers, self.group)) for i in range(self.group)]
        return group("core", *(layer.named(f"layer_{i}").times(times) for i, times in enumerate(runs)))

    def state_size(self, shape: Shape) -> int | None:
        """Keys and values of every application: the same weights read other states."""
        return self.n_layers * 2 * self.d_model * shape.length if shape.causal else 0

    def spreads(self, shape: Shape) -> tuple[Spread, ...]:
        even = shape.length * self.top_e / self.n_experts
        return (Spread("rows of the fullest expert, a layer", "rows", even, even, float(shape.length)),)

    def at_depth(self, depth: int) -> Self | None:
        return replace(self, n_layers=depth) if depth >= self.group else None

    def dials(self) -> tuple[Dial, ...]:
        fill, width = super().dials()
        routed, each = of_experts(self.n_experts, self.top_e)
        depths = range(2 * self.group, 4 * self.n_layers + 1, self.group)  # whole turns
        turns = Dial(
            name="n_layers",
            values=with_own(depths, self.n_layers),
            rank=DEPTH,
            affine=True,
            anchors=(2 * self.group, 3 * self.group),
            ordinary=self.n_layers,
        )
        return fill, routed, each, turns, width


class MoEUTLayer(nn.Module):
    """x + attention(norm(x), x), then x + experts(x, routed by norm(x))."""

    def __init__(self, config: MoEUTConfig, *, causal: bool) -> None:
        super().__init__()
        d, heads, scale = config.d_model, config.n_heads, 1.0 / math.sqrt(2 * config.n_layers)
        self.heads, self.causal = heads, causal
        self.qk_norm = make_norm(config.norm, d)
        self.conv = short_conv(d, config.short_conv)
        self.qk = nn.Linear(d, 2 * d, bias=False)
        self.v = nn.Linear(d, d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.rotary = Rotary(d // heads)
        self.router_norm = make_norm(config.norm, d)
        self.experts = SigmaExperts(d, config.moe, out_scale=scale)
        init_linear(self.qk.weight)
        init_linear(self.v.weight)
        init_linear(self.out.weight, scale=scale)

    def attend(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> Tensor:
        """The residual branch of attention; the cue to the neighbours, where there is one, reaches values, too."""
        qk_BZnh = self.rotary(split_heads(self.qk(self.conv(self.qk_norm(x_Bnd))), 2 * self.heads))
        v_BHnh = split_heads(self.v(self.conv(x_Bnd)), self.heads)
        q_BHnh, k_BHnh = qk_BZnh.chunk(2, dim=1)
        # Padding is on the right: under the causal mask no real token sees it.
        mask = None if self.causal or mask_Bn is None else mask_Bn[:, None, None, :]
        y_BHnh = scaled_dot_product_attention(q_BHnh, k_BHnh, v_BHnh, attn_mask=mask, is_causal=self.causal)
        out_Bnd: Tensor = self.out(merge_heads(y_BHnh))
        return out_Bnd

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The layer's output, its weighted balance loss and its load [E]."""
        x_Bnd = x_Bnd + self.attend(x_Bnd, mask_Bn)
        y_Bnd, balance, load_E = self.experts.mix(x_Bnd, self.router_norm(x_Bnd), mask_Bn)
        return x_Bnd + y_Bnd, balance, load_E


class MoEUTCore(Core):
    """The group of layers, over and over; losses are means over the layers run."""

    def __init__(self, config: MoEUTConfig, *, causal: bool) -> None:
        super().__init__()
        self.n_layers = config.n_layers
        self.layers = nn.ModuleList(MoEUTLayer(config, causal=causal) for _ in range(config.group))

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> CoreOutput:
        out, depth = CoreOutput(x_Bnd), self.eval_depth or self.n_layers
        balances: list[Tensor] = []
        for index in range(depth):
            out.h_Bnd, balance, load_E = self.layers[index % len(self.layers)](out.h_Bnd, mask_Bn)
            balances.append(balance)
            if self.diagnose:
                out.diagnostics[f"cosine/{index + 1}"] = mean_cosine(out.h_Bnd)
                out.diagnostics[f"load_max/{index + 1}"] = load_E.max()
        out.aux_losses["balance"] = torch.stack(balances).mean()
        return out
