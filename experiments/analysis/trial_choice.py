"""Which trial of a cell is chosen: the best on validation, unless the default is as good within a standard error.

Trials within one standard error of the best (of the paired difference, where items are known) are tied with it. Of
tied trials the config as it is is chosen if it is among them, else the one nearest to it: a tuning is not to move what
it cannot tell apart. Where the best stands in the range says whether the range held the optimum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.analysis.validation_error import Scored, error_of_difference
from experiments.planning.hydra_values import override_key
from experiments.planning.plan import Plan
from experiments.planning.settings import Entry, TableSettings, TrainerSettings
from experiments.planning.trial_points import VARIANT

INSIDE, LOW, HIGH = "inside", "low end", "high end"


@dataclass(frozen=True)
class Tried:
    """A trial of a cell.

    Attributes:
        row: as it is exported (experiments.analysis.trials.TRIALS, and its point).
        scored: its validation.
        added: it is of its task alone, so a range was widened for it.
        default: the config as it is, in the keys of the point; None: not known.
    """

    row: Mapping[str, Any]
    scored: Scored
    added: bool = False
    default: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """What came of a cell: the trial that is chosen, the best one, how many are tied with it, and where it stands."""

    chosen: Tried | None
    best: Tried | None
    tied: int
    place: str
    widened: str

    @property
    def edge(self) -> bool:
        """The best stands at an end of the range."""
        return self.place in (LOW, HIGH)


def choose(cell: Sequence[Tried], keys: Sequence[str], higher_is_better: bool) -> Choice:
    """The choice among the trials of one model on one task."""
    sign = 1 if higher_is_better else -1
    done = [one for one in cell if one.scored.mean is not None]
    far = dict(zip(map(id, done), distances(done, cell, keys), strict=True))  # of equal scores the nearest is the best
    best = max(done, key=lambda one: (sign * (one.scored.mean or 0.0), -far[id(one)], -one.row["trial"]), default=None)
    tied = [one for one in done if best is not None and _tied(best, one, sign)]
    chosen = min(tied, key=lambda one: (far[id(one)], -sign * (one.scored.mean or 0.0), one.row["trial"]), default=None)
    return Choice(chosen, best, len(tied), place_of(best, cell, keys), _widened(cell, keys))


def _tied(best: Tried, one: Tried, sign: int) -> bool:
    assert best.scored.mean is not None and one.scored.mean is not None
    gap = sign * (best.scored.mean - one.scored.mean)
    return one is best or gap <= (error_of_difference(best.scored, one.scored) or 0.0)


def distances(done: Sequence[Tried], cell: Sequence[Tried], keys: Sequence[str]) -> list[float]:
    """How far each is from the config as it is: 0 = that itself; all 0 where that is not known.

    An axis counts in shares of the span that was tried, in the logarithm if all its values are above 0; a choice
    counts 0 or 1.
    """
    found = [0.0] * len(done)
    for key in keys:
        default = done[0].default.get(key) if done else None
        values, base = [number(one.row[key]) for one in cell], number(default)
        known = [value for value in (*values, base) if value is not None]
        for n, one in enumerate(done):
            mine = number(one.row[key])
            if default is None:
                continue
            if base is None or mine is None or len(known) <= len(values):
                found[n] += float(str(one.row[key]) != str(default))
                continue
            scale = math.log if min(known) > 0 else float
            span = scale(max(known)) - scale(min(known))
            found[n] += ((scale(mine) - scale(base)) / span) ** 2 if span else 0.0
    return [round(value, 9) for value in found]


def place_of(best: Tried | None, cell: Sequence[Tried], keys: Sequence[str]) -> str:
    """Where the best stands among all that were tried, failed ones included; "" unless one number is tuned."""
    values = values_of_axis(cell, keys)
    if best is None or values is None:
        return ""
    mine = number(best.row[keys[0]])
    return LOW if mine == min(values) else HIGH if mine == max(values) else INSIDE


def values_of_axis(cell: Sequence[Tried], keys: Sequence[str]) -> list[float] | None:
    """The values of the one axis that is tuned; None if there are others, or if they are no numbers."""
    found = [number(one.row[keys[0]]) for one in cell] if len(keys) == 1 and keys[0] != VARIANT else [None]
    known = [value for value in found if value is not None]
    return known if len(set(known)) > 1 and len(known) == len(found) else None


def _widened(cell: Sequence[Tried], keys: Sequence[str]) -> str:
    stated = values_of_axis([one for one in cell if not one.added], keys) if any(one.added for one in cell) else None
    if stated is None:
        return ""
    added = [number(one.row[keys[0]]) or 0.0 for one in cell if one.added]
    ends = {"low": sum(value < min(stated) for value in added), "high": sum(value > max(stated) for value in added)}
    return " ".join(f"{end} {count}" for end, count in ends.items() if count)


def number(value: Any) -> float | None:
    """The finite number that a value is or spells, or None."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) and not isinstance(value, bool) else None


def default_of(table: TableSettings, entry: Entry, task: str, keys: Sequence[str]) -> dict[str, Any]:
    """The config as it is without the trial: what the table says of the cell, else what the trainer's settings say."""
    if list(keys) == [VARIANT]:
        return {VARIANT: ""}
    told = {}
    own = entry.overrides[: len(entry.overrides) - len(keys)]
    general = [*table.overrides, *table.per_task.get(task, []), *table.per_model.get(entry.model, [])]
    for override in (*general, *table.chosen(entry, task), *own):
        told[override_key(override)] = override.partition("=")[2]
    return {key: told.get(key, _of_trainer(key)) for key in keys}


def _of_trainer(key: str) -> Any:
    value: Any = {"trainer": TrainerSettings().model_dump()}
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def tried(plan: Plan, rows: Sequence[tuple[Mapping[str, Any], Scored]], keys: Sequence[str]) -> list[Tried]:
    """The trials of a plan, of which `rows` are the exported rows and what they scored."""
    entries = {(e.label, task): e for e in plan.table.entries() for task in e.tasks or plan.table.tasks}
    stated = {entry.label for entry in plan.table.entries() if not entry.tasks}
    found = []
    for row, mine in rows:
        entry = entries[f"{row['model']} #{row['trial']}", row["task"]]
        default = default_of(plan.table, entry, row["task"], keys)
        found.append(Tried(row, mine, bool(entry.tasks) and bool(stated), default))
    return found
