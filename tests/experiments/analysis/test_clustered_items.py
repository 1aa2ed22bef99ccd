"""Paired differences by form: by hand, by scipy, and their coverage."""

from __future__ import annotations

import pytest
from scipy import stats as scipy_stats

from benchmarks.agreement import coverage
from experiments.analysis.clustered_items import paired_by_form


def test_renamings_count_once() -> None:
    # Forms a (three items), b and c (one each): mean gains 1/3, 1 and 0; their mean is 4/9.
    found = paired_by_form([1.0, 1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "b", "c"])
    assert (found.items, found.forms, found.effect) == (5, 3, pytest.approx(4 / 9))
    assert found.effective == pytest.approx(25 / 11)
    expected = scipy_stats.ttest_1samp([1 / 3, 1.0, 0.0], 0.0)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((interval.low, interval.high, expected.pvalue))
    # Ten copies of everything say no more.
    again = paired_by_form(
        [1.0, 1.0, 0.0, 1.0, 1.0] * 10, [1.0, 0.0, 0.0, 0.0, 1.0] * 10, ["a", "a", "a", "b", "c"] * 10
    )
    assert (again.low, again.high, again.p) == pytest.approx((found.low, found.high, found.p))


def test_without_spread_or_forms() -> None:
    alike = paired_by_form([1.0] * 4, [0.0] * 4, [0, 1, 2, 3])
    assert (alike.effect, alike.p) == (1.0, 2.0**-3)
    assert paired_by_form([1.0] * 4, [1.0] * 4, [0, 1, 2, 3]).p == 1.0
    few = paired_by_form([1.0, 0.5], [0.0, 0.0], ["a", "b"])
    assert few.low is None and few.p is None and few.effect == 0.75


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="one length"):
        paired_by_form([1.0], [1.0, 0.0], ["a"])
    with pytest.raises(ValueError, match="no finite number"):
        paired_by_form([float("nan")], [1.0], ["a"])


@pytest.mark.parametrize("forms", [5, 20])
def test_the_interval_covers_where_items_taken_for_independent_do_not(forms: int) -> None:
    by_form, naive = coverage(forms, 600, seed=1)
    assert by_form >= 0.925 and naive < 0.85
