"""What stands under a table of its tests: how large they are, and what is scored there without the skill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from experiments.analysis.frames import Column, rows_of
from experiments.planning.levels import PART, best_rule, readers, rules_of, size_of, small_splits
from experiments.planning.settings import TableSettings
from experiments.reporting.grid import number
from experiments.store.records import LevelInfo, RunSpec, TaskInfo


def level_notes(specs: Sequence[RunSpec], settings: TableSettings, cells: pd.DataFrame) -> list[str]:
    """The remarks on every column: sizes, the strongest rules, and whether any row is better than these."""
    infos = column_infos(specs)
    shown: dict[str, list[tuple[str, str]]] = {
        task: [("test/id", info.metric)] for task, info in infos.items() if task in settings.tasks
    }
    for column in settings.columns:
        place = (column.split, column.metric or infos[column.task].metric)
        shown[column.task] += [place] if place not in shown[column.task] else []
    notes = []
    for task, places in shown.items():
        info = infos[task]
        notes += [f"{task}: {text}" for text in (size_note(info), small_note(info)) if text]
        for split, metric in places:
            notes += [f"{task}: {text}" for text in rule_notes(info, split, metric)]
            notes += _beaten(cells, (task, split, metric), info)
        notes += [f"{task}: {text}" for text in _reader_note(info)]
    return notes


def column_infos(specs: Sequence[RunSpec]) -> dict[str, TaskInfo]:
    """Per task what was planned of it; of rows that differ, that with the smallest test, and all their levels."""
    found: dict[str, TaskInfo] = {}
    for spec in specs:
        info, known = spec.task_info, found.get(spec.task)
        if known is None or known is info:
            found[spec.task] = info
        elif info.levels != known.levels or info.sizes != known.sizes:
            sizes = [size_of(one, "test/id") for one in (known, info)]
            least = min((size.effective, n) for n, size in enumerate(sizes) if size) if all(sizes) else (0, 0)
            more = [level for level in info.levels if level not in known.levels]
            found[spec.task] = (known, info)[least[1]].model_copy(update={"levels": [*known.levels, *more]})
    return found


def size_note(info: TaskInfo) -> str:
    """How many items validation and test/id have, and how many of them differ; empty where nobody counted."""
    parts = []
    for split in ("validation", "test/id"):
        if (size := size_of(info, split)) is not None:
            what = f"{size.items} items, {size.different} different"
            if size.documents is not None:
                what = f"{size.items} windows of {size.documents} document{'s'[: size.documents != 1]}"
            parts.append(f"{split} has {what}, effectively {size.effective:.0f}")
    return "; ".join(parts) + "." if parts else ""


def small_note(info: TaskInfo) -> str:
    """Which splits are too small for a verdict; empty if none is."""
    small = ", ".join(
        f"{split} with effectively {size.effective:.1f} of {size.needed:.0f} items"
        for split, size in small_splits(info).items()
    )
    return f"too small for a verdict, and never bold: {small}." if small else ""


def rule_notes(info: TaskInfo, split: str, metric: str) -> Iterator[str]:
    """The strongest rule of a metric; of text every n-gram, of all training text and of what the models read."""
    rules = rules_of(info, split, metric)
    grams = {
        "all training text": [rule for rule in rules if "gram" in rule.name and PART not in rule.name],
        "as much as a model reads": [rule for rule in rules if "gram" in rule.name and PART in rule.name],
    }
    where = f"{metric} on {split}"
    if not any(grams.values()):
        yield from [f"the strongest rule for {where} is {rules[0].name}, {number(rules[0].value)}."] if rules else []
        return
    for text, found in grams.items():
        sizes = list(dict.fromkeys(rule.name.partition(PART)[2] for rule in found))
        for size in sizes:
            named = [rule for rule in found if rule.name.partition(PART)[2] == size]
            label = f"{text}, {size}" if size else text
            yield f"n-grams of {label}, {where}: {_listed(info, split, metric, named)}."


def _listed(info: TaskInfo, split: str, metric: str, named: Sequence[LevelInfo]) -> str:
    """In the order of their orders, which is the order they were planned in."""
    place = {level.name: n for n, level in enumerate(info.levels) if (level.split, level.metric) == (split, metric)}
    ordered = sorted(named, key=lambda rule: place[rule.name])
    return ", ".join(f"{rule.name.partition(PART)[0]} {number(rule.value)}" for rule in ordered)


def _beaten(cells: pd.DataFrame, column: Column, info: TaskInfo) -> Iterator[str]:
    """A remark where some row has a result and none is better than the strongest rule."""
    rule = best_rule(info, column[1], column[2])
    found = [row for row in rows_of(cells) if (row["task"], row["split"], row["metric"]) == column]
    means = [float(row["mean"]) for row in found if not pd.isna(row["mean"])]
    if rule is None or not means:
        return
    best = max(means) if info.higher_is_better else min(means)
    if not (best > rule.value if info.higher_is_better else best < rule.value):
        yield f"{column[0]}: no row is better than {rule.name} ({number(rule.value)}) in {column[2]} on {column[1]}."


def _reader_note(info: TaskInfo) -> Iterator[str]:
    found = readers(info, info.metric)
    if found:
        each = ", ".join(f"{number(value)} ({split.removeprefix('probe/noise')} %)" for split, value in found.items())
        yield f"a perfect reader of the noised facts scores {each}."
