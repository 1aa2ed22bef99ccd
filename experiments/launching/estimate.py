"""What a plan will cost: FLOPs, hours and disk, from throughput measured on this machine, before anything starts.

The time of a run is that of a finished run of the same cell in this store, if there is one; else a few steps and
one evaluation batch are timed (and remembered in throughput.json); else it is scaled by FLOPs from cells of the same
model that were timed, or of any model. Timing ends after `MEASURE_SECONDS`, cheap cells first.

The hours on a GPU are not measured but assumed: `Gpu` says what of, and the report prints it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.planning.plan import Plan
from experiments.planning.settings import LauncherSettings, TrainerSettings
from experiments.store import atomic_files as atomic
from experiments.store.provenance import cpu_model, source_fingerprint
from experiments.store.records import RunSpec
from experiments.store.store import Store

MEASURE_SECONDS = 60.0
ONE_RUN_SECONDS = 1.0  # a single run is timed for so long before it starts
PATIENCE = 10.0  # seconds until it is given up
LINUX = sys.platform == "linux"  # elsewhere forking is unsafe
MIB = 2**20
ENOUGH = 5  # seeds of a cell whose records are looked at
# Bytes: AdamW's two moments and the best weights beside the weights; the checkpoint and the one before it.
BYTES_PER_PARAMETER = 4 * 4 * 2
BYTES_PER_ITEM, BYTES_PER_LOG_LINE = 24, 400


@dataclass(frozen=True)
class Estimate:
    """Seconds of one run, and where they come from; None = not known."""

    seconds: float | None
    source: str


@dataclass(frozen=True)
class Gpu:
    """What is assumed of an H200-class GPU. No figure of this project is behind it.

    Attributes:
        flops: FLOPs per second that training reaches; 5e13 is a twentieth of the 989e12 dense bf16 FLOP/s of NVIDIA's
            data sheet, since models of these presets are far too small to fill the device.
        step_seconds: the least a step takes, however small: launches of its kernels.
    """

    flops: float = 5e13
    step_seconds: float = 0.02

    def seconds(self, spec: RunSpec) -> float:
        """Of training the run."""
        return max(spec.cost.flops_train / self.flops, spec.steps * self.step_seconds)


def estimates(runs: Sequence[RunSpec], store: Store, measure: bool) -> dict[str, Estimate]:
    """The estimate of each run, by id."""
    cells: dict[str, list[RunSpec]] = {}
    here = (cpu_model(), source_fingerprint())
    for spec in runs:
        cells.setdefault(run_time_key(spec, here), []).append(spec)
    known = _remembered(store)
    own: dict[str, Estimate] = {}
    for key, specs in cells.items():
        if (estimate := _from_records(specs, store, here[0])) is not None:
            own[key] = estimate
        elif key in known:
            own[key] = Estimate(known[key], "timed before")
    if measure:
        timed = _time_cells({key: specs[0] for key, specs in cells.items() if key not in own})
        own |= {key: Estimate(seconds, "timed now") for key, seconds in timed.items()}
        if timed:
            atomic.write_json(store.root / "throughput.json", {**known, **timed})
    return _spread(cells, own)


def _timer() -> Callable[[RunSpec, float], float | None]:
    from experiments.training.throughput import time_cell  # loads lightning, 4 s, and only where something is timed

    return time_cell


def estimate_apart(spec: RunSpec, store: Store) -> Estimate:
    """The estimate of one run; what is timed is timed in a process of its own, whose memory is not the run's."""
    found = estimates([spec], store, measure=False)[spec.id]
    settings = TrainerSettings.model_validate(spec.config["trainer"])
    # A forked process may hang in threads that it does not have.
    if found.seconds is not None or settings.threads > 1 or settings.devices * settings.nodes > 1 or not LINUX:
        return found
    time_cell = _timer()
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=lambda: writer.send(time_cell(spec, ONE_RUN_SECONDS)), daemon=True)
    process.start()
    writer.close()
    try:
        seconds = reader.recv() if reader.poll(PATIENCE) else None
    except EOFError:
        seconds = None
    process.kill()
    process.join()
    if seconds is None:
        return found
    key = run_time_key(spec, (cpu_model(), source_fingerprint()))
    atomic.write_json(store.root / "throughput.json", {**_remembered(store), key: seconds})
    return Estimate(seconds, "timed now")


def _time_cells(cells: Mapping[str, RunSpec]) -> dict[str, float]:
    """Seconds of a run of the cells that can be timed in MEASURE_SECONDS: models in turn, the cheapest step first."""
    time_cell = _timer()
    turns: dict[str, int] = {}
    order: list[tuple[int, str, RunSpec]] = []
    for key, spec in sorted(cells.items(), key=lambda cell: cell[1].cost.flops_train / cell[1].steps):
        turns[spec.model] = turns.get(spec.model, 0) + 1
        order.append((turns[spec.model], key, spec))
    begun, found = time.monotonic(), {}
    for _, key, spec in sorted(order, key=lambda cell: cell[0]):
        left = MEASURE_SECONDS - (time.monotonic() - begun)
        if left <= 0:
            break
        if (seconds := time_cell(spec, left)) is not None:
            found[key] = seconds
    return found


def _spread(cells: Mapping[str, list[RunSpec]], own: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """Estimates of cells, spread to their runs and, by FLOPs, to the cells without one."""
    rates: dict[str, list[float]] = {}
    for key, estimate in own.items():
        spec = cells[key][0]
        if estimate.seconds:
            rates.setdefault(spec.model, []).append(spec.cost.flops_train / estimate.seconds)
    every = [rate for each in rates.values() for rate in each]
    found: dict[str, Estimate] = {}
    for key, specs in cells.items():
        estimate = own.get(key, Estimate(None, "not known"))
        if key not in own and every:
            same = rates.get(specs[0].model)
            seconds = specs[0].cost.flops_train / statistics.median(same or every)
            estimate = Estimate(seconds, "scaled by FLOPs" if same else "scaled, other models")
        found |= {spec.id: estimate for spec in specs}
    return found


def run_time_key(spec: RunSpec, here: Sequence[str]) -> str:
    """What decides the time of a run: all but the seed; `here` is the machine and the sources."""
    config = {key: value for key, value in spec.config.items() if key in ("task", "trainer")}
    return atomic.digest({"config": config, "sizes": spec.sizes, "steps": spec.steps, "here": list(here)})


def _remembered(store: Store) -> dict[str, float]:
    try:
        found = json.loads((store.root / "throughput.json").read_text())
        return {str(key): float(value) for key, value in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _from_records(specs: list[RunSpec], store: Store, here: str) -> Estimate | None:
    seconds = []
    for spec in specs[:ENOUGH]:
        record = store.record(spec.id) if store.status(spec.id) == "done" else None
        if record is not None and record.provenance.cpu == here:
            seconds.append(record.measured.wall_seconds)
    return Estimate(statistics.median(seconds), "from records") if seconds else None


def disk(runs: Sequence[RunSpec], at_a_time: int) -> tuple[float, float]:
    """(bytes that stay, bytes more while runs are at work)."""
    stay = 0.0
    for spec in runs:
        settings = TrainerSettings.model_validate(spec.config["trainer"])
        section: dict[str, Any] = spec.config["task"]
        splits = max(3, len(spec.task_info.chance))
        items = float(section.get("n_test") or 512) * splits
        stay += 2 * len(spec.model_dump_json()) + items * BYTES_PER_ITEM
        stay += (spec.steps / settings.log_every + spec.steps / settings.val_every) * BYTES_PER_LOG_LINE
        stay += spec.cost.params_total * BYTES_PER_PARAMETER if settings.keep_checkpoint else 0
    largest = sorted((spec.cost.params_total for spec in runs), reverse=True)[:at_a_time]
    return stay, float(sum(largest) * BYTES_PER_PARAMETER)


def sums(plan: Plan, store: Store, launcher: LauncherSettings, found: dict[str, Estimate], gpu: Gpu) -> list[str]:
    """Counts, FLOPs, hours and disk of the plan, in words."""
    runs = plan.unique()
    todo = [spec for spec in runs if store.status(spec.id) is None]
    jobs = launcher.n_jobs if launcher.n_jobs > 0 else os.cpu_count() or 1
    at_a_time = max(1, min(jobs, len(todo)))
    seconds = [found[spec.id].seconds for spec in todo]
    known = [each for each in seconds if each is not None]
    # The longest run goes first, so the end is ragged by a run at most.
    hours = max(sum(known) / at_a_time, max(known, default=0.0)) / 3600
    on_gpu = sum(gpu.seconds(spec) for spec in todo) / 3600
    stay, working = disk(runs, at_a_time)
    flops = sum(spec.cost.flops_train for spec in todo)
    parts = [f"table {plan.table.name}: {len(runs)} runs, {len(runs) - len(todo)} over, {len(todo)} to do"]
    parts.append(f"training FLOPs to do: {flops:.3g}")
    missing = "" if len(known) == len(seconds) else f" ({len(seconds) - len(known)} runs without an estimate)"
    if known or not todo:
        parts.append(f"time: {hours:.2f} h at {at_a_time} runs at a time, {sum(known) / 3600:.2f} h of runs{missing}")
    else:
        parts.append("time here: not known")
    parts.append(
        f"one H200-class GPU: {on_gpu:.2f} h of training, if it does {gpu.flops:.3g} FLOP/s and a step takes "
        f"{gpu.step_seconds * 1e3:g} ms at least: assumed, not measured (--gpu-flops=, --gpu-step-ms=)"
    )
    sources = Counter(found[spec.id].source for spec in todo)
    if sources:
        parts.append("times are " + ", ".join(f"{source}: {n} runs" for source, n in sources.most_common()))
    parts.append(f"disk: {stay / MIB:.1f} MiB that stay, {working / MIB:.1f} MiB more for checkpoints at work")
    return parts
