"""What one more short run of a sweep costs: the first one pays the imports, the others are forked from a warm worker.

    python benchmarks/startup.py --runs 20

CPU time of one worker over a sweep of one run and over one of `--runs`, each run a single training step on a toy, so
that its own work is next to nothing. What is left is start-up: fork, data, model, trainer, and the files of the run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "tests" / "experiments")]

from benchmarks.kills import sweep
from experiments.launching.job import Job
from experiments.launching.launch import ENVIRONMENT
from experiments.store import atomic_files as atomic


def worker_seconds(runs: int, folder: Path) -> float:
    """CPU seconds of a worker that does so many runs, its children included."""
    store, specs, _ = sweep(folder, runs, steps=1)
    (plan,) = (store.root / "plans").glob("*.json")
    ids = [spec.id for spec in specs]
    job = Job(plan=str(plan), runs=ids, deaths=1, n_jobs=1, environment=ENVIRONMENT, options={}, wait=True)
    atomic.write_text(folder / "job.json", job.model_dump_json())
    words = [sys.executable, "-m", "experiments.launching.queue_worker", str(folder / "job.json")]
    process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    if any(store.status(run) != "done" for run in ids):
        raise SystemExit("a run has not ended well")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one, many = (worker_seconds(runs, Path(folder) / str(runs)) for runs in (1, asked.runs))
    more = (many - one) / (asked.runs - 1)
    print(f"CPU time of a worker: {one:.2f} s for the first run, {more:.2f} s for each one more ({asked.runs} runs)")


if __name__ == "__main__":
    main()
