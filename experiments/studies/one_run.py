"""One run through Hydra's main, which also makes a multirun of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from experiments.errors import UserError
from experiments.launching.estimate import estimate_apart
from experiments.launching.run_line import RunLine
from experiments.planning.hydra_config import composer, given_dials, hydra_main, results_folder, values_of
from experiments.planning.plan import run_spec
from experiments.planning.preflight import PASSED, checked_rows
from experiments.planning.run_spec import Pricer
from experiments.planning.search_path import search_folders, with_files_found
from experiments.planning.settings import LauncherSettings, TrainerSettings, section
from experiments.store import blocks
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.studies.run_start import announce, cost_words
from experiments.training.loggers import show_again
from experiments.training.run import End, execute

MULTIRUN = "RESSFORMER_MULTIRUN"
HERE = ("joblib", "basic")  # launchers that a multirun has


def _job(config: Any) -> float | None:
    from experiments.training.distributed import join, own_place  # loads lightning: 4 s

    hydra = HydraConfig.get()
    choices, pinned = hydra.runtime.choices, given_dials(hydra.overrides.task)
    several = hydra.mode == RunMode.MULTIRUN
    launcher = section(LauncherSettings, OmegaConf.to_container(config.launcher, resolve=True), "launcher")
    if several and launcher.name not in HERE:
        raise UserError(
            f"train -m runs on the cores of this machine; launcher={launcher.name} carries a table or a sweep: "
            "python -m experiments sweep takes the same words"
        )
    if several and config.logger.get("group") is None:
        OmegaConf.update(config, "logger.group", os.environ.get(MULTIRUN), force_add=True)
    store, unchecked = Store(results_folder(config)), list(config.allow_unchecked)
    with composer():
        with_files_found(config, search_folders(hydra.overrides.hydra))
        spec = run_spec(config, str(choices["model"]), str(choices["task"]), None, Pricer(), pinned)
    place = own_place(TrainerSettings.model_validate(spec.config["trainer"]))
    if not place.first:
        if not join(store.folder(spec.id), place):
            raise RunFailed(spec.id)
        return None
    if store.record(spec.id) is None:
        for row, found in checked_rows([spec], {spec.model: spec.model}, unchecked).items():
            if found != PASSED:
                print(f"model {row} is {found}", file=sys.stderr)
    end = shown(spec, store, several=several)
    store.require_sound()
    if end == "interrupted":
        raise KeyboardInterrupt
    if end in ("blocked", "unsteady"):
        store.require_space()
        why = "; ".join(block.words for block in blocks.found(store.root, [spec.id]))
        raise UserError(f"run {spec.id} stopped: {why or 'the storage takes no more; give the same command again'}")
    if end == "refused":
        raise UserError(store.refusal(spec.id) or f"run {spec.id} cannot begin here")
    if end == "busy":
        raise UserError(f"run {spec.id} is being worked on by another process; wait for it or stop it")
    return outcome(spec, store, end)


def shown(spec: RunSpec, store: Store, *, several: bool) -> End:
    """Execute the run; what it is, what it costs and how far it is are shown on the way, on standard error.

    Args:
        spec, store: the run, and where it writes.
        several: other runs are at work beside it: a line at its start, and plain lines.
    """
    if store.status(spec.id) is not None:
        print(f"run {spec.id} is over: nothing is trained again", file=sys.stderr)
        end = execute(spec, store)
        show_again(spec, store.folder(spec.id), store.record(spec.id))
        return end
    known = estimate_apart(spec, store)
    if several:
        print(f"{spec.task} {spec.model} seed {spec.seed}: {'; '.join(cost_words(spec, known))}", file=sys.stderr)
    else:
        announce(spec, store, known)
    with RunLine(spec, store, known=known.seconds, plain=several):
        return execute(spec, store)


def outcome(spec: RunSpec, store: Store, end: End) -> float | None:
    """Print the run's metrics and where its record is; its validation metric, which Hydra's sweepers read.

    Raises:
        RunFailed: it has none.
    """
    record = store.record(spec.id)
    assert record is not None
    for split, metrics in record.metrics.items():
        print(f"{split}: " + ", ".join(f"{key}={value:.4g}" for key, value in metrics.items()))
    print(f"run {spec.id} {end}: {store.folder(spec.id) / 'record.json'}", flush=True)
    if end != "done":
        raise RunFailed(spec.id)
    return record.selection.get(spec.task_info.metric)


class RunFailed(Exception):
    """A run ended without a result; its record tells why."""


def entry() -> int:
    """Hydra's main on one run; 1 if it ended without a result."""
    before = list(sys.argv[1:])
    sys.argv[1:] = [*before, *jobs_at_a_time(before)]
    # The loggers' group of the runs of a multirun; processes of a launcher inherit it.
    os.environ.setdefault(MULTIRUN, f"multirun-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}")
    try:
        hydra_main("config", _job)
    except RunFailed:
        return 1
    finally:
        sys.argv[1:] = before
    return 0


def jobs_at_a_time(words: Sequence[str]) -> list[str]:
    """What tells Hydra's launcher, joblib's unless another is named, what `launcher` tells ours: runs at a time."""
    named = any(word.lstrip("+").startswith(("hydra/launcher=", "hydra.launcher.n_jobs=")) for word in words)
    if named or not {"-m", "--multirun"} & set(words):
        return []
    jobs = values_of("launcher.n_jobs", words) or (["1"] if "launcher=basic" in words else ["-1"])
    return [f"hydra.launcher.n_jobs={jobs[-1]}"]


def train(arguments: Sequence[str]) -> int:
    """`entry` with these arguments instead of the program's."""
    before, sys.argv[1:] = sys.argv[1:], list(arguments)
    try:
        return entry()
    finally:
        sys.argv[1:] = before
