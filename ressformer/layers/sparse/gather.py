"""Products of queries with a list of keys of their own: what attention to selected tokens is made of.

Each query i has c columns, the keys idx[i, 0..c-1]. Three operators, each other's gradients, at 2 h FLOPs a pair:
    gather_dot   z[i, j] = x[i] . y[idx[i, j]]                 logits
    gather_sum   x[i]    = sum_j p[i, j] y[idx[i, j]]          outputs
    scatter_sum  y[t]    = sum_{(i, j): idx[i, j] = t} p[i, j] x[i]
On a CPU no key is copied: the operators are a sampled product of torch.sparse and its embedding bags, and scatter_sum
is a gather_sum over the inverse lists.

Example: query 0 reads keys 2 and 0, query 1 reads key 1; -1 marks a column that does not exist.

    >>> cols = columns(torch.tensor([[[2, 0], [1, -1]]]), 3)
    >>> x, y = torch.tensor([1.0, 10.0]).view(1, 1, 2, 1), torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 3, 1)
    >>> gather_dot(x, y, cols)[cols.valid_Bnc.unsqueeze(1)].tolist()
    [3.0, 1.0, 20.0]

Shapes: B batch, H heads, n queries, m keys, h width, c columns.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

# Floats gathered at a time where keys do have to be copied (accelerators).
_HELD = 2**24


@dataclass(frozen=True)
class Columns:
    """Lists the keys of each query, for `gather_dot` and `gather_sum`; `columns` makes it.

    Attributes:
        idx_Bnc: int64, all within [0, m).
        valid_Bnc: which columns exist. The others point at key 0 and are the caller's to mask.
        order_Be, starts_Bm1: the inverse: columns (flat, query * c + column) sorted by key, and where each key's begin.
            Empty where no gradient will be asked for.
    """

    idx_Bnc: Tensor
    valid_Bnc: Tensor
    order_Be: Tensor
    starts_Bm1: Tensor


def columns(idx_Bnc: Tensor, m: int, *, gradient: bool = True) -> Columns:
    """Makes columns from indices into m keys; indices outside [0, m) mark columns that do not exist."""
    valid_Bnc = (idx_Bnc >= 0) & (idx_Bnc < m)
    idx_Bnc = torch.where(valid_Bnc, idx_Bnc, 0).contiguous()
    if gradient:
        order_Be, starts_Bm1 = _invert(idx_Bnc, m)
    else:
        order_Be, starts_Bm1 = (torch.empty(0, dtype=torch.int64, device=idx_Bnc.device) for _ in range(2))
    return Columns(idx_Bnc, valid_Bnc, order_Be, starts_Bm1)


def near_index(n: int, ages: tuple[int, ...], device: torch.device | None = None) -> Tensor:
    """Returns the indices [n, w] i - age of each query's neighbours; outside [0, n) where there is none."""
    return torch.arange(n, device=device).unsqueeze(1) - torch.tensor(ages, device=device, dtype=torch.int64)


def gather_dot(x_BHnh: Tensor, y_BHmh: Tensor, cols: Columns) -> Tensor:
    """Computes z[b, h, i, j] = x[b, h, i] . y[b, h, idx[b, i, j]], [B, H, n, c].

    Columns that do not exist hold any number.
    """
    z_BHnc: Tensor = _dot(x_BHnh, y_BHmh, cols.idx_Bnc, cols.order_Be, cols.starts_Bm1)
    return z_BHnc


def gather_sum(p_BHnc: Tensor, y_BHmh: Tensor, cols: Columns) -> Tensor:
    """Computes x[b, h, i] = sum_j p[b, h, i, j] y[b, h, idx[b, i, j]], [B, H, n, h].

    p is 0 where a column does not exist.
    """
    x_BHnh: Tensor = _sum(p_BHnc, y_BHmh, cols.idx_Bnc, cols.order_Be, cols.starts_Bm1)
    return x_BHnh


def column_pairs(n: int, c: int) -> int:
    """Counts the pairs that one operator executes in a sequence: all columns, also those that do not exist."""
    return n * c


@torch.library.custom_op("ressformer::gather_dot", mutates_args=())
def _dot(x_BHnh: Tensor, y_BHmh: Tensor, idx_Bnc: Tensor, order_Be: Tensor, starts_Bm1: Tensor) -> Tensor:
    x, y = _wide(x_BHnh), _wide(y_BHmh)
    shape = torch.Size((*x.shape[:3], idx_Bnc.shape[-1]))
    # A sparse matrix does not hold more columns than there are keys: columns that do not exist share the first.
    if x.device.type != "cpu" or shape[3] > y.shape[2]:
        return _dot_by_copies(x, y, idx_Bnc).to(x_BHnh.dtype)
    rows, keys, width = x.shape[:3].numel(), y.shape[:3].numel(), shape[3]
    _quiet_sparse()
    at = torch.arange(0, rows * width + 1, width, dtype=torch.int32)
    flat = _flat_index(idx_Bnc, x.shape[1], y.shape[2])
    pattern = torch.sparse_csr_tensor(at, flat, x.new_zeros(rows * width), (rows, keys), check_invariants=False)
    z: Tensor = torch.sparse.sampled_addmm(pattern, x.flatten(0, 2), y.flatten(0, 2).t(), beta=0.0)
    return z.values().view(shape).to(x_BHnh.dtype)


@torch.library.custom_op("ressformer::gather_sum", mutates_args=())
def _sum(p_BHnc: Tensor, y_BHmh: Tensor, idx_Bnc: Tensor, order_Be: Tensor, starts_Bm1: Tensor) -> Tensor:
    p, y = _wide(p_BHnc), _wide(y_BHmh)
    flat = _flat_index(idx_Bnc, y.shape[1], y.shape[2])
    rows, width = p.shape[:3].numel(), p.shape[3]
    at = torch.arange(0, rows * width, width, dtype=torch.int32, device=p.device)
    x = _bags(y.flatten(0, 2), flat, at, p.flatten())
    return x.view(*p.shape[:3], y.shape[-1]).to(y_BHmh.dtype)


@torch.library.custom_op("ressformer::scatter_sum", mutates_args=())
def _scatter(p_BHnc: Tensor, x_BHnh: Tensor, idx_Bnc: Tensor, order_Be: Tensor, starts_Bm1: Tensor, m: int) -> Tensor:
    if not order_Be.numel():
        order_Be, starts_Bm1 = _invert(idx_Bnc, m)
    p, x = _wide(p_BHnc), _wide(x_BHnh)
    batch, heads, n, width = p.shape
    weight = p.view(batch, heads, -1).gather(-1, order_Be.unsqueeze(1).expand(-1, heads, -1))
    offset_BH1 = torch.arange(batch * heads, dtype=torch.int32, device=p.device).view(batch, heads, 1)
    row = (order_Be // width).int().unsqueeze(1) + offset_BH1 * n
    at = starts_Bm1[:, None, :-1].int() + offset_BH1 * (n * width)
    y = _bags(x.flatten(0, 2), row.flatten(), at.flatten(), weight.flatten())
    return y.view(batch, heads, m, -1).to(x_BHnh.dtype)


@torch.library.custom_op("ressformer::invert_columns", mutates_args=())
def _invert(idx_Bnc: Tensor, m: int) -> tuple[Tensor, Tensor]:
    flat_Be = idx_Bnc.flatten(1)
    if flat_Be.device.type == "cpu" and m <= 2**16:
        # A radix sort, which numpy has for 16 bits: ten times faster than a comparison sort.
        order = np.argsort(flat_Be.numpy().astype(np.uint16), axis=-1, kind="stable")
        order_Be = torch.from_numpy(order)
    else:
        order_Be = torch.sort(flat_Be, stable=True, dim=-1).indices
    counts_Bm = torch.zeros(len(flat_Be), m, dtype=torch.int64, device=flat_Be.device)
    counts_Bm.scatter_add_(1, flat_Be, torch.ones_like(flat_Be))
    return order_Be, torch.nn.functional.pad(counts_Bm.cumsum(1), (1, 0))


def _wide(x: Tensor) -> Tensor:
    """Makes x contiguous, and fp32 where it is narrower."""
    return (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x).contiguous()


def _flat_index(idx_Bnc: Tensor, heads: int, m: int) -> Tensor:
    """Returns indices into keys of all batches and heads laid end to end, int32, flat."""
    batch = idx_Bnc.shape[0]
    offset = torch.arange(batch * heads, dtype=torch.int32, device=idx_Bnc.device).view(batch, heads, 1, 1) * m
    return (idx_Bnc.int().unsqueeze(1) + offset).flatten()


def _bags(table: Tensor, index: Tensor, starts: Tensor, weight: Tensor) -> Tensor:
    """Sums weighted rows of the table, one sum for each start."""
    summed: Tensor = torch.ops.aten._embedding_bag_forward_only(table, index, starts, False, 0, False, weight)[0]
    return summed


def _dot_by_copies(x_BHnh: Tensor, y_BHmh: Tensor, idx_Bnc: Tensor) -> Tensor:
    """Multiplies with copies of the keys, in chunks of queries so that memory stays linear."""
    batch, heads, n, width = x_BHnh.shape
    size = max(1, _HELD // (batch * heads * idx_Bnc.shape[-1] * width))
    table, out = y_BHmh.flatten(0, 2), []
    for start in range(0, n, size):
        part_Bqc = idx_Bnc[:, start : start + size]
        rows = table[_flat_index(part_Bqc, heads, y_BHmh.shape[2])].view(batch, heads, *part_Bqc.shape[1:], width)
        out.append((rows @ x_BHnh[:, :, start : start + size].unsqueeze(-1)).squeeze(-1))
    return torch.cat(out, dim=2)


@cache
def _quiet_sparse() -> None:
    """Swallows what torch says once in a process that its CSR support is in beta; products of it are tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        at = torch.tensor([0, 1], dtype=torch.int32)
        torch.sparse_csr_tensor(at, at[:1], torch.ones(1), (1, 1), check_invariants=False)


@_dot.register_fake
def _(x: Tensor, y: Tensor, idx: Tensor, order: Tensor, starts: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:3], idx.shape[-1])


@_sum.register_fake
def _(p: Tensor, y: Tensor, idx: Tensor, order: Tensor, starts: Tensor) -> Tensor:
    return y.new_empty(*p.shape[:3], y.shape[-1])


@_scatter.register_fake
def _(p: Tensor, x: Tensor, idx: Tensor, order: Tensor, starts: Tensor, m: int) -> Tensor:
    return x.new_empty(*x.shape[:2], m, x.shape[-1])


@_invert.register_fake
def _(idx: Tensor, m: int) -> tuple[Tensor, Tensor]:
    return idx.new_empty(idx.shape[0], idx.shape[1] * idx.shape[2]), idx.new_empty(idx.shape[0], m + 1)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _dot_backward(ctx: Any, g_BHnc: Tensor) -> tuple[Tensor | None, ...]:
    x, y, idx, order, starts = ctx.saved_tensors
    g_x = _sum(g_BHnc, y, idx, order, starts) if ctx.needs_input_grad[0] else None
    g_y = _scatter(g_BHnc, x, idx, order, starts, y.shape[2]) if ctx.needs_input_grad[1] else None
    return g_x, g_y, None, None, None


def _sum_backward(ctx: Any, g_BHnh: Tensor) -> tuple[Tensor | None, ...]:
    p, y, idx, order, starts = ctx.saved_tensors
    g_p = _dot(g_BHnh, y, idx, order, starts) if ctx.needs_input_grad[0] else None
    g_y = _scatter(p, g_BHnh, idx, order, starts, y.shape[2]) if ctx.needs_input_grad[1] else None
    return g_p, g_y, None, None, None


_dot.register_autograd(_dot_backward, setup_context=_keep)
_sum.register_autograd(_sum_backward, setup_context=_keep)


@register_flop_formula([torch.ops.ressformer.gather_dot])
def _dot_flops(x: Any, y: Any, idx: Any, *_: Any, **__: Any) -> int:
    return int(2 * x[0] * x[1] * x[2] * x[3] * idx[2])


@register_flop_formula([torch.ops.ressformer.gather_sum])
def _sum_flops(p: Any, y: Any, *_: Any, **__: Any) -> int:
    return int(2 * p[0] * p[1] * p[2] * p[3] * y[3])


@register_flop_formula([torch.ops.ressformer.scatter_sum])
def _scatter_flops(p: Any, x: Any, *_: Any, **__: Any) -> int:
    return int(2 * p[0] * p[1] * p[2] * p[3] * x[3])


@register_flop_formula([torch.ops.ressformer.invert_columns])
def _invert_flops(*_: Any, **__: Any) -> int:
    return 0  # a sort
