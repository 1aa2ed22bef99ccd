"""Runs what is free of a list, one run after the other, each in a process forked from this warm one.

    python -m experiments.launching.queue_worker JOB.json

Any number of these may work on one list, on one machine or on many: each takes a run by its claim, and skips
what is over or claimed by another. It goes through the list until it finds nothing, since the claim of another may
die at any time. Told to stop, it lets the run save its checkpoint and ends.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path

from experiments.launching.hydra_worker import plan_of
from experiments.launching.job import Job, read_job
from experiments.launching.run_process import run_isolated, tell_runs
from experiments.start import start
from experiments.store.store import Store
from experiments.training.signals import die_with_parent


def drain(job: Job) -> Counter[str]:
    """Execute what is free; how many runs ended in which way."""
    specs = plan_of(job.plan)
    store = Store(Path(job.plan).parent.parent)
    ends: Counter[str] = Counter()
    before = -1
    while before < ends.total():
        before = ends.total()
        for run in job.runs:
            if store.state(run) not in ("planned", "stale") or store.refusal(run) is not None:
                continue
            import experiments.training.fit  # noqa: F401  loads lightning, 4 s: once for all forked runs

            end = run_isolated(specs[run], store, job.deaths)
            if end != "busy":
                ends[end] += 1
            if end in ("interrupted", "blocked", "unsteady"):
                return ends
    return ends


def entry() -> int:
    """The program. Dies with its parent; 1 if a run did not end well."""
    die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGTERM, _quietly)
    ends = drain(read_job(Path(sys.argv[1])))
    print("drained: " + (", ".join(f"{count} {end}" for end, count in ends.items()) or "nothing was free"), flush=True)
    return 0


def _quietly(number: int, frame: object) -> None:
    """SIGTERM is for the run, which saves and ends; this process ends after it."""
    tell_runs(signal.SIGTERM)


if __name__ == "__main__":
    start(entry)
