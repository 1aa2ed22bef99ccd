"""How often a verdict on a claim is wrong, and how often it is right, on worlds that we make.

    python -m benchmarks.verdicts [worlds=4000] [only=NAME]

Every world has one model and 1 to 12 others on one task. The whole procedure runs: gate, detector of groups, tests,
correction. In half of the worlds with more than one other, each is at the stated true gain (the hardest case for
`refuted`), in the other half the first is and the rest is far below (the hardest for `supported`). A `supported` is
wrong where some true gain is the margin or less, a `refuted` where all are the margin or more. The true gain is the
difference of means over all seeds that could be, plateaus included.

Worlds: `normal`, `heavy` (Student's t with 3 degrees); `both learn at q` (a share q of the seeds learns, the rest
stays on a plateau, all of the model's levels are shifted), `q against r, levels make up` (the model learns at q, the
others at r, and the learned levels put the means at the stated gain), `q against r, equal levels` (the gain comes from
the rates; the margin is it, or half of it).

What is known of the seeds: `bits` (no bounds are known), `accuracy` (chance and 1 bound them), `accuracy, earlier
seeds` (there are as many more seeds as it takes to see groups).

Shapes: R worlds, C comparisons, S seeds, M rows (the model and the C others).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from experiments.analysis.margins import Floats, Kind, in_one_piece, place_p, seeds_for_one_piece, t_p
from experiments.analysis.verdict import decide, learned_from

CHANCE, LEVEL, SD, MARGIN, ALPHA = 0.25, 0.6, 0.03, 0.05, 0.05
PLATEAU, LEARNED, NARROW = 0.4, 0.85, 0.01  # of the worlds with groups; spread within a group
RATES = (0.0, 0.2, 0.5, 0.8, 1.0)
FAR = 0.3  # the level of the others where they are far below the model
SEEDS, NUMBERS = (5, 10), (1, 3, 6, 12)


@dataclass(frozen=True)
class World:
    """A kind of seed effects, the parameters of the model and of the others, the margin and the true gain."""

    name: str
    noise: str  # normal, heavy or groups
    rates: tuple[float, float] = (1.0, 1.0)  # of the model and the others
    learned: tuple[float, float] = (LEVEL, LEVEL)
    shift: float = 0.0  # of all values of the model
    margin: float = MARGIN
    gain: float = 0.0  # the true one

    @property
    def times(self) -> int:
        """The true gain in margins: 0, 1 or 2."""
        return round(self.gain / self.margin)


@dataclass(frozen=True)
class Case:
    """A world, the number of others and of seeds, and whether all others but the first are far below."""

    world: World
    others: int
    seeds: int
    far: bool


def draw(case: Case, random: np.random.Generator, worlds: int, seeds: int) -> Floats:
    """Values [R, M, S] of the model (first) and the others."""
    world, shape_RMS = case.world, (worlds, case.others + 1, seeds)
    noise = random.standard_t(3, shape_RMS) if world.noise == "heavy" else random.standard_normal(shape_RMS)
    noise *= NARROW if world.noise == "groups" else SD
    rates_M1, learned_M1 = (
        np.array([pair[0], *[pair[1]] * case.others])[:, None] for pair in (world.rates, world.learned)
    )
    values = np.where(random.random(shape_RMS) < rates_M1, learned_M1, PLATEAU) + noise
    values[:, 0] += world.shift
    if case.far:
        values[:, 2:] = FAR + noise[:, 2:]
    return values


def bits(values_RMS: Floats, margin: float, seeds: int) -> tuple[Floats, Floats]:
    """The house's test where no bounds are known."""
    values_RMS = values_RMS[..., :seeds]
    return place_p(values_RMS[:, 0], values_RMS[:, 1:], margin, Kind(scale=1 - CHANCE))[:2]


def accuracy(values_RMS: Floats, margin: float, seeds: int) -> tuple[Floats, Floats]:
    """The house's test where chance and 1 are; earlier seeds are those beyond the first `seeds`."""
    one_piece, kind = in_one_piece(values_RMS, 1 - CHANCE), Kind(reach=(CHANCE, 1.0), scale=1 - CHANCE)
    values_RMS = values_RMS[..., :seeds]
    return place_p(values_RMS[:, 0], values_RMS[:, 1:], margin, kind, one_piece)[:2]


def only_t(values_RMS: Floats, margin: float, seeds: int) -> tuple[Floats, Floats]:
    """Not the house's: the t-test alone."""
    gains_RCS = values_RMS[:, :1, :seeds] - values_RMS[:, 1:, :seeds]
    return t_p(gains_RCS, margin), t_p(-gains_RCS, -margin)


def signs(values_RMS: Floats, margin: float, seeds: int) -> tuple[Floats, Floats]:
    """Not the house's: the sign test of the gains less the margin."""
    from scipy.stats import binom

    over_RC = (values_RMS[:, :1, :seeds] - values_RMS[:, 1:, :seeds] > margin).sum(axis=-1)
    return np.asarray(binom.sf(over_RC - 1, seeds, 0.5)), np.asarray(binom.cdf(over_RC, seeds, 0.5))


def flips(values_RMS: Floats, margin: float, seeds: int) -> tuple[Floats, Floats]:
    """Not the house's: the permutation test that flips the signs of the gains less the margin, all 2^S of them."""
    gains_RCS = values_RMS[:, :1, :seeds] - values_RMS[:, 1:, :seeds] - margin
    signs_FS = np.array(list(product((-1.0, 1.0), repeat=seeds)))
    sums_RCF, sum_RC1 = gains_RCS @ signs_FS.T, gains_RCS.sum(axis=-1)[..., None]
    return (sums_RCF >= sum_RC1 - 1e-12).mean(axis=-1), (sums_RCF <= sum_RC1 + 1e-12).mean(axis=-1)


def rates(case: Case, worlds: int, rule: str, seed: int = 0) -> tuple[float, float]:
    """Shares of `supported` and of `refuted`."""
    world = case.world
    random = np.random.default_rng([seed, case.others, case.seeds, case.far, round(1000 * world.gain)])
    drawn = max(case.seeds, seeds_for_one_piece()) if rule == "accuracy, earlier seeds" else case.seeds
    found, done = np.zeros(2), 0
    while done < worlds:
        values_RMS = draw(case, random, min(2000, worlds - done), drawn)
        done += len(values_RMS)
        supported, refuted = decide(*RULES[rule](values_RMS, world.margin, case.seeds), ALPHA)
        passed = values_RMS[..., : case.seeds].mean(axis=-1).max(axis=-1) > learned_from(CHANCE)
        found += [(supported & passed).sum(), (refuted & passed).sum()]
    return float(found[0]) / worlds, float(found[1]) / worlds


RULES: dict[str, Callable[[Floats, float, int], tuple[Floats, Floats]]] = {
    "bits": bits,
    "accuracy": accuracy,
    "accuracy, earlier seeds": accuracy,
    "t-test alone": only_t,
    "sign test": signs,
    "sign flips": flips,
}


def plain(noise: str) -> list[World]:
    """Worlds in one piece, at each true gain."""
    return [World(noise, noise, shift=times * MARGIN, gain=times * MARGIN) for times in (0, 1, 2)]


def equal_rates(rate: float) -> list[World]:
    """Model and others learn at one rate."""
    base = World(f"both learn at {rate:g}", "groups", (rate, rate), (LEARNED, LEARNED))
    return [replace(base, shift=times * MARGIN, gain=times * MARGIN) for times in (0, 1, 2)]


def unlike_rates(mine: float, other: float) -> list[World]:
    """The model's learned level, or where that would be above 1 the others', puts the means at the stated gain."""
    found = []
    for gain in (0.0, MARGIN, 2 * MARGIN):
        levels = PLATEAU + (other * (LEARNED - PLATEAU) + gain) / mine, LEARNED
        if levels[0] > 1.0:
            levels = 1.0, PLATEAU + (mine * (1.0 - PLATEAU) - gain) / other
        name = f"{mine:g} against {other:g}, levels make up"
        found.append(World(name, "groups", (mine, other), levels, gain=gain))
    return found


def rates_alone(mine: float, other: float) -> list[World]:
    """Equal levels: the true gain comes from the rates; the margin is it, or half of it."""
    gain, name = (mine - other) * (LEARNED - PLATEAU), f"{mine:g} against {other:g}, equal levels"
    base = World(name, "groups", (mine, other), (LEARNED, LEARNED), gain=gain)
    return [replace(base, margin=gain), replace(base, margin=gain / 2)]


def grouped() -> list[list[World]]:
    """All worlds with groups, by the row of the table that they belong to."""
    pairs = [(mine, other) for mine in RATES for other in RATES if mine != other]
    found = [equal_rates(rate) for rate in RATES]
    found += [unlike_rates(mine, other) for mine, other in pairs if mine > 0]
    return found + [rates_alone(mine, other) for mine, other in pairs if mine > other]


def cases(family: Sequence[World], seeds: int) -> list[Case]:
    return [
        Case(world, others, seeds, far)
        for world in family
        for others in NUMBERS
        for far in (False, True)[: 1 + (others > 1)]
    ]


def figures(family: Iterable[Case], rule: str, worlds: int, again: int) -> list[float | None]:
    """Worst shares of wrong `supported` and `refuted` (that case is drawn anew, `again` times), and both powers.

    The powers are with three others, all at twice the margin and at zero; None of several families at once.
    """
    shares = {case: rates(case, worlds, rule) for case in family}
    out: list[float | None] = []
    for side, wrong in enumerate(((0, 1), (1, 2))):
        share, at = max((v[side], n) for n, (c, v) in enumerate(shares.items()) if c.world.times in wrong)
        worst = list(shares)[at]
        out.append(rates(worst, again, rule, seed=1)[side] if again and share > 0.03 else share)
    for side, times in enumerate((2, 0)):
        found = [v[side] for c, v in shares.items() if c.world.times == times and c.others == 3 and not c.far]
        out.append(found[0] if len(found) == 1 else None)
    return out


def print_table(rows: Sequence[tuple[str, str, Sequence[World]]], worlds: int) -> None:
    """One line per world: each figure for 5 and for 10 seeds."""
    print("| world | seeds are | wrong `supported` | wrong `refuted` | finds twice the margin | finds zero |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, rule, family in rows:
        both = [figures(cases(family, seeds), rule, worlds, 10 * worlds) for seeds in SEEDS]
        cells = [" / ".join("-" if v is None else f"{v:.3f}" for v in pair) for pair in zip(*both, strict=True)]
        print(f"| {name} | {rule} | {' | '.join(cells)} |", flush=True)


def print_power(worlds: int) -> None:
    """Share of `supported` for larger gains of an accuracy, three others, normal seeds."""
    print("| true gain | 5 seeds | 10 seeds | 14 seeds |")
    print("| ---: | ---: | ---: | ---: |")
    for gain in (0.1, 0.2, 0.3, 0.4):
        world = World("normal", "normal", shift=gain - FAR / 2, learned=(LEVEL, LEVEL - FAR / 2), gain=gain)
        shares = [rates(Case(world, 3, seeds, False), worlds, "accuracy")[0] for seeds in (5, 10, 14)]
        print(f"| {gain:g} | {' | '.join(f'{share:.3f}' for share in shares)} |", flush=True)


def main(words: Sequence[str]) -> None:
    """Print the tables of docs/statistics.md."""
    given = dict(word.split("=", 1) for word in words)
    worlds = int(given.get("worlds", "4000"))
    begun = time.process_time()
    house = ("bits", "accuracy", "accuracy, earlier seeds")
    only = given.get("only", "")
    families = [family for family in grouped() if only in family[0].name]
    rows = [(noise, rule, plain(noise)) for noise in ("normal", "heavy") for rule in house if only in noise]
    rows += [(family[0].name, "accuracy", family) for family in families]
    print_table(rows, worlds)
    everything = [world for family in families for world in family]
    print("\nThe worst of all worlds with groups, from a quarter of the worlds:\n")
    print_table([("all with groups", rule, everything) for rule in RULES if rule != "accuracy"], worlds // 4)
    print("\nLarger gains of an accuracy, found:\n")
    print_power(worlds)
    print(f"\n{time.process_time() - begun:.0f} CPU seconds")


if __name__ == "__main__":
    main(sys.argv[1:])
