"""Drops what no run needs any more. Records, set-aside files and what a live process works on always stay."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from experiments.errors import UserError
from experiments.planning.plan import load_plan, plan_files
from experiments.store import lease
from experiments.store.store import Store

OLD_SECONDS = 3600.0


def prune(store: Store, *, do: bool, orphans: bool) -> int:
    """Print what would go and how much it is; `do` removes it. `orphans`: also runs that no plan has."""
    total = 0
    for path, why in candidates(store, orphans):
        size = _size(path)
        total += size
        print(f"{size / 2**20:8.1f} MiB  {path.relative_to(store.root)}  ({why})")
        if do and path.is_dir():
            shutil.rmtree(path)
        elif do:
            path.unlink(missing_ok=True)
    if do:
        print(f"{total / 2**20:.1f} MiB removed")
    else:
        print(f"{total / 2**20:.1f} MiB could go; --yes removes it")
    return 0


def candidates(store: Store, orphans: bool) -> Iterator[tuple[Path, str]]:
    """What may go, with the reason."""
    planned = _planned(store) if orphans else set()
    for run in store.ids():
        folder = store.folder(run)
        if store.leased(run):
            continue
        over = store.status(run) is not None
        if orphans and run not in planned:
            yield folder, "no plan has this run"
            continue
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") and path.name.endswith(".tmp"):
                yield path, "half-written by a process that is gone"
            elif over and path.name.startswith("lease."):
                yield path, "the lease of a run that is over"
            elif over and path.name in ("checkpoint.ckpt", "checkpoint.ckpt.previous") and not _kept(store, run):
                yield path, "the checkpoint of a run that is over"
    yield from _launches(store)


def _planned(store: Store) -> set[str]:
    found: set[str] = set()
    for path in plan_files(store.root / "plans"):
        try:
            found |= {spec.id for spec in load_plan(path).runs}
        except UserError as error:
            raise UserError(f"{error}; while a plan cannot be read, nobody can say which runs it has") from None
    return found


def _kept(store: Store, run: str) -> bool:
    record = store.record(run)
    return record is None or bool(record.spec.config.get("trainer", {}).get("keep_checkpoint"))


def _launches(store: Store) -> Iterator[tuple[Path, str]]:
    """Folders of launches whose process is gone (its id ends the name) and that are an hour old."""
    for path in sorted((store.root / "launches").glob("*")):
        pid = path.name.rpartition("-")[2]
        alive = pid.isdigit() and lease.birth(int(pid)) is not None
        if path.is_dir() and not alive and time.time() - path.stat().st_mtime > OLD_SECONDS:
            yield path, "the log of a launch that is over"


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)
