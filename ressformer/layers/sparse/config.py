"""The dials of ReSSFormer's attention, and the ages of its cache.

Shapes: H heads, w cache entries.
"""

from __future__ import annotations

from dataclasses import dataclass

SELECTIONS = ("token", "block", "all")
CACHE_STEPS = ("current", "previous")


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """Says how keys are selected and normalised.

    Attributes:
        selection: token | block | all.
        top_k: k (token).
        top_k_per_head: each head selects its own k keys by the score it attends with (token).
        block: tokens of a block (block, all).
        blocks: blocks that a query reads, its own included (block).
        cache: tokens in the token cache, self included; 0 = off.
        cache_step: current | previous: the step of the loop whose states the cache holds.
        cache_lean: strength of the initial age bias (`age_bias`).
        activation: softmax | sparsemax | entmax15.
        attention_graph: the graph is the head-averaged attention on the selected keys, not the edges.
    """

    selection: str = "token"
    top_k: int = 16
    top_k_per_head: bool = False
    block: int = 64
    blocks: int = 4
    cache: int = 0
    cache_step: str = "current"
    cache_lean: float = 0.0
    activation: str = "entmax15"
    attention_graph: bool = False


def cache_ages(cache: int, causal: bool) -> tuple[int, ...]:
    """Lists the ages of the cache's entries: 0..w-1 looking back, or -(w-1)..w-1 around a bidirectional token."""
    return tuple(range(cache)) if causal else tuple(range(1 - cache, cache))
