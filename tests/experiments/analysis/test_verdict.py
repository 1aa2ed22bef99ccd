"""Verdicts by hand, and their two error rates on worlds where the truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from benchmarks.verdicts import MARGIN, Case, draw, equal_rates, main, plain, rates, rates_alone, unlike_rates
from experiments.analysis.verdict import Comparison, Gate, decide, learned_from, merged, verdict

WOBBLE = np.array([0.0, 0.01, -0.01, 0.005, -0.005])
BITS = Gate(levels={"a": 1.8, "b": 2.0}, ngram=1.9)
SHARE = Gate(levels={"a": 0.9, "b": 0.5}, chance=0.25)


def by_seed(values: Sequence[float]) -> dict[int, float]:
    return dict(enumerate(float(value) for value in values))


def against(other: str, gain: float, place: str = "text", gate: Gate | None = BITS, **more: Any) -> Comparison:
    """The model is better by `gain` in the mean: lower, for bits per byte."""
    lower = gate is None or gate.ngram is not None
    mine = 0.6 + 0.02 * np.arange(5)
    theirs = mine + (gain if lower else -gain) + WOBBLE
    return Comparison(
        other=other,
        place=place,
        mine=by_seed(mine),
        theirs=by_seed(theirs),
        higher_is_better=not lower,
        gate=gate,
        **more,
    )


def test_figures_of_one_comparison_are_scipys() -> None:
    found = verdict([against("b", 0.05)], 0.02)
    gains = 0.05 + WOBBLE
    test = scipy_stats.ttest_1samp(gains, 0.02, alternative="greater")
    assert found.verdict == "supported" and found.p == pytest.approx(test.pvalue)
    assert found.effect == pytest.approx(0.05) and found.hardest == "text over b"
    interval = scipy_stats.ttest_1samp(gains, 0).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.reason.startswith("the one comparison is above the margin of 0.02; the hardest, text over b: +0.05")


def test_the_margin_decides_not_zero() -> None:
    # A gain of 0.025 with a spread of 0.008 is far above 0, and not for certain above 0.02.
    assert verdict([against("b", 0.025)], 0.0).verdict == "supported"
    assert verdict([against("b", 0.025)], 0.02).verdict == "underpowered"
    assert verdict([against("b", 0.025)], 0.05).verdict == "refuted"


def test_the_hardest_decides_support_without_correction() -> None:
    # At 5 seeds and a spread of 0.0079, p of a gain of 0.009 above the margin is 0.032: passes alone and among four.
    many = [against(str(n), 0.2 + n / 100) for n in range(3)] + [against("near", 0.029)]
    found = verdict(many, 0.02)
    assert found.verdict == "supported" and found.hardest == "text over near" and 0.02 < (found.p or 0) < 0.05
    assert verdict([*many, against("over", 0.021)], 0.02).verdict == "underpowered"


def test_refutation_pays_for_the_number_of_comparisons() -> None:
    # The mirror: p of 0.009 below the margin is 0.032, alone enough, times four not.
    low, rest = against("low", 0.011), [against(str(n), 0.2 + n / 100) for n in range(3)]
    alone = verdict([low], 0.02)
    assert alone.verdict == "refuted" and 0.02 < (alone.p or 0) < 0.05 and (alone.high or 1) < 0.02
    among = verdict([low, *rest], 0.02)
    assert among.verdict == "underpowered"
    worse = verdict([against("low", -0.05), *rest], 0.02)
    assert worse.verdict == "refuted" and worse.hardest == "text over low" and "corrected for 4" in worse.reason


def test_rows_that_are_the_same_run_count_once() -> None:
    twins = [against("b", 0.011), against("c", 0.011)]
    assert [names for names, _ in merged(twins)] == [("b", "c")]
    found = verdict(twins, 0.02)
    assert found.verdict == "refuted" and found.hardest == "text over b = c" and len(found.comparisons) == 1
    # On another task they are another comparison.
    assert len(merged([against("b", 0.0), against("b", 0.0, place="other text")])) == 2


def test_gates() -> None:
    assert learned_from(0.25) == pytest.approx(0.475)
    assert not Gate(levels={"a": 0.47, "b": 0.3}, chance=0.25).passed and SHARE.passed
    assert not Gate(levels={"a": 1.9, "b": 2.0}, ngram=1.9).passed and BITS.passed
    low = Gate(levels={"a": 2.0, "b": 2.1}, ngram=1.9)
    found = verdict([against("b", 0.3, gate=low)], 0.02)
    assert found.verdict == "not testable" and found.effect is None and found.p is None
    assert verdict([against("b", -0.3, gate=low)], 0.02).verdict == "not testable"
    # Another task, which is learned, can refute, and cannot support.
    gone = against("b", 0.3, gate=low, place="unlearned")
    assert verdict([gone, against("b", -0.3)], 0.02).verdict == "refuted"
    assert verdict([gone, against("b", 0.3)], 0.02).verdict == "not testable"
    for wrong in ({}, {"chance": 0.2, "ngram": 1.0}):
        with pytest.raises(ValueError, match="either chance or ngram"):
            Gate(levels={"a": 1.0}, **wrong)


def share(mine: Sequence[float], theirs: Sequence[float], **more: Any) -> Comparison:
    return Comparison(other="b", place="chain", mine=by_seed(mine), theirs=by_seed(theirs), gate=SHARE, **more)


def test_five_seeds_of_an_accuracy_hide_a_plateau() -> None:
    # All learn, against none: 0.45 less what five seeds cannot exclude, 0.45 of the way to 0.25 - 0.41.
    tight = share(0.85 + WOBBLE, 0.40 + WOBBLE)
    found = verdict([tight], 0.05)
    assert found.verdict == "supported" and found.comparisons[0].bounded and "fall into groups" in found.reason
    expected = 0.45 - (0.45 + 0.16) * (1 - 0.05 ** (1 / 5))
    assert found.low == pytest.approx(expected, abs=0.01)
    assert verdict([tight], 0.2).verdict == "underpowered"
    # Nine more seeds of both in one piece, and the t-test serves; one of them behind, and it does not.
    more = [0.85 + 0.001 * n for n in range(9)]
    assert verdict([share(0.85 + WOBBLE, 0.40 + WOBBLE, earlier=(more, more))], 0.2).verdict == "underpowered"
    same = [0.40 + 0.001 * n for n in range(9)]
    known = verdict([share(0.85 + WOBBLE, 0.40 + WOBBLE, earlier=(more, same))], 0.2)
    assert known.verdict == "supported" and not known.comparisons[0].bounded
    behind = [*more[:8], 0.3]
    assert verdict([share(0.85 + WOBBLE, 0.40 + WOBBLE, earlier=(behind, same))], 0.2).verdict == "underpowered"


def test_groups_are_no_t_test() -> None:
    # Two of five seeds learn and none of the other's: p = 0.09 by t against zero; no verdict either way.
    found = verdict([share([0.85, 0.86, 0.4, 0.41, 0.4], 0.4 + WOBBLE)], 0.0)
    assert found.verdict == "underpowered" and found.comparisons[0].bounded


def test_the_interval_and_the_verdict_agree() -> None:
    random = np.random.default_rng(4)
    seen = set()
    for _ in range(60):
        gain, margin = random.uniform(-0.5, 0.5), 0.05
        theirs = 0.6 + 0.05 * random.standard_normal((2, 10))
        mine = np.clip(0.6 + gain + 0.05 * random.standard_normal(10), 0.25, 1.0)
        made = [
            Comparison(other=str(n), place="x", mine=by_seed(mine), theirs=by_seed(row), gate=SHARE)
            for n, row in enumerate(theirs)
        ]
        found = verdict(made, margin)
        seen.add(found.verdict)
        lows, highs = ([getattr(one, end) for one in found.comparisons] for end in ("low", "high"))
        assert (found.verdict == "supported") == all(low > margin for low in lows)
        assert (found.verdict == "refuted") == any(high < margin for high in highs)
    assert seen == {"supported", "refuted", "underpowered"}


def test_bad_input_and_too_few_seeds() -> None:
    two = Comparison(other="b", place="x", mine={0: 1.0, 1: 1.1, 7: 1.0}, theirs={0: 0.5, 1: 0.5, 9: 0.1})
    found = verdict([two], 0.1)
    assert found.verdict == "underpowered" and "2 shared seeds are too few" in found.reason
    none = verdict([Comparison(other="b", place="x", mine={0: 1.0}, theirs={1: 0.5})], 0.1)
    assert none.verdict == "underpowered" and none.effect is None
    other = Comparison(other="c", place="x", mine={0: 2.0}, theirs=two.theirs)
    for made, margin in (([], 0.1), ([two], -0.1), ([against("b", float("nan"))], 0.1), ([two, other], 0.1)):
        with pytest.raises(ValueError):
            verdict(made, margin)


def test_decide_by_hand() -> None:
    above, below = np.array([[0.04, 0.05], [0.04, 0.06], [0.9, 0.5]]), np.array([[0.9, 0.9], [0.9, 0.026], [0.025, 1]])
    assert [flags.tolist() for flags in decide(above, below, 0.05)] == [[True, False, False], [False, False, True]]


WORLDS = [
    (plain("normal"), "bits"),
    (plain("heavy"), "bits"),
    (plain("normal"), "accuracy, earlier seeds"),
    *((equal_rates(rate), "accuracy") for rate in (0.2, 0.5, 0.8)),
    (unlike_rates(0.8, 1.0), "accuracy"),
    (unlike_rates(1.0, 0.5), "accuracy, earlier seeds"),
    (rates_alone(1.0, 0.8), "accuracy"),
    (rates_alone(1.0, 0.8), "accuracy, earlier seeds"),
    (unlike_rates(0.2, 0.5), "accuracy"),
]


@pytest.mark.parametrize(("family", "rule"), WORLDS)
@pytest.mark.parametrize("seeds", [5, 10])
def test_wrong_verdicts_are_rare(family: list[Any], rule: str, seeds: int) -> None:
    # 5 % of 1,000 are 50; 76 or more happen once in some thousand times.
    for world in family:
        for others, far in ((1, False), (6, True), (6, False)):
            supported, refuted = rates(Case(world, others, seeds, far), 1000, rule, seed=3)
            assert world.times > 1 or supported <= 0.075, (world, others)
            assert world.times < 1 or refuted <= 0.075, (world, others)


def test_the_rules_that_are_not_used_would_be_wrong() -> None:
    world = rates_alone(1.0, 0.8)[0]  # the true gain is the margin; a third of the samples shows no gain at all
    for rule in ("t-test alone", "sign test", "sign flips"):
        assert rates(Case(world, 1, 5, False), 2000, rule)[1] > 0.25


def test_the_rules_find_what_is_there() -> None:
    at_zero, _, at_twice = plain("normal")
    assert rates(Case(at_twice, 3, 10, False), 500, "bits")[0] > 0.85
    assert rates(Case(at_zero, 3, 10, False), 500, "bits")[1] > 0.95
    assert rates(Case(rates_alone(1.0, 0.0)[1], 3, 10, False), 500, "accuracy")[0] > 0.95


def test_the_worlds_have_the_gain_that_they_state() -> None:
    random = np.random.default_rng(0)
    for world in (*plain("heavy"), *unlike_rates(0.2, 0.5), *unlike_rates(0.8, 1.0), *rates_alone(0.8, 0.2)):
        values = draw(Case(world, 3, 10, True), random, 20_000, 10)
        gains = (values[:, :1] - values[:, 1:]).mean(axis=(0, 2))
        assert gains[0] == pytest.approx(world.gain, abs=0.006) and (gains[1:] >= 2 * MARGIN - 0.006).all()


def test_the_table_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main(["worlds=20", "only=1 against 0.8, equal"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 1 against")]
    assert len(lines) == 1 and lines[0].startswith("| 1 against 0.8, equal levels | accuracy | 0.0")
