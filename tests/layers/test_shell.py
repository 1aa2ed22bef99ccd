"""Norms, gated feed-forward, short convolution and experts gated by sigmoids, against torch's or slow loops.

Shapes: B batch, n length, d width, H heads, h head width.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ressformer.layers.experts.moe import MoEConfig
from ressformer.layers.experts.sigma_moe import SigmaExperts, entropy_deficit
from ressformer.layers.native.loader import use_native
from ressformer.layers.norms import QKNorm, RMSNorm, unit_length
from ressformer.layers.recurrent.causal_conv import SiLUConv
from ressformer.layers.swiglu import SwiGLU
from ressformer.models.moeut import MoEUTConfig
from ressformer.models.transformer import TransformerConfig


def assert_same(ours: Tensor, expected: Tensor, *leaves: Tensor) -> None:
    """Outputs and gradients, in fp64."""
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=ours.dtype)
    grads = [torch.autograd.grad((y * weight).sum(), leaves) for y in (ours, expected)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def leaf(*shape: int) -> Tensor:
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape))
    ).requires_grad_()


def test_rms_norm_is_torchs() -> None:
    ours, x = RMSNorm(12).double(), leaf(3, 5, 12)
    nn.init.normal_(ours.weight)
    assert_same(ours(x), nn.functional.rms_norm(x, (12,), ours.weight, ours.eps), x, ours.weight)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_vectors_of_unit_length(scale: float) -> None:
    x = leaf(3, 5, 12)
    assert_same(unit_length(x, scale=scale), scale * x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt(), x)
    zero = torch.zeros(2, 4, requires_grad=True)
    unit_length(zero).sum().backward()  # type: ignore[no-untyped-call]
    assert zero.grad is not None and zero.grad.isfinite().all()


def test_queries_and_keys_are_normed_apart() -> None:
    ours, x = QKNorm(6).double(), leaf(2, 8, 5, 6)
    nn.init.normal_(ours.gains_Ph)
    gain = ours.gains_Ph.repeat_interleave(4, dim=0)[:, None]
    assert_same(ours(x), x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain, x, ours.gains_Ph)


def test_swiglu_by_hand() -> None:
    ours, x = SwiGLU(6, 10).double(), leaf(2, 5, 6)
    gate, value = ours.up.weight.split(10)
    a = x @ gate.T
    assert_same(ours(x), (a / (1 + (-a).exp()) * (x @ value.T)) @ ours.down.weight.T, x, *ours.parameters())


@pytest.mark.parametrize("n", [1, 2, 9])
@pytest.mark.parametrize("w", [1, 4])
def test_convolution_is_torchs(n: int, w: int) -> None:
    ours, x = SiLUConv(6, w).double(), leaf(3, n, 6)
    padded = nn.functional.pad(x.transpose(1, 2), (w - 1, 0))
    expected = nn.functional.conv1d(padded, ours.taps_dw.unsqueeze(1), groups=6).transpose(1, 2)
    assert_same(ours(x), nn.functional.silu(expected), x, ours.taps_dw)


def test_the_modern_transformer_by_hand() -> None:
    """One block in fp64, causal: RMS norms, normed queries and keys turned as complex numbers, SwiGLU, no biases."""
    n, d, heads, h = 7, 16, 2, 8
    config = TransformerConfig(
        d_model=d,
        n_heads=heads,
        n_layers=1,
        d_ff=20,
        positions="rotary",
        norm="rms",
        feed_forward="swiglu",
        qk_norm=True,
    )
    core: Any = config.build_core(length=n, max_length=n, causal=True).double()
    assert not [name for name, _ in core.named_parameters() if "bias" in name]
    x, layer = leaf(2, n, d), core.layers[0]

    def rms(t: Tensor, gain: Tensor) -> Tensor:
        return t / (t.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain

    parts = (
        (rms(x, layer.mixer_norm.weight) @ layer.mixer.qkv.weight.T).unflatten(-1, (3, heads, h)).permute(2, 0, 3, 1, 4)
    )
    angle = torch.arange(n)[:, None] * 10_000.0 ** (-2 * torch.arange(h // 2) / h)
    turned = []
    for part, gain in zip(parts[:2], layer.mixer.qk_norm.gains_Ph, strict=True):
        part = rms(part, gain)
        pairs = torch.complex(part[..., : h // 2], part[..., h // 2 :])
        turned.append(pairs * torch.polar(torch.ones_like(angle), angle))
    scores = (turned[0][..., :, None, :] * turned[1][..., None, :, :].conj()).real.sum(-1) / math.sqrt(h)
    seen = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf).softmax(-1) @ parts[2]
    y = x + seen.transpose(1, 2).flatten(2) @ layer.mixer.out.weight.T
    gate, value = (rms(y, layer.ff_norm.weight) @ layer.feed_forward.up.weight.T).chunk(2, -1)
    expected = y + (nn.functional.silu(gate) * value) @ layer.feed_forward.down.weight.T
    torch.testing.assert_close(core(x, None).h_Bnd, expected, rtol=0, atol=1e-5)  # angles are in fp32


def slow_experts(layer: SigmaExperts, x: Tensor, routed: Tensor) -> Tensor:
    """Token by token and expert by expert."""
    rows: list[Tensor] = []
    assert layer.router is not None
    for token, read in zip(x.flatten(0, 1), routed.flatten(0, 1), strict=True):
        scores = [float((row.float() @ read.float()).detach()) for row in layer.router.weight]
        best = sorted(range(len(scores)), key=lambda i: -scores[i])[: layer.config.top_e]
        total = torch.zeros_like(token)
        for i in best:
            gate = 1 / (1 + (-(layer.router.weight[i].float() @ read.float())).exp())
            total = total + gate * (nn.functional.gelu(token @ layer.up_Edf[i]) @ layer.down_Efd[i])
        rows.append(total)
    return torch.stack(rows).view_as(x)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("top_e", [1, 3])
def test_experts_by_sigmoids_are_a_loop_over_tokens_and_experts(top_e: int, native: bool) -> None:
    torch.manual_seed(0)
    dials = MoEConfig(n_experts=5, top_e=top_e, d_expert=8, balance=0.1, router_z=0.0, expert_copies=False)
    layer = SigmaExperts(8, dials)
    nn.init.normal_(layer.router.weight)  # type: ignore[union-attr]
    x, routed = torch.randn(3, 7, 8, requires_grad=True), torch.randn(3, 7, 8, requires_grad=True)
    with use_native(native):
        ours, _, load = layer.mix(x, routed, None)
    expected = slow_experts(layer, x, routed)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    leaves = (x, routed, *layer.parameters())
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), leaves) for y in (ours, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5)
    assert abs(float(load.sum()) - 1) < 1e-6


def test_the_balance_loss_is_a_lack_of_entropy_over_each_sequence() -> None:
    even, one = torch.zeros(1, 6, 4), torch.full((1, 6, 4), -50.0)
    one[..., 2] = 50
    taken_by_turns = torch.full((1, 8, 4), -50.0).scatter(2, (torch.arange(8) % 4).view(1, 8, 1), 50.0)
    for logits, expected in ((even, 0.0), (one, math.log(4)), (taken_by_turns, 0.0)):
        assert float(entropy_deficit(logits, torch.ones(logits.shape[:2]))) == pytest.approx(expected, abs=1e-5)
    half = torch.ones(2, 8)
    half[0, 1:] = 0  # one real token, which is in one expert; and a sequence in which all take turns
    assert float(entropy_deficit(taken_by_turns.repeat(2, 1, 1), half)) == pytest.approx(math.log(4) / 2, abs=1e-5)


def test_moeut_by_hand() -> None:
    """Two turns of a group of two: values and experts read x itself, queries, keys and routers its norm."""
    torch.manual_seed(0)
    n, d, heads, h = 6, 16, 2, 8
    config = MoEUTConfig(d_model=d, n_heads=heads, n_layers=4, group=2, n_experts=3, top_e=2, d_expert=8)
    core: Any = config.build_core(length=n, max_length=n, causal=True)
    start = torch.randn(2, n, d)
    x = start
    for index in range(4):
        layer = core.layers[index % 2]
        normed = nn.functional.layer_norm(x, (d,), layer.qk_norm.weight)
        q, k = ((t.unflatten(-1, (heads, h)).transpose(1, 2)) for t in (normed @ layer.qk.weight.T).chunk(2, -1))
        v = (x @ layer.v.weight.T).unflatten(-1, (heads, h)).transpose(1, 2)
        scores = layer.rotary(q) @ layer.rotary(k).mT / math.sqrt(h)
        seen = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf).softmax(-1) @ v
        x = x + seen.transpose(1, 2).flatten(2) @ layer.out.weight.T
        x = x + slow_experts(layer.experts, x, nn.functional.layer_norm(x, (d,), layer.router_norm.weight))
    out = core(start, None)
    torch.testing.assert_close(out.h_Bnd, x, rtol=0, atol=1e-5)
    assert 0 < float(out.aux_losses["balance"].detach()) < config.balance * math.log(3)
