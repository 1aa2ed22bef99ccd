"""Ray: tasks that each take runs until none is free. A task whose worker dies is started again by Ray.

A task starts a queue worker as a process of its own: a Ray worker has threads, and cannot be forked safely.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.launching.job import Job, engine
from experiments.start import FOLDER
from experiments.store.provenance import ROOT


def task(path: str) -> int:
    """What a Ray worker does: a warm process that takes runs; it is told to stop when the task is cancelled."""
    with subprocess.Popen([sys.executable, "-m", "experiments.launching.queue_worker", path], cwd=ROOT) as copy:
        try:
            return copy.wait()
        except BaseException:
            copy.send_signal(signal.SIGTERM)
            raise


def carry(job: Job, path: Path) -> int:
    """Start the tasks and wait for them.

    Raises:
        UserError: Ray is not installed, or its cluster does not answer.
    """
    try:
        import ray  # an extra
    except ImportError:
        raise UserError("launcher=ray needs Ray: .venv/bin/uv pip install -c requirements.lock -e '.[ray]'") from None
    options = dict(job.options)
    per_task = {"num_cpus": options.pop("cpus_per_task", 1), "num_gpus": options.pop("gpus_per_task", 0)}
    started = start(ray, options, job)
    try:
        remote = ray.remote(max_retries=-1, **per_task)(task)
        waiting = [remote.remote(str(path)) for _ in range(min(copies(ray, job, per_task), len(job.runs)))]
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            ray.get(waiting)
        except KeyboardInterrupt:
            for each in waiting:
                ray.cancel(each)
            ray.wait(waiting, num_returns=len(waiting), timeout=25)
    finally:
        if started:
            ray.shutdown()
    return 0


def start(ray: Any, options: dict[str, Any], job: Job) -> bool:
    """Connect to the cluster that `address` (or RAY_ADDRESS) names, or start one on this machine."""
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    variables = {**job.environment, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    variables |= {FOLDER: os.environ[FOLDER]} if FOLDER in os.environ else {}
    try:
        ray.init(runtime_env={"env_vars": variables}, include_dashboard=False, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"Ray does not start: {' '.join(str(error).split())}") from None
    return True


def copies(ray: Any, job: Job, per_task: dict[str, float]) -> int:
    """How many tasks fit into the cluster at once."""
    if job.n_jobs > 0:
        return job.n_jobs
    found = ray.cluster_resources()
    rooms = [found.get("CPU", 1) / max(per_task["num_cpus"], 1e-9)]
    rooms += [found.get("GPU", 0) / per_task["num_gpus"]] if per_task["num_gpus"] else []
    return max(1, int(min(rooms)))


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Under its own name, or a worker could not find the function again.
    from experiments.launching import ray_cluster as named

    engine(named.carry)
