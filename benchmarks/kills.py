"""Kills at random moments over a sweep of short runs: is every run finished once, none lost, none twice?

    python benchmarks/kills.py --kills 50 --runs 24

A run at work gets SIGKILL, or a process of the launch (Hydra's, a worker), or the command itself, each kind as often;
a dead command is given again. At the end the table must be that of the same sweep left alone, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "tests" / "experiments")]

from toy import make_spec

from experiments.planning.plan import Plan
from experiments.planning.settings import TableSettings
from experiments.store import atomic_files as atomic
from experiments.store import lease
from experiments.store.lease import birth
from experiments.store.records import RunSpec
from experiments.store.store import Store

OFTEN = {"val_every": 100, "checkpoint_every_steps": 25, "log_every": 10}
SECONDS = 1800.0


def sweep(root: Path, runs: int, steps: int) -> tuple[Store, list[RunSpec], list[str]]:
    """A store with the plan of a sweep, and the command that carries it out."""
    store = Store(root)
    specs = [make_spec(seed=seed, steps=steps, trainer=OFTEN) for seed in range(runs)]
    table = TableSettings(name="kills", models=["toy"], tasks=["chain"], seeds=list(range(runs)), budget="toy")
    plan = Plan(table=table, code_fingerprint="code", runs=specs)
    path = store.root / "plans" / plan.file_name
    atomic.write_text(path, plan.model_dump_json())
    words = [f"plan={path}", "launcher.n_jobs=2", "launcher.deaths=1000"]
    return store, specs, [sys.executable, "-m", "experiments.commands.ledger", "run", *words]


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Give the command."""
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def targets(command: int, store: Store, specs: list[RunSpec]) -> dict[str, list[int]]:
    """The processes that may be killed, by kind."""
    held = [lease.held(store.folder(spec.id)) for spec in specs if store.state(spec.id) == "running"]
    runs = [int(each.says["pid"]) for each in held if each is not None and each.alive()]
    launch = [pid for pid in family(command) if pid != command and pid not in runs]
    return {kind: found for kind, found in (("run", runs), ("launch", launch), ("command", [command])) if found}


def disturb(command: list[str], store: Store, specs: list[RunSpec], kills: int, rng: random.Random) -> Counter[str]:
    """Carry the sweep out under kills, spread over its time; who was killed."""
    whom: Counter[str] = Counter()
    process, end = start(command), time.monotonic() + SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            if all(store.status(spec.id) for spec in specs):
                return whom
            process = start(command)
        over = sum(store.status(spec.id) is not None for spec in specs)
        # Not all of them before the first run is over: up to so many by now.
        allowed = round(kills * (over + 1) / len(specs))
        time.sleep(rng.uniform(0.2, 2.0))
        if sum(whom.values()) < min(allowed, kills) and process.poll() is None:
            kinds = targets(process.pid, store, specs)
            kind = rng.choice(sorted(kinds))
            target = rng.choice(kinds[kind])
            if birth(target):
                os.kill(target, signal.SIGKILL)
                whom[kind] += 1
    process.kill()
    raise SystemExit(f"not through after {SECONDS:.0f} s; {kills} kills wanted, {sum(whom.values())} made")


def faults(store: Store, specs: list[RunSpec]) -> list[str]:
    """Runs that are lost, or in which a step was done twice."""
    found = []
    for spec in specs:
        record = store.record(spec.id)
        if record is None or record.status != "done":
            found.append(f"{spec.id} lost: {record and record.error}")
        lines = (store.folder(spec.id) / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines if "train/loss" in line]
        if steps != list(range(10, spec.steps + 1, 10)):
            found.append(f"{spec.id}: steps logged {steps}")
        if len(list(store.folder(spec.id).glob("record*"))) != 1:
            found.append(f"{spec.id}: more than one record")
    return found + store.corrupt


def trial(kills: int, runs: int, steps: int, seed: int, folder: Path) -> tuple[list[str], Counter[str], int]:
    """(faults, who was killed, deaths of runs) of a disturbed sweep against one left alone."""
    calm, _, calm_command = sweep(folder / "calm", runs, steps)
    if start(calm_command).wait():
        raise SystemExit("the sweep left alone has failed")
    store, specs, command = sweep(folder / "killed", runs, steps)
    whom = disturb(command, store, specs, kills, random.Random(seed))
    start(command).wait()  # a kill may have hit the printing of the table
    found = faults(store, specs)
    tables = [(each.root / "exports" / "kills.csv").read_bytes() for each in (calm, store)]
    found += [] if tables[0] == tables[1] else ["the tables differ"]
    lines = [store.folder(spec.id) / "deaths.jsonl" for spec in specs]
    return found, whom, sum(path.read_text().count("\n") for path in lines if path.exists())


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("kills", 50), ("runs", 24), ("steps", 150), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    begun = time.monotonic()
    # Workers of a command that was killed may still be on their way out.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found, whom, deaths = trial(asked.kills, asked.runs, asked.steps, asked.seed, Path(folder))
    print(f"{sum(whom.values())} kills ({dict(whom)}), {deaths} runs died, {time.monotonic() - begun:.0f} s")
    print("\n".join(found) or f"every one of {asked.runs} runs finished once; the table is the same, byte for byte")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
