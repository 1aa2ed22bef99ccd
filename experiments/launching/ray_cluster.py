"""Ray: tasks that each take runs until none is free. A task whose worker dies is started again by Ray.

A task starts a queue worker as a process of its own: a Ray worker has threads, and cannot be forked safely.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.launching.job import Job, engine
from experiments.start import FOLDER
from experiments.store.provenance import ROOT

KNOCKS = 4  # at the door of a cluster, a second apart
JOIN_SECONDS, START_SECONDS = 120.0, 300.0
REMEDY = "start it (ray start --head), or have one started here: RAY_ADDRESS=local, or remove that address"


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
    address, origin = address_to_join(options)
    if address is not None:
        require_answer(address, origin)
    where = f"the Ray cluster at {address} ({origin}) lets nobody in" if address else "Ray does not start here"
    try:
        with at_most(START_SECONDS if address is None else JOIN_SECONDS, f"{where}; {REMEDY}"):
            ray.init(runtime_env={"env_vars": variables}, include_dashboard=False, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"Ray does not start: {' '.join(str(error).split())}") from None
    return True


def address_to_join(options: dict[str, Any]) -> tuple[str | None, str]:
    """HOST:PORT of the cluster that Ray will join, and who names it; None: it starts one here.

    Ray goes by RAY_ADDRESS, then by `address`, then by the file in which the last `ray start` left its address.
    """
    named = os.environ.get("RAY_ADDRESS", "")
    origin = "RAY_ADDRESS" if named else "launcher.options.address"
    named = named or str(options.get("address") or "")
    if named in ("", "auto"):
        file = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"
        named, origin = "", f"a cluster of before left it in {file}"
        with contextlib.suppress(OSError):
            named = file.read_text().strip()
    return (named if named not in ("", "local") else None), origin


def require_answer(address: str, origin: str) -> None:
    """Knock at the cluster's door, for KNOCKS seconds or so.

    Raises:
        UserError: the address makes no sense, or nobody answers there.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"{address} ({origin}) is no address of a Ray cluster: write HOST:PORT, auto or local")
    why = ""
    for _ in range(KNOCKS):
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
            return
        except (OSError, OverflowError) as error:
            why = str(error)
            time.sleep(1)
    raise UserError(f"no Ray cluster answers at {address} ({origin}): {why}; {REMEDY}")


@contextlib.contextmanager
def at_most(seconds: float, complaint: str) -> Iterator[None]:
    """End this process with one line if the block takes longer: Ray itself goes on trying for many minutes."""

    def give_up() -> None:
        print(f"error: {complaint} ({seconds:.0f} s)", file=sys.stderr, flush=True)
        os._exit(2)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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
