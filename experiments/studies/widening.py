"""A range that does not hold the optimum of some model is widened for all models of the column alike.

After the trials of a grid of stated points: where the best of any model of a task stands at an end, each model of that
task gets one more trial beyond that end, a step of the grid away; twice at most. What to add hangs on the records
alone, so that a sweep that was killed goes on with the same trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.analysis.trial_choice import HIGH, LOW, Tried, choose, values_of_axis
from experiments.analysis.trials import by_cell
from experiments.planning.sweep_settings import Tuning

DIGITS = 6  # of a value that was computed
Added = dict[str, list[float]]  # by task


def widened(found: Sequence[Tried], settings: Tuning, better: Mapping[str, bool], added: Added) -> Added:
    """`added` and what the next step adds to it; the same if no best stands at an end.

    Args:
        found: all trials so far, each with a result or failed.
        settings: of the tuning.
        better: whether more is better, by task.
        added: what was added so far.
    """
    if settings.grid is None:
        return added
    key, axis = settings.grid
    places: dict[str, set[str]] = {}
    values: dict[str, list[float]] = {}
    for (_, task), cell in by_cell(found).items():
        places.setdefault(task, set()).add(choose(cell, [key], better[task]).place)
        values[task] = values_of_axis(cell, [key]) or []
    more = dict(added)
    for task, ends in places.items():
        steps = [min(values[task]) / axis.ratio] * (LOW in ends) + [max(values[task]) * axis.ratio] * (HIGH in ends)
        if steps:
            more[task] = [*added.get(task, []), *(float(f"{step:.{DIGITS}g}") for step in steps)]
    return more


def told(before: Added, after: Added, found: Sequence[Tried], key: str) -> list[str]:
    """A line for each task whose range is widened."""
    models = {task: len({m for m, t in by_cell(found) if t == task}) for task in after}
    return [
        f"{task}: a best stands at an end of {key}: {', '.join(f'{v:g}' for v in new)} for all {models[task]} models"
        for task, values in after.items()
        if (new := values[len(before.get(task, [])) :])
    ]


def complete(found: Sequence[Tried]) -> bool:
    """Whether each trial has run."""
    return all(one.row["status"] != "missing" for one in found) and any(one.scored.mean is not None for one in found)
