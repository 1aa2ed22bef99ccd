"""The store on disk: a folder per run.

    <results_dir>/runs/<id>/  spec.json  progress.json  metrics.jsonl  checkpoint.ckpt  deaths.jsonl  log
                              lease.N  refused  record.json

`record.json` is written last, at once and once: where it is, the run is over. `lease.N` is there while a process
works on the run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from experiments.errors import UserError
from experiments.store import atomic_files as atomic
from experiments.store import lease
from experiments.store.records import Record, RunSpec

State = Literal["planned", "running", "done", "failed", "stale"]

# The folder cannot take more: nobody's fault but the disk's, so no run fails for it.
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
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


class Store:
    """The runs under one results folder.

    Raises:
        UserError: the folder cannot be made or written.
    """

    def __init__(self, results_dir: str | Path, *, write: bool = True) -> None:
        """`write` False is for looking only: the folder may then be one that cannot be written."""
        self.root = Path(results_dir).expanduser().absolute()
        self.corrupt: list[str] = []
        self._write = write
        self._leases: dict[str, lease.Lease] = {}
        if write:
            self.require_space()

    def require_space(self) -> None:
        """Raise UserError unless the folder can be written."""
        probe = self.root / f".probe-{os.getpid()}"
        try:
            (self.root / "runs").mkdir(parents=True, exist_ok=True)
            try:
                probe.write_bytes(bytes(PROBE_BYTES))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"results folder {self.root} cannot be written ({error.strerror}); free it and give the same command "
                "again, which goes on from there, or choose another with results_dir=FOLDER"
            ) from None

    def folder(self, run: str) -> Path:
        """The folder of a run."""
        return self.root / "runs" / run

    def ids(self) -> list[str]:
        """All runs that have a folder."""
        folder = self.root / "runs"
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

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
            if not self._write:
                self.corrupt.append(f"corrupt record of run {run} ({reason})")
                return None
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

    def write_record(self, record: Record) -> bool:
        """Write the record and drop what only an unfinished run needs; False if the run has a record already.

        Raises:
            Lost: the lease of the run went to another process.
        """
        self._require_lease(record.id)
        folder = self.folder(record.id)
        text = record.sealed().model_dump_json(indent=1) + "\n"
        if not atomic.create_bytes(folder / "record.json", text.encode()):
            return False
        keep = bool(record.spec.config.get("trainer", {}).get("keep_checkpoint"))
        for path in [] if keep else folder.glob("checkpoint.ckpt*"):
            if ".corrupt-" not in path.name:
                path.unlink(missing_ok=True)
        return True

    def retire(self, run: str) -> None:
        """Set the record of a failed run aside, and the count of its deaths, so that it may run again."""
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
        """Put the spec beside what the run will write."""
        atomic.write_text(self.folder(spec.id) / "spec.json", spec.model_dump_json(indent=1) + "\n")

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
        """planned | running | done | failed | stale, cheaply: of a record only the head is read."""
        status = self.status(run)
        if status is not None:
            return "done" if status == "done" else "failed"
        held = lease.held(self.folder(run))
        if held is None:
            return "planned"
        return "running" if held.alive() else "stale"

    def status(self, run: str) -> str | None:
        """What the record says the run ended as; None = there is no record, or none that can be read."""
        try:
            with open(self.folder(run) / "record.json", "rb") as file:
                head = file.read(160)
                if found := HEAD.match(head):
                    return found[1].decode()
                return str(json.loads(head + file.read())["status"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

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


# The head of a record as it is written.
HEAD = re.compile(rb'\{\s*"schema_version": \d+,\s*"id": "[^"]*",\s*"status": "(done|failed|diverged)"')


def no_space(error: BaseException | None) -> OSError | None:
    """The full or read-only disk behind an error, if that is what it is."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else first["msg"]
    return str(error)
