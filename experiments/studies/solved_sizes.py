"""What the solver makes of every preset, model and task: one CSV, so that a change of its answers shows in a diff.

Nothing reads sizes from that file: runs are solved when they are planned. A row holds a model's sizes on a task under a
budget, its closed-form and its counted cost per sequence, and the residuals; where a budget cannot be met, the reason.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.errors import UserError
from experiments.planning.budget import Budget
from experiments.planning.hydra_config import composed, options
from experiments.planning.instantiate import build_model_config, build_task, model_shape
from experiments.planning.run_spec import require_order
from experiments.planning.search_path import TEMPLATES
from experiments.planning.solution import Solution, refusal
from experiments.planning.solve import solve
from experiments.store import atomic_files as atomic
from experiments.store.records import COUNTED
from ressformer.cost import Shape
from ressformer.count import counted_flops
from ressformer.decoder import ModelConfig
from tasks.base import Task

Cell = tuple[str, str, str]  # budget, model, task
SIZES = ("d_model", "n_heads")
DATA_SETS = "tasks.hub"
KEY = ["budget", "model", "task"]
RESIDUALS = ("params", "train_flops", "flops_per_token")
COLUMNS = [
    *KEY,
    *("sizes", "steps", "params", "params_total", "flops_forward", "flops_forward_executed", "flops_train"),
    *("flops_train_executed", *COUNTED, *(f"residual_{key}" for key in RESIDUALS), "why"),
]


def presets() -> list[str]:
    """The budgets that are solved, smallest first (inside `composer`)."""
    sized = {name: budget_of(name).params for name in options("budget")}
    return sorted((name for name in sized if sized[name]), key=lambda name: sized[name])


def budget_of(name: str, *overrides: str) -> Budget:
    """A preset by name (inside `composer`)."""
    section = composed([f"budget={name}", *overrides]).budget
    return Budget.from_dict({str(key): value for key, value in section.items()})


def models(only: Iterable[str] = ()) -> dict[str, ModelConfig]:
    """The models of conf/model, or those that are named (inside `composer`)."""
    sections = {name: composed([f"model={name}"]).model for name in only or names()}
    return {name: build_model_config({str(k): v for k, v in section.items()}) for name, section in sections.items()}


def names() -> list[str]:
    """The models of conf/model that have sizes: those that wait for a class of the user's have none."""
    return [name for name in options("model") if name not in TEMPLATES]


def tasks(only: Sequence[str] = ()) -> dict[str, Task]:
    """The tasks of conf/task that need no data sets (inside `composer`): the same everywhere."""
    found: dict[str, Task] = {}
    for name in only or options("task"):
        section = composed([f"task={name}"]).task
        task = build_task({str(key): value for key, value in section.items()})
        if not any(kind.__module__.startswith(DATA_SETS) for kind in type(task).__mro__):
            found[name] = task
    return found


def sizes_of(solution: Solution) -> dict[str, int]:
    """The dials of a solution that say how large it is."""
    config = solution.config
    depth = (config.depth_field,) if config.depth_field else ()
    return {key: int(getattr(config, key)) for key in dict.fromkeys((*SIZES, *depth, *solution.moved))}


@lru_cache(maxsize=1024)
def _counted(config: ModelConfig, shape: Shape) -> tuple[float, float]:
    return counted_flops(config, shape)


def row_of(model: ModelConfig, task: Task, budget: Budget, reference: ModelConfig, *, count: bool) -> dict[str, Any]:
    """What one model is on one task; `count` FLOPs on the meta device, too, which takes half a second."""
    shape = model_shape(task)
    try:
        require_order(model, task)
    except UserError as error:
        return {"why": str(error)}
    solution = solve(model, budget, shape, reference, strict=False)
    cost = solution.cost
    row: dict[str, Any] = {
        "sizes": " ".join(f"{key}={value}" for key, value in sizes_of(solution).items()),
        "steps": solution.steps,
        "params": solution.params,
        "params_total": cost.params_total,
        **{key: getattr(cost, key) for key in COLUMNS if key.startswith("flops_")},
        **{f"residual_{key}": round(solution.residual[key], 5) + 0.0 for key in RESIDUALS},
        "why": "" if solution.met else refusal(solution, budget, shape, frozenset()),
    }
    return row | (dict(zip(COUNTED, _counted(solution.config, shape), strict=True)) if count else {})


def solved(cells: Iterable[Cell] | None = None, *, count: bool = True) -> Iterator[dict[str, Any]]:
    """Rows of `COLUMNS` for the cells (budget, model, task), or for all of them (inside `composer`)."""
    wanted = list(itertools.product(presets(), names(), tasks())) if cells is None else list(cells)
    if not wanted:
        return
    budgets = {name: budget_of(name) for name in {name for name, _, _ in wanted}}
    found = models({model for _, model, _ in wanted} | {budget.reference for budget in budgets.values()})
    chosen = tasks(sorted({task for _, _, task in wanted}))
    for name, model, task in wanted:
        reference = found[budgets[name].reference]
        row = row_of(found[model], chosen[task], budgets[name], reference, count=count)
        yield {**dict(zip(KEY, (name, model, task), strict=True)), **row}


def write(path: Path, *, keep: bool = False) -> int:
    """Write the file anew, or with `keep` only what it lacks; returns the number of rows (inside `composer`)."""
    known = {cell_of(row): row for row in read(path)} if keep and path.exists() else {}
    cells = list(itertools.product(presets(), names(), tasks()))
    found = known | {cell_of(row): row for row in solved(cell for cell in cells if cell not in known)}
    rows = [found[cell] for cell in dict.fromkeys((*cells, *known))]
    atomic.write_text(path, pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, lineterminator="\n"))
    return len(rows)


def cell_of(row: Mapping[str, Any]) -> Cell:
    """What a row is about."""
    return str(row["budget"]), str(row["model"]), str(row["task"])


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file.

    Raises:
        UserError: there is none, or it has other columns.
    """
    if not path.is_file():
        raise UserError(f"no file {path}; write it with: python -m experiments budget lock --to={path}")
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values={key: [""] for key in COLUMNS[4:-1]})
    except ValueError as error:  # those of pandas among them
        raise UserError(f"{path} is no CSV of solved sizes: {error}") from None
    if list(frame.columns) != COLUMNS:
        raise UserError(f"{path.name} has other columns than {', '.join(COLUMNS)}")
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def stale(path: Path, only_tasks: Sequence[str] = (), *, count: bool = True) -> Iterator[str]:
    """What the file says that is not so any more, a line each (inside `composer`).

    A model, task or budget that the file does not have, or that is gone, is passed over: it takes no edit here.
    """
    old = {cell_of(row): row for row in read(path)}
    have = (set(presets()), set(names()), set(only_tasks or tasks()))
    cells = [cell for cell in old if all(name in there for name, there in zip(cell, have, strict=True))]
    for now in solved(cells, count=count):
        before = old[cell_of(now)]
        compared = [key for key in COLUMNS if key in now or key not in COUNTED]
        if differ := [key for key in compared if not _same(before[key], now.get(key))]:
            yield f"{now['budget']}: {now['model']} on {now['task']}: {', '.join(differ)}"


def _same(a: Any, b: Any) -> bool:
    """Equal, numbers to within rounding; no value is like none."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b))
    return bool(a == b) or (_none(a) and _none(b))


def _none(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
