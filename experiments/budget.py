"""Sizes a model for a budget: the integers that meet its parameters and FLOPs, or the limit that forbids it.

A budget fixes non-embedding parameters and total training FLOPs. The first is met by the widths and experts of the
family, the second by the number of steps. Among the sizes that meet the parameters, the one whose FLOPs per token
come nearest to the reference's is taken, so that equal training FLOPs also mean nearly equal steps and data; where
two are equally near, the more ordinary one (the earlier candidate) wins. The solver enumerates: its answer is
deterministic, and its cost figures come from the same closed forms that the table prints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from experiments.errors import UserError
from ressformer.cost import Cost, Shape, model_cost
from ressformer.decoder import ModelConfig

REGIMES = ("train_flops",)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What every model of a table gets.

    Attributes:
        name: the preset's name.
        regime: what is matched; `train_flops` = non-embedding parameters and total training FLOPs.
        params: non-embedding parameters.
        train_flops: useful training FLOPs of a whole run.
        tolerance_params: largest relative residual of the parameters.
        tolerance_flops: largest relative residual of the training FLOPs.
        flops_per_token: training FLOPs per token to come near to; 0 = those of the reference model.
        reference: the model (a name of conf/model) whose FLOPs per token others come near to.
    """

    name: str
    regime: str = "train_flops"
    params: int
    train_flops: float
    tolerance_params: float = 0.02
    tolerance_flops: float = 0.01
    flops_per_token: float = 0.0
    reference: str = "transformer"

    def __post_init__(self) -> None:
        if self.regime not in REGIMES:
            raise UserError(f"budget {self.name}: unknown regime {self.regime!r}; choose from {', '.join(REGIMES)}")
        for key in ("params", "train_flops", "tolerance_params", "tolerance_flops"):
            if getattr(self, key) <= 0:
                raise UserError(f"budget {self.name}: {key} must be positive, got {getattr(self, key)}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Budget:
        """Build a budget; unknown keys are a UserError that lists the known ones."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise UserError(f"budget: unknown key {', '.join(unknown)}; known keys: {known}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A model that meets a budget.

    Attributes:
        config: the solved config.
        cost: its closed-form cost at the task's shape.
        steps: optimiser steps of a run.
        params, params_residual: non-embedding parameters, and their relative distance from the budget.
        flops_per_token: training FLOPs per token.
        flops_per_token_residual: relative distance from the reference's (reported, not required).
        train_flops, train_flops_residual: those of the whole run, and their relative distance from the budget.
        binding: what kept the residuals from 0, in words.
    """

    config: ModelConfig
    cost: Cost
    steps: int
    params: int
    params_residual: float
    flops_per_token: float
    flops_per_token_residual: float
    train_flops: float
    train_flops_residual: float
    binding: str


def solve(config: ModelConfig, budget: Budget, shape: Shape, reference: ModelConfig | None = None) -> Solution:
    """Size `config`'s family for `budget` on sequences of `shape`.

    Args:
        config: the family with its fixed dials; its `candidates()` and `fill` are what the solver moves.
        budget: the target.
        shape: batch, length and vocabulary of one training step.
        reference: the model whose FLOPs per token to come near to, where the budget does not give them.

    Raises:
        UserError: no size meets the budget; the message names the nearest one and the limit that binds.
    """
    target = budget.flops_per_token
    if not target and reference is not None:
        target = _flops_per_token(_sized(reference, budget, shape, 0.0), shape)
    best = _sized(config, budget, shape, target)
    cost = model_cost(best, shape)
    params_residual = cost.params_non_embedding / budget.params - 1
    step_flops = cost.flops_train * shape.batch
    steps = max(1, round(budget.train_flops / step_flops))
    train_flops = steps * step_flops
    residual = train_flops / budget.train_flops - 1
    if abs(params_residual) > budget.tolerance_params:
        raise UserError(
            f"budget {budget.name}: {config.family} cannot have {budget.params:,} parameters within "
            f"{budget.tolerance_params:.0%}; nearest is {cost.params_non_embedding:,} "
            f"({params_residual:+.1%}); limits: {config.limits()}; change budget.params or model.d_model"
        )
    if abs(residual) > budget.tolerance_flops:
        raise UserError(
            f"budget {budget.name}: {config.family} takes {step_flops:.3g} training FLOPs a step, so "
            f"{budget.train_flops:.3g} come to {budget.train_flops / step_flops:.2f} steps and no whole number "
            f"is within {budget.tolerance_flops:.0%}; raise budget.train_flops or lower task.batch_size"
        )
    per_token = _flops_per_token(best, shape)
    return Solution(
        config=best,
        cost=cost,
        steps=steps,
        params=cost.params_non_embedding,
        params_residual=params_residual,
        flops_per_token=per_token,
        flops_per_token_residual=per_token / target - 1 if target else 0.0,
        train_flops=train_flops,
        train_flops_residual=residual,
        binding=f"{config.fill} moves in steps of {config.fill_range.step}; steps are whole",
    )


def _flops_per_token(config: ModelConfig, shape: Shape) -> float:
    return model_cost(config, shape).flops_train / shape.length


@lru_cache(maxsize=4096)
def _sized(config: ModelConfig, budget: Budget, shape: Shape, target: float) -> ModelConfig:
    """The candidate within tolerance that is nearest in FLOPs per token; without one, the nearest in parameters."""
    within: list[tuple[float, float, int, ModelConfig]] = []
    nearest: list[tuple[float, float, int, ModelConfig]] = []
    for order, sized in enumerate(_filled(config, budget, shape)):
        cost = model_cost(sized, shape)
        off = abs(cost.params_non_embedding / budget.params - 1)
        nearest.append((off, 0.0, order, sized))
        if off <= budget.tolerance_params:
            # Residuals compare in steps of 0.5 %: below that the more ordinary shape is preferred.
            gap = abs(cost.flops_train / shape.length / target - 1) if target else 0.0
            within.append((round(gap / 0.005), round(off / 0.005), order, sized))
    return min(within or nearest, key=lambda entry: entry[:3])[3]


def _filled(config: ModelConfig, budget: Budget, shape: Shape) -> Iterator[ModelConfig]:
    """Each candidate at the one or two widths that come nearest to the parameters: they are affine in the width."""
    for candidate in config.candidates():
        span = candidate.fill_range
        low, high = (_with_fill(candidate, span[i]) for i in (0, -1))
        at_low, at_high = (model_cost(c, shape).params_non_embedding for c in (low, high))
        slope = (at_high - at_low) / max(1, len(span) - 1)
        exact = (budget.params - at_low) / slope if slope else 0.0
        for index in sorted({min(max(int(exact) + up, 0), len(span) - 1) for up in (0, 1)}):
            yield _with_fill(candidate, span[index])


def _with_fill(config: ModelConfig, value: int) -> ModelConfig:
    dial: dict[str, Any] = {config.fill: value}
    return replace(config, **dial)
