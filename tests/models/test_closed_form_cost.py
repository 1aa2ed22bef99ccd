"""Closed-form cost against the live modules: weights to the unit, executed FLOPs exactly (ReSSFormer: to 0.5 %)."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ressformer.cost import Shape, model_cost
from ressformer.count import counted_flops
from ressformer.decoder import Decoder, ModelConfig
from ressformer.models.bigbird import BigBirdConfig
from ressformer.models.gated_deltanet import GatedDeltaNetConfig
from ressformer.models.longformer import LongformerConfig
from ressformer.models.looped import LoopedConfig
from ressformer.models.mamba2 import Mamba2Config
from ressformer.models.moeut import MoEUTConfig
from ressformer.models.reformer import ReformerConfig
from ressformer.models.ressformer import ReSSFormerConfig
from ressformer.models.transformer import TransformerConfig

shapes = st.builds(
    Shape, batch=st.integers(1, 3), length=st.integers(24, 70), vocab=st.integers(5, 80), causal=st.booleans()
)
any_length = st.builds(
    Shape, batch=st.integers(1, 2), length=st.integers(1, 200), vocab=st.integers(5, 80), causal=st.booleans()
)
norms, feeds = st.sampled_from(["layer", "rms"]), st.sampled_from(["gelu", "swiglu"])
widths = st.sampled_from([(16, 2), (32, 4), (48, 4)])


@st.composite
def transformers(draw: st.DrawFn) -> ModelConfig:
    d, heads = draw(widths)
    modern = {"norm": draw(norms), "feed_forward": draw(feeds), "qk_norm": draw(st.booleans())}
    return TransformerConfig(
        d_model=d,
        n_heads=heads,
        n_layers=draw(st.integers(1, 3)),
        d_ff=draw(st.integers(1, 20)) * 8,
        positions=draw(st.sampled_from(["learned", "rotary", "none"])),
        short_conv=draw(st.sampled_from([0, 3])),
        tie_embeddings=draw(st.booleans()),
        **modern,
    )


@st.composite
def sparse_stacks(draw: st.DrawFn) -> ModelConfig:
    d, heads = draw(widths)
    common = {"d_model": d, "n_heads": heads, "n_layers": draw(st.integers(1, 2)), "d_ff": 8 * draw(st.integers(1, 9))}
    common |= {"norm": draw(norms), "feed_forward": draw(feeds), "qk_norm": draw(st.booleans())}
    small = st.integers(1, 9)
    match draw(st.sampled_from(["looped", "longformer", "bigbird", "reformer"])):
        case "looped":
            return LoopedConfig(**common)
        case "longformer":
            dials = {"window": draw(small), "dilation": draw(st.integers(1, 3)), "n_global": draw(st.integers(0, 3))}
            return LongformerConfig(**common, **dials)
        case "bigbird":
            return BigBirdConfig(**common, block=draw(small), random_blocks=draw(st.integers(0, 2)))
        case _:
            dials = {
                "chunk": draw(small),
                "rounds": draw(st.integers(1, 3)),
                "short_conv": draw(st.sampled_from([0, 3])),
                "positions": draw(st.sampled_from(["learned", "rotary", "none"])),
            }
            return ReformerConfig(**common, **dials, reversible=draw(st.booleans()))


@st.composite
def recurrent(draw: st.DrawFn) -> ModelConfig:
    d, heads = draw(widths)
    common = {"d_model": d, "n_heads": heads, "n_layers": draw(st.integers(1, 2)), "d_ff": 8 * draw(st.integers(1, 9))}
    common |= {"norm": draw(norms), "feed_forward": draw(feeds), "short_conv": draw(st.sampled_from([0, 3]))}
    common |= {
        "expand": draw(st.integers(1, 3)),
        "conv": draw(st.integers(1, 4)),
        "chunk": draw(st.sampled_from([7, 16, 40])),
    }
    if draw(st.booleans()):
        return GatedDeltaNetConfig(**common)
    return Mamba2Config(**common, d_state=draw(st.integers(1, 20)))


@st.composite
def looped_experts(draw: st.DrawFn) -> ModelConfig:
    d, heads = draw(widths)
    experts, group = draw(st.integers(2, 6)), draw(st.integers(1, 3))
    return MoEUTConfig(
        d_model=d,
        n_heads=heads,
        group=group,
        n_layers=group + draw(st.integers(0, 4)),
        n_experts=experts,
        top_e=draw(st.integers(1, experts)),
        d_expert=8 * draw(st.integers(1, 8)),
        short_conv=draw(st.sampled_from([0, 3])),
        norm=draw(norms),
    )


@st.composite
def ressformers(draw: st.DrawFn) -> ModelConfig:
    d, heads = draw(widths)
    experts = draw(st.integers(1, 5))
    shared, selection = draw(st.booleans()), draw(st.sampled_from(["token", "block", "all"]))
    cache = draw(st.sampled_from([0, 1, 5]))
    return ReSSFormerConfig(
        d_model=d,
        n_heads=heads,
        steps=draw(st.integers(1, 4)),
        activation=draw(st.sampled_from(["softmax", "sparsemax", "entmax15"])),
        shared=shared,
        selection=selection,
        top_k=draw(st.sampled_from([1, 4, 16, 100])),
        top_k_per_head=selection == "token" and draw(st.booleans()),
        block=draw(st.sampled_from([1, 8, 64])),
        blocks=draw(st.integers(1, 4)),
        cache=cache,
        cache_step=draw(st.sampled_from(["current", "previous"])) if shared and cache > 1 else "current",
        memory_slots=draw(st.sampled_from([0, 3])),
        memory_segment=draw(st.sampled_from([7, 16])),
        memory_pool=draw(st.sampled_from(["attention", "topk"])),
        graph=draw(st.sampled_from(["edges", "attention", "none"])),
        ffn=draw(st.sampled_from(["experts", "dense"])),
        n_experts=experts,
        top_e=draw(st.integers(1, experts)),
        d_expert=8 * draw(st.integers(1, 8)),
        step_embedding=draw(st.booleans()),
        short_conv=draw(st.sampled_from([0, 3])),
        tie_embeddings=draw(st.booleans()),
    )


def check(config: ModelConfig, shape: Shape, *, within: float = 1e-9) -> None:
    cost = model_cost(config, shape)
    live = Decoder(config, vocab_size=shape.vocab, length=shape.length, causal=shape.causal)
    assert (cost.params_total, cost.params_non_embedding) == live.parameter_counts()
    forward, train = counted_flops(config, shape)
    assert abs(cost.flops_forward_executed / forward - 1) <= within
    assert abs(cost.flops_train_executed / train - 1) <= within
    assert cost.flops_forward <= cost.flops_forward_executed
    assert cost.params_active <= cost.params_non_embedding


@settings(max_examples=25, deadline=None)
@given(transformers(), shapes)
def test_transformer_closed_form_equals_counted(config: ModelConfig, shape: Shape) -> None:
    check(config, shape)


@settings(max_examples=40, deadline=None)
@given(ressformers(), shapes)
def test_ressformer_closed_form_equals_counted(config: ModelConfig, shape: Shape) -> None:
    check(config, shape, within=0.005)


@settings(max_examples=40, deadline=None)
@given(sparse_stacks(), any_length)
def test_sparse_stacks_closed_form_equals_counted(config: ModelConfig, shape: Shape) -> None:
    check(config, shape)


@settings(max_examples=30, deadline=None)
@given(st.one_of(recurrent(), looped_experts()), st.one_of(shapes, any_length))
def test_recurrences_and_loops_with_experts_closed_form_equals_counted(config: ModelConfig, shape: Shape) -> None:
    check(config, shape)


def test_by_hand_one_transformer_layer() -> None:
    # d = 4, f = 8, n = 3, V = 5, causal, forward: qkv 2*3*4*12 + scores and values 4*4*6 pairs + out 2*3*4*4
    # + up and down 2*2*3*4*8 + head 2*3*4*5.
    config = TransformerConfig(d_model=4, n_heads=1, n_layers=1, d_ff=8, positions="none")
    cost = model_cost(config, Shape(batch=1, length=3, vocab=5))
    assert cost.flops_forward == 288 + 96 + 96 + 384 + 120
    assert cost.flops_train == 3 * cost.flops_forward
    assert cost.params_non_embedding == 4 * 12 + 16 + 64 + 3 * 4


def test_a_loop_costs_k_times_its_body_and_its_weights_once() -> None:
    shape = Shape(batch=1, length=40, vocab=11)
    variant = {"d_model": 32, "memory_slots": 0, "structure": 0.0}
    costs = [model_cost(ReSSFormerConfig(steps=k, **variant), shape) for k in (1, 2, 4)]
    body = costs[1].flops_forward - costs[0].flops_forward
    assert body > 0
    assert costs[2].flops_forward - costs[0].flops_forward == 3 * body
    assert len({c.params_total for c in costs}) == 1


def test_tree_rows_add_up() -> None:
    cost = model_cost(ReSSFormerConfig(), Shape(batch=1, length=64, vocab=11))
    rows = list(cost.rows())
    assert rows[0].flops == cost.flops_forward
    assert sum(r.flops for r in rows if r.depth == 1) == rows[0].flops
    assert sum(r.params for r in rows if r.depth == 1) == rows[0].params
    assert next(r for r in rows if r.name == "block").repeats == 4


def test_an_operator_without_formula_is_an_error_that_names_it() -> None:
    class Sly(TransformerConfig):
        def build_core(self, **kwargs):  # type: ignore[no-untyped-def]
            core = super().build_core(**kwargs)
            plain = core.forward
            core.forward = lambda x, mask: (torch.mv(x[0], x[0, 0]), plain(x, mask))[1]  # type: ignore[method-assign]
            return core

    try:
        counted_flops(Sly(d_model=16, n_heads=2, d_ff=8), Shape(batch=1, length=4, vocab=5))
    except ValueError as error:
        assert "aten.mv" in str(error)
    else:
        raise AssertionError("an uncounted operator went unnoticed")
