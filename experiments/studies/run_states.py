"""The state of a plan's runs: planned, running with heartbeat and host, done, failed, stale."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from experiments.errors import UserError
from experiments.launching.progress import POLL_SECONDS, Display
from experiments.planning.plan import Plan, load_plan, plan_files
from experiments.reporting.grid import Cell, Grid
from experiments.reporting.screen import WIDE_ENOUGH, rich_table, shortest, wide_console
from experiments.store import lease
from experiments.store.records import RunSpec
from experiments.store.store import Store

COLUMNS = ("run", "task", "model", "seed", "state", "step", "loss", "heartbeat", "host", "note")
QUIET = ("done", "planned")
LISTED = 50  # of the runs that are done or planned no more are listed than this


@dataclass(frozen=True)
class Row:
    """What is to be said of one run."""

    spec: RunSpec
    state: str
    step: str = ""
    loss: str = ""
    heartbeat: str = ""
    host: str = ""
    note: str = ""

    def cells(self) -> list[str]:
        """The cells under COLUMNS."""
        spec = self.spec
        first = [spec.id, spec.task, spec.model, str(spec.seed), self.state]
        return [*first, self.step, self.loss, self.heartbeat, self.host, self.note]


def look(plan: Plan, store: Store) -> list[Row]:
    """A row per run, in the order of the plan."""
    return [_row(spec, store) for spec in plan.unique()]


def _row(spec: RunSpec, store: Store) -> Row:
    status = store.status(spec.id)
    if status is not None:
        return Row(spec, "done") if status == "done" else Row(spec, "failed", note=reason(spec, store))
    held = lease.held(store.folder(spec.id))
    progress = store.progress(spec.id)
    step = f"{progress.step}/{progress.total}" if progress else ""
    loss = f"{progress.loss:.3f}" if progress and progress.loss is not None else ""
    deaths = store.deaths(spec.id)[0]
    note = f"died {deaths} times" if deaths else store.refusal(spec.id) or ""
    if held is None:
        return Row(spec, "planned", step, loss, note=note)
    beaten = max(_changed(held.path), _changed(store.folder(spec.id) / "progress.json"))
    age = f"{max(0.0, time.time() - beaten):.0f} s ago"
    return Row(spec, "running" if held.alive() else "stale", step, loss, age, held.host, note)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def reason(spec: RunSpec, store: Store) -> str:
    """The error of a failed run, as far as its record can be read."""
    record = store.record(spec.id)
    if record is None or record.error is None:
        return "its record cannot be read"
    return f"{record.status}: {record.error.message}"


def headline(name: str, rows: list[Row]) -> str:
    """`table quick: 18 runs: 7 done, 1 failed, 2 running, 8 planned`"""
    counts = Counter(row.state for row in rows)
    parts = [f"{counts[state]} {state}" for state in ("done", "failed", "running", "stale", "planned") if counts[state]]
    return f"table {name}: {len(rows)} runs: {', '.join(parts)}"


def show_status(plan: Plan, store: Store, console: Console | None = None) -> int:
    """Print the table; 1 if a run failed or is stale."""
    console = console or Console()
    rows = look(plan, store)
    left: Counter[str] = Counter()
    shown = []
    for row in rows:
        left[row.state] += 1
        if row.state not in QUIET or left[row.state] <= LISTED:
            shown.append(row.cells())
    console = wide_console(console, 220)
    if console.width < WIDE_ENOUGH:
        short = shortest([cells[0] for cells in shown], store.ids())
        shown = [[short[cells[0]], *cells[1:]] for cells in shown]
    said = [at for at in range(len(COLUMNS)) if at == 0 or any(cells[at] for cells in shown)]
    grid = Grid("", [COLUMNS[at] for at in said], [[Cell(cells[at]) for at in said] for cells in shown])
    console.print(rich_table(grid, left=("task", "model", "state", "host", "note")))
    for state in QUIET:
        if left[state] > LISTED:
            console.print(f"... and {left[state] - LISTED} more {state}", highlight=False)
    console.print(escape(headline(plan.table.name, rows)), highlight=False, soft_wrap=not console.is_terminal)
    if left["stale"]:
        console.print("stale: its process is gone; resume goes on from its checkpoint", highlight=False)
    return 1 if left["failed"] or left["stale"] else 0


def watch(plan: Plan, store: Store, sleep: Callable[[float], None] = time.sleep) -> int:
    """Follow the runs, whoever carries them, until none is running; then print the table."""
    with Display(plan, store) as display:
        while any(row.state == "running" for row in look(plan, store)):
            display.update()
            sleep(POLL_SECONDS)
    return show_status(plan, store)


def overview(store: Store) -> int:
    """A line for each plan of the store, the newest last."""
    paths = plan_files(store.root / "plans")
    if not paths:
        print(f"no plan in {store.root}; make one with: python -m experiments plan table=NAME")
    for path in paths:
        try:
            plan = load_plan(path)
        except UserError as error:
            print(error)
            continue
        print(f"{headline(plan.table.name, look(plan, store))}  [{path.name}]")
    return 0
