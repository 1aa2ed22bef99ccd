"""Each part against what it must reduce to, or against an independent way to the same number."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn.functional import gelu, scaled_dot_product_attention

from ressformer.decoder import Decoder, ModelConfig
from ressformer.layers.experts.grouped_linear import grouped_linear
from ressformer.layers.experts.moe import MixtureOfExperts, MoEConfig
from ressformer.layers.short_conv import ShortConv, merge_heads, split_heads
from ressformer.layers.sparse.attention import SelectionConfig, SparseAttention
from ressformer.layers.sparse.graph import Graph
from ressformer.layers.sparse.memory import SegmentMemory
from ressformer.models.ressformer import ReSSFormerConfig
from ressformer.models.transformer import TransformerConfig
from ressformer.module import OptimConfig, SequenceModule


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


@pytest.mark.parametrize("pool", ["attention", "mean", "topk"])
def test_causal_memory_is_the_memory_of_each_prefix(pool: str) -> None:
    torch.manual_seed(0)
    memory = SegmentMemory(8, slots=3, segment=4, pool=pool, causal=True)
    whole = SegmentMemory(8, slots=3, segment=4, pool=pool, causal=False)
    whole.load_state_dict(memory.state_dict())
    x = torch.randn(2, 14, 8)
    slots = memory(x, None, None).slots_BGmd
    assert slots.shape == (2, 4, 3, 8)
    assert slots[:, 0].abs().max() == 0
    for g in range(1, 4):
        prefix = whole(x[:, : 4 * g], None, None).slots_BGmd[:, 0]
        assert torch.allclose(slots[:, g], prefix, atol=1e-5)


def test_memory_gate_at_zero_and_one() -> None:
    memory = SegmentMemory(8, slots=3, segment=4, pool="attention", causal=True)
    old, new = torch.randn(2, 4, 3, 8), torch.randn(2, 4, 3, 8)
    with torch.no_grad():
        memory.gate.bias.fill_(100.0)
        assert torch.allclose(memory.mix(old, new), old)
        memory.gate.bias.fill_(-100.0)
        assert torch.allclose(memory.mix(old, new), new)
        memory.gate.bias.zero_()
        assert torch.allclose(memory.mix(old, new), (old + new) / 2)


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


def test_one_step_is_one_layer_and_k_steps_are_k_applications() -> None:
    torch.manual_seed(0)
    arm = {"d_model": 32, "memory_slots": 0, "graph": "none"}
    one = Decoder(ReSSFormerConfig(steps=1, **arm), vocab_size=7, length=12).eval()
    three = Decoder(ReSSFormerConfig(steps=3, **arm), vocab_size=7, length=12).eval()
    three.load_state_dict(one.state_dict())
    x = torch.randn(2, 12, 32)
    looped = x
    for _ in range(3):
        looped = one.core(looped, None).h_Bnd
    assert torch.allclose(three.core(x, None).h_Bnd, looped, atol=1e-5)


def test_steps_at_evaluation_are_their_own_dial() -> None:
    torch.manual_seed(0)
    model = Decoder(ReSSFormerConfig(d_model=32, steps=2, eval_steps=5), vocab_size=7, length=12)
    model.core.diagnose = True
    tokens = torch.randint(0, 7, (2, 12))
    assert "cosine/3" not in model.train()(tokens).diagnostics
    assert "cosine/5" in model.eval()(tokens).diagnostics


@pytest.mark.parametrize(
    "config",
    [ReSSFormerConfig(d_model=32, step_embedding=True, short_conv=2), TransformerConfig(d_model=32)],
    ids=lambda config: config.family,
)
def test_gradient_reaches_every_weight(config: ModelConfig) -> None:
    """In some draw of the weights: a sparse activation may leave the memory slots out in one of them."""
    silent: set[str] | None = None
    for seed in range(3):
        torch.manual_seed(seed)
        model = Decoder(config, vocab_size=7, length=40)
        out = model(torch.randint(0, 7, (4, 40)))
        (out.logits_BnV.square().sum() + sum(out.aux_losses.values(), torch.zeros(()))).backward()
        found = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
        silent = found if silent is None else silent & found
    assert silent == set()


def test_short_conv_starts_as_identity_and_looks_back_only() -> None:
    layer, x = ShortConv(8, 3), torch.randn(2, 6, 8)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.taps_dw[:, 0] = 1.0
    y = layer(x)
    assert torch.allclose(y[:, 2:], x[:, 2:] + x[:, :-2])
    assert torch.equal(y[:, :2], x[:, :2])


def test_rotary_depends_on_distance_alone() -> None:
    from ressformer.layers.rotary import Rotary

    rotary, q, k = Rotary(8), torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    near = rotary(q, offset=9) @ rotary(k, offset=4).mT
    assert torch.allclose(near, rotary(q, offset=105) @ rotary(k, offset=100).mT, atol=1e-4)
    assert not torch.allclose(near, rotary(q, offset=9) @ rotary(k, offset=5).mT, atol=1e-4)


def test_schedule_warms_up_then_decays() -> None:
    optim = OptimConfig(warmup=0.1, final=0.1)
    factors = [optim.factor(s, 100) for s in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(factors[9:]))
    assert factors[-1] == pytest.approx(0.1, abs=1e-3)


def test_loss_ignores_unlabelled_positions() -> None:
    torch.manual_seed(0)
    model = Decoder(TransformerConfig(d_model=16, n_heads=2), vocab_size=7, length=6)
    module = SequenceModule(model, OptimConfig(), 10)
    tokens = torch.randint(0, 7, (2, 6))
    labels = torch.full((2, 6), -100)
    labels[0, 3], labels[1, 5] = 2, 4
    loss = module.training_step({"input_ids": tokens, "labels": labels}, 0)
    logp = model(tokens).logits_BnV.log_softmax(-1)
    assert torch.allclose(loss, -(logp[0, 3, 2] + logp[1, 5, 4]) / 2)
    seen = module.predict({"input_ids": tokens, "labels": labels})
    assert torch.allclose(seen["nll_Bn"].sum() / 2, loss)
    assert math.isclose(float(seen["nll_Bn"][0, 0]), 0.0)


def test_a_model_that_is_too_short_says_so() -> None:
    model = Decoder(TransformerConfig(d_model=16, n_heads=2), vocab_size=7, length=6)
    with pytest.raises(ValueError, match="max_length=6"):
        model(torch.zeros(1, 7, dtype=torch.long))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": 3}, "unknown key layers; known keys: .*n_layers"),
        ({"positions": "sine"}, "positions='sine' is unknown; choose from learned, rotary, none"),
        ({"d_model": 30}, "d_model=30 must be divisible by n_heads=4"),
    ],
)
def test_bad_config_is_one_clear_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        TransformerConfig.from_dict(values)
    assert "\n" not in str(caught.value)
