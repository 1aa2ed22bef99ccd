"""How large the splits of a run's task are, and what is scored there without the skill: read from what was planned."""

from __future__ import annotations

from experiments.store.records import LevelInfo, SizeInfo, TaskInfo

PERFECT = "perfect_reader"  # what is left to read under noise: a ceiling, no rule
PART = " of "  # in the name of n-grams that were counted in a part of the training text


def small_splits(info: TaskInfo) -> dict[str, SizeInfo]:
    """The splits of a verdict, validation and test/id, whose effective number of items is too low for one."""
    return {split: size for split, size in info.sizes.items() if size.effective < size.needed}


def size_of(info: TaskInfo, split: str) -> SizeInfo | None:
    """The size of a split; a probe has the items of test/id."""
    return info.sizes.get("test/id" if split.startswith("probe/") else split)


def rules_of(info: TaskInfo, split: str, metric: str) -> list[LevelInfo]:
    """The levels of a metric of a split, the strongest first, the perfect reader left out."""
    found = [level for level in info.levels if (level.split, level.metric) == (split, metric) and level.name != PERFECT]
    return sorted(found, key=lambda level: level.value, reverse=info.higher_is_better)


def best_rule(info: TaskInfo, split: str, metric: str) -> LevelInfo | None:
    """The strongest rule on a metric of a split; None where none is known."""
    return next(iter(rules_of(info, split, metric)), None)


def readers(info: TaskInfo, metric: str) -> dict[str, float]:
    """What a perfect reader scores, per noise probe."""
    return {level.split: level.value for level in info.levels if level.name == PERFECT and level.metric == metric}
