"""A training step of every cell of a table: its models at their sizes, on batches of its tasks, as its runs take them.

python -m benchmarks.steps --table quick --out results/benchmarks
python -m benchmarks.steps --profile --tasks chain          # which operators take a step's time
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Report, interleaved, machine, of_a_table
from benchmarks.models import VANILLA
from benchmarks.profiled import shares, show
from experiments.errors import UserError
from experiments.planning.hydra_config import composer, require_option
from experiments.planning.instantiate import build_task
from experiments.planning.plan import make_plan, read_request
from experiments.planning.settings import Entry
from experiments.store.records import RunSpec
from experiments.training.step_times import BATCHES, step
from tasks.loaders import TrainLoader

MODULE = "benchmarks.steps"


def planned(table: str, overrides: Sequence[str] = (), tasks: Sequence[str] = ()) -> list[RunSpec]:
    """One run of each cell of the table, the vanilla Transformer's cells added where it has none.

    Args:
        table: name of a preset.
        overrides: what is set otherwise in every cell.
        tasks: what is asked for instead of the table's tasks.

    Raises:
        UserError: an unknown table, or a budget that cannot be met.
    """
    with composer():
        require_option("table", table)
    request = read_request([f"table={table}"])
    entries = [entry for entry in request.table.entries() if entry.label != VANILLA]
    first = Entry(label=VANILLA, model=VANILLA)
    columns = list(tasks) or request.table.tasks
    per_task = {task: [*request.table.per_task.get(task, []), *overrides] for task in columns}
    changes = {"models": [first, *entries], "tasks": columns, "per_task": per_task, "seeds": [0], "groups": {}}
    settings = request.table.model_copy(update=changes)
    return make_plan(request.model_copy(update={"table": settings})).runs


def compare(specs: Sequence[RunSpec], repeats: int, report: Report) -> list[dict[str, Any]]:
    """Time of a step and per useful FLOP, of one task's cells."""
    task = build_task(specs[0].config["task"])
    batches = list(TrainLoader(task, task.batch_size, 0, BATCHES))
    seconds = interleaved({spec.model: step(spec, task, batches) for spec in specs}, repeats)
    flops = {spec.model: spec.cost.flops_train / spec.steps for spec in specs}
    tokens = task.batch_size * task.length
    rows = [
        {
            "task": specs[0].task,
            "model": name,
            "batch": task.batch_size,
            "length": task.length,
            "train_flops_per_step": flops[name],
            "step_ms": taken * 1e3,
            "tokens_per_second": tokens / taken,
            "step_over_vanilla": taken / seconds[VANILLA],
            "time_per_flop_over_vanilla": taken / seconds[VANILLA] * flops[VANILLA] / flops[name],
        }
        for name, taken in seconds.items()
    ]
    report.table(
        f"{specs[0].task}: {task.batch_size} x {task.length} tokens, CPU time of one thread",
        ["model", "MFLOP/step", "step ms", "tokens/s", "step", "time/FLOP"],
        [
            [
                row["model"],
                f"{row['train_flops_per_step'] / 1e6:.0f}",
                f"{row['step_ms']:.1f}",
                f"{row['tokens_per_second']:,.0f}",
                f"{row['step_over_vanilla']:.2f}x",
                f"{row['time_per_flop_over_vanilla']:.2f}x",
            ]
            for row in rows
        ],
    )
    return rows


def profiled(columns: Sequence[Sequence[RunSpec]], table: str, repeats: int, out: Path | None) -> int:
    """Which operators take the time of a step of each cell."""
    report = Report("steps", f"Where a training step goes, in the cells of table {table}", out, part="profile")
    rows = []
    for column in columns:
        found = [row for spec in column for row in shares(spec, repeats)]
        show(found, report)
        rows += found
    report.say(f"{repeats} steps of each, one thread. At the end: {machine()}")
    report.write(profile=rows)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 2 for bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    said = "print which operators take a step's time, and time nothing else"
    asked = of_a_table(MODULE, words, "Training steps of a table's cells.", repeats=30, profile=said)
    try:
        specs = planned(asked.table, tasks=asked.tasks)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    columns = [[spec for spec in specs if spec.task == task] for task in dict.fromkeys(spec.task for spec in specs)]
    if asked.profile:
        return profiled(columns, asked.table, asked.repeats, asked.out)
    report = Report("steps", f"A training step of the cells of table {asked.table}", asked.out)
    rows = [row for column in columns for row in compare(column, asked.repeats, report)]
    report.say(f"'step' and 'time/FLOP' are over {VANILLA}'s; FLOPs are useful training FLOPs.")
    report.say(f"Medians of {asked.repeats} turns, interleaved. At the end: {machine()}")
    report.write(steps=rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
