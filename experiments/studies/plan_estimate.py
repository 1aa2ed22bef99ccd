"""What a table or a sweep would run and cost: every run, FLOPs, hours and disk, before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from experiments.launching.estimate import Gpu, estimates, sums
from experiments.planning.plan import Plan
from experiments.planning.settings import LauncherSettings
from experiments.planning.sweep_request import SweepRequest, read_sweep
from experiments.planning.sweep_settings import Tuning
from experiments.reporting.grid import Cell, Grid
from experiments.reporting.screen import WIDE_ENOUGH, rich_table, wide_console
from experiments.store.store import Store
from experiments.studies.named_plan import asked, is_sweep, planned_sweep

LISTED = 200  # runs printed one by one
HEADS = ("run", "task", "model", "seed", "params", "steps", "train FLOPs", "minutes", "time is", "state")
ASSUMED = Gpu()


def show_plan(words: Sequence[str], *, measure: bool = True, gpu: Gpu = ASSUMED) -> int:
    """Plan what the words ask for, freeze it, print it with its cost; start nothing.

    Args:
        words: overrides of a table, a sweep or `plan=FILE`.
        measure: time a few steps of what has no record yet.
        gpu: what is assumed of a GPU.

    Raises:
        UserError: what planning raises.
    """
    return show_sweep(words, measure=measure, gpu=gpu) if is_sweep(words) else _show(asked(words), measure, gpu)


def show_sweep(words: Sequence[str], *, measure: bool = True, gpu: Gpu = ASSUMED) -> int:
    """As `show_plan`, of words that are a sweep whatever keys they have."""
    request = read_sweep(words)
    code = _show(planned_sweep(request), measure, gpu)
    if note := may_add(request):
        print(note)
    return code


def may_add(request: SweepRequest) -> str:
    """How many trials a tuning has, and how many more it may come to; "" of any other sweep."""
    settings = request.settings
    if not isinstance(settings, Tuning):
        return ""
    cells = len(request.table["models"]) * len(request.table["tasks"])
    counted = f"trials planned: {settings.trials} for each of {cells} cells, {settings.trials * cells} in all"
    if settings.sampler == "tpe":
        return f"{counted}; above is the first of each, on whose outcomes the others hang"
    if not settings.may_add:
        return counted
    return f"{counted}; widening the range may add up to {settings.may_add} for each, {settings.may_add * cells} in all"


def _show(found: tuple[Plan, Path, Store, LauncherSettings], measure: bool, gpu: Gpu) -> int:
    plan, path, store, launcher = found
    show_estimate(plan, store, launcher, measure=measure, gpu=gpu)
    print(f"frozen: {path}")
    return 0


def assumed_gpu(flops: float | None, step_ms: float | None) -> Gpu:
    """What is assumed of a GPU where nothing else is said."""
    step = ASSUMED.step_seconds if step_ms is None else step_ms / 1e3
    return Gpu(flops=flops or ASSUMED.flops, step_seconds=step)


def show_estimate(
    plan: Plan,
    store: Store,
    launcher: LauncherSettings,
    measure: bool = True,
    console: Console | None = None,
    gpu: Gpu = ASSUMED,
) -> None:
    """Print every run, and the sums."""
    console = console or Console()
    runs = plan.unique()
    found = estimates(runs, store, measure)
    rows = []
    for spec in runs[:LISTED]:
        known = found[spec.id]
        minutes = "?" if known.seconds is None else f"{known.seconds / 60:.2f}"
        numbers = [f"{spec.cost.params_non_embedding:,}", str(spec.steps), f"{spec.cost.flops_train:.3g}"]
        state = store.state(spec.id)
        rows.append([spec.id, spec.task, spec.model, str(spec.seed), *numbers, minutes, known.source, state])
    console = wide_console(console)
    shown = [at for at, head in enumerate(HEADS) if console.width >= WIDE_ENOUGH or head not in ("run", "state")]
    grid = Grid("", [HEADS[at] for at in shown], [[Cell(row[at]) for at in shown] for row in rows])
    console.print(rich_table(grid, left=("task", "model")))
    if len(runs) > LISTED:
        console.print(f"... and {len(runs) - LISTED} more runs", highlight=False)
    for line in sums(plan, store, launcher, found, gpu):
        console.print(escape(line), highlight=False, soft_wrap=not console.is_terminal)  # a pipe wraps nothing
