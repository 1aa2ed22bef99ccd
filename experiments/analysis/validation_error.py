"""How sure a validation score is: its standard error over different items, and that of a difference of two.

Items of one canonical form (renamings of one another) are answered alike, so forms are the clusters: the variance of
the mean over items is that of a ratio of sums over forms (Cochran 1977, 6.3; "cluster-robust"). Two trials read the
same validation items, so their difference is taken item by item. It says what other items would do; what another seed
would do is left open.

Without the items of a share only the number of different ones is known: p (1 - p) / n, with one right and one wrong
item more (Agresti and Coull), so that a perfect score is not a certain one.

Shapes: I items, F forms, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.store.records import Record, ValidationScores

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """The validation of a trial.

    Attributes:
        mean: over seeds; None if a run has no result.
        items: its items, the mean over seeds of each; None if a record lacks them.
        share: the metric is a share of items.
        effective: the number of different items, weighed by how often each comes; 0 = not counted.
    """

    mean: float | None
    items: ValidationScores | None = None
    share: bool = False
    effective: float = 0.0

    @property
    def error(self) -> float | None:
        """Standard error of the mean over items; None if nothing is known of it."""
        if self.mean is None:
            return None
        if self.items is not None:
            return clustered(_floats(self.items.scores), _weights(self.items), self.items.forms)
        if not self.share or self.effective < 1 or not 0 <= self.mean <= 1:
            return None
        p = (self.mean * self.effective + 1) / (self.effective + 2)
        return math.sqrt(p * (1 - p) / self.effective)


def scored(records: Sequence[Record], mean: float | None) -> Scored:
    """The validation of the runs of a trial, a record for each seed."""
    if not records:
        return Scored(mean)
    info = records[0].spec.task_info
    size = info.sizes.get("validation")
    found = [record.validation for record in records]
    kept = [one for one in found if one is not None]
    same = len(kept) == len(found) and all(one.forms == kept[0].forms for one in kept)
    share = info.unit.startswith("share")
    return Scored(mean, _over_seeds(kept) if same else None, share, size.effective if size else 0.0)


def _over_seeds(found: Sequence[ValidationScores]) -> ValidationScores:
    scores_SI = np.stack([_floats(one.scores) for one in found])
    means = [None if math.isnan(value) else value for value in scores_SI.mean(axis=0).tolist()]
    return found[0].model_copy(update={"scores": means})


def clustered(scores_I: Floats, weights_I: Floats, forms: Sequence[int]) -> float | None:
    """Standard error of the weighted mean of the items that have a score; None below two forms."""
    known_I = np.isfinite(scores_I)
    scores, weights, names = scores_I[known_I], weights_I[known_I], np.asarray(forms)[known_I]
    form_I = np.unique(names, return_inverse=True)[1]
    count = int(form_I.max()) + 1 if len(form_I) else 0
    if count < 2 or weights.sum() <= 0:
        return None
    mean = float((weights * scores).sum() / weights.sum())
    sums_F = np.bincount(form_I, weights=weights * (scores - mean))
    return float(math.sqrt(count / (count - 1) * (sums_F**2).sum()) / weights.sum())


def error_of_difference(mine: Scored, theirs: Scored) -> float | None:
    """Standard error of the difference of two trials on the same items; that of `mine` where items are not known."""
    a, b = mine.items, theirs.items
    if a is None or b is None or a.forms != b.forms:
        return mine.error
    return clustered(_floats(a.scores) - _floats(b.scores), _weights(a), a.forms)


def _floats(scores: Sequence[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in scores], dtype=np.float64)


def _weights(items: ValidationScores) -> Floats:
    given = [1.0] * len(items.scores) if items.weights is None else items.weights
    return np.asarray(given, dtype=np.float64)
