"""ReSSFormer's attention where it must reduce to a dense one, and where edges choose."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from ressformer.layers.attention import merge_heads, split_heads
from ressformer.layers.sparse.attention import SparseAttention
from ressformer.layers.sparse.config import SelectionConfig


@pytest.mark.parametrize("causal", [True, False])
def test_all_keys_and_softmax_is_dense_attention(causal: bool) -> None:
    torch.manual_seed(0)
    layer = SparseAttention(32, 4, SelectionConfig(top_k=50, activation="softmax"), causal=causal)
    x = torch.randn(2, 19, 32)
    q, k, v = (split_heads(t, 4) for t in layer.qkv(x).chunk(3, dim=-1))
    dense = layer.out(merge_heads(scaled_dot_product_attention(q, k, v, is_causal=causal)))
    assert torch.allclose(layer(x, None, None, None).y_Bnd, dense, atol=1e-5)


def test_cache_alone_is_a_sliding_window() -> None:
    torch.manual_seed(0)
    layer = SparseAttention(32, 4, SelectionConfig(top_k=1, cache=19, activation="softmax"), causal=True)
    assert layer.age_bias_Hw is not None
    with torch.no_grad():
        layer.age_bias_Hw.zero_()
    x = torch.randn(2, 19, 32)
    q, k, v = (split_heads(t, 4) for t in layer.qkv(x).chunk(3, dim=-1))
    dense = layer.out(merge_heads(scaled_dot_product_attention(q, k, v, is_causal=True)))
    assert torch.allclose(layer(x, None, None, None).y_Bnd, dense, atol=1e-5)


def test_edges_choose_the_keys() -> None:
    torch.manual_seed(0)
    layer = SparseAttention(16, 2, SelectionConfig(top_k=1, activation="softmax"), causal=False)
    x = torch.randn(1, 9, 16)
    want = torch.randperm(9)
    a, b = torch.eye(9)[want].unsqueeze(0) * 50, torch.eye(9).unsqueeze(0)
    # Self is always kept, so k = 1 keeps self alone; with k = 2 the edge's target joins.
    assert layer(x, None, (a, b), None).graph.idx_Bnk.squeeze().equal(torch.arange(9))  # type: ignore[union-attr]
    layer.config = SelectionConfig(top_k=2, activation="softmax")
    graph = layer(x, None, (a, b), None).graph
    assert graph is not None
    for i in range(9):
        assert int(want[i]) in graph.idx_Bnk[0, i].tolist()
