"""What the heads of ReSSFormer's attention look up: a table of keys and values, and each query's columns in it.

The table holds the n tokens, then, where the cache is of the step before, the n tokens as they were there, then the
memory's slots. A column names an entry of the table; -1 names none.

Shapes: B batch, n length, H heads, h head width, r edge rank, w cache entries, m slots, S slots of all groups,
c columns. With keys per head, the heads are folded into the batch: B is then B H, and H is 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ressformer.layers.sparse.gather import Columns, columns, gather_dot, near_index
from ressformer.layers.sparse.memory import Memory

Factors = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class TokenCache:
    """Holds what a step's tokens are to the next: keys and values [B, H, n, h], the edges' factor b [B, n, r]."""

    k_BHnh: Tensor
    v_BHnh: Tensor
    b_Bnr: Tensor | None


@dataclass(frozen=True)
class Heads:
    """Holds what the queries of a step are scored with.

    Attributes:
        q, k, v: of the tokens, [B, H, n, h]; q is scaled.
        k_all, v_all: the table's keys and values.
        edges: the factors (a, b) of the tokens' edges, or None.
        b_all: b of the table's tokens, those of the step before included, or None.
        age_bias: what is added to the scores of the cache, [H, 1, w] or [B, H, 1, w], or None.
        mask_Bn: True at real tokens, or None.
        earlier: whether the table holds the tokens of the step before.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    k_all: Tensor
    v_all: Tensor
    edges: Factors | None
    b_all: Tensor | None
    age_bias: Tensor | None
    mask_Bn: Tensor | None
    earlier: bool

    @property
    def first_slot(self) -> int:
        """The table's entry that the first slot is."""
        return self.k.shape[2] * (2 if self.earlier else 1)


def make_heads(
    qkv: tuple[Tensor, Tensor, Tensor],
    slots: tuple[Tensor, Tensor] | None,
    edges: Factors | None,
    before: TokenCache | None,
    age_bias_Hw: Tensor | None,
    mask_Bn: Tensor | None,
) -> Heads:
    """Lays out the table.

    Args:
        qkv: each [B, H, n, h].
        slots: keys and values of the slots, each [B, H, S, h], or None.
        before: the tokens of the step before, or None: the cache is of this step.
    """
    q, k, v = qkv
    k_all, v_all, b_all = k, v, None if edges is None else edges[1]
    if before is not None:
        k_all, v_all = torch.cat([k, before.k_BHnh], dim=2), torch.cat([v, before.v_BHnh], dim=2)
        if b_all is not None and before.b_Bnr is not None:
            b_all = torch.cat([b_all, before.b_Bnr], dim=1)
    if slots is not None:
        k_all, v_all = (torch.cat([t, s], dim=2) for t, s in zip((k_all, v_all), slots, strict=True))
    bias = None if age_bias_Hw is None else age_bias_Hw.unsqueeze(1)
    return Heads(q, k, v, k_all, v_all, edges, b_all, bias, mask_Bn, before is not None)


def fold_heads(heads: Heads) -> Heads:
    """Folds the heads into the batch, so that each may have columns of its own."""
    batch, count = heads.q.shape[:2]

    def folded(t_BHxx: Tensor) -> Tensor:
        return t_BHxx.flatten(0, 1).unsqueeze(1)

    def repeated(t_Bx: Tensor) -> Tensor:
        return t_Bx.repeat_interleave(count, dim=0)

    tables: dict[str, Any] = {key: folded(getattr(heads, key)) for key in ("q", "k", "v", "k_all", "v_all")}
    return replace(
        heads,
        **tables,
        edges=None if heads.edges is None else (repeated(heads.edges[0]), repeated(heads.edges[1])),
        b_all=None if heads.b_all is None else repeated(heads.b_all),
        age_bias=None if heads.age_bias is None else heads.age_bias.repeat(batch, 1, 1).unsqueeze(1),
        mask_Bn=None if heads.mask_Bn is None else repeated(heads.mask_Bn),
    )


def own_scores(heads: Heads) -> Factors:
    """Returns factors of the score that each folded head attends with, q . k and, where there is a graph, the edge."""
    q_Bnh, k_Bnh = heads.q.squeeze(1), heads.k.squeeze(1)
    if heads.edges is None:
        return q_Bnh, k_Bnh
    a_Bnr, b_Bnr = heads.edges
    return torch.cat([q_Bnh, a_Bnr], dim=-1), torch.cat([k_Bnh, b_Bnr], dim=-1)


def direct_columns(heads: Heads, ages: tuple[int, ...], memory: Memory | None) -> Tensor | None:
    """Lists the columns read without being selected, [B, n, w + m]: the cache by age, then slots."""
    batch, _, n, _ = heads.q.shape
    parts = []
    if ages:
        near_nw = near_index(n, ages, heads.q.device)
        near_nw = near_nw.masked_fill(near_nw >= n, -1)
        near_Bnw = near_nw.expand(batch, -1, -1)
        if heads.mask_Bn is not None:
            near_Bnw = near_Bnw.masked_fill(~heads.mask_Bn[:, near_nw.clamp_min(0)], -1)
        if heads.earlier:
            # The token itself is read as it is now, the others as they were.
            shift_w = torch.tensor([n if age else 0 for age in ages], device=heads.q.device)
            near_Bnw = torch.where(near_Bnw < 0, -1, near_Bnw + shift_w)
        parts.append(near_Bnw)
    if memory is not None:
        slots = memory.slots_BGmd.shape[2]
        group_n1 = (torch.arange(n, device=heads.q.device) // memory.size).unsqueeze(1)
        slot_nm = heads.first_slot + group_n1 * slots + torch.arange(slots, device=heads.q.device)
        parts.append(slot_nm.masked_fill(~memory.readable_n.unsqueeze(1), -1).expand(batch, -1, -1))
    return torch.cat(parts, dim=-1) if parts else None


def column_scores(heads: Heads, idx_Bnc: Tensor, ages: int, selected: int) -> tuple[Tensor, Columns, Tensor | None]:
    """Scores columns: selected keys, then the cache, then slots.

    Args:
        ages, selected: how many columns are the cache's, and how many selected.

    Returns:
        Scores [B, H, n, c], their columns, and the edges of selected keys and cache.
    """
    cols = columns(idx_Bnc, heads.k_all.shape[2])
    z_BHnc = gather_dot(heads.q, heads.k_all, cols)
    ours = selected + ages
    e_B1nc, bias = None, None
    if heads.edges is not None and heads.b_all is not None and ours:
        a_B1nr, b_B1nr = heads.edges[0].unsqueeze(1), heads.b_all.unsqueeze(1)
        e_B1nc = bias = gather_dot(a_B1nr, b_B1nr, columns(idx_Bnc[..., :ours], b_B1nr.shape[2]))
    if heads.age_bias is not None:
        age_H1c = nn.functional.pad(heads.age_bias, (selected, 0))
        bias = age_H1c if bias is None else bias + age_H1c
    if bias is not None:
        z_BHnc = z_BHnc + nn.functional.pad(bias, (0, idx_Bnc.shape[-1] - ours))
    return z_BHnc, cols, e_B1nc
