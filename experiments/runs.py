"""Identity of a run, and the store on disk.

    <results_dir>/runs/<id>/  spec.json  progress.json  metrics.jsonl  checkpoint.ckpt  log  record.json

`record.json` is written last and at once: where it is, the run is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from experiments import atomic, lease
from experiments.errors import UserError
from experiments.records import Record, RunSpec

State = Literal["planned", "running", "done", "failed", "stale"]

# Keys that change where or how often something is written, never a number.
COSMETIC = frozenset({"results_dir", "logger", "launcher", "name", "table", "hydra", "allow_targets"})
COSMETIC_TRAINER = frozenset(
    {"threads", "checkpoint_every_s", "checkpoint_every_steps", "log_every", "keep_checkpoint"}
)


def identity(config: dict[str, Any], sizes: dict[str, Any], steps: int, data: str, seed: int) -> str:
    """Sixteen hex digits that name a run: config less cosmetic keys, solved sizes and steps, data, seed.

    The model is named by its sizes, every dial of them; the task by its class, its batch and `data`, the fingerprint
    of its whole specification and items. So a dial spelled out at its default names the same run.
    """
    kept = {key: value for key, value in config.items() if key not in COSMETIC and key != "model"}
    kept["task"] = {key: config["task"].get(key) for key in ("_target_", "batch_size")}
    trainer = kept.get("trainer", {})
    kept["trainer"] = {key: value for key, value in trainer.items() if key not in COSMETIC_TRAINER}
    return atomic.digest({"config": kept, "sizes": sizes, "steps": steps, "data": data, "seed": seed})


class Progress(BaseModel):
    """The heartbeat of a run."""

    model_config = ConfigDict(extra="forbid")

    phase: str
    step: int
    total: int
    loss: float | None
    time: float


class Store:
    """The runs under one results folder.

    Raises:
        UserError: the folder cannot be made or written.
    """

    def __init__(self, results_dir: str | Path) -> None:
        self.root = Path(results_dir).expanduser().absolute()
        self.corrupt: list[str] = []
        probe = self.root / f".probe-{os.getpid()}"
        try:
            (self.root / "runs").mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"results folder {results_dir} cannot be written ({error.strerror}); "
                "choose another with results_dir=FOLDER"
            ) from None

    def folder(self, run: str) -> Path:
        """The folder of a run."""
        return self.root / "runs" / run

    def ids(self) -> list[str]:
        """All runs that have a folder."""
        return sorted(path.name for path in (self.root / "runs").iterdir() if path.is_dir())

    # records

    def record(self, run: str) -> Record | None:
        """The record of a run or None; a corrupt one is set aside and named in `self.corrupt`."""
        path = self.folder(run) / "record.json"
        try:
            found = Record.model_validate_json(path.read_bytes())
            if found.id != run:
                raise ValueError(f"it is the record of {found.id}")
        except FileNotFoundError:
            return None
        except (ValidationError, ValueError) as error:
            reason = _reason(error)
            aside = atomic.set_aside(path)
            self.corrupt.append(
                f"corrupt record of run {run} ({reason}); set aside as {aside.name}, nothing is lost: "
                "the same command again redoes the run"
            )
            return None
        return found

    def records(self, runs: Iterable[str]) -> dict[str, Record]:
        """The records there are, by run."""
        found = ((run, self.record(run)) for run in runs)
        return {run: record for run, record in found if record is not None}

    def require_sound(self) -> None:
        """Raise UserError if a corrupt record was met."""
        if self.corrupt:
            raise UserError("; ".join(self.corrupt))

    def write_record(self, record: Record) -> None:
        """Write the record and drop what only an unfinished run needs."""
        folder = self.folder(record.id)
        atomic.write_text(folder / "record.json", record.model_dump_json(indent=1) + "\n")
        keep = bool(record.spec.config.get("trainer", {}).get("keep_checkpoint"))
        for path in [] if keep else folder.glob("checkpoint.ckpt*"):
            if ".corrupt-" not in path.name:
                path.unlink(missing_ok=True)

    def retire(self, run: str) -> None:
        """Set the record of a failed run aside, so that it may run again."""
        path = self.folder(run) / "record.json"
        if path.exists():
            os.replace(path, path.with_name(f"record.retired-{time.time_ns()}.json"))

    # specs and progress

    def write_spec(self, spec: RunSpec) -> None:
        """Put the spec beside what the run will write."""
        atomic.write_text(self.folder(spec.id) / "spec.json", spec.model_dump_json(indent=1) + "\n")

    def beat(self, run: str, progress: Progress) -> None:
        """Write the heartbeat. It may be lost in a power cut, so it is not synced."""
        path = self.folder(run) / "progress.json"
        tmp = path.with_name(f".progress.{os.getpid()}.tmp")
        tmp.write_text(progress.model_dump_json())
        os.replace(tmp, path)

    def progress(self, run: str) -> Progress | None:
        """The last heartbeat."""
        try:
            return Progress.model_validate_json((self.folder(run) / "progress.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def state(self, run: str) -> State:
        """planned | running | done | failed | stale, cheaply: a record's content is not checked."""
        folder = self.folder(run)
        try:
            text = (folder / "record.json").read_bytes()
        except OSError:
            text = b""
        if text:
            with contextlib.suppress(ValueError, AttributeError):
                return "done" if json.loads(text).get("status") == "done" else "failed"
        if not (folder / "lease").exists():
            return "planned"
        return "running" if self.leased(run) else "stale"

    # leases

    def leased(self, run: str) -> bool:
        """True if a live process works on the run."""
        return lease.alive(self.folder(run) / "lease", self.folder(run) / "progress.json")

    @contextlib.contextmanager
    def claim(self, run: str) -> Iterator[bool]:
        """Yield True if this process may work on the run; the lease ends with the block."""
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        mine = lease.take(folder / "lease", folder / "progress.json", self.root / "runs" / ".lock")
        try:
            yield mine
        finally:
            if mine:
                lease.release(folder / "lease")


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else first["msg"]
    return str(error)
