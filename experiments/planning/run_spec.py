"""Solves and prices one run: sizes and steps for its budget, cost, data fingerprint, identity."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache
from typing import Any

from experiments.errors import UserError
from experiments.planning.budget import Budget
from experiments.planning.hydra_config import composed, names_in, require_option
from experiments.planning.instantiate import build_model_config, build_task, model_shape, targets_of
from experiments.planning.solution import Solution
from experiments.planning.solve import solve
from experiments.planning.task_data import fingerprint, frozen_section, places_of
from experiments.planning.task_measures import measured, with_bytes_read
from experiments.store import atomic_files as atomic
from experiments.store.identity import foreign_sources, named, require_finite
from experiments.store.records import IDENTITY_VERSION, BudgetInfo, CostInfo, RunSpec, TaskInfo
from ressformer.cost import Shape, model_cost
from ressformer.decoder import ModelConfig
from tasks.base import Task


class Pricer:
    """Remembers tasks and solutions, which seeds share. To be used inside `compose.composer`."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[Task, TaskInfo, str]] = {}
        self._solved: dict[str, tuple[Solution, CostInfo]] = {}
        self._references: dict[str, ModelConfig] = {}

    def spec(self, config: dict[str, Any], *, model: str, task: str, pinned: frozenset[str] = frozenset()) -> RunSpec:
        """The frozen spec of the run that `config` describes, under the labels `model` and `task`.

        Args:
            config: the resolved run config.
            model, task: labels of the table.
            pinned: fields of the model that the user gave: the solver leaves them alone.

        Raises:
            UserError: a value that model, task or budget refuses, or a budget that cannot be met.
        """
        allow = names_in({"allow_targets": config.pop("allow_targets")}, "allow_targets")
        require_finite(config)
        built, info, data = self._task(config["task"], allow)
        budget = Budget.from_dict(config["budget"])
        solution, cost = self._solution(config, budget, built, allow, pinned)
        about, limit = budget_info(budget, solution, pinned), config["trainer"].get("max_steps")
        if limit is not None and limit < solution.steps:
            about, cost = cut_off(about, cost, limit, solution.steps)
        sizes = {"_target_": config["model"]["_target_"], **dataclasses.asdict(solution.config)}
        typed = {"task": frozen_section(config["task"], built), "budget": dataclasses.asdict(budget)}
        spec = RunSpec(
            id="",
            identity_version=IDENTITY_VERSION,
            model=model,
            task=task,
            seed=config["seed"],
            config={**config, **typed},
            sizes=sizes,
            steps=min(solution.steps, limit or solution.steps),
            task_info=with_bytes_read(info, built, min(solution.steps, limit or solution.steps)),
            budget=about,
            cost=cost,
            data_fingerprint=data,
            allow_targets=allow,
            model_version=solution.config.version,
            foreign_sources=foreign_sources(targets_of(solution.config, sizes, config["task"])),
            places=places_of(built),
        )
        return named(spec)

    def _task(self, section: dict[str, Any], allow: list[str]) -> tuple[Task, TaskInfo, str]:
        key = atomic.digest(section)
        if key not in self._tasks:
            task = build_task(section, allow)
            data = fingerprint(task)
            self._tasks[key] = (task, task_info(task), data)
        return self._tasks[key]

    def _solution(
        self, config: dict[str, Any], budget: Budget, task: Task, allow: list[str], pinned: frozenset[str]
    ) -> tuple[Solution, CostInfo]:
        shape = model_shape(task)
        key = atomic.digest([config["model"], config["budget"], dataclasses.asdict(shape), sorted(pinned)])
        if key not in self._solved:
            family = build_model_config(config["model"], allow)
            require_order(family, task)
            solution = solve(family, budget, shape, self._reference(budget, allow), pinned=pinned)
            self._solved[key] = (solution, cost_info(solution, shape))
        return self._solved[key]

    def _reference(self, budget: Budget, allow: list[str]) -> ModelConfig:
        name = budget.reference
        if name not in self._references:
            require_option("model", name)
            section = composed([f"model={name}"]).model
            self._references[name] = build_model_config({str(key): value for key, value in section.items()}, allow)
        return self._references[name]


def require_order(model: ModelConfig, task: Task) -> None:
    """Refuse a bag of words: bidirectional, without positions, cache or convolution, on a task that has an order.

    Raises:
        UserError: the model could not tell one order of the tokens from another.
    """
    if model.position_free and not task.causal and not task.order_free:
        raise UserError(
            f"model {model.family} sees no order (no positions, cache or convolution, bidirectional), and task "
            f"{task.name} needs it: set task.bidirectional=false, or model.cache or model.short_conv above 0, or "
            "model.positions"
        )


def task_info(task: Task) -> TaskInfo:
    """What the table needs of the task's card, the sizes of its splits, and its levels.

    Raises:
        UserError: the data cannot be read.
    """
    card = task.card
    sizes, levels = measured(task)
    return TaskInfo(
        name=task.name,
        version=task.version,
        metric=card.metric,
        higher_is_better=card.higher_is_better,
        unit=card.unit,
        chance={split: value for split, value in card.chance.items() if math.isfinite(value)},
        length=task.length,
        batch_size=task.batch_size,
        vocab_size=task.vocab_size,
        sizes=sizes,
        levels=levels,
    )


def budget_info(budget: Budget, solution: Solution, pinned: frozenset[str] = frozenset()) -> BudgetInfo:
    """Required targets, their tolerances, and the residuals of these and of what is only come near to."""
    given = ", ".join(f"{key}={getattr(solution.config, key)}" for key in sorted(pinned))
    notes = [f"given: {given}"] if given else []
    return BudgetInfo(
        name=budget.name,
        regime=budget.regime,
        target={key: solution.target[key] for key in solution.tolerance},
        tolerance=solution.tolerance,
        residual=solution.residual,
        binding=solution.binding,
        on_budget=solution.met,
        notes=notes if budget.regime != "off" else [*notes, "off budget: sizes as they were given"],
    )


def cut_off(about: BudgetInfo, cost: CostInfo, steps: int, whole: int) -> tuple[BudgetInfo, CostInfo]:
    """The same of a run that `trainer.max_steps` ends: off its budget, with the FLOPs of the steps that it has."""
    notes = [*about.notes, f"trainer.max_steps={steps} of {whole} steps"]
    share = cost.flops_train * steps / whole
    return about.model_copy(update={"on_budget": False, "notes": notes}), cost.model_copy(update={"flops_train": share})


def cost_info(solution: Solution, shape: Shape) -> CostInfo:
    """The solution's cost; `with_count` puts torch's count beside it where the model is built."""
    cost = solution.cost
    at_evaluation = solution.config.at_depth(solution.config.eval_depth)
    return CostInfo(
        params_total=cost.params_total,
        params_non_embedding=cost.params_non_embedding,
        params_active=cost.params_active,
        flops_forward=cost.flops_forward,
        flops_forward_executed=cost.flops_forward_executed,
        flops_per_token=cost.flops_forward / shape.length,
        flops_train=solution.train_flops,
        counted_forward=None,
        counted_train=None,
        bytes_moved=cost.bytes_total,
        basis="counted" if solution.config.counted else "closed form",
        eval_depth=solution.config.eval_depth or None,
        flops_eval=model_cost(at_evaluation, shape).flops_forward if at_evaluation else cost.flops_forward,
    )


def with_count(spec: RunSpec, task: Task) -> RunSpec:
    """The spec with torch's count of its FLOPs, which takes half a second: too long for each cell of a large plan.

    Raises:
        ValueError: an operator of the model has no FLOP formula; the message names it.
    """
    if spec.cost.counted_train is not None:
        return spec
    forward, train = _counted(build_model_config(spec.sizes, spec.allow_targets), model_shape(task))
    return spec.model_copy(
        update={"cost": spec.cost.model_copy(update={"counted_forward": forward, "counted_train": train})}
    )


@lru_cache(maxsize=256)
def _counted(config: ModelConfig, shape: Shape) -> tuple[float, float]:
    from ressformer.count import counted_flops  # torch: a plan does without it

    return counted_flops(config, shape)
