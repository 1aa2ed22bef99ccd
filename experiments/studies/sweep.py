"""A grid of overrides, each trial solved to the budget anew, ranked by validation; test is never looked at.

    python -m experiments.studies.sweep model=ressformer,transformer task=chain seed=0,1 trainer.optim.lr=1e-3,3e-3
    python -m experiments.studies.sweep sweep=lr trainer.optim.lr=5e-4,1e-3

    python -m experiments.studies.sweep sweep=lr table=quick trials=16      # equal tuning, see experiments.studies.tuning
    python -m experiments.studies.sweep sweep=readings table=quick          # one change at a time, see experiments.studies.variants

The grammar is that of Hydra's multirun (lists, range(), choice()). `sweep=NAME` reads the arguments of
conf/sweep/NAME.yaml first; later ones win.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from experiments.analysis.significance import summary
from experiments.command_line import main, unknown, values_of
from experiments.errors import UserError
from experiments.planning.hydra_config import CONF, plain
from experiments.planning.plan import Plan
from experiments.store import atomic_files as atomic
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.studies.reproduce import carry, prepare

COLUMNS = ["task", "rank", "trial", "metric", "mean", "sd", "n_ok", "n_launched", "steps", "params"]


def sweep(arguments: Sequence[str]) -> int:
    """Run the grid and print the ranking; 1 if a run failed.

    Raises:
        UserError: no model or task, or what `reproduce` raises.
    """
    from experiments.studies.tuning import requested, tune
    from experiments.studies.variants import requested_arms, try_arms

    if (arms := requested_arms(arguments)) is not None:
        return try_arms(*arms)
    if (tuning := requested(arguments)) is not None:
        return tune(*tuning)
    table, rest = grid(arguments)
    plan, path, store, launcher = prepare(rest, table)
    carry(plan, path, store, launcher)
    rows = ranking(plan, store)
    target = store.root / "exports" / f"{table['name']}.csv"
    from experiments.reporting.csv_export import to_csv

    atomic.write_text(target, to_csv(COLUMNS, rows))
    show_rows(rows, COLUMNS, f"{table['name']}: selected on validation")
    print(f"written: {target}")
    failed = sum(store.state(spec.id) != "done" for spec in plan.unique())
    if failed:
        print(f"{failed} of {len(plan.unique())} runs failed; see runs/<id>/record.json", file=sys.stderr)
    return 1 if failed else 0


def asked(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The table that `sweep` would run, and the overrides that are the same in every trial; nothing is written.

    Raises:
        UserError: what `sweep` raises of its arguments.
    """
    from experiments.studies.tuning import requested, with_points
    from experiments.studies.variants import requested_arms, with_arms

    if (arms := requested_arms(arguments)) is not None:
        return with_arms(*arms), arms[1]
    if (tuning := requested(arguments)) is not None:
        return with_points(*tuning), tuning[1]
    return grid(arguments)


def grid(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The ad-hoc table of a sweep, and the overrides that are the same in every trial.

    Raises:
        UserError: no model or task, more than one budget, an unknown preset, a seed that is no number.
    """
    axes, fixed = read_axes(arguments)
    for needed in ("model", "task"):
        if needed not in axes:
            raise UserError(f"a sweep needs {needed}=NAME, e.g. model=ressformer task=chain trainer.optim.lr=1e-3,3e-3")
    if len(budget := axes.pop("budget", ["tiny"])) > 1:
        raise UserError("a sweep has one budget; trials of different budgets cannot be ranked")
    models_of, tasks, seeds = (axes.pop(key, ["0"]) for key in ("model", "task", "seed"))
    if not all(seed.isdigit() for seed in seeds):
        raise UserError(f"seed must be integers of 0 or more, got {', '.join(seeds)}")
    models = []
    for model, values in itertools.product(models_of, itertools.product(*axes.values())):
        trial = dict(zip(axes, values, strict=True))
        short = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in trial.items()]
        chosen = [f"{key}={value}" for key, value in trial.items()]
        models.append({"label": " ".join([model, *short]), "model": model, "overrides": chosen})
    named = values_of("sweep", arguments)
    table = {
        "name": "-".join(["sweep", *named, atomic.digest(sorted(arguments), 6)]),
        "models": models,
        "tasks": tasks,
        "seeds": [int(seed) for seed in seeds],
        "budget": budget[0],
    }
    return table, fixed


def read_axes(arguments: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """What is swept (key, values) and what is fixed; of two arguments with one key the later wins."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    given: list[str] = []
    for argument in arguments:
        name = argument.removeprefix("sweep=")
        given = [*preset(name), *given] if argument != name else [*given, argument]
    axes: dict[str, list[str]] = {}
    fixed: dict[str, str] = {}
    for override in OverridesParser.create().parse_overrides(given):
        bare = override.get_key_element().lstrip("+~")
        written = str(override.input_line).split("=", 1)[0]
        for known in (axes, fixed):
            for key in [key for key in known if key.lstrip("+~") == bare]:
                del known[key]
        if override.is_sweep_override():
            axes[written] = [str(value) for value in override.sweep_string_iterator()]
        elif bare in ("model", "task", "seed", "budget"):
            axes[written] = [str(override.get_value_element_as_str())]
        else:
            fixed[written] = str(override.input_line)
    return axes, list(fixed.values())


def preset_file(name: str) -> dict[str, Any]:
    """The content of conf/sweep/NAME.yaml.

    Raises:
        UserError: there is no such preset.
    """
    folder = CONF / "sweep"
    path = folder / f"{name}.yaml"
    if not path.exists():
        raise UserError(unknown("sweep", name, sorted(found.stem for found in folder.glob("*.yaml"))))
    return plain(OmegaConf.load(path))


def preset(name: str) -> list[str]:
    """The arguments of conf/sweep/NAME.yaml.

    Raises:
        UserError: there is no such preset.
    """
    return [str(line) for line in preset_file(name).get("overrides", [])]


def ranking(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """Trials per task, the best validation mean first; trials without a result last."""
    records = store.records(spec.id for spec in plan.unique())
    cells: dict[tuple[str, str], list[RunSpec]] = {}
    for spec in plan.runs:
        cells.setdefault((spec.task, spec.model), []).append(spec)
    rows: list[dict[str, Any]] = []
    for (task, trial), specs in cells.items():
        info = specs[0].task_info
        found = [records[s.id] for s in specs if s.id in records]
        values = [r.selection[info.metric] for r in found if r.status == "done" and info.metric in r.selection]
        short = summary(values)
        rows.append(
            {
                "task": task,
                "rank": 0,
                "trial": trial,
                "metric": f"validation {info.metric}",
                "mean": short.mean,
                "sd": short.sd,
                "n_ok": len(values),
                "n_launched": len(found),
                "steps": specs[0].steps,
                "params": specs[0].cost.params_non_embedding,
                "sign": -1 if info.higher_is_better else 1,
            }
        )
    order: dict[str, int] = {task: number for number, task in enumerate(plan.table.tasks)}
    rows.sort(key=lambda r: (order[r["task"]], r["mean"] is None, r["sign"] * (r["mean"] or 0.0), r["trial"]))
    for _, group in itertools.groupby(rows, key=lambda r: r["task"]):
        for number, row in enumerate(group, 1):
            row["rank"] = number
            del row["sign"]
    return rows


def show_rows(rows: list[dict[str, Any]], columns: list[str], title: str) -> None:
    """Print rows as a table."""
    from rich.console import Console

    from experiments.reporting.console import rich_table
    from experiments.reporting.grid import Cell, Grid

    def text(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3g}" if abs(value) >= 1e5 else f"{value:.4f}"
        return "" if value is None else str(value)

    cells = [[Cell(text(row[column])) for column in columns] for row in rows]
    console = Console()
    wide = console if console.is_terminal else Console(width=200, highlight=False)
    wide.print(rich_table(Grid(title, columns, cells)))


if __name__ == "__main__":
    main(lambda: sweep(sys.argv[1:]))
