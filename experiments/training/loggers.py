"""Mirrors of metrics.jsonl: nothing, CSV, TensorBoard or W&B. No failure of a mirror harms the run.

A mirror reads metrics.jsonl, which a resumed run rewinds to its checkpoint; so it shows every step once, however
often the run was interrupted. TensorBoard and W&B online follow the run as it goes; CSV and W&B offline are
written at its end (W&B's offline file loses its last 32 KiB when the process is killed, and cannot be resumed).
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.planning.settings import LoggerSettings
from experiments.store import atomic_files as atomic
from experiments.store.records import Record, RunSpec
from experiments.store.wandb_session import close_wandb, open_wandb, prepare_wandb, under_agent, wandb_mode

SINGLE = "single-runs"  # the group of runs that belong to no table and no sweep


class Mirror:
    """Does nothing; the base of the others."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Show metrics of a step."""

    def rewind(self, step: int) -> None:
        """Forget the steps after `step`: they come again."""

    def finish(self, record: Record | None) -> None:
        """End of this attempt; with the record if the run is over."""


class CsvMirror(Mirror):
    """Turns metrics.jsonl into metrics.csv at the end: one row per line, the union of all keys as columns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def finish(self, record: Record | None) -> None:
        rows = list(read_log(self._folder / "metrics.jsonl"))
        columns = list(dict.fromkeys(key for row in rows for key in row))
        target = self._folder / "metrics.csv"
        tmp = target.with_name(".metrics.csv.tmp")
        with open(tmp, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(tmp, target)


class TensorBoardMirror(Mirror):
    """Event files in tensorboard/GROUP/NAME of the results folder; a resumed run purges what it does again."""

    def __init__(self, spec: RunSpec, settings: LoggerSettings, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # 1 s, and tensorboard is an extra

        writer: Any = SummaryWriter
        target = str(tensorboard_folder(folder.parent.parent, spec, settings))
        self._open: Callable[[int | None], Any] = lambda purge: writer(target, purge_step=purge)
        self._writer: Any = None

    def rewind(self, step: int) -> None:
        self._writer = self._open(step + 1)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._writer = self._writer or self._open(None)
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, step)

    def finish(self, record: Record | None) -> None:
        if self._writer is not None:
            for key, value in summary_of(record).items() if record is not None else ():
                if isinstance(value, float):
                    self._writer.add_scalar(f"summary/{key}", value, record.steps_done if record else 0)
            self._writer.close()


class WandbMirror(Mirror):
    """W&B: offline and at the end, unless WANDB_MODE=online is set (without a network, online waits 100 s)."""

    def __init__(self, spec: RunSpec, settings: LoggerSettings, folder: Path) -> None:
        self._spec, self._settings, self._folder = spec, settings, folder
        self._online = wandb_mode() == "online"
        prepare_wandb(folder.parent.parent)
        import wandb  # noqa: F401  0.9 s; a missing package shows before the run, not after it

        self._run: Any = self._init() if self._online else None

    def _init(self) -> Any:
        spec = self._spec
        return open_wandb(
            self._settings.project,
            self._folder,
            group=self._settings.group,
            job_type=spec.model,
            id=None if under_agent() else spec.id,  # an agent gives its runs ids of its own
            name=run_name(spec),
            tags=[_tag(spec.model), _tag(spec.task), _tag(spec.budget.name)],
            config={**spec.config, "sizes": spec.sizes, "steps": spec.steps, "id": spec.id},
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if self._run is not None:
            self._run.log(dict(metrics), step=step)

    def finish(self, record: Record | None) -> None:
        if record is None and self._run is None:
            return
        if self._run is None:
            self._run = self._init()
            for row in read_log(self._folder / "metrics.jsonl"):
                self._run.log({key: value for key, value in row.items() if key != "step"}, step=int(row["step"]))
        if record is not None:
            self._run.summary.update(summary_of(record))
        close_wandb(self._run, record is not None and record.status == "done")


def run_name(spec: RunSpec) -> str:
    """What W&B and TensorBoard call a run: `chain-ressformer-0-r1a2b3`."""
    return f"{spec.task}-{spec.model}-{spec.seed}-{spec.id[:6]}"


def tensorboard_folder(root: Path, spec: RunSpec, settings: LoggerSettings) -> Path:
    """A folder for each table or sweep, and in it one for each run; TensorBoard is shown the first."""
    return root / "tensorboard" / file_name(settings.group or SINGLE) / file_name(run_name(spec))


def file_name(text: str) -> str:
    """The text as the name of one file: labels may have slashes and blanks."""
    return re.sub(r"[^\w.+=-]", "_", text).lstrip(".") or "_"


def show_again(spec: RunSpec, store_folder: Path, record: Record | None) -> None:
    """Give an agent of a W&B sweep, which waits for the figures of its own run, those of a run that is over already."""
    settings = LoggerSettings.model_validate(spec.config.get("logger", {}))
    if record is None or settings.kind != "wandb" or not under_agent():
        return
    mirror = mirror_for(spec, store_folder)
    for row in read_log(store_folder / "metrics.jsonl"):
        mirror.log({key: value for key, value in row.items() if key != "step"}, int(row["step"]))
    mirror.finish(record)


def summary_of(record: Record) -> dict[str, Any]:
    """The record as W&B's summary: flat, without the items and the spec, which the config has."""
    found: dict[str, Any] = {"status": record.status, "steps_done": record.steps_done}
    found |= {"selected_step": record.selected_step, "result_hash": record.sealed().result_hash}
    found |= {f"selection/{key}": value for key, value in record.selection.items()}
    found |= {f"{split}/{key}": value for split, means in record.metrics.items() for key, value in means.items()}
    for name, part in (("cost", record.spec.cost), ("measured", record.measured), ("provenance", record.provenance)):
        found |= {f"{name}/{key}": value for key, value in part.model_dump(mode="json").items()}
    found["budget/on_budget"] = record.spec.budget.on_budget
    if record.error is not None:
        found["error"] = f"{record.error.type}: {record.error.message}"
    return {key: value for key, value in found.items() if value is not None}


def _tag(text: str) -> str:
    """W&B takes tags of 1 to 64 characters."""
    return text[:64] or "-"


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    for line in path.read_text().splitlines() if path.exists() else ():
        yield json.loads(line)


class Safe(Mirror):
    """Guards another mirror: its first error is said once and ends it."""

    def __init__(self, kind: str, inner: Mirror | None) -> None:
        self._kind, self._inner = kind, inner

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if self._inner is not None:
            try:
                self._inner.log(metrics, step)
            except Exception as error:
                self._off(error)

    def rewind(self, step: int) -> None:
        if self._inner is not None:
            try:
                self._inner.rewind(step)
            except Exception as error:
                self._off(error)

    def finish(self, record: Record | None) -> None:
        if self._inner is not None:
            try:
                self._inner.finish(record)
            except Exception as error:
                self._off(error)

    def _off(self, error: Exception) -> None:
        print(f"logger={self._kind} is off: {type(error).__name__}: {error}; the run goes on", flush=True)
        self._inner = None


def _open(settings: LoggerSettings, spec: RunSpec, folder: Path) -> Mirror:
    if settings.kind == "csv":
        return CsvMirror(folder)
    if settings.kind == "tensorboard":
        return TensorBoardMirror(spec, settings, folder)
    return WandbMirror(spec, settings, folder)


def mirror_for(spec: RunSpec, folder: Path) -> Mirror:
    """The mirror that the run's logger section asks for."""
    settings = LoggerSettings.model_validate(spec.config.get("logger", {}))
    guarded = Safe(settings.kind, None)
    if settings.kind == "none" or (settings.kind == "wandb" and wandb_mode() == "disabled"):
        return guarded
    try:
        inner = _open(settings, spec, folder)
    except (Exception, SystemExit) as error:
        guarded._off(error if isinstance(error, Exception) else RuntimeError(str(error)))
        return guarded
    return Safe(settings.kind, inner)


class MetricsLog:
    """metrics.jsonl: one line per logged step, flushed; the run's own account, which the mirror copies."""

    def __init__(self, path: Path | None, mirror: Mirror) -> None:
        """`path` None is the log of a rank that logs nothing."""
        self._path, self._mirror = path, mirror
        self._size, self._hash = 0, hashlib.sha256()

    def rewind(self, step: int, size: int = 0) -> None:
        """Keep the first `size` bytes, those of the steps up to `step`: a resumed run writes the others again."""
        if self._path is not None:
            kept = self._path.read_bytes()[:size] if self._path.exists() else b""
            self._size, self._hash = len(kept), hashlib.sha256(kept)
            if self._path.exists():
                atomic.write_bytes(self._path, kept)
        self._mirror.rewind(step)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Append a line and hand it to the mirror."""
        if self._path is None:
            return
        line = json.dumps({"step": step, **metrics}).encode() + b"\n"
        with open(self._path, "ab") as file:
            file.write(line)
        self._size += len(line)
        self._hash.update(line)
        self._mirror.log(metrics, step)

    def state(self) -> dict[str, Any]:
        """How much this log has, and its sha256: what a checkpoint keeps of it."""
        return {"bytes": self._size, "sha256": self._hash.hexdigest()}

    @property
    def hash(self) -> str:
        """What the record seals: the head of the sha256; empty if nothing was logged."""
        return self._hash.hexdigest()[:16] if self._size else ""
