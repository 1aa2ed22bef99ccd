"""The verdict on a claim "the model is better than each of these by more than a margin", from paired values by seed.

- `supported`: every comparison's one-sided test of "the mean gain is the margin or less" has p <= alpha. All must pass,
  so their number needs no correction (intersection-union test, Berger 1982).
- `refuted`: some comparison's one-sided test of "the mean gain is the margin or more" has p <= alpha / m over the m
  comparisons: one is enough, so their number is paid for (the first step of Holm 1979).
- `not testable`: on some task no row is above chance + 0.3 (1 - chance), or none below the n-gram of the bytes read;
  what the other tasks refute stays refuted.
- `underpowered`: all else.

The margin itself belongs to neither side: a true gain of exactly the margin gives a wrong verdict in 2 alpha of cases
at most, alpha on each side. Which test is used: experiments.analysis.margins. Error rates: docs/statistics.md.

Shapes: R worlds, C comparisons, S seeds, M rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import scipy  # loads its parts when they are first asked for

from experiments.analysis.margins import Flags, Floats, Kind, bounded_p, in_one_piece, lower_end, place_p, unseen
from experiments.analysis.significance import MIN_SEEDS

Outcome = Literal["supported", "refuted", "underpowered", "not testable"]
LEARNED_SHARE = 0.3  # of the way from chance to perfection: what some row must have come


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a task must show before a comparison on it says anything; exactly one of `chance` and `ngram` is given."""

    levels: Mapping[str, float]  # of every row of the table, its mean over seeds
    chance: float | None = None  # of an accuracy
    ngram: float | None = None  # bits per byte of the n-gram of the bytes that the models have read
    ngrams: Mapping[str, float] = field(default_factory=dict)  # of rows that have read other numbers of bytes

    def __post_init__(self) -> None:
        if (self.chance is None) == (self.ngram is None) or not self.levels:
            raise ValueError("a gate has levels, and either chance or ngram")

    @property
    def limit(self) -> float:
        """What the best row must pass: from above for an accuracy, from below for bits per byte."""
        return learned_from(self.chance) if self.chance is not None else float(self.ngram or 0.0)

    @property
    def passed(self) -> bool:
        """Whether some row has learned the task."""
        if self.chance is not None:
            return max(self.levels.values()) > self.limit
        return any(level < self.ngrams.get(row, self.limit) for row, level in self.levels.items())

    @property
    def scale(self) -> float:
        """From the gate's level to perfection, in units of the metric."""
        return 1 - self.chance if self.chance is not None else float(self.ngram or 0.0)


def learned_from(chance: float) -> float:
    """The accuracy above which a row counts as having learned something."""
    return chance + LEARNED_SHARE * (1 - chance)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The model against one other on one task and split.

    A seed of an accuracy may stay at chance or reach 1 though none did (`reach`, from the gate): the tests allow for
    it, unless the seeds of every row of the place, the `earlier` ones included, are many enough and do not fall apart.
    Of bits per byte and of quantities without a gate nothing is allowed for that is not seen.
    """

    other: str
    place: str  # task and split, as they are printed
    mine: Mapping[int, float]  # by seed
    theirs: Mapping[int, float]
    higher_is_better: bool = True
    gate: Gate | None = None  # None: of a quantity without one, such as seconds
    earlier: tuple[Sequence[float], Sequence[float]] = ((), ())  # other seeds of both, at the same settings
    reach: tuple[float, float] | None = None  # worst and best level; None: chance and 1 of an accuracy

    @property
    def kind(self) -> Kind:
        """What is known of its seeds, in a direction in which higher is better."""
        ends = self.reach
        if ends is None and self.gate is not None and self.gate.chance is not None:
            ends = (self.gate.chance, 1.0)
        if ends is not None and not self.higher_is_better:
            ends = (-ends[0], -ends[1])
        scale = None if self.gate is None else self.gate.scale
        return Kind(reach=ends, scale=scale)


@dataclass(frozen=True, kw_only=True)
class Found:
    """One comparison; gains are positive where the model is better. low > margin supports, high < margin refutes."""

    others: tuple[str, ...]  # more than one where they are the same run to the last digit
    place: str
    seeds: int
    effect: float | None
    low: float | None = None  # lower bound at level alpha
    high: float | None = None  # upper bound at level alpha / m
    p_above: float = 1.0  # of "the gain is the margin or less"
    p_below: float = 1.0  # of "the gain is the margin or more"
    bounded: bool = False
    testable: bool = True

    @property
    def name(self) -> str:
        return f"{self.place} over {' = '.join(self.others)}"


@dataclass(frozen=True)
class Verdict:
    """A verdict; the figures are those of the hardest comparison, `p` is corrected where the verdict needs it."""

    verdict: Outcome
    reason: str
    effect: float | None
    low: float | None
    high: float | None
    p: float | None
    hardest: str
    comparisons: tuple[Found, ...]


def decide(above_C: Floats, below_C: Floats, alpha: float) -> tuple[Flags, Flags]:
    """Whether all comparisons support, and whether some refutes: [..., C] -> [...]. `above_C` and `below_C` are p."""
    supported = (above_C <= alpha).all(axis=-1)
    refuted = below_C.min(axis=-1) * below_C.shape[-1] <= alpha
    return np.asarray(supported, dtype=np.bool_), np.asarray(refuted & ~supported, dtype=np.bool_)


def verdict(comparisons: Sequence[Comparison], margin: float, alpha: float = 0.05) -> Verdict:
    """The verdict on a claim.

    Args:
        comparisons: all that the claim names.
        margin: the smallest effect, in units of the metric, at least 0.
        alpha: the probability, at most, of a wrong `supported`, and of a wrong `refuted`.

    Raises:
        ValueError: no comparison, a negative margin, an alpha outside of (0, 0.5), a value that is no number, or
            comparisons of one place that differ in the model's values or in the metric.
    """
    _check(comparisons, margin, alpha)
    places: dict[str, list[tuple[tuple[str, ...], Comparison]]] = {}
    for others, comparison in merged(comparisons):
        places.setdefault(comparison.place, []).append((others, comparison))
    m = sum(len(group) for group in places.values())
    found = [one for group in places.values() for one in _place(group, margin, alpha, m)]
    return _sum_up(found, margin, alpha)


def merged(comparisons: Sequence[Comparison]) -> list[tuple[tuple[str, ...], Comparison]]:
    """The comparisons and whom each is with: those of one place with the same values to the last digit are one."""
    kept: dict[tuple[str, tuple[tuple[int, float], ...]], tuple[tuple[str, ...], Comparison]] = {}
    for comparison in comparisons:
        key = (comparison.place, tuple(sorted(comparison.theirs.items())))
        names, first = kept.get(key, ((), comparison))
        kept[key] = (*names, comparison.other), first
    return list(kept.values())


def _check(comparisons: Sequence[Comparison], margin: float, alpha: float) -> None:
    if not comparisons:
        raise ValueError("a verdict needs a comparison")
    if not (margin >= 0 and 0 < alpha < 0.5):
        raise ValueError(f"a margin is at least 0 and alpha between 0 and 0.5, got {margin} and {alpha}")
    for one in comparisons:
        if not np.isfinite([*one.mine.values(), *one.theirs.values()]).all():
            raise ValueError(f"{one.place} over {one.other}: a value is no finite number")
    first: dict[str, Comparison] = {}
    for one in comparisons:
        known = first.setdefault(one.place, one)
        if known.mine != one.mine or known.kind != one.kind or known.higher_is_better != one.higher_is_better:
            raise ValueError(f"{one.place} over {one.other} and over {known.other}: the model or the metric differs")


def _place(group: Sequence[tuple[tuple[str, ...], Comparison]], margin: float, alpha: float, m: int) -> list[Found]:
    """The comparisons of one place, on the seeds that all its rows have."""
    first = group[0][1]
    sign = 1.0 if first.higher_is_better else -1.0
    seeds = sorted(set(first.mine).intersection(*(one.theirs for _, one in group)))
    testable = first.gate is None or first.gate.passed
    mine_S = sign * np.array([first.mine[seed] for seed in seeds], dtype=np.float64)
    theirs_CS = sign * np.array([[one.theirs[seed] for seed in seeds] for _, one in group], dtype=np.float64)
    effects = (mine_S - theirs_CS).mean(axis=-1).tolist() if seeds else [None] * len(group)
    if len(seeds) < MIN_SEEDS:
        return [
            Found(others=others, place=one.place, seeds=len(seeds), effect=effect, testable=testable)
            for (others, one), effect in zip(group, effects, strict=True)
        ]
    kind = first.kind
    above_C, below_C, bounded_C = place_p(mine_S, theirs_CS, margin, kind, _one_piece([one for _, one in group], kind))
    worst_C, best_C = unseen(mine_S, theirs_CS, kind.reach)
    return [
        Found(
            others=others,
            place=one.place,
            seeds=len(seeds),
            effect=effects[c],
            low=_bound(mine_S - theirs_CS[c], float(worst_C[c]), bool(bounded_C[c]), alpha),
            high=-_bound(theirs_CS[c] - mine_S, -float(best_C[c]), bool(bounded_C[c]), alpha / m),
            p_above=float(above_C[c]),
            p_below=float(below_C[c]),
            bounded=bool(bounded_C[c]),
            testable=testable,
        )
        for c, (others, one) in enumerate(group)
    ]


def _one_piece(group: Sequence[Comparison], kind: Kind) -> bool:
    """Whether each row of the place, with its earlier seeds, is known to be in one piece."""
    rows = [[*group[0].mine.values(), *group[0].earlier[0]]]
    rows += [[*one.theirs.values(), *one.earlier[1]] for one in group]
    return kind.scale is not None and all(bool(in_one_piece(np.array([row]), kind.scale)) for row in rows)


def _bound(gains_S: Floats, worst: float, bounded: bool, alpha: float) -> float:
    """The lower confidence bound of the mean gain that belongs to the test."""
    mean, sd = float(gains_S.mean()), float(gains_S.std(ddof=1))
    if bounded:
        least = min(worst, float(gains_S.min()))
        return lower_end(lambda margin: float(bounded_p(gains_S, worst, margin)), least, float(gains_S.max()), alpha)
    if sd <= 1e-12 * max(1.0, abs(mean)):  # the sign test: n gains alike
        return mean if 2.0 ** -len(gains_S) <= alpha else float("-inf")
    n = len(gains_S)
    return mean - float(scipy.special.stdtrit(n - 1, 1 - alpha)) * sd / float(np.sqrt(n))


def _sum_up(found: Sequence[Found], margin: float, alpha: float) -> Verdict:
    """The verdict over all comparisons, its figures and its sentence."""
    above_C = np.array([one.p_above if one.testable else 1.0 for one in found])
    below_C = np.array([one.p_below if one.testable else 1.0 for one in found])
    supported, refuted = (bool(flag) for flag in decide(above_C, below_C, alpha))
    barred = [one for one in found if not one.testable]
    outcome: Outcome = "supported" if supported else "refuted" if refuted else "underpowered"
    if barred and outcome == "underpowered":
        places = ", ".join(dict.fromkeys(one.place for one in barred))
        why = f"no row has learned {places}: differences between rows say nothing there"
        return Verdict("not testable", why, None, None, None, None, barred[0].name, tuple(found))
    at = int(np.argmin(below_C)) if refuted else max(range(len(found)), key=lambda c: (above_C[c], -below_C[c]))
    hard = found[at]
    p = min(1.0, len(found) * hard.p_below) if refuted else hard.p_above
    reason = _reason(outcome, found, hard, p, margin)
    return Verdict(outcome, reason, hard.effect, hard.low, hard.high, p, hard.name, tuple(found))


def _reason(outcome: Outcome, found: Sequence[Found], hard: Found, p: float, margin: float) -> str:
    if hard.low is None or hard.high is None or hard.effect is None:
        return f"{hard.seeds} shared seeds are too few to test {hard.name}, it takes {MIN_SEEDS}"
    groups = "; seeds may fall into groups, which the bounds allow for" if hard.bounded else ""
    figures = f"{hard.effect:+.4g} [{hard.low:+.4g}, {hard.high:+.4g}], p = {p:.3g}, {hard.seeds} seeds{groups}"
    m = len(found)
    if outcome == "supported":
        many = "the one comparison is" if m == 1 else f"each of {m} comparisons is"
        return f"{many} above the margin of {margin:g}; the hardest, {hard.name}: {figures}"
    if outcome == "refuted":
        paid = "" if m == 1 else f", corrected for {m} comparisons"
        return f"{hard.name} is below the margin of {margin:g}{paid}: {figures}"
    return f"neither above nor below the margin of {margin:g} for certain; the hardest of {m}, {hard.name}: {figures}"
