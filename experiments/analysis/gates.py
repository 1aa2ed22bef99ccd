"""The level that some row must have passed before differences between rows say anything: chance, or an n-gram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.analysis.claim_schema import GateLevels
from experiments.analysis.verdict import Gate, learned_from
from experiments.store.records import RunSpec

CEILING = "perfect_reader"


class NoLevel(ValueError):
    """Neither the plan nor the claim says what the level is."""


def gate(
    spec: RunSpec,
    split: str,
    metric: str,
    levels: Mapping[str, float],
    given: GateLevels | None,
    named: set[str],
    rows: Mapping[str, RunSpec] | None = None,
) -> Gate:
    """The gate of a task's split.

    Args:
        spec: any run of the task: what it says of the task's levels comes first.
        split: where rows must have learned the task.
        metric: in which.
        levels: the mean over seeds of every row of the table.
        given: what the claim adds.
        named: the rows that are compared; with `by: named` the weakest of them must have passed.
        rows: a run of each row: of text, a row is measured by the n-grams of the bytes that it has read itself.

    Raises:
        NoLevel: the level is not known.
    """
    info, given = spec.task_info, given or GateLevels()
    ngrams: dict[str, float] = {}
    if not info.higher_is_better:
        told = {row: level_in(one, split, metric) for row, one in (rows or {}).items()}
        ngrams = {row: level for row, level in told.items() if level is not None}
    if given.by == "named":
        order = min if info.higher_is_better else max
        weakest = order(named & set(levels), key=lambda row: levels[row] - ngrams.get(row, 0.0))
        levels = {weakest: levels[weakest]}
    known = level_in(spec, split, metric)
    if info.higher_is_better:
        own = info.chance.get(split, info.chance.get("test/id"))
        chance = next((v for v in (given.chance, known if metric != info.metric else None, own) if v is not None), None)
        if chance is None:
            raise NoLevel(f"no chance level of {spec.task} is known: add gate: {{chance: NUMBER}} to the claim")
        return Gate(levels=levels, chance=chance)
    ngram = given.ngram if known is None else known
    if ngram is None:
        raise NoLevel(f"no n-gram level of {spec.task} is known: add gate: {{ngram: NUMBER}} to the claim")
    return Gate(levels=levels, ngram=ngram, ngrams=ngrams)


def level_in(spec: RunSpec, split: str, metric: str) -> float | None:
    """The best rule or n-gram that the plan itself names for a metric of a split; None: it names none.

    Levels are those of `tasks.levels`: split, metric, name, value. Of n-grams, those of as many bytes as the model has
    read ("of N bytes") come before those of the whole text; a perfect reader is no shortcut.
    """
    found = [_fields(level) for level in getattr(spec.task_info, "levels", None) or ()]
    fits = [one for one in found if (one["split"], one["metric"]) == (split, metric)]
    fits = [one for one in fits if one["name"] != CEILING]
    read = [one for one in fits if one["name"].endswith(" bytes")]
    values = [float(one["value"]) for one in read or fits]
    return None if not values else max(values) if spec.task_info.higher_is_better else min(values)


def _fields(level: Any) -> dict[str, Any]:
    return {
        name: level[name] if isinstance(level, Mapping) else getattr(level, name)
        for name in ("split", "metric", "name", "value")
    }


def as_error(found: Gate) -> Gate:
    """The same gate for a quantity that is no level of the metric (seconds): it knows no best and worst value."""
    if found.chance is None:
        return found
    return Gate(levels={row: 1 - v for row, v in found.levels.items()}, ngram=1 - learned_from(found.chance))
