"""What the committed reference of a table says, and whether the runs at hand agree with it.

The reference of table NAME is the results folder <reference_dir>/NAME, or else one beside it that has its plan: tables
that share runs lie together. Cells are compared where both have the same settings: config but the seed, sizes, steps,
data, versions of model and task. Seeds that both have are left out of the reference where enough others are left, so
that no two values hang on one seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.analysis.agreement import agreement
from experiments.analysis.claims import judge, load_claims
from experiments.analysis.frames import Runs, primary_by_seed
from experiments.analysis.significance import summary
from experiments.planning.plan import Plan
from experiments.planning.table_name import preset_of
from experiments.planning.table_plans import reference_of
from experiments.reporting.table import layout, winners
from experiments.store import atomic_files as atomic
from experiments.store import identity
from experiments.store.records import RunSpec
from experiments.store.store import Store

ENOUGH = 5  # seeds of a reference beside which two new ones can show a deviation at 5 %
Cell = tuple[str, str]  # task, model
Values = dict[Cell, dict[int, float]]


def reference_lines(plan: Plan, store: Store, folder: Path) -> list[str]:
    """What is printed below a table that has a committed reference; nothing where it has none.

    Args:
        plan: of the runs at hand.
        store: their records.
        folder: where references lie, each a results folder.

    Raises:
        UserError: the reference is damaged.
    """
    name = preset_of(plan.table.name)
    known = reference_of(name, folder)
    if known is None or known[1].resolve() == store.root.resolve():
        return []
    theirs, root = known
    kept = Store(root, write=False)
    runs = _runs(theirs, kept)
    kept.require_sound()
    found = [f"the committed reference of table {name} ({root}), {len(theirs.table.seeds)} seeds planned:"]
    found += _winners(theirs, runs)
    for key, claim in load_claims().items():
        if claim.table == name and not (claim.draft or claim.withdrawn):
            finding = judge(key, claim, kept, root / "benchmarks")
            found.append(f"- claim {key}: {finding.verdict}; {finding.why}")
    return [*found, *_agreement(_runs(plan, store), runs)]


def _runs(plan: Plan, store: Store) -> Runs:
    records = store.records(dict.fromkeys(spec.id for spec in plan.runs))
    return [(spec, records.get(spec.id)) for spec in plan.runs]


def _winners(plan: Plan, runs: Runs) -> Iterator[str]:
    """Who is best in each column by the rule of bold, or that it is not decided; nothing of an incomplete table."""
    done = sum(record is not None and record.status == "done" for _, record in runs)
    if done < len(runs):
        yield f"- it is not complete ({done} of {len(runs)} runs), so it gives no verdict"
        return
    best = winners(runs, plan.table, layout(plan.table, plan.runs))
    for (task, split, metric), model in best.items():
        values = primary_by_seed(runs, task, split, metric)
        means = {row: found for row, v in values.items() if (found := summary(list(v.values())).mean) is not None}
        figures = ", ".join(f"{row} {mean:.4g}" for row, mean in means.items())
        said = f"{model} is best" if model else "not decided"
        yield f"- {task} {split} {metric}: {said} ({figures})"


def settings_of(spec: RunSpec) -> str:
    """A hash of all that two runs of a cell must have in common."""
    values: dict[str, Any] = identity.told(spec)
    values["seeds"] = {key: value for key, value in values["seeds"].items() if key == "order"}
    return atomic.digest(values, 12)


def _agreement(mine: Runs, reference: Runs) -> Iterator[str]:
    """The statement over all cells that both have at the same settings, and a line per cell."""
    settings = [{(spec.task, spec.model): settings_of(spec) for spec, _ in runs} for runs in (mine, reference)]
    shared = [cell for cell, found in settings[0].items() if settings[1].get(cell) == found]
    other = [f"{task} {model}" for task, model in settings[0] if (task, model) not in shared]
    if other:
        yield f"not compared, since the reference has no such cell or other settings: {', '.join(other)}"
    infos = {spec.task: spec.task_info for spec, _ in mine}
    new, old = _values(mine, shared), _values(reference, shared)
    cells = [cell for cell in shared if new.get(cell) and old.get(cell)]
    if not cells:
        yield "no cell can be compared with the reference"
        return
    seeds = [set.intersection(*(set(side[cell]) for cell in cells)) for side in (new, old)]
    both = seeds[0] & seeds[1]
    if both == seeds[0] and all(new[cell][seed] == old[cell][seed] for cell in cells for seed in both):
        yield f"these {len(both)} seeds are the reference's to the last digit, in all {len(cells)} cells"
        return
    kept = seeds[1] - both if len(seeds[1] - both) >= ENOUGH else seeds[1]
    try:
        found = agreement(
            {_name(cell): {seed: old[cell][seed] for seed in kept} for cell in cells},
            {_name(cell): {seed: new[cell][seed] for seed in seeds[0]} for cell in cells},
            {_name((task, model)): _scale(infos[task].chance, infos[task].higher_is_better) for task, model in cells},
            ends={_name((t, m)): (0.0, 1.0) if infos[t].higher_is_better else (0.0, math.inf) for t, m in cells},
        )
    except ValueError as error:
        yield f"no statement on agreement: {error}"
        return
    yield found.sentence
    yield from (f"- {one.sentence}" for one in found.cells)


def _values(runs: Runs, cells: Sequence[Cell]) -> Values:
    """The primary metric on test/id by seed, of runs that are done."""
    tasks = {task: primary_by_seed(runs, task) for task, _ in cells}
    return {(task, model): tasks[task].get(model, {}) for task, model in cells}


def _name(cell: Cell) -> str:
    return " ".join(cell)


def _scale(chance: Mapping[str, float], higher_is_better: bool) -> float:
    """From chance to perfection; without a chance level, that of an accuracy of chance 0."""
    level = chance.get("test/id")
    return 1.0 if level is None else 1.0 - level if higher_is_better else level
