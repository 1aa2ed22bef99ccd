"""Finds the integers that meet goals: enumerates what is not affine, computes what is.

It knows no model: it moves the dials of anything whose figures it can ask for.

    found = search(
        start=(12, 768),
        turn=lambda model, values: (values.get("layers", model[0]), values.get("width", model[1])),
        dials=lambda model: (
            Dial(name="layers", values=range(1, 49), affine=True, fills=True, ordinary=12),
            Dial(name="width", values=range(64, 2049, 64), ordinary=768, smooth=64),
        ),
        measure=lambda model: {"params": 12.0 * model[0] * model[1] ** 2},
        goals={"params": Goal(124e6, 0.02)},
    )

The figures are computed for whole grids at once from the corners of each box (they are affine in every affine dial
by itself), so a solve takes milliseconds; the winner is measured for real, and a dial that is not affine after all
is found out there. The answer is deterministic.

Letters: G points of the grid of the affine dials.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from experiments.planning.box import EXACT, TRIES, Box, Candidate, Goal
from experiments.planning.grids import Array, ends, limits, strangeness, weights
from ressformer.dials import DEPTH, LAST, TRIM, Dial

__all__ = ["Found", "Goal", "search"]

M = TypeVar("M")
KEPT = 4 * TRIES  # Best candidates of all boxes that are tried.


@dataclass(frozen=True)
class Found(Generic[M]):
    """The winner.

    Attributes:
        model: the candidate.
        values: the dials that were moved, and to what.
        figures: what `measure` says of it.
        residuals: relative distance from each goal.
        met: every residual is within its tolerance.
        at_limit: dials that stand at an end of their range, in words.
        dials: the dials that were free.
    """

    model: M
    values: dict[str, int]
    figures: dict[str, float]
    residuals: dict[str, float]
    met: bool
    at_limit: list[str]
    dials: list[Dial] = field(default_factory=list)


def search(
    *,
    start: M,
    turn: Callable[[M, Mapping[str, int]], M],
    dials: Callable[[M], Sequence[Dial]],
    measure: Callable[[M], Mapping[str, float]],
    goals: Mapping[str, Goal],
    near: Mapping[str, float] | None = None,
    pinned: frozenset[str] = frozenset(),
    ranks: int = LAST,
) -> Found[M]:
    """The candidate that meets all goals with the least movement; without one, the nearest.

    Args:
        start: the model as it stands.
        turn: a model with some dials set; a ValueError refuses the combination.
        dials: the dials of a model; ranges may depend on its other values.
        measure: its figures by name, those of `goals` and `near` among them.
        goals: what must be met, by figure.
        near: what to come near to among those that meet the goals.
        pinned: dials that must not move.
        ranks: the highest rank that may move.

    Raises:
        ValueError: a dial said to be affine is not, or no candidate at all is valid.
    """
    question = Question(turn, dials, measure, dict(goals), dict(near or {}), pinned)
    nearest: Found[M] | None = None
    levels = sorted({dial.rank for dial in dials(start) if dial.name not in pinned}) or [0]
    for rank in [rank for rank in levels if rank <= ranks] or [0]:
        found = question.best(start, rank)
        if found is not None and found.met:
            return found
        if found is not None and (nearest is None or _distance(found, goals) < _distance(nearest, goals)):
            nearest = found
    if nearest is None:
        raise ValueError("no combination of the dials is valid")
    return nearest


def _distance(found: Found[Any], goals: Mapping[str, Goal]) -> float:
    return max((abs(found.residuals[key]) / goal.tolerance for key, goal in goals.items()), default=0.0)


@dataclass(frozen=True)
class Question(Generic[M]):
    """The arguments of `search`."""

    turn: Callable[[M, Mapping[str, int]], M]
    dials: Callable[[M], Sequence[Dial]]
    measure: Callable[[M], Mapping[str, float]]
    goals: dict[str, Goal]
    near: dict[str, float]
    pinned: frozenset[str]

    def best(self, start: M, rank: int) -> Found[M] | None:
        """The best candidate with the dials up to `rank` free; None if no combination is valid."""
        found: list[Candidate] = []
        for box in self.boxes(start, rank):
            cut = found[-1].key[0] if len(found) == KEPT else math.inf
            found = sorted([*found, *box.best(cut)], key=lambda c: c.key)[:KEPT]
        for candidate in found:
            try:
                model = self.turn(start, candidate.values)
            except ValueError:
                continue
            outer = [dial for dial in self.free(start, rank) if not dial.affine]
            inner = [dial for dial in self.free(model, rank) if dial.affine]
            return self.checked(model, candidate, [*inner, *outer])
        return None

    def free(self, model: M, rank: int) -> list[Dial]:
        """The dials that may move at this rank; from depth on, trims stay where they are: grids would be huge."""
        high = (d for d in self.dials(model) if d.rank <= rank and d.name not in self.pinned)
        return [d for d in high if rank < DEPTH or d.rank != TRIM]

    def boxes(self, start: M, rank: int) -> Iterator[Box]:
        """A box for every combination of the dials that have to be tried out one by one."""
        outer = [dial for dial in self.free(start, rank) if not dial.affine]
        for combination in itertools.product(*(dial.values for dial in outer)):
            held = dict(zip((dial.name for dial in outer), combination, strict=True))
            strange = sum(float(strangeness(dial, np.array(float(held[dial.name])))) for dial in outer)
            try:
                model = self.turn(start, held) if held else start
                free = [dial for dial in self.free(model, rank) if dial.affine]
                fill = next((dial for dial in free if dial.fills), None)
                affine = [dial for dial in free if not dial.fills]
                low, high = self.grids(model, affine, fill)
            except ValueError:
                continue
            yield Box(
                affine=affine,
                fill=fill,
                low=low,
                high=high,
                goals=self.goals,
                near=self.near,
                held=held,
                strange=strange,
                deep=rank >= DEPTH,
            )

    def grids(self, model: M, affine: list[Dial], fill: Dial | None) -> tuple[dict[str, Array], dict[str, Array]]:
        """The figures [G] over the grid of the affine dials, with the fill at its lowest and at its highest."""
        corner_values = [ends(dial) for dial in ([fill] if fill else []) + affine]
        names = [dial.name for dial in ([fill] if fill else []) + affine]
        corners: list[Mapping[str, float]] = []
        for combination in itertools.product(*corner_values):
            values = dict(zip(names, combination, strict=True))
            corners.append(self.measure(self.turn(model, values) if values else model))
        found: list[dict[str, Array]] = [{}, {}]
        for key in {*self.goals, *self.near}:
            corner = np.array([c[key] for c in corners], dtype=float).reshape([len(end) for end in corner_values])
            for side in (0, -1):
                grid = corner[side] if fill else corner
                for dial in affine:
                    # Contracts the first axis and appends the dial's: after all of them the order is as it was.
                    grid = np.tensordot(grid, weights(dial), axes=([0], [1]))
                found[side][key] = np.asarray(grid).ravel()
        return found[0], found[1]

    def checked(self, model: M, candidate: Candidate, free: list[Dial]) -> Found[M]:
        """The candidate, measured."""
        figures = {key: float(value) for key, value in self.measure(model).items()}
        for key, computed in candidate.figures.items():
            if abs(figures[key] - computed) > EXACT * abs(figures[key]):
                raise ValueError(
                    f"{key} comes to {figures[key]:.6g} where {computed:.6g} was computed for {candidate.values}: one "
                    "of these dials is not affine"
                )
        residuals = {key: goal.residual(figures[key]) for key, goal in self.goals.items()}
        met = all(abs(residuals[key]) <= goal.tolerance * (1 + 1e-9) for key, goal in self.goals.items())
        return Found(model, candidate.values, figures, residuals, met, limits(free, candidate.values), free)
