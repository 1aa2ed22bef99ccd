"""Aggregates against definitions, closed forms and other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestPower

from experiments.analysis.bootstrap import (
    iqm,
    minimum_detectable_effect,
    normalised,
    performance_profile,
    probability_of_improvement,
    resampled,
    share_interval,
    stratified_bootstrap,
    wilson,
)
from experiments.analysis.significance import holm


def test_iqm_is_the_mean_of_the_middle_half() -> None:
    assert iqm(np.array([[0.0, 100.0], [1.0, 2.0], [3.0, 4.0], [-50.0, 7.0]])) == pytest.approx((1 + 2 + 3 + 4) / 4)


def test_published_values_of_rliable() -> None:
    """The matrices and the answers of rliable's own tests (Agarwal et al., 2108.13264)."""
    x, y = np.array([[1.0, 2], [2, 2], [1, 1], [2, 1]]), np.array([[1.0, 1], [2, 2], [3, 3]])
    assert (iqm(x), iqm(y)) == (1.5, 2.0)
    assert probability_of_improvement(x, y) == pytest.approx(1 / 3)


def test_intervals_of_few_seeds_are_wider() -> None:
    x = np.random.default_rng(5).normal(size=(3, 3))
    low, high = stratified_bootstrap(x)
    plain = np.quantile(resampled(x, iqm, 2000), [0.025, 0.975])
    assert high - low > 1.3 * (plain[1] - plain[0])
    # The fast path is the definition.
    slow = resampled(x, lambda s: iqm(s), 50)
    assert resampled(x, iqm, 50) == pytest.approx(slow)


def test_normalised_scores() -> None:
    assert normalised(0.25, 0.25, True) == 0 and normalised(1.0, 0.25, True) == 1
    assert normalised(4.0, 4.0, False) == 0 and normalised(1.0, 4.0, False) == pytest.approx(0.75)


def test_bootstrap_of_one_task_agrees_with_scipy() -> None:
    x = np.random.default_rng(0).normal(size=(40, 1))
    ours = stratified_bootstrap(x, reps=8000)
    theirs = scipy_stats.bootstrap(
        (x[:, 0],),
        lambda v, axis: scipy_stats.trim_mean(v, 0.25, axis=axis),
        n_resamples=8000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_bootstrap_is_stratified_and_deterministic() -> None:
    # Two tasks of constant scores: drawing within tasks can change nothing, drawing across them could.
    x = np.array([[0.0, 1.0]] * 5)
    mean = stratified_bootstrap(x, statistic=lambda s: float(s.mean()), reps=200)
    assert mean == (0.5, 0.5)
    y = np.random.default_rng(2).normal(size=(5, 3))
    assert stratified_bootstrap(y, reps=300) == stratified_bootstrap(y.copy(), reps=300)
    with pytest.raises(ValueError, match="at least 2"):
        stratified_bootstrap(y[:1])


def test_probability_of_improvement() -> None:
    a = np.array([[1.0, 0.0], [2.0, 0.0]])
    b = np.array([[0.0, 0.0], [1.0, 0.0]])
    # task 0: pairs (1,0) win, (1,1) tie, (2,0) win, (2,1) win = 3.5 / 4; task 1: all ties = 0.5
    assert probability_of_improvement(a, b) == pytest.approx((3.5 / 4 + 0.5) / 2)
    assert probability_of_improvement(a, b) + probability_of_improvement(b, a) == pytest.approx(1)


def test_performance_profile() -> None:
    x = np.array([[0.1, 0.5], [0.9, 0.5]])
    assert performance_profile(x, np.array([0.0, 0.5, 1.0])).tolist() == [1.0, 0.25, 0.0]


def test_wilson_by_hand() -> None:
    # 8 of 10: centre (0.8 + z^2 / 20) / (1 + z^2 / 10), z = 1.959964
    low, high = wilson(8, 10)
    assert (low, high) == pytest.approx((0.49016, 0.94331), abs=1e-4)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (1, 7), (512, 512), (300, 1024)])
def test_wilson_against_statsmodels(k: int, n: int) -> None:
    from statsmodels.stats.proportion import proportion_confint

    assert wilson(k, n) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)


def test_items_that_count_in_part() -> None:
    yes_or_no = share_interval([1.0, 0.0, 1.0, 1.0])
    assert yes_or_no is not None and (yes_or_no.low, yes_or_no.high) == pytest.approx(wilson(3, 4))
    # Two questions an item that are always answered alike tell no more than one does.
    assert share_interval([1.0, 0.0, 1.0, 1.0], [2.0] * 4) == yes_or_no
    # 0.5 each: no spread, so that the items count as they are; a share outside of [0, 1] is none.
    flat = share_interval([0.5] * 10)
    assert flat is not None and (flat.low, flat.high) == pytest.approx(wilson(5, 10))
    assert share_interval([4.2, 3.9]) is None and share_interval([]) is None


def test_the_interval_of_partly_right_items_covers() -> None:
    """Items of four questions with a skill of their own: what is left open is the mean skill."""
    random, hits = np.random.default_rng(0), 0
    for _ in range(400):
        skill_I = random.beta(2, 1, 200)
        found = share_interval((random.binomial(4, skill_I) / 4).tolist())
        assert found is not None
        hits += found.low <= 2 / 3 <= found.high
    assert hits / 400 == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("n", [3, 5, 10, 100, 1000])
def test_minimum_detectable_effect_against_statsmodels(n: int) -> None:
    theirs = TTestPower().solve_power(effect_size=None, nobs=n, alpha=0.05, power=0.8, alternative="two-sided")
    assert minimum_detectable_effect(2.0, n) == pytest.approx(2.0 * float(theirs), rel=1e-3)


def test_holm_against_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    p = [0.01, 0.04, 0.03, 0.005, 0.5]
    assert holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]))
