"""The rule of bold and the intervals on worlds where the truth is known; benchmarks/statistics.py has more of them."""

from __future__ import annotations

import numpy as np

from benchmarks.statistics import coverage, coverage_iqm, false_bold, normal
from experiments.stats import verdicts


def test_bold_is_rarely_wrong_where_nothing_differs() -> None:
    # 5 % of 500 are 25; 37 or more happen once in a hundred times.
    assert false_bold(normal, (2, 3, 3), 500, tied=False, seed=1) <= 0.074
    assert false_bold(normal, (3, 3, 2), 500, tied=True, seed=2) <= 0.074


def test_bold_is_found_where_something_differs() -> None:
    random = np.random.default_rng(3)
    found = 0
    for _ in range(50):
        a, b = (dict(enumerate((mean + 0.01 * random.standard_normal(5)).tolist())) for mean in (0.7, 0.6))
        found += verdicts({"x": ({"a": a, "b": b}, True)})["x"].significant
    assert found >= 48


def test_the_interval_covers() -> None:
    assert 0.93 <= coverage(normal, 3, 2000, seed=4) <= 0.97


def test_the_aggregate_interval_covers_better_than_nine_times_in_ten() -> None:
    assert coverage_iqm(5, 8, 100, seed=5) >= 0.9
