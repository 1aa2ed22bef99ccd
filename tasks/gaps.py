"""Rules that training rewards and evaluation does not: a model that follows one is punished for what it was taught.

Each rule is scored on training items that it was not fitted on, and on the evaluation's. A difference counts where it
is larger than LIMIT standard errors, taken over different items: renamings of one item are one draw.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.base import Task
from tasks.item import EVAL_SEED, Item
from tasks.levels import rule_values
from tasks.shortcuts import Floats

SEED = EVAL_SEED + 1  # not the seed that rules are fitted with
ITEMS = 1024
LIMIT = 4.0  # standard errors: with fifty comparisons of a task one in three hundred tasks is flagged by chance
SPLITS = ("validation", "test/id")


@dataclass(frozen=True, kw_only=True)
class RuleGap:
    """A rule's score on a metric of train and of an evaluation split; `error` is their difference's standard error."""

    rule: str
    metric: str
    split: str
    train: float
    held_out: float
    error: float

    @property
    def flagged(self) -> bool:
        """Whether train and the split disagree by more than sampling explains."""
        return abs(self.train - self.held_out) > max(LIMIT * self.error, 1e-9)

    def __str__(self) -> str:
        return (
            f"the rule {self.rule} scores {self.train:.3f} in {self.metric} on train and {self.held_out:.3f} on "
            f"{self.split} (standard error of the difference: {self.error:.3f})"
        )


def rule_gaps(task: Task, seed: int = SEED, n: int = ITEMS) -> list[RuleGap]:
    """Every rule on every metric of train against validation and test/id; `n` is the number of training items."""
    train = [task.generate("train", seed, index) for index in range(n)]
    known = _scores(task, "train", train)
    found = []
    for split in SPLITS:
        for key, (value, error) in _scores(task, split, task.eval_items(split)).items():
            if key in known:
                rule, metric = key
                both = math.hypot(error, known[key][1])
                found.append(
                    RuleGap(rule=rule, metric=metric, split=split, train=known[key][0], held_out=value, error=both)
                )
    return found


def _scores(task: Task, split: str, items: Sequence[Item]) -> dict[tuple[str, str], tuple[float, float]]:
    """(rule, metric) -> mean and its standard error over clusters of items of one form."""
    forms = [item.canonical for item in items]
    return {key: clustered_mean(values, forms) for key, values in rule_values(task, split, items).items()}


def clustered_mean(values: Floats, clusters: Sequence[str]) -> tuple[float, float]:
    """Mean of the values that are no NaN, and its standard error when whole clusters are drawn; one: infinite."""
    kept = [(value, cluster) for value, cluster in zip(values.tolist(), clusters, strict=True) if not math.isnan(value)]
    mean = float(np.mean([value for value, _ in kept]))
    sums: dict[str, float] = defaultdict(float)
    for value, cluster in kept:
        sums[cluster] += value - mean
    groups = len(sums)
    if groups < 2:
        return mean, math.inf
    squares = math.fsum(total * total for total in sums.values())
    return mean, math.sqrt(squares * groups / (groups - 1)) / len(kept)
