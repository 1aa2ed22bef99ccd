"""A model sized for a budget, and the line that says why a budget cannot be met."""

from __future__ import annotations

from dataclasses import dataclass, field

from experiments.planning.budget import WORDS, Budget
from ressformer.cost import Cost, Shape
from ressformer.decoder import ModelConfig

PAIRS = ("scores_values", "selection")  # Nodes of a cost tree whose FLOPs grow with the length squared.

# What a regime's neighbour asks for instead, when one of two targets cannot be met.
HONEST = {
    "matched": "params or train_flops",
    "effective_depth": "flops_per_token",
    "flops_per_token": "train_flops",
    "params": "flops_per_token",
    "train_flops": "flops_per_token",
}


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A model under a budget.

    Attributes:
        config: the solved config.
        cost: its closed-form cost at the task's shape.
        steps: optimiser steps of a run.
        params: non-embedding parameters.
        flops_per_token: training FLOPs per token.
        train_flops: those of the whole run.
        target, residual: targets by name, and (actual - target) / target.
        tolerance: of those that the regime requires.
        met: every required residual is within its tolerance (never in regime off).
        moved: the dials that the solver set.
        binding: what kept the residuals from 0, or the limits that were hit, in words.
    """

    config: ModelConfig
    cost: Cost
    steps: int
    params: int
    flops_per_token: float
    train_flops: float
    target: dict[str, float]
    residual: dict[str, float]
    tolerance: dict[str, float]
    met: bool
    moved: dict[str, int] = field(default_factory=dict)
    binding: str = ""

    @property
    def params_residual(self) -> float:
        return self.residual["params"]

    @property
    def train_flops_residual(self) -> float:
        return self.residual["train_flops"]

    @property
    def flops_per_token_residual(self) -> float:
        return self.residual.get("flops_per_token", 0.0)


def refusal(solution: Solution, budget: Budget, shape: Shape, pinned: frozenset[str]) -> str:
    """The message of the UserError; one line."""
    family = solution.config.family
    missed = [key for key, limit in solution.tolerance.items() if abs(solution.residual[key]) > limit * (1 + 1e-9)]
    if missed == ["train_flops"]:
        return _too_few_steps(solution, budget, shape)
    wanted = " and ".join(
        f"{_figure(solution.target[key])} {WORDS[key]} (within {limit:.1%})"
        for key, limit in solution.tolerance.items()
        if key != "train_flops"
    )
    nearest = ", ".join(
        f"{_figure(solution.target[key] * (1 + residual))} {WORDS[key]} ({residual:+.1%})"
        for key, residual in solution.residual.items()
        if key in solution.tolerance and key != "train_flops"
    )
    kept = ", ".join(f"{key}={getattr(solution.config, key)}" for key in sorted(pinned))
    given = f"; given: {kept}" if kept else ""
    return (
        f"budget {budget.name}: {family} cannot have {wanted} at length {shape.length}; nearest is {nearest} with "
        f"{_dials(solution)}{_pairs(solution, missed)}; limits: {solution.binding}{given}; change the budget or what "
        f"was given; honest instead: budget.regime={HONEST[budget.regime]}, or budget=off (marked in the table)"
    )


def _too_few_steps(solution: Solution, budget: Budget, shape: Shape) -> str:
    step = budget.train_flops_of(solution.cost) * shape.batch
    return (
        f"budget {budget.name}: {solution.config.family} takes {step:.3g} training FLOPs a step, so "
        f"{budget.train_flops:.3g} come to {budget.train_flops / step:.2f} steps and no whole number is within "
        f"{budget.tolerance_flops:.1%}; raise budget.train_flops, lower task.batch_size or raise budget.tolerance_flops"
    )


def _dials(solution: Solution) -> str:
    moved = ", ".join(f"{key}={value}" for key, value in solution.moved.items())
    return moved or "the sizes given"


def _pairs(solution: Solution, missed: list[str]) -> str:
    """The share of attention over pairs, where it is what makes the FLOPs too many."""
    if "flops_per_token" not in missed or solution.residual["flops_per_token"] < 0:
        return ""
    share = sum(row.flops for row in solution.cost.rows() if row.name in PAIRS) / solution.cost.flops_forward
    return f", where attention over pairs is {share:.0%} of the FLOPs and no width moves it" if share > 0.3 else ""


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value < 1e7 else f"{value:.4g}"
