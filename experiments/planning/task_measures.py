"""What is measured of a task before any model is: how large its splits are, and what is scored without the skill.

Both are remembered in the cache folder by the content of data, settings and sources, so that they cost seconds once.
They are no part of a run's name. A column whose test is too small for a verdict is refused when it is planned.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.errors import UserError
from experiments.planning.instantiate import refused
from experiments.planning.levels import small_splits
from experiments.planning.settings import TableSettings
from experiments.store.identity import foreign_sources
from experiments.store.provenance import source_fingerprint
from experiments.store.records import LevelInfo, RunSpec, SizeInfo, TaskInfo
from tasks.base import Task
from tasks.hub.cache import cached
from tasks.hub.files import DataError
from tasks.item import IGNORE
from tasks.levels import CEILING, Level, levels, part_levels, strongest
from tasks.size import NEEDED, split_sizes

FILE = "measured.json"
Measured = tuple[dict[str, SizeInfo], list[LevelInfo]]


def measured(task: Task) -> Measured:
    """Sizes of the evaluation splits, and of each split and metric the levels that are worth printing.

    Raises:
        UserError: the data cannot be read.
    """
    try:
        rows = _remembered(_key(task), lambda: _measure(task))
    except DataError as error:
        raise refused(error) from None
    sizes = {split: SizeInfo.model_validate(size) for split, size in rows["sizes"].items()}
    return sizes, [LevelInfo.model_validate(level) for level in rows["levels"]]


def _key(task: Task) -> dict[str, Any]:
    config = getattr(task, "config", None)
    values = dataclasses.asdict(config) if dataclasses.is_dataclass(config) and not isinstance(config, type) else {}
    kind = f"{type(task).__module__}.{type(task).__qualname__}"
    left_out = ("batch_size", *getattr(type(config), "places", ()))  # where data lie; what they are is in `data`
    return {
        "kind": "measured",
        "fields": list(SizeInfo.model_fields),
        "task": [kind, task.version, {key: value for key, value in values.items() if key not in left_out}],
        "data": task.fingerprint(),
        "sources": [source_fingerprint(("tasks",)), foreign_sources([kind])],
    }


def _remembered(key: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` returns, from the cache if it is there; made each time where the cache cannot be written."""
    made: list[dict[str, Any]] = []

    def write(folder: Path) -> None:
        made.append(make())
        (folder / FILE).write_text(json.dumps(made[0]))

    try:
        found: dict[str, Any] = json.loads((cached(key, write) / FILE).read_text())
    except DataError:
        return made[0] if made else make()
    return found


def _measure(task: Task) -> dict[str, Any]:
    splits = [split for split in task.splits if not split.startswith("probe/")]  # a probe has the items of test/id
    sizes = split_sizes(task, splits=splits)
    kept = [key for key in SizeInfo.model_fields if key != "needed"]
    return {
        "sizes": {
            split: {key: getattr(size, key) for key in kept} | {"needed": NEEDED.get(split, 0.0)}
            for split, size in sizes.items()
        },
        "levels": [dataclasses.asdict(level) for level in printed(levels(task), task.describe().higher_is_better)],
    }


def printed(found: Iterable[Level], higher_is_better: bool) -> list[Level]:
    """The strongest rule of each split and metric, every n-gram, and the perfect reader."""
    known = [level for level in found if np.isfinite(level.value)]
    best = set(strongest(known, higher_is_better).values())
    return [level for level in known if level in best or level.name == CEILING or "gram" in level.name]


def with_bytes_read(info: TaskInfo, task: Task, steps: int) -> TaskInfo:
    """With the n-grams of as much text as a model reads in so many steps, rounded up to two digits; text only.

    Raises:
        UserError: the cache folder cannot be written.
    """
    if not hasattr(task, "texts"):
        return info
    items = task.eval_items("validation")
    tokens = sum(int((item.labels != IGNORE).sum()) for item in items)
    size = sum(item.difficulty.get("bytes", 0) for item in items)
    read = steps * task.batch_size * task.length * size / max(1, tokens)
    unit = 10 ** max(0, len(str(int(read))) - 2)
    try:
        part = part_levels(task, -(-int(read) // unit) * unit)
    except DataError as error:
        raise refused(error) from None
    more = [LevelInfo.model_validate(dataclasses.asdict(level)) for level in part]
    return info.model_copy(update={"levels": [*info.levels, *more]})


def large_enough(table: TableSettings, specs: list[RunSpec]) -> list[RunSpec]:
    """The runs of a column, unless a verdict on it would rest on too few different items.

    Raises:
        UserError: names task, split and number, and what to change.
    """
    for spec in specs:
        if table.means_nothing or spec.task in table.allow_small_test:
            break
        for split, size in small_splits(spec.task_info).items():
            count = "n_validation" if split == "validation" else "n_test"
            raise UserError(
                f"table {table.name}, task {spec.task}: {split} has {size.different} different items among "
                f"{size.items}, effectively {size.effective:.1f}, and a verdict needs {size.needed:.0f}: widen the "
                f"task's sizes, or evaluate more (task.{count}); allow_small_test=[{spec.task}] runs it, marked and "
                "never bold"
            )
    return specs
