"""The rule of bold and the intervals on worlds where the truth is known; benchmarks/statistics.py has more of them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.statistics import WORLDS, apart, coverage, coverage_iqm, false_bold, normal
from experiments.analysis.significance import verdicts


def test_bold_is_rarely_wrong_where_nothing_differs() -> None:
    # 5 % of 400 are 20; 31 or more happen once in a hundred times.
    for name in ("normal", "heavy", "bimodal", "rare"):
        assert false_bold(WORLDS[name], (2, 5, 3), 400, tied=False, seed=1)[0] <= 0.078, name
    assert false_bold(normal, (3, 5, 2), 400, tied=True, seed=2)[0] <= 0.078


def test_three_seeds_that_solve_or_do_not_would_fool_p_alone() -> None:
    bold, by_p = false_bold(WORLDS["bimodal"], (2, 3, 3), 600, tied=False, seed=1)
    assert bold == 0 and by_p > 0.05


def test_seeds_in_groups_are_seen_and_rarely_imagined() -> None:
    assert apart(normal, 3, 2000) <= 0.01 and apart(WORLDS["heavy"], 3, 2000) <= 0.06
    # Three of ten cells at most are out of luck: all of their seeds do the same (2 / 2^3).
    assert apart(WORLDS["bimodal"], 3, 2000) == pytest.approx(0.75, abs=0.04)


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
