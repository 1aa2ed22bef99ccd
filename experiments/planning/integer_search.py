"""Finds the integers that meet goals: enumerates what is not affine, computes what is.

It knows no model: it moves the dials of anything whose figures it can ask for. This file is longer than 300 lines: the
search, the box of candidates and the arrays that dials make are one subject.

A worked example: experts of width f, whose weights are 16 x experts x f, are to have 2,000 weights within 3 %.

>>> question = Question(
...     turn=lambda model, values: {**model, **values},
...     dials=lambda model: (
...         Dial(name="f", values=range(8, 65, 8), affine=True, fills=True, ordinary=32),
...         Dial(name="experts", values=range(1, 5), affine=True),
...     ),
...     measure=lambda model: {"params": 16.0 * model["experts"] * model["f"]},
...     goals={"params": Goal(2000, 0.03)},
... )
>>> found = search(question, start={"experts": 1, "f": 32})
>>> found.model, found.figures, found.met
({'experts': 4, 'f': 32}, {'params': 2048.0}, True)

Both dials are affine: with all else held, the figure grows by the same amount with each step. So four measurements, at
the corners of the box, give the figure everywhere in it. Each point of the grid (here: each number of experts) asks
where the fill, f, would hit the goal, and looks at the allowed values beside it; the ordinary shape wins among those
that meet the goal:

    experts   params at f = 8 .... f = 64     f that hits 2,000    allowed beside it
       1             128 ........ 1,024       125, beyond its end  64 ->  1,024  -49 %
       2             256 ........ 2,048        62.5                64 ->  2,048  +2.4 %   met
       3             384 ........ 3,072        41.7                40 ->  1,920  -4.0 %
       4             512 ........ 4,096        31.3                32 ->  2,048  +2.4 %   met, and f is ordinary

A dial that is not affine (a number of heads) is tried value by value, a box for each. Dials of a higher rank (depth,
width) move only where the lower ones cannot meet the goals. The winner is measured for real, so that a dial which is
not affine after all is found out. The answer is deterministic, and a solve takes milliseconds.

Letters: A affine dials but the fill, G points of their grid, C candidate values of the fill.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ressformer.dials import DEPTH, LAST, TRIM, Dial

Array = NDArray[np.float64]
FAR = 1e300  # Distance from which on a point is no candidate.
EXACT = 1e-6  # Relative error that a computed figure may have against the measured one.
TRIES = 32  # Best candidates looked at before a box is given up: a model may refuse some combinations.
SOFT = 0.015  # Soft residuals below it count as none, and above it in steps of a quarter doubling: shape wins ties.
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


def search(question: Question[M], start: M, ranks: int = LAST) -> Found[M]:
    """The candidate that meets all goals with the least movement from `start`; without one, the nearest.

    Args:
        question: what may move, and what is to be met.
        start: the model as it stands.
        ranks: the highest rank that may move.

    Raises:
        ValueError: a dial said to be affine is not, or no candidate at all is valid.
    """
    nearest: Found[M] | None = None
    levels = sorted({dial.rank for dial in question.dials(start) if dial.name not in question.pinned}) or [0]
    for rank in [rank for rank in levels if rank <= ranks] or [0]:
        found = question.best(start, rank)
        if found is not None and found.met:
            return found
        if found is not None and (nearest is None or _distance(found, question) < _distance(nearest, question)):
            nearest = found
    if nearest is None:
        raise ValueError("no combination of the dials is valid")
    return nearest


def _distance(found: Found[Any], question: Question[Any]) -> float:
    return max((abs(found.residuals[key]) / goal.tolerance for key, goal in question.goals.items()), default=0.0)


@dataclass(frozen=True)
class Question(Generic[M]):
    """What `search` is to find.

    Attributes:
        turn: a model with some dials set; a ValueError refuses the combination.
        dials: the dials of a model; ranges may depend on its other values.
        measure: its figures by name, those of `goals` and `near` among them.
        goals: what must be met, by figure.
        near: what to come near to among those that meet the goals.
        pinned: dials that must not move.
    """

    turn: Callable[[M, Mapping[str, int]], M]
    dials: Callable[[M], Sequence[Dial]]
    measure: Callable[[M], Mapping[str, float]]
    goals: Mapping[str, Goal]
    near: Mapping[str, float] = field(default_factory=dict)
    pinned: frozenset[str] = frozenset()

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


def ends(dial: Dial) -> tuple[int, ...]:
    """The values at which an affine dial is measured."""
    if dial.anchors is not None:
        return dial.anchors
    return (dial.values[0], dial.values[-1]) if len(dial.values) > 1 else (dial.values[0],)


def weights(dial: Dial) -> Array:
    """How much each anchor counts at each of the dial's values, [values, anchors]."""
    at, v = ends(dial), np.asarray(dial.values, dtype=float)
    if len(at) == 1:
        return np.ones((len(v), 1))
    share = (v - at[0]) / (at[1] - at[0])
    return np.stack([1 - share, share], axis=1)


def strangeness(dial: Dial, values: Array) -> Array:
    """0 at the ordinary value; 1 per doubling away from it, and a tenth per factor of two that roundness lacks."""
    far = np.abs(np.log2(np.maximum(values, 1e-9) / dial.ordinary)) if dial.ordinary else np.zeros_like(values)
    rough = dial.smooth / np.gcd(np.round(values).astype(np.int64), dial.smooth)
    return np.asarray(far + 0.1 * np.log2(rough))


def limits(dials: Sequence[Dial], values: Mapping[str, int]) -> list[str]:
    """Dials that stand at an end of their range, in words."""
    found = [(d.name, values[d.name], d.values[0], d.values[-1]) for d in dials if d.name in values]
    return [
        f"{name} is at its {'lowest' if value == low else 'highest'}, {value}"
        for name, value, low, high in found
        if value in (low, high) and low != high
    ]


def lowest_maximum(offs: Sequence[Array], rises: Sequence[Array]) -> Array:
    """The least over s in [0, 1] of max_k |off_k + rise_k s|, elementwise.

    The maximum is convex and made of straight pieces, so it is lowest at an end, at a zero of one of them, or where
    two are equal in size.
    """
    tried = [np.zeros_like(offs[0]), np.ones_like(offs[0])]
    lines = list(zip(offs, rises, strict=True))
    crossings = [(off, rise) for off, rise in lines]
    for (off, rise), (other, climb) in itertools.combinations(lines, 2):
        crossings += [(off - other, rise - climb), (off + other, rise + climb)]
    for off, rise in crossings:
        moves = np.abs(rise) > 0
        tried.append(np.clip(np.where(moves, -off / np.where(moves, rise, 1.0), 0.0), 0.0, 1.0))
    peaks = [np.max([np.abs(off + rise * s) for off, rise in lines], axis=0) for s in tried]
    return np.asarray(np.min(peaks, axis=0))
