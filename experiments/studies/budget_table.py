"""All models x presets x lengths: target, solved, residual. Printed as Markdown; what misses is explained.

python -m experiments budget table [preset ...]
python -m experiments budget time [preset ...]      # what a solve takes
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from experiments.planning.budget import Budget
from experiments.planning.solution import Solution, refusal
from experiments.planning.solve import solve
from experiments.studies.solved_sizes import budget_of, models, sizes_of
from ressformer.cost import Shape

LENGTHS = (64, 256, 1024)
VOCAB = 256
# Tokens per training step, by the size of the budget: a hundred steps or more at every length.
TOKENS = {300_000: 1024, 3_000_000: 8192, 30_000_000: 65_536}
MANY = 262_144
LISTED = ("params", "train_flops")
OTHERS = ("flops_per_token", "effective_depth", "matched")


@dataclass(frozen=True)
class Line:
    """One cell of the table."""

    budget: str
    regime: str
    model: str
    length: int
    solution: Solution
    why: str


def lines(presets: Sequence[str]) -> Iterator[Line]:
    """Every cell (inside `composer`)."""
    found = models()
    for budget, shape, model in questions(presets, found):
        solution = solve(found[model], budget, shape, found[budget.reference], strict=False)
        why = "" if solution.met else refusal(solution, budget, shape, frozenset())
        yield Line(budget.name, budget.regime, model, shape.length, solution, why)


def questions(presets: Sequence[str], found: Iterable[str]) -> Iterator[tuple[Budget, Shape, str]]:
    """Every (budget, shape, model) of the table."""
    for name in presets:
        preset = budget_of(name)
        tokens = next((t for limit, t in TOKENS.items() if preset.params < limit), MANY)
        for regime, model, length in itertools.product((*LISTED, *OTHERS), found, LENGTHS):
            shape = Shape(batch=tokens // length, length=length, vocab=VOCAB)
            yield dataclasses.replace(preset, regime=regime), shape, model


def times(presets: Sequence[str]) -> None:
    """Print what a solve takes, in milliseconds of CPU: never asked before, and asked again."""
    found = models()
    cold: dict[str, list[float]] = {}
    warm: dict[str, list[float]] = {}
    for budget, shape, model in questions(presets, found):
        for kind in (cold, warm):
            start = time.process_time()
            solution = solve(found[model], budget, shape, found[budget.reference], strict=False)
            spent = 1e3 * (time.process_time() - start)
            kind.setdefault(budget.regime if solution.met else "cannot be met", []).append(spent)
    print("| regime | solves | cold, median ms | cold, worst ms | warm, median ms |\n|---|---:|---:|---:|---:|")
    for regime, values in cold.items():
        figures = f"{statistics.median(values):.2f} | {max(values):.0f} | {statistics.median(warm[regime]):.3f}"
        print(f"| {regime} | {len(values)} | {figures} |")


def show(presets: Sequence[str]) -> None:
    """Print the summary, the cells of the listed regimes, and why the others miss."""
    cells = list(lines(presets))
    print("| regime | cells | within tolerance | share |\n|---|---:|---:|---:|")
    for regime in (*LISTED, *OTHERS):
        mine = [cell for cell in cells if cell.regime == regime]
        met = sum(cell.solution.met for cell in mine)
        print(f"| {regime} | {len(mine)} | {met} | {met / len(mine):.1%} |")
    for regime in LISTED:
        print(f"\n### Regime `{regime}`\n")
        print("| budget | model | length | sizes | params | FLOPs/token | steps | train FLOPs | within |")
        print("|---|---|---:|---|---:|---:|---:|---:|---|")
        for cell in cells:
            if cell.regime == regime:
                print(_row(cell))
    missed = [cell for cell in cells if not cell.solution.met]
    print("\n### What cannot be met, and why\n")
    for cell in missed if missed else []:
        print(f"- {cell.regime}, {cell.model} at {cell.length}: {cell.why}")
    if not missed:
        print("Nothing.")


def _row(cell: Line) -> str:
    solution = cell.solution
    sizes = ", ".join(f"{key} {value}" for key, value in sizes_of(solution).items())

    def with_residual(value: float, key: str) -> str:
        return f"{value:.4g} ({solution.residual[key]:+.2%})"

    parts = [
        *(cell.budget, cell.model, str(cell.length), sizes),
        with_residual(solution.params, "params"),
        with_residual(solution.flops_per_token, "flops_per_token"),
        str(solution.steps),
        with_residual(solution.train_flops, "train_flops"),
        "yes" if solution.met else "NO",
    ]
    return "| " + " | ".join(parts) + " |"
