"""What each C kernel is worth: training steps with all kernels, without one of them, and without any.

python -m benchmarks.kernels --table quick --out results/benchmarks

A kernel stays if it saves at least 15 % of a step's time in some cell of the table, or at 8 x 256 tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Report, interleaved, machine, of_a_table
from benchmarks.steps import planned
from experiments.errors import UserError
from experiments.planning.instantiate import build_task
from experiments.store.records import RunSpec
from experiments.training.step_times import BATCHES, step, switched
from ressformer.layers.native import loader
from tasks.loaders import TrainLoader

MODULE = "benchmarks.kernels"
KERNELS = sorted(path.stem for path in Path(loader.__file__).parent.glob("*.c"))
# Less than this share of a step's time, and a kernel is not worth its C.
WORTH = 0.15
LONG = "pydocs"  # the task of the 8 x 256 tokens


def shape(spec: RunSpec) -> tuple[str, str]:
    """The task, and its batch: "8 x 256" is eight sequences of 256 tokens."""
    return spec.task, f"{spec.config['task']['batch_size']} x {spec.config['task']['length']}"


def measure(spec: RunSpec, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of a step of the run: with all kernels, without each, without any."""
    task = build_task(spec.config["task"])
    batches = list(TrainLoader(task, task.batch_size, 0, BATCHES))
    once = step(spec, task, batches)
    calls = {"all": switched(once, True)}
    calls |= {f"without {name}": switched(once, True, [name]) for name in KERNELS}
    calls["none"] = switched(once, False)
    seconds = interleaved(calls, repeats)
    return [
        {
            "task": spec.task,
            "model": spec.model,
            "shape": shape(spec)[1],
            "kernels": name,
            "step_ms": taken * 1e3,
            "saved": 1 - seconds["all"] / taken,
        }
        for name, taken in seconds.items()
    ]


def show(rows: Sequence[dict[str, Any]], report: Report) -> None:
    """One table for a task: a line per model, a column per kernel with the share of a step that it saves."""
    columns = ["model", "all, ms", *KERNELS, "all of them"]
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = {row["kernels"]: row for row in rows if row["model"] == model}
        saved = [own[f"without {name}"]["saved"] for name in KERNELS] + [own["none"]["saved"]]
        lines.append([model, f"{own['all']['step_ms']:.1f}", *[f"{share:+.0%}" for share in saved]])
    title = f"{rows[0]['task']}, {rows[0]['shape']} tokens: share of a step's CPU time that is saved"
    report.table(title, columns, lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 2 for bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    asked = of_a_table(MODULE, words, "Training steps without each C kernel.", repeats=10)
    try:
        specs = planned(asked.table, tasks=asked.tasks)
        specs += planned(asked.table, ["task.batch_size=8", "task.length=256"], [LONG])
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    report = Report("kernels", f"What each C kernel saves in the cells of table {asked.table}", asked.out)
    rows: list[dict[str, Any]] = []
    for cell in dict.fromkeys(map(shape, specs)):
        found = [row for spec in specs if shape(spec) == cell for row in measure(spec, asked.repeats)]
        show(found, report)
        rows += found
    report.say(f"Medians of {asked.repeats} turns, interleaved, one thread. A kernel is worth its C from {WORTH:.0%}.")
    report.say(f"At the end: {machine()}")
    report.write(kernels=rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
