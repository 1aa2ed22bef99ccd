"""What the mixers that carry a state share: a short convolution by design, chunks, and both directions.

Their state has one size, however long the sequence. A bidirectional task runs the same weights over the sequence and
over its mirror image and averages: twice the cost, no further weights.

Shapes: B batch, n length, d width.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ressformer.cost import Cost, Shape
from ressformer.stack import StackConfig


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig(StackConfig):
    """Dials of a stack whose mixer carries a state.

    Attributes:
        conv: taps of the convolution over the mixer's own inputs, which both papers have by design.
        chunk: most tokens of a chunk; it changes time and executed FLOPs, not the result.
    """

    by_design: ClassVar[str] = "conv-by-design"

    positions: str = "none"
    conv: int = 4
    chunk: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.conv >= 1 and self.chunk >= 1, "conv and chunk must be at least 1")
        self.require(self.positions != "rotary", "there is no query-key product to rotate: positions=none or learned")
        self.require(not self.qk_norm, "qk_norm is a switch of attention, which this family has not: qk_norm=false")

    @property
    def position_free(self) -> bool:
        return False

    def state_size(self, shape: Shape) -> int | None:
        return self.n_layers * self.layer_state if shape.causal else 0

    @property
    @abstractmethod
    def layer_state(self) -> int:
        """Numbers that one layer keeps between tokens."""

    @abstractmethod
    def build_scan(self, *, out_scale: float) -> nn.Module:
        """The causal mixer: forward(x [B, n, d]) -> [B, n, d]; zeros before the first token change nothing."""

    @abstractmethod
    def scan_cost(self, tokens: int) -> Cost:
        """Its closed-form cost per sequence."""

    def build_mixer(self, *, length: int, causal: bool, out_scale: float) -> nn.Module:
        return Scan(self.build_scan(out_scale=out_scale), causal=causal)

    def mixer_cost(self, shape: Shape) -> Cost:
        cost = self.scan_cost(shape.length)
        return cost if shape.causal else cost.times(2)


class Scan(nn.Module):
    """The causal mixer; or, bidirectional, the mean of it and of it on the mirror image."""

    def __init__(self, scan: nn.Module, *, causal: bool) -> None:
        super().__init__()
        self.scan, self.causal = scan, causal

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None) -> Tensor:
        # Padding is on the right: read forwards it comes after all real tokens, and mirrored, as zeros, before them.
        if not self.causal and mask_Bn is not None:
            x_Bnd = x_Bnd * mask_Bn.unsqueeze(-1).to(x_Bnd.dtype)
        y_Bnd: Tensor = self.scan(x_Bnd)
        if self.causal:
            return y_Bnd
        mirrored_Bnd: Tensor = self.scan(x_Bnd.flip(1))
        return (y_Bnd + mirrored_Bnd.flip(1)) / 2


def decay_parameters(heads: int, slowest: float) -> tuple[nn.Parameter, nn.Parameter]:
    """log A and the bias of the step size, as Mamba-2 draws them: A ~ U(`slowest`, 16), step ~ log U(1e-3, 1e-1)."""
    step_H = torch.empty(heads).uniform_(-6.907755, -2.302585).exp()  # ln 1e-3, ln 1e-1
    bias_H = step_H + torch.log(-torch.expm1(-step_H))  # the inverse of softplus
    return nn.Parameter(torch.empty(heads).uniform_(slowest, 16.0).log()), nn.Parameter(bias_H)


def at_least_fp32(x: Tensor) -> Tensor:
    """`x` in fp32, or as it is in fp64: decays multiply up over many tokens."""
    return x if x.dtype == torch.float64 else x.float()
