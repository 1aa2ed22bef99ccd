"""Two models, paired by seed, on the tasks of a preset: who wins where, by how much, how sure, at what cost."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape

from experiments.analysis.pairwise import paired_rows
from experiments.analysis.significance import BOLD_SEEDS
from experiments.planning.hydra_values import quoted
from experiments.planning.levels import small_splits
from experiments.planning.plan import Plan
from experiments.reporting.comparison import grid, sentences
from experiments.reporting.screen import rich_table, wide_console
from experiments.reporting.table import from_records
from experiments.store import atomic_files as atomic
from experiments.store.store import Store
from experiments.studies.reproduce import carry, conclude, failures, prepare

NAMED = 80  # characters of the labels that the name of a comparison shows
Row = str | tuple[str, str, Mapping[str, Any]]  # a name of conf/model; or a label, such a name, and fields of the model


def compared_words(
    models: Sequence[Row],
    rest: Sequence[str],
    tasks: Sequence[str] | None = None,
    seeds: Sequence[str] | None = None,
    budget: str | None = None,
) -> list[str]:
    """A comparison as overrides of conf/config.yaml: that of `table=quick`, with as many seeds as a verdict needs."""
    rows = [_row(model) for model in models]
    labels = re.sub(r"[^A-Za-z0-9._+-]+", "_", "-".join(label for label, _ in rows))[:NAMED]
    words = [f"table.models=[{','.join(text for _, text in rows)}]", f"table.name=compare-{labels}"]
    if not any(word.startswith("table=") for word in rest):
        words = ["table=quick", f"table.seeds=[{','.join(map(str, range(BOLD_SEEDS)))}]", *words]
    words += [f"table.tasks=[{','.join(tasks)}]"] if tasks else []
    words += [f"table.seeds=[{','.join(seeds)}]"] if seeds else []
    words += [f"table.budget={budget}"] if budget else []
    return [*words, *rest]


def _row(model: Row) -> tuple[str, str]:
    """A row of a table, its label and its text in Hydra's grammar; `file.py:Class` is a mixer in the shared stack."""
    if isinstance(model, str):
        if ":" not in model:
            return model, model
        model = model.rpartition(":")[2], "mixer", {"mixer": model}
    label, name, fields = model
    overrides = [quoted(f"++model.{key}={_value(value)}") for key, value in fields.items()]
    return label, f"{{label:{quoted(label)},model:{quoted(name)},overrides:[{','.join(overrides)}]}}"


def _value(value: Any) -> str:
    """The value in Hydra's grammar."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_value(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_value, value)) + "]"
    return "null" if value is None else str(value)


def compare(overrides: Sequence[str]) -> int:
    """Run what is missing of the comparison that the overrides describe and print it; 1 if a run failed.

    Raises:
        UserError: what `reproduce` raises.
    """
    frame, plan, store = compared(overrides)
    return conclude(plan, store) if frame.empty else failures(plan, store)


def compared(overrides: Sequence[str], pairs: Sequence[tuple[str, str]] = ()) -> tuple[pd.DataFrame, Plan, Store]:
    """Run what is missing, print and write the comparison of the pairs; its frame, and what it was made from.

    Args:
        overrides: of conf/config.yaml.
        pairs: labels; none = the two rows of the table, and an empty frame where it has more.

    Raises:
        UserError: what `reproduce` raises.
    """
    plan, path, store, launcher = prepare(overrides)
    carry(plan, path, store, launcher)
    entries = [entry.label for entry in plan.table.entries()]
    pairs = pairs or ([(entries[0], entries[1])] if len(entries) == 2 else [])
    if not pairs:
        return pd.DataFrame(), plan, store
    records = store.records(spec.id for spec in plan.unique())
    store.require_sound()
    frame = paired_rows(plan, records, pairs)
    target = store.root / "exports" / f"{plan.table.name}.csv"
    atomic.write_text(target, frame.to_csv(index=False, lineterminator="\n"))
    small = {spec.task for spec in plan.runs if small_splits(spec.task_info)}
    header = from_records(plan, records).header
    for number, (a, b) in enumerate(pairs):
        mine = frame[(frame["a"] == a) & (frame["b"] == b)]
        answer(mine, header if number == 0 else [], small=small)
    print(f"written: {target}")
    return frame, plan, store


def answer(
    frame: pd.DataFrame, header: Sequence[str], console: Console | None = None, small: Collection[str] = ()
) -> None:
    """Print the comparison of one pair on one screen; `small` are tasks without items enough for a verdict."""
    console = wide_console(console)
    for line in header:
        console.print(escape(line), highlight=False)
    console.print(rich_table(grid(frame)))
    for line in sentences(frame, small):
        console.print(f"- {escape(line)}", highlight=False)
    flops, params = (frame[key].mean() for key in ("flops_ratio", "params_ratio"))
    if flops == flops:
        who = f"{frame['a'].iloc[0]} over {frame['b'].iloc[0]}"
        console.print(
            escape(f"- Cost, {who}: training FLOPs x {flops:.3f}, parameters x {params:.3f}."), highlight=False
        )
