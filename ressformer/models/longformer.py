"""Longformer: sliding-window attention with dilation and global tokens (Beltagy et al. 2020, 2004.05150).

The window is truly sparse: time and memory grow with n * window. Causal models use no global tokens in the paper's
language modelling; here the first `n_global` positions are global where asked for.

Shapes: B batch, n length, d width, H heads, h head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ressformer.cost import Cost, Shape
from ressformer.dials import LAST, Dial, around
from ressformer.layers.attention import ProjectedAttention, projected_cost
from ressformer.layers.baselines.sliding_window import sliding_window_attention, sliding_window_pairs
from ressformer.stack import StackConfig


@dataclass(frozen=True, kw_only=True)
class LongformerConfig(StackConfig):
    """Dials of Longformer, beside the stack's.

    Attributes:
        window: keys per query when causal (itself included); half of it to each side when bidirectional.
        dilation: distance between the keys of a window.
        n_global: the first tokens, which all see, and which see all.
    """

    family: ClassVar[str] = "longformer"
    switches: ClassVar[Mapping[str, str]] = {
        **StackConfig.switches,
        "window": "how many tokens a query reads",
        "dilation": "which tokens of the window it reads",
        "n_global": "how many tokens all may read",
    }

    window: int = 32
    dilation: int = 1
    n_global: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.window >= 1 and self.dilation >= 1, "window and dilation must be at least 1")
        self.require(self.n_global >= 0, f"n_global must not be negative, got {self.n_global}")

    @property
    def position_free(self) -> bool:
        return False

    def keys_kept(self, shape: Shape) -> int | None:
        return min(shape.length, (self.window - 1) * self.dilation + 1 + self.n_global)

    def dials(self) -> tuple[Dial, ...]:
        keys = Dial(
            name="window",
            values=around(self.window),
            rank=LAST,
            ordinary=self.window,
        )
        return *super().dials(), keys

    def build_mixer(self, *, length: int, causal: bool, out_scale: float) -> nn.Module:
        return WindowAttention(self, causal=causal, out_scale=out_scale)

    def mixer_cost(self, shape: Shape) -> Cost:
        pairs = sliding_window_pairs(
            shape.length, window=self.window, dilation=self.dilation, causal=shape.causal, n_global=self.n_global
        )
        return projected_cost(shape.length, self.d_model, pairs, gains=self.qk_gains)


class WindowAttention(ProjectedAttention):
    """Projections around `sliding_window_attention`."""

    def __init__(self, config: LongformerConfig, *, causal: bool, out_scale: float) -> None:
        super().__init__(config.d_model, config.n_heads, **config.projections(out_scale))
        self.config, self.causal = config, causal

    def attend(self, q_BHnh: Tensor, k_BHnh: Tensor, v_BHnh: Tensor, mask_Bn: Tensor | None) -> Tensor:
        return sliding_window_attention(
            q_BHnh,
            k_BHnh,
            v_BHnh,
            window=self.config.window,
            dilation=self.config.dilation,
            causal=self.causal,
            key_mask_Bn=mask_Bn,
            n_global=self.config.n_global,
        )
