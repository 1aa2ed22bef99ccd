"""The job of a multirun: one run of a plan per Hydra job, whatever launcher carries it.

    python -m experiments.worker -m plan=FILE run=ID,ID,... hydra/launcher=joblib

A job never raises: what became of the run is in its record. Started by experiments.launch, which sets the
environment.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class WorkerConfig:
    """Which run of which plan."""

    plan: str = MISSING
    run: str = MISSING


def work(plan_file: str, run: str) -> str:
    """Execute one run of a plan file, which lies in <results_dir>/plans, in a process of its own."""
    from experiments.isolate import run_isolated
    from experiments.plan import load_plan
    from experiments.runs import Store
    from experiments.signals import die_with_parent

    die_with_parent(signal.SIGKILL)
    import experiments.fit  # noqa: F401  paid once here, shared by every forked run

    path = Path(plan_file)
    store = Store(path.parent.parent)
    spec = next(spec for spec in load_plan(path).runs if spec.id == run)
    return run_isolated(spec, store)


def job(config: Any) -> str:
    """Hydra's side of `work`."""
    from experiments.worker import work as imported

    return imported(str(config.plan), str(config.run))


def entry() -> int:
    """Hydra's main on `job`."""
    from experiments.hydra_app import hydra_main
    from experiments.signals import die_with_parent

    die_with_parent(signal.SIGKILL)
    ConfigStore.instance().store(name="worker", node=WorkerConfig)
    hydra_main("worker", job, config_dir=None)
    return 0


if __name__ == "__main__":
    from experiments.cli import main

    main(entry)
