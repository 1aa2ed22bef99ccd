"""ASAM, the adaptive sparse attention module (paper 3.2, eq. 4 and 5), over selected keys, token cache and memory.

Each query attends to three sets of keys, normalised together by a sparse activation (eq. 4):
  1. the k visible keys of highest selection score (eq. 5), chosen first, activation on the survivors
     (1912.11637); the score is the induced graph's edge, or the head-summed q.k where there is no graph;
  2. the token cache: the w most recent tokens, self included. A cache is an ordered buffer, so its entries know
     their age: one learned bias a head and age. With the cache off, the query itself is always kept;
  3. the m memory slots that the token may read. Slots and cache bypass the selection.

Keys in the cache are not selected a second time. Without cache there is no notion of order anywhere: run
bidirectionally, the module is permutation-equivariant.

This is the exact small-n path: it forms the n x n scores. Shapes: B batch, n length, d width, H heads, h head width,
r edge rank, k selected keys, w cache width, m slots, G memory groups, c = k + w + m columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from ressformer.cost import Cost, Shape, group, linear
from ressformer.decoder import init_linear
from ressformer.layers.conv import merge_heads, split_heads
from ressformer.layers.entmax import normalise
from ressformer.layers.graph import Graph
from ressformer.layers.memory import Memory

ACTIVATIONS = ("softmax", "sparsemax", "entmax15")


@dataclass
class Attended:
    """What the attention returns: output [B, n, d], the graph it used, and diagnostics."""

    y_Bnd: Tensor
    graph: Graph | None
    support: Tensor | None = None
    full: Tensor | None = None


class SparseAttention(nn.Module):
    """Attention over selected keys, cache and memory.

    Args:
        d_model, n_heads: d and H.
        top_k: k.
        cache: w; 0 = off.
        activation: softmax | sparsemax | entmax15.
        causal: position i sees j <= i; the cache then looks back only, otherwise both ways.
        attention_graph: the graph is the head-averaged attention on the selected keys, not the edges.
        lean: strength of the initial age bias (`age_bias`).
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        top_k: int,
        cache: int,
        activation: str,
        causal: bool,
        attention_graph: bool,
        lean: float = 0.0,
        out_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.n_heads, self.top_k, self.cache = n_heads, top_k, cache
        self.activation, self.causal, self.attention_graph = activation, causal, attention_graph
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        init_linear(self.qkv.weight)
        init_linear(self.out.weight, scale=out_scale)
        self.ages = offsets(cache, causal)
        self.age_bias_Hw = nn.Parameter(age_bias(n_heads, self.ages, lean)) if cache else None

    def forward(
        self,
        x_Bnd: Tensor,
        mask_Bn: Tensor | None,
        edges: tuple[Tensor, Tensor] | None,
        memory: Memory | None,
        *,
        diagnose: bool = False,
    ) -> Attended:
        """Attend.

        Args:
            x_Bnd: normalised hidden states.
            mask_Bn: True at real tokens, or None.
            edges: the graph's factors (a, b), each [B, n, r], or None.
            memory: the slots and who may read them, or None.
            diagnose: also return the mean support and the share of rows whose support fills all k.
        """
        q_BHnh, k_BHnh, v_BHnh = (split_heads(t, self.n_heads) for t in self.qkv(x_Bnd).chunk(3, dim=-1))
        q_BHnh = q_BHnh / math.sqrt(q_BHnh.shape[-1])
        logits_BHnn = q_BHnh @ k_BHnh.transpose(-1, -2)
        edge_Bnn = edges[0] @ edges[1].transpose(-1, -2) if edges is not None else None
        score_Bnn = edge_Bnn if edge_Bnn is not None else logits_BHnn.sum(dim=1)
        idx_Bnk, valid_Bnk = self._select(score_Bnn.detach(), mask_Bn)
        if edge_Bnn is not None:
            logits_BHnn = logits_BHnn + edge_Bnn.unsqueeze(1)
        columns, valid = self._columns(logits_BHnn, idx_Bnk, valid_Bnk, mask_Bn)
        if memory is not None:
            kv_BGm2d = nn.functional.linear(memory.slots_BGmd, self.qkv.weight[x_Bnd.shape[-1] :])
            slots_BHnm = self._slot_logits(q_BHnh, kv_BGm2d, memory.size)
            columns = torch.cat([columns, slots_BHnm], dim=-1)
            readable = memory.readable_n.view(1, 1, -1, 1).expand(*valid.shape[:3], slots_BHnm.shape[-1])
            valid = torch.cat([valid, readable], dim=-1)
        p_BHnc = normalise(columns, self.activation, valid)
        y_BHnh = self._mix(p_BHnc, v_BHnh, idx_Bnk)
        if memory is not None:
            y_BHnh = y_BHnh + self._slot_values(p_BHnc[..., -slots_BHnm.shape[-1] :], kv_BGm2d, memory.size)
        graph = self._graph(edge_Bnn, p_BHnc, idx_Bnk, valid_Bnk)
        attended = Attended(self.out(merge_heads(y_BHnh)), graph)
        if diagnose:
            attended.support = (p_BHnc > 0).sum(-1).float().mean()
            # A full row may have been cut by the top-k; where rows are never full, k could be larger at no effect.
            attended.full = ((p_BHnc[..., : idx_Bnk.shape[-1]] > 0).all(-1)).float().mean()
        return attended

    def _select(self, score_Bnn: Tensor, mask_Bn: Tensor | None) -> tuple[Tensor, Tensor]:
        """Indices [B, n, k] of the best keys outside the cache, and which of them exist (few tokens, padding)."""
        n = score_Bnn.shape[-1]
        delta = torch.arange(n, device=score_Bnn.device).unsqueeze(1) - torch.arange(n, device=score_Bnn.device)
        allowed = delta >= self.cache if self.causal else delta.abs() >= self.cache
        if mask_Bn is not None:
            allowed = allowed & mask_Bn.unsqueeze(1)
        score_Bnn = score_Bnn.masked_fill(~allowed, -torch.inf)
        if not self.cache:
            score_Bnn.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
        best_Bnk, idx_Bnk = score_Bnn.topk(min(self.top_k, n), dim=-1)
        return idx_Bnk, best_Bnk > -torch.inf

    def _neighbours(self, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Indices [n, w] of the cache's tokens by age, clamped into range, and which exist."""
        at_nw = torch.arange(n, device=device).unsqueeze(1) - torch.tensor(self.ages, device=device)
        return at_nw.clamp(0, n - 1), (at_nw >= 0) & (at_nw < n)

    def _columns(
        self, logits_BHnn: Tensor, idx_Bnk: Tensor, valid_Bnk: Tensor, mask_Bn: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Logits of the selected and the cached keys, [B, H, n, k + w], and which exist."""
        batch, heads, n, _ = logits_BHnn.shape
        columns = logits_BHnn.gather(-1, idx_Bnk.unsqueeze(1).expand(-1, heads, -1, -1))
        valid = valid_Bnk.unsqueeze(1).expand(-1, heads, -1, -1)
        if self.age_bias_Hw is None:
            return columns, valid
        at_nw, exists_nw = self._neighbours(n, logits_BHnn.device)
        near = logits_BHnn.gather(-1, at_nw.expand(batch, heads, -1, -1)) + self.age_bias_Hw[:, None, :]
        near_valid = exists_nw.expand(batch, heads, -1, -1)
        if mask_Bn is not None:
            near_valid = near_valid & mask_Bn[:, at_nw].unsqueeze(1)
        return torch.cat([columns, near], dim=-1), torch.cat([valid, near_valid], dim=-1)

    def _mix(self, p_BHnc: Tensor, v_BHnh: Tensor, idx_Bnk: Tensor) -> Tensor:
        """Weighted values: the columns' weights are put back into rows of n and multiplied with the values."""
        batch, heads, n, _ = v_BHnh.shape
        index = idx_Bnk.unsqueeze(1).expand(-1, heads, -1, -1)
        if self.cache:
            at_nw, _ = self._neighbours(n, v_BHnh.device)
            index = torch.cat([index, at_nw.expand(batch, heads, -1, -1)], dim=-1)
        row_BHnn = p_BHnc.new_zeros(batch, heads, n, n)
        return row_BHnn.scatter_add(-1, index, p_BHnc[..., : index.shape[-1]]) @ v_BHnh

    def _slot_logits(self, q_BHnh: Tensor, kv_BGm2d: Tensor, size: int) -> Tensor:
        k_BGmHh = kv_BGm2d.chunk(2, dim=-1)[0].unflatten(-1, (self.n_heads, -1))
        q_BHGsh = _segments(q_BHnh, size)
        return torch.einsum("bhgse,bgmhe->bhgsm", q_BHGsh, k_BGmHh).flatten(2, 3)[:, :, : q_BHnh.shape[2]]

    def _slot_values(self, p_BHnm: Tensor, kv_BGm2d: Tensor, size: int) -> Tensor:
        v_BGmHh = kv_BGm2d.chunk(2, dim=-1)[1].unflatten(-1, (self.n_heads, -1))
        p_BHGsm = _segments(p_BHnm, size)
        return torch.einsum("bhgsm,bgmhe->bhgse", p_BHGsm, v_BGmHh).flatten(2, 3)[:, :, : p_BHnm.shape[2]]

    def _graph(self, edge_Bnn: Tensor | None, p_BHnc: Tensor, idx_Bnk: Tensor, valid_Bnk: Tensor) -> Graph | None:
        n, k = idx_Bnk.shape[1:]
        index = idx_Bnk.masked_fill(~valid_Bnk, n)
        if self.attention_graph:
            return Graph(index, p_BHnc[..., :k].mean(dim=1))
        if edge_Bnn is None:
            return None
        return Graph(index, normalise(edge_Bnn.gather(-1, idx_Bnk), self.activation, valid_Bnk))


def age_bias(n_heads: int, ages: tuple[int, ...], strength: float) -> Tensor:
    """Initial bias [H, w]: the first half of the heads leans towards the entries of age 1, 2, ..., a head each.

    From equal heads the cue to the immediate neighbours has to be found first, and recall waits for it. The other
    half starts free: under a sparse activation a leaning head gives far keys and memory slots no gradient at all.
    """
    bias_Hw = torch.zeros(n_heads, len(ages))
    for head, age in zip(range(n_heads // 2), (a for a in ages if a > 0), strict=False):
        bias_Hw[head, ages.index(age)] = strength
    return bias_Hw


def offsets(cache: int, causal: bool) -> tuple[int, ...]:
    """Ages of the cache's entries: 0..w-1 looking back, or -(w-1)..w-1 around a bidirectional token."""
    return tuple(range(cache)) if causal else tuple(range(1 - cache, cache))


def _segments(x_BHnx: Tensor, size: int) -> Tensor:
    """[B, H, n, x] -> [B, H, G, size, x], padded with zeros at the end."""
    padded_BHnx = nn.functional.pad(x_BHnx, (0, 0, 0, -x_BHnx.shape[2] % size))
    return padded_BHnx.view(*x_BHnx.shape[:2], -1, size, x_BHnx.shape[3])


@lru_cache(maxsize=1024)
@lru_cache(maxsize=4096)
def sparse_pairs(n: int, top_k: int, cache: int, causal: bool) -> tuple[int, int, int]:
    """(visible, cached, selected) query-key pairs of a sequence of n tokens.

    Visible pairs are scored for selection; the cached ones are read without being selected; of the others each query
    reads the `top_k` best, or all where there are fewer.
    """
    seen = np.arange(1, n + 1) if causal else np.full(n, n)
    at = np.arange(n)[:, None] - np.asarray(offsets(cache, causal), dtype=np.int64)[None, :]
    near = ((at >= 0) & (at < n)).sum(axis=1)
    return int(seen.sum()), int(near.sum()), int(np.minimum(top_k, seen - near).sum())


def sparse_attention_cost(
    shape: Shape, d_model: int, *, top_k: int, cache: int, edge_rank: int, slots: int, segment: int
) -> Cost:
    """Projections, selection scores over all visible pairs, then scores and values of the c columns really read.

    Selection itself has no gradient: of the scored pairs only the selected ones are charged in the backward pass.
    Executed: this path multiplies full n x n matrices.
    """
    n, rank = shape.length, edge_rank or d_model
    causal = shape.causal
    visible, near, chosen = sparse_pairs(n, top_k, cache, causal)
    groups = -(-n // segment) if causal else 1
    padded = groups * segment if causal else n
    reading = max(0, n - segment) if causal else n
    read = chosen + near + slots * reading
    # Without a graph the heads' own scores select: they are charged once, for all visible pairs.
    scored = read if edge_rank else slots * reading
    selection = Cost(
        name="selection",
        flops=2.0 * rank * visible,
        backward=4.0 * rank * (chosen + near),
        executed=2.0 * rank * n * n,
        bytes_moved=4.0 * n * n + 12.0 * n * top_k,
    )
    dense = (2 if edge_rank else 1) * n * n
    attention = Cost(
        name="scores_values",
        flops=2.0 * d_model * (scored + read),
        executed=2.0 * d_model * (dense + 2 * slots * padded),
    )
    return group(
        "attention",
        linear("qkv", n, d_model, 3 * d_model),
        Cost(name="slot_projection", flops=4.0 * groups * slots * d_model * d_model),
        selection,
        attention,
        linear("out", n, d_model, d_model),
    )
