"""The vanilla Transformer: pre-norm, dense softmax attention, GELU feed-forward.

`positions=learned` is GPT-2 style (learned absolute positions), `rotary` is RoPE (2104.09864), `none` is NoPE
(2203.16634): order then comes from the causal mask alone.

Shapes: B batch, n length, d width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from ressformer.cost import Cost, Shape, group, norm
from ressformer.decoder import Core, CoreOutput, ModelConfig, mean_cosine
from ressformer.layers.attention import FeedForward, MultiHeadAttention, attention_cost, feed_forward_cost
from ressformer.layers.conv import short_conv, short_conv_cost


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(ModelConfig):
    """Dials of the vanilla Transformer.

    Attributes:
        n_layers: layers L.
        d_ff: width of the feed-forward network.
        positions: learned | rotary | none.
    """

    family: ClassVar[str] = "transformer"
    fill: ClassVar[str] = "d_ff"

    n_layers: int = 4
    d_ff: int = 256
    positions: str = "learned"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choice("positions", ("learned", "rotary", "none"))
        self.require(self.n_layers >= 1 and self.d_ff >= 1, "n_layers and d_ff must be positive")
        even = self.positions != "rotary" or (self.d_model // self.n_heads) % 2 == 0
        self.require(even, f"rotary positions need an even head width, got {self.d_model // self.n_heads}")

    @property
    def position_free(self) -> bool:
        return self.positions == "none" and not self.short_conv

    def build_core(self, *, length: int, max_length: int, causal: bool) -> Core:
        return TransformerCore(self, max_length=max_length, causal=causal)

    def core_cost(self, shape: Shape) -> Cost:
        n, d = shape.length, self.d_model
        conv = (short_conv_cost(n, d, self.short_conv),) if self.short_conv else ()
        layer = group(
            "layer",
            norm("attention_norm", d),
            *conv,
            attention_cost(shape, d),
            norm("ff_norm", d),
            feed_forward_cost(n, d, self.d_ff),
        )
        table = shape.positions * d if self.positions == "learned" else 0
        layers = tuple(replace(layer, name=f"layer_{i}") for i in range(self.n_layers))
        return group("core", Cost(name="positions", params=table, embedding=table), *layers)


class TransformerLayer(nn.Module):
    def __init__(self, config: TransformerConfig, *, causal: bool) -> None:
        super().__init__()
        scale = 1.0 / math.sqrt(2 * config.n_layers)
        self.attention_norm = nn.LayerNorm(config.d_model, bias=False)
        self.conv = short_conv(config.d_model, config.short_conv)
        self.attention = MultiHeadAttention(
            config.d_model, config.n_heads, causal=causal, rotary=config.positions == "rotary", out_scale=scale
        )
        self.ff_norm = nn.LayerNorm(config.d_model, bias=False)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, out_scale=scale)

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> Tensor:
        x_Bnd = x_Bnd + self.attention(self.conv(self.attention_norm(x_Bnd)), mask_Bn)
        return x_Bnd + self.feed_forward(self.ff_norm(x_Bnd))


class TransformerCore(Core):
    """A stack of different layers, with a learned position table in front where asked for."""

    def __init__(self, config: TransformerConfig, *, max_length: int, causal: bool) -> None:
        super().__init__()
        self.positions = nn.Embedding(max_length, config.d_model) if config.positions == "learned" else None
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=config.embedding_std)
        self.layers = nn.ModuleList(TransformerLayer(config, causal=causal) for _ in range(config.n_layers))

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> CoreOutput:
        diagnostics: dict[str, Tensor] = {}
        if self.positions is not None:
            x_Bnd = x_Bnd + self.positions(torch.arange(x_Bnd.shape[1], device=x_Bnd.device))
        for index, layer in enumerate(self.layers):
            x_Bnd = layer(x_Bnd, mask_Bn)
            if self.diagnose:
                diagnostics[f"cosine/{index + 1}"] = mean_cosine(x_Bnd)
        return CoreOutput(x_Bnd, diagnostics=diagnostics)
