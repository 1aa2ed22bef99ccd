"""The store on disk: a folder per run.

    <results_dir>/runs/<id>/  spec.json  progress.json  metrics.jsonl  checkpoint.ckpt  deaths.jsonl  log
                              lease.N  refused  record.json
    <results_dir>/archive/    the same runs packed (store/archive.py), read-only

`record.json` is written last, at once and once: where it is, the run is over. `lease.N` is there while a process
works on the run. A run's folder wins over the archive. Every record is checked against its hash whenever it is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from experiments.errors import UserError
from experiments.store import atomic_files as atomic
from experiments.store import lease, seal
from experiments.store.group_folder import join_group
from experiments.store.reader import Reader
from experiments.store.records import Record, RunSpec
from experiments.store.storage_errors import patiently
from experiments.store.temp_folder import provide_temp

State = Literal["planned", "running", "done", "failed", "stale"]

PROBE_BYTES = 1 << 16


class Lost(Exception):
    """Another process took the run over, because this one seemed dead; this one writes no more."""


class Progress(BaseModel):
    """The heartbeat of a run."""

    model_config = ConfigDict(extra="forbid")

    phase: str
    step: int
    total: int
    loss: float | None
    time: float


class Store(Reader):
    """The runs under one results folder.

    Raises:
        UserError: the folder cannot be made or written.
    """

    def __init__(self, results_dir: str | Path, *, write: bool = True) -> None:
        """`write` False is for looking only: the folder may then be one that cannot be written."""
        super().__init__(results_dir, write=write)
        self._leases: dict[str, lease.Lease] = {}
        if write:
            join_group(self.root)
            self.require_space()
            provide_temp(self.root)

    def require_space(self) -> None:
        """Raise UserError unless the folder can be written."""
        probe = self.root / f".probe-{os.getpid()}"
        try:
            (self.root / "runs").mkdir(parents=True, exist_ok=True)
            try:
                patiently(lambda: probe.write_bytes(bytes(PROBE_BYTES)))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"results folder {self.root} cannot be written ({error.strerror}); free it and give the same command "
                "again, which goes on from there, or choose another with results_dir=FOLDER"
            ) from None

    def write_record(self, record: Record) -> bool:
        """Write the record and drop what only an unfinished run needs; False if the run has a record already.

        Raises:
            Lost: the lease of the run went to another process.
        """
        self._require_lease(record.id)
        folder = self.folder(record.id)
        if not atomic.create_bytes(folder / "record.json", seal.record_line(record)):
            return False
        keep = bool(record.spec.config.get("trainer", {}).get("keep_checkpoint"))
        for path in [] if keep else folder.glob("checkpoint.ckpt*"):
            if ".corrupt-" not in path.name:
                path.unlink(missing_ok=True)
        return True

    def retire(self, run: str) -> None:
        """Set the record of a failed run aside, and the count of its deaths, so that it may run again.

        Of a run that only the archive has, the record is copied: what is retired beside a run wins over the archive.
        """
        if not (self.folder(run) / "record.json").exists() and (data := self.raw(run)) is not None:
            atomic.write_bytes(self.folder(run) / "record.json", data)
        for name in ("record.json", "deaths.jsonl"):
            path = self.folder(run) / name
            if path.exists():
                os.replace(path, path.with_name(f"{path.stem}.retired-{time.time_ns()}{path.suffix}"))

    def note_refusal(self, run: str, reason: str | None) -> None:
        """Keep why a run could not begin here; None: forget it."""
        path = self.folder(run) / "refused"
        if reason is None:
            path.unlink(missing_ok=True)
        else:
            atomic.write_text(path, reason)

    def refusal(self, run: str) -> str | None:
        """Why a run could not begin where it was tried last; None: nothing is known against it."""
        try:
            return (self.folder(run) / "refused").read_text()
        except OSError:
            return None

    # specs and progress

    def write_spec(self, spec: RunSpec) -> None:
        """Put the spec beside what the run will write, sealed under the run's name."""
        values = spec.model_dump(mode="json")
        line = seal.line_of(values, seal.seal_of(values, spec.id))
        atomic.write_bytes(self.folder(spec.id) / "spec.json", line)

    def beat(self, run: str, progress: Progress) -> None:
        """Write the progress. It may be lost in a power cut, so it is not synced.

        Raises:
            Lost: the lease of the run went to another process.
        """
        self._require_lease(run)
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
        """planned | running | done | failed | stale, cheaply: a record is checked, not parsed."""
        status = self.status(run)
        if status is not None:
            return "done" if status == "done" else "failed"
        held = lease.held(self.folder(run))
        if held is None:
            return "planned"
        return "running" if held.alive() else "stale"

    # leases and deaths

    def leased(self, run: str) -> bool:
        """True if a live process works on the run."""
        held = lease.held(self.folder(run))
        return held is not None and held.alive()

    @contextlib.contextmanager
    def claim(self, run: str, cause: str = "") -> Iterator[bool]:
        """Yield True if this process may work on the run; the lease ends with the block.

        Taking over from a dead process is noted in deaths.jsonl, with the `cause` if it is known.
        """
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        taken = lease.take(folder)
        if taken is None:
            yield False
            return
        self._leases[run] = taken
        try:
            if taken.took_over:
                self.note_death(run, cause)
            with taken.beating():
                yield True
        finally:
            del self._leases[run]
            taken.release()

    def _require_lease(self, run: str) -> None:
        mine = self._leases.get(run)
        if mine is not None and not mine.mine():
            raise Lost(f"run {run} was taken over by another process")

    def note_death(self, run: str, cause: str) -> None:
        """Add a line to deaths.jsonl: a process died while it worked on the run."""
        progress = self.progress(run)
        line = json.dumps({"step": progress.step if progress else 0, "cause": cause, "time": time.time()})
        with open(self.folder(run) / "deaths.jsonl", "a") as file:
            file.write(line + "\n")

    def deaths(self, run: str) -> tuple[int, str]:
        """How often a process died with the run since it last got further than before, and the last known cause."""
        try:
            lines = (self.folder(run) / "deaths.jsonl").read_text().splitlines()
        except OSError:
            return 0, ""
        count, furthest, cause = 0, -1, ""
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                found = json.loads(line)
                count = 1 if int(found["step"]) > furthest else count + 1
                furthest, cause = max(furthest, int(found["step"])), str(found["cause"]) or cause
        return count, cause
