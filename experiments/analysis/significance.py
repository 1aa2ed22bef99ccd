"""Statistics over seeds, the unit of replication: t-intervals, paired t-tests, Holm's correction, the rule of bold.

Models of a table share seeds and test items, so differences are taken seed by seed on the same items. Bold is an
intersection-union test per column (the best must beat every other model, so the largest p decides; Berger 1982)
with Holm's correction over the columns of the table. Aggregates over tasks are in experiments.analysis.bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import scipy  # loads its parts when they are first asked for

Key = TypeVar("Key")  # of a column of a table
MIN_SEEDS = 3  # fewer seeds give no interval and no p
BOLD_SEEDS = 5  # fewer seeds give no verdict
GAP_SHARE = 0.2  # of the way from chance to perfection: what a gap between groups of seeds spans at least
GAP_RATIO = 2.0  # of such a gap to all the rest of the range


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Mean, standard deviation (n - 1) and t-interval; None where n is too small to say."""

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.high is None or self.mean is None else self.high - self.mean


def summary(values: Sequence[float], confidence: float = 0.95) -> Summary:
    """Summarise one value per seed; interval: mean +- t_(n-1) * sd / sqrt(n), from `MIN_SEEDS` on."""
    n = len(values)
    if n == 0:
        return Summary(n=0, mean=None, sd=None, low=None, high=None)
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(n=1, mean=mean, sd=None, low=None, high=None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    if n < MIN_SEEDS:
        return Summary(n=n, mean=mean, sd=sd, low=None, high=None)
    # What scipy.stats.t asks, without its checks: many cells ask this.
    half = float(scipy.special.stdtrit(n - 1, 0.5 + confidence / 2)) * sd / math.sqrt(n)
    return Summary(n=n, mean=mean, sd=sd, low=mean - half, high=mean + half)


def paired_p(a: Mapping[int, float], b: Mapping[int, float]) -> float | None:
    """Two-sided p of the paired t-test over the seeds that both have; None with fewer than `MIN_SEEDS`."""
    seeds = sorted(set(a) & set(b))
    if len(seeds) < MIN_SEEDS:
        return None
    found = summary([a[seed] - b[seed] for seed in seeds])
    assert found.mean is not None and found.sd is not None
    if found.sd == 0:  # no spread to measure against: what is left is the exact sign test, all n signs alike
        return 1.0 if found.mean == 0 else 2.0 ** (1 - found.n)
    return 2 * _tail(abs(found.mean), found.sd, found.n)


def one_sided_p(differences: Sequence[float]) -> float:
    """P of the paired t-test against "the mean difference is 0 or less"."""
    found = summary(differences)
    assert found.mean is not None and found.sd is not None
    if found.sd == 0:
        return 0.0 if found.mean > 0 else 1.0
    return _tail(found.mean, found.sd, found.n)


def _tail(mean: float, sd: float, n: int) -> float:
    """P(T >= mean / (sd / sqrt(n))) of Student's t with n - 1 degrees of freedom."""
    return float(scipy.special.stdtr(n - 1, -mean / (sd / math.sqrt(n))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): sorted, times (m - rank), never falling, at most 1."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def seeds_needed(columns: int, alpha: float = 0.05, least: int = BOLD_SEEDS) -> int:
    """Shared seeds below which a table of so many columns gives no verdict.

    Where a seed either solves a task (probability q) or does not, all S seeds of one of two equal models do and none
    of the other's with probability 2 (q (1 - q))^S <= 2 / 4^S, and no t-test can tell that from a difference. S is
    chosen so that this luck, over all columns, stays within `alpha`; it is never below `least`.
    """
    return max(least, math.ceil(math.log(2 * max(1, columns) / alpha, 4)))


def groups(values: Sequence[float], scale: float) -> tuple[list[float], list[float]] | None:
    """The seeds of a cell as two groups, if they fall apart: then the mean describes no run. None if they do not.

    They do if the largest gap between neighbours spans `GAP_SHARE` of `scale` and is `GAP_RATIO` times the rest of the
    range. benchmarks/statistics.py says how often that is so by chance.

    Args:
        values: one per seed.
        scale: |perfection - chance|, in units of the metric.
    """
    ordered = sorted(values)
    if len(ordered) < MIN_SEEDS:
        return None
    gap, at = max((b - a, n) for n, (a, b) in enumerate(pairwise(ordered), start=1))
    rest = ordered[-1] - ordered[0] - gap
    return (ordered[:at], ordered[at:]) if gap >= GAP_SHARE * scale and gap >= GAP_RATIO * rest else None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Who is best in a column by mean, the p of the hardest comparison, raw and adjusted, and whether it decides."""

    best: str | None
    p: float | None
    adjusted: float | None
    significant: bool


def hardest(cells: Mapping[str, Mapping[int, float]], higher_is_better: bool) -> tuple[str | None, float | None]:
    """The best label by mean, and the largest p of its paired tests against the others; None where unknown."""
    means = {label: summary(list(values.values())).mean for label, values in cells.items()}
    known = {label: mean for label, mean in means.items() if mean is not None}
    if not known:
        return None, None
    best = (max if higher_is_better else min)(known, key=lambda label: known[label])
    found = [paired_p(cells[best], cells[other]) for other in cells if other != best]
    if not found or any(p is None for p in found):
        return best, None
    return best, max(p for p in found if p is not None)


def verdicts(
    columns: Mapping[Key, tuple[Mapping[str, Mapping[int, float]], bool]], alpha: float = 0.05, least: int = BOLD_SEEDS
) -> dict[Key, Verdict]:
    """The verdict on each column of a table.

    Args:
        columns: per column, (per label, the metric by seed; whether higher is better).
        alpha: the probability, at most, of one or more wrong verdicts in the whole table.
        least: shared seeds that a verdict needs at least; see `seeds_needed`.
    """
    needed = seeds_needed(len(columns), alpha, least)
    found = {key: hardest(cells, higher) for key, (cells, higher) in columns.items()}
    tested = [key for key, (_, p) in found.items() if p is not None]
    adjusted = dict(zip(tested, holm([found[key][1] or 0.0 for key in tested]), strict=True))
    return {
        key: Verdict(
            best=best,
            p=p,
            adjusted=adjusted.get(key),
            significant=adjusted.get(key, 1.0) <= alpha and _shared(columns[key][0], best) >= needed,
        )
        for key, (best, p) in found.items()
    }


def _shared(cells: Mapping[str, Mapping[int, float]], best: str | None) -> int:
    """The least number of seeds that the best has in common with another."""
    if best is None:
        return 0
    return min((len(set(cells[best]) & set(cells[other])) for other in cells if other != best), default=0)
