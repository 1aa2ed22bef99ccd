"""Tokens to their experts and back as one node of the autograd graph, for CPU.

It computes what `experts.moe` writes in operators, which is its oracle: rows sorted by expert, two grouped products
with GELU between them, results weighted by the gates and added up by token. One node instead of a dozen, and no
operator of our own in the way: on short sequences that costs as much as the products.

Example: 3 tokens, 3 experts, 2 for each token. Read token by token, the choices are 1 0 | 0 2 | 1 2. Sorted by expert,
the rows are those of tokens 0 1 | 0 2 | 1 2: expert 0 ends at row 2, expert 1 at 4, expert 2 at 6. Token 0's own two
results then lie at rows 2 (its first choice, expert 1) and 0.

    >>> order_P, place_P, ends_E = sort_by_expert(torch.tensor([[1, 0], [0, 2], [1, 2]]), 3)
    >>> (order_P // 2).tolist(), place_P.tolist(), ends_E.tolist()
    ([0, 1, 0, 2, 1, 2], [2, 0, 1, 4, 3, 5], [2, 4, 6])

Shapes: T tokens, e experts per token, P = T * e rows, E experts, d width, f expert width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import gelu

from ressformer.layers.experts.grouped_linear import outer_product, rows_product


class Dispatch(torch.autograd.Function):
    """Runs each token through its experts: `apply(x_Td, gate_Te, expert_Te, up_Edf, down_Efd)` returns y_Td."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, expert: Tensor, up: Tensor, down: Tensor) -> Tensor:
        order_P, place_P, ends = sort_by_expert(expert, len(up))
        token_P = order_P // expert.shape[1]
        rows_Pd = x.index_select(0, token_P)
        h_Pf = rows_product(rows_Pd, up, ends, steady=True)
        a_Pf = gelu(h_Pf)
        y_Pd = rows_product(a_Pf, down, ends, steady=True)
        gate_P1 = gate.reshape(-1, 1).index_select(0, order_P)
        ctx.save_for_backward(rows_Pd, h_Pf, a_Pf, y_Pd, gate_P1, up, down, ends, token_P, place_P)
        ctx.each = expert.shape[1]
        return _by_token(y_Pd * gate_P1, place_P, ctx.each)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_Td: Tensor) -> tuple[Tensor | None, ...]:
        rows_Pd, h_Pf, a_Pf, y_Pd, gate_P1, up, down, ends, token_P, place_P = ctx.saved_tensors
        g_Pd = g_Td.index_select(0, token_P)
        d_gate = (g_Pd * y_Pd).sum(-1).index_select(0, place_P).view(-1, ctx.each)
        g_Pd = g_Pd.mul_(gate_P1)
        d_down = outer_product(a_Pf, g_Pd, ends)
        d_h = rows_product(g_Pd, down.transpose(1, 2), ends, steady=False)
        d_h = torch.ops.aten.gelu_backward(d_h, h_Pf)
        d_up = outer_product(rows_Pd, d_h, ends)
        d_rows = rows_product(d_h, up.transpose(1, 2), ends, steady=False)
        return _by_token(d_rows, place_P, ctx.each), d_gate, None, d_up, d_down


def sort_by_expert(expert_Te: Tensor, n_experts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lays the (token, choice) pairs, numbered token by token, out by expert.

    Returns:
        The pair in each row [P], the row of each pair [P], and where each expert's rows end [E], int32.
    """
    # numpy sorts 16 bits by radix; the order of equal ones is that of the tokens.
    of_row = expert_Te.numpy().ravel()
    order = np.argsort(of_row.astype(np.uint16), kind="stable")
    ends = np.bincount(of_row, minlength=n_experts).cumsum().astype(np.int32)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return torch.from_numpy(order), torch.from_numpy(place), torch.from_numpy(ends)


def _by_token(y_Pd: Tensor, place_P: Tensor, each: int) -> Tensor:
    """Unsorts rows and adds each token's few up, in a fixed order."""
    y_Td = y_Pd.index_select(0, place_P)
    return y_Td if each == 1 else y_Td.view(-1, each, y_Td.shape[1]).sum(1)
