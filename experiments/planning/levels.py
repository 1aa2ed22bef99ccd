"""How large the splits of a run's task are, and what is scored there without the skill: read from what was planned."""

from __future__ import annotations

from typing import Any

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


def simple_rule(info: TaskInfo, split: str, metric: str) -> LevelInfo | None:
    """The strongest rule that is no n-gram; None where none is known."""
    return next((rule for rule in rules_of(info, split, metric) if "gram" not in rule.name), None)


def ngram(info: TaskInfo, split: str, metric: str) -> LevelInfo | None:
    """The strongest n-gram of as much text as a model reads, else of all training text; None where none is known."""
    grams = [rule for rule in rules_of(info, split, metric) if "gram" in rule.name]
    return next((rule for rule in grams if PART in rule.name), next(iter(grams), None))


def perfect_reader(info: TaskInfo, split: str, metric: str) -> float | None:
    """What a perfect reader scores on a split; None where nothing is said."""
    return readers(info, metric).get(split)


def level_columns(info: TaskInfo, split: str, metric: str) -> dict[str, Any]:
    """What is scored on a split without the skill, and how many different items it has; None where nobody knows."""
    size, rule, gram = size_of(info, split), best_rule(info, split, metric), ngram(info, split, metric)
    return {
        "best_rule": None if rule is None else rule.name,
        "best_rule_value": None if rule is None else rule.value,
        "ngram": None if gram is None else gram.name,
        "ngram_value": None if gram is None else gram.value,
        "different_items": None if size is None else size.different,
        "effective_items": None if size is None else size.effective,
    }
