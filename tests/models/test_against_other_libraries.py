"""Other people's attention layers with the same weights give the same outputs and gradients.

They need the extra `oracles` and, two of them, `reformer-pytorch` and `local-attention`; without these they skip.

Shapes: B batch, n length, d width, H heads, h head width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ressformer.layers.attention import ProjectedAttention
from ressformer.layers.baselines import block_sparse, lsh
from ressformer.layers.baselines.block_sparse import block_sparse_attention
from ressformer.layers.baselines.lsh import lsh_attention
from ressformer.layers.baselines.sliding_window import sliding_window_attention
from ressformer.models.bigbird import BigBirdConfig
from ressformer.models.longformer import LongformerConfig
from ressformer.models.reformer import LSHAttention, ReformerConfig

B, D, H = 2, 32, 4
WITHOUT = "NOT COMPARED with other people's layers: pip install {}"


def library(name: str) -> Any:
    """The module, or a skip that says what was not compared."""
    return pytest.importorskip(name, reason=WITHOUT.format(name.partition(".")[0].replace("_", "-")))


def inputs(n: int) -> Tensor:
    return torch.randn(B, n, D, generator=torch.Generator().manual_seed(0)).requires_grad_()


def share(ours: nn.Linear, *theirs: nn.Linear) -> None:
    """Give `ours`, a fused projection, the weights of `theirs`, whose biases become 0; draws larger weights first."""
    for layer in theirs:
        nn.init.normal_(layer.weight, std=1.5 / math.sqrt(D))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    with torch.no_grad():
        ours.weight.copy_(torch.cat([layer.weight for layer in theirs]))


def without_output(ours: ProjectedAttention | LSHAttention) -> None:
    """Their layers end before the output projection."""
    with torch.no_grad():
        ours.out.weight.copy_(torch.eye(D))


def assert_same(ours: Tensor, theirs: Tensor, x: Tensor, compared_Bn: Tensor | None = None) -> None:
    """Outputs within 1e-5, gradients of the input within 1e-4; rows of `compared_Bn` only."""
    rows = torch.ones(x.shape[:2], dtype=torch.bool) if compared_Bn is None else compared_Bn
    torch.testing.assert_close(ours[rows], theirs[rows], rtol=0, atol=1e-5)
    weight = torch.randn(ours[rows].shape, generator=torch.Generator().manual_seed(1))
    grads = [torch.autograd.grad(y[rows], x, weight)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_global", [0, 3])
@pytest.mark.parametrize("lengths", [(128, 128), (128, 70)])
def test_longformer_is_that_of_transformers(n_global: int, lengths: tuple[int, int]) -> None:
    modeling = library("transformers.models.longformer.modeling_longformer")
    n = 128
    config = library("transformers").LongformerConfig(
        hidden_size=D, num_attention_heads=H, attention_window=[32], attention_probs_dropout_prob=0.0
    )
    theirs = modeling.LongformerSelfAttention(config, layer_id=0)
    ours = LongformerConfig(d_model=D, n_heads=H, window=32, n_global=n_global).build_mixer(
        length=n, causal=False, out_scale=1.0
    )
    share(ours.qkv, theirs.query, theirs.key, theirs.value)
    share_globals = ((theirs.query_global, theirs.query), (theirs.key_global, theirs.key))
    for globals_, local in (*share_globals, (theirs.value_global, theirs.value)):
        globals_.load_state_dict(local.state_dict())
    without_output(ours)
    x, real_Bn = inputs(n), torch.arange(n) < torch.tensor(lengths)[:, None]
    mask_Bn = torch.zeros(B, n).masked_fill(~real_Bn, -10_000.0)
    mask_Bn[:, :n_global] = 1
    (expected,) = theirs(
        x,
        attention_mask=mask_Bn,
        is_index_masked=mask_Bn < 0,
        is_index_global_attn=mask_Bn > 0,
        is_global_attn=n_global > 0,
    )
    assert_same(ours(x, real_Bn), expected, x, real_Bn)


def test_bigbird_is_that_of_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their first and last block are global, ours the first two: so the last block is moved to the front."""
    modeling = library("transformers.models.big_bird.modeling_big_bird")
    block, blocks, r = 8, 14, 2
    n = block * blocks
    config = library("transformers").BigBirdConfig(
        hidden_size=D, num_attention_heads=H, block_size=block, num_random_blocks=r, attention_probs_dropout_prob=0.0
    )
    theirs = modeling.BigBirdBlockSparseAttention(config, seed=1).train()
    drawn: list[Any] = []
    draw = theirs._bigbird_block_rand_mask_with_head
    monkeypatch.setattr(theirs, "_bigbird_block_rand_mask_with_head", lambda **k: drawn.append(draw(**k)) or drawn[0])
    ours = BigBirdConfig(d_model=D, n_heads=H, block=block, global_blocks=2, random_blocks=r).build_mixer(
        length=n, causal=False, out_scale=1.0
    )
    share(ours.qkv, theirs.query, theirs.key, theirs.value)
    without_output(ours)
    x, ones = inputs(n), torch.ones(B, n)
    blocked = ones.view(B, blocks, block)
    band = torch.ones(B, 1, blocks - 4, block, 3 * block)
    expected, _ = theirs(
        x,
        band_mask=band,
        from_mask=ones.view(B, 1, n, 1),
        to_mask=ones.view(B, 1, 1, n),
        from_blocked_mask=blocked,
        to_blocked_mask=blocked,
    )
    table_HTr = (np.stack(drawn[0]) + 1).astype(np.int64)
    monkeypatch.setattr(block_sparse, "_random_blocks", lambda *args: table_HTr)
    moved = ours(x.roll(block, 1), None).roll(-block, 1)
    assert len({tuple(row) for row in table_HTr.reshape(-1, r)}) > 4
    assert_same(moved, expected, x)


def reformer(n: int, chunk: int, rounds: int, before: int) -> tuple[LSHAttention, Any]:
    """Our LSH layer and theirs, with the same weights."""
    modeling = library("transformers.models.reformer.modeling_reformer")
    config = library("transformers").ReformerConfig(
        attn_layers=["lsh"], attention_head_size=D // H, num_attention_heads=H, hidden_size=D, is_decoder=True,
        lsh_attn_chunk_length=chunk, lsh_num_chunks_before=before, lsh_num_chunks_after=0, num_hashes=rounds,
        num_buckets=4, lsh_attention_probs_dropout_prob=0.0, axial_pos_embds=False,
    )  # fmt: skip
    theirs = modeling.LSHSelfAttention(config)
    dials = ReformerConfig(d_model=D, n_heads=H, rounds=rounds, chunk=chunk)
    ours = LSHAttention(dials, length=n, causal=True, out_scale=1.0)
    share(ours.qk_v, theirs.query_key, theirs.value)
    without_output(ours)
    return ours, theirs


@pytest.mark.parametrize("rounds", [1, 3])
def test_reformer_of_one_bucket_is_that_of_transformers(rounds: int) -> None:
    """Many chunks, each of which reads the one before."""
    n = 64
    ours, theirs = reformer(n, 16, rounds, before=1)
    ours.factors = 0
    x = inputs(n)
    expected = theirs(x, num_hashes=rounds, buckets=torch.zeros(B, H, rounds * n, dtype=torch.long)).hidden_states
    # The first token sees only itself; there they add -1e5 to its score, which leaves three digits.
    assert_same(ours(x, None), expected, x, torch.arange(n).expand(B, n) > 0)


def test_reformer_of_equal_hashes_is_that_of_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random buckets that fill a chunk each, where chunks of a sorted list and chunks of a bucket are the same."""
    n, chunk, rounds = 64, 16, 3
    ours, theirs = reformer(n, chunk, rounds, before=0)
    generator = torch.Generator().manual_seed(0)
    shuffled = torch.rand(rounds, B, H, n, generator=generator).argsort(-1) // chunk
    monkeypatch.setattr(lsh, "hash_buckets", lambda *args: shuffled)
    offset = (n // chunk) * torch.arange(rounds).view(rounds, 1, 1, 1)
    x = inputs(n)
    theirs_hash = (shuffled + offset).permute(1, 2, 0, 3).flatten(2)
    expected = theirs(x, num_hashes=rounds, buckets=theirs_hash).hidden_states
    met = (shuffled[..., None] == shuffled[..., None, :]).tril(-1).any(-1).any(0)
    assert_same(ours(x, None), expected, x, met.all(1))


def test_local_layer_of_transformers_is_a_window_of_blocks() -> None:
    """Reformer's local attention reads the own chunk and the one before: BigBird without globals and random blocks."""
    modeling = library("transformers.models.reformer.modeling_reformer")
    config = library("transformers").ReformerConfig(
        attn_layers=["local"], attention_head_size=D // H, num_attention_heads=H, hidden_size=D, is_decoder=True,
        local_attn_chunk_length=16, local_num_chunks_before=1, local_num_chunks_after=0,
        local_attention_probs_dropout_prob=0.0, axial_pos_embds=False,
    )  # fmt: skip
    theirs = modeling.LocalSelfAttention(config)
    dials = BigBirdConfig(d_model=D, n_heads=H, block=16, window=2, global_blocks=0, random_blocks=0)
    ours = dials.build_mixer(length=128, causal=True, out_scale=1.0)
    share(ours.qkv, theirs.query, theirs.key, theirs.value)
    without_output(ours)
    x = inputs(128)
    assert_same(ours(x, None), theirs(x).hidden_states, x)


def test_windows_are_those_of_local_attention() -> None:
    local = library("local_attention").LocalAttention
    q, k, v = (torch.randn(B, H, 128, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    blocks = local(window_size=16, causal=True, autopad=True, use_rotary_pos_emb=False)(q, k, v)
    ours = block_sparse_attention(q, k, v, block=16, window=2, n_global=0, n_random=0, causal=True)
    torch.testing.assert_close(ours, blocks, rtol=0, atol=1e-5)
    exact = local(window_size=16, causal=True, exact_windowsize=True, use_rotary_pos_emb=False)(q, k, v)
    torch.testing.assert_close(
        sliding_window_attention(q, k, v, window=17, causal=True), exact, rtol=0, atol=1e-5
    )  # theirs counts the others, not the query itself


@pytest.mark.parametrize("causal", [True, False])
def test_one_bucket_is_full_attention_of_reformer_pytorch(causal: bool) -> None:
    full = library("reformer_pytorch.reformer_pytorch").FullQKAttention(causal=causal)
    qk, v = (torch.randn(B, H, 50, 8, generator=torch.Generator().manual_seed(i)) for i in range(2))
    expected = full(qk.flatten(0, 1), v.flatten(0, 1))[0].view_as(qk)
    ours = lsh_attention(qk, v, rotations=(), rounds=2, chunk=64, causal=causal, scale=8**-0.5)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
