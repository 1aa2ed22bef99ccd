"""How often new seeds are wrongly said to deviate from a reference, and how often a deviation is found.

    python -m benchmarks.agreement [worlds=400] [reference=tests/data/quick_twelve_seeds/values.csv]

First on worlds that we make: twelve cells, ten seeds in the reference, 2, 3 or 5 new ones; `normal` and `heavy`
(Student's t with 3 degrees, shared in part by the cells, as seeds share their data), `half learn` and `most learn`
(half and nine tenths of the seeds leave a plateau), `table` (cells of all kinds). Then by leaving seeds out of a
committed table: every choice of them, which by the making of the test gives at most 5 %. Last, coverage of the
intervals by form.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.analysis.agreement import Agreement, Cells, Floats, agreement
from experiments.analysis.clustered_items import paired_by_form

TWELVE = Path(__file__).resolve().parent.parent / "tests" / "data" / "quick_twelve_seeds" / "values.csv"
CELLS, SEEDS, SD, SCALE = 12, 10, 0.03, 0.75
World = Callable[[np.random.Generator, int], Floats]


def spread(noise: Callable[[np.random.Generator, tuple[int, int]], Floats]) -> World:
    """Values [seeds, cells] around 0.8; a third of the variance is the seed's, in all cells."""

    def world(random: np.random.Generator, seeds: int) -> Floats:
        own, shared = noise(random, (seeds, CELLS)), noise(random, (seeds, 1))
        return np.asarray(0.8 + SD * (np.sqrt(2 / 3) * own + np.sqrt(1 / 3) * shared), dtype=np.float64)

    return world


def learning(share: float) -> World:
    """A share of the seeds reaches 0.8, the rest stays at 0.4."""

    def world(random: np.random.Generator, seeds: int) -> Floats:
        learned = random.random((seeds, CELLS)) < share
        return np.where(learned, 0.8, 0.4) + 0.02 * random.standard_normal((seeds, CELLS))

    return world


def table(random: np.random.Generator, seeds: int) -> Floats:
    """Three cells of each kind."""
    kinds = [WORLDS[name](random, seeds)[:, :3] for name in ("normal", "heavy", "half learn", "most learn")]
    return np.concatenate(kinds, axis=1)


WORLDS: dict[str, World] = {
    "normal": spread(lambda random, shape: random.standard_normal(shape)),
    "heavy": spread(lambda random, shape: random.standard_t(3, shape)),
    "half learn": learning(0.5),
    "most learn": learning(0.9),
}
WORLDS["table"] = table


def compared(values_NK: Floats, new: int) -> Agreement:
    """The last `new` rows against the others."""
    n = len(values_NK) - new
    reference, fresh = (
        {str(c): dict(enumerate(column.tolist())) for c, column in enumerate(part.T)}
        for part in (values_NK[:n], values_NK[n:])
    )
    return agreement(reference, fresh, dict.fromkeys(reference, SCALE))


def alarms(world: World, new: int, worlds: int, shift: float = 0.0, seed: int = 0) -> tuple[float, float]:
    """Shares of worlds with an alarm, and with one on the first cell, whose new seeds are shifted."""
    random, found = np.random.default_rng([seed, new]), np.zeros(2)
    for _ in range(worlds):
        values_NK = world(random, SEEDS + new)
        values_NK[SEEDS:, 0] += shift
        said = compared(values_NK, new)
        found += [not said.agrees, not said.cells[0].agrees]
    return float(found[0]) / worlds, float(found[1]) / worlds


def records(path: Path) -> tuple[Cells, dict[str, float], dict[str, tuple[float, float]]]:
    """The cells of a table by seed, the distance of chance from perfection, and the possible values.

    Args:
        path: CSV with task, model, seed, value (primary metric, test/id), chance, higher_is_better.
    """
    cells: dict[str, dict[int, float]] = {}
    scales, ends = {}, {}
    for row in pd.read_csv(path).to_dict("records"):
        name, chance, higher = f"{row['task']} {row['model']}", row["chance"], row["higher_is_better"]
        cells.setdefault(name, {})[row["seed"]] = row["value"]
        scales[name] = 1 - chance if higher else chance
        ends[name] = (0.0, 1.0) if higher else (0.0, np.inf)
    return cells, scales, ends


def splits(cells: Cells, new: int) -> Iterator[tuple[Cells, Cells]]:
    """Every choice of `new` seeds as the new ones, the others as the reference."""
    seeds = sorted(next(iter(cells.values())))
    for held in combinations(seeds, new):
        yield (
            {name: {s: v for s, v in values.items() if s not in held} for name, values in cells.items()},
            {name: {s: values[s] for s in held} for name, values in cells.items()},
        )


def means_against(
    cells: Cells, means: dict[str, float], scales: dict[str, float], ends: dict[str, tuple[float, float]]
) -> Agreement:
    """Three seeds of which only the mean is known, with the reference's spread lent to them."""
    reference = {name: cells[name] for name in means}
    lent = {name: float(np.std(list(values.values()), ddof=1)) for name, values in reference.items()}
    fresh = {name: {s: mean + (s - 1) * lent[name] for s in range(3)} for name, mean in means.items()}
    return agreement(reference, fresh, scales, ends=ends)


def coverage(forms: int, worlds: int, seed: int = 0) -> tuple[float, float]:
    """Shares of 95 % intervals that hold the true difference, by form and as if items were independent.

    Forms have a difference of their own, sizes from 1 to 40 items, and items of 0 and 1.
    """
    from experiments.analysis.significance import summary

    random, hits = np.random.default_rng([seed, forms]), np.zeros(2)
    for _ in range(worlds):
        keys = np.repeat(np.arange(forms), random.integers(1, 41, forms))
        skill_F2 = np.clip(np.array([0.7, 0.6]) + 0.15 * random.standard_normal((forms, 2)), 0.0, 1.0)
        scores_I2 = (random.random((len(keys), 2)) < skill_F2[keys]).astype(np.float64)
        found = paired_by_form(scores_I2[:, 0].tolist(), scores_I2[:, 1].tolist(), keys.tolist())
        naive = summary((scores_I2[:, 0] - scores_I2[:, 1]).tolist())
        for n, (low, high) in enumerate(((found.low, found.high), (naive.low, naive.high))):
            hits[n] += low is not None and high is not None and low <= TRUE_GAP <= high
    return float(hits[0]) / worlds, float(hits[1]) / worlds


def _true_gap() -> float:
    noise = 0.15 * np.random.default_rng(0).standard_normal(2_000_000)
    return float((np.clip(0.7 + noise, 0, 1) - np.clip(0.6 + noise, 0, 1)).mean())


TRUE_GAP = _true_gap()
# Means of three seeds of the cells of `quick` on an AMD EPYC; the committed twelve seeds are of an Intel Xeon.
OTHER_PROCESSOR = {"chain ressformer": 0.8441, "cogs_like ressformer": 0.9147, "cogs_like reformer": 0.7344}


def main(words: Sequence[str]) -> None:
    """Print the tables of docs/statistics.md."""
    given = dict(word.split("=", 1) for word in words)
    worlds, begun = int(given.get("worlds", "400")), time.process_time()
    print("| world | new seeds | false alarms | one cell lower by 0.1 is found | by 0.4 |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, world in WORLDS.items():
        for new in (2, 3, 5):
            false, some, much = (alarms(world, new, worlds, -by)[side] for by, side in ((0, 0), (0.1, 1), (0.4, 1)))
            print(f"| {name} | {new} | {false:.3f} | {some:.3f} | {much:.3f} |", flush=True)
    cells, scales, ends = records(Path(given.get("reference", str(TWELVE))))
    print("\n| seeds left out | choices | alarms |\n| ---: | ---: | ---: |")
    for new in (2, 3, 4, 5):
        agreed = [agreement(*pair, scales, ends=ends).agrees for pair in islice(splits(cells, new), 500)]
        print(f"| {new} | {len(agreed)} | {1 - sum(agreed) / len(agreed):.3f} |", flush=True)
    first = agreement(*next(s for s in splits(cells, 3)), scales, ends=ends)
    other = means_against(cells, OTHER_PROCESSOR, scales, ends)
    print("\nSeeds 0 to 2 against the other nine, and another processor against all twelve:")
    for said in (first, other):
        print("\n".join(["", said.sentence, *(f"- {one.sentence}" for one in said.cells)]))
    print("\n| forms | covers, by form | covers, items taken for independent |\n| ---: | ---: | ---: |")
    for forms in (3, 5, 10, 20, 41, 80):
        print("| {} | {:.3f} | {:.3f} |".format(forms, *coverage(forms, 4 * worlds)), flush=True)
    print(f"\n{time.process_time() - begun:.0f} CPU seconds")


if __name__ == "__main__":
    main(sys.argv[1:])
