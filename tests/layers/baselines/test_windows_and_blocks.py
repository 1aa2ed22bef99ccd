"""Sliding windows and block-sparse attention against dense attention under an explicit mask."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ressformer.layers.baselines.block_sparse import _random_blocks, block_sparse_attention, block_sparse_pairs
from ressformer.layers.baselines.sliding_window import sliding_window_attention, sliding_window_pairs

H, WIDTH = 2, 8


def inputs(batch: int, n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, H, n, WIDTH, generator=generator).requires_grad_() for _ in range(3))
    return q, k, v


def padding(batch: int, n: int, seed: int) -> Tensor:
    lengths = torch.randint(0, n + 1, (batch,), generator=torch.Generator().manual_seed(seed))
    return torch.arange(n) < lengths[:, None]


def dense(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    seen = seen | ~seen.any(-1, keepdim=True)  # rows of nothing but padding: whatever is finite
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~seen, -math.inf)
    return scores.softmax(-1) @ v


def window_mask(n: int, window: int, dilation: int, causal: bool, n_global: int) -> Tensor:
    i, j = torch.arange(n)[:, None], torch.arange(n)
    steps, whole = (i - j).abs() // dilation, (i - j) % dilation == 0
    if causal:
        return (i >= j) & ((whole & (steps < window)) | (j < n_global))
    return (whole & (steps <= window // 2)) | (j < n_global) | (i < n_global)


def block_mask(n: int, block: int, window: int, g: int, r: int, seed: int, causal: bool) -> Tensor:
    blocks = -(-n // block)
    i, j = torch.arange(blocks)[:, None], torch.arange(blocks)
    near = (j <= i) & (i - j < window) if causal else ((i - j).abs() <= window // 2) | (i < g)
    seen = (near | (j < g)).repeat(H, 1, 1)
    if blocks <= g + window + r:
        seen[:] = True
    else:
        first = g + window + r if causal else g
        seen[:, :first] = True
        for head, rows in enumerate(_random_blocks(H, first, blocks, window, g, r, seed, causal)):
            for row, chosen in enumerate(rows, start=first):
                assert not seen[head, row, chosen].any() and len(set(chosen)) == r
                seen[head, row, chosen] = True
    seen = seen.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :n, :n]
    return seen.tril() if causal else seen


def assert_same(out: Tensor, expected: Tensor, leaves: tuple[Tensor, ...], real: Tensor | None = None) -> None:
    """Equal values and gradients; where `real` is given, at real tokens only."""
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    if real is not None:
        assert out.isfinite().all()
        chosen = real[:, None, :, None].expand_as(out)
        out, expected = out.masked_fill(~chosen, 0), expected.masked_fill(~chosen, 0)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    grads = torch.autograd.grad(out, leaves, weight, retain_graph=True, allow_unused=True)
    wanted = torch.autograd.grad(expected, leaves, weight, allow_unused=True)
    for a, b in zip(grads, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


WINDOWS = [
    {"n": 300, "window": 16},
    {"n": 300, "window": 1},
    {"n": 257, "window": 33, "n_global": 3},
    {"n": 200, "window": 500, "n_global": 1},
    {"n": 421, "window": 9, "dilation": 3, "n_global": 5},
    {"n": 330, "window": 4, "dilation": 4},
    {"n": 5, "window": 3, "n_global": 9},
    {"n": 1, "window": 2, "n_global": 1},
]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_window_equals_dense_under_a_mask(case: dict[str, int], causal: bool) -> None:
    q, k, v = inputs(2, case["n"])
    keys = {"dilation": 1, "n_global": 0, **case}
    seen = window_mask(causal=causal, **keys)
    n = keys.pop("n")
    out = sliding_window_attention(q, k, v, causal=causal, **keys)
    assert_same(out, dense(q, k, v, seen), (q, k, v))
    useful, executed = sliding_window_pairs(n, causal=causal, **keys)
    assert useful == int(seen.sum()) <= executed


def test_padding_is_seen_by_nobody() -> None:
    real = torch.arange(300) < torch.tensor([[300], [40], [1], [0]])
    for keys in ({"window": 16}, {"window": 30, "n_global": 50}, {"window": 8, "dilation": 3, "n_global": 2}):
        q, k, v = inputs(4, 300)
        seen = window_mask(300, causal=False, **{"dilation": 1, "n_global": 0, **keys}) & real[:, None, None]
        out = sliding_window_attention(q, k, v, causal=False, key_mask_Bn=real, **keys)
        assert_same(out, dense(q, k, v, seen), (q, k, v), real)


def test_separate_projections_for_global_queries() -> None:
    (q, k, v), others = inputs(2, 200), inputs(2, 200, seed=1)
    for causal in (True, False):
        seen = window_mask(200, 20, 1, causal, 3)
        globals_qkv = (others[0][:, :, :3], others[1], others[2])
        out = sliding_window_attention(q, k, v, window=20, causal=causal, n_global=3, global_qkv=globals_qkv)
        first = dense(*globals_qkv, seen[:3])
        assert_same(out, torch.cat([first, dense(q, k, v, seen)[:, :, 3:]], 2), (q, k, v, *others))


BLOCKS = [
    {"n": 256, "block": 16},
    {"n": 250, "block": 16, "window": 1, "n_global": 1, "n_random": 2},
    {"n": 333, "block": 8, "window": 5, "n_global": 0, "n_random": 3},
    {"n": 200, "block": 8, "window": 3, "n_global": 3, "n_random": 0},
    {"n": 129, "block": 16, "window": 3, "n_global": 2, "n_random": 3},
    {"n": 128, "block": 16, "window": 3, "n_global": 2, "n_random": 3},
    {"n": 1, "block": 16},
]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("case", BLOCKS, ids=str)
def test_blocks_equal_dense_under_a_mask(case: dict[str, int], causal: bool) -> None:
    keys = {"window": 3, "n_global": 2, "n_random": 3, **case}
    n = keys.pop("n")
    q, k, v = inputs(2, n)
    seen = block_mask(n, keys["block"], keys["window"], keys["n_global"], keys["n_random"], 5, causal)
    out = block_sparse_attention(q, k, v, seed=5, causal=causal, **keys)
    assert_same(out, dense(q, k, v, seen), (q, k, v))
    useful, executed = block_sparse_pairs(n, causal=causal, **keys)
    if causal or n % keys["block"] == 0:
        assert useful * H == int(seen.sum())
    assert useful <= executed
    if not causal:
        real = padding(2, n, seed=n)
        out = block_sparse_attention(q, k, v, seed=5, causal=False, key_mask_Bn=real, **keys)
        seen = seen & real[:, None, None]
        assert_same(out, dense(q, k, v, seen), (q, k, v), real)


def test_random_blocks_depend_on_the_past_alone() -> None:
    short = _random_blocks(H, 8, 20, 3, 2, 3, 7, True)
    long = _random_blocks(H, 8, 50, 3, 2, 3, 7, True)
    assert (short == long[:, :12]).all()
    assert (short != _random_blocks(H, 8, 20, 3, 2, 3, 8, True)).any()
    assert (short[0] != short[1]).any()


def causal_mixers() -> dict[str, Any]:
    return {
        "window": lambda q, k, v: sliding_window_attention(q, k, v, window=20, causal=True),
        "globals": lambda q, k, v: sliding_window_attention(q, k, v, window=9, dilation=2, n_global=5, causal=True),
        "separate": lambda q, k, v: sliding_window_attention(
            q, k, v, window=33, n_global=5, causal=True, global_qkv=(q[:, :, :5] + 1, k + 1, v + 1)
        ),
        "blocks": lambda q, k, v: block_sparse_attention(q, k, v, block=16, causal=True),
    }


@pytest.mark.parametrize("name", list(causal_mixers()))
@pytest.mark.parametrize("cut", [1, 4, 130, 200, 299])
def test_the_future_changes_no_bit(name: str, cut: int) -> None:
    mixer = causal_mixers()[name]
    base = inputs(2, 300)
    changed = tuple(x.detach().clone().requires_grad_() for x in base)
    with torch.no_grad():
        for x in changed:
            x[:, :, cut:] = x[:, :, cut:].flip(2) * 50
    a, b = mixer(*base)[:, :, :cut], mixer(*changed)[:, :, :cut]
    assert torch.equal(a, b)
    for grads in (torch.autograd.grad(a.sum(), base), torch.autograd.grad(b.sum(), changed)):
        assert not any(g[:, :, cut:].any() for g in grads)


@pytest.mark.parametrize("name", list(causal_mixers()))
def test_same_input_same_bits(name: str) -> None:
    q, k, v = inputs(2, 300)
    mixer = causal_mixers()[name]
    runs = [torch.autograd.grad(mixer(q, k, v).square().sum(), (q, k, v)) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 200),
    batch=st.integers(1, 3),
    window=st.integers(1, 70),
    dilation=st.integers(1, 4),
    n_global=st.integers(0, 6),
    causal=st.booleans(),
)
def test_any_window(n: int, batch: int, window: int, dilation: int, n_global: int, causal: bool) -> None:
    q, k, v = inputs(batch, n, seed=n)
    real = padding(batch, n, seed=n)
    seen = window_mask(n, window, dilation, causal, n_global)
    keys: dict[str, Any] = {"window": window, "dilation": dilation, "n_global": n_global, "causal": causal}
    assert sliding_window_pairs(n, **keys)[0] == int(seen.sum())
    out = sliding_window_attention(q, k, v, key_mask_Bn=real, **keys)
    seen = seen if causal else seen & real[:, None, None]
    assert_same(out, dense(q, k, v, seen), (q, k, v), real)


def test_strided_and_expanded_inputs() -> None:
    x = torch.randn(2, 100, 3, H, WIDTH, generator=torch.Generator().manual_seed(0)).requires_grad_()
    q, k, v = x.permute(2, 0, 3, 1, 4)
    out = sliding_window_attention(q, k, v, window=10, causal=True)
    expected = dense(q, k, v, window_mask(100, 10, 1, True, 0))
    a, b = (torch.autograd.grad(y.sum(), x, retain_graph=True)[0] for y in (out, expected))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_pairs_are_what_a_counter_counts(causal: bool) -> None:
    calls: list[tuple[Any, Any, dict[str, Any]]] = [
        (sliding_window_attention, sliding_window_pairs, {"window": 40, "n_global": 3, "dilation": 2}),
        (block_sparse_attention, block_sparse_pairs, {"block": 16}),
    ]
    for attention, pairs, keys in calls:
        q, k, v = (torch.empty(2, H, 500, WIDTH, device="meta", requires_grad=True) for _ in range(3))
        with FlopCounterMode(display=False) as forward:
            out = attention(q, k, v, causal=causal, **keys)
        with FlopCounterMode(display=False) as backward:
            out.sum().backward()
        executed = pairs(500, causal=causal, **keys)[1]
        assert forward.get_total_flops() == 2 * H * 4 * WIDTH * executed
        assert backward.get_total_flops() == 2 * H * 8 * WIDTH * executed


def test_explicit_attention_equals_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs off CPU: the same pieces through plain matrix products."""
    results = []
    for device in ("cpu", "elsewhere"):
        monkeypatch.setattr("ressformer.layers.baselines.tiled_attention.FUSED_DEVICE", device)
        q, k, v = inputs(2, 300)
        outs = [mixer(q, k, v) for mixer in causal_mixers().values()]
        outs.append(
            sliding_window_attention(q, k, v, window=20, n_global=2, causal=False, key_mask_Bn=padding(2, 300, 0))
        )
        results.append([*outs, *torch.autograd.grad(sum(o.square().sum() for o in outs), (q, k, v))])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_bad_input_names_itself() -> None:
    q, k, v = inputs(1, 10)
    with pytest.raises(ValueError, match="window=0"):
        sliding_window_attention(q, k, v, window=0, causal=True)
    with pytest.raises(ValueError, match="n_random=-1"):
        block_sparse_attention(q, k, v, n_random=-1, causal=True)
    with pytest.raises(ValueError, match="odd, got window=2"):
        block_sparse_attention(q, k, v, window=2, causal=False)


@pytest.mark.parametrize("n_global", [0, 3])
def test_equals_transformers_longformer(n_global: int) -> None:
    longformer = pytest.importorskip("transformers.models.longformer.modeling_longformer")
    config = pytest.importorskip("transformers").LongformerConfig(
        hidden_size=H * WIDTH, num_attention_heads=H, attention_window=[32], attention_probs_dropout_prob=0.0
    )
    layer = longformer.LongformerSelfAttention(config, layer_id=0)
    x = torch.randn(2, 128, H * WIDTH, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 128)
    mask[:, :n_global] = 1
    (expected,) = layer(
        x, attention_mask=mask, is_index_masked=mask < 0, is_index_global_attn=mask > 0, is_global_attn=n_global > 0
    )

    def heads(project: Any) -> Tensor:
        return project(x).unflatten(-1, (H, WIDTH)).transpose(1, 2)

    q, k, v = (heads(f) for f in (layer.query, layer.key, layer.value))
    globals_qkv = tuple(heads(f) for f in (layer.query_global, layer.key_global, layer.value_global))
    globals_qkv = (globals_qkv[0][:, :, :n_global], *globals_qkv[1:])
    out = sliding_window_attention(q, k, v, window=32, causal=False, n_global=n_global, global_qkv=globals_qkv)
    torch.testing.assert_close(out.transpose(1, 2).flatten(2), expected, rtol=0, atol=1e-5)
