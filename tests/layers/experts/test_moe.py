"""The mixture of experts against a loop over tokens, and the grouped products under it."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import gelu

from ressformer.layers.experts.grouped_linear import grouped_linear
from ressformer.layers.experts.moe import MixtureOfExperts, MoEConfig


def moe(experts: int, top_e: int, **extra: bool) -> MixtureOfExperts:
    config = MoEConfig(
        n_experts=experts,
        top_e=top_e,
        d_expert=24,
        balance=1e-2,
        router_z=1e-3,
        expert_copies=bool(extra.get("copies")),
    )
    return MixtureOfExperts(16, config)


def test_one_expert_is_its_feed_forward_network() -> None:
    layer, x = moe(1, 1), torch.randn(2, 5, 16)
    assert torch.allclose(layer(x, None)[0], gelu(x @ layer.up_Edf[0]) @ layer.down_Efd[0])


def test_router_scores_in_fp32_under_autocast() -> None:
    torch.manual_seed(0)
    layer, x = moe(4, 2), torch.randn(2, 40, 16)
    with torch.autocast("cpu", torch.bfloat16):
        under = layer(x, None)
    assert torch.equal(under[2], layer(x, None)[2])
    for key, value in layer(x, None)[1].items():
        torch.testing.assert_close(under[1][key], value, rtol=1e-5, atol=0)


@pytest.mark.parametrize("top_e", [1, 2, 4])
def test_experts_equal_a_loop_over_tokens(top_e: int) -> None:
    torch.manual_seed(0)
    layer, x = moe(4, top_e), torch.randn(2, 7, 16)
    assert layer.router is not None
    torch.nn.init.normal_(layer.router.weight)
    out, losses, load = layer(x, None)
    expected = torch.zeros_like(x)
    counts = torch.zeros(4)
    for b in range(2):
        for t in range(7):
            probs = (layer.router.weight @ x[b, t]).softmax(0)
            best = probs.sort(descending=True).indices[:top_e]
            total = probs[best].sum() if top_e > 1 else torch.ones(())
            for e in best:
                expected[b, t] += probs[e] / total * (gelu(x[b, t] @ layer.up_Edf[e]) @ layer.down_Efd[e])
                counts[e] += 1
    assert torch.allclose(out, expected, atol=1e-5)
    assert torch.allclose(load, counts / counts.sum())
    mean = (x @ layer.router.weight.T).softmax(-1).mean((0, 1))
    assert torch.allclose(losses["balance"], 1e-2 * 4 * (counts / counts.sum() * mean).sum())


def test_balance_loss_is_least_when_balanced() -> None:
    layer = moe(4, 1)
    assert layer.router is not None
    x = torch.eye(16)[:4].repeat(1, 3).view(1, 4, 48)[..., :16] * 8
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[:, :4] = torch.eye(4)
        even = layer(x, None)[1]["balance"]
        layer.router.weight[:, :4] = torch.eye(4)[:, [0, 0, 0, 0]] * 0
        layer.router.weight[0] = 1
        uneven = layer(x, None)[1]["balance"]
    assert even < uneven


def test_copied_experts_start_as_one_network() -> None:
    layer, x = moe(4, 2, copies=True), torch.randn(2, 5, 16)
    assert torch.allclose(layer(x, None)[0], gelu(x @ layer.up_Edf[0]) @ layer.down_Efd[0], atol=1e-5)


def test_grouped_linear_gradients() -> None:
    ends = torch.tensor([3, 3, 8], dtype=torch.int32)
    x, w = torch.randn(8, 4, dtype=torch.double), torch.randn(3, 4, 6, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda a, b: grouped_linear(a, b, ends), (x.requires_grad_(), w.requires_grad_()))
    rows = torch.cat([x[:3] @ w[0], x[3:8] @ w[2]])
    assert torch.allclose(grouped_linear(x.float(), w.float(), ends), rows.float(), atol=1e-5)


def test_an_experts_row_does_not_depend_on_how_many_share_the_expert() -> None:
    torch.manual_seed(0)
    for i, o in ((32, 24), (64, 200), (256, 64)):
        x, w = torch.randn(60, i), torch.randn(2, i, o)
        whole = grouped_linear(x, w, torch.tensor([60, 60], dtype=torch.int32))
        for rows in range(1, 20):
            ends = torch.tensor([rows, 60], dtype=torch.int32)
            assert torch.equal(grouped_linear(x, w, ends)[:rows], whole[:rows])
