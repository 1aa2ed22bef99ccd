"""The plan that the words of a command mean: `table=NAME` and overrides, a sweep, or `plan=FILE`.

A sweep is `sweep=NAME` with or without `table=NAME`, or its axes (`model=a,b task=c ...`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.errors import UserError, unknown
from experiments.planning.hydra_config import values_of
from experiments.planning.plan import Plan, load_plan, plan_files, read_request
from experiments.planning.settings import LauncherSettings
from experiments.planning.sweep_names import default_name, results_root
from experiments.planning.sweep_request import SweepRequest, read_sweep
from experiments.planning.table_name import preset_of
from experiments.planning.trial_points import trial_table
from experiments.store.store import Store
from experiments.studies.reproduce import prepare

SWEEP_KEYS = ("sweep", "model", "task", "seed")
OTHERS = 5  # other plans of a preset that are named


def frozen(words: Sequence[str]) -> tuple[Plan, Path]:
    """The plan the words mean: `plan=FILE`, the newest of a table's or sweep's name, else the one they make.

    Raises:
        UserError: there is no such plan.
    """
    named = values_of("plan", words)
    if named:
        path = Path(named[-1]).absolute()
        return load_plan(path), path
    others = [w for w in words if not w.startswith(("table=", "sweep=", "sweep.name=", "results_dir=", "launcher"))]
    sweeps, tables = values_of("sweep", words), values_of("table", words)
    names = [default_name(sweeps[-1], tables), *values_of("sweep.name", words)] if sweeps else tables
    if names and not others:
        name, folder = names[-1], results_dir(words) / "plans"
        have = plan_files(folder)
        ours = re.compile(f"{'(sweep-)?' if sweeps else ''}{re.escape(name)}(-[0-9a-f]{{6}})?")  # sweep-...: of grids
        fits = [path for path, found in have.items() if ours.fullmatch(found)]
        if not fits:
            raise UserError(unknown("frozen plan", name, sorted(set(have.values()))) + "; plan it first")
        return load_plan(fits[-1]), fits[-1]
    plan, path, _, _ = asked(words)
    return plan, path


def results_dir(words: Sequence[str]) -> Path:
    """The results folder of the words, or the default one."""
    return results_root(words)


def results_there(words: Sequence[str]) -> Path:
    """The results folder of words that only look at one.

    Raises:
        UserError: there is no such folder.
    """
    folder = results_dir(words)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name the one with the results: results_dir=FOLDER")
    return folder


def asked(words: Sequence[str]) -> tuple[Plan, Path, Store, LauncherSettings]:
    """The plan that the words make, its file, its store and its launcher. No record is read."""
    return asked_sweep(words) if is_sweep(words) else prepare(words, read=False)


def asked_sweep(words: Sequence[str]) -> tuple[Plan, Path, Store, LauncherSettings]:
    """As `asked`, of words that are a sweep."""
    return planned_sweep(read_sweep(words))


def planned_sweep(request: SweepRequest) -> tuple[Plan, Path, Store, LauncherSettings]:
    """The plan of a sweep, its file, its store and its launcher. No record is read."""
    return prepare(request.overrides, trial_table(request), read=False)


def is_sweep(words: Sequence[str]) -> bool:
    """Whether the words ask for a sweep."""
    keys = {word.split("=", 1)[0] for word in words}
    return "sweep" in keys or (not keys & {"table", "plan"} and bool(keys & set(SWEEP_KEYS)))


def named_plan(words: Sequence[str], *, make: bool = False, running: bool = False) -> tuple[Plan, Path, Store]:
    """The plan to look at, with a store that is for looking only: never an empty one if another has results.

    The newest plan of exactly the name that has a record; else the plan that the words make; else the newest of
    another name of the same preset. A line on stderr says which, where there is a choice.

    Args:
        words: of a command.
        make: plan what has not been planned, also where the words are `table=NAME` alone.
        running: a run that is under way counts as a result.

    Raises:
        UserError: there is no such plan or, where none is made, no results folder.
    """
    if values_of("plan", words):
        plan, path = frozen(words)
        return plan, path, Store(path.parent.parent, write=False)
    store = Store(results_dir(words) if make else results_there(words), write=False)
    name = name_asked(words)
    preset = preset_of(name or "")
    found = with_results(store, name, running=running) if name else None
    if found is None and name == preset != "":
        found = with_results(store, preset, parts=True, running=running)
    if found is None:
        unplanned = name not in plan_files(store.root / "plans").values()
        found = asked(words)[:2] if make and unplanned else frozen(words)
        if preset and not has_results(found[0], store, running=running):
            found = with_results(store, preset, parts=True, running=running) or found
    say_which(store, name or found[0].table.name, found[1])
    return *found, store


def name_asked(words: Sequence[str]) -> str:
    """The name that the table of the words has; "" for a sweep and where no table is named."""
    tables = values_of("table", words)
    if values_of("sweep", words) or not tables:
        return ""
    others = [word for word in words if not word.startswith(("table=", "results_dir=", "launcher"))]
    return read_request(words).table.name if others else tables[-1]


def with_results(store: Store, name: str, *, parts: bool = False, running: bool = False) -> tuple[Plan, Path] | None:
    """The newest plan of a name that has results, or None; `parts`: of any name of that preset."""
    for path, found in reversed(plan_files(store.root / "plans").items()):
        if found == name or (parts and preset_of(found) == name):
            plan = load_plan(path)
            if has_results(plan, store, running=running):
                return plan, path
    return None


def has_results(plan: Plan, store: Store, *, running: bool = False) -> bool:
    """Whether any run of the plan has a record, or is `running`."""
    if running:
        return any(store.state(spec.id) != "planned" for spec in plan.runs)
    return any(store.status(spec.id) is not None for spec in plan.runs)


def say_which(store: Store, name: str, path: Path) -> None:
    """Name the plan on stderr if it is not the only one that may be meant."""
    have = plan_files(store.root / "plans")
    shown = have.get(path, name)
    others = sorted({found for found in have.values() if preset_of(found) == preset_of(name)} - {shown})
    if others or shown != name:
        instead = f" (nothing of {name} has run)" if shown != name else ""
        listed = ", ".join(others[:OTHERS]) + (", ..." if len(others) > OTHERS else "")
        print(f"shown: {shown}, plan {path.name}{instead}" + (f"; also here: {listed}" * bool(others)), file=sys.stderr)
