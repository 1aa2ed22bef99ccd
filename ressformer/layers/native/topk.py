"""The k keys of highest score of each query (`topk.c`): a row is compared with its k-th largest entry so far.

`sparse.key_selection` computes the same in PyTorch and numpy, and is the oracle.

Shapes: B batch, n length, r rank of the scores, k selected keys; R rows, E keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ressformer.layers.native.loader import Kernels, address, in_threads, int64

# Rows of scores are read in whole vectors of this many.
_LANES = 16


def select_short(
    lib: Kernels, a_Bnr: Tensor, b_Bnr: Tensor, mask_Bn: Tensor | None, k: int, near: int, causal: bool
) -> Tensor:
    """Selects as `key_selection.select_keys` does, in one C call for all sequences."""
    a_Bnr, b_Bnr = (t if _even(t) else t.contiguous() for t in (a_Bnr, b_Bnr))
    batch, n, r = a_Bnr.shape
    k, width = min(k, n), -(-n // _LANES) * _LANES
    idx_Bnk = torch.empty(batch, n, k, dtype=torch.int64)
    mask_Bn = None if mask_Bn is None else mask_Bn.contiguous()

    def work(start: int, stop: int) -> None:
        held = [
            torch.empty(size) for size in (r * width, width, 4 * k + 6 * _LANES, 4 * k + 6 * _LANES, 4 * k + 6 * _LANES)
        ]
        a, b = a_Bnr[start:], b_Bnr[start:]
        ins = address(a), int64(a.stride(1)), address(b), int64(b.stride(1))
        mask = address(None if mask_Bn is None else mask_Bn[start:])
        sizes = [int64(x) for x in (stop - start, n, r, k, near, int(causal))]
        lib.select_short(*ins, mask, *sizes, address(idx_Bnk[start:]), *(address(t) for t in held))

    in_threads(work, batch)
    return idx_Bnk


def select_rows(lib: Kernels, score_RE: Tensor, k: int) -> Tensor:
    """Finds each row's k largest, indices [R, k], ascending; E where a row has fewer entries above -inf."""
    rows, keys = score_RE.shape
    idx_Rk = torch.empty(rows, k, dtype=torch.int64)

    def work(start: int, stop: int) -> None:
        held = torch.empty(3, 4 * k + 6 * _LANES).unbind()
        sizes = [int64(size) for size in (stop - start, keys, k)]
        at = address(score_RE[start:]), *sizes, address(idx_Rk[start:])
        lib.select_rows(*at, *(address(t) for t in held))

    in_threads(work, rows, smallest=64)
    return idx_Rk


def _even(x_Bnr: Tensor) -> bool:
    """Tells whether rows are dense and equally far apart, from sequence to sequence, too."""
    return x_Bnr.stride(2) == 1 and x_Bnr.stride(0) == x_Bnr.shape[1] * x_Bnr.stride(1)
