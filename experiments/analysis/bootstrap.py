"""Aggregates over tasks and seeds: IQM, probability of improvement, performance profiles (Agarwal et al., 2108.13264).

Scores are matrices [S, T], one column per task, one row per seed; seeds are the unit of replication, so a bootstrap
draws seeds anew within each task and leaves the tasks as they are (stratified). Every resampling is seeded by the
data themselves: the same scores give the same interval everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # loads its parts when they are first asked for
from numpy.typing import NDArray

Floats = NDArray[np.float64]
REPETITIONS = 2000


def normalised(value: float, chance: float, higher_is_better: bool) -> float:
    """0 at chance, 1 at perfection: 1 for what is to be high (an accuracy), 0 for what is to be low (bits)."""
    perfect = 1.0 if higher_is_better else 0.0
    return (value - chance) / (perfect - chance)


def iqm(scores_ST: Floats) -> float:
    """Interquartile mean: the mean of the middle half of all S x T scores (25 % trimmed at each end)."""
    return float(scipy.stats.trim_mean(np.asarray(scores_ST, dtype=np.float64).ravel(), 0.25))


def seed_of(*arrays: Floats) -> int:
    """A seed for resampling that is a function of the data."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return int.from_bytes(digest.digest()[:8], "little")


def stratified_bootstrap(
    scores_ST: Floats, statistic: Callable[[Floats], float] = iqm, confidence: float = 0.95, reps: int = REPETITIONS
) -> tuple[float, float]:
    """Percentile interval of `statistic`, seeds drawn with replacement within each task, widened for few seeds.

    A plain percentile interval of S seeds a task is too narrow, by sqrt((S - 1) / S) and for want of Student's t: 3
    seeds of 3 tasks cover about 80 %. The percentiles are therefore moved outwards to Phi(-t sqrt(S / (S - 1))), with
    t of T (S - 1) degrees of freedom (Hesterberg 2015, 1411.5279, expanded percentiles), and the ends that lie beyond
    what 2,000 draws resolve come from the bootstrap's own spread. With many seeds this is the plain interval.

    Raises:
        ValueError: fewer than two seeds, which say nothing of the spread.
    """
    scores = np.asarray(scores_ST, dtype=np.float64)
    if scores.shape[0] < 2:
        raise ValueError(f"a bootstrap over seeds needs at least 2 of them, got {scores.shape[0]}")
    found = resampled(scores, statistic, reps)
    z = widened(scores.shape[0], scores.shape[1], confidence)
    tail = float(scipy.stats.norm.sf(z))
    if tail * reps >= 5:
        low, high = np.quantile(found, [tail, 1 - tail])
        return float(low), float(high)
    centre, spread = statistic(scores), float(np.std(found))
    return centre - z * spread, centre + z * spread


def widened(seeds: int, tasks: int, confidence: float) -> float:
    """The quantile, in standard deviations of a bootstrap over `seeds` in each of `tasks`, that gives `confidence`."""
    return float(scipy.stats.t.ppf(0.5 + confidence / 2, tasks * (seeds - 1)) * np.sqrt(seeds / (seeds - 1)))


def resampled(scores_ST: Floats, statistic: Callable[[Floats], float], reps: int) -> Floats:
    """`reps` values of the statistic, each on seeds drawn within each task; IQM and mean are taken all at once."""
    random = np.random.Generator(np.random.Philox(seed_of(scores_ST)))
    drawn_RST = random.integers(0, scores_ST.shape[0], size=(reps, *scores_ST.shape))
    taken_RST = np.take_along_axis(np.broadcast_to(scores_ST, drawn_RST.shape), drawn_RST, axis=1)
    if statistic is iqm:
        flat_RN = np.sort(taken_RST.reshape(reps, -1), axis=1)
        cut = int(0.25 * flat_RN.shape[1])
        return np.asarray(flat_RN[:, cut : flat_RN.shape[1] - cut].mean(axis=1), dtype=np.float64)
    return np.array([statistic(taken_ST) for taken_ST in taken_RST], dtype=np.float64)


def probability_of_improvement(a_ST: Floats, b_ST: Floats) -> float:
    """P(a run of A beats a run of B on a task drawn at random), ties half: the mean over tasks of U / (S_a S_b).

    Both are matrices in which higher is better, with the same tasks (columns).
    """
    a, b = np.asarray(a_ST, dtype=np.float64), np.asarray(b_ST, dtype=np.float64)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"the two must have the same tasks, got {a.shape[1]} and {b.shape[1]}")
    shares = [
        scipy.stats.mannwhitneyu(a[:, t], b[:, t], method="asymptotic").statistic / (a.shape[0] * b.shape[0])
        for t in range(a.shape[1])
    ]
    return float(np.mean(shares))


def performance_profile(scores_ST: Floats, levels: Floats) -> Floats:
    """Share of all runs whose score is above each level."""
    flat = np.asarray(scores_ST, dtype=np.float64).ravel()
    return np.asarray((flat[None, :] > np.asarray(levels)[:, None]).mean(axis=1), dtype=np.float64)


def wilson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share: what the finite number of test items alone leaves open."""
    z = float(scipy.special.ndtri(0.5 + confidence / 2))
    p, spread = successes / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / spread
    half = z / spread * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class ItemInterval:
    """A Wilson interval of a share, and the items behind it."""

    items: int
    low: float
    high: float


def share_interval(
    values: Sequence[float | None], weights: Sequence[float] | None = None, confidence: float = 0.95
) -> ItemInterval | None:
    """Wilson's interval of the mean of items that are shares; None if any is not.

    An item may hold several questions, so that it counts in part. n is then the number of independent yes-or-no items
    that would have the spread seen between items, p (1 - p) / var (Korn and Graubard 1998); for items of 0 and 1 it is
    their number.

    Args:
        values: one per item, in [0, 1].
        weights: of the items in the mean; default: all alike.
        confidence: of the interval.
    """
    x_I = np.asarray(values, dtype=np.float64)
    if len(x_I) == 0 or not np.all((x_I >= 0) & (x_I <= 1)):
        return None
    w_I = np.ones_like(x_I) if not weights else np.asarray(weights, dtype=np.float64)
    w_I = w_I / w_I.sum()
    p = float(w_I @ x_I)
    variance = float(np.sum(w_I**2 * (x_I - p) ** 2))
    n = len(x_I) if variance < 1e-18 else p * (1 - p) / variance
    return ItemInterval(len(x_I), *wilson(p * n, n, confidence))


def minimum_detectable_effect(sd: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true mean difference that a paired t-test over n seeds finds with the given power.

    Args:
        sd: standard deviation of the paired differences, in units of the metric.
        n: pairs.
        alpha: of the two-sided test.
        power: share of replications that find it.

    Raises:
        ValueError: fewer than two pairs.
    """
    if n < 2:
        raise ValueError(f"a paired test needs at least 2 pairs, got {n}")
    limit = scipy.stats.t.ppf(1 - alpha / 2, n - 1)

    def missing(effect: float) -> float:
        shift = effect * np.sqrt(n)
        # The other tail is below alpha / 2, and scipy has no number for it where it is below rounding.
        return (
            float(scipy.stats.nct.sf(limit, n - 1, shift) + np.nan_to_num(scipy.stats.nct.cdf(-limit, n - 1, shift)))
            - power
        )

    high = float(limit) / np.sqrt(n)
    while missing(high) < 0:
        high *= 1.3
    return sd * float(scipy.optimize.brentq(missing, 1e-9, high))
