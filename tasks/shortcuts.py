"""What can be scored without doing the task: rules fitted on train, and rules that a task brings itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tasks.base import Item, Task

Rule = Callable[["Item"], float]  # expected score of a shortcut on one item

FIT_ITEMS = 1024
MEASURED_ITEMS = 512


def fitted_rules(task: Task) -> dict[str, Rule]:
    """Two rules from FIT_ITEMS training items: the most frequent label, and that of each position."""
    from tasks.base import EVAL_SEED, IGNORE

    counts_nV = np.zeros((task.max_length, task.vocab_size), dtype=np.int64)
    for index in range(FIT_ITEMS):
        labels_n = task.generate("train", EVAL_SEED, index).labels
        (where,) = np.nonzero(labels_n != IGNORE)
        counts_nV[where, labels_n[where]] += 1
    majority = int(counts_nV.sum(axis=0).argmax())
    by_position_n = np.where(counts_nV.sum(axis=1) > 0, counts_nV.argmax(axis=1), majority)

    def rule(guess: Callable[[Any], Any]) -> Rule:
        def expected(item: Item) -> float:
            (where,) = np.nonzero(item.labels != IGNORE)
            return float(np.mean(item.labels[where] == guess(where)))

        return expected

    return {"majority": rule(lambda where: majority), "position": rule(lambda where: by_position_n[where])}


def measure_shortcuts(task: Task, split: str, count: int = MEASURED_ITEMS) -> dict[str, float]:
    """Mean score of every shortcut over the first `count` items of an evaluation split."""
    items = task.eval_items(split, count)
    return {name: float(np.mean([rule(item) for item in items])) for name, rule in task.all_rules.items()}
