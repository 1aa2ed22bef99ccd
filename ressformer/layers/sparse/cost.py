"""What ASAM costs: the closed forms of `sparse.attention`, useful and executed.

Useful pairs are those that may influence the output. Executed are those handed to kernels: all columns of a query, also
those that do not exist; whole blocks, masked pairs and the filling of the last block included.

Shapes: n length, d width, r rank of the scores that select, k selected keys, w cache entries, m slots, b block,
N blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ressformer.cost import Cost, Shape, group, linear
from ressformer.layers.sparse.config import SelectionConfig, cache_ages
from ressformer.layers.sparse.key_selection import scored_pairs, selection_bytes


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Counts query-key pairs of a sequence.

    Attributes:
        scored, scored_executed: scored for selection only: of tokens, or of blocks.
        read, read_executed: selected keys that are read, cache and slots apart.
        near, near_executed: of the cache.
        moved: bytes moved by selecting and gathering.
    """

    scored: int
    scored_executed: int
    read: int
    read_executed: int
    near: int
    near_executed: int
    moved: float


@lru_cache(maxsize=1024)
def pairs(n: int, config: SelectionConfig, causal: bool) -> Pairs:
    """Counts the pairs of one sequence.

    Tokens: visible pairs are scored; each query reads its k best outside the cache, or all where there are fewer.
    Blocks: a query reads its own block as far as it may, and m - 1 others where there are so many; keys of its cache
    are not read twice, which is counted for the own block alone (whether a neighbour is chosen depends on the data).
    """
    seen = np.arange(1, n + 1) if causal else np.full(n, n)
    at = np.arange(n)[:, None] - np.asarray(cache_ages(config.cache, causal), dtype=np.int64)[None, :]
    near = ((at >= 0) & (at < n)).sum(axis=1)
    cached = {"near": int(near.sum()), "near_executed": int(at.size)}
    if config.selection == "token":
        visible, scored = scored_pairs(n, config.top_k, causal=causal)
        read, columns = int(np.minimum(config.top_k, seen - near).sum()), n * min(config.top_k, n)
        moved = selection_bytes(n, config.top_k, causal=causal)
        return Pairs(scored=visible, scored_executed=scored, read=read, read_executed=columns, moved=moved, **cached)
    b = min(config.block, n)
    number = -(-n // b)
    if config.selection == "all":
        executed = (number * b) ** 2
        return Pairs(
            scored=0, scored_executed=0, read=int((seen - near).sum()), read_executed=executed, moved=0.0, **cached
        )
    others = min(config.blocks, number) - 1
    block = np.arange(n) // b
    size = np.minimum(b, n - block * b)
    own = np.arange(n) % b + 1 if causal else size
    inside = ((at >= 0) & (at < n) & (at // b == block[:, None])).sum(axis=1)
    chosen = np.minimum(others, block) if causal else np.full(n, others)
    read = int((own - inside + chosen * b).sum())
    scored, moved = 0, 8.0 * number * (others + 1) * b
    if others:
        scored = number * (number - 1) // (2 if causal else 1)
        moved += selection_bytes(number, others, causal=causal)
    return Pairs(
        scored=scored,
        scored_executed=scored_pairs(number, others, causal=causal)[1] if others else 0,
        read=min(read, int((seen - near).sum())),
        read_executed=number * b * (others + 1) * b,
        moved=moved,
        **cached,
    )


@lru_cache(maxsize=1024)
def sparse_attention_cost(
    shape: Shape, d_model: int, config: SelectionConfig, *, edge_rank: int, slots: int, segment: int, heads: int = 1
) -> Cost:
    """Charges projections, scores that select, and edges, scores and values of what is read.

    Selecting has no gradient. An edge of a token that is read counts once, though it is multiplied twice: when tokens
    are selected, and when it is added to the scores of those that were. So do the heads' own scores where they select.
    With `top_k_per_head` each head selects by its own q.k and the edge together, and every head reads edges of its own.
    A cache of the step before costs what one of this step does: its tokens are read once, in either state.

    Args:
        heads: H; read by `top_k_per_head`.
    """
    n, d, causal = shape.length, d_model, shape.causal
    at = pairs(n, config, causal)
    groups = -(-n // segment) if causal else 1
    slot, slot_executed = slots * (max(0, n - segment) if causal else n), slots * n
    read, executed = at.read + at.near, at.read_executed + at.near_executed
    times = heads if config.top_k_per_head else 1
    edge_rank *= times  # of all heads together
    rank = d + edge_rank if config.top_k_per_head else edge_rank or d
    # Tokens that are read have been multiplied for the selection, forward; their gradients have not.
    again = config.selection == "token"
    scored = again and (config.top_k_per_head or not edge_rank)
    edge_flops, score_flops = 2.0 * edge_rank * read, 2.0 * d * (read + slot)
    return group(
        "attention",
        linear("qkv", n, d, 3 * d),
        Cost(name="slot_projection", flops=4.0 * groups * slots * d * d),
        Cost(
            name="selection",
            flops=2.0 * rank * at.scored,
            backward=0.0,
            executed=2.0 * rank * at.scored_executed,
            executed_backward=0.0,
            bytes_moved=at.moved * times,
        ),
        Cost(
            name="edge_bias",
            flops=0.0 if again else edge_flops,
            backward=2 * edge_flops,
            executed=2.0 * edge_rank * executed,
        ),
        Cost(
            name="scores",
            flops=2.0 * d * slot if scored else score_flops,
            backward=2 * score_flops,
            executed=2.0 * d * (executed + slot_executed),
        ),
        Cost(name="values", flops=2.0 * d * (read + slot), executed=2.0 * d * (executed + slot_executed)),
        linear("out", n, d, d),
    )
