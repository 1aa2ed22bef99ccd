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

Letters: A affine dials but the fill, G points of their grid, C candidate values of the fill.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from experiments.grids import Array, ends, limits, strangeness, weights
from ressformer.dials import DEPTH, LAST, TRIM, Dial

M = TypeVar("M")
EXACT = 1e-6  # Relative error that a computed figure may have against the measured one.
TRIES = 32  # Best candidates looked at before a box is given up: a model may refuse some combinations.
SOFT = 0.015  # Soft residuals below it count as none, and above it in steps of a quarter doubling: shape wins ties.


class Goal(NamedTuple):
    """A figure to meet, and the largest relative residual that counts as met."""

    value: float
    tolerance: float

    def residual(self, figure: float) -> float:
        """(figure - value) / value."""
        return figure / self.value - 1


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


class Candidate(NamedTuple):
    """One point of a box with its rank among all: the smaller `key` wins."""

    key: tuple[float, ...]
    values: dict[str, int]
    figures: dict[str, float]


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
        found = [c for model, values in self.boxes(start, rank) for c in self.points(start, model, values, rank)]
        for candidate in sorted(found, key=lambda c: c.key)[: 4 * TRIES]:
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

    def boxes(self, start: M, rank: int) -> Iterator[tuple[M, dict[str, int]]]:
        """Every combination of the dials that have to be tried out one by one."""
        outer = [dial for dial in self.free(start, rank) if not dial.affine]
        for combination in itertools.product(*(dial.values for dial in outer)):
            values = dict(zip((dial.name for dial in outer), combination, strict=True))
            try:
                yield self.turn(start, values) if values else start, values
            except ValueError:
                continue

    def points(self, start: M, model: M, outer: dict[str, int], rank: int) -> list[Candidate]:
        """The best few candidates of a box: `model` is `start` with the `outer` dials set."""
        free = self.free(model, rank)
        affine = [dial for dial in free if dial.affine and not dial.fills]
        fill = next((dial for dial in free if dial.affine and dial.fills), None)
        try:
            low_G, high_G = self.grids(model, affine, fill)
        except ValueError:
            return []
        axes_G = np.meshgrid(*(np.asarray(d.values, dtype=float) for d in affine), indexing="ij")
        fill_GC = self.fillings(low_G, high_G, fill)
        share_GC = np.zeros_like(fill_GC)
        if fill is not None and fill.values[-1] > fill.values[0]:
            share_GC = (fill_GC - fill.values[0]) / (fill.values[-1] - fill.values[0])
        figures = {key: low_G[key][..., None] + (high_G[key] - low_G[key])[..., None] * share_GC for key in low_G}
        strange_GC = sum(
            (strangeness(dial, axis_G[..., None]) for dial, axis_G in zip(affine, axes_G, strict=True)),
            strangeness(fill, fill_GC) if fill else np.zeros_like(fill_GC),
        )
        for dial in self.free(start, rank):
            if dial.name in outer:
                strange_GC = strange_GC + strangeness(dial, np.array(float(outer[dial.name])))
        places = {dial.name: axis_G for dial, axis_G in zip(affine, axes_G, strict=True)}
        for dial in affine:
            if dial.at_least in places:  # too strange to be chosen, and refused if it is all the same
                wrong_G = places[dial.name] < places[dial.at_least]
                figures = {key: np.where(wrong_G[..., None], math.inf, value) for key, value in figures.items()}
        columns = self.keys(figures, strange_GC, rank)
        order = np.lexsort([column.ravel() for column in reversed(columns)])[:TRIES]
        found = []
        for flat in order:
            at = np.unravel_index(flat, fill_GC.shape)
            values = {dial.name: round(float(axis_G[at[:-1]])) for dial, axis_G in zip(affine, axes_G, strict=True)}
            if fill is not None:
                values[fill.name] = round(float(fill_GC[at]))
            key = tuple(float(column[at]) for column in columns)
            found.append(Candidate(key, {**outer, **values}, {k: float(v[at]) for k, v in figures.items()}))
        return found

    def keys(self, figures: dict[str, Array], strange: Array, rank: int) -> list[Array]:
        """What candidates are compared by, the weightiest first: distance beyond tolerance, soft gap, strangeness.

        From depth on, strangeness outweighs the soft gap: what a family is does not bend to come near to a figure.
        """
        worst = np.zeros_like(strange)
        for key, goal in self.goals.items():
            worst = np.maximum(worst, np.abs(figures[key] / goal.value - 1) / goal.tolerance)
        beyond = np.where(worst <= 1, 0.0, worst)
        gap = np.zeros_like(strange)
        for key, value in self.near.items():
            off = np.abs(figures[key] / value - 1)
            gap = np.maximum(gap, np.round(4 * np.log2(np.maximum(off / SOFT, 1.0))))
        shape = np.round(strange, 6)
        return [beyond, *((gap, shape) if rank < DEPTH else (shape, gap)), np.round(worst, 6)]

    def grids(self, model: M, affine: list[Dial], fill: Dial | None) -> tuple[dict[str, Array], dict[str, Array]]:
        """The figures over the grid of the affine dials, with the fill at its lowest and at its highest."""
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
                found[side][key] = np.asarray(grid)
        return found[0], found[1]

    def fillings(self, low_G: dict[str, Array], high_G: dict[str, Array], fill: Dial | None) -> Array:
        """Values of the fill worth a look: the round ones within what all goals allow, and where they are missed alike.

        Each goal allows a stretch of the fill; in what they share, the end points and the point nearest to what is
        wanted softly are tried at every roundness.
        """
        shape = next(iter(low_G.values())).shape
        if fill is None:
            return np.zeros((*shape, 1))
        first, last = fill.values[0], fill.values[-1]
        step = fill.values[1] - first if len(fill.values) > 1 else 1
        low, high = np.full(shape, float(first)), np.full(shape, float(last))
        exact_sum, weight_total = np.zeros(shape), np.full(shape, 1e-300)
        wished = np.full(shape, float(fill.ordinary)) if fill.ordinary else None
        for key in (*self.near, *self.goals):
            value = self.goals[key].value if key in self.goals else self.near[key]
            slope = (high_G[key] - low_G[key]) / max(last - first, 1)
            moves = np.abs(slope) * (last - first) > EXACT * value
            rise = np.where(moves, slope, 1.0)
            exact = np.where(moves, first + (value - low_G[key]) / rise, float(fill.ordinary or first))
            if key not in self.goals:
                wished = exact
                continue
            room = np.where(moves, 0.999 * self.goals[key].tolerance * value / np.abs(rise), math.inf)
            weight = np.where(moves, 1 / room, 0.0)
            low, high = np.maximum(low, exact - room), np.minimum(high, exact + room)
            exact_sum, weight_total = exact_sum + weight * exact, weight_total + weight
        between = exact_sum / weight_total
        best = np.clip(between if wished is None else wished, np.minimum(low, high), np.maximum(low, high))
        values = [np.floor(between / step) * step, np.ceil(between / step) * step]
        for multiple in sorted({step, *(m for m in (2 * step, 4 * step, 8 * step) if m <= fill.smooth)}):
            values += [np.ceil(low / multiple) * multiple, np.floor(high / multiple) * multiple]
            values.append(np.round(best / multiple) * multiple)
        rows = np.clip(np.stack(values, axis=-1), first, last)
        return np.asarray(first + np.round((rows - first) / step) * step)

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
