"""Two models, paired by seed, on the tasks of a preset: who wins where, by how much, how sure, at what cost."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.markup import escape

from experiments.analysis.pairwise import duels
from experiments.analysis.significance import BOLD_SEEDS
from experiments.reporting.comparison import grid, sentences
from experiments.reporting.screen import rich_table, wide_console
from experiments.reporting.table import from_records
from experiments.store import atomic_files as atomic
from experiments.studies.reproduce import carry, conclude, failures, prepare


def compared_words(
    models: Sequence[str],
    rest: Sequence[str],
    tasks: Sequence[str] | None = None,
    seeds: Sequence[str] | None = None,
    budget: str | None = None,
) -> list[str]:
    """A comparison as overrides of conf/config.yaml: that of `table=quick`, with as many seeds as a verdict needs."""
    words = [f"table.models=[{','.join(models)}]", f"table.name=compare-{'-'.join(models)}"]
    if not any(word.startswith("table=") for word in rest):
        words = ["table=quick", f"table.seeds=[{','.join(map(str, range(BOLD_SEEDS)))}]", *words]
    words += [f"table.tasks=[{','.join(tasks)}]"] if tasks else []
    words += [f"table.seeds=[{','.join(seeds)}]"] if seeds else []
    words += [f"table.budget={budget}"] if budget else []
    return [*words, *rest]


def compare(overrides: Sequence[str]) -> int:
    """Run what is missing of the comparison that the overrides describe and print it; 1 if a run failed.

    Raises:
        UserError: what `reproduce` raises.
    """
    plan, path, store, launcher = prepare(overrides)
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
    target = store.root / "exports" / f"{settings.name}.csv"
    atomic.write_text(target, frame.to_csv(index=False, lineterminator="\n"))
    answer(frame, from_records(plan, records).header)
    print(f"written: {target}")
    return failures(plan, store)


def answer(frame: pd.DataFrame, header: Sequence[str], console: Console | None = None) -> None:
    """Print the comparison on one screen."""
    console = wide_console(console)
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
