"""Equal tuning: the same quasi-random trials for every model of a table, selected on validation alone.

    python -m experiments.studies.sweep sweep=lr                               # conf/sweep/lr.yaml
    python -m experiments.studies.sweep sweep=lr table=quick trials=16         # the models, tasks and budget of a table
    python -m experiments.studies.sweep sweep=full model=ressformer,looped task=listops

A preset with a `space` is tuned: Optuna's quasi-random sampler (scrambled Sobol points) is asked for all `trials`, the
first of which is the untuned config. Points depend on the space and the sampler's seed alone, so every model gets the
same ones. Trials are ordinary runs of a plan: solved to the budget, idempotent, carried by any launcher. The study
lies in <results_dir>/sweeps; a sweep that was killed goes on where it stopped, and `trials` is a total, so a larger
one adds what is missing.

Written: exports/<name>.csv (trials), <name>-best.csv (the chosen trial of each model and task, with the FLOPs that
tuning took), <name>-best-of-k.csv (what fewer trials would have found) and its curves, exports/figures/<name>/*.png and
.pdf; `python -m experiments.reporting.html_page table=NAME` shows those of `table=NAME` sweeps.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from pydantic import Field

from experiments.analysis.trials import BEST, CURVE, higher_is_better, trial_entries, trial_files
from experiments.command_line import values_of
from experiments.errors import UserError
from experiments.planning.hydra_config import composed, composer, override_key, plain, require_option
from experiments.planning.plan import Plan
from experiments.planning.settings import Section, TableSettings, section
from experiments.store import atomic_files as atomic
from experiments.store.store import Store
from experiments.studies.reproduce import carry, prepare

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution


class Axis(Section):
    """One dimension of the search space: a range, or choices."""

    low: float | None = Field(default=None, description="Lower end.")
    high: float | None = Field(default=None, description="Upper end.")
    log: bool = Field(default=False, description="Uniform in the logarithm.")
    integer: bool = Field(default=False, description="Whole numbers only.")
    choices: list[str | int | float | bool] | None = Field(default=None, description="A list instead of a range.")


class Tuning(Section):
    """A sweep preset that tunes."""

    overrides: list[str] = Field(default_factory=list, description="Arguments that are read first.")
    trials: int = Field(ge=1, description="Trials per model and task, all told.")
    sampler_seed: int = Field(default=0, ge=0, description="Scrambling of the Sobol points.")
    space: dict[str, Axis] = Field(min_length=1, description="The search space, the same for every model.")


def distributions(space: Mapping[str, Axis]) -> dict[str, BaseDistribution]:
    """The space in Optuna's words.

    Raises:
        UserError: an axis that is neither a range nor choices, or that Optuna refuses.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for key, axis in space.items():
        try:
            if axis.choices is not None:
                found[key] = CategoricalDistribution(axis.choices)
            elif axis.low is None or axis.high is None:
                raise ValueError("give low and high, or choices")
            elif axis.integer:
                found[key] = IntDistribution(int(axis.low), int(axis.high), log=axis.log)
            else:
                found[key] = FloatDistribution(axis.low, axis.high, log=axis.log)
        except ValueError as error:
            raise UserError(f"sweep: space.{key}: {error}") from None
    return found


def requested(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str], Tuning] | None:
    """What `tune` takes, if the arguments name a preset with a space of which something is left to tune.

    Raises:
        UserError: an unknown preset or table, a wrong value, or a grid beside the space.
    """
    from experiments.studies.sweep import preset_file, read_axes

    names = values_of("sweep", arguments)
    raw = preset_file(names[-1]) if names else {}
    if "space" not in raw:
        return None
    settings = section(Tuning, raw, f"sweep {names[-1]}")
    ours = ("sweep=", "trials=", "table=")
    given = [argument for argument in arguments if not argument.startswith(ours)]
    axes, fixed = read_axes([*settings.overrides, *given])
    space = {
        key: axis
        for key, axis in settings.space.items()
        if key not in axes and all(override_key(o) != key for o in fixed)
    }
    if not space:
        return None
    cells = ("model", "task", "seed", "budget")
    if grid := [key for key in axes if key not in cells]:
        raise UserError(
            f"sweep {names[-1]} tunes {', '.join(space)} and takes no grid beside it; fix {', '.join(grid)}"
        )
    tables = values_of("table", arguments)
    trials = values_of("trials", arguments)
    values = settings.model_dump() | {"space": space} | ({"trials": trials[-1]} if trials else {})
    settings = section(Tuning, values, f"sweep {names[-1]}")
    key = [asks(given), tables, {k: a.model_dump() for k, a in settings.space.items()}, settings.sampler_seed]
    name = sweep_name(names[-1], tables, key)
    return tuned_table(name, axes, read_axes(given)[0], tables), fixed, settings


def asks(arguments: Sequence[str]) -> list[str]:
    """The arguments that say what is run, sorted; not where and by whom, which must not rename a sweep."""
    return sorted(argument for argument in arguments if not argument.startswith(("launcher", "results_dir=")))


def sweep_name(preset: str, tables: Sequence[str], key: Any) -> str:
    """The name of a sweep's plan and exports: `sweep-PRESET[-TABLE]-DIGEST`; `key` is what it hangs on."""
    return "-".join(["sweep", preset, *tables, atomic.digest(key, 6)])


def tuned_table(
    name: str, axes: Mapping[str, list[str]], given: Mapping[str, list[str]], tables: Sequence[str]
) -> dict[str, Any]:
    """The table that is tuned: that of the preset, or a named one, with what was given in its place."""
    table: dict[str, Any] = {"budget": "tiny"}
    if tables:
        with composer():
            require_option("table", tables[-1])
            table = plain(composed([f"table={tables[-1]}"]))["table"]
        table = section(TableSettings, table, "table").model_dump()
        axes = {**given, "seed": given.get("seed") or axes.get("seed", ["0"])}
    models = axes.get("model") or table.get("models")
    tasks = axes.get("task") or table.get("tasks")
    if not models or not tasks:
        raise UserError("a sweep that tunes needs model=NAME and task=NAME, or table=NAME")
    budgets, seeds = axes.get("budget", [table["budget"]]), axes.get("seed", ["0"])
    if len(budgets) > 1 or not all(seed.isdigit() for seed in seeds):
        raise UserError("a sweep has one budget, and seeds of 0 or more")
    named = [model if isinstance(model, dict) else {"label": model, "model": model} for model in models]
    changes = {"name": name, "models": named, "tasks": tasks, "budget": budgets[0], "seeds": [int(s) for s in seeds]}
    return {**table, **changes}


def tune(table: dict[str, Any], rest: list[str], settings: Tuning) -> int:
    """Tune every model of the table on every task; 1 if a trial failed.

    Args:
        table: settings of the table that is tuned; its `models` are entries.
        rest: overrides that apply to every run.
        settings: the preset.

    Raises:
        UserError: what planning raises.
    """
    with composer():
        store = Store(str(composed([o for o in rest if o.startswith("results_dir=")]).results_dir))
    cells = [(str(entry["label"]), str(task)) for entry in table["models"] for task in table["tasks"]]
    path = store.root / "sweeps" / f"{table['name']}.db"
    studies = {cell: _study(path, "/".join(cell), settings.sampler_seed) for cell in cells}
    space = distributions(settings.space)
    start = _start(space, table, rest)
    points = {cell: asked(study, space, settings.trials, start) for cell, study in studies.items()}
    first = next(iter(points.values()))
    if any(other != first for other in points.values()):
        raise UserError(f"{path.name} holds other trials for some of the models; move it away to begin anew")
    plan, plan_file, store, launcher = prepare(rest, {**table, "models": _entries(table["models"], first)})
    carry(plan, plan_file, store, launcher)
    files = trial_files(plan, store.records(spec.id for spec in plan.unique()), list(first[0]))
    rows = files[""][1]
    for cell, study in studies.items():
        _tell(study, [row for row in rows if (row["model"], row["task"]) == cell])
    return write_trials(files, plan, store)


def with_points(table: dict[str, Any], rest: list[str], settings: Tuning) -> dict[str, Any]:
    """The table with a row for each model and trial, from a study that is not kept."""
    space = distributions(settings.space)
    points = asked(_study(None, "", settings.sampler_seed), space, settings.trials, _start(space, table, rest))
    return {**table, "models": _entries(table["models"], points)}


def _study(path: Path | None, name: str, seed: int) -> optuna.Study:
    """The study of a cell, kept in the file; without one, in memory."""
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # since 3.0, and pinned by a test here
        sampler = optuna.samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=seed)
    url = None if path is None else f"sqlite:///{path}"
    return optuna.create_study(storage=url, study_name=name, sampler=sampler, load_if_exists=True)


def asked(
    study: optuna.Study, space: Mapping[str, BaseDistribution], trials: int, start: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The points of the first `trials` trials; asks for those that the study lacks.

    Raises:
        UserError: the study was made for another space.
    """
    known = study.get_trials(deepcopy=False)
    if known and any(trial.params and set(trial.params) != set(space) for trial in known):
        raise UserError(f"study {study.study_name} was made for another space; give the sweep another name")
    if not known and start:
        study.enqueue_trial(dict(start))
    for _ in range(trials - sum(bool(trial.params) for trial in known)):
        study.ask(fixed_distributions=dict(space))
    return [dict(trial.params) for trial in study.get_trials(deepcopy=False)[:trials]]


def _start(space: Mapping[str, BaseDistribution], table: dict[str, Any], rest: list[str]) -> dict[str, Any]:
    """The config as it is, as a point; empty if it is outside of the space."""
    with composer():
        config = composed([*table.get("overrides", []), *(o for o in rest if o.startswith("trainer."))])
    point = {key: OmegaConf.select(config, key, default=None) for key in space}
    return point if all(_inside(space[key], value) for key, value in point.items()) else {}


def _inside(distribution: BaseDistribution, value: Any) -> bool:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    return isinstance(value, (int, float)) and distribution.low <= value <= distribution.high


def _entries(models: Sequence[Mapping[str, Any]], points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row of the plan for each model and point."""
    overrides = [[f"{key}={value}" for key, value in point.items()] for point in points]
    return trial_entries(models, {entry["label"]: overrides for entry in models})


def _tell(study: optuna.Study, rows: Sequence[Mapping[str, Any]]) -> None:
    """Hand the outcomes to the study; what is missing stays running there and is carried on next time."""
    from optuna.trial import TrialState

    waiting = {trial.number for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.RUNNING}
    for row in rows:
        if row["trial"] in waiting and row["status"] == "done":
            study.tell(row["trial"], row["validation"])
        elif row["trial"] in waiting and row["status"] == "failed":
            study.tell(row["trial"], state=TrialState.FAIL)


def write_trials(files: Mapping[str, tuple[list[str], list[dict[str, Any]]]], plan: Plan, store: Store) -> int:
    """Write what `trial_files` made, and the curves; print what was chosen; 1 if a trial has no result."""
    import pandas as pd

    from experiments.reporting.csv_export import to_csv
    from experiments.reporting.tuning_figure import write
    from experiments.studies.sweep import show_rows

    name, folder = plan.table.name, store.root / "exports"
    paths = [folder / f"{name}{suffix}.csv" for suffix in files]
    for path, (columns, rows) in zip(paths, files.values(), strict=True):
        atomic.write_text(path, to_csv(columns, rows))
    better = higher_is_better(plan)
    curve = pd.DataFrame(files["-best-of-k"][1], columns=CURVE)
    drawn = write(curve, name, folder / "figures" / name, better)
    best = files["-best"][1]
    trials = max((row["trials"] for row in best), default=0)
    show_rows(best, BEST, f"{name}: the best of {trials} trials each, selected on validation")
    print("written: " + ", ".join(map(str, [*paths, *drawn])))
    rows = files[""][1]
    bad = sum(row["status"] != "done" for row in rows)
    if bad:
        print(f"{bad} of {len(rows)} trials have no result; they count as trials all the same", file=sys.stderr)
    return 1 if bad else 0
