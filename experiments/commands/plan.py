"""What a table or a sweep would run and cost: every run, FLOPs, hours and disk, before anything starts.

    python -m experiments plan table=quick
    python -m experiments plan sweep=lr table=quick --no-measure

Freezes the plan and says where.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.commands.words import split_options
from experiments.errors import UserError
from experiments.launching.estimate import Gpu, estimates, sums
from experiments.planning.plan import Plan
from experiments.planning.settings import LauncherSettings
from experiments.reporting.screen import wide_console
from experiments.store.store import Store
from experiments.studies.named_plan import asked

LISTED = 200  # runs printed one by one
ASSUMED = Gpu()


def run(arguments: Sequence[str]) -> int:
    """Plan, price, print.

    Raises:
        UserError: an unknown option, or what planning raises.
    """
    words, options = split_options("plan", arguments, ("--no-measure", "--gpu-flops", "--gpu-step-ms"))
    gpu = Gpu(
        flops=_number(options, "--gpu-flops", ASSUMED.flops),
        step_seconds=_number(options, "--gpu-step-ms", ASSUMED.step_seconds * 1e3) / 1e3,
    )
    plan, path, store, launcher = asked(words)
    show_estimate(plan, store, launcher, measure="--no-measure" not in options, gpu=gpu)
    print(f"frozen: {path}")
    return 0


def _number(options: Sequence[str], option: str, default: float) -> float:
    given = [flag.partition("=")[2] for flag in options if flag.partition("=")[0] == option]
    try:
        value = float(given[-1]) if given else default
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(f"{option} takes a number above 0, e.g. {option}={default:g}; got {given[-1]!r}")
    return value


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
    wide_console(console).print(table)
    if len(runs) > LISTED:
        console.print(f"... and {len(runs) - LISTED} more runs", highlight=False)
    for line in sums(plan, store, launcher, found, gpu):
        console.print(escape(line), highlight=False, soft_wrap=True)
