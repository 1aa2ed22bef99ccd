"""Cutting sequences into equal chunks, and decays within a chunk, for mixers that carry a state.

Shapes: B batch, n length, N chunks, c tokens a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Chunks:
    """How a sequence is cut."""

    length: int
    count: int
    size: int

    def cut(self, x_Bn: Tensor) -> Tensor:
        """[B, n, ...] -> [B, N, c, ...]; zeros fill the last chunk."""
        fill = self.count * self.size - self.length
        if fill:
            x_Bn = pad(x_Bn, (0, 0) * (x_Bn.ndim - 2) + (0, fill))
        cut_BNc: Tensor = x_Bn.unflatten(1, (self.count, self.size))
        return cut_BNc

    @property
    def pairs(self) -> int:
        """(token, token) pairs of the same chunk, the later one or itself first."""
        last = self.length - (self.count - 1) * self.size
        return (self.count - 1) * self.size * (self.size + 1) // 2 + last * (last + 1) // 2

    @property
    def readers(self) -> int:
        """Tokens that read the state of the chunks before."""
        return self.length - self.size if self.count > 1 else 0

    @property
    def writers(self) -> int:
        """Tokens that the state of later chunks takes in."""
        return (self.count - 1) * self.size


def chunks(length: int, largest: int) -> Chunks:
    """The fewest chunks of at most `largest` tokens, all alike: 40 tokens in chunks of 32 are two of 20."""
    count = -(-length // largest)
    return Chunks(length, count, -(-length // count))


def decays(log_c: Tensor) -> tuple[Tensor, Tensor]:
    """Decays within a chunk.

    Args:
        log_c: [..., c] log of each token's decay, at most 0.

    Returns:
        Cumulative logs L [..., c], token's own included; and [..., c, c] exp(L_i - L_j) for j <= i, 0 above.
    """
    total_c = log_c.cumsum(-1)
    apart_cc = total_c.unsqueeze(-1) - total_c.unsqueeze(-2)
    # Before the exponential: above the diagonal it could overflow. In place: c x c numbers a head are many.
    later_cc = torch.ones(apart_cc.shape[-2:], dtype=torch.bool, device=log_c.device).triu_(1)
    return total_c, apart_cc.masked_fill_(later_cc, -float("inf")).exp_()
