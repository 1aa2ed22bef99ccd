"""Statistics over seeds, the unit of replication: t-intervals, paired t-tests, Holm's correction, the rule of bold.

Models of a table share seeds and test items, so differences are taken seed by seed on the same items. Bold is an
intersection-union test per column (the best must beat every other model, so the largest p decides; Berger 1982)
with Holm's correction over the columns of the table. Aggregates over tasks are in experiments.robust.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIN_SEEDS = 3  # fewer seeds give no interval and no verdict


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
    from scipy.stats import t

    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * sd / math.sqrt(n)
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
    from scipy.stats import t

    return float(t.sf(mean / (sd / math.sqrt(n)), n - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): sorted, times (m - rank), never falling, at most 1."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


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
    columns: Mapping[str, tuple[Mapping[str, Mapping[int, float]], bool]], alpha: float = 0.05
) -> dict[str, Verdict]:
    """The verdict on each column of a table.

    Args:
        columns: per column, (per label, the metric by seed; whether higher is better).
        alpha: the probability, at most, of one or more wrong verdicts in the whole table.
    """
    found = {key: hardest(cells, higher) for key, (cells, higher) in columns.items()}
    tested = [key for key, (_, p) in found.items() if p is not None]
    adjusted = dict(zip(tested, holm([found[key][1] or 0.0 for key in tested]), strict=True))
    return {
        key: Verdict(best=best, p=p, adjusted=adjusted.get(key), significant=adjusted.get(key, 1.0) <= alpha)
        for key, (best, p) in found.items()
    }


def significantly_best(
    cells: Mapping[str, Mapping[int, float]], higher_is_better: bool, alpha: float = 0.05
) -> str | None:
    """The label that beats every other one in a table of this one column; None if there is none."""
    verdict = verdicts({"": (cells, higher_is_better)}, alpha)[""]
    return verdict.best if verdict.significant else None
