"""One-sided tests of a mean gain against a margin, for seeds in one piece and for seeds that may fall into groups.

Two tests, both of "the mean gain is the margin or less"; the other side is the same test of the negated gains.

- `t_p`: paired t-test, shifted by the margin. It is exact for normal gains and says nothing where a seed either learns
  a task or stays on a plateau: five seeds that all learn are tight, and hide a sixth that would not have.
- `bounded_p`: the mean of bounded gains. One gain that no seed showed, the worst possible, is added to the sample, and
  the n + 1 values get random weights, uniform on the simplex (Dirichlet(1, ..., 1)): p is the probability that the
  weighted mean is the margin or less (Gaffke 2005; Learned-Miller and Thomas 2020, 1905.06208). For gains of 0 and 1 it
  is the exact binomial test (Clopper and Pearson 1934); for n equal gains the worst one weighs 1 - alpha^(1/n): what
  n seeds cannot exclude to happen.

Sign and rank tests are no choice here: they test a median or a symmetry, and where learn rates differ a mean can be at
the margin with nine gains of ten below it (benchmarks/verdicts.py counts how often they would be wrong).

Shapes: S seeds; ... any leading axes (worlds, comparisons).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy  # loads its parts when they are first asked for
from numpy.typing import NDArray

from experiments.analysis.significance import GAP_RATIO, GAP_SHARE, MIN_SEEDS

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def t_p(gains_S: Floats, margin: float) -> Floats:
    """P of the paired t-test of "the mean gain is `margin` or less", along the last axis [..., S] -> [...].

    Without any spread what is left is the sign test: 2^-S where all gains are above the margin, else 1.
    """
    n = gains_S.shape[-1]
    mean, sd = gains_S.mean(axis=-1), gains_S.std(axis=-1, ddof=1)
    flat = sd <= 1e-12 * np.maximum(1.0, np.abs(mean))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = scipy.special.stdtr(n - 1, -(mean - margin) / (sd / np.sqrt(n)))
    return np.asarray(np.where(flat, np.where(mean > margin, 2.0**-n, 1.0), p), dtype=np.float64)


def bounded_p(gains_S: Floats, worst: Floats | float, margin: float) -> Floats:
    """P of "the mean gain is `margin` or less", if no gain is below `worst`: [..., S] -> [...].

    Args:
        gains_S: one per seed.
        worst: the least gain that a seed could have; a smaller one in the sample takes its place.
        margin: what the mean is tested against.
    """
    least = np.minimum(np.broadcast_to(worst, gains_S.shape[:-1]), gains_S.min(axis=-1))
    return 1.0 - weighted_above(np.concatenate([gains_S, least[..., None]], axis=-1), margin)


def weighted_above(values_K: Floats, level: float) -> Floats:
    """P(sum of w_k x_k > level) for weights w uniform on the simplex, along the last axis [..., K] -> [...].

    It is the divided difference of (x - level)_+^(K - 1) over the K values (Curry and Schoenberg 1966), by a recurrence
    that is a convex combination at each step: with P(i..j) of the sorted values i to j, where x_i <= level < x_j,
    P(i..j) = ((x_j - level) P(i+1..j) + (level - x_i) P(i..j-1)) / (x_j - x_i), else it is 0 or 1.
    """
    x_K = np.sort(values_K, axis=-1)
    above_K = (x_K > level).astype(np.float64)
    for width in range(1, x_K.shape[-1]):
        low, high = x_K[..., :-width], x_K[..., width:]
        span = np.where(high > low, high - low, 1.0)
        mixed = ((high - level) * above_K[..., 1:] + (level - low) * above_K[..., :-1]) / span
        above_K = np.where(high <= level, 0.0, np.where(low > level, 1.0, mixed))
    return above_K[..., 0]


def apart(values_S: Floats, scale: float) -> Flags:
    """Whether seeds fall into groups, [..., S] -> [...]: the rule of `significance.groups` along the last axis."""
    if values_S.shape[-1] < MIN_SEEDS:
        return np.zeros(values_S.shape[:-1], dtype=np.bool_)
    ordered = np.sort(values_S, axis=-1)
    gap = np.diff(ordered, axis=-1).max(axis=-1)
    rest = ordered[..., -1] - ordered[..., 0] - gap
    return np.asarray((gap >= GAP_SHARE * scale) & (gap >= GAP_RATIO * rest), dtype=np.bool_)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is known beforehand of the seeds of a place (a task and split); higher values are better.

    `reach` = the worst and the best level at which a seed may end up: chance and 1 for an accuracy; None: unknown.
    `scale` = from chance to perfection, for the detector of groups; None: it is off.
    """

    reach: tuple[float, float] | None = None
    scale: float | None = None


def seeds_for_one_piece(share: float = 0.2, alpha: float = 0.05) -> int:
    """Seeds of a row, none of which stayed behind, that exclude that a `share` of them does: (1 - share)^n <= alpha."""
    return int(np.ceil(np.log(alpha) / np.log1p(-share)))


def in_one_piece(rows_MS: Floats, scale: float) -> Flags:
    """Whether all rows have enough seeds to show groups, and none shows them: [..., M, S] -> [...]."""
    enough = rows_MS.shape[-1] >= seeds_for_one_piece()
    return np.asarray(enough & ~apart(rows_MS, scale).any(axis=-1), dtype=np.bool_)


def place_p(
    mine_S: Floats, theirs_CS: Floats, margin: float, kind: Kind, one_piece: Flags | bool = False
) -> tuple[Floats, Floats, Flags]:
    """Both one-sided p-values of each comparison in one place, and whether the bounded test made them.

    The bounded test is used where the reach is known, unless the seeds are known to be in one piece; and where the
    seeds of some row fall apart. Else the t-test is.

    Args:
        mine_S: the model, [..., S].
        theirs_CS: the others, [..., C, S], on the same seeds.
        margin: of the gain.
        kind: of the seeds.
        one_piece: [...], whether the seeds of all rows are known to be (`in_one_piece`).

    Returns:
        p of "the gain is the margin or less" (a small one supports), p of "the gain is the margin or more" (a small one
        refutes), and whether the bounded test made them, each [..., C].
    """
    gains_CS = mine_S[..., None, :] - theirs_CS
    above, below = t_p(gains_CS, margin), t_p(-gains_CS, -margin)
    split = np.broadcast_to(np.asarray(kind.reach is not None) & ~np.asarray(one_piece), gains_CS.shape[:-2])
    if kind.scale is not None:
        split = split | apart(_rows(mine_S, theirs_CS), kind.scale).any(axis=-1)
    split_C = np.broadcast_to(split[..., None], above.shape)
    if not split.any():
        return above, below, split_C
    worst_C, best_C = unseen(mine_S, theirs_CS, kind.reach)
    above = np.where(split_C, bounded_p(gains_CS, worst_C, margin), above)
    below = np.where(split_C, bounded_p(-gains_CS, -best_C, -margin), below)
    return above, below, split_C


def unseen(mine_S: Floats, theirs_CS: Floats, reach: tuple[float, float] | None) -> tuple[Floats, Floats]:
    """The worst and the best gain of each comparison [..., C] that a seed may have and none showed.

    The worst: the model falls to the floor where the other is at its best, or the other rises to the ceiling where the
    model is at its worst; the best likewise. One of the two does what none of its seeds did, not both at once: that is
    rarer still, and the simulation bears it out. Without a `reach`, floor and ceiling are the worst and the best value
    of any row.
    """
    rows_MS = _rows(mine_S, theirs_CS)
    floor, ceiling = rows_MS.min(axis=(-2, -1))[..., None], rows_MS.max(axis=(-2, -1))[..., None]
    if reach is not None:
        floor, ceiling = np.minimum(floor, reach[0]), np.maximum(ceiling, reach[1])
    mine_1S = mine_S[..., None, :]
    worst_C = np.minimum(floor - theirs_CS.max(axis=-1), mine_1S.min(axis=-1) - ceiling)
    best_C = np.maximum(ceiling - theirs_CS.min(axis=-1), mine_1S.max(axis=-1) - floor)
    return worst_C, best_C


def _rows(mine_S: Floats, theirs_CS: Floats) -> Floats:
    return np.concatenate([mine_S[..., None, :], theirs_CS], axis=-2)


def lower_end(p_of: Callable[[float], float], low: float, high: float, alpha: float) -> float:
    """The margin between `low` and `high` at which the rising function `p_of` passes `alpha`: a confidence bound."""
    if p_of(low) >= alpha:
        return low
    return (
        high
        if p_of(high) <= alpha
        else float(scipy.optimize.brentq(lambda margin: p_of(margin) - alpha, low, high, xtol=1e-10))
    )
