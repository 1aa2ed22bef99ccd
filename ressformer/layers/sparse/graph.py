"""The induced graph of SOES (paper 3.3, eq. 7 and 8): directed, content-based edges and the loss on their change.

Equation (7) is read as a low-rank bilinear form e_ij = (U h_i) . (V h_j) / sqrt(r): the score by which keys are
selected, and an additive bias of every head's logits, so that the graph can be ablated apart from attention.
Equation (8) is read as the mean squared change of the row-normalised graph between two steps of the loop, over the
union of the two supports. Its trivial optimum is a frozen graph, so the edge turnover is reported beside it.

Example: r = 1, U reads the first coordinate and V the second. Tokens (2, 0) and (1, 3) have U h = 2, 1 and V h = 0, 3:
the first one's edge to the second is 2 * 3 = 6, the way back is 1 * 0 = 0.

    >>> scorer = EdgeScorer(2, 1)
    >>> _ = scorer.factors.weight.data.copy_(torch.eye(2))
    >>> a, b = scorer(torch.tensor([[[2.0, 0.0], [1.0, 3.0]]]))
    >>> (a @ b.mT).tolist()
    [[[0.0, 6.0], [0.0, 3.0]]]

From one step to the next, token 0 gives up its edge to itself (weight 1/2) for the one to token 1 (1/2 -> 1); token 1
keeps its only edge. The union has 3 edges: the change is (1/4 + 1/4 + 0) / 3, and the turnover is 1 - 2/3.

    >>> before = Graph(torch.tensor([[[0, 1], [1, 2]]]), torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]))
    >>> now = Graph(torch.tensor([[[1, 2], [1, 2]]]), torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]))
    >>> [round(float(x), 4) for x in now.change(before, None)]
    [0.1667, 0.3333]

Shapes: B batch, n length, d width, r rank, k selected keys a row; b block, N blocks, m chosen blocks, L = m b keys.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ressformer.cost import Cost
from ressformer.decoder import init_linear


class EdgeScorer(nn.Module):
    """Computes the two factors of the edge scores.

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
        """Returns (a, b), each [B, n, r]; e_ij = a_i . b_j (the scale is in a)."""
        a_Bnr, b_Bnr = self.factors(x_Bnd).chunk(2, dim=-1)
        return a_Bnr / math.sqrt(self.rank), b_Bnr


def edge_cost(tokens: int, d_model: int, rank: int) -> Cost:
    """Charges the two projections; the scores are charged where they are computed, with the attention."""
    return Cost(name="edges", params=2 * rank * d_model, flops=4.0 * tokens * rank * d_model)


class Graph:
    """Holds a sparse row-normalised graph: row i has weight p[i, c] on the edge to token idx[i, c].

    `idx_Bnk` is sorted along k; entries that hold no edge carry the index n and weight 0. Where each head has a graph
    of its own, B counts sequences and, within each, heads.
    """

    def __init__(self, idx_Bnk: Tensor, weight_Bnk: Tensor, *, ascending: bool = False) -> None:
        self.idx_Bnk, self.weight_Bnk = idx_Bnk, weight_Bnk
        if ascending:
            return
        order_Bnk = idx_Bnk.argsort(dim=-1)
        self.idx_Bnk = idx_Bnk.gather(-1, order_Bnk).contiguous()
        self.weight_Bnk = weight_Bnk.gather(-1, order_Bnk)

    def change(self, before: Graph, mask_Bn: Tensor | None) -> tuple[Tensor, Tensor]:
        """Computes equation (8) and the edge turnover, both scalars.

        Args:
            before: the graph of the step before.
            mask_Bn: True at real tokens, a row a sequence, or None.

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
            if len(mask_Bn) != len(squared_Bn):
                mask_Bn = mask_Bn.repeat_interleave(len(squared_Bn) // len(mask_Bn), dim=0)
            squared_Bn, both_Bn, union_Bn = squared_Bn * mask_Bn, both_Bn * mask_Bn, union_Bn * mask_Bn
        union = union_Bn.sum().clamp_min(1)
        return squared_Bn.sum() / union, 1 - both_Bn.sum() / union


class BlockGraph:
    """Holds a graph of keys selected by blocks: row i of block t has weights on all keys of the blocks that t chose.

    Args:
        chosen_BNm: chosen blocks; N = none.
        weight_BNbL: weights on their keys; 0 where there is no edge.
        seen_BNbL: where there is one (b may be 1: alike for all rows).
        n: rows that exist; those after it fill the last block.
    """

    def __init__(self, chosen_BNm: Tensor, weight_BNbL: Tensor, seen_BNbL: Tensor, n: int) -> None:
        batch, number, m = chosen_BNm.shape
        self.chosen_BNm, self.n = chosen_BNm, n
        self.weight_BNbmb = weight_BNbL.unflatten(-1, (m, -1))
        self.count_BNbm = seen_BNbL.unflatten(-1, (m, -1)).sum(-1).expand(batch, number, -1, m)
        # Kept: the next step's comparison needs it again.
        self.squared_BNb = weight_BNbL.square().sum(-1)

    def change(self, before: BlockGraph, mask_Bn: Tensor | None) -> tuple[Tensor, Tensor]:
        """Computes what `Graph.change` computes."""
        number = self.chosen_BNm.shape[1]
        same_BNmm = self.chosen_BNm.unsqueeze(-1) == before.chosen_BNm.unsqueeze(-2)
        same_BNm = same_BNmm.any(-1) & (self.chosen_BNm < number)
        at_BN1m1 = same_BNmm.byte().argmax(-1)[:, :, None, :, None]
        matched_BNbmb = before.weight_BNbmb.gather(3, at_BN1m1.expand_as(self.weight_BNbmb))
        shared_BNbm = (self.weight_BNbmb * matched_BNbmb).sum(-1) * same_BNm.unsqueeze(2)
        squared_BNb = self.squared_BNb + before.squared_BNb - 2 * shared_BNbm.sum(-1)
        both_BNb = (self.count_BNbm * same_BNm.unsqueeze(2)).sum(-1)
        union_BNb = self.count_BNbm.sum(-1) + before.count_BNbm.sum(-1) - both_BNb
        rows = []
        for value_BNb in (squared_BNb, both_BNb, union_BNb):
            value_Bn = value_BNb.expand(squared_BNb.shape).flatten(1)[:, : self.n]
            rows.append(value_Bn if mask_Bn is None else value_Bn * mask_Bn)
        squared, both, union = (value_Bn.sum() for value_Bn in rows)
        return squared / union.clamp_min(1), 1 - both / union.clamp_min(1)
