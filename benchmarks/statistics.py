"""Simulations behind the statistics: how often bold is wrong, how often an interval covers, on worlds that we make.

    python -m benchmarks.statistics [tables=4000]

Worlds: `normal` (seed effects are normal), `items` (normal seed effects and 512 binary test items, shared by the
models), `heavy` (seed effects from Student's t with 3 degrees), `skewed` (log-normal), `bimodal` (a seed either solves
the task or not, as in sudden learning), `rare` (one seed in five does). `bold` is the share of tables in which some
cell is wrongly bold: `null` = all models equal, `tied` = two equal ones above the rest; `by p alone` leaves out the
seeds that bold needs. `covers` is the share of 95 % intervals that hold the true mean, `falls apart` the share
of cells whose seeds are said to fall into groups.

Shapes: R replications, M models, S seeds, C columns (tasks), I items.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from experiments.analysis.bootstrap import iqm, stratified_bootstrap
from experiments.analysis.significance import groups, summary, verdicts

Floats = NDArray[np.float64]
World = Callable[[np.random.Generator, tuple[int, int, int]], Floats]
MEAN, SD, ITEMS = 0.6, 0.03, 512


def normal(random: np.random.Generator, shape_MSC: tuple[int, int, int]) -> Floats:
    """Normal seed effects."""
    return MEAN + SD * random.standard_normal(shape_MSC)


def heavy(random: np.random.Generator, shape_MSC: tuple[int, int, int]) -> Floats:
    """Student's t with 3 degrees of freedom."""
    return MEAN + SD * random.standard_t(3, shape_MSC)


def items(random: np.random.Generator, shape_MSC: tuple[int, int, int]) -> Floats:
    """Accuracies over items of varying ease, which all models see alike."""
    ease_CI = 0.8 * random.standard_normal((shape_MSC[2], ITEMS))
    skill_MSC = 0.5 + 0.15 * random.standard_normal(shape_MSC)
    chance_MSCI = 1 / (1 + np.exp(-(skill_MSC[..., None] + ease_CI)))
    return np.asarray((random.random(chance_MSCI.shape) < chance_MSCI).mean(axis=-1), dtype=np.float64)


def skewed(random: np.random.Generator, shape_MSC: tuple[int, int, int]) -> Floats:
    """Log-normal seed effects: most seeds are alike, some are far better."""
    return 0.5 + SD * np.exp(random.standard_normal(shape_MSC))


def solving(share: float) -> World:
    """A world in which that share of the seeds solves the task."""

    def world(random: np.random.Generator, shape_MSC: tuple[int, int, int]) -> Floats:
        solved_MSC = random.random(shape_MSC) < share
        return np.where(solved_MSC, 0.95, 0.4) + 0.01 * random.standard_normal(shape_MSC)

    return world


WORLDS: dict[str, World] = {"normal": normal, "items": items, "heavy": heavy, "skewed": skewed}
WORLDS |= {"bimodal": solving(0.5), "rare": solving(0.2)}


def is_bold(scores_MSC: Floats, alpha: float = 0.05) -> tuple[bool, bool]:
    """Whether some column of the table has a bold cell, and whether one would have by its p alone."""
    columns = {
        str(c): ({str(m): dict(enumerate(row_S)) for m, row_S in enumerate(scores_MSC[:, :, c].tolist())}, True)
        for c in range(scores_MSC.shape[2])
    }
    found = verdicts(columns, alpha).values()
    low = any(verdict.adjusted is not None and verdict.adjusted <= alpha for verdict in found)
    return any(verdict.significant for verdict in found), low


def false_bold(
    world: World, shape_MSC: tuple[int, int, int], tables: int, *, tied: bool, seed: int = 0
) -> tuple[float, float]:
    """Share of tables with a wrong bold, and with one by p alone.

    `tied` lowers all models but the first two, so that one comparison counts.
    """
    random = np.random.default_rng(seed)
    wrong = np.zeros(2)
    for _ in range(tables):
        scores_MSC = world(random, shape_MSC)
        if tied:
            scores_MSC[2:] -= 10.0
        wrong += is_bold(scores_MSC)
    bold, by_p = (wrong / tables).tolist()
    return bold, by_p


def apart(world: World, seeds: int, replications: int, seed: int = 0) -> float:
    """Share of cells that are said to fall into groups, on a scale from a chance of a quarter to 1."""
    random = np.random.default_rng(seed)
    scores_RS = world(random, (replications, seeds, 1))[:, :, 0]
    return sum(groups(row_S, 0.75) is not None for row_S in scores_RS.tolist()) / replications


def coverage(world: World, seeds: int, replications: int, seed: int = 0) -> float:
    """Share of t-intervals over seeds that hold the world's mean."""
    random = np.random.default_rng(seed)
    truth = float(np.mean(world(random, (1, 40_000, 1)))) if world is not items else None
    hits = 0
    for _ in range(replications):
        values = world(random, (1, seeds, 1)).ravel() if world is not items else fixed_items(random, seeds)
        found = summary(values.tolist())
        assert found.low is not None and found.high is not None
        hits += found.low <= (truth if truth is not None else fixed_truth()) <= found.high
    return hits / replications


def fixed_items(random: np.random.Generator, seeds: int) -> Floats:
    """Accuracies of one model on the one test set that a table has; the interval is over seeds, not over items."""
    ease_I = 0.8 * np.random.default_rng(7).standard_normal(ITEMS)
    chance_SI = 1 / (1 + np.exp(-(0.5 + 0.15 * random.standard_normal((seeds, 1)) + ease_I)))
    return np.asarray((random.random(chance_SI.shape) < chance_SI).mean(axis=-1), dtype=np.float64)


def fixed_truth() -> float:
    """The mean of `fixed_items` over all seeds, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    ease_I = 0.8 * np.random.default_rng(7).standard_normal(ITEMS)
    values = [(1 / (1 + np.exp(-(0.5 + 0.15 * node + ease_I)))).mean() for node in nodes]
    return float(np.dot(values, weights) / weights.sum())


def coverage_iqm(seeds: int, tasks: int, replications: int, seed: int = 0) -> float:
    """Share of bootstrap intervals of the IQM that hold the IQM of very many seeds (normal, tasks of unlike means)."""
    random = np.random.default_rng(seed)
    means_T = np.linspace(0.3, 0.8, tasks)
    truth = iqm(means_T + 0.05 * random.standard_normal((100_000, tasks)))
    hits = 0
    for _ in range(replications):
        low, high = stratified_bootstrap(means_T + 0.05 * random.standard_normal((seeds, tasks)), reps=1000)
        hits += low <= truth <= high
    return hits / replications


def run(tables: int) -> None:
    """Print the tables of docs/statistics.md."""
    shapes = ((2, 3, 3), (2, 5, 1), (2, 5, 3), (2, 5, 18), (4, 5, 3), (8, 5, 6), (2, 6, 30))
    print("| world | models x seeds x columns | wrong bold, null | tied | by p alone, null | tied |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, world in WORLDS.items():
        for shape in shapes:
            n = tables if world is not items else max(200, tables // 2)
            (null, null_p), (tie, tie_p) = (false_bold(world, shape, n, tied=tied) for tied in (False, True))
            figures = " | ".join(f"{share:.3f}" for share in (null, tie, null_p, tie_p))
            print(f"| {name} | {' x '.join(map(str, shape))} | {figures} |", flush=True)
    print("\n| interval | seeds | covers | falls apart |\n| --- | ---: | ---: | ---: |")
    for name, world in WORLDS.items():
        for seeds in (3, 5, 10):
            figures = f"{coverage(world, seeds, tables):.3f} | {apart(world, seeds, tables):.3f}"
            print(f"| mean, {name} | {seeds} | {figures} |", flush=True)
    for seeds, tasks in ((3, 3), (3, 8), (5, 3), (5, 8), (10, 3)):
        print(
            f"| IQM of {tasks} tasks, normal | {seeds} | {coverage_iqm(seeds, tasks, tables // 2):.3f} | |", flush=True
        )


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    begun = time.process_time()
    run(int(given.get("tables", "4000")))
    print(f"\n{time.process_time() - begun:.0f} CPU seconds")
