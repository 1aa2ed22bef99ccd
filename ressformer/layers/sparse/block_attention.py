"""Attention to whole blocks of keys that each block of queries chooses for itself (as in 2502.11089 and 2502.13189).

Tokens are cut into blocks of b. All queries of a block read the same m blocks: their own, and the m - 1 others of
highest score (`block_selection`). Inside the blocks any activation is exact.

Nothing of size n x n is held: blocks go through in groups whose scores stay in cache, n m b scores are kept for the
backward pass. A block's result does not depend on which group it is in.

Shapes: B batch, H heads, n length, h head width, r rank, b block, N = ceil(n / b) blocks, m chosen blocks, L = m b
keys, G = B N query blocks, c further columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ressformer.layers.compiler import outside_compiler
from ressformer.layers.sparse.block_selection import choose_blocks, hidden_keys, merge_blocks, split_blocks
from ressformer.layers.sparse.entmax import backward_rows, forward_rows

# Scores held at a time: 1 MB in fp32 on CPU, where they stay in the second-level cache.
_HELD = {"cpu": 2**18}
_HELD_ELSEWHERE = 2**26


def edge_bias(a_Bnr: Tensor, b_Bnr: Tensor, chosen_BNm: Tensor, block: int) -> Tensor:
    """Computes the edges a_i . b_j on the keys of the chosen blocks, [B, N, b, L]."""
    batch, number, m = chosen_BNm.shape
    b_GLr = _Table(chosen_BNm, 1, block).take(split_blocks(b_Bnr, block).flatten(1))
    e_GbL = split_blocks(a_Bnr, block) @ b_GLr.view(batch * number, m * block, -1).mT
    return e_GbL.view(batch, number, block, m * block)


class _Table:
    """Keeps which blocks of keys, rows of a table [G * H, b * h], each query block reads."""

    def __init__(self, chosen_BNm: Tensor, heads: int, block: int) -> None:
        batch, number, m = chosen_BNm.shape
        first_B11 = torch.arange(batch, device=chosen_BNm.device).view(-1, 1, 1) * number
        # Blocks that do not exist are read as any other and hidden.
        row_Gm = (chosen_BNm.clamp_max(number - 1) + first_B11).view(batch * number, 1, m)
        self.row_GHm = row_Gm * heads + torch.arange(heads, device=chosen_BNm.device).view(1, -1, 1)

    def take(self, table: Tensor, groups: slice = slice(None)) -> Tensor:
        return table.index_select(0, self.row_GHm[groups].reshape(-1))

    def give(self, table: Tensor, rows: Tensor, groups: slice) -> None:
        table.index_add_(0, self.row_GHm[groups].reshape(-1), rows.reshape(-1, table.shape[1]))


@dataclass(frozen=True)
class _Plan:
    """Holds what `_BlockAttention` needs beside its operands."""

    table: _Table
    activation: str
    hidden_GbL: Tensor | None
    graph: bool
    # Query blocks of a sequence, where nothing but the future and blocks that do not exist is hidden; else 0.
    plain: int
    scale: float

    def hide_(self, z_gHbL: Tensor, g: slice) -> Tensor:
        """Sets the scores of hidden keys to -inf."""
        if self.hidden_GbL is None:
            return z_gHbL
        first, (b, L) = g.start % self.plain if self.plain else 0, z_gHbL.shape[-2:]
        if first >= L // b - 1 and first + g.stop - g.start <= self.plain:
            # All chosen blocks exist: only the own one has hidden keys.
            z_gHbL[..., L - b :].masked_fill_(self.hidden_GbL[g, :, L - b :].unsqueeze(1), -torch.inf)
            return z_gHbL
        return z_gHbL.masked_fill_(self.hidden_GbL[g].unsqueeze(1), -torch.inf)

    def groups(self, count: int, scores: int, device: torch.device) -> list[slice]:
        size = max(1, _HELD.get(device.type, _HELD_ELSEWHERE) // scores)
        return [slice(start, min(count, start + size)) for start in range(0, count, size)]


class _BlockAttention(torch.autograd.Function):
    """Turns q, k, v [G, H, b, h] into outputs; gathers, multiplies and normalises group by group, both ways."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias_GbL: Tensor | None, z_GHbc: Tensor | None, plan: _Plan
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        G, H, b, h = q.shape
        L = plan.table.row_GHm.shape[2] * b
        out, kept = torch.empty_like(q), []
        graph_GbL = q.new_empty(G, b, L) if plan.graph else None
        extra_GHbc = None if z_GHbc is None else torch.empty_like(z_GHbc)
        steps = plan.groups(G, H * b * L, q.device)
        for g in steps:
            keys = plan.table.take(k.view(G * H, -1), g).view(-1, L, h)
            z = torch.bmm(q[g].reshape(-1, b, h) * plan.scale, keys.mT).view(-1, H, b, L)
            z = plan.hide_(z if bias_GbL is None else z.add_(bias_GbL[g].unsqueeze(1)), g)
            z = z if z_GHbc is None else torch.cat([z, z_GHbc[g]], dim=-1)
            z = z.float() if z.dtype in (torch.bfloat16, torch.float16) else z  # as a softmax under autocast
            p = forward_rows(z.view(-1, z.shape[-1]), plan.activation).view_as(z)
            values = plan.table.take(v.view(G * H, -1), g).view(-1, L, h)
            out[g] = torch.bmm(p[..., :L].flatten(0, 1).to(values.dtype), values).view(-1, H, b, h)
            if extra_GHbc is not None:
                extra_GHbc[g] = p[..., L:]
            if graph_GbL is not None:
                graph_GbL[g] = p[..., :L].mean(1)
            kept.append(p)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.plan, ctx.steps, ctx.bias = plan, steps, bias_GbL is not None
        ctx.set_materialize_grads(False)
        return out, extra_GHbc, graph_GbL

    @staticmethod
    def backward(
        ctx: Any, g_out: Tensor | None, g_extra: Tensor | None, g_graph: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        plan: _Plan = ctx.plan
        G, H, b, h = q.shape
        L = plan.table.row_GHm.shape[2] * b
        g_out = torch.zeros_like(q) if g_out is None else g_out
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k).view(G * H, -1), torch.zeros_like(v).view(G * H, -1)
        columns = kept[0].shape[-1] - L if kept else 0
        d_extra = q.new_empty(G, H, b, columns) if columns else None
        d_bias = q.new_empty(G, b, L) if ctx.bias else None
        for g, p in zip(ctx.steps, kept, strict=True):
            grad, queries = g_out[g].reshape(-1, b, h), q[g].reshape(-1, b, h) * plan.scale
            keys = plan.table.take(k.view(G * H, -1), g).view(-1, L, h)
            values = plan.table.take(v.view(G * H, -1), g).view(-1, L, h)
            # Under autocast the activation is in fp32, products are not, and here autocast is off.
            low = grad.dtype
            queries, keys, values = queries.to(low), keys.to(low), values.to(low)
            plan.table.give(dv, torch.bmm(p[..., :L].flatten(0, 1).to(low).mT, grad).to(dv.dtype), g)
            dp = torch.bmm(grad, values.mT).view(-1, H, b, L).to(p.dtype)
            dp = dp if g_graph is None else dp.add_(g_graph[g].unsqueeze(1), alpha=1.0 / H)
            if d_extra is not None:
                dp = torch.cat([dp, torch.zeros_like(p[..., L:]) if g_extra is None else g_extra[g]], dim=-1)
            rows = p.shape[-1]
            dz = backward_rows(p.view(-1, rows), dp.view(-1, rows), plan.activation).view_as(p)
            scores = dz[..., :L].flatten(0, 1).to(low)
            torch.mul(torch.bmm(scores, keys).view(-1, H, b, h), plan.scale, out=dq[g])
            plan.table.give(dk, torch.bmm(scores.mT, queries).to(dk.dtype), g)
            if d_extra is not None:
                d_extra[g] = dz[..., L:]
            if d_bias is not None:
                d_bias[g] = dz[..., :L].sum(1)
        return dq, dk.view_as(k), dv.view_as(v), d_bias, d_extra, None


@outside_compiler
def chosen_attention(
    q_BHnh: Tensor,
    k_BHnh: Tensor,
    v_BHnh: Tensor,
    chosen_BNm: Tensor,
    *,
    block: int,
    activation: str,
    hidden_BNbL: Tensor | None = None,
    bias_BNbL: Tensor | None = None,
    extra_BHnc: Tensor | None = None,
    graph: bool = False,
    scale: float = 1.0,
    plain: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Attends to the chosen blocks, normalised together with further columns.

    Args:
        chosen_BNm: from `choose_blocks` or `all_blocks`.
        activation: softmax | sparsemax | entmax15.
        hidden_BNbL: from `hidden_keys`; None where the bias already hides.
        bias_BNbL: added to the scores of all heads; -inf hides.
        extra_BHnc: scores of c further columns per query and head; -inf = absent.
        graph: also return the attention, averaged over the heads.
        scale: factor of q . k.
        plain: nothing is hidden but the future and blocks that do not exist (causal, whole blocks, no padding).

    Returns:
        Outputs [B, H, n, h]; the weights of the further columns [B, H, n, c] or None; the averaged attention
        [B, N, b, L] or None.
    """
    batch, heads, n, _ = q_BHnh.shape
    table = _Table(chosen_BNm, heads, block)

    def blocks_of(x_BHnx: Tensor) -> Tensor:
        extra = -n % block
        x_BHnx = pad(x_BHnx, (0, 0, 0, extra)) if extra else x_BHnx
        x_BNHbx = x_BHnx.unflatten(2, (-1, block)).transpose(1, 2)
        blocks_GHbx: Tensor = x_BNHbx.contiguous().flatten(0, 1)
        return blocks_GHbx

    def together(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.flatten(0, 1)

    q, k, v = (blocks_of(x) for x in (q_BHnh, k_BHnh, v_BHnh))
    extra = None if extra_BHnc is None else blocks_of(extra_BHnc)
    plan = _Plan(table, activation, together(hidden_BNbL), graph, chosen_BNm.shape[1] if plain else 0, scale)
    y, p, mean = _BlockAttention.apply(q, k, v, together(bias_BNbL), extra, plan)  # type: ignore[no-untyped-call]
    y_BHnh = merge_blocks(y.transpose(1, 2), batch, n).transpose(1, 2)
    p_BHnc = None if p is None else merge_blocks(p.transpose(1, 2), batch, n).transpose(1, 2)
    return y_BHnh, p_BHnc, None if mean is None else mean.unflatten(0, (batch, -1))


def block_selected_attention(
    q_BHnh: Tensor,
    k_BHnh: Tensor,
    v_BHnh: Tensor,
    *,
    block: int = 64,
    blocks: int = 4,
    activation: str = "softmax",
    causal: bool = True,
    factors: tuple[Tensor, Tensor] | None = None,
    mask_Bn: Tensor | None = None,
) -> Tensor:
    """Lets each query attend to `blocks` blocks of `block` keys, its own included; scores are scaled by 1/sqrt(h).

    Args:
        factors: (a, b), each [B, n, r], whose products choose the blocks; None = the head-summed q . k chooses.
        mask_Bn: True at real tokens.

    Returns:
        [B, H, n, h].
    """
    n = q_BHnh.shape[2]
    a, b = factors or (q_BHnh.transpose(1, 2).flatten(2), k_BHnh.transpose(1, 2).flatten(2))
    chosen_BNm = choose_blocks(a, b, blocks, block=block, causal=causal, mask_Bn=mask_Bn)
    hidden = hidden_keys(chosen_BNm, n, block=block, causal=causal, mask_Bn=mask_Bn)
    return chosen_attention(
        q_BHnh,
        k_BHnh,
        v_BHnh,
        chosen_BNm,
        block=block,
        activation=activation,
        hidden_BNbL=hidden,
        scale=1.0 / math.sqrt(q_BHnh.shape[-1]),
        plain=causal and mask_Bn is None and n % block == 0,
    )[0]
