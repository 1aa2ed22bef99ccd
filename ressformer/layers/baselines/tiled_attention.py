"""Attention in pieces: the kernel under windows, block-sparse and LSH attention, in O(n) time and memory.

A *piece* is a batch of equal tiles (`rows` queries against `keys` keys): one call of a fused kernel on strided
views, so nothing is copied and no mask grows with n. A query row belongs to one or more pieces; their softmaxes
are joined by log-sum-exp. Handing the kernel's backward pass the joint output and log-sum-exp makes each piece's
gradient that of the joint softmax (as in ring attention, 2310.01889).

Shapes: B batch, H heads, Z = B * H, n length, h head width, T tiles, c rows of a tile, l keys of a tile, r key
blocks of a tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

FUSED_DEVICE = "cpu"  # whose kernel takes masks and hands out the log-sum-exp; elsewhere products are explicit
SPLIT = 32
HIDDEN = -1e30  # finite, so that a row that sees nothing but padding stays finite


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """Attends with a softmax and returns its normaliser, too.

    Args:
        q: [*, T, c, h], 4-D; k, v: [*, T, l, h]; mask: additive, 2-D or 4-D, or None.
        scale: factor of the scores.

    Returns:
        Output [*, T, c, h], log-sum-exp of the scores [*, T, c], and what the backward pass can reuse: None on
        CPU, where the fused kernel recomputes it, elsewhere the attention weights.
    """
    if q.device.type == FUSED_DEVICE:
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, lse = fused(q, k, v, 0.0, False, attn_mask=mask, scale=scale)
        return out, lse, None
    scores = q @ k.mT * scale
    scores = scores if mask is None else scores + mask
    lse = scores.logsumexp(-1)
    weights = (scores - lse[..., None]).exp()
    return weights @ v, lse, weights


def attend_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    mask: Tensor | None,
    scale: float,
    local: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the gradients of `attend` for q, k, v; `out` and `lse` may be those of a softmax joint with other keys.

    `local`: weights and log-sum-exp of the forward call, where it returned weights.
    """
    if local is None:
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        dq, dk, dv = fused(grad, q, k, v, out, lse, 0.0, False, attn_mask=mask, scale=scale)
        return dq, dk, dv
    weights = local[0] * (local[1] - lse).exp()[..., None]
    ds = weights * (grad @ v.mT - (grad * out).sum(-1, keepdim=True)) * scale
    return ds @ k, ds.mT @ q, weights.mT @ grad


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Describes `tiles` tiles of `rows` queries from token `start`, each against `keys` keys from token `key`.

    From tile to tile both move on by `rows * stride` tokens, from row to row by `stride`.

    Attributes:
        mask_cl: additive, shared by all tiles.
        blocks_HTr: take these blocks of `rows` keys each, instead of keys in a row.
        join: these rows have already been visited by another piece.
    """

    start: int
    rows: int
    keys: int
    key: int = 0
    tiles: int = 1
    stride: int = 1
    mask_cl: Tensor | None = None
    blocks_HTr: Tensor | None = None
    join: bool = False

    @property
    def pairs(self) -> int:
        """Counts the query-key pairs handed to the kernel, masked ones included."""
        return self.tiles * self.rows * self.keys

    def _view(self, x_Znh: Tensor, start: int, rows: int) -> Tensor:
        z, n, h = x_Znh.shape
        strides = (n * h, self.rows * self.stride * h, self.stride * h, 1)
        return _turned(x_Znh.as_strided((z, self.tiles, rows, h), strides, x_Znh.storage_offset() + start * h))

    def calls(self, z: int) -> list[slice]:
        """Says which rows of Z go to the kernel together.

        It lays out its results as [batch, c, heads, h]: many tiles as heads would scatter them in memory. So these go
        row by row, tiles as batch; few tiles go with all rows at once.
        """
        return [slice(i, i + 1) for i in range(z)] if self.tiles >= SPLIT and self.blocks_HTr is None else [slice(0, z)]

    def _table(self, x_Znh: Tensor, blocks_HTr: Tensor) -> tuple[Tensor, Tensor]:
        """Views the tensor as a table of blocks [Z * n / c, c * h]; returns it and the rows that the tiles read."""
        z, n, h = x_Znh.shape
        base_Z11 = (n // self.rows) * torch.arange(z, device=x_Znh.device)[:, None, None]
        index_ZTr = blocks_HTr.repeat(z // blocks_HTr.shape[0], 1, 1) + base_Z11
        return x_Znh.view(-1, self.rows * h), index_ZTr.view(-1)

    def queries(self, x_Znh: Tensor) -> Tensor:
        """Views the tiles' query rows, [Z, T, c, h], in a contiguous tensor."""
        return self._view(x_Znh, self.start, self.rows)

    def take(self, x_Znh: Tensor) -> Tensor:
        """Returns the tiles' keys, [Z, T, l, h]; a view (windows overlap) unless they come by blocks."""
        if self.blocks_HTr is None:
            return self._view(x_Znh, self.key, self.keys)
        table, index = self._table(x_Znh, self.blocks_HTr)
        return _turned(table.index_select(0, index).view(len(x_Znh), self.tiles, self.keys, -1))

    def give(self, x_Znh: Tensor, grad_ZTlh: Tensor) -> None:
        """Adds the gradients of the tiles' keys to `x_Znh`."""
        if self.blocks_HTr is not None:
            table, index = self._table(x_Znh, self.blocks_HTr)
            table.index_add_(0, index, grad_ZTlh.reshape(-1, table.shape[1]))
            return
        # Whole windows overlap, which an in-place sum may not; parts no longer than the tiles' distance do not.
        step = self.rows if self.tiles > 1 else self.keys
        for a in range(0, self.keys, step):
            part = grad_ZTlh[:, :, a : a + step]
            self._view(x_Znh, self.key + a * self.stride, part.shape[2]).add_(part)

    def mask(self, bias_Zn: Tensor | None) -> Tensor | None:
        """Returns the additive mask, with the keys' own bias where there is one."""
        if bias_Zn is None:
            return self.mask_cl
        bias_ZT1l = self.take(bias_Zn[..., None]).mT
        return bias_ZT1l if self.mask_cl is None else bias_ZT1l + self.mask_cl


def _turned(x_ZTch: Tensor) -> Tensor:
    """Makes a single row's tiles the batch."""
    return x_ZTch.transpose(0, 1) if len(x_ZTch) == 1 else x_ZTch


class _JointAttention(torch.autograd.Function):
    """Attends over pieces with one softmax per query row; saves inputs, output and log-sum-exp only (CPU)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, pieces: tuple[Piece, ...]) -> Tensor:
        """Takes q, k, v [Z, n, h] contiguous and bias [Z, n] additive per key or None; returns [Z, n, h]."""
        scale = q.shape[-1] ** -0.5
        out, local = torch.empty_like(q), []
        lse = q.new_empty(*q.shape[:2], 1, dtype=torch.promote_types(q.dtype, torch.float32))
        for p in pieces:
            for z in p.calls(len(q)):
                mask = p.mask(None if bias is None else bias[z])
                o, s, weights = attend(p.queries(q[z]), p.take(k[z]), p.take(v[z]), mask, scale)
                local.append(None if weights is None else (weights, s))
                out_p, lse_p, s = p.queries(out[z]), p.queries(lse[z]), s[..., None]
                if p.join:
                    joint = torch.logaddexp(lse_p, s)
                    o, s = o * (s - joint).exp() + out_p * (lse_p - joint).exp(), joint
                out_p.copy_(o)
                lse_p.copy_(s)
        ctx.save_for_backward(q, k, v, bias, out, lse)
        ctx.rest = pieces, scale, local
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias, out, lse = ctx.saved_tensors
        pieces, scale, local = ctx.rest
        grad, local = grad.contiguous(), iter(local)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for p in pieces:
            for z in p.calls(len(q)):
                mask = p.mask(None if bias is None else bias[z])
                tiles = (p.queries(q[z]), p.take(k[z]), p.take(v[z]), p.queries(out[z]), p.queries(lse[z])[..., 0])
                dq_p, dk_p, dv_p = attend_backward(p.queries(grad[z]), *tiles, mask, scale, next(local))
                queries = p.queries(dq[z])
                queries.add_(dq_p) if p.join else queries.copy_(dq_p)
                p.give(dk[z], dk_p)
                p.give(dv[z], dv_p)
        return dq, dk, dv, None, None


def joint_attention(
    q_BHnh: Tensor, k_BHnh: Tensor, v_BHnh: Tensor, bias_Bn: Tensor | None, pieces: tuple[Piece, ...]
) -> Tensor:
    """Attends over pieces, scores scaled by 1/sqrt(h); `bias_Bn` is added to the scores of each key."""
    B, H, n, h = q_BHnh.shape
    bias_Zn = None if bias_Bn is None else bias_Bn.repeat_interleave(H, 0)
    flat = (x.reshape(B * H, n, h).contiguous() for x in (q_BHnh, k_BHnh, v_BHnh))
    out_Znh: Tensor = _JointAttention.apply(*flat, bias_Zn, pieces)  # type: ignore[no-untyped-call]
    return out_Znh.view(B, H, n, h)


def key_bias(mask_Bn: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns 0 at real tokens, `HIDDEN` at padding."""
    return torch.zeros_like(mask_Bn, dtype=dtype).masked_fill(~mask_Bn, HIDDEN)


def replace_first(
    out_BHnh: Tensor, q_BHgh: Tensor, k_BHnh: Tensor, v_BHnh: Tensor, bias_Bn: Tensor | None, causal: bool
) -> Tensor:
    """Returns the output with its first g rows attending to everything (causal: to all up to themselves)."""
    g = q_BHgh.shape[2]
    if causal:
        first = scaled_dot_product_attention(q_BHgh, k_BHnh[:, :, :g], v_BHnh[:, :, :g], is_causal=True)
    else:
        mask_B11n = None if bias_Bn is None else bias_Bn[:, None, None]
        first = scaled_dot_product_attention(q_BHgh, k_BHnh, v_BHnh, attn_mask=mask_B11n)
    return torch.cat([first, out_BHnh[:, :, g:]], dim=2)


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns 0 where `seen`, -inf elsewhere."""
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, -math.inf)
