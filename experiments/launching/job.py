"""What carries a launch where Hydra's launchers do not: one program per engine, all with the same job file.

    python -m experiments.launching.local_gpus|slurm|ray_cluster JOB.json

Each starts some copies of experiments.launching.queue_worker, which take from the list what is free; the claims of the
runs see to it that no two take the same. An engine ends when none of its copies is left; what is missing then is
launched again by experiments.launching.launch. Exit code 2 and one line for what the user can mend.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from experiments.start import start

ENGINES = {"local_gpus": "local_gpus", "slurm": "slurm", "ray": "ray_cluster"}  # launcher -> module of this room


class Job(BaseModel):
    """What a launch hands to an engine: paths and names only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan: str = Field(description="The plan file.")
    runs: list[str] = Field(description="Runs to do, in this order.")
    deaths: int = Field(description="How often a run may die without getting further.")
    n_jobs: int = Field(description="Copies at a time; 0 or less = as many as there is room for.")
    environment: dict[str, str] = Field(description="Variables for threads and memory.")
    options: dict[str, Any] = Field(description="Options of the engine, as the launcher's config has them.")
    wait: bool = Field(description="Stay until all copies have ended.")


def read_job(path: Path) -> Job:
    """The job of a file."""
    return Job.model_validate_json(path.read_bytes())


def engine(body: Callable[[Job, Path], int | None]) -> None:
    """The main of an engine's module."""
    path = Path(sys.argv[1]).absolute()
    start(lambda: body(read_job(path), path))
