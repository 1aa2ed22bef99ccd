"""Times a training step of every cell of a table in a pass of its own, and puts the times beside the records."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Sequence

from experiments.analysis.pace import reference_rows
from experiments.errors import UserError
from experiments.launching.launch import ENVIRONMENT
from experiments.reporting.grid import Cell, Grid, engineering
from experiments.reporting.screen import rich_table, wide_console
from experiments.store.provenance import cpu_model, source_fingerprint, versions
from experiments.store.records import RunSpec
from experiments.store.storage_errors import patiently
from experiments.store.timings import FOLDER, Timings, write_timings
from experiments.studies.named_plan import named_plan

MODULE = "experiments.training.step_times"
THREADS = 1
BUSY = 0.5  # load average over the cores from which on a machine is not quiet
COLUMNS = (
    "model",
    "task",
    "MFLOP/step",
    "step ms",
    "without C",
    "wall ms",
    "time/FLOP",
    "without C",
    "MFU",
    "without C",
)


def time_table(words: Sequence[str], repeats: int) -> int:
    """Measure the table that the words name, store the times and print them.

    Raises:
        UserError: see experiments.studies.named_plan; or a table whose runs need a GPU, or that could not be measured.
    """
    plan, _, store = named_plan(words, make=True)
    specs = list({(spec.task, spec.model): spec for spec in reversed(plan.runs)}.values())[::-1]
    for spec in specs:
        if spec.config["trainer"].get("accelerator") in ("gpu", "cuda"):
            raise UserError(
                f"table {plan.table.name} trains on a GPU; time measures CPU steps: trainer.accelerator=cpu"
            )
    if line := not_quiet(os.getloadavg()[0] if hasattr(os, "getloadavg") else None, os.cpu_count() or 1):
        print(line, file=sys.stderr)
    timings = measured(plan.table.name, specs, repeats)
    patiently(lambda: write_timings(store, timings))
    wide_console().print(rich_table(grid(timings, specs)))
    for line in lines(timings):
        print(line)
    print(f"written: {store.root / FOLDER / f'{timings.table}.json'}")
    return 0


def not_quiet(load: float | None, cores: int) -> str:
    """A line where other work disturbs a measurement; empty where the machine is quiet, or does not tell."""
    if load is None or load / cores <= BUSY:
        return ""
    return f"warning: the machine is not quiet: load {load:.1f} on {cores} cores; times taken now are not worth keeping"


def measured(table: str, specs: Sequence[RunSpec], repeats: int) -> Timings:
    """The pass over these cells, in a process of its own.

    Raises:
        UserError: that process failed; the line is its last.
    """
    begun = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    question = {"specs": [spec.model_dump(mode="json") for spec in specs], "threads": THREADS, "repeats": repeats}
    words = [sys.executable, "-m", MODULE]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(
        words, input=json.dumps(question), env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"the step times of table {table} could not be measured; the lines above say why")
    return Timings(
        table=table,
        date=begun,
        cpu=cpu_model(),
        cores=os.cpu_count() or 1,
        threads=THREADS,
        torch=versions()["torch"],
        code_fingerprint=source_fingerprint(),
        repeats=repeats,
        **json.loads(done.stdout.splitlines()[-1]),
    )


def grid(timings: Timings, specs: Sequence[RunSpec]) -> Grid:
    """The times, and per FLOP those over the reference row's of the task, or the first row's."""
    reference = [*reference_rows(specs), specs[0].model][0]
    first = {cell.task: cell for cell in reversed(timings.cells)}
    first |= {cell.task: cell for cell in timings.cells if cell.model == reference}
    rows = []
    for cell in timings.cells:
        on, off, base = cell.with_kernels, cell.without_kernels, first[cell.task]
        per_flop = [
            step.cpu_seconds / cell.flops * base.flops / own.cpu_seconds
            for step, own in ((on, base.with_kernels), (off, base.without_kernels))
        ]
        texts = [cell.model, cell.task, f"{cell.flops / 1e6:.0f}", f"{1e3 * on.cpu_seconds:.1f}"]
        texts += [f"{1e3 * off.cpu_seconds:.1f}", f"{1e3 * on.wall_seconds:.1f}", *(f"{x:.2f}x" for x in per_flop)]
        texts += [f"{timings.mfu(cell, kernels=kernels):.0%}" for kernels in (True, False)]
        rows.append([Cell(text) for text in texts])
    title = f"A training step of each cell of table {timings.table}, one thread; time/FLOP is over {reference}'s"
    return Grid(title, list(COLUMNS), rows)


def lines(timings: Timings) -> list[str]:
    """What was measured how, and what to doubt of it."""
    said = [
        f"{timings.cpu}, torch {timings.torch}, {timings.threads} thread; medians of {timings.repeats} turns each",
        f"peak {engineering(timings.peak_flops)}FLOP/s, of a product of fp32 matrices of {timings.peak_size} rows; "
        "MFU = useful FLOPs per second over it",
    ]
    kernels = {cell.model: cell.with_kernels.kernels for cell in timings.cells if cell.with_kernels.kernels}
    named = "; ".join(f"{model}: {', '.join(names)}" for model, names in kernels.items())
    said.append(f"C kernels ran in {named}; 'without C' is PyTorch alone" if named else "no C kernel ran")
    if timings.load_before is not None and timings.load_after is not None:
        said.append(f"load {timings.load_before:.1f} before, {timings.load_after:.1f} after, on {timings.cores} cores")
        own = timings.load_after - timings.threads
        said += [line for line in (not_quiet(own, timings.cores),) if line]
    waited = [c for c in timings.cells if c.with_kernels.wall_seconds > 1.2 * c.with_kernels.cpu_seconds]
    if waited:
        said.append(
            f"warning: {len(waited)} of {len(timings.cells)} cells waited for a core a sixth of their time or more"
        )
    return said
