"""The plan that the words of a command mean: `table=NAME` and overrides, a sweep, or `plan=FILE`.

A sweep is `sweep=NAME` with or without `table=NAME`, or its axes (`model=a,b task=c ...`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.errors import UserError, unknown
from experiments.planning.hydra_config import composed, composer, plain, results_folder, values_of
from experiments.planning.plan import Plan, load_plan, plan_files
from experiments.planning.settings import LauncherSettings
from experiments.planning.sweep_request import read_sweep
from experiments.planning.trial_points import trial_table
from experiments.store.store import Store
from experiments.studies.reproduce import prepare

SWEEP_KEYS = ("sweep", "model", "task", "seed")


def frozen(words: Sequence[str]) -> tuple[Plan, Path]:
    """The plan the words mean: `plan=FILE`, the newest of a table's or sweep's name, else the one they make.

    Raises:
        UserError: there is no such plan.
    """
    named = values_of("plan", words)
    if named:
        path = Path(named[-1]).absolute()
        return load_plan(path), path
    others = [w for w in words if not w.startswith(("table=", "sweep=", "results_dir=", "launcher"))]
    sweeps, tables = values_of("sweep", words), values_of("table", words)
    names = ["-".join(["sweep", sweeps[-1], *tables])] if sweeps else tables
    if names and not others:
        name, folder = names[-1], results_dir(words) / "plans"
        have = plan_files(folder)
        fits = [path for path, found in have.items() if found == name or found.rpartition("-")[0] == name]
        if not fits:
            raise UserError(unknown("frozen plan", name, sorted(set(have.values()))) + "; plan it first")
        return load_plan(fits[-1]), fits[-1]
    plan, path, _, _ = asked(words)
    return plan, path


def results_dir(words: Sequence[str]) -> Path:
    """The results folder of the words, or the default one."""
    with composer():
        config = composed([f"results_dir={value}" for value in values_of("results_dir", words)])
        return Path(results_folder(plain(config))).expanduser().absolute()


def asked(words: Sequence[str]) -> tuple[Plan, Path, Store, LauncherSettings]:
    """The plan that the words make, its file, its store and its launcher. No record is read."""
    return asked_sweep(words) if is_sweep(words) else prepare(words, read=False)


def asked_sweep(words: Sequence[str]) -> tuple[Plan, Path, Store, LauncherSettings]:
    """As `asked`, of words that are a sweep."""
    request = read_sweep(words)
    return prepare(request.overrides, trial_table(request), read=False)


def is_sweep(words: Sequence[str]) -> bool:
    """Whether the words ask for a sweep."""
    keys = {word.split("=", 1)[0] for word in words}
    return "sweep" in keys or (not keys & {"table", "plan"} and bool(keys & set(SWEEP_KEYS)))


def named_plan(words: Sequence[str]) -> tuple[Plan, Path, Store]:
    """What `frozen` finds, with a store that is for looking only."""
    plan, path = frozen(words)
    return plan, path, Store(path.parent.parent, write=False)
