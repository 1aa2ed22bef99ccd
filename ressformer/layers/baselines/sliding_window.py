"""Sliding windows with global tokens (Longformer, 2004.05150), in O(n) time and memory.

Example: 6 tokens, window 2, one global token, causal. Token 0 sees itself, token 1 sees 0 and 1, and each later token
sees itself, the one before, and token 0: 1 + 2 + 4 * 3 = 15 pairs.

    >>> sliding_window_pairs(6, window=2, causal=True, n_global=1)[0]
    15

Shapes: B batch, H heads, n length, h head width, g global tokens, c rows of a tile, l keys of a tile.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from ressformer.layers.baselines.tiled_attention import Piece, additive, joint_attention, key_bias, replace_first
from ressformer.layers.compiler import outside_compiler

_TILE = 64  # query rows per tile: 32 and 128 are no faster


@outside_compiler
def sliding_window_attention(
    q_BHnh: Tensor,
    k_BHnh: Tensor,
    v_BHnh: Tensor,
    *,
    window: int,
    dilation: int = 1,
    causal: bool,
    key_mask_Bn: Tensor | None = None,
    n_global: int = 0,
    global_qkv: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Tensor:
    """Longformer attention (2004.05150, section 3.1), scores scaled by 1/sqrt(h), one softmax per query.

    Query i sees key j when
    - causal: j <= i, and j = i - m * dilation with 0 <= m < window (itself and window - 1 others), or
      j < n_global;
    - bidirectional: j = i + m * dilation with |m| <= window // 2 (window + 1 keys when window is even), or
      j < n_global, or i < n_global.
    The global tokens are the first `n_global` positions; in causal mode they see, like all, only the past.

    Visible pairs: `sliding_window_pairs`; causal, dilation 1, no globals, n >= W: n W - W (W - 1) / 2.
    Executed: about n (W + 63 + n_global), plus terms that do not grow with n.

    Args:
        q_BHnh, k_BHnh, v_BHnh: queries, keys, values.
        key_mask_Bn: True at real tokens; padding is on the right. In causal mode no real token sees padding, and
            the mask is not read. Outputs at padding are finite and mean nothing.
        global_qkv: separate projections for the global queries, q [B, H, min(n_global, n), h] and k, v
            [B, H, n, h]; None = the same as for the others.

    Returns:
        [B, H, n, h].

    Raises:
        ValueError: window or dilation below 1, n_global below 0.
    """
    n = q_BHnh.shape[2]
    bias_Bn = None if causal or key_mask_Bn is None else key_bias(key_mask_Bn, q_BHnh.dtype)
    pieces = _plan(n, window, dilation, causal, n_global, q_BHnh)
    out_BHnh = joint_attention(q_BHnh, k_BHnh, v_BHnh, bias_Bn, pieces)
    g = min(n_global, n)
    if g == 0 or (causal and global_qkv is None):
        return out_BHnh
    q_BHgh, k_BHnh, v_BHnh = global_qkv or (q_BHnh[:, :, :g], k_BHnh, v_BHnh)
    return replace_first(out_BHnh, q_BHgh, k_BHnh, v_BHnh, bias_Bn, causal)


def _plan(n: int, window: int, dilation: int, causal: bool, n_global: int, like: Tensor) -> tuple[Piece, ...]:
    """Lays out head rows (whose window is cut off or reaches the globals), whole tiles, a ragged tail, the globals."""
    if window < 1 or dilation < 1 or n_global < 0:
        raise ValueError(
            f"sliding window: window={window} and dilation={dilation} must be at least 1, n_global={n_global} at "
            "least 0"
        )
    left, right, d = (window - 1, 0, dilation) if causal else (window // 2, window // 2, dilation)

    def mask(rows: range, keys: range, g: int) -> Tensor:
        gap_cl = torch.arange(rows.start, rows.stop, rows.step, device=like.device)[:, None]
        key_l = torch.arange(keys.start, keys.stop, keys.step, device=like.device)
        gap_cl = gap_cl - key_l
        band_cl = (gap_cl % d == 0) & (gap_cl <= left * d) & (gap_cl >= -right * d)
        return additive(band_cl | ((key_l < g) & ((gap_cl >= 0) | (not causal))), like.dtype)

    # In steps of d: tiles read `lead` keys before themselves, and start where windows end behind the globals.
    lead, trail = _round_up(left), _round_up(right)
    first = _round_up(lead + -(-n_global // d))
    head, tiles = min(n, first * d), max(0, (n // d - trail - first) // _TILE)
    tail = head + tiles * _TILE * d
    pieces = []
    if head:
        keys = min(n, head + right * d)
        pieces.append(Piece(start=0, rows=head, keys=keys, mask_cl=mask(range(head), range(keys), n_global)))
    if tiles:
        keys = lead + _TILE + trail
        mask_cl = mask(range(lead * d, (lead + _TILE) * d, d), range(0, keys * d, d), 0)
        body = Piece(start=head, key=head - lead * d, rows=_TILE, keys=keys, tiles=tiles, stride=d, mask_cl=mask_cl)
        pieces += [replace(body, start=body.start + a, key=body.key + a) for a in range(d)]
    if tail < n:
        a = tail - left * d
        mask_cl = mask(range(tail, n), range(a, n), 0)
        pieces.append(Piece(start=tail, key=a, rows=n - tail, keys=n - a, mask_cl=mask_cl))
    if n_global and head < n:
        pieces.append(Piece(start=head, rows=n - head, keys=n_global, join=True))
    return tuple(pieces)


def _round_up(keys: int) -> int:
    """Rounds up to whole vectors of 16 floats, on which the kernels run a sixth faster."""
    return -(-keys // 16) * 16


@lru_cache(maxsize=4096)
def sliding_window_pairs(
    n: int,
    *,
    window: int,
    dilation: int = 1,
    causal: bool,
    n_global: int = 0,
    separate_globals: bool = False,
) -> tuple[int, int]:
    """Counts (useful, executed) pairs of `sliding_window_attention`, per sequence and head, without padding.

    Useful, exactly: sum over i of min(W - 1, i // D) + 1 (bidirectional: both sides, with W // 2), plus the
    globals outside the windows, plus, bidirectional, what the globals see outside theirs. Executed: all tiles,
    masked pairs included. `separate_globals`: `global_qkv` is given.
    """
    side, g = window - 1 if causal else window // 2, min(n_global, n)
    ramp = min(n, side * dilation)  # here a side is cut off by the edge
    steps, rest = divmod(ramp, dilation)
    reach = dilation * steps * (steps - 1) // 2 + rest * steps + side * (n - ramp)
    useful = n + reach * (1 if causal else 2)
    for j in range(g):
        if causal:
            useful += n - j - min(window, -(-(n - j) // dilation))
        else:  # (i, j) and (j, i), less what another global has already counted
            useful += 2 * (n - 1 - min(side, j // dilation) - min(side, (n - 1 - j) // dilation))
            useful -= sum((i - j) % dilation != 0 or abs(i - j) > side * dilation for i in range(g))
    pieces = _plan(n, window, dilation, causal, n_global, torch.empty(0, device="meta"))
    dense = g * (g if causal else n) if separate_globals or not causal else 0
    return useful, dense + sum(p.pairs for p in pieces)
