"""Kills at random moments over a sweep of short runs: is every run finished once, none lost, none twice?

    python benchmarks/kills.py --kills 50 --runs 24 --disturb

A run at work gets SIGKILL, or a process of the launch (Hydra's, a worker), or the command itself, each kind as often;
a dead command is given again. `--disturb` adds, for each three kills, some seconds of a disk that is full or nearly so
(the results lie on a small one, which only this process and its children see) or of caches that cannot be written.
At the end the table must be that of the same sweep left alone, byte for byte.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
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
DISK = 64 << 20  # bytes
TROUBLES = ("full disk", "closed cache")
KINDS = ("run", "launch", "command")  # of what is killed
LEFT = (0, 4_096, 40_000, 150_000)  # bytes that a nearly full disk still takes


def sweep(root: Path, runs: int, steps: int) -> tuple[Store, list[RunSpec], list[str]]:
    """A store with the plan of a sweep, and the command that carries it out."""
    store = Store(root)
    specs = [make_spec(seed=seed, steps=steps, trainer=OFTEN) for seed in range(runs)]
    table = TableSettings(name="kills", models=["toy"], tasks=["chain"], seeds=list(range(runs)), budget="toy")
    plan = Plan(table=table, code_fingerprint="code", runs=specs)
    path = store.root / "plans" / plan.file_name
    atomic.write_text(path, plan.model_dump_json())
    words = [f"plan={path}", "launcher.n_jobs=2", "launcher.deaths=1000"]
    return store, specs, [sys.executable, "-m", "experiments", "reproduce", *words]


def start(command: list[str], cache: Path | None = None) -> subprocess.Popen[bytes]:
    """Give the command, with caches of its own below `cache`."""
    caches = {} if cache is None else {"XDG_CACHE_HOME": str(cache / "xdg"), "RESSFORMER_CACHE": str(cache / "own")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **caches}, **quiet)


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


def small_disk(root: Path) -> None:
    """Mount a disk of its own at `root`, which no other process but the children of this one can see.

    Raises:
        SystemExit: there is no right to do that here.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, private, of_all_below = 0x00020000, 1 << 18, 1 << 14
    root.mkdir(parents=True)
    words = (b"none", bytes(root), b"tmpfs", 0, f"size={DISK}".encode())
    if libc.unshare(new_mounts) or libc.mount(b"none", b"/", None, private | of_all_below, None) or libc.mount(*words):
        raise SystemExit(f"no right to mount a small disk: {os.strerror(ctypes.get_errno())}; leave out --disturb")


@contextlib.contextmanager
def full(root: Path, left: int) -> Iterator[None]:
    """Fill the disk of `root` but for about `left` bytes."""
    ballast = root / "ballast"
    try:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with contextlib.suppress(OSError):
            os.truncate(ballast, max(0, ballast.stat().st_size - left))
        yield
    finally:
        ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def closed(cache: Path) -> Iterator[None]:
    """Put a file where the caches were: nobody, root included, can read or write below it."""
    shutil.rmtree(cache, ignore_errors=True)
    cache.write_text("")
    try:
        yield
    finally:
        cache.unlink()
        cache.mkdir()


def trouble(store: Store, cache: Path, rng: random.Random) -> str:
    """Fill the disk for some seconds, or close the caches; which it was."""
    kind = rng.choice(TROUBLES)
    with full(store.root, rng.choice(LEFT)) if kind == "full disk" else closed(cache):
        time.sleep(rng.uniform(0.5, 4.0))
    return kind


def disturb(
    command: list[str], store: Store, specs: list[RunSpec], asked: argparse.Namespace, cache: Path | None = None
) -> Counter[str]:
    """Carry the sweep out under kills, spread over its time; who was killed. With a cache, in trouble, too."""
    whom: Counter[str] = Counter()
    rng, kills = random.Random(asked.seed), asked.kills
    process, end = start(command, cache), time.monotonic() + 60 * asked.minutes
    while time.monotonic() < end:
        if process.poll() is not None:
            if all(store.status(spec.id) for spec in specs):
                return whom
            process = start(command, cache)
        over = sum(store.status(spec.id) is not None for spec in specs)
        # Not all of them before the first run is over: up to so many by now.
        allowed = round(kills * (over + 1) / len(specs))
        time.sleep(rng.uniform(0.2, 2.0))
        if cache is not None and sum(whom[kind] for kind in TROUBLES) < round(kills * (over + 1) / len(specs) / 3):
            whom[trouble(store, cache, rng)] += 1
            continue
        if sum(whom[kind] for kind in KINDS) < min(allowed, kills) and process.poll() is None:
            kinds = targets(process.pid, store, specs)
            kind = rng.choice(sorted(kinds))
            target = rng.choice(kinds[kind])
            if birth(target):
                os.kill(target, signal.SIGKILL)
                whom[kind] += 1
    process.kill()
    over = sum(store.status(spec.id) is not None for spec in specs)
    raise SystemExit(f"not through after {asked.minutes} minutes: {over} of {len(specs)} runs over, {told(whom)}")


def told(whom: Counter[str]) -> str:
    """How many kills, and of what."""
    parts = ", ".join(f"{whom[kind]} {kind}" for kind in (*KINDS, *TROUBLES) if whom[kind])
    return f"{sum(whom[kind] for kind in KINDS)} kills ({parts})"


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


def trial(asked: argparse.Namespace, folder: Path) -> tuple[list[str], Counter[str], int]:
    """(faults, who was killed, deaths of runs) of a disturbed sweep against one left alone."""
    calm, _, calm_command = sweep(folder / "calm", asked.runs, asked.steps)
    if start(calm_command).wait():
        raise SystemExit("the sweep left alone has failed")
    cache = folder / "cache" if asked.disturb else None
    if cache is not None:
        cache.mkdir()
        small_disk(folder / "killed")
    store, specs, command = sweep(folder / "killed", asked.runs, asked.steps)
    whom = disturb(command, store, specs, asked, cache)
    start(command).wait()  # a kill may have hit the printing of the table
    found = faults(store, specs)
    tables = [(each.root / "exports" / "kills.csv").read_bytes() for each in (calm, store)]
    found += [] if tables[0] == tables[1] else ["the tables differ"]
    lines = [store.folder(spec.id) / "deaths.jsonl" for spec in specs]
    return found, whom, sum(path.read_text().count("\n") for path in lines if path.exists())


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("kills", 50), ("runs", 24), ("steps", 150), ("seed", 0), ("minutes", 60)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--disturb", action="store_true", help="full disks and closed caches between the kills")
    asked = parser.parse_args()
    begun = time.monotonic()
    # Workers of a command that was killed may still be on their way out.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found, whom, deaths = trial(asked, Path(folder))
    print(f"{told(whom)}, {deaths} runs died, {time.monotonic() - begun:.0f} s")
    print("\n".join(found) or f"every one of {asked.runs} runs finished once; the table is the same, byte for byte")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
