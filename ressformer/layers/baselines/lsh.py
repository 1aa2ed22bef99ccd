"""Attention among tokens of one hash bucket (Reformer, 2001.04451), without a look at the future.

In every published version a chunk's border depends on how many tokens, future ones included, fall into the buckets
before it. Here each bucket is cut into chunks from its own start: a token's place is the number of earlier tokens in
its bucket, so what it reads, and in which order, depends on the past alone. Chunks then come in two kinds, each one
call of a fused kernel under one constant mask: the first chunk of a bucket, and the later ones, which also read the
(full) chunk before.

Example: 6 tokens, one round, chunks of 2. Tokens 0, 2, 3, 5 fall into bucket 0 and fill two chunks; tokens 1 and 4 fall
into bucket 1. First chunks come first, then the later one, (3, 5), which follows chunk 0: token 5 reads 3, 0 and 2.

    >>> bucket = torch.tensor([0, 1, 0, 0, 1, 0]).view(1, 1, 6)
    >>> plan = bucket_plan(bucket, n_buckets=2, chunk=2, causal=True, static=False)
    >>> plan.token_Cc.tolist(), plan.first, plan.before_C.tolist()
    ([[0, 2], [1, 4], [3, 5]], 2, [0])

Shapes: B batch, H heads, Z = B * H, n length, N = Z * n, h head width, R rounds, G buckets of all rounds and rows,
C chunks, c chunk length, m directions of a rotation.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from ressformer.layers.baselines.tiled_attention import additive, attend, attend_backward
from ressformer.layers.compiler import outside_compiler


class ChunkPlan(NamedTuple):
    """Says which token sits in which slot of which chunk.

    Attributes:
        slot_NR: place of each token in each round, in a list of C * c slots.
        token_Cc: the token in each slot; N = empty. The first chunk of every bucket, then the later chunks.
        before_C: for each later chunk, the chunk before it in its bucket.
        alone_NR: the token sees nobody but itself in this round.
        first: number of first chunks (G).
    """

    slot_NR: Tensor
    token_Cc: Tensor
    before_C: Tensor
    alone_NR: Tensor
    first: int


def bucket_factors(n_buckets: int) -> tuple[int, ...]:
    """Splits `n_buckets` into the buckets of each rotation; their product is at least `n_buckets`.

    One rotation gives up to 128 buckets; beyond that two are multiplied, as in the authors' code: to find the best of
    ever more directions would make the hash grow faster than n.
    """
    if n_buckets <= 1:
        return ()
    if n_buckets <= 128:
        return (n_buckets + n_buckets % 2,)
    a = 2 * round(math.sqrt(n_buckets) / 2)
    b = -(-n_buckets // a)
    return a, b + b % 2


def hash_rotations(heads: int, width: int, n_buckets: int, rounds: int, seed: int) -> tuple[Tensor, ...]:
    """Draws directions for each factor of `n_buckets`, [H, h, R * m] with m half of the factor's buckets.

    Columns of random rotations, so orthogonal in groups of h: neighbours meet as often as with Gaussian directions, and
    the buckets are far more even (largest over mean 1.4 instead of 5.8; 256 buckets, h = 32).
    """
    generator = torch.Generator().manual_seed(seed)
    halves = [factor // 2 for factor in bucket_factors(n_buckets)]
    square = torch.randn(heads, rounds, -(-sum(halves) // width), width, width, generator=generator)
    turned_HRhm = torch.linalg.qr(square).Q.transpose(2, 3).flatten(3)[..., : sum(halves)]
    return tuple(x.transpose(1, 2).flatten(2) for x in turned_HRhm.split(halves, dim=-1))


def hash_buckets(q_BHnh: Tensor, rotations: tuple[Tensor, ...], rounds: int) -> Tensor:
    """Hashes every token to a bucket, int64 [R, B, H, n]: argmax of [xR; -xR] (2001.04451, section 2)."""
    bucket = torch.zeros((), dtype=torch.int64, device=q_BHnh.device).expand(*q_BHnh.shape[:3], rounds)
    for rotation_HhRm in rotations:
        side_BHnRm = (q_BHnh.detach().float() @ rotation_HhRm.float()).unflatten(-1, (rounds, -1))
        m = side_BHnRm.shape[-1]
        best = side_BHnRm.abs().max(-1, keepdim=True).indices
        negative = side_BHnRm.gather(-1, best) < 0
        bucket = bucket * (2 * m) + (best + m * negative)[..., 0]
    return bucket.permute(3, 0, 1, 2)


def bucket_plan(
    bucket_RZn: Tensor, n_buckets: int, chunk: int, causal: bool, real_Zn: Tensor | None = None, *, static: bool
) -> ChunkPlan:
    """Sorts tokens by (round, row, bucket, position) and cuts every bucket into chunks from its own start.

    `static`: as many later chunks as there can be, so that no shape depends on the data (for counting on `meta`).
    """
    R, Z, n = bucket_RZn.shape
    N, G, device = Z * n, R * Z * n_buckets, bucket_RZn.device
    group_RZn = bucket_RZn + n_buckets * torch.arange(R * Z, device=device).view(R, Z, 1)
    if real_Zn is not None:
        group_RZn = group_RZn.masked_fill(~real_Zn, G)  # padding is in no bucket
    # One flat int32 sort: torch sorts that by radix, ten times faster than int64 rows.
    sorted_M, order_M = group_RZn.reshape(-1).int().sort(stable=True)
    start_G = torch.searchsorted(sorted_M, torch.arange(G + 1, dtype=torch.int32, device=device))
    size_G = torch.diff(start_G, append=start_G.new_full((1,), R * N))
    later_G = (size_G - 1).clamp(min=0)[:G] // chunk
    end_G = later_G.cumsum(0)
    n_later = R * Z * ((n - 1) // chunk) if static else int(end_G[-1])
    slots = (G + n_later) * chunk

    rank_M = torch.arange(R * N, device=device) - start_G.index_select(0, sorted_M)
    base_G = torch.cat([(G + end_G - later_G - 1) * chunk, end_G.new_zeros(1)])
    slot_M = torch.where(rank_M < chunk, sorted_M * chunk, base_G.index_select(0, sorted_M)) + rank_M
    slot_M = torch.where(sorted_M < G, slot_M, slots)
    token_M = order_M % N
    token_S = token_M.new_full((slots + 1,), N).index_copy(0, slot_M, token_M)
    alone_M = rank_M == 0 if causal or chunk == 1 else (size_G == 1).index_select(0, sorted_M)
    place_M = token_M * R + order_M // N
    later_C = torch.arange(n_later, device=device)
    owner_C = torch.searchsorted(end_G, later_C, right=True).clamp_(max=G - 1)
    second_C = later_C == (end_G - later_G).index_select(0, owner_C)
    return ChunkPlan(
        slot_NR=torch.empty_like(slot_M).index_copy_(0, place_M, slot_M).view(N, R),
        token_Cc=token_S[:-1].view(-1, chunk),
        before_C=torch.where(second_C, owner_C, G + later_C - 1),
        alone_NR=torch.empty_like(alone_M).index_copy_(0, place_M, alone_M).view(N, R),
        first=G,
    )


def _rows(*parts_Nh: Tensor) -> Tensor:
    """Puts the parts side by side, and below them the row of zeros that empty slots read, [N + 1, ...]."""
    n, h = parts_Nh[0].shape
    table = parts_Nh[0].new_empty(n + 1, h * len(parts_Nh))
    for i, part_Nh in enumerate(parts_Nh):
        table[:n, i * h : (i + 1) * h] = part_Nh
    table[n] = 0
    return table


def _masks(plan: ChunkPlan, causal: bool, like: Tensor) -> tuple[Tensor, Tensor]:
    """Builds the additive masks of first and later chunks.

    They hide a token from itself, empty slots and the future; a token that would see nothing sees itself.
    """
    c, G = plan.token_Cc.shape[1], plan.first
    if causal:  # tokens fill a chunk in order, so what is earlier is never empty
        own = later = torch.ones(c, c, dtype=torch.bool, device=like.device).tril(-1)
        first = own.clone()
        first[0, 0] = True
    else:
        held_C1c = (plan.token_Cc < len(plan.slot_NR))[:, None]
        own = held_C1c[:, None] & ~torch.eye(c, dtype=torch.bool, device=like.device)
        first, later = own[:G], own[G:]
        first[..., 0] |= ~held_C1c[:G, :, 1:2] if c > 1 else held_C1c.new_ones(1)
    later = torch.cat([torch.ones_like(later), later], -1)
    return additive(first, like.dtype), additive(later, like.dtype)


def _chunks(plan: ChunkPlan, q_Nh: Tensor, k_Nh: Tensor, v_Nh: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Gathers queries [C, 1, c, h] and what they read, [C, 1, c or 2c, h]: for first chunks, then for later ones."""
    token_Cc, G = plan.token_Cc, plan.first
    h, c = q_Nh.shape[1], token_Cc.shape[1]
    q = _rows(q_Nh).index_select(0, token_Cc.view(-1)).view(-1, 1, c, h)
    rows = _rows(k_Nh, v_Nh)
    both_Cl = torch.cat([token_Cc.index_select(0, plan.before_C), token_Cc[G:]], 1)
    first = rows.index_select(0, token_Cc[:G].reshape(-1)).view(-1, 1, c, 2 * h)
    later = rows.index_select(0, both_Cl.view(-1)).view(-1, 1, 2 * c, 2 * h)
    return [(q[:G], first[..., :h], first[..., h:]), (q[G:], later[..., :h], later[..., h:])]


class _ChunkedAttention(torch.autograd.Function):
    """Attends within chunks, with one softmax per token over all rounds."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: ChunkPlan, causal: bool, scale: float) -> Tensor:
        """Takes q, k, v [N, h], returns [N, h]."""
        h, local, outs, sums = q.shape[1], [], [], []
        chunks, masks = _chunks(plan, q, k, v), _masks(plan, causal, q)
        for tiles, mask in zip(chunks, masks, strict=True):
            out, lse, weights = attend(*tiles, mask, scale)
            local.append(None if weights is None else (weights, lse))
            outs.append(out.view(-1, h))
            sums.append(lse.view(-1))
        slot, alone = plan.slot_NR, plan.alone_NR
        lse_NR = torch.cat([*sums, sums[0].new_zeros(1)]).index_select(0, slot.view(-1)).view_as(slot)
        # A round in which a token meets nobody counts only if all its rounds are such.
        lse_NR = lse_NR.masked_fill(alone & ~alone.all(1, keepdim=True), -math.inf)
        joint_N1 = lse_NR.logsumexp(1, keepdim=True)
        weight_NR = (lse_NR - joint_N1).exp().to(q.dtype)
        out = embedding_bag(slot, torch.cat([*outs, outs[0].new_zeros(1, h)]), mode="sum", per_sample_weights=weight_NR)
        joint_NR = torch.where(lse_NR == -math.inf, math.inf, joint_N1)
        ctx.save_for_backward(out, joint_NR, *(x for tiles in chunks for x in tiles))
        ctx.rest = plan, masks, scale, local
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        out, joint_NR, *saved = ctx.saved_tensors
        plan, masks, scale, local = ctx.rest
        (C, c), G, h = plan.token_Cc.shape, plan.first, out.shape[1]
        rows = _rows(grad, out).index_select(0, plan.token_Cc.view(-1)).view(C, 1, c, 2 * h)
        lse = joint_NR.new_zeros(C * c + 1).index_copy_(0, plan.slot_NR.view(-1), joint_NR.view(-1))
        lse = lse[:-1].view(C, 1, c)
        grads = []
        for i, part in enumerate((slice(0, G), slice(G, C))):
            q, k, v = saved[3 * i : 3 * i + 3]
            g, o = rows[part].chunk(2, -1)
            grads.append(attend_backward(g, q, k, v, o, lse[part], masks[i], scale, local[i]))
        return *(_collect(plan, *pair) for pair in zip(*grads, strict=True)), None, None, None


def _collect(plan: ChunkPlan, first: Tensor, later: Tensor) -> Tensor:
    """Sums gradients of chunks [C, 1, c or 2c, h] over each token's places, [N, h]."""
    c, h = plan.token_Cc.shape[1], first.shape[-1]
    later = later.view(len(later), later.shape[2] // c, c * h)
    table = torch.cat([first.view(-1), later[:, -1].reshape(-1), first.new_zeros(h)])
    if later.shape[1] == 2:
        table[:-h].view(-1, c * h).index_add_(0, plan.before_C, later[:, 0])
    return embedding_bag(plan.slot_NR, table.view(-1, h), mode="sum")


@outside_compiler
def lsh_attention(
    qk_BHnh: Tensor,
    v_BHnh: Tensor,
    *,
    rotations: tuple[Tensor, ...],
    rounds: int = 4,
    chunk: int = 64,
    causal: bool,
    key_mask_Bn: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Reformer attention (2001.04451, section 2), safe for causal use.

    Queries are `qk`, keys are `qk` at length 1, scores are `scale` * q.k (1 as in `transformers`; the paper divides by
    sqrt(h) as well, which leaves little contrast). In each round a token reads those of its bucket that are in its own
    chunk, and in the chunk before; causal: only earlier ones; itself only where that is all it sees in every round.
    Rounds are joined in one softmax (appendix A, less its log N: a key met in two rounds counts twice, as in
    `transformers`).

    Visible and executed pairs: `lsh_pairs`. Time is linear in n for n_buckets proportional to n.

    Args:
        qk_BHnh, v_BHnh: shared queries and keys; values.
        rotations: of `hash_rotations(H, h, n_buckets, rounds, seed)`, on the same device; () = one bucket. As buckets
            are to stay as full at any length, take n_buckets = n / chunk.
        key_mask_Bn: True at real tokens; padding is on the right. Not read when causal: no real token sees it.

    Returns:
        [B, H, n, h].

    Raises:
        ValueError: rounds or chunk below 1, or rotations made for other heads, width or rounds.
    """
    B, H, n, h = qk_BHnh.shape
    if rounds < 1 or chunk < 1:
        raise ValueError(f"LSH attention: rounds={rounds} and chunk={chunk} must be at least 1")
    if any(r.shape[:2] != (H, h) or r.shape[2] % rounds for r in rotations):
        shapes = [tuple(r.shape) for r in rotations]
        raise ValueError(f"LSH attention: rotations {shapes} do not fit {H} heads of width {h} and {rounds} rounds")
    n_buckets = math.prod(2 * (r.shape[2] // rounds) for r in rotations)
    bucket_RZn = hash_buckets(qk_BHnh, rotations, rounds).reshape(rounds, B * H, n)
    real_Zn = None if causal or key_mask_Bn is None else key_mask_Bn.repeat_interleave(H, 0)
    plan = bucket_plan(bucket_RZn, n_buckets, min(chunk, n), causal, real_Zn, static=qk_BHnh.is_meta)
    q_Nh, v_Nh = qk_BHnh.reshape(-1, h), v_BHnh.reshape(-1, h)
    k_Nh = normalize(q_Nh, dim=-1).to(q_Nh.dtype)
    out_Nh: Tensor = _ChunkedAttention.apply(q_Nh, k_Nh, v_Nh, plan, causal, scale)  # type: ignore[no-untyped-call]
    return out_Nh.view(B, H, n, h)


@lru_cache(maxsize=4096)
def lsh_pairs(n: int, *, n_buckets: int, rounds: int = 4, chunk: int = 64, causal: bool) -> tuple[int, int]:
    """Counts the (useful, executed) query-key pairs of `lsh_attention`, per sequence and head.

    Both depend on the data; `n_buckets` is rounded up as by `bucket_factors`. Useful is nominal: all buckets equally
    full, s = n / n_buckets; causal, the token at place i of its bucket sees i % c others, c more from place c on (and
    itself at place 0); times rounds. Executed is the most there can be, rounds (n_buckets c^2 + floor((n - 1) / c)
    2 c^2), so 3 c n rounds for n_buckets = n / c; hashed at random, tokens need about 2 c n rounds.
    """

    def seen(place: int, size: int) -> int:
        own = place % chunk if causal else min(chunk, size - place // chunk * chunk) - 1
        return own + chunk * (place >= chunk) or 1

    chunk, n_buckets = min(chunk, n), math.prod(bucket_factors(n_buckets))
    size, larger = divmod(n, n_buckets)
    useful = sum(seen(i, size) for i in range(size)) * (n_buckets - larger)
    useful += sum(seen(i, size + 1) for i in range(size + 1)) * larger
    return rounds * useful, rounds * chunk**2 * (n_buckets + 2 * ((n - 1) // chunk))


def hash_flops(n: int, *, width: int, n_buckets: int, rounds: int = 4) -> int:
    """Counts the FLOPs of hashing, per sequence and head: 2 n h m per round and rotation; nothing runs backward."""
    return 2 * n * width * rounds * sum(factor // 2 for factor in bucket_factors(n_buckets))
