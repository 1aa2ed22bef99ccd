"""State space duality: the scan of Mamba-2 (Dao & Gu 2024, 2405.21060), chunk by chunk in matrix products.

The recurrence (eq. 1 with a scalar decay, section 5), per head, with a state S [s, p]:

    S_t = a_t S_{t-1} + B_t x_t^T,    y_t = C_t^T S_t

B and C serve all heads (one group). This is the block decomposition of section 6: within a chunk the masked products
C B^T, between chunks the state.

Shapes: B batch, n length, H heads, p head width, s state width, N chunks, c tokens a chunk, D = H * p, M = B * N.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ressformer.cost import Cost, group
from ressformer.layers.recurrent.chunks import chunks, decays


def ssd(x_BnHp: Tensor, log_a_BnH: Tensor, b_Bns: Tensor, c_Bns: Tensor, *, chunk: int) -> Tensor:
    """Outputs y [B, n, H, p]; the state starts at 0.

    Args:
        x_BnHp: inputs, the step size multiplied in.
        log_a_BnH: log of the decay a, at most 0.
        b_Bns, c_Bns: what writes to and reads from the state.
        chunk: most tokens of a chunk; it changes the time, not the result.
    """
    batch, n, heads, width = x_BnHp.shape
    cut = chunks(n, chunk)
    x_McHp, log_a_McH, b_Mcs, c_Mcs = (cut.cut(t).flatten(0, 1) for t in (x_BnHp, log_a_BnH, b_Bns, c_Bns))
    total_MHc, decay_MHcc = decays(log_a_McH.transpose(1, 2))
    own_MHcc = (c_Mcs @ b_Mcs.mT).unsqueeze(1) * decay_MHcc
    y_McHp = (own_MHcc @ x_McHp.transpose(1, 2)).transpose(1, 2)
    if cut.count > 1:
        total_McH1 = total_MHc.transpose(1, 2).unsqueeze(-1)
        left_McH1 = (total_McH1[:, -1:] - total_McH1).exp()  # decay until the chunk's end
        x_BNcD = (x_McHp * left_McH1).view(batch, cut.count, cut.size, -1)
        last_BNH1 = total_MHc[:, :, -1].exp().view(batch, cut.count, 1, heads, 1)
        b_BNcs, c_BNcs = (t.unflatten(0, (batch, cut.count)) for t in (b_Mcs, c_Mcs))
        state_BNsD = _states(b_BNcs[:, :-1].mT @ x_BNcD[:, :-1], last_BNH1)
        read_BNcHp = (c_BNcs[:, 1:] @ state_BNsD).unflatten(-1, (heads, width))
        y_BNcHp = y_McHp.unflatten(0, (batch, cut.count))
        since_BNcH1 = total_McH1.exp().unflatten(0, (batch, cut.count))[:, 1:]
        later_BNcHp = torch.addcmul(y_BNcHp[:, 1:], read_BNcHp, since_BNcH1)
        y_McHp = torch.cat([y_BNcHp[:, :1], later_BNcHp], dim=1).flatten(0, 1)
    return y_McHp.reshape(batch, -1, heads, width)[:, :n]


def _states(fresh_BNsD: Tensor, decay_BN1H1: Tensor) -> Tensor:
    """States before the chunks 2..N from what each of the chunks 1..N-1 adds and how far it decays the state."""
    fresh_BNsHp = fresh_BNsD.unflatten(-1, (decay_BN1H1.shape[-2], -1))
    states = [fresh_BNsHp[:, 0]]
    for index in range(1, fresh_BNsHp.shape[1]):
        states.append(torch.addcmul(fresh_BNsHp[:, index], states[-1], decay_BN1H1[:, index]))
    return torch.stack(states, dim=1).flatten(-2)


def ssd_cost(tokens: int, heads: int, width: int, state: int, *, chunk: int) -> Cost:
    """Products within chunks and the state's reads and writes.

    Useful is the lower half of what is c x c, for real tokens; the decay of the state from chunk to chunk (one
    multiply-accumulate per number of the state and chunk) is elementwise and, like all such, not charged.
    """
    cut = chunks(tokens, chunk)
    square, between = cut.count * cut.size**2, (cut.count - 1) * cut.size
    inner = heads * width
    return group(
        "ssd",
        Cost(name="scores", flops=2.0 * state * cut.pairs, executed=2.0 * state * square),
        Cost(name="values", flops=2.0 * inner * cut.pairs, executed=2.0 * inner * square),
        Cost(
            name="state",
            flops=2.0 * inner * state * (cut.readers + cut.writers),
            executed=4.0 * inner * state * between,
        ),
    )
