"""What a user gives stays, the rest is solved anew; what breaks a budget is refused unless budget=off."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.errors import UserError
from experiments.planning.plan import given_dials, make_plan, read_request
from experiments.store.records import RunSpec


def runs(models: list[Any], budget: Any = "mini", extra: tuple[str, ...] = ()) -> list[RunSpec]:
    table = {
        "name": "given",
        "models": models,
        "tasks": ["chain"],
        "seeds": [0],
        "budget": budget,
        "allow_small_test": ["chain"],
    }
    return make_plan(read_request(list(extra), table)).runs


def test_one_dial_turned_costs_the_same() -> None:
    entries = [{"label": f"K={k}", "model": "ressformer", "overrides": [f"model.steps={k}"]} for k in (2, 4, 8)]
    specs = runs(entries)
    assert [spec.sizes["steps"] for spec in specs] == [2, 4, 8]
    for spec in specs:
        assert spec.budget.on_budget and f"given: steps={spec.sizes['steps']}" in spec.budget.notes
        assert abs(spec.cost.params_non_embedding / 1e6 - 1) <= 0.01
        assert abs(spec.cost.flops_train / 3e13 - 1) <= 0.005
    assert {(spec.sizes["n_experts"], spec.sizes["top_e"]) for spec in specs} == {(13, 2)}


def test_what_breaks_the_budget_is_refused_with_the_numbers() -> None:
    wide = [{"label": "wide", "model": "transformer", "overrides": ["model.d_model=512"]}]
    with pytest.raises(UserError, match=r"1,000,000 non-embedding .* nearest is 1,0\d\d,\d\d\d .*given: d_model=512"):
        runs(wide)
    spec, plain = runs([*wide, "transformer"], budget=False, extra=("budget.train_flops=1e12",))
    assert not spec.budget.on_budget and spec.sizes["d_model"] == 512 and plain.sizes["d_ff"] == 256
    assert spec.budget.name == "off" and spec.budget.notes[-1] == "off budget: sizes as they were given"
    assert abs(spec.cost.flops_train / 1e12 - 1) < 0.05


def test_a_regime_is_an_override_like_any_other() -> None:
    vanilla, ours = runs(["transformer", "ressformer"], extra=("budget.regime=matched",))
    assert vanilla.steps == ours.steps and ours.budget.on_budget
    assert abs(ours.cost.flops_train / vanilla.cost.flops_train - 1) < 0.02


def test_given_dials_are_read_from_overrides() -> None:
    assert given_dials(["model=x", "model.a=1", "++model.b=2", "trainer.optim.lr=1", "+model.c.d=3"]) == {"a", "b", "c"}
