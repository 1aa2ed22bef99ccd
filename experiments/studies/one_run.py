"""One run through Hydra's main, which also makes a multirun of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig

from experiments.errors import UserError
from experiments.planning.hydra_config import (
    composer,
    given_dials,
    hydra_main,
    results_folder,
    search_folders,
    with_files_found,
)
from experiments.planning.plan import run_spec
from experiments.planning.preflight import PASSED, checked_rows
from experiments.planning.run_spec import Pricer
from experiments.planning.settings import TrainerSettings
from experiments.store import blocks
from experiments.store.store import Store
from experiments.training.run import execute


def _job(config: Any) -> float | None:
    from experiments.training.distributed import join, own_place  # loads lightning: 4 s

    hydra = HydraConfig.get()
    choices, pinned = hydra.runtime.choices, given_dials(hydra.overrides.task)
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
    end = execute(spec, store)
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
    record = store.record(spec.id)
    assert record is not None
    for split, metrics in record.metrics.items():
        print(f"{split}: " + ", ".join(f"{key}={value:.4g}" for key, value in metrics.items()))
    print(f"run {spec.id} {end}: {store.folder(spec.id) / 'record.json'}")
    if end != "done":
        raise RunFailed(spec.id)
    return record.selection.get(spec.task_info.metric)


class RunFailed(Exception):
    """A run ended without a result; its record tells why."""


def entry() -> int:
    """Hydra's main on one run; 1 if it ended without a result."""
    try:
        hydra_main("config", _job)
    except RunFailed:
        return 1
    return 0


def train(arguments: Sequence[str]) -> int:
    """`entry` with these arguments instead of the program's."""
    before, sys.argv[1:] = sys.argv[1:], list(arguments)
    try:
        return entry()
    finally:
        sys.argv[1:] = before
