"""The induced graph of SOES (paper 3.3, eq. 7 and 8): directed, content-based edges and the loss on their change.

Equation (7) is read as a low-rank bilinear form e_ij = (U h_i) . (V h_j) / sqrt(r): the score by which keys are
selected, and an additive bias of every head's logits, so that the graph can be ablated apart from attention.
Equation (8) is read as the mean squared change of the row-normalised graph between two steps of the loop, over the
union of the two supports. Its trivial optimum is a frozen graph, so the edge turnover is reported beside it.

Shapes: B batch, n length, d width, r rank, k selected keys a row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ressformer.cost import Cost
from ressformer.decoder import init_linear


class EdgeScorer(nn.Module):
    """The two factors of the edge scores.

    Args:
        d_model, rank: d and r.
        similarity: U starts equal to V, so that edges begin by joining like to like and learn their direction.
    """

    def __init__(self, d_model: int, rank: int, *, similarity: bool = False) -> None:
        super().__init__()
        self.rank = rank
        self.factors = nn.Linear(d_model, 2 * rank, bias=False)
        init_linear(self.factors.weight)
        if similarity:
            with torch.no_grad():
                self.factors.weight[rank:] = self.factors.weight[:rank]

    def forward(self, x_Bnd: Tensor) -> tuple[Tensor, Tensor]:
        """(a, b), each [B, n, r]; e_ij = a_i . b_j (the scale is in a)."""
        a_Bnr, b_Bnr = self.factors(x_Bnd).chunk(2, dim=-1)
        return a_Bnr / math.sqrt(self.rank), b_Bnr


def edge_cost(tokens: int, d_model: int, rank: int) -> Cost:
    """The two projections; the scores themselves are charged where they are computed, with the attention."""
    return Cost(name="edges", params=2 * rank * d_model, flops=4.0 * tokens * rank * d_model)


class Graph:
    """A sparse row-normalised graph: row i has weight p[i, c] on the edge to token idx[i, c].

    `idx_Bnk` is sorted along k; entries that hold no edge carry the index n and weight 0.
    """

    def __init__(self, idx_Bnk: Tensor, weight_Bnk: Tensor) -> None:
        order_Bnk = idx_Bnk.argsort(dim=-1)
        self.idx_Bnk = idx_Bnk.gather(-1, order_Bnk).contiguous()
        self.weight_Bnk = weight_Bnk.gather(-1, order_Bnk)

    def change(self, before: Graph, mask_Bn: Tensor | None) -> tuple[Tensor, Tensor]:
        """Equation (8) and the edge turnover, both scalars.

        Returns:
            The mean squared change over the union of both supports, and 1 - |intersection| / |union|.
        """
        n, k = self.idx_Bnk.shape[1:]
        at_Bnk = torch.searchsorted(before.idx_Bnk, self.idx_Bnk).clamp_max(k - 1)
        same_Bnk = (before.idx_Bnk.gather(-1, at_Bnk) == self.idx_Bnk) & (self.idx_Bnk < n)
        shared_Bnk = before.weight_Bnk.gather(-1, at_Bnk) * same_Bnk
        squared_Bn = (
            self.weight_Bnk.square().sum(-1)
            + before.weight_Bnk.square().sum(-1)
            - 2 * (self.weight_Bnk * shared_Bnk).sum(-1)
        )
        both_Bn = same_Bnk.sum(-1)
        union_Bn = (self.idx_Bnk < n).sum(-1) + (before.idx_Bnk < n).sum(-1) - both_Bn
        if mask_Bn is not None:
            squared_Bn, both_Bn, union_Bn = squared_Bn * mask_Bn, both_Bn * mask_Bn, union_Bn * mask_Bn
        union = union_Bn.sum().clamp_min(1)
        return squared_Bn.sum() / union, 1 - both_Bn.sum() / union
