"""Statistics against values computed by hand or taken from tables."""

from __future__ import annotations

import pytest
from scipy import stats as scipy_stats

from experiments.stats import holm, paired_p, significantly_best, summary, verdicts


def test_interval_of_three_seeds_by_hand() -> None:
    # mean 2, sd 1, t(0.975, 2) = 4.30265: half = 4.30265 / sqrt(3) = 2.48414
    found = summary([1.0, 2.0, 3.0])
    assert (found.n, found.mean, found.sd) == (3, 2.0, 1.0)
    assert found.half == pytest.approx(2.48414, abs=1e-5)
    assert found.low == pytest.approx(2 - 2.48414, abs=1e-5)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_fewer_than_three_seeds_have_no_interval(values: list[float]) -> None:
    found = summary(values)
    assert found.low is None and found.high is None and found.half is None
    assert found.mean == (sum(values) / len(values) if values else None)


def test_paired_p_by_hand() -> None:
    # differences 1, 2, 3: t = 2 / (1 / sqrt(3)) = 3.4641, 2 degrees of freedom: p = 0.0742
    a, b = {0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0}
    assert paired_p(a, b) == pytest.approx(0.07418, abs=1e-5)
    expected = scipy_stats.ttest_rel(list(a.values()), list(b.values())).pvalue
    assert paired_p(a, b) == pytest.approx(expected)


def test_paired_p_uses_common_seeds_and_wants_three() -> None:
    a = {0: 2.0, 1: 4.0, 2: 6.0, 3: 9.0}
    assert paired_p(a, {0: 1.0, 1: 2.0, 7: 0.0}) is None
    assert paired_p(a, {0: 1.0, 1: 2.0, 2: 3.0, 9: 0.0}) == pytest.approx(0.07418, abs=1e-5)


def test_paired_p_without_spread() -> None:
    a = {0: 1.0, 1: 2.0, 2: 3.0}
    assert paired_p(a, a) == 1.0
    # Three equal differences: all signs alike has probability 2 * (1/2)^3.
    assert paired_p(a, {seed: value + 1 for seed, value in a.items()}) == 0.25


def test_holm_by_hand() -> None:
    # sorted 0.01 0.02 0.03 0.04 -> 0.04, 0.06, max(0.06, 0.06), max(0.06, 0.04)
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def cells(*means: float, spread: float = 0.01, seeds: int = 3) -> dict[str, dict[int, float]]:
    wobble = (0.0, 1.0, -1.0, 0.5)
    return {
        f"m{number}": {seed: mean + spread * wobble[(seed + number) % 4] for seed in range(seeds)}
        for number, mean in enumerate(means)
    }


def test_the_best_in_either_direction() -> None:
    assert significantly_best(cells(0.2, 0.9, 0.3), True) == "m1"
    assert significantly_best(cells(0.2, 0.9, 0.8), False) == "m0"


def test_no_best_without_evidence() -> None:
    assert significantly_best(cells(0.50, 0.501), True) is None
    assert significantly_best(cells(0.2, 0.9, seeds=2), True) is None
    assert significantly_best({"m0": {0: 1.0, 1: 1.1, 2: 1.2}}, True) is None
    assert significantly_best({**cells(0.2, 0.9), "m2": {}}, True) is None


def test_the_hardest_comparison_decides() -> None:
    easy, near = cells(0.9, 0.2), cells(0.9, 0.898)
    p = paired_p(near["m0"], near["m1"])
    found = verdicts({"x": ({**easy, "m2": near["m1"]}, True)})["x"]
    assert p is not None and p > 0.05
    assert (found.best, found.p, found.significant) == ("m0", pytest.approx(p), False)


def test_holm_goes_over_the_columns_of_the_table() -> None:
    a, b = {0: 0.50, 1: 0.60, 2: 0.70}, {0: 0.30, 1: 0.36, 2: 0.50}
    p = paired_p(a, b)
    assert p is not None and 0.001 < p < 0.05
    column = ({"a": a, "b": b}, True)
    assert verdicts({"x": column}, alpha=p * 1.5)["x"].significant
    two = verdicts({"x": column, "y": column}, alpha=p * 1.5)
    assert not two["x"].significant and two["x"].adjusted == pytest.approx(2 * p)
    # A column that cannot be tested costs the others nothing.
    lone = verdicts({"x": column, "y": ({"a": a, "b": {}}, True)}, alpha=p * 1.5)
    assert lone["x"].significant and lone["y"].p is None and not lone["y"].significant
