"""Two models, paired, on the tasks, seeds and budget of a preset: who wins where, by how much, how sure, at what cost.

    python -m experiments.studies.compare ressformer transformer
    python -m experiments.studies.compare a=ressformer b=transformer budget=tiny tasks=[chain] table.seeds=[0,1,2]

Words without `=` are models, as are `a=` and `b=`; the preset is `quick` unless `table=` names another, then with as
many seeds as a verdict needs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.markup import escape

from experiments.analysis.pairwise import duels, grid, sentences
from experiments.analysis.significance import BOLD_SEEDS
from experiments.command_line import main
from experiments.errors import UserError
from experiments.reporting.console import rich_table
from experiments.reporting.table import from_records
from experiments.store import atomic_files as atomic
from experiments.studies.reproduce import carry, conclude, prepare

SEEDS = f"table.seeds={list(range(BOLD_SEEDS))}".replace(" ", "")
SHORT = {"budget": "table.budget", "tasks": "table.tasks", "seeds": "table.seeds"}


def compare(arguments: Sequence[str]) -> int:
    """Run what is missing of the comparison and print it.

    Raises:
        UserError: fewer than two models, or what `reproduce` raises.
    """
    plan, path, store, launcher = prepare(spelled_out(arguments))
    carry(plan, path, store, launcher)
    entries = [entry.label for entry in plan.table.entries()]
    if len(entries) > 2:
        return conclude(plan, store)
    records = store.records(spec.id for spec in plan.unique())
    store.require_sound()
    runs = [(spec, records.get(spec.id)) for spec in plan.runs]
    settings = plan.table
    frame = duels(
        runs, entries[0], entries[1], settings.tasks, settings.alpha, settings.confidence, settings.bold_seeds
    )
    answer(frame, from_records(plan, records).header)
    target = store.root / "exports" / f"{settings.name}.csv"
    atomic.write_text(target, frame.to_csv(index=False, lineterminator="\n"))
    print(f"written: {target}")
    failed = sum(record.status != "done" for record in records.values())
    if failed:
        print(f"{failed} of {len(plan.unique())} runs failed; see runs/<id>/record.json", file=sys.stderr)
    return 1 if failed else 0


def answer(frame: pd.DataFrame, header: Sequence[str], console: Console | None = None) -> None:
    """Print the comparison on one screen."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=200, highlight=False)
    for line in header:
        console.print(escape(line), highlight=False)
    console.print(rich_table(grid(frame)))
    for line in sentences(frame):
        console.print(f"- {escape(line)}", highlight=False)
    flops, params = (frame[key].mean() for key in ("flops_ratio", "params_ratio"))
    if flops == flops:
        who = f"{frame['a'].iloc[0]} over {frame['b'].iloc[0]}"
        console.print(
            escape(f"- Cost, {who}: training FLOPs x {flops:.3f}, parameters x {params:.3f}."), highlight=False
        )


def spelled_out(arguments: Sequence[str]) -> list[str]:
    """The arguments as overrides of conf/config.yaml."""
    models: list[str] = []
    rest: list[str] = []
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not sign or key in ("a", "b"):
            models.append(value if sign else key)
        else:
            rest.append(f"{SHORT.get(key, key)}={value}")
    if len(models) < 2:
        raise UserError("compare needs two models, e.g. a=ressformer b=transformer tasks=[chain]")
    preset = [] if any(argument.startswith("table=") for argument in rest) else ["table=quick", SEEDS]
    return [*preset, f"table.models=[{','.join(models)}]", f"table.name=compare-{'-'.join(models)}", *rest]


if __name__ == "__main__":
    main(lambda: compare(sys.argv[1:]))
