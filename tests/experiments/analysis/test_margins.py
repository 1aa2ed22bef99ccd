"""Tests of a mean against a margin: by hand, by scipy, and by drawing the weights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.interpolate import BSpline

from experiments.analysis.margins import (
    Kind,
    apart,
    bounded_p,
    in_one_piece,
    place_p,
    seeds_for_one_piece,
    t_p,
    unseen,
    weighted_above,
)
from experiments.analysis.significance import groups


def test_the_t_test_is_scipys_and_shifted() -> None:
    gains = np.random.default_rng(0).normal(0.1, 0.05, size=(4, 6))
    expected = scipy_stats.ttest_1samp(gains, 0.08, axis=-1, alternative="greater").pvalue
    assert t_p(gains, 0.08) == pytest.approx(expected)
    # Without spread: 2^-5 above the margin, 1 at it or below.
    assert t_p(np.full(5, 0.2), 0.1) == 1 / 32 and t_p(np.full(5, 0.2), 0.2) == 1 and t_p(np.zeros(5), 0.1) == 1


def test_weights_on_two_values_by_hand() -> None:
    # w uniform on [0, 1]: P(w > 0.3) = 0.7; of three values 0, 0, 1 the weight is Beta(1, 2): P(w > t) = (1 - t)^2.
    assert weighted_above(np.array([1.0, 0.0]), 0.3) == pytest.approx(0.7)
    assert weighted_above(np.array([0.0, 1.0, 0.0]), 0.3) == pytest.approx(0.49)
    assert weighted_above(np.array([2.0, 3.0]), 1.0) == 1 and weighted_above(np.array([2.0, 3.0]), 3.0) == 0


def test_weights_are_a_b_spline_and_what_drawing_them_gives() -> None:
    random = np.random.default_rng(1)
    values = random.random(7)
    values[3] = values[4]  # a tie
    spline = BSpline.basis_element(np.sort(values), extrapolate=False)
    low, high = values.min(), values.max()
    expected = spline.integrate(0.5, high) / spline.integrate(low, high)
    assert weighted_above(values, 0.5) == pytest.approx(float(expected), abs=1e-9)
    drawn = (random.dirichlet(np.ones(7), 100_000) @ values > 0.5).mean()
    assert weighted_above(values, 0.5) == pytest.approx(float(drawn), abs=0.006)


@pytest.mark.parametrize("learned", [0, 1, 4, 9, 10])
def test_of_zeros_and_ones_it_is_the_binomial_test(learned: int) -> None:
    gains = np.array([1.0] * learned + [0.0] * (10 - learned))
    expected = scipy_stats.binomtest(learned, 10, 0.6, alternative="greater").pvalue
    assert bounded_p(gains, 0.0, 0.6) == pytest.approx(expected)


def test_equal_gains_leave_what_their_number_cannot_exclude() -> None:
    # Five gains of 0.5 and a worst of -0.4: the bound is 0.5 - 0.9 (1 - 0.05^(1/5)) = 0.0943.
    bound = 0.5 - 0.9 * (1 - 0.05 ** (1 / 5))
    assert bounded_p(np.full(5, 0.5), -0.4, bound) == pytest.approx(0.05)
    # A worst that the sample has passed is no worst.
    assert bounded_p(np.array([0.1, 0.5, 0.6]), 0.3, 0.05) == 0


def test_the_detector_is_the_note_of_the_tables() -> None:
    random = np.random.default_rng(2)
    rows = np.where(random.random((300, 6)) < 0.5, 0.8, 0.4) + 0.1 * random.standard_normal((300, 6))
    expected = [groups(row, 0.75) is not None for row in rows.tolist()]
    assert 20 < sum(expected) < 280
    assert apart(rows, 0.75).tolist() == expected
    assert not apart(np.array([[0.1, 0.9]]), 0.75).any()


def test_seeds_that_can_show_groups() -> None:
    assert seeds_for_one_piece() == 14  # 0.8^13 = 0.055, 0.8^14 = 0.044
    tight = np.full((2, 14), 0.8) + 0.001 * np.arange(14)
    assert in_one_piece(tight, 0.75) and not in_one_piece(tight[:, :13], 0.75)
    tight[1, 0] = 0.3
    assert not in_one_piece(tight, 0.75)


def test_what_no_seed_showed_by_hand() -> None:
    mine, theirs = np.array([0.9, 0.8]), np.array([[0.5, 0.6]])
    worst, best = unseen(mine, theirs, (0.25, 1.0))
    # The model at 0.25 beside 0.6, rather than 0.8 beside an other at 1; an other at 0.25 beside 0.9, not 1 beside 0.5.
    assert worst == pytest.approx(-0.35) and best == pytest.approx(0.65)
    worst, best = unseen(mine, theirs, None)
    assert worst == pytest.approx(-0.1) and best == pytest.approx(0.4)


def test_which_test_is_used() -> None:
    mine, theirs = np.array([0.9, 0.91, 0.89, 0.9, 0.92]), np.array([[0.5, 0.51, 0.5, 0.49, 0.5]])
    known = Kind(reach=(0.25, 1.0), scale=0.75)
    assert not place_p(mine, theirs, 0.1, Kind(scale=0.75))[2].any()
    assert place_p(mine, theirs, 0.1, known)[2].all() and not place_p(mine, theirs, 0.1, known, True)[2].any()
    split = np.array([[0.5, 0.51, 0.9, 0.49, 0.5]])
    assert place_p(mine, split, 0.1, Kind(scale=0.75))[2].all() and place_p(mine, split, 0.1, known, True)[2].all()
    # The two sides mirror each other.
    above, below, _ = place_p(mine, theirs, 0.1, known)
    swapped = place_p(-mine, -theirs, -0.1, Kind(reach=(-1.0, -0.25), scale=0.75))
    assert above == pytest.approx(swapped[1]) and below == pytest.approx(swapped[0])
