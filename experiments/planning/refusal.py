"""Why a budget cannot be met, in one line: how near it got, which limit binds, what would be honest instead."""

from __future__ import annotations

from experiments.planning.solve import PAIRS, Budget, Solution
from experiments.reporting.header import WORDS
from ressformer.cost import Shape

# What a regime's neighbour asks for instead, when one of two targets cannot be met.
HONEST = {
    "matched": "params or train_flops",
    "effective_depth": "flops_per_token",
    "flops_per_token": "train_flops",
    "params": "flops_per_token",
    "train_flops": "flops_per_token",
}


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
