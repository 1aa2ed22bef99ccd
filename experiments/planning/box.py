"""A box of candidates: all dials held but the affine ones, whose figures are computed for the whole grid at once.

Letters: A affine dials but the fill, G points of their grid, C candidate values of the fill.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.planning.grids import Array, lowest_maximum, strangeness
from ressformer.dials import Dial

FAR = 1e300  # Distance from which on a point is no candidate.
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


class Candidate(NamedTuple):
    """One point of a box with its rank among all: the smaller `key` wins."""

    key: tuple[float, ...]
    values: dict[str, int]
    figures: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Box:
    """The grid of the affine dials.

    Attributes:
        affine: the affine dials but the fill.
        fill: the affine dial with the finest steps, if any.
        low, high: by figure, its values [G] with the fill at its lowest and at its highest.
        goals: what must be met, by figure.
        near: what to come near to among those that meet the goals.
        held: the other dials, and what they are set to.
        strange: how odd these are.
        deep: strangeness outweighs what to come near to.
    """

    affine: Sequence[Dial]
    fill: Dial | None
    low: dict[str, Array]
    high: dict[str, Array]
    goals: Mapping[str, Goal]
    near: Mapping[str, float]
    held: Mapping[str, int]
    strange: float
    deep: bool

    def best(self, cut: float) -> list[Candidate]:
        """The `TRIES` best candidates, less those that are farther from the goals than `cut`.

        Grid points are looked at in the order of the least distance that any fill gives them, until no other can win.
        """
        bound_G = self.bound()
        order_G = np.argsort(bound_G, kind="stable")
        order_G = order_G[bound_G[order_G] <= min(max(cut, 1.0), FAR)]  # within 1 all goals may be met
        taken = int(np.count_nonzero(bound_G <= 1)) + TRIES
        while True:
            found = self.look(np.sort(order_G[:taken]))
            if taken >= len(order_G) or (len(found) == TRIES and found[-1].key[0] < bound_G[order_G[taken]]):
                return found
            taken *= 4

    def bound(self) -> Array:
        """A distance [G] that no fill goes below, in tolerances; infinite where dials contradict each other."""
        offs = [(self.low[key] / goal.value - 1) / goal.tolerance for key, goal in self.goals.items()]
        rises = [(self.high[key] - self.low[key]) / (goal.value * goal.tolerance) for key, goal in self.goals.items()]
        bound_G = (1 - EXACT**2) * lowest_maximum(offs, rises)
        for dial in self.affine:
            if dial.at_least in self.values:
                bound_G[self.values[dial.name] < self.values[dial.at_least]] = math.inf
        return bound_G

    @cached_property
    def values(self) -> dict[str, NDArray[np.int64]]:
        """The value of each affine dial, [G]."""
        axes = np.meshgrid(*(np.asarray(dial.values) for dial in self.affine), indexing="ij")
        return {dial.name: axis.ravel() for dial, axis in zip(self.affine, axes, strict=True)}

    def look(self, part: NDArray[np.intp]) -> list[Candidate]:
        """The best candidates of these points of the grid."""
        low, high = ({key: side[key][part] for key in side} for side in (self.low, self.high))
        fill, fill_GC = self.fill, self.fillings(low, high)
        share_GC = np.zeros_like(fill_GC)
        if fill is not None and fill.values[-1] > fill.values[0]:
            share_GC = (fill_GC - fill.values[0]) / (fill.values[-1] - fill.values[0])
        figures = {key: low[key][..., None] + (high[key] - low[key])[..., None] * share_GC for key in low}
        strange_GC = strangeness(fill, fill_GC) if fill else np.zeros_like(fill_GC)
        for dial in self.affine:
            strange_GC = strange_GC + strangeness(dial, self.values[dial.name][part].astype(float)[..., None])
        columns = self.keys(figures, strange_GC + self.strange)
        found = []
        for flat in np.lexsort([column.ravel() for column in reversed(columns)])[:TRIES]:
            at = np.unravel_index(flat, fill_GC.shape)
            values = {name: int(axis[part[at[0]]]) for name, axis in self.values.items()}
            if fill is not None:
                values[fill.name] = round(float(fill_GC[at]))
            key = tuple(float(column[at]) for column in columns)
            found.append(Candidate(key, {**self.held, **values}, {k: float(v[at]) for k, v in figures.items()}))
        return found

    def keys(self, figures: dict[str, Array], strange: Array) -> list[Array]:
        """What candidates are compared by, the weightiest first: distance beyond tolerance, soft gap, strangeness.

        In a deep box, strangeness outweighs the soft gap: what a family is does not bend to come near to a figure.
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
        return [beyond, *((shape, gap) if self.deep else (gap, shape)), np.round(worst, 6)]

    def fillings(self, low_G: dict[str, Array], high_G: dict[str, Array]) -> Array:
        """Values of the fill worth a look: the round ones within what all goals allow, and where they are missed alike.

        Each goal allows a stretch of the fill; in what they share, the end points and the point nearest to what is
        wanted softly are tried at every roundness.
        """
        fill, shape = self.fill, next(iter(low_G.values())).shape
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
