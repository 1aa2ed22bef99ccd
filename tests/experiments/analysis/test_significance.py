"""Statistics against values computed by hand or taken from tables."""

from __future__ import annotations

import pytest
from scipy import stats as scipy_stats

from experiments.analysis.significance import groups, holm, paired_p, seeds_needed, summary, verdicts


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


def best(column: dict[str, dict[int, float]], higher_is_better: bool) -> str | None:
    found = verdicts({"": (column, higher_is_better)}, least=3)[""]
    return found.best if found.significant else None


def test_the_best_in_either_direction() -> None:
    assert best(cells(0.2, 0.9, 0.3), True) == "m1"
    assert best(cells(0.2, 0.9, 0.8), False) == "m0"


def test_no_best_without_evidence() -> None:
    assert best(cells(0.50, 0.501), True) is None
    assert best(cells(0.2, 0.9, seeds=2), True) is None
    assert best({"m0": {0: 1.0, 1: 1.1, 2: 1.2}}, True) is None
    assert best({**cells(0.2, 0.9), "m2": {}}, True) is None


def test_a_verdict_needs_enough_seeds() -> None:
    for seeds, decided in ((4, False), (5, True)):
        assert verdicts({"x": (cells(0.2, 0.9, seeds=seeds), True)})["x"].significant is decided
    column = cells(0.2, 0.9, seeds=5)
    del column["m0"][4]  # what they share counts, not what each has
    found = verdicts({"x": (column, True)})["x"]
    assert found.adjusted is not None and found.adjusted < 0.001 and not found.significant


def test_seeds_needed_by_hand() -> None:
    # 2 / 4^3 = 0.031, 3 * 2 / 4^3 = 0.094, 3 * 2 / 4^4 = 0.023; 25 * 2 / 4^5 = 0.049, 26 * 2 / 4^5 = 0.051
    assert [seeds_needed(columns, 0.05, 3) for columns in (1, 3, 25, 26)] == [3, 4, 5, 6]
    assert [seeds_needed(columns) for columns in (1, 25, 26)] == [5, 5, 6]


def test_groups_of_seeds_by_hand() -> None:
    assert groups([0.81, 0.38, 0.50], 0.7) == ([0.38, 0.50], [0.81])  # a gap of 0.31 = 2.6 times the rest
    assert groups([0.4, 0.4, 0.95, 0.4], 0.7) == ([0.4, 0.4, 0.4], [0.95])
    assert groups([0.81, 0.38, 0.55], 0.7) is None  # 0.26 is not twice 0.17
    assert groups([0.50, 0.50, 0.63], 0.7) is None  # 0.13 is less than a fifth of 0.7
    assert groups([0.4, 0.9], 0.7) is None


def test_the_hardest_comparison_decides() -> None:
    easy, near = cells(0.9, 0.2), cells(0.9, 0.898)
    p = paired_p(near["m0"], near["m1"])
    found = verdicts({"x": ({**easy, "m2": near["m1"]}, True)})["x"]
    assert p is not None and p > 0.05
    assert (found.best, found.p, found.significant) == ("m0", pytest.approx(p), False)


def test_holm_goes_over_the_columns_of_the_table() -> None:
    a = dict(enumerate((0.50, 0.60, 0.70, 0.55, 0.60)))
    b = dict(enumerate((0.45, 0.42, 0.62, 0.53, 0.46)))
    p = paired_p(a, b)
    assert p is not None and 0.01 < p < 0.05
    column = ({"a": a, "b": b}, True)
    assert verdicts({"x": column}, p * 1.5, least=3)["x"].significant
    two = verdicts({"x": column, "y": column}, p * 1.5, least=3)
    assert not two["x"].significant and two["x"].adjusted == pytest.approx(2 * p)
    # A column that cannot be tested costs the others nothing.
    lone = verdicts({"x": column, "y": ({"a": a, "b": {}}, True)}, p * 1.5, least=3)
    assert lone["x"].significant and lone["y"].p is None and not lone["y"].significant
