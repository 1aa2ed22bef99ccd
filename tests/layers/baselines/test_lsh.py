"""LSH attention against explicit masks, its recall, and that it never reads the future."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.flop_counter import FlopCounterMode

from ressformer.layers.baselines.lsh import (
    bucket_factors,
    hash_buckets,
    hash_flops,
    hash_rotations,
    lsh_attention,
    lsh_pairs,
)

H, WIDTH = 2, 8


def inputs(batch: int, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    qk, v = (torch.randn(batch, H, n, WIDTH, generator=generator).requires_grad_() for _ in range(2))
    return qk, v


def explicit(
    qk: Tensor, v: Tensor, rotations: tuple[Tensor, ...], rounds: int, chunk: int, causal: bool, real: Tensor | None
) -> Tensor:
    """Every round as a dense softmax under the mask that the docstring states, joined by the normalisers."""
    n = qk.shape[2]
    scores = (qk @ normalize(qk, dim=-1).mT).double()
    i, j = torch.arange(n)[:, None], torch.arange(n)
    rounds_out, rounds_sum = [], []
    for bucket in hash_buckets(qk, rotations, rounds):
        same = bucket[..., :, None] == bucket[..., None, :]
        if real is not None:
            same = same & real[:, None, None, :]
        chunk_of = (same & (j < i)).sum(-1) // chunk
        behind = chunk_of[..., :, None] - chunk_of[..., None, :]
        seen = same & (i != j) & (behind >= 0) & (behind <= 1)
        seen = seen & (j < i) if causal else seen
        # Far below every score, so that only a token that meets nobody falls back on itself.
        s = scores.masked_fill(~seen & (i != j), -math.inf).where(i != j, scores - 1e9)
        rounds_sum.append(s.logsumexp(-1))
        rounds_out.append(s.softmax(-1) @ v.double())
    weight = torch.stack(rounds_sum).softmax(0)
    return (weight[..., None] * torch.stack(rounds_out)).sum(0).to(v.dtype)


def assert_same(out: Tensor, expected: Tensor, leaves: tuple[Tensor, ...], real: Tensor | None = None) -> None:
    """Equal values and gradients; where `real` is given, at real tokens only."""
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    assert out.isfinite().all()
    if real is not None:
        weight = weight * real[:, None, :, None]
        out, expected = out * real[:, None, :, None], expected * real[:, None, :, None]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    grads = torch.autograd.grad(out, leaves, weight)
    for a, b in zip(grads, torch.autograd.grad(expected, leaves, weight), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("n", "n_buckets", "rounds", "chunk"),
    [(150, 4, 3, 16), (97, 16, 2, 8), (64, 2, 1, 64), (200, 150, 2, 2), (40, 2, 2, 1), (2, 2, 4, 4), (1, 2, 2, 64)],
)
def test_equals_explicit_masks(n: int, n_buckets: int, rounds: int, chunk: int, causal: bool) -> None:
    qk, v = inputs(2, n)
    rotations = hash_rotations(H, WIDTH, n_buckets, rounds, seed=3)
    out = lsh_attention(qk, v, rotations=rotations, rounds=rounds, chunk=chunk, causal=causal)
    assert_same(out, explicit(qk, v, rotations, rounds, chunk, causal, None), (qk, v))


@pytest.mark.parametrize("lengths", [(90, 41), (1, 0), (0, 0), (2, 90)])
def test_padding_is_in_no_bucket(lengths: tuple[int, int]) -> None:
    qk, v = inputs(2, 90)
    real = torch.arange(90) < torch.tensor(lengths)[:, None]
    rotations = hash_rotations(H, WIDTH, 6, 2, seed=0)
    out = lsh_attention(qk, v, rotations=rotations, rounds=2, chunk=8, causal=False, key_mask_Bn=real)
    assert_same(out, explicit(qk, v, rotations, 2, 8, False, real), (qk, v), real)
    assert not out.masked_fill(real[:, None, :, None], 0).any()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rounds", [1, 4])
def test_one_bucket_in_one_chunk_is_full_shared_qk_attention(rounds: int, causal: bool) -> None:
    qk, v = inputs(2, 50)
    scores = qk @ normalize(qk, dim=-1).mT
    hidden = torch.eye(50, dtype=torch.bool)
    if causal:
        hidden = torch.ones(50, 50, dtype=torch.bool).triu()
        hidden[0, 0] = False
    expected = scores.masked_fill(hidden, -math.inf).softmax(-1) @ v
    out = lsh_attention(qk, v, rotations=(), rounds=rounds, chunk=64, causal=causal)
    assert_same(out, expected, (qk, v))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cut", [1, 17, 150, 299])
def test_the_future_changes_no_bit(cut: int, seed: int) -> None:
    rotations = hash_rotations(H, WIDTH, 10, 3, seed)
    base, v = inputs(2, 300, seed)
    changed, other = base.detach().clone(), v.detach().clone()
    changed[:, :, cut:], other[:, :, cut:] = -changed[:, :, cut - 1 : cut] * 3, 7.0
    qk = base.detach().requires_grad_()
    changed.requires_grad_()
    a = lsh_attention(qk, v.detach(), rotations=rotations, rounds=3, chunk=16, causal=True)[:, :, :cut]
    b = lsh_attention(changed, other, rotations=rotations, rounds=3, chunk=16, causal=True)[:, :, :cut]
    assert torch.equal(a, b)
    (da,), (db,) = torch.autograd.grad(a.square().sum(), qk), torch.autograd.grad(b.square().sum(), changed)
    torch.testing.assert_close(da[:, :, :cut], db[:, :, :cut], rtol=0, atol=1e-6)
    assert not da[:, :, cut:].any() and not db[:, :, cut:].any()


def test_padding_changes_no_bit_of_causal_outputs() -> None:
    qk, v = inputs(1, 120)
    rotations = hash_rotations(H, WIDTH, 4, 2, 0)
    real = torch.arange(120)[None] < 70
    options = {"rotations": rotations, "rounds": 2, "chunk": 16, "causal": True}
    plain, masked = lsh_attention(qk, v, **options), lsh_attention(qk, v, key_mask_Bn=real, **options)
    short = lsh_attention(qk[:, :, :70], v[:, :, :70], **options)
    assert torch.equal(plain[:, :, :70], masked[:, :, :70]) and masked.isfinite().all()
    assert torch.equal(short, masked[:, :, :70])


def test_recall_of_near_keys_grows_with_rounds() -> None:
    generator = torch.Generator().manual_seed(0)
    x = normalize(torch.randn(1, 1, 400, 32, generator=generator), dim=-1)
    near = normalize(x + 0.1 * torch.randn(x.shape, generator=generator), dim=-1)
    rotations = hash_rotations(1, 32, 64, 8, seed=0)
    met = hash_buckets(x, rotations, 8) == hash_buckets(near, rotations, 8)
    recall = [met[:rounds].any(0).float().mean().item() for rounds in (1, 2, 4, 8)]
    assert all(a < b for a, b in itertools.pairwise(recall))
    assert recall[0] > 0.4 and recall[-1] > 0.98


def test_more_rounds_read_more_of_the_true_nearest_keys() -> None:
    """Values that are unit vectors make the output the attention weights: what is above zero was read."""
    n = 128
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(1, 1, 16, n, generator=generator).repeat_interleave(n // 16, 2)
    qk = centres + torch.randn(1, 1, n, n, generator=generator)
    scores = (qk @ normalize(qk, dim=-1).mT).masked_fill(torch.eye(n, dtype=torch.bool), -math.inf)
    nearest = scores.topk(4).indices
    recall = []
    for rounds in (1, 2, 4, 8):
        rotations = hash_rotations(1, n, 16, rounds, seed=0)
        weights = lsh_attention(
            qk, torch.eye(n)[None, None], rotations=rotations, rounds=rounds, chunk=8, causal=False, scale=0.1
        )
        recall.append((weights.gather(-1, nearest) > 0).float().mean().item())
    assert all(a < b for a, b in itertools.pairwise(recall))
    assert recall[-1] > 2 * recall[0] and recall[-1] > 0.9


def test_orthogonal_rotations_fill_buckets_evenly() -> None:
    x = torch.randn(1, 1, 20_000, 32, generator=torch.Generator().manual_seed(0))
    for n_buckets in (64, 256):
        sizes = torch.bincount(hash_buckets(x, hash_rotations(1, 32, n_buckets, 1, 0), 1).view(-1), minlength=n_buckets)
        assert len(sizes) == n_buckets
        assert sizes.max() < 2 * sizes.float().mean()


def test_same_seed_same_hash_and_same_result() -> None:
    qk, v = inputs(2, 100)
    runs = [
        lsh_attention(qk, v, rotations=hash_rotations(H, WIDTH, 4, 4, seed), chunk=8, causal=True) for seed in (0, 0, 1)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 140), st.integers(1, 3), st.integers(1, 20), st.integers(1, 3), st.integers(1, 40), st.booleans())
def test_any_shape(n: int, batch: int, n_buckets: int, rounds: int, chunk: int, causal: bool) -> None:
    qk, v = inputs(batch, n, seed=n)
    real = torch.arange(n) < torch.randint(0, n + 1, (batch, 1), generator=torch.Generator().manual_seed(n))
    rotations = hash_rotations(H, WIDTH, n_buckets, rounds, seed=n)
    out = lsh_attention(qk, v, rotations=rotations, rounds=rounds, chunk=chunk, causal=causal, key_mask_Bn=real)
    seen = None if causal else real
    assert_same(out, explicit(qk, v, rotations, rounds, min(chunk, n), causal, seen), (qk, v), real)


@pytest.mark.parametrize("causal", [True, False])
def test_pairs_are_what_a_counter_counts(causal: bool) -> None:
    n, n_buckets, rounds, chunk, batch = 500, 10, 3, 16, 2
    rotations = tuple(r.to("meta") for r in hash_rotations(H, WIDTH, n_buckets, rounds, 0))
    qk, v = (torch.empty(batch, H, n, WIDTH, device="meta", requires_grad=True) for _ in range(2))
    with FlopCounterMode(display=False) as forward:
        out = lsh_attention(qk, v, rotations=rotations, rounds=rounds, chunk=chunk, causal=causal)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    _, executed = lsh_pairs(n, n_buckets=n_buckets, rounds=rounds, chunk=chunk, causal=causal)
    hashing = hash_flops(n, width=WIDTH, n_buckets=n_buckets, rounds=rounds)
    assert forward.get_total_flops() == batch * H * (4 * WIDTH * executed + hashing)
    assert backward.get_total_flops() == batch * H * 8 * WIDTH * executed


def test_useful_pairs_of_even_buckets() -> None:
    # Two buckets of 5, chunks of 2: places see 1 (itself), 1, 2, 3, 2 tokens.
    assert lsh_pairs(10, n_buckets=2, rounds=3, chunk=2, causal=True)[0] == 3 * 2 * (1 + 1 + 2 + 3 + 2)
    # Bidirectional: 1, 1, 3, 3, 2.
    assert lsh_pairs(10, n_buckets=2, rounds=3, chunk=2, causal=False)[0] == 3 * 2 * (1 + 1 + 3 + 3 + 2)


def test_bucket_factors() -> None:
    for n_buckets in range(2, 600):
        factors = bucket_factors(n_buckets)
        assert all(f % 2 == 0 for f in factors)
        assert n_buckets <= math.prod(factors) <= 1.25 * n_buckets + 2
    assert bucket_factors(1) == () and bucket_factors(128) == (128,) and bucket_factors(256) == (16, 16)


def test_bad_input_names_itself() -> None:
    qk, v = inputs(1, 10)
    with pytest.raises(ValueError, match="rounds=0"):
        lsh_attention(qk, v, rotations=(), rounds=0, causal=True)
    with pytest.raises(ValueError, match="do not fit 2 heads of width 8 and 4 rounds"):
        lsh_attention(qk, v, rotations=hash_rotations(3, WIDTH, 4, 4, 0), causal=True)
