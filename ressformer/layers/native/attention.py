"""Attention to selected keys, cache and memory in one pass over the rows: `attention.c`.

It computes what `sparse.attention` writes in PyTorch operators, which is its oracle: scores of the columns, edges and
ages added, the activation, the weighted sum of values, and the graph. On short sequences those operators cost more to
dispatch than to compute; here each query's columns are found, scored, normalised and summed while they are in cache.

Shapes: B batch, n length, d width, H heads, r edge rank, k selected keys, w cache entries, m slots, S slots of all
segments, C columns (padded to whole vectors).
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ressformer.layers.native.loader import Kernels, address, in_threads, int64

# Scores are padded to this many, a vector of the widest registers.
_LANES = 16
# In the order of the enumerations of `attention.c`.
_ACTIVATIONS = ("softmax", "sparsemax", "entmax15")
_GRAPHS = ("none", "edges", "attention")


@dataclass(frozen=True, kw_only=True)
class AttentionSpec:
    """Says who reads what, beside the operands.

    Attributes:
        n_heads: H.
        ages: ages of the cache's entries, consecutive.
        slots: m slots a segment; 0 = no memory.
        segment: tokens a segment; token i reads the slots of segment i // segment, none in the first (causal).
        causal: otherwise all tokens read the slots of the one segment.
        activation: softmax | sparsemax | entmax15.
        graph: none | edges (the activation of the selected edges) | attention (the heads' mean weight).
    """

    n_heads: int
    ages: tuple[int, ...]
    slots: int
    segment: int
    causal: bool
    activation: str
    graph: str


class _Sizes(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n", "H", "h", "K", "W", "first_age", "M", "segment", "causal", "S")),
        *((name, ctypes.c_int64) for name in ("r", "C", "kind", "graph")),
        ("scale", ctypes.c_float),
    ]


def fused_attention(
    lib: Kernels,
    qkv_Bn3d: Tensor,
    slots_BS2d: Tensor | None,
    edges: tuple[Tensor, Tensor] | None,
    age_bias_Hw: Tensor | None,
    idx_Bnk: Tensor,
    mask_Bn: Tensor | None,
    spec: AttentionSpec,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Attends.

    Args:
        lib: of `loader.eager_kernels("attention", ...)`.
        qkv_Bn3d: queries, keys and values, the heads side by side; scores are scaled by 1 / sqrt(d / H).
        slots_BS2d: keys and values of the slots.
        edges: the graph's factors, each [B, n, r], whose products are added to the scores of tokens.
        age_bias_Hw: added to the scores of the cache's entries.
        idx_Bnk: selected keys; n = none.
        mask_Bn: False at tokens that the cache may not hold.

    Returns:
        y [B, n, d]; the graph's weights [B, n, k], or None; and all weights [B, n, H, C], which carry no gradient.
    """
    a, b = edges if edges is not None else (None, None)
    y, weight, p = _Attend.apply(lib, qkv_Bn3d, slots_BS2d, a, b, age_bias_Hw, idx_Bnk, mask_Bn, spec)  # type: ignore[no-untyped-call]
    return y, weight, p


class _Attend(torch.autograd.Function):
    """Calls the forward and the backward kernel."""

    @staticmethod
    def forward(
        ctx: Any,
        lib: Kernels,
        qkv: Tensor,
        slots: Tensor | None,
        a: Tensor | None,
        b: Tensor | None,
        age: Tensor | None,
        idx: Tensor,
        mask: Tensor | None,
        spec: AttentionSpec,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        qkv, idx = qkv.contiguous(), idx.contiguous()
        slots, a, b, age, mask = (None if t is None else t.contiguous() for t in (slots, a, b, age, mask))
        sizes = _sizes(qkv, slots, a, idx, spec)
        batch, n, d = len(qkv), qkv.shape[1], qkv.shape[2] // 3
        y, p = qkv.new_empty(batch, n, d), qkv.new_empty(batch, n, sizes.H, sizes.C)
        weight = qkv.new_empty(batch, n, sizes.K) if sizes.graph else None
        _run(lib.attend_forward, sizes, batch, qkv, slots, a, b, age, idx, mask, y, p, weight)
        ctx.save_for_backward(qkv, slots, a, b, age, idx, mask, p, weight)
        ctx.lib, ctx.sizes = lib, sizes
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(p)
        return y, weight, p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_y: Tensor | None, g_weight: Tensor | None, g_p: None) -> tuple[Tensor | None, ...]:
        qkv, slots, a, b, age, idx, mask, p, weight = ctx.saved_tensors
        g_y = p.new_zeros(*qkv.shape[:2], qkv.shape[2] // 3) if g_y is None else g_y.contiguous()
        g_weight = None if g_weight is None else g_weight.contiguous()
        d_qkv, d_slots, d_a, d_b = (None if t is None else torch.zeros_like(t) for t in (qkv, slots, a, b))
        d_age = None if age is None else age.new_zeros(len(qkv), *age.shape)
        operands = qkv, slots, a, b, idx, mask, p, weight, g_y, g_weight, d_qkv, d_slots, d_a, d_b, d_age
        _run(ctx.lib.attend_backward, ctx.sizes, len(qkv), *operands)
        return None, d_qkv, d_slots, d_a, d_b, None if d_age is None else d_age.sum(0), None, None, None


def _sizes(qkv: Tensor, slots: Tensor | None, a: Tensor | None, idx: Tensor, spec: AttentionSpec) -> _Sizes:
    heads, ages, k = spec.n_heads, spec.ages, idx.shape[2]
    width = qkv.shape[2] // 3 // heads
    return _Sizes(
        n=qkv.shape[1],
        H=heads,
        h=width,
        K=k,
        W=len(ages),
        first_age=ages[0] if ages else 0,
        M=spec.slots,
        segment=spec.segment,
        causal=spec.causal,
        S=0 if slots is None else slots.shape[1],
        r=0 if a is None else a.shape[2],
        C=-(-(k + len(ages) + spec.slots) // _LANES) * _LANES,
        kind=_ACTIVATIONS.index(spec.activation),
        graph=_GRAPHS.index(spec.graph),
        scale=1.0 / math.sqrt(width),
    )


def _run(kernel: Any, sizes: _Sizes, batch: int, *tensors: Tensor | None) -> None:
    """Runs the kernel over the sequences, in torch's threads."""
    at = [ctypes.byref(sizes), *(address(t) for t in tensors)]

    def work(start: int, stop: int) -> None:
        kernel(*at, int64(start), int64(stop))

    in_threads(work, batch)
