"""Block-sparse attention with window, global and random blocks (BigBird, 2007.14062), in O(n) time and memory.

Shapes: B batch, H heads, n length, h head width, T tiles, c rows of a tile, l keys of a tile, r random blocks.
"""

from __future__ import annotations

import functools
import random
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from ressformer.layers.baselines.tiled_attention import Piece, additive, joint_attention, key_bias, replace_first
from ressformer.layers.compiler import outside_compiler


@outside_compiler
def block_sparse_attention(
    q_BHnh: Tensor,
    k_BHnh: Tensor,
    v_BHnh: Tensor,
    *,
    block: int = 64,
    window: int = 3,
    n_global: int = 2,
    n_random: int = 3,
    seed: int = 0,
    causal: bool,
    key_mask_Bn: Tensor | None = None,
) -> Tensor:
    """BigBird attention, internal global tokens (2007.14062, section 2), scores scaled by 1/sqrt(h).

    A query of block i sees, all counted in blocks of `block` tokens,
    - causal: blocks i - window + 1 .. i (its own up to itself), blocks < n_global, and n_random of the other
      past ones;
    - bidirectional: blocks j with |i - j| <= window // 2, blocks < n_global, and n_random of the others; queries
      of global blocks see all.
    All is seen (all past, when causal) where no more than n_random others are left. The random blocks of a causal
    query depend on seed, head and i alone: neither text nor length moves them. Bidirectional ones depend on the
    number of blocks too.

    Visible pairs: `block_sparse_pairs`; causal, about n block (window - 1/2 + n_global + n_random). Executed: half
    a block more per query, plus terms that do not grow with n.

    Args:
        q_BHnh, k_BHnh, v_BHnh: queries, keys, values.
        key_mask_Bn: True at real tokens; padding is on the right. Not read when causal: no real token sees it.

    Returns:
        [B, H, n, h].

    Raises:
        ValueError: block or window below 1, an even window when bidirectional, negative n_global or n_random.
    """
    _check(block, window, n_global, n_random, causal)
    batch, heads, n, _ = q_BHnh.shape
    blocks = -(-n // block)
    if blocks <= n_global + window + n_random:
        bias_Bn = None if causal or key_mask_Bn is None else key_bias(key_mask_Bn, q_BHnh.dtype)
        mask_B11n = None if bias_Bn is None else bias_Bn[:, None, None]
        return scaled_dot_product_attention(q_BHnh, k_BHnh, v_BHnh, attn_mask=mask_B11n, is_causal=causal)
    bias_Bn, extra = None, blocks * block - n
    if not causal and (extra or key_mask_Bn is not None):
        real_Bn = q_BHnh.new_ones(batch, n, dtype=torch.bool) if key_mask_Bn is None else key_mask_Bn
        bias_Bn = key_bias(pad(real_Bn, (0, extra)), q_BHnh.dtype)
    if extra:
        q_BHnh, k_BHnh, v_BHnh = (pad(x, (0, 0, 0, extra)) for x in (q_BHnh, k_BHnh, v_BHnh))
    pieces = _plan(blocks, block, window, n_global, n_random, seed, causal, heads, q_BHnh)
    out_BHnh = joint_attention(q_BHnh, k_BHnh, v_BHnh, bias_Bn, pieces)
    if n_global and not causal:
        out_BHnh = replace_first(out_BHnh, q_BHnh[:, :, : n_global * block], k_BHnh, v_BHnh, bias_Bn, causal=False)
    return out_BHnh[:, :, :n]


def _check(block: int, window: int, n_global: int, n_random: int, causal: bool) -> None:
    if block < 1 or window < 1 or min(n_global, n_random) < 0:
        raise ValueError(
            f"block-sparse attention: block={block} and window={window} must be at least 1, n_global={n_global} "
            f"and n_random={n_random} at least 0"
        )
    if not causal and window % 2 == 0:
        raise ValueError(f"block-sparse attention: a bidirectional window is odd, got window={window}")


def _plan(
    blocks: int,
    b: int,
    window: int,
    n_global: int,
    n_random: int,
    seed: int,
    causal: bool,
    heads: int,
    like: Tensor,
) -> tuple[Piece, ...]:
    """Lays out head rows, tiles of one block, tail rows (bidirectional); then globals and random blocks, joined on."""
    half = 0 if causal else window // 2
    head = n_global + (window + n_random if causal else half)  # causal: up to here everything past is seen
    end = blocks - half

    def mask(rows: range, keys: range) -> Tensor:
        i_c = torch.arange(rows.start * b, rows.stop * b, device=like.device)[:, None]
        j_l = torch.arange(keys.start * b, keys.stop * b, device=like.device)
        near_cl = i_c >= j_l if causal else (i_c // b - j_l // b).abs() <= half
        return additive(near_cl if causal else near_cl | (j_l < n_global * b), like.dtype)

    def piece(rows: range, keys: range) -> Piece:
        sizes = len(rows) * b, len(keys) * b
        return Piece(start=rows.start * b, key=keys.start * b, rows=sizes[0], keys=sizes[1], mask_cl=mask(rows, keys))

    pieces = [piece(range(head), range(head + half))] if head else []
    first = head - (window - 1 if causal else half)
    own = mask(range(window - 1, window), range(window)) if causal else None
    pieces.append(Piece(start=head * b, key=first * b, rows=b, keys=window * b, tiles=end - head, mask_cl=own))
    if half:
        pieces.append(piece(range(end, blocks), range(end - half, blocks)))
    if n_global:
        rows = (blocks - head) * b
        pieces.append(Piece(start=head * b, rows=rows, keys=n_global * b, join=True))
    if n_random:
        first = head if causal else n_global
        chosen = _random_blocks(heads, first, blocks, window, n_global, n_random, seed, causal)
        table_HTr = torch.from_numpy(chosen).to(like.device)
        tiles, keys = blocks - first, n_random * b
        pieces.append(Piece(start=first * b, rows=b, keys=keys, tiles=tiles, blocks_HTr=table_HTr, join=True))
    return tuple(pieces)


@functools.lru_cache(maxsize=32)
def _random_blocks(
    heads: int, first: int, blocks: int, window: int, n_global: int, n_random: int, seed: int, causal: bool
) -> NDArray[np.int64]:
    """Draws r blocks that neither window nor globals cover, for each head and block from `first` on, [H, T, r]."""
    half = window // 2
    chosen = np.empty((heads, blocks - first, n_random), dtype=np.int64)
    for head in range(heads):
        for i in range(first, blocks):
            if causal:
                rest = range(n_global, i - window + 1)
                gap, width = blocks, 0
            else:
                gap = max(n_global, i - half)
                width = min(blocks, i + half + 1) - gap
                rest = range(n_global, blocks - width)
            picked = random.Random(f"{seed}/{head}/{i}").sample(rest, n_random)
            chosen[head, i - first] = [j if j < gap else j + width for j in sorted(picked)]
    return chosen


@lru_cache(maxsize=4096)
def block_sparse_pairs(
    n: int, *, block: int = 64, window: int = 3, n_global: int = 2, n_random: int = 3, causal: bool
) -> tuple[int, int]:
    """Counts (useful, executed) query-key pairs of `block_sparse_attention`, per sequence and head, without padding.

    Useful: exact when causal or when `block` divides n, else the filling of the last block counts as keys. With
    b the block and s = (window + n_global + n_random) b: causal, the first s tokens see s (s + 1) / 2 pairs, and
    each later one s - b and its own block up to itself. Executed: all tiles, masked pairs included.
    """
    _check(block, window, n_global, n_random, causal)
    b, blocks, seen = block, -(-n // block), window + n_global + n_random
    if blocks <= seen:
        return (n * (n + 1) // 2 if causal else n * n), n * n
    like = torch.empty(0, device="meta")
    executed = sum(p.pairs for p in _plan(blocks, b, window, n_global, n_random, 0, causal, 1, like))
    if causal:
        first, (whole, rest) = seen * b, divmod(n - seen * b, b)
        own = whole * (b * (b + 1) // 2) + rest * (rest + 1) // 2
        return first * (first + 1) // 2 + (n - first) * (first - b) + own, executed
    half, useful = window // 2, min(n_global * b, n) * n
    for i in range(n_global, blocks):
        near = min(blocks - 1, i + half) - max(n_global, i - half) + 1
        useful += min(b, n - i * b) * b * (near + n_global + n_random)
    return useful, executed + n_global * b * blocks * b
