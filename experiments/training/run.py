"""One run, from spec to record.

`execute` is what every launcher calls. Running a finished run again does nothing; a killed one goes on from its
checkpoint and ends in the same record, bit for bit on a CPU, wall-clock figures aside.
"""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from experiments.planning.settings import TrainerSettings
from experiments.planning.task_data import CannotBegin
from experiments.store import blocks
from experiments.store.provenance import ROOT, provenance
from experiments.store.records import ErrorInfo, Measured, Record, RunSpec, Status
from experiments.store.storage_errors import in_words, kind_of, storage_error
from experiments.store.store import Lost, Progress, Store
from experiments.training.context import Diverged, Effort, TrainingEnded
from experiments.training.loggers import Mirror, mirror_for
from experiments.training.signals import Interrupted, StopFlag, stop_flag

if TYPE_CHECKING:
    from experiments.training.evaluate import Outcome

# blocked: the storage takes no more, the user has to mend it; unsteady: it failed, and may be back in a moment.
End = Literal["done", "failed", "diverged", "busy", "interrupted", "blocked", "unsteady", "refused"]
DEATHS = 3  # of a run's process without progress, until the run fails


def execute(spec: RunSpec, store: Store, stop: StopFlag | None = None, deaths: int = DEATHS) -> End:
    """Run `spec` unless it has a record or another process works on it; write its record.

    Errors of the run become its record (failed, diverged). An interruption and an error of the storage (a full disk, a
    server that does not answer, a missing right) leave a checkpoint and no record. A run whose data are others than
    planned is refused and stays planned; the store keeps the reason. A run whose processes died `deaths` times without
    getting further fails.
    """
    try:
        with store.claim(spec.id) as mine:
            if not mine:
                return "busy"
            known = store.record(spec.id)
            if known is not None:
                return known.status
            return fail_if_dead(spec, store, deaths) or _attempt(spec, store, stop)
    except OSError as error:
        return blocked(spec, store, error)


def fail_if_dead(spec: RunSpec, store: Store, deaths: int) -> End | None:
    """Record the run as failed if its processes died as often as they may (the lease is held)."""
    count, cause = store.deaths(spec.id)
    if count < deaths:
        return None
    store.write_spec(spec)
    run = Run(spec, store, StopFlag())
    text = f"the process of the run died {count} times without getting further: {cause or 'with its launcher'}"
    store.write_record(run.ended("failed", ErrorInfo(type="ProcessDied", message=text, traceback="")))
    return "failed"


def _attempt(spec: RunSpec, store: Store, stop: StopFlag | None) -> End:
    """One attempt under the lease."""
    store.write_spec(spec)
    store.note_refusal(spec.id, None)
    record: Record | None = None
    with contextlib.nullcontext(stop) if stop is not None else stop_flag() as flag:
        run = Run(spec, store, flag)
        try:
            record = _outcome(run)
            store.write_record(record)
        except Interrupted as interruption:
            print(f"run {spec.id} {interruption}; the same command again goes on from there", flush=True)
            return "interrupted"
        except CannotBegin as reason:
            store.note_refusal(spec.id, str(reason))
            print(f"run {spec.id} is refused: {reason}", flush=True)
            return "refused"
        except Lost as lost:
            print(f"{lost}; this one stops", flush=True)
            return "busy"
        finally:
            run.mirror_finish(record)
    return record.status


def _outcome(run: Run) -> Record:
    """The record of the run, whatever it ended with.

    Raises:
        Interrupted, Lost, CannotBegin, OSError: told to stop; taken over; other data than planned; no storage.
    """
    try:
        return run.go()
    except Exception as error:
        cause = error.cause if isinstance(error, TrainingEnded) else error
        if isinstance(cause, (Interrupted, Lost, CannotBegin)):
            raise cause from None
        if (storage := storage_error(cause)) is not None:
            raise storage from None
        return run.failure(cause)


def blocked(spec: RunSpec, store: Store, error: OSError) -> End:
    """The end of a run whose storage takes no more, or fails for a moment; the note of it is in blocked/.

    Raises:
        OSError: `error`, if the storage is not to blame.
    """
    storage = storage_error(error)
    if storage is None:
        raise error
    blocks.note(store.root, spec.id, storage)
    with contextlib.suppress(OSError):  # the log may be on the same disk
        print(f"run {spec.id} stopped: {in_words(storage)}", flush=True)
    return "unsteady" if kind_of(storage) == "transient" else "blocked"


class Run:
    """The state of one execution."""

    def __init__(self, spec: RunSpec, store: Store, stop: StopFlag) -> None:
        self.spec, self.store, self.stop = spec, store, stop
        self.settings = TrainerSettings.model_validate(spec.config["trainer"])
        self.folder = store.folder(spec.id)
        self.begun = time.perf_counter()
        self.started = self._first_start()
        self.effort = Effort()
        # Taken at the start: sources may be edited while the run goes on.
        self.provenance = provenance(threads=self.settings.threads, accelerator="cpu")
        self.peak: float | None = None
        self.loss: float | None = None
        self._mirror: Mirror | None = None
        self._beaten = 0.0

    def go(self) -> Record:
        """Train, select, evaluate.

        Raises:
            Interrupted: told to stop.
            Exception: whatever the task, the model or the training raised.
        """
        from experiments.training.depth_points import depth_points  # these load lightning: 4 s
        from experiments.training.fit import fit
        from experiments.training.graph_sample import keep_graph

        try:
            fitted = fit(self)
        except TrainingEnded as ended:
            self.effort = ended.effort
            raise
        self.effort = fitted.effort
        outcomes = fitted.evaluate.all(fitted.module, fitted.splits)
        scores = fitted.evaluate.validation(fitted.module)
        self.peak = fitted.peak()
        keep_graph(fitted, self.folder)
        record = self._record("done", outcomes, fitted.selected_step, fitted.selection)
        depths = depth_points(fitted, self.spec, self.settings.eval_depths)
        return record.model_copy(update={"depths": depths, "validation": scores})

    def failure(self, error: Exception) -> Record:
        """The record of a run that ended with `error`."""
        diverged = isinstance(error, Diverged)
        info = ErrorInfo(
            type=type(error).__name__,
            message=scrub(" ".join(str(error).split()) or type(error).__name__),
            traceback="" if diverged else scrub("".join(traceback.format_exception(error))),
        )
        print(
            f"run {self.spec.id} ({self.spec.model}, {self.spec.task}): {info.type}: {info.message}",
            flush=True,
        )
        return self.ended("diverged" if diverged else "failed", info)

    def ended(self, status: Status, info: ErrorInfo) -> Record:
        """The record of a run without a result."""
        return self._record(status, {}, None, {}, info)

    def beat(self, phase: str, step: int, loss: float | None) -> None:
        """Write the heartbeat, about once a second."""
        self.loss = loss if loss is not None else self.loss
        now = time.monotonic()
        if now - self._beaten >= 1.0 or step in (0, self.spec.steps):
            self._beaten = now
            progress = Progress(phase=phase, step=step, total=self.spec.steps, loss=self.loss, time=time.time())
            self.store.beat(self.spec.id, progress)

    def mirror(self) -> Mirror:
        """The mirror of the metrics; opened at first use."""
        if self._mirror is None:
            self._mirror = mirror_for(self.spec, self.folder)
        return self._mirror

    def mirror_finish(self, record: Record | None) -> None:
        """Close the mirror, with the record if the run is over."""
        if self._mirror is not None:
            self._mirror.finish(record)

    def _record(
        self,
        status: Status,
        outcomes: dict[str, Outcome],
        selected: int | None,
        selection: dict[str, float],
        error: ErrorInfo | None = None,
    ) -> Record:
        info, effort = self.spec.task_info, self.effort
        tokens = effort.steps_done * info.batch_size * info.length
        measured = Measured(
            started=self.started,
            finished=utc_now(),
            wall_seconds=time.perf_counter() - self.begun,
            train_seconds=effort.seconds,
            tokens_per_second=tokens / effort.seconds if effort.seconds > 0 else None,
            peak_memory_mib=self.peak,
        )
        return Record(
            id=self.spec.id,
            status=status,
            spec=self.spec if effort.cost is None else self.spec.model_copy(update={"cost": effort.cost}),
            steps_done=effort.steps_done,
            selected_step=selected,
            selection=selection,
            metrics={split: outcome.metrics for split, outcome in outcomes.items()},
            items={split: outcome.items for split, outcome in outcomes.items()},
            item_weights={s: o.weights for s, o in outcomes.items() if o.weights is not None},
            provenance=self.provenance.model_copy(
                update={
                    "accelerator": effort.accelerator,
                    "attempt_threads": list(effort.threads) if len(effort.threads) > 1 else [],
                    "native_kernels": None if effort.native_kernels is None else list(effort.native_kernels),
                }
            ),
            measured=measured,
            error=error,
            log_hash=effort.log_hash,
        )

    def _first_start(self) -> str:
        path = self.folder / "started"
        if not path.exists():
            path.write_text(utc_now())
        return path.read_text()


def utc_now() -> str:
    """ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def scrub(text: str) -> str:
    """The text without paths of this machine."""
    home = ""
    with contextlib.suppress(RuntimeError):  # a user without a home
        home = str(Path.home())
    for path, name in ((str(ROOT), "."), (sys.prefix, "<env>"), (sys.base_prefix, "<python>"), (home, "~")):
        text = text.replace(path, name) if len(path) > 1 else text
    return text
