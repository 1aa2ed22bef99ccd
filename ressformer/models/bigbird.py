"""BigBird: window, random and global blocks (Zaheer et al. 2020, 2007.14062).

Random blocks are drawn once from a fixed seed and, when causal, from the past alone.

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
from ressformer.layers.baselines.block_sparse import block_sparse_attention, block_sparse_pairs
from ressformer.stack import StackConfig


@dataclass(frozen=True, kw_only=True)
class BigBirdConfig(StackConfig):
    """Dials of BigBird, beside the stack's; all are counted in blocks.

    Attributes:
        block: tokens per block.
        window: blocks of the window, the own one included (odd when bidirectional).
        global_blocks: the first blocks, which all see.
        random_blocks: further blocks per block.
        block_seed: seed of the random blocks; a constant of the model, not of the run.
    """

    family: ClassVar[str] = "bigbird"
    switches: ClassVar[Mapping[str, str]] = {
        **StackConfig.switches,
        "block": "how many tokens a block of keys has",
        "window": "how many blocks around a query it reads",
        "global_blocks": "how many blocks all may read",
        "random_blocks": "how many random blocks a query reads",
        "block_seed": "which random blocks",
    }

    block: int = 8
    window: int = 3
    global_blocks: int = 1
    random_blocks: int = 1
    block_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.block >= 1 and self.window >= 1, "block and window must be at least 1")
        self.require(self.global_blocks >= 0 and self.random_blocks >= 0, "numbers of blocks must not be negative")

    @property
    def position_free(self) -> bool:
        return False

    def dials(self) -> tuple[Dial, ...]:
        tokens = Dial(
            name="block",
            values=around(self.block),
            rank=LAST,
            ordinary=self.block,
        )
        return *super().dials(), tokens

    def keys_kept(self, shape: Shape) -> int | None:
        return shape.length

    def build_mixer(self, *, length: int, causal: bool, out_scale: float) -> nn.Module:
        self.require(causal or self.window % 2 == 1, f"a bidirectional window must be odd, got {self.window} blocks")
        return BlockAttention(self, causal=causal, out_scale=out_scale)

    def mixer_cost(self, shape: Shape) -> Cost:
        pairs = block_sparse_pairs(
            shape.length,
            block=self.block,
            window=self.window,
            n_global=self.global_blocks,
            n_random=self.random_blocks,
            causal=shape.causal,
        )
        return projected_cost(shape.length, self.d_model, pairs, gains=self.qk_gains)


class BlockAttention(ProjectedAttention):
    """Projections around `block_sparse_attention`."""

    def __init__(self, config: BigBirdConfig, *, causal: bool, out_scale: float) -> None:
        super().__init__(config.d_model, config.n_heads, **config.projections(out_scale))
        self.config, self.causal = config, causal

    def attend(self, q_BHnh: Tensor, k_BHnh: Tensor, v_BHnh: Tensor, mask_Bn: Tensor | None) -> Tensor:
        return block_sparse_attention(
            q_BHnh,
            k_BHnh,
            v_BHnh,
            block=self.config.block,
            window=self.config.window,
            n_global=self.config.global_blocks,
            n_random=self.config.random_blocks,
            seed=self.config.block_seed,
            causal=self.causal,
            key_mask_Bn=mask_Bn,
        )
