"""What the layered models share: a pre-norm stack of (mixer, feed-forward) layers, with or without shared weights.

A family supplies its mixer, and the mixer's cost or leaves it to be counted; everything else (norms, feed-forward,
positions, initial scales) is the same for all, so that two families differ in their mixers alone.

Shapes: B batch, n length, d width, L layers.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ressformer.cost import Cost, Shape, group, norm
from ressformer.counted import counted_mixer
from ressformer.decoder import Core, CoreOutput, ModelConfig, mean_cosine
from ressformer.dials import DEPTH, Dial
from ressformer.layers.feed_forward import FeedForward, feed_forward_cost
from ressformer.layers.norms import make_norm
from ressformer.layers.short_conv import short_conv, short_conv_cost
from ressformer.layers.swiglu import SwiGLU, swiglu_cost

POSITIONS = ("learned", "rotary", "none")
FEED_FORWARD = ("gelu", "swiglu")


@dataclass(frozen=True, kw_only=True)
class StackConfig(ModelConfig):
    """Dials of a stack.

    Attributes:
        n_layers: layers L.
        d_ff: width of the feed-forward network.
        positions: learned (an absolute table, GPT-2 style) | rotary (2104.09864) | none (2203.16634).
        feed_forward: gelu, d -> f -> d | swiglu (2002.05202), three matrices of d x f.
        qk_norm: RMS norm of each head's queries and keys, before they turn (2302.05442).
    """

    fill: ClassVar[str] = "d_ff"
    depth_field: ClassVar[str] = "n_layers"

    n_layers: int = 4
    d_ff: int = 256
    positions: str = "learned"
    feed_forward: str = "gelu"
    qk_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choice("positions", POSITIONS)
        self.choice("feed_forward", FEED_FORWARD)
        self.require(self.n_layers >= 1 and self.d_ff >= 1, "n_layers and d_ff must be positive")
        even = self.positions != "rotary" or (self.d_model // self.n_heads) % 2 == 0
        self.require(even, f"rotary positions need an even head width, got {self.d_model // self.n_heads}")

    @property
    def position_free(self) -> bool:
        return self.positions == "none" and not self.short_conv

    @property
    def shared(self) -> bool:
        """Whether one layer's weights serve all L applications."""
        return False

    @property
    def looped(self) -> bool:
        return self.shared

    def dials(self) -> tuple[Dial, ...]:
        fill, width = super().dials()
        depths = range(2 if self.looped else 1, 4 * self.n_layers + 1)
        few = (depths[0], depths[0] + 1)  # the cost of two layers is quicker to measure than that of many
        layers = Dial(name="n_layers", values=depths, rank=DEPTH, affine=True, anchors=few, ordinary=self.n_layers)
        usual = 4 * self.d_model if self.feed_forward == "gelu" else 8 * self.d_model // 3  # weights alike
        return replace(fill, ordinary=usual), layers, width

    @property
    def qk_gains(self) -> int:
        """Weights of the norm of queries and keys."""
        return 2 * (self.d_model // self.n_heads) if self.qk_norm else 0

    def projections(self, out_scale: float) -> dict[str, Any]:
        """What `ProjectedAttention` takes beside the widths."""
        return {"rotary": self.positions == "rotary", "qk_norm": self.qk_norm, "out_scale": out_scale}

    def keys_kept(self, shape: Shape) -> int | None:
        """Past tokens whose keys and values the next token may need; None = the mixer keeps none that it tells of."""
        return None

    def state_size(self, shape: Shape) -> int | None:
        if not shape.causal:
            return 0
        keys = self.keys_kept(shape)
        # A loop needs a cache for each application: the same weights read other states.
        return None if keys is None else self.n_layers * 2 * self.d_model * keys

    def at_depth(self, depth: int) -> Self | None:
        valid = depth >= 1 and (self.looped or depth <= self.n_layers)
        return replace(self, n_layers=depth) if valid else None

    @abstractmethod
    def build_mixer(self, *, length: int, causal: bool, out_scale: float) -> nn.Module:
        """The mixer for training length `length`: forward(x [B, n, d], mask [B, n] or None) -> [B, n, d]."""

    def mixer_cost(self, shape: Shape) -> Cost:
        """The mixer's cost, per sequence and application: a family's closed form, or torch's count of the module."""
        return counted_mixer(self, shape)

    @property
    def counted(self) -> bool:
        return type(self).mixer_cost is StackConfig.mixer_cost

    def build_core(self, *, length: int, max_length: int, causal: bool) -> Core:
        return StackCore(self, length=length, max_length=max_length, causal=causal)

    def core_cost(self, shape: Shape) -> Cost:
        n, d = shape.length, self.d_model
        conv = (short_conv_cost(n, d, self.short_conv),) if self.short_conv else ()
        fed = swiglu_cost if self.feed_forward == "swiglu" else feed_forward_cost
        mixer, feed_forward = self.mixer_cost(shape), fed(n, d, self.d_ff)
        layer = group("layer", norm("mixer_norm", d), *conv, mixer, norm("ff_norm", d), feed_forward)
        table = shape.positions * d if self.positions == "learned" else 0
        if self.shared:
            layers: tuple[Cost, ...] = (layer.times(self.n_layers),)
        else:
            layers = tuple(layer.named(f"layer_{i}") for i in range(self.n_layers))
        return group("core", Cost(name="positions", params=table, embedding=table), *layers)


class StackLayer(nn.Module):
    """x + mixer(norm(x)), then x + ff(norm(x))."""

    def __init__(self, config: StackConfig, *, length: int, causal: bool) -> None:
        super().__init__()
        scale = 1.0 / math.sqrt(2 * config.n_layers)
        self.mixer_norm = make_norm(config.norm, config.d_model)
        self.conv = short_conv(config.d_model, config.short_conv)
        self.mixer = config.build_mixer(length=length, causal=causal, out_scale=scale)
        self.ff_norm = make_norm(config.norm, config.d_model)
        feed = SwiGLU if config.feed_forward == "swiglu" else FeedForward
        self.feed_forward = feed(config.d_model, config.d_ff, out_scale=scale)

    def mix(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> Tensor:
        """The residual branch of the mixer."""
        y_Bnd: Tensor = self.mixer(self.conv(self.mixer_norm(x_Bnd)), mask_Bn)
        return y_Bnd

    def feed(self, x_Bnd: Tensor) -> Tensor:
        """The residual branch of the feed-forward network."""
        y_Bnd: Tensor = self.feed_forward(self.ff_norm(x_Bnd))
        return y_Bnd

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> Tensor:
        x_Bnd = x_Bnd + self.mix(x_Bnd, mask_Bn)
        return x_Bnd + self.feed(x_Bnd)


class StackCore(Core):
    """The layers, with a learned position table in front where asked for.

    Args:
        config: the stack's config.
        length: training length, handed to the mixers.
        max_length: rows of the position table.
        causal: handed to the mixers.
    """

    def __init__(self, config: StackConfig, *, length: int, max_length: int, causal: bool) -> None:
        super().__init__()
        self.n_layers = config.n_layers
        self.positions = nn.Embedding(max_length, config.d_model) if config.positions == "learned" else None
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=config.embedding_std)
        held = 1 if config.shared else config.n_layers
        self.layers = nn.ModuleList(StackLayer(config, length=length, causal=causal) for _ in range(held))

    def embed_positions(self, x_Bnd: Tensor) -> Tensor:
        """Adds the position table, where there is one."""
        if self.positions is None:
            return x_Bnd
        table_nd: Tensor = self.positions(torch.arange(x_Bnd.shape[1], device=x_Bnd.device))
        return x_Bnd + table_nd

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> CoreOutput:
        diagnostics: dict[str, Tensor] = {}
        x_Bnd = self.embed_positions(x_Bnd)
        for index in range(self.eval_depth or self.n_layers):
            x_Bnd = self.layers[index % len(self.layers)](x_Bnd, mask_Bn)
            if self.diagnose:
                diagnostics[f"cosine/{index + 1}"] = mean_cosine(x_Bnd)
        return CoreOutput(x_Bnd, diagnostics=diagnostics)
