"""The gated delta rule (Yang, Kautz & Hatamizadeh 2024, 2412.06464), chunk by chunk in matrix products.

The recurrence (eq. 10), per head, with a state S [k, v]:

    S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T,    o_t = q_t^T S_t

Within a chunk it is the WY form of section 3.3: with T = (I + A)^-1, A_ij = b_i (k_i.k_j) a_{j+1} .. a_i below the
diagonal, the values that are really written are T (b v) - T (b a k) S. Chunks are gone through in order.

Shapes: B batch, n length, H heads, k key width, v value width, N chunks, c tokens a chunk, P = N * B * H.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ressformer.cost import Cost, group
from ressformer.layers.recurrent.chunks import Chunks, chunks, decays
from ressformer.layers.recurrent.triangular import inverse_flops, unit_lower_inverse


def gated_delta_rule(
    q_BnHk: Tensor, k_BnHk: Tensor, v_BnHv: Tensor, log_a_BnH: Tensor, b_BnH: Tensor, *, chunk: int
) -> Tensor:
    """Outputs o [B, n, H, v]; the state starts at 0.

    Args:
        q_BnHk, k_BnHk: queries and keys, the keys of length at most 1.
        v_BnHv: values.
        log_a_BnH: log of the decay a, at most 0.
        b_BnH: strength b of writing, 0..1.
        chunk: most tokens of a chunk; it changes the time, not the result.
    """
    batch, n, heads, _ = k_BnHk.shape
    cut = chunks(n, chunk)
    q_Pck, k_Pck, v_Pcv = (_rows(x, cut) for x in (q_BnHk, k_BnHk, v_BnHv))
    log_a_Pc1, b_Pc1 = (_rows(x.unsqueeze(-1), cut) for x in (log_a_BnH, b_BnH))
    total_Pc, decay_Pcc = decays(log_a_Pc1.squeeze(-1))
    bk_Pck = k_Pck * b_Pc1
    inverse_Pcc = unit_lower_inverse(bk_Pck @ k_Pck.mT * decay_Pcc)
    values_Pcv, own_Pcc = inverse_Pcc @ (v_Pcv * b_Pc1), q_Pck @ k_Pck.mT * decay_Pcc
    if cut.count == 1:
        out_Pcv = own_Pcc @ values_Pcv
    else:
        since_Pc1 = total_Pc.exp().unsqueeze(-1)  # decay since the chunk's start
        left_Pc1 = (total_Pc[:, -1:] - total_Pc).exp().unsqueeze(-1)  # decay until the chunk's end
        reads_Pck = torch.cat([q_Pck * since_Pc1, inverse_Pcc @ (bk_Pck * since_Pc1)], dim=1)
        parts = (own_Pcc, reads_Pck, values_Pcv, (k_Pck * left_Pc1).mT, since_Pc1[:, -1:])
        out_Pcv = _carry(*(part.unflatten(0, (cut.count, -1)) for part in parts))
    out_NBHcv = out_Pcv.view(cut.count, batch, heads, cut.size, -1)
    return out_NBHcv.permute(1, 0, 3, 2, 4).reshape(batch, -1, heads, v_BnHv.shape[-1])[:, :n]


def _rows(x_BnHk: Tensor, cut: Chunks) -> Tensor:
    """[B, n, H, k] -> [N * B * H, c, k]."""
    return cut.cut(x_BnHk).permute(1, 0, 3, 2, 4).flatten(0, 2)


def _carry(own: Tensor, reads: Tensor, values: Tensor, keys: Tensor, decay: Tensor) -> Tensor:
    """Outputs, chunk after chunk; all arguments begin with [N, B * H]; `reads` holds queries, then T (b a k)."""
    outs: list[Tensor] = []
    state: Tensor | None = None
    size = own.shape[2]
    for index, (own_c, reads_c, values_c) in enumerate(zip(own.unbind(), reads.unbind(), values.unbind(), strict=True)):
        if state is None:
            outs.append(own_c @ values_c)
        else:
            read, erased = (reads_c @ state).split(size, dim=1)
            values_c = values_c - erased
            outs.append(torch.baddbmm(read, own_c, values_c))
        if index + 1 < len(own):
            fresh = keys[index] @ values_c
            state = fresh if state is None else torch.addcmul(fresh, state, decay[index])
    return torch.cat(outs)


def delta_rule_cost(tokens: int, heads: int, key: int, value: int, *, chunk: int) -> Cost:
    """Products within chunks, the inverse, and the state's reads and writes.

    The inverse is charged by substitution (see `triangular`), its gradient as two full products. Useful is the lower
    half of what is c x c, for real tokens; one chunk alone has no state. The decay of the state
    is elementwise and, like all such, not charged.
    """
    cut = chunks(tokens, chunk)
    c, n_chunks, pairs = cut.size, cut.count, cut.pairs
    square = n_chunks * c * c
    width = 2 * value + (key if n_chunks > 1 else 0)  # written values, read values, and what writing erases
    inverse = float(heads * n_chunks * inverse_flops(c))
    return group(
        "delta_rule",
        Cost(
            name="scores",
            flops=2.0 * heads * key * (2 * pairs - tokens),  # keys with keys before them, queries with their own, too
            executed=4.0 * heads * key * square,
        ),
        Cost(name="inverse", flops=inverse, executed_backward=4.0 * heads * n_chunks * c**3),
        Cost(
            name="values",
            flops=2.0 * heads * width * pairs,
            executed=2.0 * heads * width * square,
        ),
        Cost(
            name="state",
            flops=heads * key * value * (4.0 * cut.readers + 2.0 * cut.writers),
            executed=6.0 * heads * key * value * (n_chunks - 1) * c,
        ),
    )
