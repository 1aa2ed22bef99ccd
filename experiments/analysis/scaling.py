"""What more compute is worth: rows of tables at several training budgets, and how much a reference needs for the same.

The compute multiplier of a row at a budget is F_ref / F: the reference reaches the row's value with F_ref training
FLOPs, the row with F. Above 1 the row is the cheaper one. F_ref is read off the reference's curve:

- `power law`: error = a + b F^-c (a >= 0), error = 1 - value where higher is better. Three budgets leave no room for
  the offset, then a = 0; four or more fit it. It is used where there are more budgets than parameters, the F-test of
  lack of fit against the spread between seeds has p >= 0.05, and no mean is off by more than a tenth of the range of
  the means. It is followed no further than `BEYOND` times past the smallest and the largest budget.
- `log-interpolation` else: straight lines between the means, log error over log F, up to the best so far; nothing
  beyond the ends. (A law with an offset bends between them: a straight line asks a little too much of the reference.)

A value that the curve does not reach leaves a bound: more (or less) than so many times.

Intervals: each mean is drawn anew from its t-distribution over seeds, m + s / sqrt(S) t_(S-1), the curve is fitted
again, percentiles are taken (a parametric bootstrap; Weerahandi 1993, generalised intervals). Rows are drawn as
independent: seeds that they share make the interval too wide rather than too narrow.

Shapes: B budgets, D draws, S seeds, C exponents, V values that are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd
import scipy  # loads its parts when they are first asked for

from experiments.analysis.bootstrap import Floats, seed_of
from experiments.analysis.frames import Runs
from experiments.analysis.significance import MIN_SEEDS, paired_p

POINT_COLUMNS = ["table", "task", "row", "metric", "higher_is_better", "flops", "level", "seed", "value"]
MULTIPLIER_COLUMNS = [
    *("task", "row", "reference", "metric", "level", "flops", "seeds", "value", "multiplier", "low", "high", "how"),
    "why",
]
ORDER_COLUMNS = ["task", "level", "next_level", "order", "next_order", "swapped", "decided"]
TIMES = re.compile(r"(?P<row>.+?)[ _]x\d+(?:\.\d+)?$")  # `transformer_rope x4` is the row transformer_rope
SAME_LEVEL = 1.2  # budgets whose FLOPs differ by less are the same one
BEYOND = 4.0
NEARLY = 1e-4  # the least error whose logarithm is taken
DRAWS = 2000
EXPONENTS_C, FINE_C = (np.geomspace(0.02, 2.0, count) for count in (120, 4000))  # of many draws, and of one
ALPHA = 0.05
MISFIT = 0.1  # of the range of the means


def points_of(tables: Sequence[tuple[str, Runs]]) -> pd.DataFrame:
    """One row per finished run: the primary metric on test/id against the useful training FLOPs of the run.

    Rows of the same label are one row at several budgets, in whatever table they stand, and so are labels that differ
    in an ending such as ` x4` alone. `level` counts the budgets of a task from 0.

    Args:
        tables: names and runs.
    """
    found = []
    for name, runs in tables:
        for spec, record in runs:
            value = None if record is None else record.metrics.get("test/id", {}).get(spec.task_info.metric)
            if record is not None and record.status == "done" and value is not None:
                named = TIMES.match(spec.model)
                info = spec.task_info
                row = {"row": named["row"] if named else spec.model, "flops": spec.cost.flops_train}
                what = {"metric": info.metric, "higher_is_better": info.higher_is_better}
                found.append({"table": name, "task": spec.task, "seed": spec.seed, "value": value, **row, **what})
    frame = pd.DataFrame(found, columns=POINT_COLUMNS)
    for _, part in frame.groupby("task", sort=False):
        flops = np.sort(part["flops"].unique())
        levels = np.concatenate([[0], np.cumsum(np.diff(np.log(flops)) > np.log(SAME_LEVEL))])
        frame.loc[part.index, "level"] = part["flops"].map(dict(zip(flops, levels, strict=True)))
    return frame.drop_duplicates(["task", "row", "level", "seed"]).astype({"level": int}).reset_index(drop=True)


def has_budgets(points: pd.DataFrame) -> bool:
    """Whether any row of any task has run at more than one budget."""
    return bool(len(points)) and int(points.groupby(["task", "row"])["level"].nunique().max()) > 1


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A row at its budgets, the smallest first."""

    flops_B: Floats
    mean_B: Floats
    error_B: Floats  # standard error of the mean; NaN for one seed
    seeds_B: Floats
    higher_is_better: bool
    shape: tuple[float, float, float] | None  # a, b, c of the power law; None: interpolated
    why: str  # how it was decided

    @property
    def how(self) -> str:
        return "log-interpolation" if self.shape is None else "power law" if self.shape[0] else "power law, no offset"

    def error(self, value: Floats) -> Floats:
        """What is missing to perfection, never quite nothing."""
        return np.maximum(1 - value if self.higher_is_better else value, NEARLY)

    def at(self, flops: Floats) -> Floats:
        """The metric that the curve has at these FLOPs."""
        if self.shape is None:
            inner = np.interp(np.log(flops), np.log(self.flops_B), np.log(self.error(self.mean_B)))
            between: Floats = np.exp(inner)
            return 1 - between if self.higher_is_better else between
        a, b, c = self.shape
        error: Floats = a + b * (flops / self.flops_B[0]) ** -c
        return 1 - error if self.higher_is_better else error


def curve_of(points: pd.DataFrame) -> Curve:
    """The curve of one row on one task, and whether a power law fits it."""
    groups = [part for _, part in points.groupby("level")]
    flops_B = np.array([part["flops"].mean() for part in groups])
    mean_B = np.array([part["value"].mean() for part in groups])
    seeds_B = np.array([float(len(part)) for part in groups])
    sd_B = np.array([part["value"].std() if len(part) > 1 else np.nan for part in groups])
    higher = bool(points["higher_is_better"].iloc[0])
    shape, why = _decided(flops_B, 1 - mean_B if higher else mean_B, sd_B, seeds_B)
    error_B = sd_B / np.sqrt(seeds_B)
    return Curve(
        flops_B=flops_B,
        mean_B=mean_B,
        error_B=error_B,
        seeds_B=seeds_B,
        higher_is_better=higher,
        shape=shape,
        why=why,
    )


def _decided(
    flops_B: Floats, error_B: Floats, sd_B: Floats, seeds_B: Floats
) -> tuple[tuple[float, float, float] | None, str]:
    """The power law's a, b, c if it fits, and the reason in words."""
    budgets = len(flops_B)
    free = 3 if budgets > 3 else 2
    left = float((seeds_B - 1).sum())
    if budgets <= free:
        return None, f"{budgets} budgets are too few to try a power law"
    if left < 1 or np.isnan(sd_B).any():
        return None, "one seed gives no spread to try a power law against"
    a, b, c = (float(part[0]) for part in fitted(flops_B, error_B[None], seeds_B, offset=free == 3))
    off_B = a + b * (flops_B / flops_B[0]) ** -c - error_B
    spread = float(((seeds_B - 1) * sd_B**2).sum() / left)
    ratio = float((seeds_B * off_B**2).sum() / (budgets - free)) / max(spread, 1e-30)
    p = float(scipy.stats.f.sf(ratio, budgets - free, left))
    worst = float(np.abs(off_B).max() / max(np.ptp(error_B), 1e-30))
    text = f"lack of fit p = {p:.2g}, largest misfit {worst:.0%} of the range"
    return ((a, b, c) if b > 0 and p >= ALPHA and worst <= MISFIT else None), text


def fitted(flops_B: Floats, error_DB: Floats, weight_B: Floats, *, offset: bool) -> tuple[Floats, Floats, Floats]:
    """Least squares of a + b (F / F_0)^-c for each draw: a and b in closed form for each c of a grid; a, b, c [D].

    Where a would be negative it is 0.
    """
    c_C = EXPONENTS_C if len(error_DB) > 1 else FINE_C
    x_CB = (flops_B / flops_B[0]) ** -c_C[:, None]
    w_B = weight_B / weight_B.sum()
    wx_C, wxx_C = x_CB @ w_B, (x_CB**2) @ w_B
    wy_D, wxy_DC = error_DB @ w_B, (error_DB * w_B) @ x_CB.T
    plain_DC = wxy_DC / wxx_C  # b with a = 0
    b_DC, a_DC = plain_DC, np.zeros_like(plain_DC)
    if offset:
        slope_DC = (wxy_DC - wy_D[:, None] * wx_C) / (wxx_C - wx_C**2)
        above_DC = wy_D[:, None] - slope_DC * wx_C
        b_DC, a_DC = np.where(above_DC > 0, slope_DC, plain_DC), np.maximum(above_DC, 0.0)
    wyy_D = (error_DB**2) @ w_B
    # The weighted sum of (y - a - b x)^2, multiplied out.
    left_DC = wyy_D[:, None] + a_DC**2 + b_DC**2 * wxx_C - 2 * a_DC * wy_D[:, None] - 2 * b_DC * wxy_DC
    left_DC += 2 * a_DC * b_DC * wx_C
    best_D = left_DC.argmin(axis=1)
    rows_D = np.arange(len(error_DB))
    return a_DC[rows_D, best_D], b_DC[rows_D, best_D], c_C[best_D]


def needed(curve: Curve, mean_DB: Floats, value_DV: Floats) -> Floats:
    """The FLOPs at which the curve through `mean_DB` reaches the values [D, V]; 0 and inf beyond its ends."""
    left_DB, wanted_DV = curve.error(mean_DB), curve.error(value_DV)
    if curve.shape is None:
        return _interpolated(np.log(curve.flops_B), np.log(left_DB), np.log(wanted_DV))
    a_D1, b_D1, c_D1 = (part[:, None] for part in _fitted_to(curve, left_DB))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found_DV = curve.flops_B[0] * ((wanted_DV - a_D1) / b_D1) ** (-1 / c_D1)
    found_DV = np.where(wanted_DV <= a_D1, np.inf, found_DV)
    found_DV = np.where((wanted_DV > a_D1) & (b_D1 <= 0), 0.0, found_DV)  # a curve that does not fall is there at once
    found_DV = np.where(found_DV > BEYOND * curve.flops_B[-1], np.inf, found_DV)
    return np.where(found_DV < curve.flops_B[0] / BEYOND, 0.0, found_DV)


def _fitted_to(curve: Curve, left_DB: Floats) -> tuple[Floats, Floats, Floats]:
    return fitted(curve.flops_B, left_DB, curve.seeds_B, offset=len(curve.flops_B) > 3)


def _interpolated(log_B: Floats, left_DB: Floats, wanted_DV: Floats) -> Floats:
    """The first crossing of the best so far, linear in log error and log FLOPs."""
    left_DB = np.minimum.accumulate(left_DB, axis=1)
    found_DV = np.where(wanted_DV > left_DB[:, :1], 0.0, np.inf)
    for at in reversed(range(left_DB.shape[1] - 1)):
        high_D1, low_D1 = left_DB[:, at, None], left_DB[:, at + 1, None]
        share_DV = np.clip((high_D1 - wanted_DV) / np.where(high_D1 > low_D1, high_D1 - low_D1, 1.0), 0.0, 1.0)
        inside_DV = (wanted_DV <= high_D1) & (wanted_DV >= low_D1)
        found_DV = np.where(inside_DV, np.exp(log_B[at] + share_DV * (log_B[at + 1] - log_B[at])), found_DV)
    return found_DV


def drawn(curve: Curve, random: np.random.Generator) -> Floats:
    """Means that the seeds leave possible, [D, B]; NaN where one seed says nothing of the spread."""
    t_DB = random.standard_t(np.maximum(curve.seeds_B - 1, 1), size=(DRAWS, len(curve.mean_B)))
    return np.asarray(curve.mean_B + curve.error_B * t_DB, dtype=np.float64)


def multipliers(points: pd.DataFrame, reference: str, confidence: float = 0.95) -> pd.DataFrame:
    """One row per task, row and budget: `MULTIPLIER_COLUMNS`.

    `multiplier`, `low` and `high` are 0 or inf where the reference's curve does not reach so far down or up: less, or
    more, than it shows. There is no interval where any cell that it rests on has fewer than three seeds.
    """
    rows: list[dict[str, Any]] = []
    for task, part in points.groupby("task", sort=False):
        if reference not in set(part["row"]) or part[part["row"] == reference]["level"].nunique() < 2:
            continue
        ground = curve_of(part[part["row"] == reference])
        for row, mine in part[part["row"] != reference].groupby("row", sort=False):
            curve = curve_of(mine)
            levels = sorted(set(mine["level"]))
            for at, (middle, low, high) in enumerate(_ratios(curve, ground, confidence)):
                names = {"task": task, "row": row, "reference": reference, "metric": mine["metric"].iloc[0]}
                what = {"level": levels[at], "flops": curve.flops_B[at], "seeds": int(curve.seeds_B[at])}
                found = {"value": curve.mean_B[at], "multiplier": middle, "low": low, "high": high}
                rows.append({**names, **what, **found, "how": ground.how, "why": ground.why})
    return pd.DataFrame(rows, columns=MULTIPLIER_COLUMNS)


def _ratios(curve: Curve, ground: Curve, confidence: float) -> list[tuple[float, float | None, float | None]]:
    """Multiplier and interval at each budget of the row."""
    middle_B = needed(ground, ground.mean_B[None], curve.mean_B[None])[0] / curve.flops_B
    if min(curve.seeds_B.min(), ground.seeds_B.min()) < MIN_SEEDS:
        return [(float(middle), None, None) for middle in middle_B]
    random = np.random.Generator(np.random.Philox(seed_of(curve.mean_B, ground.mean_B)))
    ratio_DB = needed(ground, drawn(ground, random), drawn(curve, random)) / curve.flops_B
    # The nearest draw, not a mean of two: one of them may be infinite.
    ends = np.quantile(ratio_DB, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0, method="nearest")
    return [(float(middle), float(low), float(high)) for middle, low, high in zip(middle_B, *ends, strict=True)]


def orders(points: pd.DataFrame) -> pd.DataFrame:
    """Per task and pair of neighbouring budgets: the rows, the best first, at both; the pairs that change places.

    `decided` are those of them whose order is decided at both (paired t-test over seeds, p <= 0.05 each).
    """
    rows = []
    for task, part in points.groupby("task", sort=False):
        sign = 1 if part["higher_is_better"].iloc[0] else -1
        at = {
            int(str(level)): {str(row): dict(zip(m["seed"], m["value"], strict=True)) for row, m in mine.groupby("row")}
            for level, mine in part.groupby("level")
        }
        for level, then in pairwise(sorted(at)):
            shared = sorted(set(at[level]) & set(at[then]))
            ranked = [_ranked({row: at[n][row] for row in shared}, sign) for n in (level, then)]
            place = {row: n for n, row in enumerate(ranked[1])}
            swapped = [pair for pair in combinations(ranked[0], 2) if place[pair[0]] > place[pair[1]]]
            sure = [pair for pair in swapped if all(_apart(at[n][pair[0]], at[n][pair[1]]) for n in (level, then))]
            listed = [" > ".join(one) for one in ranked]
            named = ["; ".join(f"{a}, {b}" for a, b in pairs) for pairs in (swapped, sure)]
            rows.append((task, level, then, *listed, *named))
    return pd.DataFrame(rows, columns=ORDER_COLUMNS)


def _ranked(values: dict[str, dict[int, float]], sign: int) -> list[str]:
    return sorted(values, key=lambda row: -sign * sum(values[row].values()) / len(values[row]))


def _apart(one: dict[int, float], other: dict[int, float]) -> bool:
    p = paired_p(one, other)
    return p is not None and p <= ALPHA
