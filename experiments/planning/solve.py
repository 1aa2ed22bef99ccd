"""Sizes a model for a budget: the integers that meet it, or the limit that forbids it.

A budget says what is matched (its regime) against numbers or against a reference model; `solve` moves the dials that
a family lists (`ModelConfig.dials`) until the targets are met, the ordinary shape before the odd one. What a user
gives (`pinned`) never moves. The search is deterministic, and its figures come from the same closed forms that the
table prints.

| regime | met | steps |
|---|---|---|
| params | non-embedding parameters | those of the reference |
| flops_per_token | training FLOPs per token | those of the reference |
| train_flops | parameters, and the training FLOPs of the whole run; FLOPs per token are come near to | each its own |
| effective_depth | block applications, loops counted, and training FLOPs per token | those of the reference |
| matched | parameters and training FLOPs per token | those of the reference |
| off | nothing: sizes as they are given, marked | each its own |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

from experiments.errors import UserError
from experiments.planning.budget import Budget, at_depth, started
from experiments.planning.integer_search import Found, Goal, Question, search
from experiments.planning.solution import Solution, refusal
from ressformer.cost import Cost, Shape, model_cost
from ressformer.decoder import ModelConfig
from ressformer.dials import LAST, ROUTED


def solve(
    config: ModelConfig,
    budget: Budget,
    shape: Shape,
    reference: ModelConfig | None = None,
    *,
    pinned: frozenset[str] = frozenset(),
    strict: bool = True,
) -> Solution:
    """Size `config`'s family for `budget` on sequences of `shape`.

    Args:
        config: the family; its `dials()` are what the solver moves.
        budget: the target.
        shape: batch, length and vocabulary of one training step.
        reference: the model whose FLOPs per token and depth are targets, where the budget gives none.
        pinned: fields that stay as they are in `config`.
        strict: raise where the budget cannot be met; otherwise the nearest solution comes back with `met` False.

    Raises:
        UserError: no size meets the budget; the message names the nearest one, its residuals, the limits that bind
            and what would do. Or a target that the regime needs is not to be had.
    """
    if budget.regime != "off" and not config.dials():
        raise UserError(
            f"budget {budget.name}: model {config.family} has fixed sizes, which no budget moves; budget=off trains it "
            "as it is, and its row is marked"
        )
    if config.counted:  # what is wrong with the module is said here, not taken for a size that does not fit
        require_counted(config, shape)
    solution = _solve(config, budget, shape, reference, pinned)
    if strict and not solution.met and budget.regime != "off":
        raise UserError(refusal(solution, budget, shape, pinned))
    return solution


def require_counted(config: ModelConfig, shape: Shape) -> None:
    """Raise UserError, in one line, if a model without closed form cannot be counted at the shape."""
    try:
        model_cost(config, shape)
    except ValueError as error:
        raise UserError(str(error)) from None


@lru_cache(maxsize=4096)
def _solve(
    config: ModelConfig, budget: Budget, shape: Shape, reference: ModelConfig | None, pinned: frozenset[str]
) -> Solution:
    start = config if budget.regime == "off" else started(config, budget, pinned)
    target = targets(budget, shape, reference, needed=budget.regime != "off")
    wanted = {"params": budget.tolerance_params, "flops_per_token": budget.tolerance_flops_per_token}
    required = {
        "params": ["params"],
        "flops_per_token": ["flops_per_token"],
        "train_flops": ["params"],
        "effective_depth": ["flops_per_token"],
        "matched": ["params", "flops_per_token"],
        "off": [],
    }[budget.regime]
    if budget.regime == "effective_depth":
        start, pinned = at_depth(start, int(target["depth"]), budget, pinned), pinned | {start.depth_field}
    goals = {key: Goal(target[key], wanted[key]) for key in required}
    if not goals:
        return _solution(start, None, budget, shape, target, {})
    near = {key: target[key] for key in wanted if key in target and key not in goals}
    found = _sized(start, budget, shape, goals, near, pinned)
    tolerance = {key: goal.tolerance for key, goal in goals.items()}
    if budget.regime == "effective_depth":
        tolerance["depth"] = 0.0
    if budget.regime == "train_flops":
        tolerance["train_flops"] = budget.tolerance_flops
        found = _whole_steps(found, budget, shape, goals, pinned)
    return _solution(found.model, found, budget, shape, target, tolerance)


def _whole_steps(
    found: Found[ModelConfig],
    budget: Budget,
    shape: Shape,
    goals: Mapping[str, Goal],
    pinned: frozenset[str],
) -> Found[ModelConfig]:
    """`found`, or a size beside it whose training FLOPs come to a whole number of steps where `found`'s do not."""
    exact = budget.train_flops / (found.figures["flops_per_token"] * shape.length * shape.batch)
    near = sorted({max(1, math.floor(exact)), math.ceil(exact)}, key=lambda steps: abs(steps / exact - 1))
    if not found.met or abs(near[0] / exact - 1) <= budget.tolerance_flops:
        return found
    for steps in near:
        per_token = budget.train_flops / (steps * shape.length * shape.batch)
        both = {**goals, "flops_per_token": Goal(per_token, budget.tolerance_flops)}
        other = _sized(found.model, budget, shape, both, {}, pinned, ranks=ROUTED)
        if other.met:
            return other
    return found


def _sized(
    start: ModelConfig,
    budget: Budget,
    shape: Shape,
    goals: Mapping[str, Goal],
    near: Mapping[str, float],
    pinned: frozenset[str],
    ranks: int = LAST,
) -> Found[ModelConfig]:
    heads = {"n_heads": start.n_heads} if "n_heads" in pinned else {}

    def measure(config: ModelConfig) -> dict[str, float]:
        cost = model_cost(config, shape)
        per_token = budget.train_flops_of(cost) / shape.length
        return {"params": float(cost.params_non_embedding), "flops_per_token": per_token}

    question = Question(
        turn=lambda config, values: config.turned({**values, **(heads if "d_model" in values else {})}),
        dials=lambda config: config.dials(),
        measure=measure,
        goals=goals,
        near=near,
        pinned=pinned,
    )
    return search(question, start, ranks)


@lru_cache(maxsize=1024)
def _reference(reference: ModelConfig, budget: Budget, shape: Shape) -> Cost:
    start = started(reference, budget)
    goals = {"params": Goal(budget.params, budget.tolerance_params)}
    return model_cost(_sized(start, budget, shape, goals, {}, frozenset()).model, shape)


def targets(budget: Budget, shape: Shape, reference: ModelConfig | None, *, needed: bool = True) -> dict[str, float]:
    """The numbers to match, those of the reference where the budget has none.

    Raises:
        UserError: the regime needs a number that neither budget nor reference gives.
    """
    target = {"params": float(budget.params)} if budget.params else {}
    target["train_flops"] = budget.train_flops
    if budget.flops_per_token:
        target["flops_per_token"] = budget.flops_per_token
    elif reference is not None and budget.params:
        target["flops_per_token"] = budget.train_flops_of(_reference(reference, budget, shape)) / shape.length
    if budget.regime == "effective_depth":
        depth = budget.depth or (started(reference, budget).depth if reference is not None else 0)
        if not depth:
            raise UserError(f"budget {budget.name}: effective_depth needs budget.depth or a reference that has layers")
        target["depth"] = float(depth)
    if needed and budget.regime != "train_flops" and "flops_per_token" not in target:
        raise UserError(f"budget {budget.name}: regime {budget.regime} needs budget.flops_per_token or a reference")
    return target


def _solution(
    config: ModelConfig,
    found: Found[ModelConfig] | None,
    budget: Budget,
    shape: Shape,
    target: dict[str, float],
    tolerance: dict[str, float],
) -> Solution:
    cost = model_cost(config, shape)
    per_sequence = budget.train_flops_of(cost)
    own_steps = budget.regime in ("train_flops", "off") or "flops_per_token" not in target
    step_flops = per_sequence if own_steps else target["flops_per_token"] * shape.length
    steps = max(1, round(budget.train_flops / (step_flops * shape.batch)))
    actual = {
        "params": float(cost.params_non_embedding),
        "flops_per_token": per_sequence / shape.length,
        "train_flops": steps * per_sequence * shape.batch,
        "depth": float(config.depth),
    }
    residual = {key: actual[key] / value - 1 for key, value in target.items()}
    met = bool(tolerance) and all(abs(residual[key]) <= limit * (1 + 1e-9) for key, limit in tolerance.items())
    return Solution(
        config=config,
        cost=cost,
        steps=steps,
        params=cost.params_non_embedding,
        flops_per_token=actual["flops_per_token"],
        train_flops=actual["train_flops"],
        target=target,
        residual=residual,
        tolerance=tolerance,
        met=met,
        moved=dict(found.values) if found else {},
        binding=_binding(found),
    )


def _binding(found: Found[ModelConfig] | None) -> str:
    if found is None:
        return ""
    if not found.met:
        ranges = ", ".join(dial.words() for dial in found.dials) or "no dial is free"
        return "; ".join([*found.at_limit, f"free were {ranges}" if found.dials else ranges])
    fill = next((dial for dial in found.dials if dial.fills), None)
    step = f"{fill.name} moves in steps of {fill.values[1] - fill.values[0]}; " if fill else ""
    return f"{step}steps are whole"
