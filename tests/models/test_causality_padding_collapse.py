"""The ways a model can win falsely: seeing the future, order where there is none, collapse that nobody logs."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from randomised import randomised

from ressformer.decoder import ModelConfig
from ressformer.models.bigbird import BigBirdConfig
from ressformer.models.gated_deltanet import GatedDeltaNetConfig
from ressformer.models.longformer import LongformerConfig
from ressformer.models.looped import LoopedConfig
from ressformer.models.mamba2 import Mamba2Config
from ressformer.models.moeut import MoEUTConfig
from ressformer.models.reformer import ReformerConfig
from ressformer.models.ressformer import ReSSFormerConfig
from ressformer.models.transformer import TransformerConfig

VOCAB = 17
RESSFORMER_VARIANTS = [
    {},
    {"activation": "softmax"},
    {"activation": "sparsemax"},
    {"cache": 0},
    {"memory_slots": 0},
    {"memory_pool": "mean"},
    {"memory_pool": "topk"},
    {"graph": "none"},
    {"graph": "attention"},
    {"n_experts": 1},
    {"n_experts": 5, "top_e": 2},
    {"input_injection": True, "step_embedding": True},
    {"short_conv": 3},
    {"top_k": 1},
    {"steps": 1},
    {"top_k_per_head": True},
    {"top_k_per_head": True, "graph": "none", "cache": 0},
    {"cache_step": "previous"},
    {"cache_step": "previous", "selection": "all", "cache": 4},
]
CONFIGS: list[ModelConfig] = [
    *(TransformerConfig(d_model=32, d_ff=48, positions=p) for p in ("learned", "rotary", "none")),
    TransformerConfig(d_model=32, d_ff=48, short_conv=3),
    TransformerConfig(d_model=32, d_ff=48, positions="rotary", norm="rms", feed_forward="swiglu", qk_norm=True),
    LoopedConfig(d_model=32, d_ff=48, n_layers=3),
    MoEUTConfig(d_model=32, d_expert=24, n_layers=3),
    MoEUTConfig(d_model=32, d_expert=24, group=1, top_e=1, short_conv=3),
    *(GatedDeltaNetConfig(d_model=32, d_ff=48, n_layers=2, chunk=c) for c in (1, 5, 64)),
    *(Mamba2Config(d_model=32, d_ff=48, n_layers=2, d_state=12, chunk=c) for c in (1, 5, 64)),
    LongformerConfig(d_model=32, d_ff=48, n_layers=2, window=5),
    LongformerConfig(d_model=32, d_ff=48, n_layers=2, window=3, dilation=2, n_global=2, positions="rotary"),
    BigBirdConfig(d_model=32, d_ff=48, n_layers=2, block=2),
    ReformerConfig(d_model=32, d_ff=48, n_layers=2, chunk=4),
    ReformerConfig(d_model=32, d_ff=48, n_layers=2, chunk=4, positions="rotary"),
    ReformerConfig(d_model=32, d_ff=48, n_layers=2, chunk=4, rounds=1, positions="none", reversible=True),
    *(
        ReSSFormerConfig(d_model=32, **{"d_expert": 24, "top_k": 4, "memory_segment": 6} | variant)
        for variant in RESSFORMER_VARIANTS
    ),
]


def name(config: ModelConfig) -> str:
    default = type(config)(d_model=32)
    changed = [
        f"{k}={getattr(config, k)}" for k in config.__dataclass_fields__ if getattr(config, k) != getattr(default, k)
    ]
    return f"{config.family}-{'-'.join(changed)}"


build = partial(randomised, vocab=VOCAB)


@pytest.mark.parametrize("config", CONFIGS, ids=name)
@pytest.mark.parametrize("length", [1, 21])
def test_no_future_leaks_bit_for_bit(config: ModelConfig, length: int) -> None:
    model = build(config, length=length, causal=True).train()
    tokens = torch.randint(0, VOCAB, (3, length))
    before = model(tokens).logits_BnV
    for cut in sorted({length // 3, length // 2, length - 1}):
        other = tokens.clone()
        other[:, cut:] = (other[:, cut:] + torch.randint(1, VOCAB, other[:, cut:].shape)) % VOCAB
        after = model(other).logits_BnV
        assert torch.equal(before[:, :cut], after[:, :cut])
        assert not torch.equal(before[:, cut:], after[:, cut:])


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_bidirectional_sees_the_future(config: ModelConfig) -> None:
    model = build(config, length=16, causal=False)
    tokens = torch.randint(0, VOCAB, (2, 16))
    other = tokens.clone()
    other[:, -1] = (other[:, -1] + 1) % VOCAB
    assert not torch.equal(model(tokens).logits_BnV[:, :-1], model(other).logits_BnV[:, :-1])


@pytest.mark.parametrize("config", CONFIGS, ids=name)
@pytest.mark.parametrize("causal", [True, False])
def test_padding_changes_nothing(config: ModelConfig, causal: bool) -> None:
    model = build(config, length=24, causal=causal).eval()
    tokens = torch.randint(0, VOCAB, (2, 24))
    mask = torch.arange(24).expand(2, -1) < 15
    padded = model(tokens, mask).logits_BnV[:, :15]
    other = model(torch.where(mask, tokens, 0), mask).logits_BnV[:, :15]
    short = model(tokens[:, :15]).logits_BnV
    assert torch.allclose(padded, other, atol=1e-5)
    if config.family != "bigbird" or causal:  # its random blocks depend on how many blocks there are
        assert torch.allclose(padded, short, atol=2e-4)


def test_all_padding_is_finite() -> None:
    for config, causal in itertools.product((CONFIGS[0], CONFIGS[4]), (True, False)):
        model = build(config, length=8, causal=causal)
        out = model(torch.zeros(2, 8, dtype=torch.long), torch.zeros(2, 8, dtype=torch.bool))
        loss = out.logits_BnV.sum() + sum(out.aux_losses.values(), torch.zeros(()))
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_equivariance_exactly_for_position_free_models(config: ModelConfig) -> None:
    if config.family == "reformer" and config.position_free:
        pytest.skip("without positions, its chunks are an order of a kind, but none that a task may rely on")
    model = build(config, length=20, causal=False).eval().double()
    tokens = torch.randint(0, VOCAB, (2, 20))
    order = torch.randperm(20)
    straight = model(tokens).logits_BnV[:, order]
    permuted = model(tokens[:, order]).logits_BnV
    assert torch.allclose(straight, permuted, atol=1e-6) == config.position_free


def test_collapse_diagnostics_are_there_when_asked_for() -> None:
    model = build(ReSSFormerConfig(d_model=32, d_expert=24), length=32, causal=True)
    tokens = torch.randint(0, VOCAB, (2, 32))
    assert model(tokens).diagnostics == {}
    model.core.diagnose = True
    seen = model(tokens).diagnostics
    for step in range(1, 5):
        assert -1 <= seen[f"cosine/{step}"] <= 1
        assert 0.25 <= seen[f"load_max/{step}"] <= 1
        assert 1 <= seen[f"support/{step}"] <= 16 + 8 + 4
    assert all(0 <= seen[f"edge_turnover/{step}"] <= 1 for step in range(2, 5))
    model.core.diagnose = True
    same = model(torch.zeros(2, 32, dtype=torch.long) + 3).diagnostics
    assert same["cosine/1"] > seen["cosine/1"]
