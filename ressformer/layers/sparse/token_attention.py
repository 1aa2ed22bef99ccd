"""Attention to selected tokens as a function of queries, keys and values: no cache, no slots, no edges in the scores.

It is to `attention.SparseAttention` with tokens what `block_attention.block_selected_attention` is with blocks.

Shapes: B batch, n length, H heads, h head width, r rank of the factors, k selected keys.
"""

from __future__ import annotations

import math

from torch import Tensor

from ressformer.layers.sparse.entmax import normalise
from ressformer.layers.sparse.gather import columns, gather_dot, gather_sum
from ressformer.layers.sparse.key_selection import select_keys


def token_selected_attention(
    q_BHnh: Tensor,
    k_BHnh: Tensor,
    v_BHnh: Tensor,
    *,
    top_k: int = 32,
    activation: str = "entmax15",
    causal: bool = True,
    factors: tuple[Tensor, Tensor] | None = None,
    mask_Bn: Tensor | None = None,
) -> Tensor:
    """Lets each query attend to its `top_k` best keys, shared by the heads; scores are scaled by 1/sqrt(h).

    Args:
        factors: (a, b), each [B, n, r], whose products choose the keys; None = the head-summed q . k chooses.
        mask_Bn: True at real tokens.

    Returns:
        [B, H, n, h].
    """
    a, b = factors or (q_BHnh.transpose(1, 2).flatten(2), k_BHnh.transpose(1, 2).flatten(2))
    cols = columns(select_keys(a, b, top_k, causal=causal, mask_Bn=mask_Bn), q_BHnh.shape[2])
    z_BHnk = gather_dot(q_BHnh / math.sqrt(q_BHnh.shape[-1]), k_BHnh, cols)
    return gather_sum(normalise(z_BHnk, activation, cols.valid_Bnc.unsqueeze(1)), v_BHnh, cols)
