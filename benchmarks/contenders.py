"""The mixers that `benchmarks.mixers` compares: ours, dense attention, and those of other packages.

Two levels: a *core* takes queries, keys and values; a *layer* takes hidden states and has its own projections, since
that is what some packages offer. Each is compared with dense causal attention of its own level.

Shapes: B batch, H heads, n length, h head width, d = H * h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ressformer.layers.attention import MultiHeadAttention
from ressformer.layers.baselines.block_sparse import block_sparse_attention
from ressformer.layers.baselines.lsh import hash_rotations, lsh_attention
from ressformer.layers.baselines.sliding_window import sliding_window_attention
from ressformer.layers.sparse.block_attention import block_selected_attention
from ressformer.layers.sparse.token_attention import token_selected_attention
from ressformer.models.bigbird import BigBirdConfig
from ressformer.models.longformer import LongformerConfig
from ressformer.models.reformer import ReformerConfig

D, H = 128, 4
WIDTH = D // H
WINDOW, BLOCK, ROUNDS, CHOSEN, TOP_K, RANK = 128, 64, 4, 4, 32, 16

Level = Literal["core", "layer"]


@dataclass(frozen=True)
class Mixer:
    """One contender.

    Attributes:
        name: what it is, and its settings.
        level: core, `make(n)` gives (q, k, v) -> [B, H, n, h]; layer, (x [B, n, d]) -> [B, n, d].
        make: builds it for a length; ImportError where its package is missing.
        shortest, longest: lengths that it can do, or that fit in memory.
    """

    name: str
    level: Level
    make: Callable[[int], Callable[..., Tensor]]
    shortest: int = 1
    longest: int = 1 << 30


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scaled_dot_product_attention(q, k, v, is_causal=True)


def windows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return sliding_window_attention(q, k, v, window=WINDOW, causal=True)


def blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return block_sparse_attention(q, k, v, block=BLOCK, window=3, n_global=1, n_random=1, causal=True)


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Dense causal attention that holds the n x n matrix."""
    n = q.shape[2]
    hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
    return (q @ k.mT * WIDTH**-0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ v


def reformer_core(n: int) -> Callable[..., Tensor]:
    rotations = hash_rotations(H, WIDTH, max(1, n // BLOCK), ROUNDS, 0)
    return lambda q, k, v: lsh_attention(q, v, rotations=rotations, rounds=ROUNDS, chunk=BLOCK, causal=True)


def chosen_blocks(activation: str) -> Callable[[int], Callable[..., Tensor]]:
    def make(n: int) -> Callable[..., Tensor]:
        keys: dict[str, Any] = {"block": BLOCK, "blocks": CHOSEN, "activation": activation, "causal": True}
        return lambda q, k, v: block_selected_attention(q, k, v, factors=factors(q), **keys)

    return make


def chosen_tokens(activation: str) -> Callable[[int], Callable[..., Tensor]]:
    def make(n: int) -> Callable[..., Tensor]:
        keys: dict[str, Any] = {"top_k": TOP_K, "activation": activation, "causal": True}
        return lambda q, k, v: token_selected_attention(q, k, v, factors=factors(q), **keys)

    return make


_FACTORS: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}


def factors(q: Tensor) -> tuple[Tensor, Tensor]:
    """Low-rank factors of the selection scores, [B, n, r] each, drawn once; in the model they are projections."""
    shape = q.shape[0], q.shape[2]
    if shape not in _FACTORS:
        generator = torch.Generator().manual_seed(1)
        a, b = (torch.randn(*shape, RANK, generator=generator) for _ in range(2))
        _FACTORS[shape] = a, b
    return _FACTORS[shape]


def local_attention(n: int) -> Callable[..., Tensor]:
    from local_attention import LocalAttention

    module = LocalAttention(window_size=WINDOW, causal=True, exact_windowsize=True, use_rotary_pos_emb=False)
    return lambda q, k, v: module(q, k, v)


def reformer_pytorch(n: int) -> Callable[..., Tensor]:
    from reformer_pytorch.reformer_pytorch import LSHAttention

    module = LSHAttention(bucket_size=BLOCK, n_hashes=ROUNDS, causal=True)

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        module._cache.clear()
        return module(q.flatten(0, 1), v.flatten(0, 1))[0].unflatten(0, q.shape[:2])

    return run


class Masked(nn.Module):
    """A layer of ours, which takes a mask as well."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x_Bnd: Tensor) -> Tensor:
        y_Bnd: Tensor = self.layer(x_Bnd, None)
        return y_Bnd


def dense_layer(n: int) -> Callable[..., Tensor]:
    return Masked(MultiHeadAttention(D, H, causal=True, rotary=False))


def own_layer(config: Any, *, causal: bool) -> Callable[[int], Callable[..., Tensor]]:
    return lambda n: Masked(config.build_mixer(length=n, causal=causal, out_scale=1.0))


def hf_longformer(n: int) -> Callable[..., Tensor]:
    from transformers import LongformerConfig as Config
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    config = Config(hidden_size=D, num_attention_heads=H, attention_window=[WINDOW], attention_probs_dropout_prob=0.0)
    layer = LongformerSelfAttention(config, layer_id=0)

    def run(x: Tensor) -> Tensor:
        mask = x.new_zeros(x.shape[:2])
        flags = {"is_index_masked": mask < 0, "is_index_global_attn": mask > 0, "is_global_attn": False}
        return layer(x, attention_mask=mask, **flags)[0]

    run.parameters = layer.parameters  # type: ignore[attr-defined]
    return run


def hf_reformer(kind: Literal["lsh", "local"]) -> Callable[[int], Callable[..., Tensor]]:
    def make(n: int) -> Callable[..., Tensor]:
        from transformers import ReformerConfig as Config
        from transformers.models.reformer import modeling_reformer as modeling

        config = Config(
            attn_layers=[kind], attention_head_size=WIDTH, num_attention_heads=H, hidden_size=D, is_decoder=True,
            lsh_attn_chunk_length=BLOCK, lsh_num_chunks_before=1, lsh_num_chunks_after=0, num_hashes=ROUNDS,
            local_attn_chunk_length=BLOCK, local_num_chunks_before=1, local_num_chunks_after=0, hash_seed=0,
            lsh_attention_probs_dropout_prob=0.0, local_attention_probs_dropout_prob=0.0, num_buckets=None,
            max_position_embeddings=n, axial_pos_embds=False,
        )  # fmt: skip
        layer = (modeling.LSHSelfAttention if kind == "lsh" else modeling.LocalSelfAttention)(config)

        def run(x: Tensor) -> Tensor:
            return layer(x).hidden_states

        run.parameters = layer.parameters  # type: ignore[attr-defined]
        return run

    return make


def hf_bigbird(n: int) -> Callable[..., Tensor]:
    from transformers import BigBirdConfig as Config
    from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention

    config = Config(
        hidden_size=D, num_attention_heads=H, block_size=BLOCK, num_random_blocks=1, max_position_embeddings=n,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    layer = BigBirdBlockSparseAttention(config, seed=0).train()

    def run(x: Tensor) -> Tensor:
        ones, blocks = x.new_ones(x.shape[:2]), n // BLOCK
        cut = ones.view(-1, blocks, BLOCK)
        band = x.new_ones(len(x), 1, blocks - 4, BLOCK, 3 * BLOCK)
        return layer(x, band, ones[:, None, :, None], ones[:, None, None], cut, cut)[0]

    run.parameters = layer.parameters  # type: ignore[attr-defined]
    return run


def mixers() -> list[Mixer]:
    """All contenders; the first of each level is what the others are compared with."""
    common: dict[str, Any] = {"d_model": D, "n_heads": H}
    window = LongformerConfig(**common, window=WINDOW)
    bigbird = BigBirdConfig(**common, block=BLOCK, window=3, global_blocks=2, random_blocks=1)
    reformer = ReformerConfig(**common, rounds=ROUNDS, chunk=BLOCK)
    return [
        Mixer("dense SDPA, causal", "core", lambda n: dense),
        Mixer("dense, explicit matrix", "core", lambda n: explicit, longest=2048),
        Mixer(f"longformer, window {WINDOW}", "core", lambda n: windows),
        Mixer(f"bigbird, blocks of {BLOCK}, 3+1+1", "core", lambda n: blocks),
        Mixer(f"reformer, {ROUNDS} rounds, buckets of {BLOCK}", "core", reformer_core),
        Mixer(f"ressformer, {CHOSEN} blocks of {BLOCK}, softmax", "core", chosen_blocks("softmax")),
        Mixer(f"ressformer, {CHOSEN} blocks of {BLOCK}, entmax15", "core", chosen_blocks("entmax15")),
        Mixer(f"ressformer, top {TOP_K} tokens, softmax", "core", chosen_tokens("softmax")),
        Mixer(f"ressformer, top {TOP_K} tokens, entmax15", "core", chosen_tokens("entmax15")),
        Mixer(f"local-attention, window {WINDOW}", "core", local_attention, shortest=WINDOW),
        Mixer(f"reformer-pytorch, {ROUNDS} rounds of {BLOCK}", "core", reformer_pytorch, shortest=2 * BLOCK),
        Mixer("dense layer, causal", "layer", dense_layer),
        Mixer(f"longformer layer, +-{WINDOW // 2}", "layer", own_layer(window, causal=False)),
        Mixer(f"HF Longformer, +-{WINDOW // 2}", "layer", hf_longformer, shortest=WINDOW),
        Mixer(f"bigbird layer, {BLOCK}, 3+2+1", "layer", own_layer(bigbird, causal=False)),
        Mixer(f"HF BigBird, {BLOCK}, 3+2+1", "layer", hf_bigbird, shortest=8 * BLOCK),
        Mixer(f"reformer layer, {ROUNDS} x {BLOCK}", "layer", own_layer(reformer, causal=True)),
        Mixer(f"HF Reformer LSH, {ROUNDS} x {BLOCK}", "layer", hf_reformer("lsh"), shortest=2 * BLOCK),
        Mixer(f"HF Reformer local, {BLOCK}", "layer", hf_reformer("local"), shortest=2 * BLOCK),
    ]
