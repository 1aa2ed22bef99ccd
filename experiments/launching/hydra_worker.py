"""The job of a multirun: one run of a plan per Hydra job, whatever launcher carries it.

    python -m experiments.launching.hydra_worker -m plan=FILE run=ID,ID,... hydra/launcher=joblib

A job never raises: what became of the run is in its record. Started by experiments.launching.launch, which sets the
environment.
"""

from __future__ import annotations

import functools
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from experiments.launching.run_process import run_isolated
from experiments.planning.hydra_config import hydra_main
from experiments.planning.plan import load_plan
from experiments.start import start
from experiments.store.records import RunSpec
from experiments.store.store import Store
from experiments.training.signals import die_with_parent


@dataclass
class WorkerConfig:
    """Which run of which plan, and how often it may die."""

    plan: str = MISSING
    run: str = MISSING
    deaths: int = 3


def plan_of(plan_file: str) -> dict[str, RunSpec]:
    """The runs of a plan file by id; a plan never changes, so a worker reads it once."""
    return _runs_of(plan_file, Path(plan_file).stat().st_mtime_ns if Path(plan_file).exists() else 0)


@functools.lru_cache(maxsize=1)
def _runs_of(plan_file: str, changed: int) -> dict[str, RunSpec]:
    return {spec.id: spec for spec in load_plan(Path(plan_file)).runs}


def work(plan_file: str, run: str, deaths: int) -> str:
    """Execute one run of a plan file, which lies in <results_dir>/plans, in a process of its own."""
    die_with_parent(signal.SIGKILL)
    store = Store(Path(plan_file).parent.parent)  # first: it sees to it that libraries find a folder to work in
    import experiments.training.fit  # noqa: F401  loads lightning, 4 s: paid once here, shared by every forked run

    return run_isolated(plan_of(plan_file)[run], store, deaths)


def job(config: Any) -> str:
    """Hydra's side of `work`."""
    # A launcher pickles this function of `__main__` by value: by name, the module and its cache are found again.
    from experiments.launching.hydra_worker import work as imported

    return imported(str(config.plan), str(config.run), int(config.deaths))


def entry() -> int:
    """Hydra's main on `job`."""
    die_with_parent(signal.SIGKILL)
    ConfigStore.instance().store(name="worker", node=WorkerConfig)
    hydra_main("worker", job, config_dir=None)
    return 0


if __name__ == "__main__":
    start(entry)
