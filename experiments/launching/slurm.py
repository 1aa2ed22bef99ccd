"""SLURM, through submitit: an array of jobs, each of which takes runs until none is free.

What is pickled is `Drain` alone: this module's own class with the path of the job file. The result files of
submitit are never read, and it is never waited for: without accounting it would wait for ever for a job that was
killed. What counts is the queue (is a job left?) and the records.

Pre-emption and the end of a job's time: SLURM sends SIGUSR2 or SIGTERM, the run saves a checkpoint, the job is
put into the queue again and goes on from there. A job that is killed leaves the queue; its run is stale then, and
the launch sends a new job for what is missing.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.launching.job import Job, engine, read_job
from experiments.launching.queue_worker import drain
from experiments.launching.run_process import tell_runs, wait_for_runs
from experiments.start import FOLDER, ours_first
from experiments.store.provenance import ROOT

POLL_SECONDS = 2.0
GRACE_SECONDS = 25.0
DEFAULTS = {"timeout_min": 60, "cpus_per_task": 1, "slurm_max_num_timeout": 1000}


class Drain:
    """What a job does; submitit calls `checkpoint` when its time is up or it is pre-empted."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> str:
        ours_first()
        return str(dict(drain(read_job(Path(self.path)))))

    def checkpoint(self) -> Any:
        """Let the run save and end, then ask to be queued again."""
        from submitit.helpers import DelayedSubmission  # an extra

        tell_runs(signal.SIGTERM)
        wait_for_runs(GRACE_SECONDS)
        return DelayedSubmission(Drain(self.path))


def carry(job: Job, path: Path) -> int:
    """Submit the array and wait until none of its jobs is in the queue."""
    number = submit(job, path)
    print(f"SLURM job {number}, {copies(job)} at a time; watch it with: squeue -j {number}", flush=True)
    if not job.wait:
        return 0
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    while queued(number):
        if stopped:
            cancel(number)
            return 0
        time.sleep(POLL_SECONDS)
    return 0


def copies(job: Job) -> int:
    """How many jobs the array has."""
    return min(job.n_jobs if job.n_jobs > 0 else 4, len(job.runs))


def submit(job: Job, path: Path) -> str:
    """Send the array; its number.

    Raises:
        UserError: SLURM is not here or refuses.
    """
    import submitit  # an extra

    settings = {**DEFAULTS, **job.options}
    timeouts = settings.pop("slurm_max_num_timeout")
    try:
        executor = submitit.AutoExecutor(path.parent / "slurm", cluster="slurm", slurm_max_num_timeout=timeouts)
        executor.update_parameters(
            name=Path(job.plan).stem.rpartition("-")[0] or "runs",
            slurm_setup=[f"export {key}={shlex.quote(value)}" for key, value in environment(job).items()],
            **settings,
        )
        jobs = executor.map_array(Drain.__call__, [Drain(str(path)) for _ in range(copies(job))])
    except (RuntimeError, ValueError, TypeError, NameError, subprocess.SubprocessError, OSError) as error:
        raise UserError(f"SLURM takes no job: {' '.join(str(error).split())}") from None
    return str(jobs[0].job_id).split("_")[0]


def environment(job: Job) -> dict[str, str]:
    """The variables of a job: ours, and where this project lies, which need not be installed."""
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    variables = {**job.environment, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    return variables | ({FOLDER: os.environ[FOLDER]} if FOLDER in os.environ else {})


def queued(number: str) -> bool:
    """True while a job of the array waits or runs; a queue that does not answer is asked again."""
    done = subprocess.run(["squeue", "-h", "-r", "-j", number, "-o", "%T"], capture_output=True, text=True, check=False)
    if done.returncode:
        return "invalid job id" not in done.stderr.lower()
    return bool(done.stdout.split())


def cancel(number: str) -> None:
    """Take the waiting jobs out of the queue, let the running ones save, then insist."""
    for words in (["--state=PENDING", number], ["--signal=TERM", number]):
        subprocess.run(["scancel", *words], capture_output=True, check=False)
    end = time.monotonic() + GRACE_SECONDS
    while queued(number) and time.monotonic() < end:
        time.sleep(0.5)
    subprocess.run(["scancel", number], capture_output=True, check=False)


if __name__ == "__main__":
    # Under its own name, or a job could not find the class again.
    from experiments.launching import slurm  # not as `__main__`

    engine(slurm.carry)
