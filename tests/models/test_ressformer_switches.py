"""ReSSFormer's variants: whatever is switched, nothing leaks, and each selection reduces to dense attention."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from randomised import randomised
from torch import Tensor

from experiments.planning.budget import Budget
from experiments.planning.solve import solve
from ressformer.cost import Shape
from ressformer.decoder import Decoder
from ressformer.layers.native import loader as native
from ressformer.layers.sparse.attention import SparseAttention
from ressformer.layers.sparse.config import SelectionConfig
from ressformer.layers.sparse.entmax import normalise
from ressformer.layers.sparse.memory import Memory
from ressformer.models.ressformer import ReSSFormerConfig
from ressformer.models.transformer import TransformerConfig

VOCAB = 17
CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
PRESETS = sorted(path.stem for path in CONF.glob("ressformer*.yaml"))


def preset(name: str) -> ReSSFormerConfig:
    values = OmegaConf.to_object(OmegaConf.load(CONF / f"{name}.yaml"))
    assert values.pop("_target_") == "ressformer.models.ressformer.ReSSFormerConfig"
    return ReSSFormerConfig.from_dict(values)


@st.composite
def variants(draw: st.DrawFn) -> ReSSFormerConfig:
    """Any combination of the switches."""
    experts = draw(st.integers(1, 4))
    shared, selection = draw(st.booleans()), draw(st.sampled_from(["token", "block", "all"]))
    cache = draw(st.sampled_from([0, 1, 6]))
    return ReSSFormerConfig(
        d_model=16,
        n_heads=2,
        d_expert=16,
        steps=draw(st.integers(1, 3)),
        shared=shared,
        activation=draw(st.sampled_from(["softmax", "sparsemax", "entmax15"])),
        selection=selection,
        top_k=draw(st.sampled_from([1, 3, 40])),
        top_k_per_head=selection == "token" and draw(st.booleans()),
        block=draw(st.sampled_from([1, 4, 7])),
        blocks=draw(st.integers(1, 4)),
        cache=cache,
        cache_step=draw(st.sampled_from(["current", "previous"])) if shared and cache > 1 else "current",
        memory_slots=draw(st.sampled_from([0, 2])),
        memory_segment=draw(st.sampled_from([3, 8])),
        memory_pool=draw(st.sampled_from(["attention", "mean", "topk"])),
        graph=draw(st.sampled_from(["edges", "attention", "none"])),
        structure=draw(st.sampled_from([0.0, 1.0])),
        ffn=draw(st.sampled_from(["experts", "dense"])),
        n_experts=experts,
        top_e=draw(st.integers(1, experts)),
        input_injection=draw(st.booleans()),
        step_embedding=draw(st.booleans()),
        short_conv=draw(st.sampled_from([0, 3])),
    )


build = partial(randomised, vocab=VOCAB)


@settings(max_examples=60, deadline=None)
@given(variants(), st.integers(2, 30), st.data())
def test_no_switch_leaks_the_future_bit_for_bit(config: ReSSFormerConfig, length: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, length - 1))
    model = build(config, length, seed=data.draw(st.integers(0, 99)))
    tokens = torch.randint(0, VOCAB, (2, length))
    other = tokens.clone()
    other[:, cut:] = (other[:, cut:] + torch.randint(1, VOCAB, other[:, cut:].shape)) % VOCAB
    assert torch.equal(model(tokens).logits_BnV[:, :cut], model(other).logits_BnV[:, :cut])


@settings(max_examples=40, deadline=None)
@given(variants(), st.integers(1, 20), st.integers(1, 3), st.booleans(), st.data())
def test_any_shape_and_any_padding_trains(
    config: ReSSFormerConfig, length: int, batch: int, causal: bool, data: st.DataObject
) -> None:
    model = build(config, length, causal=causal)
    mask = torch.tensor(data.draw(st.lists(st.integers(0, length), min_size=batch, max_size=batch)))
    mask_Bn = torch.arange(length) < mask.unsqueeze(1)
    out = model(torch.randint(0, VOCAB, (batch, length)), mask_Bn)
    (out.logits_BnV.square().sum() + sum(out.aux_losses.values(), torch.zeros(()))).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


ATTENTIONS = [
    {"cache": 0, "activation": "entmax15"},
    {"cache": 3, "activation": "softmax"},
    {"cache": 5, "activation": "sparsemax"},
]


def attend(config: SelectionConfig, n: int, *, causal: bool, mask: bool) -> list[Tensor]:
    """Output, graph loss against an earlier graph, and all gradients, of a layer with edges and slots."""
    torch.manual_seed(0)
    layer = SparseAttention(16, 2, replace(config, cache_lean=1.0), causal=causal).double()
    x, earlier = torch.randn(2, 2, n, 16, dtype=torch.double).unbind()
    a, b = torch.randn(2, 2, n, 4, dtype=torch.double).unbind()
    size = 6 if causal else n
    memory = Memory(torch.randn(2, -(-n // size), 3, 16, dtype=torch.double), size, torch.arange(n) >= size * causal)
    leaves = [x.requires_grad_(), a.requires_grad_(), b.requires_grad_(), memory.slots_BGmd.requires_grad_()]
    mask_Bn = torch.arange(n) < torch.tensor([[n], [n - 4]]) if mask else None
    seen = layer(x, mask_Bn, (a, b), memory)
    change, _turnover = seen.graph.change(layer(earlier, mask_Bn, (b, a), memory).graph, mask_Bn)
    y = seen.y_Bnd if mask_Bn is None else seen.y_Bnd * mask_Bn.unsqueeze(-1)
    total = y.square().sum() + change
    return [y, change, *torch.autograd.grad(total, [*leaves, *layer.parameters()])]


@pytest.mark.parametrize("dials", ATTENTIONS)
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("causal", [True, False])
def test_all_keys_or_all_blocks_are_dense_attention(causal: bool, mask: bool, dials: dict[str, Any]) -> None:
    n = 21
    dense = attend(SelectionConfig(selection="all", block=64, **dials), n, causal=causal, mask=mask)
    for variant in (
        {"selection": "all", "block": 4},
        {"selection": "token", "top_k": n},
        {"selection": "block", "block": 4, "blocks": 6},
        {"selection": "block", "block": 7, "blocks": 9},
    ):
        seen = attend(SelectionConfig(**variant, **dials), n, causal=causal, mask=mask)
        assert all(torch.allclose(here, there, atol=1e-9) for here, there in zip(seen, dense, strict=True)), variant


@pytest.mark.parametrize("activation", ["softmax", "sparsemax", "entmax15"])
def test_dense_attention_by_hand(activation: str) -> None:
    torch.manual_seed(0)
    n = 9
    config = SelectionConfig(selection="all", cache=3, cache_lean=2.0, activation=activation)
    layer = SparseAttention(8, 2, config, causal=True)
    x, a, b = torch.randn(1, n, 8), torch.randn(1, n, 4), torch.randn(1, n, 4)
    q, k, v = layer.qkv(x)[0].chunk(3, dim=-1)
    rows = []
    for head in range(2):
        at = slice(4 * head, 4 * head + 4)
        score = q[:, at] @ k[:, at].T / 2.0 + a[0] @ b[0].T
        if head == 0:  # the first head leans towards the token before
            score = score + torch.diag(torch.full((n - 1,), 2.0), -1)
        hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
        rows.append(normalise(score.masked_fill(hidden, -torch.inf), activation) @ v[:, at])
    expected = layer.out(torch.cat(rows, dim=-1))
    assert torch.allclose(layer(x, None, (a, b), None).y_Bnd[0], expected, atol=1e-5)


def test_selected_tokens_by_hand_where_not_all_are_kept() -> None:
    torch.manual_seed(0)
    n, k, w = 15, 3, 2
    layer = SparseAttention(8, 2, SelectionConfig(top_k=k, cache=w, activation="sparsemax"), causal=True).double()
    x, a, b = (torch.randn(1, n, size, dtype=torch.double) for size in (8, 4, 4))
    edge = a[0] @ b[0].T
    kept = torch.zeros(n, n, dtype=torch.bool)
    for i in range(n):
        far = list(range(max(0, i - w + 1)))
        best = sorted(far, key=lambda j: -float(edge[i, j]))[:k]
        kept[i, best] = True
        kept[i, max(0, i - w + 1) : i + 1] = True
    q, keys, v = layer.qkv(x)[0].chunk(3, dim=-1)
    rows = []
    for head in range(2):
        at = slice(4 * head, 4 * head + 4)
        score = (q[:, at] @ keys[:, at].T / 2.0 + edge).masked_fill(~kept, -torch.inf)
        rows.append(normalise(score, "sparsemax") @ v[:, at])
    assert torch.allclose(layer(x, None, (a, b), None).y_Bnd[0], layer.out(torch.cat(rows, dim=-1)), atol=1e-9)


@pytest.mark.parametrize("selection", ["token", "block", "all"])
def test_kernels_in_c_and_in_torch_agree(selection: str) -> None:
    config = ReSSFormerConfig(d_model=32, d_expert=24, top_k=5, selection=selection, block=8, blocks=2)
    tokens = torch.randint(0, VOCAB, (2, 40), generator=torch.Generator().manual_seed(0))
    seen = []
    for on in (True, False):
        with native.use_native(on):
            model = build(config, 40)
            out = model(tokens)
            (out.logits_BnV.square().mean() + sum(out.aux_losses.values())).backward()
            seen.append([out.logits_BnV, *(p.grad for p in model.parameters())])
    assert all(torch.allclose(here, there, rtol=1e-3, atol=1e-4) for here, there in zip(*seen, strict=True))


@pytest.mark.slow  # the compiler takes a minute for each
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised inside torch's compiler
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # it looks at them behind a graph break
@pytest.mark.parametrize("selection", ["token", "block"])
def test_compiled_equals_eager(selection: str) -> None:
    variant = {"selection": selection, "block": 8, "blocks": 2, "steps": 2, "d_expert": 16}
    model = build(ReSSFormerConfig(d_model=16, n_heads=2, **variant), 24)
    tokens = torch.randint(0, VOCAB, (2, 24))
    seen = []
    for run in (model, torch.compile(model)):
        model.zero_grad()
        out = run(tokens)
        (out.logits_BnV.square().mean() + sum(out.aux_losses.values())).backward()
        seen.append([out.logits_BnV.detach(), *(p.grad.clone() for p in model.parameters())])
    assert all(torch.allclose(here, there, rtol=1e-3, atol=1e-4) for here, there in zip(*seen, strict=True))


def test_blocks_may_be_permuted_and_tokens_within_them() -> None:
    variant = {"selection": "block", "block": 5, "blocks": 2, "cache": 0, "memory_slots": 2, "d_expert": 24}
    model = build(ReSSFormerConfig(d_model=32, **variant), 20, causal=False).double()
    tokens = torch.randint(0, VOCAB, (2, 20))
    order = torch.cat([5 * block + torch.randperm(5) for block in torch.randperm(4)])
    assert torch.allclose(model(tokens).logits_BnV[:, order], model(tokens[:, order]).logits_BnV, atol=1e-6)


@pytest.mark.parametrize(
    "reading", [{}, {"selection": "block"}, {"top_k_per_head": True}, {"cache_step": "previous", "cache": 4}], ids=str
)
def test_nothing_of_n_by_n_is_held(reading: dict[str, Any]) -> None:
    n, largest = 2048, 0
    config = ReSSFormerConfig(d_model=16, n_heads=1, d_expert=16, steps=2, top_k=4, block=16, blocks=3, **reading)

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                largest = max(largest, tensor.numel() if isinstance(tensor, Tensor) else 0)
            return out

    model = Decoder(config, vocab_size=VOCAB, length=n)
    with Watch():
        model(torch.randint(0, VOCAB, (1, n))).logits_BnV.sum().backward()
    assert largest <= n * 64


def test_blocks_of_their_own_start_apart_and_share_the_memory() -> None:
    config = ReSSFormerConfig(d_model=32, d_expert=24, steps=3, shared=False)
    model = build(config, 20)
    assert len(model.core.blocks) == 3  # type: ignore[arg-type]
    assert len({id(block.memory) for block in model.core.blocks}) == 1  # type: ignore[union-attr]
    out = model(torch.randint(0, VOCAB, (2, 20)))
    (out.logits_BnV.square().sum() + sum(out.aux_losses.values())).backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(ValueError, match="eval_steps=5 needs a loop; set shared=true"):
        replace(config, eval_steps=5)


def test_a_dense_network_has_the_active_size_of_the_experts() -> None:
    config = ReSSFormerConfig(d_model=32, d_expert=24, n_experts=4, top_e=2)
    dense = build(replace(config, ffn="dense"), 8).core.blocks[0].experts  # type: ignore[union-attr,index]
    assert dense.up_Edf.shape == (1, 32, 48) and dense.router is None  # type: ignore[union-attr]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("length", [40, 256])
def test_presets_meet_the_budget(name: str, length: int) -> None:
    budget = Budget.from_dict(OmegaConf.to_object(OmegaConf.load(CONF.parent / "budget" / "tiny.yaml")))
    solved = solve(preset(name), budget, Shape(batch=4, length=length, vocab=40), TransformerConfig())
    assert abs(solved.params_residual) <= budget.tolerance_params
    assert abs(solved.train_flops_residual) <= budget.tolerance_flops
    live = Decoder(solved.config, vocab_size=40, length=length).parameter_counts()[1]
    assert live == solved.params


def test_presets_are_the_named_ablations() -> None:
    assert {"ressformer", "ressformer_no_r2mu", "ressformer_no_asam", "ressformer_no_soes"} <= set(PRESETS)
    r2mu, asam, soes = (preset(f"ressformer_no_{module}") for module in ("r2mu", "asam", "soes"))
    assert (r2mu.shared, r2mu.memory_slots, r2mu.cache) == (False, 0, 0)
    assert (asam.selection, asam.activation, asam.ffn) == ("all", "softmax", "dense")
    assert (soes.graph, soes.structure) == ("none", 0.0)
