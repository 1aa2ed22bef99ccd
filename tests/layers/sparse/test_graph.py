"""The change between two graphs against dense matrices."""

from __future__ import annotations

import torch

from ressformer.layers.sparse.graph import Graph


def test_graph_change_against_dense_matrices() -> None:
    torch.manual_seed(0)
    n, k = 9, 4
    dense, graphs = [], []
    for _ in range(2):
        idx = torch.stack([torch.stack([torch.randperm(n)[:k] for _ in range(n)]) for _ in range(2)])
        weight = torch.rand(2, n, k).softmax(-1)
        empty = torch.rand(2, n, k) < 0.2
        idx, weight = idx.masked_fill(empty, n), weight.masked_fill(empty, 0.0)
        graphs.append(Graph(idx, weight))
        dense.append(torch.zeros(2, n, n + 1).scatter_add_(-1, idx, weight)[..., :n])
    change, turnover = graphs[1].change(graphs[0], None)
    union = (dense[0] > 0) | (dense[1] > 0)
    both = (dense[0] > 0) & (dense[1] > 0)
    assert torch.allclose(change, (dense[1] - dense[0]).square().sum() / union.sum())
    assert torch.allclose(turnover, 1 - both.sum() / union.sum())
    same, still = graphs[0].change(graphs[0], None)
    assert abs(same) < 1e-7 and still == 0
