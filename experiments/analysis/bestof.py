"""What the best of k trials is expected to be: how much of a result is the model, and how much is the search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class BestOf(NamedTuple):
    """The best of `k` of the trials, drawn without replacement.

    Attributes:
        k: trials drawn.
        mean: expected best among draws in which at least one trial succeeded; None if none can have.
        p_none: probability that all k failed.
    """

    k: int
    mean: float | None
    p_none: float


def best_of_k(values: Sequence[float | None], *, higher_is_better: bool) -> list[BestOf]:
    """The expected best of k trials for k = 1 .. n, exactly, from n trials (None = failed).

    All C(n, k) draws are equally likely. The i-th worst of the s successes is the best of a draw if the other k - 1
    come from the f failures and the i - 1 successes below it, so
    P(best = i) = (C(f + i, k) - C(f + i - 1, k)) / C(n, k).
    """
    found = sorted((v for v in values if v is not None), reverse=not higher_is_better)  # the best is the last
    n, failed = len(values), len(values) - len(found)
    curve = []
    for k in range(1, n + 1):
        draws = math.comb(n, k)
        weights = [math.comb(failed + i, k) - math.comb(failed + i - 1, k) for i in range(1, len(found) + 1)]
        total = sum(weights)
        mean = sum(w * v for w, v in zip(weights, found, strict=True)) / total if total else None
        curve.append(BestOf(k, mean, math.comb(failed, k) / draws))
    return curve
