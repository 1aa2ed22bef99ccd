"""ASAM, the adaptive sparse attention module (paper 3.2, eq. 4 and 5), over selected keys, token cache and memory.

Each query attends to three sets of keys, normalised together by a sparse activation (eq. 4):
  1. selected keys, chosen first, activation on the survivors (1912.11637). The score that selects is the induced
     graph's edge, or the head-summed q.k where there is no graph; with `top_k_per_head` each head selects keys of its
     own (token only), by the score that it attends with: q.k and, where there is a graph, the edge. What is selected
     (eq. 5):
       token  the k visible keys of highest score; exact, in time n^2 r / 2 and memory linear in n;
       block  whole blocks of keys, the own block and the best others: time and memory linear in n, but for one score
              a pair of blocks (`block_attention`);
       all    every visible key: the dense control;
  2. the token cache: the w most recent tokens, self included. A cache is an ordered buffer, so its entries know
     their age: one learned bias a head and age. With the cache off, the query itself is always kept. With
     `cache_step=previous` all but the query itself are read as they were at the step before (keys, values and edges;
     at the first step, which has none before it, as they are), and their present state is not read;
  3. the m memory slots that the token may read. Slots and cache bypass the selection.

Keys in the cache are not selected a second time. Without cache there is no notion of order anywhere: run
bidirectionally, the module is permutation-equivariant (with blocks: under permutations of and within blocks).

Selected tokens are attended to in PyTorch operators, or, on a CPU, in the kernel of `native.attention` that fuses
them.

Shapes: B batch, n length, d width, H heads, h head width, r edge rank, k selected keys, w cache entries, m slots,
G memory groups, c columns; b block, N blocks, L keys of the chosen blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ressformer.decoder import init_linear
from ressformer.layers.attention import merge_heads, split_heads
from ressformer.layers.native.attention import AttentionSpec, fused_attention
from ressformer.layers.native.loader import Kernels, eager_kernels
from ressformer.layers.sparse.block_attention import chosen_attention, edge_bias
from ressformer.layers.sparse.block_selection import all_blocks, choose_blocks, hidden_keys
from ressformer.layers.sparse.config import SelectionConfig, cache_ages
from ressformer.layers.sparse.entmax import normalise
from ressformer.layers.sparse.gather import gather_sum
from ressformer.layers.sparse.graph import BlockGraph, Graph
from ressformer.layers.sparse.heads import (
    Factors,
    Heads,
    TokenCache,
    column_scores,
    direct_columns,
    fold_heads,
    make_heads,
    own_scores,
)
from ressformer.layers.sparse.key_selection import select_keys
from ressformer.layers.sparse.memory import Memory


@dataclass
class AttentionOutput:
    """Holds what the attention returns: output [B, n, d], the graph it used, diagnostics, the next step's cache."""

    y_Bnd: Tensor
    graph: Graph | BlockGraph | None = None
    support: Tensor | None = None
    full: Tensor | None = None
    cache: TokenCache | None = None


class SparseAttention(nn.Module):
    """Attends over selected keys, cache and memory.

    Args:
        d_model, n_heads: d and H.
        config: what is selected, and how.
        causal: position i sees j <= i; the cache then looks back only, otherwise both ways.
    """

    def __init__(
        self, d_model: int, n_heads: int, config: SelectionConfig, *, causal: bool, out_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.n_heads, self.config, self.causal = n_heads, config, causal
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        init_linear(self.qkv.weight)
        init_linear(self.out.weight, scale=out_scale)
        self.ages = cache_ages(config.cache, causal)
        self.age_bias_Hw = nn.Parameter(age_bias(n_heads, self.ages, config.cache_lean)) if config.cache else None

    def forward(
        self,
        x_Bnd: Tensor,
        mask_Bn: Tensor | None,
        edges: Factors | None,
        memory: Memory | None,
        *,
        before: TokenCache | None = None,
        diagnose: bool = False,
        want_graph: bool = True,
    ) -> AttentionOutput:
        """Attends.

        Args:
            x_Bnd: normalised hidden states.
            mask_Bn: True at real tokens, or None.
            edges: the graph's factors (a, b), each [B, n, r], or None.
            memory: the slots and who may read them, or None.
            before: what this attention returned as `cache` at the step before; None at the first.
            diagnose: with tokens, also return the mean support and the share of rows whose support fills all k.
            want_graph: return the graph, too.
        """
        d = x_Bnd.shape[-1]
        qkv_Bn3d = self.qkv(x_Bnd)
        slots_BS2d = None
        if memory is not None:
            slots_BS2d = nn.functional.linear(memory.slots_BGmd, self.qkv.weight[d:]).flatten(1, 2)
        q_Bnd, k_Bnd, v_Bnd = qkv_Bn3d.chunk(3, dim=-1)
        q_Bnd = q_Bnd / math.sqrt(d // self.n_heads)
        choosing = edges if edges is not None else (q_Bnd, k_Bnd)
        config = self.config
        if config.selection == "token" and not config.top_k_per_head and config.cache_step == "current":
            lib = eager_kernels("attention", qkv_Bn3d, slots_BS2d, *(edges or ()), self.age_bias_Hw)
            if lib is not None:
                return self._fused(lib, qkv_Bn3d, slots_BS2d, edges, choosing, memory, mask_Bn, diagnose, want_graph)
        q, k, v = (split_heads(t, self.n_heads) for t in (q_Bnd, k_Bnd, v_Bnd))
        slots: tuple[Tensor, Tensor] | None = None
        if slots_BS2d is not None:
            slot_k, slot_v = (split_heads(t, self.n_heads) for t in slots_BS2d.chunk(2, dim=-1))
            slots = slot_k, slot_v
        heads = make_heads((q, k, v), slots, edges, before, self.age_bias_Hw, mask_Bn)
        if config.top_k_per_head:
            heads = fold_heads(heads)
            choosing = own_scores(heads)
        direct_Bnc = direct_columns(heads, self.ages, memory)
        if config.selection == "token":
            attended = self._tokens(heads, choosing, direct_Bnc, diagnose, want_graph)
        else:
            attended = self._blocks(heads, choosing, direct_Bnc, want_graph)
        attended.y_Bnd = self.out(attended.y_Bnd)
        if config.cache_step == "previous":
            attended.cache = TokenCache(k, v, None if edges is None else edges[1])
        return attended

    def _fused(
        self,
        lib: Kernels,
        qkv_Bn3d: Tensor,
        slots_BS2d: Tensor | None,
        edges: Factors | None,
        choosing: Factors,
        memory: Memory | None,
        mask_Bn: Tensor | None,
        diagnose: bool,
        want_graph: bool,
    ) -> AttentionOutput:
        """Does what `_tokens` does, through the kernel of `native.attention`."""
        config = self.config
        graph = "attention" if config.attention_graph else "edges" if edges is not None else "none"
        spec = AttentionSpec(
            n_heads=self.n_heads,
            ages=self.ages,
            slots=0 if memory is None else memory.slots_BGmd.shape[2],
            segment=1 if memory is None else memory.size,
            causal=self.causal,
            activation=config.activation,
            graph=graph if want_graph else "none",
        )
        idx_Bnk = select_keys(*choosing, config.top_k, near=config.cache, causal=self.causal, mask_Bn=mask_Bn)
        operands = qkv_Bn3d, slots_BS2d, edges, self.age_bias_Hw, idx_Bnk, mask_Bn
        y_Bnd, weight_Bnk, p_BnHc = fused_attention(lib, *operands, spec)
        attended = AttentionOutput(self.out(y_Bnd))
        if weight_Bnk is not None:
            attended.graph = Graph(idx_Bnk, weight_Bnk, ascending=True)
        if diagnose:
            attended.support, attended.full = supports(p_BnHc, idx_Bnk.shape[-1])
        return attended

    def _tokens(
        self, heads: Heads, choosing: Factors, direct_Bnc: Tensor | None, diagnose: bool, want_graph: bool
    ) -> AttentionOutput:
        config, n = self.config, heads.q.shape[2]
        idx_Bnk = select_keys(*choosing, config.top_k, near=config.cache, causal=self.causal, mask_Bn=heads.mask_Bn)
        k = idx_Bnk.shape[-1]
        found_Bnc = idx_Bnk.masked_fill(idx_Bnk == n, -1)
        found_Bnc = found_Bnc if direct_Bnc is None else torch.cat([found_Bnc, direct_Bnc], dim=-1)
        z_BHnc, cols, e_B1nc = column_scores(heads, found_Bnc, len(self.ages), k)
        p_BHnc = normalise(z_BHnc, config.activation, cols.valid_Bnc.unsqueeze(1))
        y_BHnh = gather_sum(p_BHnc, heads.v_all, cols)
        attended = AttentionOutput(merge_heads(y_BHnh.view(-1, self.n_heads, *y_BHnh.shape[2:])))
        if want_graph and config.attention_graph:
            attended.graph = Graph(idx_Bnk, p_BHnc[..., :k].mean(dim=1), ascending=True)
        elif want_graph and e_B1nc is not None:
            weight_Bnk = normalise(e_B1nc[:, 0, :, :k], config.activation, cols.valid_Bnc[..., :k])
            attended.graph = Graph(idx_Bnk, weight_Bnk, ascending=True)
        if diagnose:
            attended.support, attended.full = supports(p_BHnc, k)
        return attended

    def _blocks(self, heads: Heads, choosing: Factors, direct_Bnc: Tensor | None, want_graph: bool) -> AttentionOutput:
        config, (batch, _, n, _) = self.config, heads.q.shape
        size = min(config.block, n)
        if config.selection == "all":
            chosen_BNm = all_blocks(batch, n, block=size, causal=self.causal, device=heads.q.device)
        else:
            a, b = choosing
            chosen_BNm = choose_blocks(a, b, config.blocks, block=size, causal=self.causal, mask_Bn=heads.mask_Bn)
        hidden = hidden_keys(chosen_BNm, n, block=size, causal=self.causal, near=config.cache, mask_Bn=heads.mask_Bn)
        bias = None
        if heads.edges is not None:
            bias = edge_bias(*heads.edges, chosen_BNm, size).masked_fill(hidden, -torch.inf)
        extra = None
        if direct_Bnc is not None:
            z_BHnc, cols, _ = column_scores(heads, direct_Bnc, len(self.ages), 0)
            extra = z_BHnc.masked_fill(~cols.valid_Bnc.unsqueeze(1), -torch.inf)
        y_BHnh, p_BHnc, mean_BNbL = chosen_attention(
            heads.q,
            heads.k,
            heads.v,
            chosen_BNm,
            block=size,
            activation=config.activation,
            hidden_BNbL=hidden if bias is None else None,
            bias_BNbL=bias,
            extra_BHnc=extra,
            graph=want_graph and config.attention_graph,
        )
        if p_BHnc is not None:
            y_BHnh = y_BHnh + gather_sum(p_BHnc, heads.v_all, cols)
        attended = AttentionOutput(merge_heads(y_BHnh))
        weight_BNbL = mean_BNbL
        if want_graph and not config.attention_graph and bias is not None:
            weight_BNbL = normalise(bias, config.activation, ~hidden)
        if weight_BNbL is not None:
            attended.graph = BlockGraph(chosen_BNm, weight_BNbL, ~hidden, n)
        return attended


def supports(p: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Measures the mean support of rows [..., c] of weights, and the share that fill their first k, the selected keys.

    A full row may have been cut by the top-k; where rows are never full, k could be larger at no effect.
    """
    kept = p > 0
    return kept.sum(-1).float().mean(), kept[..., :k].all(-1).float().mean()


def age_bias(n_heads: int, ages: tuple[int, ...], strength: float) -> Tensor:
    """Makes the initial bias [H, w]: the first half of the heads leans towards age 1, 2, ..., a head each.

    From equal heads the cue to the immediate neighbours has to be found first, and recall waits for it. The other
    half starts free: under a sparse activation a leaning head gives far keys and memory slots no gradient at all.
    """
    bias_Hw = torch.zeros(n_heads, len(ages))
    for head, age in zip(range(n_heads // 2), (a for a in ages if a > 0), strict=False):
        bias_Hw[head, ages.index(age)] = strength
    return bias_Hw
