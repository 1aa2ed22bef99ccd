"""Lock files: what the solver makes of every preset, model and task, so that a change of it shows in a diff.

    python -m experiments budget lock       # or `make budgets`: write conf/budget/<name>.lock.yaml anew
    python -m experiments budget add        # write what they lack, a new model or task, and leave the rest as it is
    python -m experiments budget check      # name what is stale; 1 if anything is

Nothing reads sizes from a lock file: runs are solved when they are planned. An entry holds the sizes, the closed-form
and the counted cost per sequence, and the residuals; a model that cannot meet the budget has its reason instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from experiments.errors import UserError
from experiments.planning.budget import VERSION, Budget
from experiments.planning.hydra_config import CONF, composed, options
from experiments.planning.instantiate import build_model_config, build_task, model_shape
from experiments.planning.run_spec import require_order
from experiments.planning.solution import Solution, refusal
from experiments.planning.solve import solve
from experiments.store import atomic_files as atomic
from experiments.store.records import COUNTED
from ressformer.cost import Shape
from ressformer.count import counted_flops
from ressformer.decoder import ModelConfig
from tasks.base import Task

FOLDER = CONF / "budget"
SIZES = ("d_model", "n_heads")
DATA_SETS = "tasks.hub"


def presets() -> list[str]:
    """The budgets that are solved, smallest first."""
    found = {path.stem: yaml.safe_load(path.read_text()) for path in FOLDER.glob("*.yaml")}
    sized = {name: values["params"] for name, values in found.items() if values.get("params")}
    return sorted(sized, key=lambda name: sized[name])


def budget_of(name: str, *overrides: str) -> Budget:
    """A preset by name (inside `composer`)."""
    section = composed([f"budget={name}", *overrides]).budget
    return Budget.from_dict({str(key): value for key, value in section.items()})


def models() -> dict[str, ModelConfig]:
    """Every model of conf/model (inside `composer`)."""
    sections = {name: composed([f"model={name}"]).model for name in options("model")}
    return {name: build_model_config({str(k): v for k, v in section.items()}) for name, section in sections.items()}


def tasks(only: Sequence[str] = ()) -> dict[str, Task]:
    """The tasks of conf/task that need no data sets (inside `composer`), so that locks are the same everywhere."""
    found: dict[str, Task] = {}
    for name in only or options("task"):
        section = composed([f"task={name}"]).task
        task = build_task({str(key): value for key, value in section.items()})
        if not any(kind.__module__.startswith(DATA_SETS) for kind in type(task).__mro__):
            found[name] = task
    return found


@lru_cache(maxsize=1024)
def _counted(config: ModelConfig, shape: Shape) -> tuple[float, float]:
    return counted_flops(config, shape)


def sizes_of(solution: Solution) -> dict[str, int]:
    """The dials of a solution that say how large it is."""
    config = solution.config
    depth = (config.depth_field,) if config.depth_field else ()
    return {key: int(getattr(config, key)) for key in dict.fromkeys((*SIZES, *depth, *solution.moved))}


def entry_of(model: ModelConfig, task: Task, budget: Budget, reference: ModelConfig, *, count: bool) -> dict[str, Any]:
    """What the lock file says of one model on one task."""
    shape = model_shape(task)
    try:
        require_order(model, task)
    except UserError as error:
        return {"refused": str(error)}
    solution = solve(model, budget, shape, reference, strict=False)
    cost = solution.cost
    found: dict[str, Any] = {
        "met": solution.met,
        "sizes": sizes_of(solution),
        "steps": solution.steps,
        "params": solution.params,
        "params_total": cost.params_total,
        "flops_forward": cost.flops_forward,
        "flops_forward_executed": cost.flops_forward_executed,
        "flops_train": cost.flops_train,
        "flops_train_executed": cost.flops_train_executed,
        "residual": {key: round(value, 5) + 0.0 for key, value in solution.residual.items()},
    }
    if not solution.met:
        found["why"] = refusal(solution, budget, shape, frozenset())
    if count:
        found |= dict(zip(COUNTED, _counted(solution.config, shape), strict=True))
    return found


def lock_of(name: str, *, count: bool = True, only: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a preset's lock file (inside `composer`); `only` names the tasks, all by default."""
    budget = budget_of(name)
    found_models, chosen = models(), tasks(only)
    reference = found_models[budget.reference]
    return {
        "solver": VERSION,
        "budget": dataclasses.asdict(budget),
        "shapes": {key: _shape(task) for key, task in chosen.items()},
        "models": {
            key: {t: entry_of(model, task, budget, reference, count=count) for t, task in chosen.items()}
            for key, model in found_models.items()
        },
    }


def _shape(task: Task) -> dict[str, Any]:
    return dataclasses.asdict(model_shape(task))


def path_of(name: str) -> Path:
    """The lock file of a preset."""
    return FOLDER / f"{name}.lock.yaml"


def write(name: str, content: dict[str, Any]) -> Path:
    """Write a preset's lock file."""
    head = "# Written by `python -m experiments budget lock`; do not edit.\n"
    text = yaml.safe_dump(content, sort_keys=False, width=120, default_flow_style=None)
    atomic.write_text(path_of(name), head + text)
    return path_of(name)


def completed(name: str) -> dict[str, Any]:
    """The content of a preset's lock file with the models and tasks that it lacks (inside `composer`).

    Raises:
        UserError: there is no file, or it was made for another solver or budget.
    """
    known = yaml.safe_load(path_of(name).read_text()) if path_of(name).exists() else {}
    budget = budget_of(name)
    if (known.get("solver"), known.get("budget")) != (VERSION, dataclasses.asdict(budget)):
        raise UserError(f"{path_of(name).name} is not of this solver and budget: make budgets writes it anew")
    found, chosen = models(), tasks()
    reference = found[budget.reference]

    def entry(key: str, task: str) -> dict[str, Any]:
        old: dict[str, Any] | None = known["models"].get(key, {}).get(task)
        return old or entry_of(found[key], chosen[task], budget, reference, count=True)

    entries = {key: {task: entry(key, task) for task in chosen} for key in found}
    return {**known, "shapes": {key: _shape(task) for key, task in chosen.items()}, "models": entries}


def stale(name: str, *, count: bool = True, only: Sequence[str] = ()) -> Iterator[str]:
    """What the lock file of a preset says that is no longer so, a line each.

    Args:
        name: the preset.
        count: count FLOPs on the meta device again, too (half a second a model and task).
        only: tasks to look at; then models and tasks that the file lacks are passed over.
    """
    if not path_of(name).exists():
        yield f"{name}: there is no lock file"
        return
    known, now = yaml.safe_load(path_of(name).read_text()), lock_of(name, count=count, only=only)
    for key in ("solver", "budget"):
        if known.get(key) != now[key]:
            yield f"{name}: {key} is not what it was"
    for model, by_task in now["models"].items():
        for task, entry in by_task.items():
            old = known.get("models", {}).get(model, {}).get(task)
            if old is None:
                if not only:
                    yield f"{name}: {model} on {task} is missing"
                continue
            old = {key: value for key, value in old.items() if count or key not in COUNTED}
            if not _same(old, entry):
                differing = [key for key in {*old, *entry} if not _same(old.get(key), entry.get(key))]
                yield f"{name}: {model} on {task}: {', '.join(sorted(differing))}"


def _same(a: Any, b: Any) -> bool:
    """Equal, numbers to within rounding."""
    if isinstance(a, dict) and isinstance(b, dict):
        return set(a) == set(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return abs(a - b) <= 1e-9 * max(abs(a), abs(b)) + 1e-9
    return bool(a == b)
