"""Compute multipliers: known ones are found, their intervals cover, and what a curve does not reach is a bound."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from toy import make_record, make_spec

from experiments.analysis.scaling import POINT_COLUMNS, curve_of, fitted, has_budgets, multipliers, orders, points_of
from experiments.reporting.scaling_figure import grid, order_notes, reference_of, times

TIMES = (1.0, 4.0, 16.0, 64.0)


def world(
    budgets: tuple[float, ...] = TIMES, *, factor: float = 2.0, seeds: int = 5, sd: float = 0.0, draw: int = 0
) -> pd.DataFrame:
    """A reference with bits 0.5 + 1.5 F^-0.3 and a row that gets as much out of every FLOP as it out of `factor`."""
    random = np.random.default_rng(draw)
    rows = []
    for row, worth in (("reference", 1.0), ("row", factor)):
        for level, budget in enumerate(budgets):
            values = 0.5 + 1.5 * (budget * worth) ** -0.3 + sd * random.standard_normal(seeds)
            rows += [("t", "text", row, "bits", False, 1e12 * budget, level, s, v) for s, v in enumerate(values)]
    return pd.DataFrame(rows, columns=POINT_COLUMNS)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_a_power_law_gives_the_multiplier_of_a_made_world(factor: float) -> None:
    found = multipliers(world(factor=factor, sd=1e-3), "reference")
    assert set(found["how"]) == {"power law"} and found["multiplier"].tolist() == pytest.approx([factor] * 4, rel=0.03)


def test_two_budgets_are_interpolated_and_what_lies_beyond_is_a_bound() -> None:
    found = multipliers(world((1.0, 4.0), sd=1e-3), "reference")
    assert set(found["how"]) == {"log-interpolation"} and "2 budgets are too few" in found["why"].iloc[0]
    # A law with an offset bends between two budgets: the straight line in logarithms is 2 % off.
    assert found["multiplier"].iloc[0] == pytest.approx(2.0, rel=0.05) and math.isinf(found["multiplier"].iloc[1])
    below = multipliers(world((1.0, 4.0), factor=0.5, sd=1e-3), "reference")
    assert below["multiplier"].iloc[0] == 0.0 and below["multiplier"].iloc[1] == pytest.approx(0.5, rel=0.05)


def test_by_hand_between_two_budgets() -> None:
    """Errors 0.4 at F and 0.1 at 100 F: 0.2 is half way in logarithms, 10 F."""
    rows = [("reference", 1.0, 0, 0.6), ("reference", 100.0, 1, 0.9), ("row", 1.0, 0, 0.8)]
    points = [("t", "chain", row, "accuracy", True, flops, level, 0, value) for row, flops, level, value in rows]
    (found,) = multipliers(pd.DataFrame(points, columns=POINT_COLUMNS), "reference").itertuples()
    assert found.multiplier == pytest.approx(10.0) and found.low is None and found.seeds == 1


def test_a_curve_that_bends_otherwise_is_not_called_a_power_law() -> None:
    """A jump between the second and the third budget: the mean is off by more than its seeds allow."""
    points = world(sd=0.003)
    points.loc[points["level"] >= 2, "value"] -= 0.6
    curve = curve_of(points[points["row"] == "reference"])
    assert curve.how == "log-interpolation" and "lack of fit" in curve.why


def test_three_budgets_are_fitted_without_an_offset() -> None:
    flops = np.array([1.0, 4.0, 16.0])
    a, b, c = fitted(flops, (0.8 * flops**-0.25)[None], np.ones(3), offset=False)
    assert (a[0], b[0], c[0]) == pytest.approx((0.0, 0.8, 0.25), rel=0.05)


@pytest.mark.parametrize(("budgets", "at"), [(TIMES, 1), ((1.0, 4.0), 0)])
def test_the_interval_covers(budgets: tuple[float, ...], at: int) -> None:
    """Of 100 worlds of three seeds at least 88 cover; 95 are promised, and 88 is three standard errors below."""
    rows = [multipliers(world(budgets, seeds=3, sd=0.03, draw=n), "reference").iloc[at] for n in range(100)]
    assert np.mean([row["low"] <= 2.0 <= row["high"] for row in rows]) >= 0.88


def test_the_same_label_in_two_tables_and_an_ending_are_one_row() -> None:
    specs = [make_spec(model=name, seed=seed, labelled=name) for name in ("rope", "rope x4") for seed in (0, 1)]
    runs = []
    for spec in specs:
        flops = spec.cost.flops_train * (4 if "x4" in spec.model else 1.004 if spec.seed else 1)
        spec = spec.model_copy(update={"cost": spec.cost.model_copy(update={"flops_train": flops})})
        runs.append((spec, make_record(spec, 0.5)))
    points = points_of([("one", runs[:2]), ("other", runs[2:])])
    assert set(points["row"]) == {"rope"} and points["level"].tolist() == [0, 0, 1, 1] and has_budgets(points)
    assert reference_of(points) == "rope" and not has_budgets(points_of([("one", runs[:2])]))


def test_whether_the_order_holds() -> None:
    points = world((1.0, 4.0), sd=1e-3)
    (held,) = order_notes(orders(points))
    assert held == "text, budget 1 to 2: the order of the rows holds: row > reference."
    points.loc[(points["row"] == "row") & (points["level"] == 1), "value"] += 1.0
    (turned,) = orders(points).itertuples()
    assert turned.swapped == turned.decided == "row, reference" and turned.next_order == "reference > row"


def test_bounds_are_words() -> None:
    assert [times(v) for v in (0.0, math.inf, 1.5)] == ["less than seen", "more than seen", "1.50"]
    table = grid(multipliers(world((1.0, 4.0), seeds=2), "reference"), "reference")
    assert [cell.text for cell in table.rows[1][5:7]] == ["more than seen", "too few seeds"]
