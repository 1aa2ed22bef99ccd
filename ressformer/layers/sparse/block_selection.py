"""Which blocks of keys each block of queries reads, and which keys in them.

A causal block scores whole past blocks, each by the mean of its tokens, with its FIRST query: the mean of a block's
queries would let later tokens choose what earlier ones read.

Example: 8 tokens in N = 4 blocks of b = 2, each block reads m = 2. Keys (3, 1), (0, 2), (5, 5), (9, 9) have the means
2, 1, 5, 9. All queries are 1, so means are scores: block 0 has no past (N = 4 marks none), block 1 can only add block
0, block 2 prefers block 0 to block 1 (2 > 1), block 3 takes block 2. Block 3 itself, the best of all, is future to the
others.

    >>> a, b = torch.ones(1, 8, 1), torch.tensor([3.0, 1, 0, 2, 5, 5, 9, 9]).view(1, 8, 1)
    >>> choose_blocks(a, b, 2, block=2, causal=True).tolist()
    [[[4, 0], [0, 1], [0, 2], [2, 3]]]

Shapes: B batch, n length, r rank of the scores, b block, N = ceil(n / b) blocks, m chosen blocks, L = m b keys.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from ressformer.layers.sparse.key_selection import select_keys


def split_blocks(x: Tensor, block: int) -> Tensor:
    """Cuts [B, n, *] into [B * N, b, *], zeros after the end."""
    extra = -x.shape[1] % block
    x = pad(x, (0, 0) * (x.ndim - 2) + (0, extra)) if extra else x
    return x.reshape(-1, block, *x.shape[2:])


def merge_blocks(x_Gb: Tensor, batch: int, n: int) -> Tensor:
    """Joins [B * N, b, *] to [B, n, *]."""
    x_Bn = x_Gb.reshape(batch, -1, *x_Gb.shape[2:])
    return x_Bn if x_Bn.shape[1] == n else x_Bn[:, :n]


def block_means(x_Bnr: Tensor, block: int, mask_Bn: Tensor | None) -> Tensor:
    """Averages each block's real tokens, [B, N, r]; 0 where there is none."""
    batch, n = x_Bnr.shape[:2]
    if mask_Bn is None and n % block == 0:
        return x_Bnr.view(batch, -1, block, x_Bnr.shape[2]).mean(2)
    real_Bn = x_Bnr.new_ones(batch, n) if mask_Bn is None else mask_Bn.to(x_Bnr.dtype)
    total_BNr = split_blocks(x_Bnr * real_Bn.unsqueeze(-1), block).sum(1).view(batch, -1, x_Bnr.shape[2])
    return total_BNr / split_blocks(real_Bn, block).sum(1).view(batch, -1, 1).clamp_min(1.0)


def choose_blocks(
    a_Bnr: Tensor, b_Bnr: Tensor, blocks: int, *, block: int, causal: bool, mask_Bn: Tensor | None = None
) -> Tensor:
    """Chooses what each block reads: its own, and the blocks - 1 others (past ones, when causal) of best score a . b.

    Args:
        a_Bnr, b_Bnr: factors of the scores; no gradient flows into them from here.
        blocks: m, the own one included.
        mask_Bn: blocks without any True are not chosen.

    Returns:
        int64 [B, N, min(m, N)]: the others, ascending, the number N where there are fewer; the own one last.

    Raises:
        ValueError: blocks or block below 1.
    """
    if blocks < 1 or block < 1:
        raise ValueError(f"block selection: blocks={blocks} and block={block} must be at least 1")
    a_Bnr, b_Bnr = a_Bnr.detach(), b_Bnr.detach()
    batch, n, _ = a_Bnr.shape
    number = -(-n // block)
    own_BN1 = torch.arange(number, device=a_Bnr.device).view(1, -1, 1).expand(batch, -1, -1)
    if min(blocks, number) == 1:
        return own_BN1.contiguous()
    query_BNr = a_Bnr[:, ::block] if causal else block_means(a_Bnr, block, mask_Bn)
    seen_BN = None if mask_Bn is None else split_blocks(mask_Bn, block).any(1).view(batch, number)
    others_BNm = select_keys(
        query_BNr.contiguous(),
        block_means(b_Bnr, block, mask_Bn),
        min(blocks, number) - 1,
        near=1,
        causal=causal,
        mask_Bn=seen_BN,
    )
    return torch.cat([others_BNm, own_BN1], dim=-1)


def all_blocks(batch: int, n: int, *, block: int, causal: bool, device: torch.device | None = None) -> Tensor:
    """Returns what `choose_blocks` would if it chose every block: dense attention."""
    number = -(-n // block)
    i_N1 = torch.arange(number, device=device).unsqueeze(1)
    j = torch.arange(number - 1, device=device)
    others = (j + (j >= i_N1).long()) if not causal else torch.where(j < i_N1, j, number)
    return torch.cat([others, i_N1], dim=-1).expand(batch, -1, -1).contiguous()


def hidden_keys(
    chosen_BNm: Tensor, n: int, *, block: int, causal: bool, near: int = 0, mask_Bn: Tensor | None = None
) -> Tensor:
    """Marks the keys of its chosen blocks that a query may not read, bool [B, N, b, L] (b = 1: all queries agree).

    Hidden are blocks that do not exist, tokens beyond n, padding, the future when causal, and tokens nearer than `near`
    (i - near < j causal, |i - j| < near otherwise), which are read elsewhere.
    """
    number, device = chosen_BNm.shape[1], chosen_BNm.device
    within_b = torch.arange(block, device=device)
    j_BNL = (chosen_BNm.unsqueeze(-1) * block + within_b).flatten(2)
    absent_BNL = j_BNL >= n
    if mask_Bn is not None:
        seen_Bn = pad(mask_Bn, (0, (number + 1) * block - n))
        absent_BNL = ~seen_Bn.gather(1, j_BNL.flatten(1)).view_as(j_BNL)
    i_Nb1 = (torch.arange(number, device=device).unsqueeze(1) * block + within_b).unsqueeze(-1)
    if causal:
        # One comparison does: absent keys are put beyond every query.
        return j_BNL.masked_fill(absent_BNL, number * block).int().unsqueeze(2) > (i_Nb1 - near).int()
    absent = absent_BNL.unsqueeze(2)
    return absent | ((i_Nb1 - j_BNL.unsqueeze(2)).abs() < near) if near else absent
