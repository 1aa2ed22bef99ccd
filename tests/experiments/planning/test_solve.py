"""The solver: what it promises is true of the live module, and what it cannot do it explains."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.errors import UserError
from experiments.planning.budget import Budget
from experiments.planning.integer_search import Goal, Question, search
from experiments.planning.run_spec import budget_info, require_order
from experiments.planning.solve import solve
from ressformer.cost import Shape, model_cost
from ressformer.decoder import Decoder, ModelConfig
from ressformer.dials import Dial
from ressformer.models.bigbird import BigBirdConfig
from ressformer.models.longformer import LongformerConfig
from ressformer.models.looped import LoopedConfig
from ressformer.models.reformer import ReformerConfig
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
    assert abs(solved.params / 200_000 - 1) <= 0.01
    assert solved.params_residual == pytest.approx(solved.params / 200_000 - 1)
    step = model_cost(solved.config, shape).flops_train * 8
    assert solved.train_flops == pytest.approx(solved.steps * step)
    assert abs(solved.train_flops / 6e11 - 1) <= 0.005


def test_experts_stay_and_flops_per_token_come_near() -> None:
    given = ReSSFormerConfig(n_experts=13, top_e=2)
    for length, vocab in ((48, 20), (64, 21), (256, 257)):
        shape = Shape(batch=16, length=length, vocab=vocab)
        reference = solve(TransformerConfig(), TINY, shape)
        for config in (given, replace(given, steps=2), replace(given, cache_lean=0.0), replace(given, top_k=8)):
            found = solve(config, TINY, shape, TransformerConfig())
            assert isinstance(found.config, ReSSFormerConfig)
            assert (found.config.n_experts, found.config.top_e) == (13, 2)
            if config.steps == given.steps:
                assert abs(found.flops_per_token / reference.flops_per_token - 1) < 0.25


def test_only_the_dials_move() -> None:
    solved = solve(ReSSFormerConfig(top_k=5), TINY, Shape(batch=8, length=64, vocab=40), TransformerConfig()).config
    assert isinstance(solved, ReSSFormerConfig)
    dials = {"n_experts": 4, "top_e": 1, "d_expert": 256, "edge_rank": 16}
    assert replace(solved, **dials) == replace(ReSSFormerConfig(top_k=5), **dials)


def test_turning_one_dial_resolves_the_rest() -> None:
    shape = Shape(batch=8, length=64, vocab=40)
    four, eight = (solve(ReSSFormerConfig(n_experts=k), TINY, shape, TransformerConfig()) for k in (4, 8))
    assert eight.config != replace(four.config, n_experts=8)  # type: ignore[call-arg]
    assert abs(eight.params_residual) <= 0.01 and abs(eight.train_flops_residual) <= 0.005


def test_the_same_question_has_the_same_answer() -> None:
    shape = Shape(batch=8, length=64, vocab=40)
    assert solve(ReSSFormerConfig(), TINY, shape) == solve(ReSSFormerConfig(), TINY, shape)


WIDE = frozenset({"d_model"})


@pytest.mark.parametrize(
    ("config", "budget", "words"),
    [
        (
            TransformerConfig(d_model=256),
            TINY,
            ["transformer", "200,000", "nearest is", "d_ff is at its lowest", "given: d_model=256", "budget=off"],
        ),
        (ReSSFormerConfig(d_model=512), TINY, ["ressformer", "nearest is", "n_experts 2..64"]),
        (
            TransformerConfig(d_model=64),
            replace(TINY, train_flops=1e9),
            ["training FLOPs a step", "raise budget.train_flops"],
        ),
        (
            LoopedConfig(d_model=64),
            replace(TINY, regime="matched"),
            ["n_layers is at its lowest, 2", "honest instead: budget.regime=params or train_flops"],
        ),
    ],
)
def test_a_budget_that_cannot_be_met_names_the_limit(config: ModelConfig, budget: Budget, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        solve(config, budget, Shape(batch=8, length=64, vocab=40), TransformerConfig(), pinned=WIDE)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_vanilla_transformer_cannot_match_once_attention_dominates() -> None:
    """Dense attention over 8,192 tokens costs more than the whole of a sparse model of the same weights."""
    shape = Shape(batch=1, length=8192, vocab=64)
    sparse = model_cost(LongformerConfig(d_ff=264), shape)
    numbers = {"params": sparse.params_non_embedding, "flops_per_token": sparse.flops_train / shape.length}
    budget = Budget(name="sparse", regime="matched", train_flops=1e12, width=64, heads=4, layers=4, **numbers)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"attention over pairs is \d\d% .* honest instead: budget.regime=params or"):
        solve(TransformerConfig(), budget, shape)
    assert solve(TransformerConfig(), replace(budget, regime="params"), shape).met


REGIMES_MET = {
    "params": ["params"],
    "flops_per_token": ["flops_per_token"],
    "train_flops": ["params", "train_flops"],
    "effective_depth": ["depth", "flops_per_token"],
    "matched": ["params", "flops_per_token"],
}


@pytest.mark.parametrize("regime", REGIMES_MET)
@pytest.mark.parametrize("count", ["useful", "executed"])
def test_every_regime_meets_what_it_promises(regime: str, count: str) -> None:
    shape = Shape(batch=8, length=256, vocab=40)
    budget = replace(TINY, regime=regime, count=count, width=64, heads=4, layers=4)
    solved = solve(ReSSFormerConfig(), budget, shape, TransformerConfig())
    assert list(solved.tolerance) == REGIMES_MET[regime] or sorted(solved.tolerance) == sorted(REGIMES_MET[regime])
    target = solve(TransformerConfig(), replace(budget, regime="params"), shape, TransformerConfig()).cost
    cost = model_cost(solved.config, shape)
    flops = (cost.flops_train, target.flops_train)
    if count == "executed":
        flops = (cost.flops_train_executed, target.flops_train_executed)
    if "flops_per_token" in REGIMES_MET[regime]:
        assert abs(flops[0] / flops[1] - 1) <= 0.01
    if "params" in REGIMES_MET[regime]:
        assert abs(cost.params_non_embedding / 200_000 - 1) <= 0.01
    if regime == "effective_depth":
        assert solved.config.depth == 4
    if regime != "train_flops":
        assert solved.steps == round(6e11 / (flops[1] * 8))


def test_effective_depth_sets_loop_and_stack_side_by_side() -> None:
    """k layers looped against k * L layers: the same depth and FLOPs, and a quarter of the layers' weights."""
    shape = Shape(batch=8, length=64, vocab=40)
    budget = replace(TINY, regime="effective_depth", depth=8)
    loop, stack = (solve(c, budget, shape, TransformerConfig()) for c in (LoopedConfig(), TransformerConfig()))
    assert loop.config.depth == stack.config.depth == 8
    assert abs(loop.flops_per_token / stack.flops_per_token - 1) < 0.02
    assert 7 < stack.params / loop.params < 9


def test_what_the_user_gives_stays() -> None:
    shape = Shape(batch=8, length=64, vocab=40)
    for kept in ({"steps": 8}, {"n_experts": 16}, {"d_expert": 128}, {"d_model": 96}, {"n_heads": 2}):
        config = ReSSFormerConfig(**kept)
        solved = solve(config, replace(TINY, width=64, heads=4), shape, TransformerConfig(), pinned=frozenset(kept))
        assert solved.met and {key: getattr(solved.config, key) for key in kept} == kept


def test_off_leaves_everything_alone_and_says_so() -> None:
    shape, config = Shape(batch=8, length=64, vocab=40), ReSSFormerConfig(d_model=96, d_expert=40)
    solved = solve(config, Budget(name="off", regime="off", train_flops=1e11), shape, TransformerConfig())
    info = budget_info(Budget(name="off", regime="off", train_flops=1e11), solved, frozenset({"d_expert"}))
    assert solved.config == config and not solved.met and not info.on_budget
    assert info.notes == ["given: d_expert=40", "off budget: sizes as they were given"]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([TransformerConfig(), ReSSFormerConfig(), LongformerConfig(), BigBirdConfig(), ReformerConfig()]),
    st.sampled_from(["params", "train_flops", "flops_per_token"]),
    st.integers(150_000, 30_000_000),
    st.integers(32, 1500),
)
def test_what_is_met_is_met_by_the_model_itself(config: ModelConfig, regime: str, params: int, length: int) -> None:
    shape = Shape(batch=4, length=length, vocab=100)
    budget = Budget(name="any", regime=regime, params=params, train_flops=1e5 * params * length)
    solved = solve(config, budget, shape, TransformerConfig(), strict=False)
    cost = model_cost(solved.config, shape)
    assert solved.residual["params"] == pytest.approx(cost.params_non_embedding / params - 1)
    assert solved.config.d_model % solved.config.n_heads == 0
    if solved.met and regime != "flops_per_token":
        assert abs(cost.params_non_embedding / params - 1) <= 0.01 * (1 + 1e-6)


def test_a_dial_that_is_not_affine_is_found_out() -> None:
    class Sly(TransformerConfig):
        def dials(self) -> tuple[Dial, ...]:
            return (replace(super().dials()[-1], affine=True, fills=True, rank=0, values=range(64, 257, 16)),)

    with pytest.raises(ValueError, match="not affine"):
        solve(Sly(), replace(TINY, params=300_000), Shape(batch=8, length=64, vocab=40))


def test_the_search_knows_no_model() -> None:
    """A notebook's use: 12 L d^2 weights, no config class anywhere."""
    question = Question(
        turn=lambda model, values: (values.get("layers", model[0]), values.get("width", model[1])),
        dials=lambda model: (
            Dial(name="layers", values=range(1, 49), affine=True, fills=True, ordinary=12),
            Dial(name="width", values=range(64, 2049, 64), rank=1, ordinary=768, smooth=64),
        ),
        measure=lambda model: {"params": 12.0 * model[0] * model[1] ** 2},
        goals={"params": Goal(350e6, 0.02)},
    )
    found = search(question, start=(12, 768))
    # Brute force: the least movement among all that are near enough.
    near = [(n, d) for n in range(1, 49) for d in range(64, 2049, 64) if abs(12 * n * d * d / 350e6 - 1) <= 0.02]
    best = min(near, key=lambda m: abs(math.log2(m[0] / 12)) + abs(math.log2(m[1] / 768)))
    assert found.met and found.model == best


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"regime": "vibes"}, "choose from params, flops_per_token, train_flops"),
        ({"params": "many"}, "budget.params must be of type int, got 'many'"),
        ({"params": 0}, "params must be positive"),
        ({"parms": 3}, "unknown key of budget 'parms' .did you mean params"),
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
