"""Sliding windows and block-sparse attention against dense attention under an explicit mask."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ressformer.layers.block_sparse import _random_blocks, block_sparse_attention, block_sparse_pairs
from ressformer.layers.pieces import attend, attend_backward
from ressformer.layers.windows import sliding_window_attention, sliding_window_pairs

H, WIDTH = 2, 8


def inputs(batch: int, n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, H, n, WIDTH, generator=generator).requires_grad_() for _ in range(3))
    return q, k, v


def padding(batch: int, n: int, seed: int) -> Tensor:
    lengths = torch.randint(0, n + 1, (batch,), generator=torch.Generator().manual_seed(seed))
    return torch.arange(n) < lengths[:, None]


def dense(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~seen, -math.inf)
    return scores.softmax(-1) @ v


def window_mask(n: int, window: int, dilation: int, causal: bool, n_global: int) -> Tensor:
    i, j = torch.arange(n)[:, None], torch.arange(n)
    steps, whole = (i - j).abs() // dilation, (i - j) % dilation == 0
    if causal:
        return (i >= j) & ((whole & (steps < window)) | (j < n_global))
    return (whole & (steps <= window // 2)) | (j < n_global) | (i < n_global)


def block_mask(n: int, block: int, window: int, g: int, r: int, seed: int, causal: bool) -> Tensor:
    blocks = -(-n // block)
    i, j = torch.arange(blocks)[:, None], torch.arange(blocks)
    if causal:
        near = (j <= i) & (i - j < window)
    else:
        near = ((i - j).abs() <= window // 2) | (i < g)
    seen = (near | (j < g)).repeat(H, 1, 1)
    if blocks <= g + window + r:
        seen[:] = True
    else:
        first = g + window + r if causal else g
        seen[:, :first] = True
        for head, rows in enumerate(_random_blocks(H, first, blocks, window, g, r, seed, causal)):
            for row, chosen in enumerate(rows, start=first):
                assert not seen[head, row, chosen].any() and len(set(chosen)) == r
                seen[head, row, chosen] = True
    seen = seen.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :n, :n]
    return seen.tril() if causal else seen


def assert_same(out: Tensor, expected: Tensor, leaves: tuple[Tensor, ...], real: Tensor | None = None) -> None:
    """Equal values and gradients; where `real` is given, at real tokens only."""
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    if real is not None:
        assert out.isfinite().all()
        chosen = real[:, None, :, None].expand_as(out)
        out, expected = out.masked_fill(~chosen, 0), expected.masked_fill(~chosen, 0)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    grads = torch.autograd.grad(out, leaves, weight, retain_graph=True, allow_unused=True)
    wanted = torch.autograd.grad(expected, leaves, weight, allow_unused=True)
    for a, b in zip(grads, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


WINDOWS = [
    {"n": 300, "window": 16},
    {"n": 300, "window": 1},
    {"n": 257, "window": 33, "n_global": 3},
    {"n": 200, "window": 500, "n_global": 1},
    {"n": 421, "window": 9, "dilation": 3, "n_global": 5},
    {"n": 330, "window": 4, "dilation": 4},
    {"n": 5, "window": 3, "n_global": 9},
    {"n": 1, "window": 2, "n_global": 1},
]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_window_equals_dense_under_a_mask(case: dict[str, int], causal: bool) -> None:
    q, k, v = inputs(2, case["n"])
    keys = {"dilation": 1, "n_global": 0, **case}
    seen = window_mask(causal=causal, **keys)
    n = keys.pop("n")
    out = sliding_window_attention(q, k, v, causal=causal, **keys)
    assert_same(out, dense(q, k, v, seen), (q, k, v))
    useful, executed = sliding_window_pairs(n, causal=causal, **keys)
    assert useful == int(seen.sum()) <= executed
