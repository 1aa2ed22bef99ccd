"""The fused kernels of attention against the PyTorch operators that they replace."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ressformer.decoder import Decoder
from ressformer.layers.native import loader as native
from ressformer.layers.native.loader import eager_kernels
from ressformer.layers.sparse.attention import SparseAttention
from ressformer.layers.sparse.config import SelectionConfig
from ressformer.layers.sparse.memory import Memory
from ressformer.models.ressformer import ReSSFormerConfig

BASE = SelectionConfig(top_k=5, cache=3, cache_lean=1.0)


def attended(config: SelectionConfig, *, n: int, edges: bool, slots: int, causal: bool, padded: bool) -> list[Tensor]:
    """Output, graph and all gradients of one layer."""
    torch.manual_seed(0)
    layer = SparseAttention(24, 2, config, causal=causal)
    x = torch.randn(2, n, 24, requires_grad=True)
    factors = tuple(torch.randn(2, n, 4, requires_grad=True) for _ in range(2)) if edges else None
    segment = 4 if causal else n
    groups = torch.randn(2, -(-n // segment), max(1, slots), 24, requires_grad=True)
    memory = Memory(groups, segment, torch.arange(n) >= segment if causal else torch.ones(n, dtype=torch.bool))
    mask = torch.arange(n) < torch.tensor([[n], [max(1, n - 4)]]) if padded else None
    out = layer(x, mask, factors, memory if slots else None, diagnose=True)
    found = [out.y_Bnd, out.support, out.full]
    loss = (out.y_Bnd * torch.randn(2, n, 24)).sum()
    if out.graph is not None:
        found.append(out.graph.weight_Bnk)
        loss = loss + (out.graph.weight_Bnk * torch.randn(out.graph.weight_Bnk.shape)).sum()
    wanted = [x, *(factors or ()), *([groups] if slots else []), *layer.parameters()]
    return [*found, *torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize("activation", ["softmax", "sparsemax", "entmax15"])
@pytest.mark.parametrize(
    ("variant", "n", "edges", "slots", "causal", "padded"),
    [
        ({}, 19, True, 2, True, False),
        ({}, 19, True, 2, False, True),
        ({"attention_graph": True}, 19, False, 3, True, True),
        ({"cache": 0}, 9, False, 0, False, False),
        ({"top_k": 20}, 7, True, 2, True, True),
        ({}, 1, True, 2, True, False),
    ],
)
def test_fused_equals_operators(activation, variant, n, edges, slots, causal, padded):
    config = replace(BASE, activation=activation, **variant)
    seen = []
    for on in (True, False):
        with native.use_native(on):
            seen.append(attended(config, n=n, edges=edges, slots=slots, causal=causal, padded=padded))
    for here, there in zip(*seen, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)


def test_kernels_stay_away_from_counters_and_other_numbers():
    x = torch.randn(2)
    assert (eager_kernels("attention", x) is None) == (native.library("attention") is None)
    assert eager_kernels("attention", x.double()) is None and eager_kernels("attention", x.to("meta")) is None
    with torch.utils.flop_counter.FlopCounterMode(display=False):
        assert eager_kernels("attention", x) is None


@pytest.mark.parametrize("selection", ["token", "block"])
def test_kernels_stay_away_from_autocast(selection):
    """Under autocast products are in bf16, and kernels would read past their end."""
    model = Decoder(ReSSFormerConfig(selection=selection, block=8, blocks=2, steps=2), vocab_size=16, length=40)
    tokens = torch.randint(0, 16, (4, 40))
    exact = model(tokens).logits_BnV
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(tokens).logits_BnV
    rounded.float().square().mean().backward()
    error = (rounded - exact).norm(dim=-1) / exact.norm(dim=-1)
    assert error.median() < 0.05
