"""What a plan will cost: FLOPs, hours and disk, from throughput measured on this machine, before anything starts.

The time of a run is that of a finished run of the same cell in this store, if there is one; else a few steps and
one evaluation batch are timed (and remembered in throughput.json); else, beyond `MEASURE_SECONDS` of that, it is
scaled by FLOPs from the cells that were timed.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments import atomic
from experiments.plan import Plan
from experiments.provenance import cpu_model, source_fingerprint
from experiments.records import RunSpec
from experiments.runs import Store
from experiments.settings import LauncherSettings, TrainerSettings

MEASURE_SECONDS = 60.0
STEPS = 3
MIB = 2**20
ENOUGH = 5  # seeds of a cell whose records are looked at
LISTED = 200  # runs printed one by one
# Bytes: AdamW's two moments and the best weights beside the weights; the checkpoint and the one before it.
BYTES_PER_PARAMETER = 4 * 4 * 2
BYTES_PER_ITEM, BYTES_PER_LOG_LINE = 24, 400


@dataclass(frozen=True)
class Estimate:
    """Seconds of one run, and where they come from; None = not known."""

    seconds: float | None
    source: str


def estimates(plan: Plan, store: Store, measure: bool) -> dict[str, Estimate]:
    """The estimate of each run, by id."""
    found: dict[str, Estimate] = {}
    cells: dict[str, list[RunSpec]] = {}
    for spec in plan.unique():
        cells.setdefault(cell_key(spec), []).append(spec)
    known, begun = _remembered(store), time.monotonic()
    rates: list[float] = []
    for key, specs in cells.items():
        estimate = _from_records(specs, store)
        if estimate is None and key in known:
            estimate = Estimate(known[key], "timed before")
        if estimate is None and measure and time.monotonic() - begun < MEASURE_SECONDS:
            known[key] = time_cell(specs[0])
            estimate = Estimate(known[key], "timed now")
        if estimate is not None and estimate.seconds:
            rates.append(specs[0].cost.flops_train / estimate.seconds)
            found |= {spec.id: estimate for spec in specs}
    atomic.write_json(store.root / "throughput.json", known)
    for spec in plan.unique():
        if spec.id not in found:
            scaled = spec.cost.flops_train / statistics.median(rates) if rates else None
            found[spec.id] = Estimate(scaled, "scaled by FLOPs" if rates else "not known")
    return found


def cell_key(spec: RunSpec) -> str:
    """What decides the time of a run: all but the seed, and this machine."""
    config = {key: value for key, value in spec.config.items() if key in ("task", "trainer")}
    return atomic.digest({"config": config, "sizes": spec.sizes, "steps": spec.steps, "here": _here()})


@functools.cache
def _here() -> list[str]:
    """This machine and these sources; reading them once per run of a large plan would cost more than the plan."""
    return [cpu_model(), source_fingerprint()]


def _remembered(store: Store) -> dict[str, float]:
    try:
        found = json.loads((store.root / "throughput.json").read_text())
        return {str(key): float(value) for key, value in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _from_records(specs: list[RunSpec], store: Store) -> Estimate | None:
    here, seconds = cpu_model(), []
    for spec in specs[:ENOUGH]:
        record = store.record(spec.id) if store.status(spec.id) == "done" else None
        if record is not None and record.provenance.cpu == here:
            seconds.append(record.measured.wall_seconds)
    return Estimate(statistics.median(seconds), "from records") if seconds else None


def time_cell(spec: RunSpec) -> float:
    """Seconds of one run, from some training steps and one batch of evaluation."""
    import torch

    from experiments.build import build_task
    from experiments.fit import build_module
    from tasks.loaders import TrainLoader

    settings = TrainerSettings.model_validate(spec.config["trainer"])
    cuda = settings.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    begun = time.perf_counter()
    torch.set_num_threads(settings.threads)
    task = build_task(spec.config["task"], spec.allow_targets)
    module = build_module(spec, settings, task).to(device)
    building = time.perf_counter() - begun
    loader = TrainLoader(task, task.batch_size, spec.seed)
    optimizer = module.configure_optimizers()["optimizer"]
    step, forward = [], 0.0
    for number in range(STEPS + 1):
        begun = time.perf_counter()
        batch = {key: value.to(device) for key, value in loader.batch(number).items()}
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision != "32-true"):
            loss = module.training_step(batch, number)
        loss.backward()
        optimizer.step()
        _finish(cuda)
        step.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        module.eval().predict(batch)
        _finish(cuda)
        forward, _ = time.perf_counter() - begun, module.train()
    validations = -(-spec.steps // settings.val_every)
    items = validations * task.splits["validation"] + sum(n for name, n in task.splits.items() if name != "validation")
    return building + spec.steps * statistics.median(step[1:]) + items / task.batch_size * forward


def _finish(cuda: bool) -> None:
    if cuda:
        import torch

        torch.cuda.synchronize()


def disk(plan: Plan, at_a_time: int) -> tuple[float, float]:
    """(bytes that stay, bytes more while runs are at work)."""
    stay = 0.0
    for spec in plan.unique():
        settings = TrainerSettings.model_validate(spec.config["trainer"])
        section: dict[str, Any] = spec.config["task"]
        splits = max(3, len(spec.task_info.chance))
        items = float(section.get("n_test") or 512) * splits
        stay += 2 * len(spec.model_dump_json()) + items * BYTES_PER_ITEM
        stay += (spec.steps / settings.log_every + spec.steps / settings.val_every) * BYTES_PER_LOG_LINE
        stay += spec.cost.params_total * BYTES_PER_PARAMETER if settings.keep_checkpoint else 0
    largest = sorted((spec.cost.params_total for spec in plan.unique()), reverse=True)[:at_a_time]
    return stay, float(sum(largest) * BYTES_PER_PARAMETER)


def show_estimate(
    plan: Plan, store: Store, launcher: LauncherSettings, measure: bool = True, console: Console | None = None
) -> None:
    """Print every run, and the sums."""
    console = console or Console()
    found = estimates(plan, store, measure)
    runs = plan.unique()
    table = Table(box=None, pad_edge=False)
    for column in ("run", "task", "model", "seed", "params", "steps", "train FLOPs", "minutes", "time is", "state"):
        table.add_column(column, no_wrap=True, justify="left" if column in ("run", "task", "model") else "right")
    for spec in runs[:LISTED]:
        known = found[spec.id]
        minutes = "?" if known.seconds is None else f"{known.seconds / 60:.2f}"
        numbers = [f"{spec.cost.params_non_embedding:,}", str(spec.steps), f"{spec.cost.flops_train:.3g}"]
        state = store.state(spec.id)
        names = [spec.id, *map(escape, (spec.task, spec.model)), str(spec.seed)]
        table.add_row(*names, *numbers, minutes, known.source, state)
    wide = console if console.is_terminal else Console(file=console.file, width=200, highlight=False)
    wide.print(table)
    if len(runs) > LISTED:
        console.print(f"... and {len(runs) - LISTED} more runs", highlight=False)
    for line in sums(plan, store, launcher, found):
        console.print(escape(line), highlight=False, soft_wrap=True)


def sums(plan: Plan, store: Store, launcher: LauncherSettings, found: dict[str, Estimate]) -> list[str]:
    """Counts, FLOPs, hours and disk of the plan, in words."""
    runs = plan.unique()
    todo = [spec for spec in runs if store.status(spec.id) is None]
    jobs = launcher.n_jobs if launcher.n_jobs > 0 else os.cpu_count() or 1
    at_a_time = max(1, min(jobs, len(todo)))
    seconds = [found[spec.id].seconds for spec in todo]
    known = [each for each in seconds if each is not None]
    # The longest run goes first, so the end is ragged by a run at most.
    hours = max(sum(known) / at_a_time, max(known, default=0.0)) / 3600
    stay, working = disk(plan, at_a_time)
    flops = sum(spec.cost.flops_train for spec in todo)
    parts = [f"table {plan.table.name}: {len(runs)} runs, {len(runs) - len(todo)} over, {len(todo)} to do"]
    parts.append(f"training FLOPs to do: {flops:.3g}")
    missing = "" if len(known) == len(seconds) else f" ({len(seconds) - len(known)} runs without an estimate)"
    parts.append(f"time: {hours:.2f} h at {at_a_time} runs at a time, {sum(known) / 3600:.2f} h of runs{missing}")
    parts.append(f"disk: {stay / MIB:.1f} MiB that stay, {working / MIB:.1f} MiB more for checkpoints at work")
    return parts
