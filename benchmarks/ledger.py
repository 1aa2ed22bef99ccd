"""Seconds and memory of plan, status, verify and table over many synthetic records.

    python benchmarks/ledger.py --records 10000

Each verb runs in a process of its own; seconds are of that process's CPU, memory is its peak. The records have
`--items` items in each of three splits, as those of a small table have.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "tests" / "experiments")]

from toy import make_record, make_spec

from experiments.planning.plan import Plan
from experiments.planning.settings import TableSettings
from experiments.store import atomic_files as atomic
from experiments.store import seal
from experiments.store.store import Store

MODELS, TASKS = 10, 10


def fill(root: Path, records: int, items: int) -> Path:
    """A store with a plan of so many runs, each with a record; the plan file."""
    store, rng = Store(root), random.Random(0)
    seeds = records // (MODELS * TASKS)
    runs = []
    for model in range(MODELS):
        for task in range(TASKS):
            for seed in range(seeds):
                spec = make_spec(seed=seed, model=f"model{model}", task=f"task{task}", number=[model, task])
                spec = spec.model_copy(update={"id": f"{model:02d}{task:02d}{seed:012d}"})
                values = [float(rng.random() < 0.5) for _ in range(items)]
                mean = sum(values) / items
                splits = ("test/id", "test/ood_near", "test/ood_far")
                changes = {"items": {s: values for s in splits}, "metrics": {s: {"accuracy": mean} for s in splits}}
                record = make_record(spec, mean, **changes)
                path = store.folder(spec.id) / "record.json"
                path.parent.mkdir()
                path.write_bytes(seal.record_line(record))
                runs.append(spec)
    names = {"models": [f"model{m}" for m in range(MODELS)], "tasks": [f"task{t}" for t in range(TASKS)]}
    table = TableSettings(name="many", seeds=list(range(seeds)), budget="toy", **names)
    plan = Plan(table=table, code_fingerprint="code", runs=runs)
    name, line = plan.frozen()
    atomic.write_bytes(store.root / "plans" / name, line)
    return store.root / "plans" / name


def measured(*words: str) -> tuple[float, float, float]:
    """(wall seconds, CPU seconds, peak MiB) of a command."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise SystemExit(f"{words} ended with {status}")
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=128)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = fill(Path(folder), asked.records, asked.items)
        print(f"{asked.records} records, plan file {path.stat().st_size / 2**20:.0f} MiB")
        verbs = {
            "plan": ["experiments", "plan", f"plan={path}", "--no-measure"],
            "status": ["experiments", "status", f"plan={path}"],
            "table": ["experiments", "reproduce", f"plan={path}"],
            "verify": ["experiments", "verify", f"plan={path}"],
        }
        print("verb      wall s    CPU s  peak MiB")
        for verb, words in verbs.items():
            wall, cpu, peak = measured(*words)
            print(f"{verb:8}{wall:8.1f} {cpu:8.1f} {peak:9.0f}", flush=True)


if __name__ == "__main__":
    main()
