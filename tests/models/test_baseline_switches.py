"""Every baseline under every switch and any shape: no leak, padding unseen, finite; and reversible layers by hand."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from randomised import randomised
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ressformer.decoder import Decoder, ModelConfig
from ressformer.models.bigbird import BigBirdConfig
from ressformer.models.gated_deltanet import GatedDeltaNetConfig
from ressformer.models.longformer import LongformerConfig
from ressformer.models.looped import LoopedConfig
from ressformer.models.mamba2 import Mamba2Config
from ressformer.models.moeut import MoEUTConfig
from ressformer.models.reformer import ReformerConfig
from ressformer.models.transformer import TransformerConfig

VOCAB = 11
POSITIONS = ("learned", "rotary", "none")
MODERN = {"norm": ("layer", "rms"), "feed_forward": ("gelu", "swiglu"), "qk_norm": (False, True)}
SWITCHES: dict[type[ModelConfig], dict[str, tuple[Any, ...]]] = {
    TransformerConfig: {"positions": POSITIONS, **MODERN},
    LoopedConfig: {"positions": POSITIONS},
    LongformerConfig: {"positions": POSITIONS, "window": (1, 6), "dilation": (1, 3), "n_global": (0, 2)},
    BigBirdConfig: {"positions": POSITIONS, "block": (3,), "window": (1, 3), "global_blocks": (0, 1, 2)}
    | {"random_blocks": (0, 2)},
    ReformerConfig: {"positions": POSITIONS, "rounds": (1, 3), "chunk": (1, 4), "reversible": (False, True)}
    | {"qk_norm": (False, True)},
    GatedDeltaNetConfig: {"positions": ("learned", "none"), "chunk": (1, 4, 32), "conv": (1, 4), "expand": (1, 2)}
    | {"norm": ("layer", "rms")},
    Mamba2Config: {"positions": ("learned", "none"), "chunk": (1, 4, 32), "conv": (1, 4), "d_state": (1, 8)}
    | {"feed_forward": ("gelu", "swiglu")},
    MoEUTConfig: {"group": (1, 2), "n_experts": (2, 5), "top_e": (1, 2), "norm": ("layer", "rms")},
}
SHARED = {"short_conv": (0, 3), "tie_embeddings": (True, False)}


def small(family: type[ModelConfig], **dials: Any) -> ModelConfig:
    """A model of width 16."""
    return family(d_model=16, n_heads=2, **{family.fill: 24}, **dials)  # type: ignore[arg-type]


def variants(family: type[ModelConfig]) -> list[ModelConfig]:
    """Every combination of the family's switches; those that all share by turns."""
    names, values = zip(*SWITCHES[family].items(), strict=True)
    shared = itertools.cycle(itertools.product(*SHARED.values()))
    every: list[ModelConfig] = []
    for chosen in itertools.product(*values):
        dials = dict(zip(names, chosen, strict=True)) | dict(zip(SHARED, next(shared), strict=True))
        every.append(small(family, n_layers=2, **dials))
    return every


build = partial(randomised, vocab=VOCAB)


@pytest.mark.parametrize("family", SWITCHES, ids=lambda f: f.family)
def test_no_switch_lets_the_future_in(family: type[ModelConfig]) -> None:
    n = 19
    for config in variants(family):
        model = build(config, n, causal=True)
        tokens = torch.randint(0, VOCAB, (2, n))
        before = model(tokens).logits_BnV
        for cut in (1, 10, n - 1):
            other = tokens.clone()
            other[:, cut:] = (other[:, cut:] + torch.randint(1, VOCAB, other[:, cut:].shape)) % VOCAB
            after = model(other).logits_BnV
            assert torch.equal(before[:, :cut], after[:, :cut]), config
            assert not torch.equal(before[:, cut:], after[:, cut:]), config


configs = st.sampled_from(list(SWITCHES)).flatmap(lambda family: st.sampled_from(variants(family)))


@settings(max_examples=60, deadline=None)
@given(configs, st.integers(1, 60), st.integers(1, 3), st.booleans(), st.data())
def test_any_shape_with_any_padding(config: ModelConfig, n: int, batch: int, causal: bool, data: st.DataObject) -> None:
    """Rows of any length, none at all included: finite everywhere, and padding is read by nobody."""
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, n), min_size=batch, max_size=batch)))
    real_Bn = torch.arange(n) < lengths[:, None]
    model = build(config, n, causal=causal)
    tokens = torch.randint(0, VOCAB, (batch, n))
    logits = model(tokens, real_Bn).logits_BnV
    changed = torch.where(real_Bn, tokens, (tokens + 1) % VOCAB)
    torch.testing.assert_close(model(changed, real_Bn).logits_BnV[real_Bn], logits[real_Bn], rtol=0, atol=1e-4)
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("family", SWITCHES, ids=lambda f: f.family)
def test_longer_than_in_training(family: type[ModelConfig], causal: bool) -> None:
    """A model built for 12 tokens reads 50; causal, the first 12 give what they gave alone."""
    torch.manual_seed(0)
    config = small(family, n_layers=2)
    model = Decoder(config, vocab_size=VOCAB, length=12, max_length=50, causal=causal)
    tokens = torch.randint(0, VOCAB, (2, 50))
    long, short = model(tokens).logits_BnV, model(tokens[:, :12]).logits_BnV
    assert long.isfinite().all()
    assert torch.allclose(long[:, :12], short, atol=1e-5) == causal


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operator makes, views apart."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else (out,):
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.untyped_storage().nbytes() // x.element_size())
        return out


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "family",
    [LongformerConfig, BigBirdConfig, ReformerConfig, GatedDeltaNetConfig, Mamba2Config],
    ids=lambda f: f.family,
)
def test_nothing_grows_with_the_square_of_the_length(family: type[ModelConfig], causal: bool) -> None:
    """The largest tensor of a forward and a backward pass doubles when the length does, and is far below n x n."""
    largest = []
    for n in (4096, 8192):
        model = build(small(family, n_layers=1), n, causal=causal)
        real_Bn = torch.arange(n)[None] < n - 100
        with Largest() as seen:
            model(torch.randint(0, VOCAB, (1, n)), real_Bn).logits_BnV.sum().backward()
        largest.append(seen.elements)
    assert largest[1] <= 2.1 * largest[0]
    assert largest[1] < 8192**2 / 50


@pytest.mark.parametrize("causal", [True, False])
def test_turned_vectors_of_one_bucket_are_full_attention_by_distance(causal: bool) -> None:
    """Reformer with rotary positions, by complex numbers: pair i of the token at n is turned by n * 10000^(-2i/h)."""
    n, heads, h = 13, 2, 8
    config = ReformerConfig(d_model=heads * h, n_heads=heads, chunk=16, positions="rotary")
    layer = config.build_mixer(length=n, causal=causal, out_scale=1.0).double()
    x = torch.randn(3, n, heads * h, dtype=torch.float64)
    qk, v = (t.unflatten(-1, (heads, h)).transpose(1, 2) for t in (x @ layer.qk_v.weight.T).chunk(2, dim=-1))
    angle = torch.arange(n)[:, None] * 10_000.0 ** (-2 * torch.arange(h // 2) / h)
    turned = torch.complex(qk[..., : h // 2], qk[..., h // 2 :]) * torch.polar(torch.ones_like(angle), angle)
    key = turned / turned.abs().square().sum(-1, keepdim=True).sqrt()
    scores = (turned[:, :, :, None] * key[:, :, None].conj()).real.sum(-1)
    seen = ~torch.eye(n, dtype=torch.bool) & (torch.ones(n, n).tril() > 0 if causal else True)
    seen[0, 0] = causal  # who sees nobody else sees itself
    expected = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v
    torch.testing.assert_close(
        layer(x, None), expected.transpose(1, 2).flatten(2) @ layer.out.weight.T, rtol=0, atol=1e-5
    )


class Streams(torch.nn.Module):
    """Reversible layers by plain autograd: y1 = x1 + attention(x2), y2 = x2 + ff(y1)."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        core: Any = self.model.core
        a = b = core.embed_positions(self.model.embedding(tokens))
        for layer in core.layers:
            a = a + layer.mix(b, None)
            b = b + layer.feed(a)
        logits: Tensor = self.model.head(self.model.norm((a + b) / 2))
        return logits


@pytest.mark.parametrize("causal", [True, False])
def test_reversible_layers_equal_plain_autograd(causal: bool) -> None:
    config = ReformerConfig(d_model=16, n_heads=2, n_layers=3, d_ff=24, chunk=4, reversible=True, short_conv=3)
    model = build(config, 30, causal=causal).double()
    tokens = torch.randint(0, VOCAB, (2, 30))
    outs, grads = [], []
    for run in (lambda: model(tokens).logits_BnV, lambda: Streams(model)(tokens)):
        model.zero_grad()
        outs.append(run())
        outs[-1].square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])  # type: ignore[union-attr]
    torch.testing.assert_close(*outs, rtol=0, atol=1e-10)
    for rebuilt, stored in zip(*grads, strict=True):
        torch.testing.assert_close(rebuilt, stored, rtol=1e-7, atol=1e-8)


def test_reversible_layers_keep_no_activations() -> None:
    """What autograd stores does not grow with depth."""

    def stored(layers: int) -> int:
        config = ReformerConfig(d_model=16, n_heads=2, n_layers=layers, d_ff=24, chunk=8, reversible=True)
        model, sizes = build(config, 64, causal=True), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            model(torch.zeros(2, 64, dtype=torch.long))
        return sum(sizes)

    assert stored(1) == stored(6)
