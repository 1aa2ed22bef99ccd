"""The vanilla Transformer: pre-norm, dense softmax attention, GELU feed-forward (1706.03762, in GPT-2's order).

`positions=learned` is GPT-2 style, `rotary` is RoPE (2104.09864), `none` is NoPE (2203.16634): order then comes from
the causal mask alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ressformer.cost import Cost, Shape
from ressformer.layers.attention import MultiHeadAttention, attention_cost
from ressformer.stack import StackConfig


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(StackConfig):
    """Dials of the vanilla Transformer: those of the stack."""

    family: ClassVar[str] = "transformer"

    def keys_kept(self, shape: Shape) -> int | None:
        return shape.length

    def build_mixer(self, *, length: int, causal: bool, out_scale: float) -> nn.Module:
        projections = self.projections(out_scale)
        return MultiHeadAttention(self.d_model, self.n_heads, causal=causal, **projections)

    def mixer_cost(self, shape: Shape) -> Cost:
        return attention_cost(shape, self.d_model, gains=self.qk_gains)
