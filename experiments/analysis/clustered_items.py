"""Two models on the same test items, where items that are renamings of one another count once.

Items of one canonical form are answered alike, more or less, so that a test that takes items for independent sees
differences where there are none. Each form counts once: its difference is the mean over its items, the estimate is the
mean over forms, and its spread is that between forms (t with one degree less than there are forms). It answers "on a
form drawn at random", not "on an item drawn at random": a form with many items weighs no more than one with few. Seeds
apart: these are two runs, or the means of two models over the same seeds; what another seed would do is left open.

Shapes: I items, F forms.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.analysis.significance import one_sided_p, summary


@dataclass(frozen=True, kw_only=True)
class ByForm:
    """A paired difference by form; interval and p are None below three forms."""

    items: int
    forms: int
    effective: float  # forms that equally many items each would be worth: (sum n_f)^2 / sum n_f^2
    effect: float
    low: float | None
    high: float | None
    p: float | None  # two-sided


def paired_by_form(
    mine: Sequence[float], theirs: Sequence[float], keys: Sequence[Hashable], confidence: float = 0.95
) -> ByForm:
    """The difference mine - theirs with its t-interval and paired test over forms.

    Args:
        mine: one score per item.
        theirs: the other's, of the same items.
        keys: the canonical form of each item.
        confidence: of the interval.

    Raises:
        ValueError: no items, lists of unlike length, or a score that is no finite number.
    """
    if not mine or not len(mine) == len(theirs) == len(keys):
        raise ValueError(f"scores and forms must be of one length, got {len(mine)}, {len(theirs)} and {len(keys)}")
    gaps_I = np.asarray(mine, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    if not np.isfinite(gaps_I).all():
        raise ValueError("a score is no finite number")
    number = {key: f for f, key in enumerate(dict.fromkeys(keys))}
    form_I = np.array([number[key] for key in keys])
    counts_F = np.bincount(form_I).astype(np.float64)
    means_F = (np.bincount(form_I, weights=gaps_I) / counts_F).tolist()
    found = summary(means_F, confidence)
    assert found.mean is not None
    p = None
    if found.low is not None:
        sides = one_sided_p(means_F), one_sided_p([-value for value in means_F])
        # Forms without any spread leave the sign test: all alike.
        p = min(1.0, 2 * min(sides)) if found.sd else (1.0 if found.mean == 0 else 2.0 ** (1 - found.n))
    return ByForm(
        items=len(gaps_I),
        forms=len(counts_F),
        effective=float(counts_F.sum() ** 2 / (counts_F**2).sum()),
        effect=found.mean,
        low=found.low,
        high=found.high,
        p=p,
    )
