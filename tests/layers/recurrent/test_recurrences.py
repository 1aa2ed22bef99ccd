"""The chunked recurrences against the step-by-step ones, and against other people's code where it is installed.

Shapes: B batch, n length, H heads, k key width, v value width, p head width, s state width.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ressformer.layers.norms import unit_length
from ressformer.layers.recurrent.delta_rule import gated_delta_rule
from ressformer.layers.recurrent.ssd import ssd
from ressformer.layers.recurrent.triangular import unit_lower_inverse
from ressformer.models.gated_deltanet import GatedDeltaNetConfig
from ressformer.models.mamba2 import Mamba2Config
from ressformer.recurrent import RecurrentConfig

lengths, chunk_sizes = st.integers(0, 45).map(lambda i: 2 * i + 1), st.integers(1, 40)


def delta_step_by_step(q: Tensor, k: Tensor, v: Tensor, log_a: Tensor, b: Tensor) -> Tensor:
    """S = a (I - b k k^T) S + b k v^T, token by token."""
    state, outs = q.new_zeros(*q.shape[:1], q.shape[2], k.shape[-1], v.shape[-1]), []
    for t in range(q.shape[1]):
        state = state * log_a[:, t].exp()[..., None, None]
        error = v[:, t] - torch.einsum("bhk,bhkv->bhv", k[:, t], state)
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, t] * b[:, t, :, None], error)
        outs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(outs, dim=1)


def ssd_step_by_step(x: Tensor, log_a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """S = a S + B x^T, token by token."""
    state, outs = x.new_zeros(*x.shape[:1], x.shape[2], b.shape[-1], x.shape[-1]), []
    for t in range(x.shape[1]):
        state = state * log_a[:, t].exp()[..., None, None] + torch.einsum("bs,bhp->bhsp", b[:, t], x[:, t])
        outs.append(torch.einsum("bs,bhsp->bhp", c[:, t], state))
    return torch.stack(outs, dim=1)


def delta_inputs(n: int, seed: int, heads: int = 3, alike: bool = False) -> list[Tensor]:
    """Queries, keys, values, log decays and strengths in fp64; `alike`: one key throughout, written in full."""
    g = torch.Generator().manual_seed(seed)
    q, k, v, log_a, b = (
        torch.randn(2, n, heads, *w, generator=g, dtype=torch.float64) for w in ((5,), (5,), (7,), (), ())
    )
    if alike:
        k, b = k[:, :1].expand_as(k).clone(), b.abs() * 20
    log_a = -log_a.abs() * torch.rand(heads, generator=g, dtype=torch.float64) * 4
    return [t.requires_grad_() for t in (unit_length(q), unit_length(k), v, log_a, b.sigmoid())]


def ssd_inputs(n: int, seed: int, heads: int = 3) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    x, log_a = (torch.randn(2, n, heads, *w, generator=g, dtype=torch.float64) for w in ((5,), ()))
    b, c = (torch.randn(2, n, 7, generator=g, dtype=torch.float64) for _ in range(2))
    log_a = -log_a.abs() * torch.rand(heads, generator=g, dtype=torch.float64) * 4
    return [t.requires_grad_() for t in (x, log_a, b, c)]


def largest_difference(ours: Tensor, theirs: Tensor, inputs: list[Tensor]) -> float:
    """Of outputs and of all gradients."""
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    found = [(ours - theirs).detach().abs().max()]
    grads = [torch.autograd.grad((y * weight).sum(), inputs) for y in (ours, theirs)]
    found += [(a - b).abs().max() for a, b in zip(*grads, strict=True)]
    return float(torch.stack(found).max())


@settings(max_examples=40, deadline=None)
@given(lengths, chunk_sizes, st.integers(0, 99), st.booleans())
def test_gated_delta_rule_is_its_recurrence(n: int, chunk: int, seed: int, alike: bool) -> None:
    inputs = delta_inputs(n, seed, alike=alike)
    ours = gated_delta_rule(*inputs, chunk=chunk)
    assert largest_difference(ours, delta_step_by_step(*inputs), inputs) < 1e-11


@settings(max_examples=40, deadline=None)
@given(lengths, chunk_sizes, st.integers(0, 99))
def test_ssd_is_its_recurrence(n: int, chunk: int, seed: int) -> None:
    inputs = ssd_inputs(n, seed)
    assert largest_difference(ssd(*inputs, chunk=chunk), ssd_step_by_step(*inputs), inputs) < 1e-11


@pytest.mark.parametrize("rule", ["delta", "ssd"])
def test_fp32_keeps_five_digits_over_a_thousand_tokens(rule: str) -> None:
    """One key throughout, written in full, is the hardest case of the inverse."""
    exact_inputs = delta_inputs(1001, 0, alike=True) if rule == "delta" else ssd_inputs(1001, 0)
    slow, quick = (delta_step_by_step, gated_delta_rule) if rule == "delta" else (ssd_step_by_step, ssd)
    expected = slow(*exact_inputs)
    found = quick(*(t.detach().float() for t in exact_inputs), chunk=32)  # type: ignore[operator]
    assert float(((found - expected).abs().max() / expected.abs().max()).detach()) < 1e-5


@pytest.mark.parametrize("c", [1, 2, 3, 17, 33])
def test_inverse_of_unit_lower_triangular_matrices(c: int) -> None:
    a = torch.randn(4, c, c, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    eye = torch.eye(c, dtype=torch.float64)
    torch.testing.assert_close(unit_lower_inverse(a) @ (eye + a.tril(-1)), eye.expand_as(a), rtol=0, atol=1e-6)
    small = (a.detach() * 0.1).requires_grad_()
    grads = [
        torch.autograd.grad((y * torch.ones_like(y).cumsum(-1)).sum(), small)[0]
        for y in (unit_lower_inverse(small), torch.linalg.inv(eye + small.tril(-1)))
    ]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-9)


CONFIGS: list[RecurrentConfig] = [
    GatedDeltaNetConfig(d_model=24, n_heads=3, chunk=8),
    Mamba2Config(d_model=24, n_heads=3, d_state=10, chunk=8),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.family)
def test_bidirectional_padding_is_as_if_it_were_not_there(config: RecurrentConfig) -> None:
    """Outputs and gradients of every weight in fp64: a row of 13 tokens alone and padded to 29."""
    mixer = config.build_mixer(length=29, causal=False, out_scale=1.0).double()
    x = torch.randn(1, 29, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    real = torch.arange(29)[None] < 13
    outs, grads = [], []
    for y in (mixer(x, real)[:, :13], mixer(x[:, :13], None)):
        outs.append(y)
        grads.append(torch.autograd.grad(y.square().sum(), list(mixer.parameters())))
    torch.testing.assert_close(*outs, rtol=0, atol=1e-12)
    for padded, alone in zip(*grads, strict=True):
        torch.testing.assert_close(padded, alone, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.family)
def test_both_directions_see_the_mirror_image_alike(config: RecurrentConfig) -> None:
    mixer = config.build_mixer(length=17, causal=False, out_scale=1.0).double()
    x = torch.randn(2, 17, 24, dtype=torch.float64)
    torch.testing.assert_close(mixer(x.flip(1), None), mixer(x, None).flip(1), rtol=0, atol=1e-12)


def test_switches_without_a_meaning_are_refused() -> None:
    for change in ({"qk_norm": True}, {"positions": "rotary"}, {"chunk": 0}):
        with pytest.raises(ValueError, match="model mamba2: "):
            Mamba2Config(**change)  # type: ignore[arg-type]


WITHOUT = "NOT COMPARED with other people's recurrences: pip install transformers"


def modeling(name: str) -> Any:
    return pytest.importorskip(f"transformers.models.{name}.modeling_{name}", reason=WITHOUT)


@pytest.mark.parametrize("kind", ["chunk", "recurrent"])
@pytest.mark.parametrize("n", [1, 37, 130])
def test_gated_delta_rule_is_that_of_transformers(kind: str, n: int) -> None:
    theirs = getattr(modeling("qwen3_next"), f"torch_{kind}_gated_delta_rule")
    q, k, v, log_a, b = (t.detach().float() for t in delta_inputs(n, 1))
    expected, _ = theirs(q, k, v, log_a, b, initial_state=None, output_final_state=False)  # it scales queries itself
    found = gated_delta_rule(q * q.shape[-1] ** -0.5, k, v, log_a, b, chunk=32)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("n", [1, 37, 130])
def test_gated_deltanet_is_that_of_qwen3_next(n: int) -> None:
    """The whole mixer: convolution, norms, gates."""
    heads, d = 2, 32
    config = GatedDeltaNetConfig(d_model=d, n_heads=heads, chunk=16)
    ours = config.build_mixer(length=n, causal=True, out_scale=1.0).scan  # type: ignore[union-attr]
    library = modeling("qwen3_next")
    theirs = library.Qwen3NextGatedDeltaNet(
        pytest.importorskip("transformers").Qwen3NextConfig(
            hidden_size=d, linear_num_key_heads=heads, linear_num_value_heads=heads, linear_key_head_dim=d // heads,
            linear_value_head_dim=2 * d // heads, linear_conv_kernel_dim=4, hidden_act="silu", rms_norm_eps=1e-5,
        ),
        layer_idx=0,
    )  # fmt: skip
    with torch.no_grad():
        q, k, v = ours.qkv.weight.split([d, d, 2 * d])
        parts = [t.unflatten(0, (heads, -1)) for t in (q, k, v, ours.gate.weight)]
        theirs.in_proj_qkvz.weight.copy_(torch.cat(parts, dim=1).flatten(0, 1))
        step, strength = (t.unflatten(0, (heads, -1)) for t in ours.decay_strength.weight.chunk(2))
        theirs.in_proj_ba.weight.copy_(torch.cat([strength, step], dim=1).flatten(0, 1))
        theirs.conv1d.weight.copy_(ours.conv.taps_dw.unsqueeze(1))
        theirs.A_log.copy_(ours.log_rate_H)
        theirs.dt_bias.copy_(ours.step_bias_H)
        theirs.out_proj.weight.copy_(ours.out.weight)
    same_module(ours, theirs, d, n)


@pytest.mark.parametrize("n", [1, 37, 130])
def test_mamba2_is_that_of_transformers(n: int) -> None:
    """The whole mixer: convolution, scan, skip, norm and gate."""
    heads, d = 4, 32
    config = Mamba2Config(d_model=d, n_heads=heads, d_state=12, chunk=16)
    ours = config.build_mixer(length=n, causal=True, out_scale=1.0).scan  # type: ignore[union-attr]
    library = modeling("mamba2")
    theirs = library.Mamba2Mixer(
        pytest.importorskip("transformers").Mamba2Config(
            hidden_size=d, num_heads=heads, head_dim=2 * d // heads, state_size=12, expand=2, n_groups=1, conv_kernel=4,
            chunk_size=16, use_conv_bias=False, use_bias=False, layer_norm_epsilon=1e-5,
        ),
        layer_idx=0,
    )  # fmt: skip
    with torch.no_grad():
        theirs.in_proj.weight.copy_(torch.cat([ours.gate.weight, ours.x_b_c.weight, ours.step.weight]))
        theirs.conv1d.weight.copy_(ours.conv.taps_dw.unsqueeze(1))
        theirs.A_log.copy_(ours.log_rate_H)
        theirs.dt_bias.copy_(ours.step_bias_H)
        theirs.D.copy_(ours.skip_H)
        theirs.norm.weight.copy_(ours.out_norm.weight)
        theirs.out_proj.weight.copy_(ours.out.weight)
    same_module(ours, theirs, d, n)


def same_module(ours: Any, theirs: Any, d: int, n: int) -> None:
    """Outputs and gradients of the input."""
    x = torch.randn(2, n, d, generator=torch.Generator().manual_seed(0)).requires_grad_()
    outs = [ours(x), theirs(x)]
    torch.testing.assert_close(*outs, rtol=0, atol=1e-5)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x)[0] for y in outs), rtol=0, atol=1e-4)
