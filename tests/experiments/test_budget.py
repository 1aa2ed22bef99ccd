"""The solver: what it promises is true of the live module, and what it cannot do it explains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments.budget import Budget, solve
from experiments.errors import UserError
from experiments.pricing import require_order
from ressformer.cost import Shape, model_cost
from ressformer.decoder import Decoder, ModelConfig
from ressformer.models.ressformer import ReSSFormerConfig
from ressformer.models.transformer import TransformerConfig
from tasks.qa.chain import Chain

TINY = Budget(name="tiny", params=200_000, train_flops=6e11)
FAMILIES: list[ModelConfig] = [
    TransformerConfig(),
    TransformerConfig(positions="rotary", n_layers=3),
    ReSSFormerConfig(),
    ReSSFormerConfig(n_experts=1),
    ReSSFormerConfig(steps=2, graph="none", memory_slots=0, cache=0),
]


@pytest.mark.parametrize("config", FAMILIES, ids=lambda c: c.family)
@pytest.mark.parametrize("length", [48, 256])
def test_what_is_promised_is_true_of_the_live_module(config: ModelConfig, length: int) -> None:
    shape = Shape(batch=8, length=length, vocab=40)
    solved = solve(config, TINY, shape, TransformerConfig())
    live = Decoder(solved.config, vocab_size=40, length=length).parameter_counts()[1]
    assert live == solved.params
    assert abs(solved.params / 200_000 - 1) <= 0.02
    assert solved.params_residual == pytest.approx(solved.params / 200_000 - 1)
    step = model_cost(solved.config, shape).flops_train * 8
    assert solved.train_flops == pytest.approx(solved.steps * step)
    assert abs(solved.train_flops / 6e11 - 1) <= 0.01


def test_both_models_of_the_first_table_are_doubly_matched() -> None:
    for length, vocab in ((48, 20), (64, 21), (256, 257)):
        shape = Shape(batch=16, length=length, vocab=vocab)
        reference = solve(TransformerConfig(), TINY, shape)
        looped = solve(ReSSFormerConfig(), TINY, shape, TransformerConfig())
        assert abs(looped.flops_per_token / reference.flops_per_token - 1) < 0.02
        assert abs(looped.flops_per_token_residual) < 0.02


def test_only_the_dials_move() -> None:
    solved = solve(ReSSFormerConfig(top_k=5), TINY, Shape(batch=8, length=64, vocab=40), TransformerConfig()).config
    assert isinstance(solved, ReSSFormerConfig)
    dials = {"n_experts": 4, "top_e": 1, "d_expert": 256}
    assert replace(solved, **dials) == replace(ReSSFormerConfig(top_k=5), **dials)


def test_turning_one_dial_resolves_the_rest() -> None:
    shape = Shape(batch=8, length=64, vocab=40)
    four, eight = (solve(ReSSFormerConfig(steps=k), TINY, shape, TransformerConfig()) for k in (4, 8))
    assert eight.config != replace(four.config, steps=8)  # type: ignore[call-arg]
    assert abs(eight.params_residual) <= 0.02 and abs(eight.train_flops_residual) <= 0.01


def test_the_same_question_has_the_same_answer() -> None:
    shape = Shape(batch=8, length=64, vocab=40)
    assert solve(ReSSFormerConfig(), TINY, shape) == solve(ReSSFormerConfig(), TINY, shape)


@pytest.mark.parametrize(
    ("config", "budget", "words"),
    [
        (
            TransformerConfig(d_model=256),
            TINY,
            ["transformer", "200,000", "nearest is", "limits: d_ff 8..", "d_model"],
        ),
        (ReSSFormerConfig(d_model=512), TINY, ["ressformer", "nearest is", "n_experts 2..64"]),
        (
            TransformerConfig(),
            replace(TINY, train_flops=1e9),
            ["training FLOPs a step", "raise budget.train_flops"],
        ),
    ],
)
def test_a_budget_that_cannot_be_met_names_the_limit(config: ModelConfig, budget: Budget, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        solve(config, budget, Shape(batch=8, length=64, vocab=40), TransformerConfig())
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"regime": "vibes"}, "choose from train_flops"),
        ({"params": 0}, "params must be positive"),
        ({"parms": 3}, "unknown key parms; known keys: name"),
    ],
)
def test_bad_budgets_are_refused_in_one_line(values: dict[str, object], word: str) -> None:
    with pytest.raises(UserError, match=word):
        Budget.from_dict({"name": "odd", "params": 1000, "train_flops": 1e9} | values)


def test_a_bag_of_words_is_refused_where_order_matters() -> None:
    blind, both_ways = ReSSFormerConfig(cache=0), Chain(bidirectional=True)
    with pytest.raises(UserError, match=r"ressformer sees no order .* task chain needs it: set task.bidirectional"):
        require_order(blind, both_ways)
    require_order(blind, Chain())
    require_order(ReSSFormerConfig(), both_ways)
    require_order(TransformerConfig(), both_ways)
