"""Many processes on one results folder: is a record lost, torn or written twice, or a run worked on by two?

    python benchmarks/concurrent_claims.py --processes 8 --minutes 5

Each process claims runs of one plan at random, beats, writes the record, and at times dies in the middle (and is
replaced). Runs are added as they are used up.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "tests" / "experiments")]

from toy import make_record, make_spec

from experiments.store.lease import birth
from experiments.store.store import Progress, Store

DEATH = 0.02
WIDTH = 40  # runs that are fought for at a time


def work(root: str, seed: int, until: float) -> None:
    """Claim, beat, write, at times die. Who works on a run says so in a file that only one may create."""
    rng, store, spec0 = random.Random(seed), Store(root), make_spec()
    while time.time() < until:
        front = sum(1 for _ in (store.root / "done").iterdir())
        spec = spec0.model_copy(update={"id": f"run{front + rng.randrange(WIDTH):06d}"})
        with store.claim(spec.id) as mine:
            if not mine or store.record(spec.id) is not None:
                continue
            inside = store.folder(spec.id) / "inside"
            inside.unlink(missing_ok=True) if not _alive(inside) else _shout(store, "two at once", spec.id)
            inside.write_text(str(os.getpid()))
            for step in range(rng.randrange(1, 4)):
                progress = Progress(phase="train", step=step, total=9, loss=1.0, time=time.time())
                store.beat(spec.id, progress)
                if rng.random() < DEATH:
                    os._exit(9)
            store.write_spec(spec)
            if not store.write_record(make_record(spec, rng.random())):
                _shout(store, "written twice", spec.id)
            inside.unlink()
            (store.root / "done" / spec.id).touch()
        if store.corrupt:
            _shout(store, "torn", "; ".join(store.corrupt))


def _alive(inside: Path) -> bool:
    try:
        return birth(int(inside.read_text())) is not None
    except (OSError, ValueError):
        return False


def _shout(store: Store, what: str, where: str) -> None:
    with open(store.root / "faults", "a") as file:
        file.write(f"{what}: {where}\n")


def crowd(processes: int, seconds: float, root: Path) -> tuple[int, int, list[str]]:
    """(records, deaths, faults) of so many processes for so long."""
    store = Store(root)
    (store.root / "done").mkdir()
    until, deaths, started = time.time() + seconds, 0, 0
    context = multiprocessing.get_context("fork")
    alive: list[multiprocessing.process.BaseProcess] = []
    while time.time() < until or alive:
        while time.time() < until and len(alive) < processes:
            started += 1
            alive.append(context.Process(target=work, args=(str(root), started, until)))
            alive[-1].start()
        time.sleep(0.05)
        deaths += sum(each.exitcode == 9 for each in alive)
        crashed = [each.exitcode for each in alive if each.exitcode not in (None, 0, 9)]
        if crashed:
            raise SystemExit(f"a process ended with {crashed[0]}")
        alive = [each for each in alive if each.exitcode is None]
    faults = (store.root / "faults").read_text().splitlines() if (store.root / "faults").exists() else []
    done = [path.name for path in (store.root / "done").iterdir()]
    faults += [f"lost: {run}" for run in done if store.record(run) is None]
    for run in store.ids():
        text = store.folder(run) / "record.json"
        if text.exists() and json.loads(text.read_bytes())["id"] != run:
            faults.append(f"mixed up: {run}")
    return len(done), deaths, faults + store.corrupt


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=5.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        records, deaths, faults = crowd(asked.processes, asked.minutes * 60, Path(folder))
    print(f"{asked.processes} processes, {asked.minutes:g} minutes: {records} records, {deaths} processes died at work")
    print("\n".join(faults[:20]) or "none lost, none torn, none written twice, no run worked on by two")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
