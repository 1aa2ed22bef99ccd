"""One run per GPU of this machine at a time: for each a queue worker that sees its GPU only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from experiments.errors import UserError
from experiments.launching.job import Job, engine


def gpus(job: Job) -> list[str]:
    """The GPUs to use: `launcher.options.gpus`, else those that CUDA_VISIBLE_DEVICES leaves, else all.

    Raises:
        UserError: there is none.
    """
    if chosen := job.options.get("gpus"):
        return [str(gpu) for gpu in chosen]
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        found = [word.strip() for word in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if word.strip()]
    else:
        import torch  # 2 s, and only where no variable tells

        found = [str(number) for number in range(torch.cuda.device_count())]
    if not found:
        raise UserError("launcher=local_gpus finds no GPU here; use launcher=joblib, or name them: launcher.gpus=[0,1]")
    return found


def carry(job: Job, path: Path) -> int:
    """Start a copy per GPU and wait for all."""
    found = gpus(job)
    copies = [
        subprocess.Popen(
            [sys.executable, "-m", "experiments.launching.queue_worker", str(path)],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": gpu},
        )
        for gpu in found[: job.n_jobs if job.n_jobs > 0 else len(found)]
    ]
    for copy in copies:
        copy.wait()
    return 0


if __name__ == "__main__":
    engine(carry)
