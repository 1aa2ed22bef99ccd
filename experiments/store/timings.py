"""Step times of a table's cells, measured in a pass of their own: <results_dir>/timings/NAME.json.

They stand beside the records and are no part of them: a record says how long its run took on a machine that may have
done other things at the time. A cell is found again by what its step time hangs on (`step_time_key`), so that times of
other sizes are never taken for a run's.
"""

from __future__ import annotations

from pydantic import Field, ValidationError

from experiments.errors import UserError
from experiments.store import atomic_files as atomic
from experiments.store.identity import told_sizes
from experiments.store.reader import Reader, reason
from experiments.store.records import RunSpec, Strict

FOLDER = "timings"


class StepTime(Strict):
    """A training step: next batch (drawn before), forward, backward, clipping, AdamW; medians over the repeats."""

    cpu_seconds: float = Field(gt=0, description="CPU time of the one thread.")
    wall_seconds: float = Field(gt=0, description="By the clock on the wall.")
    kernels: list[str] = Field(description="C kernels that ran; empty: none did.")


class CellTime(Strict):
    """The step of one model on one task, with the C kernels allowed and forbidden."""

    model: str = Field(description="Label of the model.")
    task: str = Field(description="Label of the task.")
    key: str = Field(description="What the time hangs on, as a hash: see step_time_key.")
    batch_size: int = Field(description="Sequences of the step.")
    length: int = Field(description="Tokens of a sequence, padding included.")
    flops: float = Field(gt=0, description="Useful training FLOPs of the step.")
    with_kernels: StepTime = Field(description="C kernels allowed, as runs have them.")
    without_kernels: StepTime = Field(description="C kernels forbidden: PyTorch alone.")


class Timings(Strict):
    """One pass over the cells of a table."""

    schema_version: int = Field(default=1, description="Version of this schema.")
    table: str = Field(description="Name of the table.")
    date: str = Field(description="Begin of the pass, UTC, ISO 8601.")
    cpu: str = Field(description="Model of the processor.")
    cores: int = Field(description="Logical cores.")
    threads: int = Field(description="Threads of torch.")
    torch: str = Field(description="Version of torch.")
    code_fingerprint: str = Field(description="Hash of the sources of ressformer/ and tasks/.")
    load_before: float | None = Field(description="Load average over a minute when it began; null: not told here.")
    load_after: float | None = Field(description="The same when it ended, this pass included.")
    repeats: int = Field(ge=1, description="Turns of each step.")
    peak_flops: float = Field(gt=0, description="FLOPs per second of the best fp32 matrix product, in the same pass.")
    peak_size: int = Field(description="Rows and columns of that product's square matrices.")
    cells: list[CellTime] = Field(description="The cells, in the order of the table.")

    def cell(self, spec: RunSpec) -> CellTime | None:
        """The times of the run's cell; None: not measured, or at other sizes."""
        key = step_time_key(spec)
        return next((cell for cell in self.cells if cell.key == key), None)

    def mfu(self, cell: CellTime, *, kernels: bool = True) -> float:
        """Useful FLOPs per second of CPU time, over the peak of the machine's own matrix product."""
        step = cell.with_kernels if kernels else cell.without_kernels
        return cell.flops / step.cpu_seconds / self.peak_flops


def step_time_key(spec: RunSpec) -> str:
    """A hash of what the time of a step hangs on: sizes, task, shapes, precision; not seeds, rates or steps."""
    trainer = spec.config.get("trainer", {})
    task = {key: value for key, value in spec.config["task"].items() if key not in spec.places}
    how = {key: trainer.get(key) for key in ("precision", "compile")}
    shape = [spec.task_info.batch_size, spec.task_info.length, spec.task_info.vocab_size]
    sources = {"version": spec.model_version, "foreign": spec.foreign_sources}
    return atomic.digest({"sizes": told_sizes(spec), "task": task, "shape": shape, "how": how, **sources}, 16)


def write_timings(store: Reader, timings: Timings) -> None:
    """Put a pass beside the records; one of the same table is replaced."""
    path = store.root / FOLDER / f"{timings.table}.json"
    atomic.write_text(path, timings.model_dump_json(indent=1) + "\n")


def read_timings(store: Reader, *names: str) -> Timings | None:
    """The pass of the first of these tables that has one, from the folder or the archive.

    Raises:
        UserError: the file is not one of these.
    """
    for name in names:
        if (text := store.timings(name)) is not None:
            try:
                return Timings.model_validate_json(text)
            except ValidationError as error:
                what = f"{FOLDER}/{name}.json is not what `time` writes ({reason(error)})"
                raise UserError(f"{what}; remove it, or measure anew: time table={name}") from None
    return None
