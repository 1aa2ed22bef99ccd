"""Whether a few new seeds of a table agree with its committed reference: one statement over all cells, at one alpha.

If nothing but the seeds differs, every choice of k of the n + k seeds was as likely to be the new one. In each cell a
statistic compares the new seeds with the rest; the smallest p over the cells is compared with what it would have been
for every other choice (a permutation test of the minimum, Westfall and Young 1993). The choice is made for whole seeds,
all cells at once, so that any dependence between cells is kept, and a false alarm has probability alpha at most in any
world: normal, heavy-tailed or in groups.

The p of a cell is that of the t-test of two samples; where the seeds of the cell, reference and new ones together, fall
into groups it is Fisher's exact p of the shares that learned: a mean between two groups describes no run. If one group
is the new seeds and the other the reference, it is the t-test again. Both p only rank deviations against each other;
the permutations set the level.

Shapes: K cells, N = n + k seeds, L choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import scipy  # loads its parts when they are first asked for
from numpy.typing import NDArray

from experiments.analysis.bootstrap import seed_of
from experiments.analysis.significance import groups

Floats = NDArray[np.float64]
CHOICES = 5000  # more choices than this are drawn, not counted
Cells = Mapping[str, Mapping[int, float]]  # per cell, the value by seed


@dataclass(frozen=True, kw_only=True)
class CellAgreement:
    """One cell. Where it is `grouped`, figures are shares of seeds that learned, else means."""

    cell: str
    grouped: bool
    reference: float
    new: float
    p: float  # simultaneous: the share of choices in which some cell deviates as much
    agrees: bool
    noticed: tuple[float, float] | None  # a new figure at or beyond these ends would have been noticed; see `agreement`

    @property
    def sentence(self) -> str:
        """What is said of the cell."""
        what = "share that learned " if self.grouped else ""
        seen = f"{self.cell}: {what}{self.new:.4g}, reference {self.reference:.4g}"
        seen += " agrees" if self.agrees else f" does not agree (p = {self.p:.3g})"
        if self.noticed is None:
            return f"{seen}; so few seeds would have shown no deviation"
        below, above = self.noticed
        ends = [f"{below:.4g} or less" * (below > -math.inf), f"{above:.4g} or more" * (above < math.inf)]
        return f"{seen}; noticed would have been {' and '.join(end for end in ends if end)}"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The statement over all cells."""

    agrees: bool
    p: float
    alpha: float
    seeds: tuple[int, int]  # of the reference, new
    cells: tuple[CellAgreement, ...]

    @property
    def sentence(self) -> str:
        """The statement in words."""
        n, k = self.seeds
        sure = f"{1 - self.alpha:.0%} over all {len(self.cells)} cells at once"
        if self.agrees:
            return f"these {k} seeds agree with the reference's {n} ({sure}; p = {self.p:.3g})"
        names = ", ".join(one.cell for one in self.cells if not one.agrees)
        return f"these {k} seeds do not agree with the reference's {n} in {names} ({sure}; p = {self.p:.3g})"


def agreement(
    reference: Cells,
    new: Cells,
    scales: Mapping[str, float],
    alpha: float = 0.05,
    ends: Mapping[str, tuple[float, float]] | None = None,
) -> Agreement:
    """Compare new seeds with the reference's; on the seeds that all cells have on either side.

    `noticed` holds the ends beyond which the cell's new figure would have been found to deviate: for a mean 4 times in
    5 (the t-test at the level that the permutations have set), for a share always. None: no figure would.

    Args:
        reference: per cell, the value by seed.
        new: the same cells. Their seeds are drawn anew; the same numbers on another machine count as new ones.
        scales: per cell, from chance to perfection in units of the metric, for the detector of groups.
        alpha: the probability, at most, of a false alarm.
        ends: per cell, the least and the greatest possible value; none beyond it is named as one to be noticed.

    Raises:
        ValueError: the cells differ, or the seeds are too few for any deviation to be noticed.
    """
    if not reference or set(reference) != set(new):
        odd = sorted(set(reference) ^ set(new))
        raise ValueError(f"reference and new seeds must have the same cells, only one has: {', '.join(odd) or 'none'}")
    names = list(reference)
    values_NK, n, k = _matrix(reference, new, names)
    if k < 2 or 1 / math.comb(n + k, k) > alpha:
        raise ValueError(f"{k} new seeds beside {n} of the reference cannot show a deviation at {alpha:g}, 2 and 5 can")
    learned_NK, grouped_K = _learned(values_NK, [scales[name] for name in names])
    chosen_LN = choices(n, k, seed_of(values_NK))
    least_L, first_K = _p(values_NK, learned_NK, grouped_K, chosen_LN)
    least_L = np.sort(least_L)
    p_K = np.searchsorted(least_L, first_K * (1 + 1e-9), side="right") / len(least_L)
    limit = _limit(least_L, alpha)
    count_K = learned_NK.sum(axis=0)
    grouped_K &= ~_sides(learned_NK[n:].sum(axis=0).astype(int), count_K, n + k, k)
    shown_NK = np.where(grouped_K, learned_NK, values_NK)
    cells = tuple(
        CellAgreement(
            cell=name,
            grouped=bool(grouped_K[c]),
            reference=float(shown_NK[:n, c].mean()),
            new=float(shown_NK[n:, c].mean()),
            p=float(p_K[c]),
            agrees=bool(p_K[c] > alpha),
            noticed=_share_noticed(learned_NK[:, c], n, limit)
            if grouped_K[c]
            else _noticed(values_NK[:, c], n, limit, (ends or {}).get(name, (-math.inf, math.inf))),
        )
        for c, name in enumerate(names)
    )
    p = float(p_K.min())
    return Agreement(agrees=p > alpha, p=p, alpha=alpha, seeds=(n, k), cells=cells)


def _matrix(reference: Cells, new: Cells, names: list[str]) -> tuple[Floats, int, int]:
    """Values [N, K], the reference's seeds first, and how many seeds either side has in all cells."""
    rows: list[list[float]] = []
    counts = []
    for cells in (reference, new):
        seeds = sorted(set.intersection(*(set(cells[name]) for name in names)))
        rows += [[cells[name][seed] for name in names] for seed in seeds]
        counts.append(len(seeds))
    return np.array(rows, dtype=np.float64).reshape(-1, len(names)), counts[0], counts[1]


def choices(n: int, k: int, seed: int) -> Floats:
    """Choices of k of n + k seeds as rows of 0 and 1 [L, N], that of the last k first; all, or `CHOICES` drawn ones."""
    total = n + k
    if math.comb(total, k) <= CHOICES:
        # In reverse of the usual order, so that the last k seeds come first.
        picked_Lk = np.array(list(combinations(range(total), k)))[::-1]
    else:
        random = np.random.Generator(np.random.Philox(seed))
        drawn = np.argsort(random.random((CHOICES - 1, total)), axis=1)[:, :k]
        picked_Lk = np.concatenate([np.arange(n, total)[None], drawn])
    chosen_LN = np.zeros((len(picked_Lk), total))
    np.put_along_axis(chosen_LN, picked_Lk, 1.0, axis=1)
    return chosen_LN


def _learned(values_NK: Floats, scales: list[float]) -> tuple[Floats, NDArray[np.bool_]]:
    """Which seeds lie in the upper group of their cell [N, K], and which cells [K] have groups."""
    learned_NK, grouped_K = np.zeros_like(values_NK), np.zeros(len(scales), dtype=np.bool_)
    for c, scale in enumerate(scales):
        found = groups(values_NK[:, c].tolist(), scale)
        if found is not None:
            grouped_K[c] = True
            learned_NK[:, c] = values_NK[:, c] >= min(found[1])
    return learned_NK, grouped_K


def _p(values_NK: Floats, learned_NK: Floats, grouped_K: NDArray[np.bool_], chosen_LN: Floats) -> tuple[Floats, Floats]:
    """The least two-sided p of any cell under every choice [L], and that of every cell under the first one [K]."""
    k, total = int(chosen_LN[0].sum()), len(values_NK)
    least_L, first_K = np.ones(len(chosen_LN)), np.ones(values_NK.shape[1])
    whole = ~grouped_K
    if whole.any():
        t_LK = _t(values_NK[:, whole], chosen_LN, k)
        first_K[whole] = _two_sided(t_LK[0], total)
        least_L = _two_sided(t_LK.max(axis=1), total)  # one number of degrees of freedom: the largest t has the least p
    for c in np.flatnonzero(grouped_K):
        count = round(float(learned_NK[:, c].sum()))
        among_L = np.rint(chosen_LN @ learned_NK[:, c]).astype(int)
        p_L = fisher(total, count, k)[among_L]
        apart_L = _sides(among_L, count, total, k)
        if apart_L.any():
            p_L[apart_L] = _two_sided(_t(values_NK[:, [c]], chosen_LN[apart_L], k)[:, 0], total)
        first_K[c], least_L = p_L[0], np.minimum(least_L, p_L)
    return least_L, first_K


def _sides(among: NDArray[np.int_], learned: int | Floats, total: int, k: int) -> NDArray[np.bool_]:
    """Whether the groups are the chosen seeds and the rest, if `among` of the k chosen learned."""
    found = ((among == k) & (learned == k)) | ((among == 0) & (learned == total - k))
    return np.asarray(found, dtype=np.bool_)


def _t(values_NK: Floats, chosen_LN: Floats, k: int) -> Floats:
    """|t| of Student's two-sample test, pooled, of the chosen seeds against the rest [L, K]; 0 without any spread."""
    total = len(values_NK)
    centred_NK = values_NK - values_NK.mean(axis=0)
    between_LK = (chosen_LN @ centred_NK) ** 2 * total / (k * (total - k))
    all_K = (centred_NK**2).sum(axis=0)
    within_LK = np.maximum(all_K - between_LK, 1e-12 * all_K)
    found = np.sqrt(between_LK * (total - 2) / np.where(all_K > 0, within_LK, 1.0))
    return np.asarray(np.where(all_K > 0, found, 0.0), dtype=np.float64)


def _two_sided(t: Floats, total: int) -> Floats:
    return np.asarray(2 * scipy.special.stdtr(total - 2, -t), dtype=np.float64)


@cache
def fisher(total: int, learned: int, k: int) -> Floats:
    """Fisher's exact two-sided p of 0 to k learned seeds among k, if `learned` of `total` did: [k + 1]."""
    chance = scipy.stats.hypergeom.pmf(np.arange(k + 1), total, learned, k)
    p = [float(chance[chance <= value * (1 + 1e-7)].sum()) if value > 0 else 0.0 for value in chance]
    return np.asarray(np.minimum(1.0, p), dtype=np.float64)


def _limit(least_L: Floats, alpha: float) -> float:
    """The largest p of a cell that would be an alarm, from the sorted least p of each choice; 0 if none would."""
    ranks = np.searchsorted(least_L, least_L * (1 + 1e-9), side="right") / len(least_L)
    alarms = least_L[ranks <= alpha]
    return float(alarms[-1]) if len(alarms) else 0.0


def _noticed(values_N: Floats, n: int, limit: float, ends: tuple[float, float]) -> tuple[float, float] | None:
    """The means within `ends` that are noticed 4 times in 5, with the spread within both sides."""
    total = len(values_N)
    if limit <= 0:
        return None
    inner = values_N - np.repeat([values_N[:n].mean(), values_N[n:].mean()], [n, total - n])
    sd = math.sqrt(float((inner**2).sum()) / (total - 2))
    far = (
        float(scipy.stats.t.isf(limit / 2, total - 2) + scipy.stats.t.ppf(0.8, total - 2))
        * sd
        * math.sqrt(1 / n + 1 / (total - n))
    )
    mean = float(values_N[:n].mean())
    low, high = (
        (mean - far if mean - far >= ends[0] else -math.inf),
        (mean + far if mean + far <= ends[1] else math.inf),
    )
    return None if low == -math.inf and high == math.inf else (low, high)


def _share_noticed(learned_N: Floats, n: int, limit: float) -> tuple[float, float] | None:
    """The shares of the k new seeds that are noticed beside the reference's share."""
    total, before = len(learned_N), round(float(learned_N[:n].sum()))
    k, share = total - n, before / n
    alarms = [count for count in range(k + 1) if fisher(total, before + count, k)[count] <= limit]
    below = [count / k for count in alarms if count / k < share]
    above = [count / k for count in alarms if count / k > share]
    return (max(below, default=-math.inf), min(above, default=math.inf)) if alarms else None
