"""FLOPs, activations and state by hand: an independent count, product by product, of a vanilla and a looped model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ressformer.cost import Cost, Shape, model_cost
from ressformer.count import count, counted, counted_flops
from ressformer.decoder import ModelConfig
from ressformer.models.longformer import LongformerConfig
from ressformer.models.looped import LoopedConfig
from ressformer.models.ressformer import ReSSFormerConfig
from ressformer.models.transformer import TransformerConfig

D, F, N, V, B = 32, 80, 24, 50, 2


def by_hand(applications: int, *, causal: bool) -> tuple[int, int]:
    """(useful, executed) forward FLOPs: every product as rows x inner x columns, 2 FLOPs a multiply-accumulate."""
    projections = [(N, D, D)] * 4  # queries, keys, values, output
    feed_forward = [(N, D, F), (N, F, D)]
    layer = sum(2 * rows * inner * columns for rows, inner, columns in projections + feed_forward)
    visible = sum(query + 1 for query in range(N)) if causal else N * N
    head = 2 * N * D * V
    useful, executed = (applications * (layer + 2 * 2 * pairs * D) + head for pairs in (visible, N * N))
    return useful, executed


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("kind", [TransformerConfig, LoopedConfig])
def test_vanilla_and_looped_by_hand(kind: type[TransformerConfig], k: int, causal: bool) -> None:
    config, shape = kind(d_model=D, n_heads=4, n_layers=k, d_ff=F), Shape(batch=B, length=N, vocab=V, causal=causal)
    useful, executed = by_hand(k, causal=causal)
    cost = model_cost(config, shape)
    assert (cost.flops_forward, cost.flops_forward_executed) == (useful, executed)
    assert (cost.flops_train, cost.flops_train_executed) == (3 * useful, 3 * executed)
    assert counted_flops(config, shape) == (executed, 3 * executed)


def test_a_loop_keeps_its_weights_and_multiplies_its_flops() -> None:
    shape = Shape(batch=B, length=N, vocab=V)
    one, four = (model_cost(LoopedConfig(d_model=D, n_heads=4, n_layers=k, d_ff=F), shape) for k in (1, 4))
    assert one.params_total == four.params_total
    assert four.flops_forward - one.flops_forward == 3 * (one.flops_forward - 2 * N * D * V)


@pytest.mark.parametrize(
    ("given", "useful", "executed"),
    [
        ({}, 30.0, 30.0),
        ({"backward": 10.0}, 20.0, 20.0),  # nothing is said of waste: what is executed is what is useful
        ({"executed": 14.0}, 30.0, 42.0),
        ({"executed": 14.0, "backward": 10.0}, 20.0, 42.0),
        ({"executed": 14.0, "executed_backward": 0.0}, 30.0, 14.0),
    ],
)
def test_training_flops_of_a_node(given: dict[str, float], useful: float, executed: float) -> None:
    node = Cost(name="node", flops=10.0, **given)  # type: ignore[arg-type]
    assert (node.flops_train, node.flops_train_executed) == (useful, executed)


def test_activations_of_two_linear_layers_are_their_inputs() -> None:
    with torch.device("meta"):
        module, x = nn.Sequential(nn.Linear(8, 16, bias=False), nn.ReLU(), nn.Linear(16, 4)), torch.zeros(5, 8)
    found = count(module, x)
    assert found.forward == 2 * 5 * (8 * 16 + 16 * 4)
    assert found.train == found.forward + 2 * 5 * (8 * 16 + 2 * 16 * 4)  # x needs no gradient
    assert found.activations == 4 * 5 * (8 + 16)  # the layers' inputs; the ReLU's result is the second one


def test_activations_grow_with_batch_and_depth() -> None:
    def kept(k: int, batch: int) -> float:
        config = TransformerConfig(d_model=D, n_heads=4, n_layers=k, d_ff=F)
        return counted(config, Shape(batch=batch, length=N, vocab=V)).activations

    assert kept(4, 2) - kept(3, 2) == kept(3, 2) - kept(2, 2) > 0
    assert kept(2, 4) == pytest.approx(2 * kept(2, 2), rel=0.01)


@pytest.mark.parametrize(
    ("config", "numbers"),
    [
        (TransformerConfig(d_model=D, n_layers=3), 3 * 2 * N * D),
        (LoopedConfig(d_model=D, n_layers=3), 3 * 2 * N * D),
        (LongformerConfig(d_model=D, n_layers=3, window=5, n_global=2), 3 * 2 * 7 * D),
        (ReSSFormerConfig(d_model=D, steps=2, memory_slots=0, graph="none"), 2 * 2 * N * D),
    ],
)
def test_state_kept_while_generating(config: ModelConfig, numbers: int) -> None:
    assert config.state_size(Shape(batch=1, length=N, vocab=V)) == numbers
    assert config.state_size(Shape(batch=1, length=N, vocab=V, causal=False)) == 0


def test_what_depends_on_the_data_has_a_best_and_a_worst() -> None:
    shape = Shape(batch=1, length=N, vocab=V)
    support, load = ReSSFormerConfig(n_experts=4, top_e=1).spreads(shape)
    assert support.best < support.charged == support.worst
    assert (load.best, load.worst) == (N / 4, N)
    assert ReSSFormerConfig(activation="softmax", n_experts=1).spreads(shape)[0].best == support.worst
