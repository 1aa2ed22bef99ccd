"""What can be scored without doing the task: rules fitted on train, and rules that a task brings itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.item import EVAL_SEED, IGNORE, Item

Floats = NDArray[np.float64]
# Expected score of a shortcut on one item: per scored position [S], which serves finer metrics, or one figure for all.
Rule = Callable[[Item], "float | Floats"]

FIT_ITEMS = 1024
MEASURED_ITEMS = 512


class Fitted(Protocol):
    """What of a task a rule is fitted on and measured with."""

    vocab_size: int
    max_length: int

    @property
    def exact(self) -> bool: ...
    @property
    def causal(self) -> bool: ...
    @property
    def all_rules(self) -> Mapping[str, Rule]: ...
    def generate(self, split: str, seed: int, index: int) -> Item: ...
    def eval_items(self, split: str, count: int | None = None) -> list[Item]: ...


def hits(values: Iterable[bool | float | np.floating[Any] | np.bool_]) -> Floats:
    """Expected hits [S] of a rule, as an array."""
    return np.array([float(value) for value in values])


def item_score(rule: Rule, item: Item, exact: bool) -> float:
    """A rule's expected score on an item; with `exact` that of having every position right."""
    found = np.asarray(rule(item))
    return float(found.prod() if exact else found.mean())


def fitted_rules(task: Fitted) -> dict[str, Rule]:
    """Two rules from FIT_ITEMS training items: the most frequent label, and that of each position."""
    counts_nV = np.zeros((task.max_length, task.vocab_size), dtype=np.int64)
    for index in range(FIT_ITEMS):
        labels_n = task.generate("train", EVAL_SEED, index).labels
        (where,) = np.nonzero(labels_n != IGNORE)
        counts_nV[where, labels_n[where]] += 1
    majority = int(counts_nV.sum(axis=0).argmax())
    by_position_n = np.where(counts_nV.sum(axis=1) > 0, counts_nV.argmax(axis=1), majority)

    def rule(guess: Callable[[Any], Any]) -> Rule:
        def expected(item: Item) -> Floats:
            (where,) = np.nonzero(item.labels != IGNORE)
            right: Floats = np.asarray(item.labels[where] == guess(where), dtype=np.float64)
            return right

        return expected

    return {"majority": rule(lambda where: majority), "position": rule(lambda where: by_position_n[where])}


def measure_shortcuts(task: Fitted, split: str, count: int = MEASURED_ITEMS) -> dict[str, float]:
    """Mean score of every shortcut over the first `count` items of an evaluation split."""
    items = task.eval_items(split, count)
    return {
        name: float(np.mean([item_score(rule, item, task.exact) for item in items]))
        for name, rule in task.all_rules.items()
    }


def bag_rule(task: Fitted) -> Rule:
    """Naive Bayes on the tokens seen so far, as a set, and the last of them: all but their order and structure.

    Fitted like the other rules; presence counts are smoothed by one half. A bidirectional item is read whole.
    """

    def features(item: Item) -> tuple[Any, Any]:
        """Presence [scored positions, 2 * vocab] and their labels."""
        (where,) = np.nonzero(item.labels != IGNORE)
        n = len(item.input_ids)
        seen_nV = np.zeros((n, task.vocab_size), dtype=np.float32)
        seen_nV[np.arange(n), item.input_ids] = 1
        last = seen_nV[where]
        bag = np.maximum.accumulate(seen_nV, axis=0)[where] if task.causal else seen_nV.max(0) + 0 * last
        return np.concatenate([bag, last], axis=1), item.labels[where]

    items = (task.generate("train", EVAL_SEED, index) for index in range(FIT_ITEMS))
    parts = [features(item) for item in items]
    labels = np.concatenate([part[1] for part in parts])
    classes, place = np.unique(labels, return_inverse=True)
    counts_CV = np.zeros((len(classes), 2 * task.vocab_size), dtype=np.float32)
    start = 0
    for seen, some in parts:
        counts_CV += np.eye(len(classes), dtype=np.float32)[place[start : start + len(some)]].T @ seen
        start += len(some)
    totals_C = np.bincount(place).astype(np.float32)
    p_CV = (counts_CV + 0.5) / (totals_C[:, None] + 1)
    # log P(class) + sum over tokens of log p or log (1 - p), as one product with the presence vector.
    weight_CV, base_C = np.log(p_CV / (1 - p_CV)), np.log(1 - p_CV).sum(1) + np.log(totals_C)

    def expected(item: Item) -> Floats:
        seen, wanted = features(item)
        right: Floats = np.asarray(classes[(seen @ weight_CV.T + base_C).argmax(1)] == wanted, dtype=np.float64)
        return right

    return expected
