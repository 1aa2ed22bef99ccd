"""Segment memory of R2MU (paper 3.1, eq. 2 and 3): m slots, pooled from the tokens, gated over the loop's steps.

Equation (2) pools the whole sequence into S in R^{m x d}. A causal model may not read that, so here the memory that a
token reads is pooled over the segments that ENDED before its own: one slot group a segment, each the pool of the
sequence's prefix. That keeps m slots a token at any length (cost linear in n) and is equation (2) itself when there
is one segment, which is what a bidirectional model gets. The first segment has an empty memory.

Shapes: B batch, n length, d width, m slots, s segment length, G = ceil(n / s) segments (1 when bidirectional).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ressformer.cost import Cost, Shape, group

POOLS = ("attention", "mean", "topk")
# Pooling scores are squashed into +-CAP: the running sums of exp(score) then need no maximum, which, taken over the
# sequence, would let later tokens change earlier outputs in the last bit.
CAP = 10.0


@dataclass
class Memory:
    """Holds what the tokens of a step read.

    Attributes:
        slots_BGmd: one slot group a segment.
        size: tokens a segment; token i reads group i // size.
        readable_n: whether anything had ended before the token (bool, [n]).
    """

    slots_BGmd: Tensor
    size: int
    readable_n: Tensor


class SegmentMemory(nn.Module):
    """Pools hidden states into slots and mixes them with the slots of the step before.

    Args:
        d_model: d.
        slots: m.
        segment: s, tokens per segment (causal only).
        pool: attention (learned queries), mean, or topk (the m tokens of highest learned score so far).
        causal: prefix memory per segment; otherwise one memory of the whole sequence for all.
        gated: whether there are steps before to mix with; without, there is no gate, whose weights nothing would train.
    """

    def __init__(self, d_model: int, *, slots: int, segment: int, pool: str, causal: bool, gated: bool = True) -> None:
        super().__init__()
        self.slots, self.segment, self.pool, self.causal = slots, segment, pool, causal
        queries = {"attention": slots, "mean": 0, "topk": 1}[pool]
        self.query_qd = nn.Parameter(torch.randn(queries, d_model) / math.sqrt(d_model)) if queries else None
        self.gate = nn.Linear(2 * d_model, 1) if gated else None
        if self.gate is None:
            return
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, x_Bnd: Tensor, mask_Bn: Tensor | None, before: Memory | None) -> Memory:
        """Makes the memory of this step from the hidden states and the memory of the step before."""
        n = x_Bnd.shape[1]
        size = self.segment if self.causal else n
        x_BGsd = pad(x_Bnd, (0, 0, 0, -n % size)).unflatten(1, (-1, size))
        alive_Bn = x_Bnd.new_ones(x_Bnd.shape[:2]) if mask_Bn is None else mask_Bn.to(x_Bnd.dtype)
        alive_BGs = pad(alive_Bn, (0, -n % size)).unflatten(1, (-1, size))
        pooled_BGmd = self._top(x_BGsd, alive_BGs) if self.pool == "topk" else self._average(x_BGsd, alive_BGs)
        slots_BGmd = pooled_BGmd if before is None else self.mix(before.slots_BGmd, pooled_BGmd)
        return Memory(slots_BGmd, size, self._readable(n, x_Bnd.device))

    def mix(self, previous_BGmd: Tensor, pooled_BGmd: Tensor) -> Tensor:
        """Applies equation (3): a * S(t-1) + (1 - a) * S^, one gate a in [0, 1] a slot."""
        if self.gate is None:
            raise RuntimeError("a memory without a gate was built for one step: there is no step before to mix with")
        a_BGm1: Tensor = self.gate(torch.cat([previous_BGmd, pooled_BGmd], dim=-1)).sigmoid()
        return a_BGm1 * previous_BGmd + (1 - a_BGm1) * pooled_BGmd

    def _readable(self, n: int, device: torch.device) -> Tensor:
        if not self.causal:
            return torch.ones(n, dtype=torch.bool, device=device)
        return torch.arange(n, device=device) >= self.segment

    def _scores(self, x_BGsd: Tensor) -> Tensor:
        assert self.query_qd is not None
        scores = x_BGsd.float() @ self.query_qd.float().t() / math.sqrt(x_BGsd.shape[-1])
        return CAP * torch.tanh(scores / CAP)

    def _average(self, x_BGsd: Tensor, alive_BGs: Tensor) -> Tensor:
        if self.pool == "mean":
            weight_BGsm = alive_BGs.float().unsqueeze(-1).expand(*alive_BGs.shape, self.slots)
        else:
            weight_BGsm = self._scores(x_BGsd).exp() * alive_BGs.unsqueeze(-1)
        top_BGmd = weight_BGsm.transpose(-1, -2).to(x_BGsd.dtype) @ x_BGsd
        total_BGm = weight_BGsm.sum(dim=2)
        if self.causal:
            top_BGmd, total_BGm = _before(top_BGmd.cumsum(1)), _before(total_BGm.cumsum(1))
        return top_BGmd / total_BGm.unsqueeze(-1).clamp_min(1e-6).to(top_BGmd.dtype)

    def _top(self, x_BGsd: Tensor, alive_BGs: Tensor) -> Tensor:
        """Fills slot j with the token of j-th highest score, times sigmoid(score) so that the score has a gradient."""
        score_BGs = self._scores(x_BGsd).squeeze(-1).masked_fill(alive_BGs == 0, -2 * CAP)
        value_BGsd = x_BGsd * score_BGs.sigmoid().unsqueeze(-1).to(x_BGsd.dtype)
        best_Bm = score_BGs.new_full((x_BGsd.shape[0], self.slots), -2 * CAP)
        kept_Bmd = value_BGsd.new_zeros(x_BGsd.shape[0], self.slots, x_BGsd.shape[-1])
        groups = []
        for score_Bs, value_Bsd in zip(score_BGs.unbind(1), value_BGsd.unbind(1), strict=True):
            groups.append(kept_Bmd)
            best_Bm, index_Bm = torch.cat([best_Bm, score_Bs], dim=1).topk(self.slots, dim=1)
            index_Bmd = index_Bm.unsqueeze(-1).expand(-1, -1, x_BGsd.shape[-1])
            kept_Bmd = torch.cat([kept_Bmd, value_Bsd], dim=1).gather(1, index_Bmd)
        return torch.stack(groups if self.causal else [kept_Bmd], dim=1)


def _before(prefix_BG: Tensor) -> Tensor:
    """Shifts by one segment, to what had ended BEFORE each segment; zeros for the first."""
    return torch.cat([torch.zeros_like(prefix_BG[:, :1]), prefix_BG[:, :-1]], dim=1)


def memory_cost(shape: Shape, d_model: int, *, slots: int, segment: int, pool: str) -> Cost:
    """Charges scores and weighted sums over the tokens, then a gate a slot; the first step has no gate to run."""
    n = shape.length
    groups = -(-n // segment) if shape.causal else 1
    padded = groups * segment if shape.causal else n
    queries = {"attention": slots, "mean": 0, "topk": 1}[pool]
    sums = 0 if pool == "topk" else slots
    return group(
        "memory",
        Cost(
            name="pool",
            params=queries * d_model,
            flops=2.0 * n * d_model * (queries + sums),
            executed=2.0 * padded * d_model * (queries + sums),
            bytes_moved=4.0 * (n + groups * slots) * d_model if pool == "topk" else 0.0,
        ),
        Cost(name="gate", params=2 * d_model + 1, flops=4.0 * groups * slots * d_model),
    )
