"""Which keys a query reads: the k of highest score (paper 3.2, eq. 5; 1912.11637).

Scores are low-rank, s_ij = a_i . b_j, computed for chunks of queries against the keys they may see, and thrown away:
memory is linear in n, time n^2 r / 2 multiply-accumulates and about as long again to find the k best.

Exactly the k best, without sorting: a C kernel that compares a row with its k-th largest score so far (`native.topk`),
or a tournament. For that the row is cut into groups; the k-th largest group maximum is below the k-th largest score, so
the k groups of largest maxima contain all k winners, and only those are looked at again. Ties go to the lower index, so
that neither chunking nor device changes a choice. Choosing has no gradient.

Example: k = 2 of 4 tokens, causal, near = 1 (the query itself is read elsewhere). All queries are 1, so the keys
2, 5, 3, 9 are their own scores. Token 0 sees nothing before itself (n = 4 marks none), token 3 takes 5 and 3.

    >>> a, b = torch.ones(1, 4, 1), torch.tensor([2.0, 5, 3, 9]).view(1, 4, 1)
    >>> select_keys(a, b, 2, near=1, causal=True).tolist()
    [[[4, 4], [0, 4], [0, 1], [1, 2]]]

Shapes: B batch, n length, r rank of the scores, k selected keys; R rows, E keys scored in a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.flop_counter import register_flop_formula

from ressformer.layers.native.loader import eager_kernels, library, usable
from ressformer.layers.native.topk import select_rows, select_short

# Scores held at a time: 2 MB in fp32.
_HELD = 2**19
# Sequences of at most this many tokens are scored and searched in one pass.
_BRIEF = 512
# Rows of fewer keys than this are searched whole; tournament groups are this many keys (a longer row, larger groups).
_SHORT, _GROUP, _LONG = 2048, 8, 8192


def select_keys(
    a_Bnr: Tensor, b_Bnr: Tensor, k: int, *, near: int = 0, causal: bool, mask_Bn: Tensor | None = None
) -> Tensor:
    """Selects each query's min(k, n) visible keys of highest score a_i . b_j, ties to the lower index.

    Args:
        a_Bnr, b_Bnr: factors of the scores; no gradient flows into them from here. For scores per head, fold the
            heads into B.
        k: keys per query.
        near: w; keys closer than w (i - w < j <= i causal, |i - j| < w otherwise) are left out: they are read
            without being selected. With 0 nothing is left out and the query itself is always among its keys.
        causal: only j <= i is visible.
        mask_Bn: False at keys that nobody sees.

    Returns:
        int64 [B, n, min(k, n)], ascending; the number n, at the end, where fewer keys are visible.

    Raises:
        ValueError: k below 1 or near below 0.
    """
    if k < 1 or near < 0:
        raise ValueError(f"selection: k={k} must be at least 1 and near={near} at least 0")
    if a_Bnr.shape[1] <= _BRIEF and (lib := eager_kernels("topk", a_Bnr, b_Bnr)):
        return select_short(lib, a_Bnr.detach(), b_Bnr.detach(), mask_Bn, k, near, causal)
    idx_Bnk: Tensor = _select(a_Bnr.detach(), b_Bnr.detach(), mask_Bn, k, near, causal)
    return idx_Bnk


@torch.library.custom_op("ressformer::select_keys", mutates_args=())
def _select(a_Bnr: Tensor, b_Bnr: Tensor, mask_Bn: Tensor | None, k: int, near: int, causal: bool) -> Tensor:
    batch, n, _ = a_Bnr.shape
    dtype = torch.float64 if a_Bnr.dtype == torch.float64 else torch.float32
    width = _padded(n)
    a_Bnr = a_Bnr.to(dtype)
    b_Brn = pad(b_Bnr.to(dtype), (0, 0, 0, width - n)).transpose(1, 2)
    idx_Bnk = torch.empty(batch, n, min(k, n), dtype=torch.int64, device=a_Bnr.device)
    for start, stop, keys in _chunks(n, k, causal):
        hidden_qE = _hidden(start, stop, keys, n, near, causal, a_Bnr.device)
        step = max(1, _HELD // ((stop - start) * keys))
        for first in range(0, batch, step):
            rows = slice(first, first + step)
            score = torch.bmm(a_Bnr[rows, start:stop], b_Brn[rows, :, :keys])
            # Only the last columns can be hidden: those of earlier keys would be masked for nothing.
            score[..., keys - hidden_qE.shape[1] :].masked_fill_(hidden_qE, -torch.inf)
            if mask_Bn is not None:
                seen = pad(mask_Bn[rows], (0, width - n))[:, None, :keys]
                score.masked_fill_(~seen, -torch.inf)
            if not near:
                score[:, :, start:stop].diagonal(dim1=1, dim2=2).fill_(torch.inf)
            chosen_Rk = _best(score.view(-1, keys), min(k, n))
            chosen_Rk[chosen_Rk == keys] = n
            idx_Bnk[rows, start:stop] = chosen_Rk.view(-1, stop - start, chosen_Rk.shape[1])
    return idx_Bnk


@_select.register_fake
def _(a_Bnr: Tensor, b_Bnr: Tensor, mask_Bn: Tensor | None, k: int, near: int, causal: bool) -> Tensor:
    return torch.empty(*a_Bnr.shape[:2], min(k, a_Bnr.shape[1]), dtype=torch.int64, device=a_Bnr.device)


@register_flop_formula([torch.ops.ressformer.select_keys])
def _select_flops(a: Any, b: Any, mask: Any, k: int, near: int, causal: bool, *_: Any, **__: Any) -> int:
    return int(2 * a[0] * a[2] * scored_pairs(a[1], k, causal=causal)[1])


def _padded(n: int) -> int:
    return -(-n // 64) * 64


def _chunks(n: int, k: int, causal: bool) -> Iterator[tuple[int, int, int]]:
    """Yields (first query, past the last, keys scored). A causal chunk scores its own past only."""
    size = 64 if n <= 4096 else 128
    for start in range(0, n, size):
        stop = min(n, start + size)
        yield start, stop, _padded(max(stop, min(k, n))) if causal else _padded(n)


def _hidden(start: int, stop: int, keys: int, n: int, near: int, causal: bool, device: torch.device) -> Tensor:
    """Marks which of the chunk's last columns its queries may not select, [queries, columns]."""
    i_q1 = torch.arange(start, stop, device=device).unsqueeze(1)
    first = min(max(0, start - near + 1), n) if causal or near else n
    j_E = torch.arange(first, keys, device=device)
    if causal:
        return (j_E > i_q1 - max(near, 0)) | (j_E >= n)
    return ((j_E - i_q1).abs() < near) | (j_E >= n)


def _best(score_RE: Tensor, k: int) -> Tensor:
    """Finds each row's k largest, indices [R, k], ascending; E where a row has fewer entries above -inf."""
    if usable(score_RE) and (lib := library("topk")):
        return select_rows(lib, score_RE.contiguous(), k)
    if score_RE.device.type == "cpu" and score_RE.dtype == torch.float32:
        return torch.from_numpy(_tournament(score_RE, k))
    return _best_anywhere(score_RE, k)


def _best_anywhere(score_RE: Tensor, k: int) -> Tensor:
    """Does what `_best` does, in operations that no device waits for."""
    keys = score_RE.shape[1]
    score_RE = score_RE.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    bar_R1 = score_RE.topk(k, dim=-1).values[:, -1:]
    above = score_RE > bar_R1
    level = score_RE == bar_R1
    keep = above | (level & (level.cumsum(-1) <= k - above.sum(-1, keepdim=True)))
    keep &= score_RE > -torch.inf
    index_RE = torch.arange(keys, device=score_RE.device).expand_as(score_RE)
    return index_RE.masked_fill(~keep, keys).topk(k, dim=-1, largest=False, sorted=True).values


def _tournament(score_RE: Tensor, k: int) -> NDArray[np.int64]:
    """Does what `_best` does, in numpy: its partition and search are several times faster than torch's on CPU."""
    keys = score_RE.shape[1]
    score = score_RE.numpy()
    group = _GROUP if keys < _LONG else 2 * _GROUP
    if keys < _SHORT or k * group * 2 > keys:
        bar = np.partition(score, keys - k, axis=-1)[:, keys - k]
        winners = np.flatnonzero(score >= bar[:, None])
        idx = winners % keys
        exact = winners.size == bar.size * k
    else:
        groups = keys // group  # group g holds keys g, g + groups, ...: maxima then run along contiguous memory
        top = score_RE.view(-1, group, groups).amax(1).numpy()
        best = np.argpartition(top, groups - k, axis=-1)[:, groups - k :]
        at = (best[:, None, :] + (np.arange(group) * groups)[None, :, None]).reshape(len(best), -1)
        value = score_RE.gather(1, torch.from_numpy(at)).numpy()
        bar = np.partition(value, value.shape[1] - k, axis=-1)[:, value.shape[1] - k]
        idx = at.ravel()[np.flatnonzero(value >= bar[:, None])]
        exact = idx.size == bar.size * k and int((top >= bar[:, None]).sum(1).max()) <= k
        idx = np.sort(idx.reshape(-1, k), axis=-1) if exact else idx
    idx = idx.reshape(-1, k) if exact else _untie(score, bar, k)
    few = bar == -np.inf
    if few.any():
        part = idx[few]
        part[np.take_along_axis(score[few], part, 1) == -np.inf] = keys
        idx[few] = np.sort(part, axis=-1)
    return np.ascontiguousarray(idx, dtype=np.int64)


def _untie(score: NDArray[np.float32], bar: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Keeps the lowest indices where scores equal to the k-th largest are more than there is room for."""
    keep = score >= bar[:, None]
    rows = np.flatnonzero(keep.sum(1) != k)
    part = score[rows]
    if np.isnan(part).any():
        part = np.where(np.isnan(part), -np.inf, part)
        bar = bar.copy()
        bar[rows] = np.partition(part, part.shape[1] - k, axis=-1)[:, part.shape[1] - k]
    above, level = part > bar[rows, None], part == bar[rows, None]
    room = k - above.sum(1, keepdims=True)
    keep[rows] = above | (level & (np.cumsum(level, axis=1, dtype=np.int32) <= room))
    winners: NDArray[np.int64] = np.flatnonzero(keep).reshape(-1, k) % score.shape[1]
    return winners


@cache
def scored_pairs(n: int, k: int, *, causal: bool) -> tuple[int, int]:
    """Counts the (visible, scored) query-key pairs of `select_keys` in a sequence: 2 r FLOPs each."""
    visible = n * (n + 1) // 2 if causal else n * n
    return visible, sum((stop - start) * keys for start, stop, keys in _chunks(n, k, causal))


def selection_bytes(n: int, k: int, *, causal: bool) -> float:
    """Counts the bytes per sequence that finding the best moves: scores written, read twice; indices written."""
    return 12.0 * scored_pairs(n, k, causal=causal)[1] + 8.0 * n * min(k, n)
