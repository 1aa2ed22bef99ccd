"""The agreement with a reference: by hand, by scipy, and its false alarms."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy import stats as scipy_stats

from benchmarks.agreement import OTHER_PROCESSOR, TWELVE, WORLDS, alarms, means_against, records, splits
from experiments.analysis.agreement import agreement, choices, fisher

Values = dict[str, dict[int, float]]


def made(new: int = 3, **shifts: float) -> tuple[Values, Values]:
    """Ten seeds of the reference and new ones, three cells; `shifts` move the new seeds of a cell."""
    values = 0.8 + 0.02 * np.random.default_rng(8).standard_normal((3, 10 + new))
    reference = {f"c{c}": dict(enumerate(row[:10].tolist())) for c, row in enumerate(values)}
    fresh = {
        f"c{c}": {100 + s: value + shifts.get(f"c{c}", 0.0) for s, value in enumerate(row[10:].tolist())}
        for c, row in enumerate(values)
    }
    return reference, fresh


SCALES = {"c0": 0.75, "c1": 0.75, "c2": 0.75}


def test_one_cell_is_the_permutation_test_of_scipy() -> None:
    reference, fresh = made(c0=0.02)
    old, new = list(reference["c0"].values()), list(fresh["c0"].values())
    expected = scipy_stats.permutation_test(
        (new, old),
        lambda a, b, axis: abs(scipy_stats.ttest_ind(a, b, axis=axis).statistic),
        alternative="greater",
        n_resamples=10_000,
    ).pvalue
    found = agreement({"c0": reference["c0"]}, {"c0": fresh["c0"]}, SCALES)
    assert found.p == pytest.approx(expected, abs=1e-9)


def test_a_deviation_is_named() -> None:
    found = agreement(*made(), SCALES)
    assert found.agrees and "agree with the reference's 10" in found.sentence and found.seeds == (10, 3)
    found = agreement(*made(c1=-0.12), SCALES)
    assert not found.agrees and "do not agree with the reference's 10 in c1 (" in found.sentence
    assert [one.agrees for one in found.cells] == [True, False, True]
    assert found.p == pytest.approx(1 / comb(13, 3))  # no other choice of three deviates as much


def test_a_gap_between_new_seeds_and_reference_is_a_shift_not_two_groups() -> None:
    found = agreement(*made(c1=-0.4), SCALES)
    assert (
        not found.cells[1].agrees and not found.cells[1].grouped and found.cells[1].new == pytest.approx(0.4, abs=0.03)
    )


def test_groups_are_compared_by_their_shares() -> None:
    old = dict(enumerate([0.8, 0.81, 0.79, 0.8, 0.4, 0.8, 0.82, 0.8, 0.79, 0.41]))
    found = agreement({"c0": old}, {"c0": {0: 0.81, 1: 0.4, 2: 0.8}}, SCALES).cells[0]
    assert found.grouped and found.agrees and (found.reference, found.new) == pytest.approx((0.8, 2 / 3))
    # Of five new seeds none learned, of ten eight did.
    none = agreement({"c0": old}, {"c0": dict.fromkeys(range(5), 0.4)}, SCALES).cells[0]
    assert none.grouped and not none.agrees and none.noticed is not None and none.noticed[0] < 0.5
    assert "share that learned 0, reference 0.8 does not agree" in none.sentence


@pytest.mark.parametrize(("total", "learned", "k"), [(13, 9, 3), (15, 7, 5), (12, 12, 2)])
def test_fisher_against_scipy(total: int, learned: int, k: int) -> None:
    found = fisher(total, learned, k)
    for among in range(k + 1):
        rest = [among, k - among, learned - among, total - k - (learned - among)]
        if min(rest) >= 0:
            expected = scipy_stats.fisher_exact(np.array(rest).reshape(2, 2)).pvalue
            assert found[among] == pytest.approx(expected)


def test_choices_are_all_there_and_the_observed_is_first() -> None:
    found = choices(4, 2, 0)
    assert found.shape == (15, 6) and found[0].tolist() == [0, 0, 0, 0, 1, 1]
    assert {tuple(np.flatnonzero(row)) for row in found} == set(combinations(range(6), 2))
    drawn = choices(30, 10, 0)
    assert len(drawn) == 5000 and (drawn.sum(axis=1) == 10).all() and drawn[0, 30:].all()


def test_bad_input() -> None:
    reference, fresh = made()
    with pytest.raises(ValueError, match="only one has: c2"):
        agreement(reference, {c: fresh[c] for c in ("c0", "c1")}, SCALES)
    with pytest.raises(ValueError, match="1 new seeds beside 10"):
        agreement(reference, {c: {100: values[100]} for c, values in fresh.items()}, SCALES)


def test_what_would_have_been_noticed_is_within_the_ends() -> None:
    reference, fresh = made()
    free, bound = agreement(reference, fresh, SCALES), agreement(reference, fresh, SCALES, ends={"c0": (0.0, 0.82)})
    assert free.cells[0].noticed is not None and bound.cells[0].noticed is not None
    assert np.isfinite(free.cells[0].noticed).all() and bound.cells[0].noticed[1] == np.inf
    assert " and " not in bound.cells[0].sentence and "or less" in bound.cells[0].sentence


def test_a_shift_of_what_would_be_noticed_mostly_is() -> None:
    # sd 0.03, three new seeds, twelve cells; the distance as printed, 0.1 or so, is found 4 times in 5.
    assert 0.65 <= alarms(WORLDS["normal"], 3, 60, -0.095, seed=2)[1] <= 0.98


@pytest.mark.parametrize("name", list(WORLDS))
def test_false_alarms_are_rare(name: str) -> None:
    # 5 % of 300 are 15; 27 or more happen once in a few hundred times.
    assert alarms(WORLDS[name], 3, 300, seed=1)[0] <= 26 / 300


def test_seeds_left_out_of_the_committed_table() -> None:
    cells, scales, ends = records(TWELVE)
    assert len(cells) == 12 and all(len(values) == 12 for values in cells.values())
    agreed = [agreement(*pair, scales, ends=ends).agrees for pair in splits(cells, 2)]
    assert len(agreed) == 66 and agreed.count(False) <= 0.05 * 66
    other = means_against(cells, OTHER_PROCESSOR, scales, ends)
    assert other.agrees and other.cells[0].new == pytest.approx(0.8441)
